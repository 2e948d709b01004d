//! `releve-ingest`: takes publishers, gives relays marked segments.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use releve_ingest::config::Config;
use releve_ingest::config::pair::Pair;
use releve_ingest::io::node::{self, Node};
use releve_ingest::io::pair::control;
use releve_ingest::log;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use takeover::{guardian, heir};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(version, about = "Relève ingest node: RTMP in, marked CMAF segments out")]
struct Args {
    /// Configuration (TOML). Every key can be overridden by RELEVE_INGEST_ and its name in capitals.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the configuration and the keys, say what is wrong with them, and end.
    #[arg(long)]
    check_config: bool,
    /// Write the addresses in use to this file, as JSON, when every listener is ready.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// A marking process; the node starts these itself.
    #[command(hide = true)]
    MarkWorker,
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("releve-ingest: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::MarkWorker) = args.role {
        return Ok(mark::worker::main());
    }
    let config = read_config(args.config.as_deref())?;
    if args.check_config {
        node::check(&config)?;
        println!("the configuration is fine");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(pair) = &config.pair
        && std::env::var_os(GUARDED).is_none()
    {
        return guard(pair);
    }
    log::start(config.log);
    if config.pair.is_some()
        && let Err(error) = heir::appoint()
    {
        tracing::warn!(%error, "should this node be killed, its peer notices some milliseconds later");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(config, args.ready_file.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells the node that its guardian watches it.
const GUARDED: &str = "RELEVE_GUARDED";

/// Runs this same program as the node, and takes its addresses away when it dies, however it dies. No thread exists yet.
fn guard(pair: &Pair) -> Result<ExitCode> {
    // What a hook has moved is not ours to remove.
    let addresses = if pair.hook.is_some() { Vec::new() } else { control::ownerships(pair)? };
    let mut node = Command::new(std::env::current_exe().context("this program's own path is unknown")?);
    node.args(std::env::args_os().skip(1)).env(GUARDED, "1");
    let ended = guardian::watch(&mut node, &addresses)?;
    if ended.removed > 0 {
        eprintln!(
            "releve-ingest: the node ended ({}) and left {} addresses: removed within {} us",
            ended.status,
            ended.removed,
            ended.took.as_micros()
        );
    }
    ended.failures.iter().for_each(|failure| eprintln!("releve-ingest: an address stays: {failure}"));
    Ok(match ended.status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::from(
            128_u8.saturating_add(u8::try_from(ended.status.signal().unwrap_or(0)).unwrap_or(0)),
        ),
    })
}

fn read_config(path: Option<&Path>) -> Result<Config> {
    let text = match path {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => String::new(),
    };
    let named = path.map_or("the environment".to_owned(), |path| path.display().to_string());
    // A variable that is no text is none of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::parse(&text, env).with_context(|| format!("wrong configuration in {named}"))
}

async fn serve(config: Config, ready_file: Option<&Path>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node = node::start(config).await?;
    if let Some(path) = ready_file {
        write_ready(path, &node).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // Tells systemd (Type=notify); without it nothing happens.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    node.stop().await;
    Ok(())
}

/// Whole or not at all: written beside its name and renamed.
fn write_ready(path: &Path, node: &Node) -> std::io::Result<()> {
    let mut addresses = serde_json::json!({
        "rtmp": node.rtmp.to_string(), "origin": node.origin.to_string(), "admin": node.admin.to_string(),
    });
    if let Some(rtmps) = node.rtmps {
        addresses["rtmps"] = rtmps.to_string().into();
    }
    let beside = path.with_extension("new");
    fs::write(&beside, format!("{addresses}\n"))?;
    fs::rename(beside, path)
}
