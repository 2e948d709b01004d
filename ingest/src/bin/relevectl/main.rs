//! `relevectl`: the operator's hand on a Relève set-up.
//!
//! Works on the state folder, so that it needs no running node: streams, access tokens, revocations, status. What concerns a
//! pair of ingest nodes it asks the nodes: `failover`, and the pair's part of `status`.

mod args;
mod key;
mod mint;
mod status;
mod stream;

use anyhow::{Context, Result, bail};
use args::{Args, Command, TokenCommand, ViewerCommand};
use clap::Parser;
use ingest_api::access;
use releve_ingest::operator::pair;
use releve_ingest::state_dir::StateDir;
use releve_ingest::{key_change, say};
use releve_state::coordinator::{Coordinator, Revocation};
use releve_state::sqlite::Sqlite;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// A node that has not been heard of for this long is called silent, in milliseconds: three announcements missed.
const SILENT_MS: u64 = 15_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relevectl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let dir = StateDir::at(&args.dir);
    if let Command::Init = args.command {
        dir.init()?;
        key_change::note_commitments(&dir)?;
        open(&dir)?;
        eprintln!("state folder {} is ready", args.dir.display());
        return Ok(());
    }
    if let Command::Token(TokenCommand::Edgeauth(wish)) = &args.command {
        say!("{}", wish.mint(unix_ms() / 1000)?);
        return Ok(());
    }
    if !dir.database().exists() {
        bail!("{} is no state folder; `relevectl --dir DIR init` makes one", args.dir.display());
    }
    let state = open(&dir)?;
    match args.command {
        Command::Init | Command::Token(TokenCommand::Edgeauth(_)) => Ok(()),
        Command::Stream(command) => stream::stream(&state, command).await,
        Command::Token(TokenCommand::Mint { stream, viewer, ttl, format, watermark }) => {
            let watermark = format.map(|format| (format, watermark));
            mint::mint(&dir, &state, mint::Wish { stream, viewer, ttl }, watermark).await
        }
        Command::Viewer(ViewerCommand::Revoke { viewer }) => {
            check_viewer(&viewer)?;
            state.revoke(Revocation { viewer, at_unix_s: unix_ms() / 1000 }).await?;
            Ok(())
        }
        Command::Failover(failover) => {
            let admins = status::admins(&state, failover.admin.as_deref()).await?;
            pair::failover(&dir, &admins, &failover.wish())
        }
        Command::Key(command) => key::key(&dir, command),
        Command::Status { json } => status::status(&state, json).await,
    }
}

fn open(dir: &StateDir) -> Result<Sqlite> {
    let path = dir.database();
    Sqlite::open(&path).with_context(|| format!("cannot open {}", path.display()))
}

fn check_viewer(viewer: &str) -> Result<()> {
    if !access::is_viewer_name(viewer) {
        bail!("a viewer has 1 to {} bytes and no control characters", access::VIEWER_BYTES_MAX);
    }
    Ok(())
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
