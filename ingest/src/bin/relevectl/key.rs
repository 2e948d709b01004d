//! `relevectl key`: the versions of the keys that marks are drawn by.
//!
//! In: a command, the state folder. Out: key files, and lines on standard output.

use crate::args::KeyCommand;
use anyhow::Result;
use releve_ingest::state_dir::StateDir;
use releve_ingest::{key_change, say};

/// Carries out a command.
pub(crate) fn key(dir: &StateDir, command: KeyCommand) -> Result<()> {
    let print = |version: Option<u32>| -> Result<()> {
        for key in
            key_change::list(dir)?.iter().filter(|key| version.is_none_or(|version| key.version == version))
        {
            say!("{:<8} {:>4} {:<8} {}", key.kind, key.version, key.state, key.commitment);
        }
        Ok(())
    };
    match command {
        KeyCommand::Commit => {
            let version = key_change::commit(dir)?;
            eprintln!("version {version} is drawn; publish these lines, then `relevectl key use {version}`:");
            print(Some(version))
        }
        KeyCommand::Use { version } => {
            key_change::use_version(dir, version)?;
            eprintln!("nodes use version {version} from their next start on; restart relays first");
            Ok(())
        }
        KeyCommand::Open { version } => {
            say!("{}", key_change::open(dir, version)?.trim_end());
            Ok(())
        }
        KeyCommand::List => print(None),
    }
}
