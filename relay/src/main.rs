//! The program `releve-relay`: arguments, signals, exit code.

use anyhow::Context;
use clap::Parser;
use releve_relay::io::{jwks, key_files, log};
use releve_relay::{Config, Handle, start};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Relève relay node: viewers in, each with their own variants.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "relay.toml")]
    config: PathBuf,
    /// Check configuration and key files, then exit.
    #[arg(long)]
    check_config: bool,
    /// Once running, write the addresses in use to this file, as JSON.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("releve-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    if arguments.check_config {
        key_files::read_keys(&config.keys_dir)?;
        if let Some(source) = config.jwt_keys.as_deref().and_then(jwks::Source::of) {
            source.check().context("in `jwt_keys`")?;
        }
        if let Some((_, files)) = config.tls() {
            files.read()?;
        }
        println!("{} is a good configuration", arguments.config.display());
        return Ok(());
    }
    log::start(config.log).map_err(anyhow::Error::from_boxed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Signals are caught before the start: one that comes meanwhile must not be lost.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let relay = start(config).await?;
        if let Some(path) = &arguments.ready_file {
            write_ready_file(path, &relay).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Without a service manager there is nobody to notify.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match relay.reload_keys() {
                    Ok(()) => tracing::info!("keys read again"),
                    Err(error) => tracing::error!(%error, "the keys stay as they were"),
                },
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        relay.stop().await;
        Ok(())
    })
}

/// Whole or not at all: whoever waits for the file never reads half of it.
fn write_ready_file(path: &Path, relay: &Handle) -> std::io::Result<()> {
    let mut json =
        serde_json::json!({ "listen": relay.listen.to_string(), "admin": relay.admin.to_string() });
    if let Some(tls) = relay.tls_listen {
        json["tls_listen"] = tls.to_string().into();
    }
    let beside = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = std::fs::File::create(&beside)?;
    writeln!(file, "{json}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
