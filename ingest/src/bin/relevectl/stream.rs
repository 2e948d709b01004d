//! `relevectl stream`: what streams there are, and by which keys they are published.
//!
//! In: a command, the state. Out: changed records, and lines on standard output; a stream key is shown once and kept hashed.

use crate::args::StreamCommand;
use anyhow::{Result, bail};
use releve_ingest::say;
use releve_state::coordinator::{Coordinator, Encrypt, MarkPolicy, StreamRecord};
use releve_state::sqlite::Sqlite;
use releve_state::{KeyHash, StreamKey};
use serde_json::json;

/// Carries out a command.
pub(crate) async fn stream(state: &Sqlite, command: StreamCommand) -> Result<()> {
    match command {
        StreamCommand::Add { name, mark, encrypt } => {
            let key = StreamKey::generate()?;
            let record = StreamRecord {
                name: name.clone(),
                key_id: key.id().to_owned(),
                key_hash: KeyHash::of(&key),
                mark: mark.into(),
                encrypt: encrypt.into(),
            };
            state.add_stream(record).await?;
            eprintln!("stream key of `{name}`, shown this once; push to rtmp://HOST/live with it:");
            say!("{}", key.expose());
        }
        StreamCommand::List { json } => {
            let streams = state.streams().await?;
            if json {
                let rows: Vec<_> = streams
                    .iter()
                    .map(|s| json!({"name": s.name, "mark": s.mark, "encrypt": s.encrypt}))
                    .collect();
                say!("{}", json!(rows));
            } else {
                streams.iter().for_each(|s| {
                    say!(
                        "{}\t{}\t{}",
                        s.name,
                        word(s.mark),
                        match s.encrypt {
                            Encrypt::None => "-",
                            Encrypt::Cbcs => "cbcs",
                            Encrypt::Drm => "drm",
                        }
                    )
                });
            }
        }
        StreamCommand::Encrypt { name, encrypt } => {
            let Some(mut record) = state.stream(&name).await? else { bail!("there is no stream `{name}`") };
            record.encrypt = encrypt.into();
            state.update_stream(record).await?;
        }
        StreamCommand::RotateKey { name } => {
            let Some(mut record) = state.stream(&name).await? else { bail!("there is no stream `{name}`") };
            let key = StreamKey::generate()?;
            record.key_id = key.id().to_owned();
            record.key_hash = KeyHash::of(&key);
            state.update_stream(record).await?;
            eprintln!("new stream key of `{name}`, shown this once; the old one no longer works:");
            say!("{}", key.expose());
        }
        StreamCommand::Remove { name } => state.remove_stream(&name).await?,
    }
    Ok(())
}

/// A policy as the operator writes it.
pub(crate) fn word(mark: MarkPolicy) -> &'static str {
    match mark {
        MarkPolicy::Require => "require",
        MarkPolicy::Prefer => "prefer",
        MarkPolicy::Off => "off",
    }
}
