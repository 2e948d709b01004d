//! Keeps the two nodes' directories of streams alike: a stream key that was made at one of them opens the other one too.
//!
//! In: the state store of this node, the link. Out: questions as standby, answers as holder, and what replaces ours into the
//! store. Which of two entries counts is `releve_state::directory`'s. Touches the state store.

use super::books::Data;
use super::copy::{Reply, Want};
use super::word::write;
use crate::io::streams::Streams;
use ingest_api::StreamName;
use ingest_api::window::Sha256;
use mirror::Role;
use releve_state::coordinator::Error;
use releve_state::directory::newer;
use releve_state::{Coordinator, DirectoryEntry};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// An operator who has made a key looks for it at the other node no sooner.
const EVERY: Duration = Duration::from_secs(2);
/// An answer comes behind what publishers send, or with the link it does not.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Entries in one question, which must fit into one note.
const NEWER_MAX: usize = 16;

/// As standby: compares, for ever.
pub(super) async fn keep(data: Data, streams: Arc<Streams>) {
    loop {
        sleep(EVERY).await;
        if let Err(error) = compare(&data, streams.state()).await {
            warn!(%error, "the directories of streams are not compared");
        }
    }
}

/// Until neither has what replaces the other's, or the holder leaves out what it was told: then the next time is soon enough.
async fn compare(data: &Data, state: &dyn Coordinator) -> Result<(), Error> {
    let mut said = Vec::new();
    while data.follows() {
        let want = Want::Directory(hash(&state.directory().await?), said.clone());
        let waits = data.books().copies.compare(want);
        data.ring();
        let Ok(Ok(Reply::Directory(theirs))) = timeout(ANSWER_MAX, waits).await else { return Ok(()) };
        tell(&state.merge_directory(theirs.clone()).await?);
        let told = std::mem::replace(&mut said, newer(&state.directory().await?, &theirs, NEWER_MAX));
        if said.is_empty() || said == told {
            return Ok(());
        }
    }
    Ok(())
}

/// As holder: takes over what is newer there, and says what is here.
pub(super) async fn reply(state: &dyn Coordinator, theirs: &Sha256, newer: Vec<DirectoryEntry>) -> Reply {
    let merged = async {
        if !newer.is_empty() {
            tell(&state.merge_directory(newer).await?);
        }
        state.directory().await
    };
    match merged.await {
        Ok(ours) if hash(&ours) == *theirs => Reply::Same,
        Ok(ours) => Reply::Directory(ours),
        Err(error) => {
            warn!(%error, "the standby is not told which streams there are");
            Reply::Nothing
        }
    }
}

fn hash(entries: &[DirectoryEntry]) -> Sha256 {
    Sha256::of(&write(&entries))
}

fn tell(changed: &[StreamName]) {
    for stream in changed {
        info!(%stream, "changed as at the other node");
    }
}

impl Data {
    /// Whether this node follows a holder on a link.
    fn follows(&self) -> bool {
        let books = self.books();
        books.ledger.role() == Role::Standby && books.standby.is_some()
    }
}
