//! The coordinator: streams, epochs, runs, committed segments, nodes and revocations.
//!
//! In: small records. Out: the same, or an `Error` that says whether trying again can help. When a call that changes
//! something returns `Ok`, the change is durable.

use crate::directory::DirectoryEntry;
use crate::seats::Seats;
use crate::stream_key::KeyHash;
use async_trait::async_trait;
use ingest_api::window::Segment;
use ingest_api::{Run, StreamName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a publisher may do about marking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkPolicy {
    /// A stream or GOP that cannot be marked is not published.
    Require,
    /// What cannot be marked passes unmarked, loudly.
    #[default]
    Prefer,
    /// Nothing is marked.
    Off,
}

/// How a stream's segments are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encrypt {
    /// They are not.
    #[default]
    None,
    /// By `cbcs` of Common Encryption.
    Cbcs,
    /// The same with keys of a DRM key server.
    Drm,
}

/// A stream that publishers may push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Public name.
    pub name: StreamName,
    /// Public half of the stream key: finds the record.
    pub key_id: String,
    /// Hash of its secret half.
    pub key_hash: KeyHash,
    /// Marking.
    pub mark: MarkPolicy,
    /// Encryption.
    #[serde(default)]
    pub encrypt: Encrypt,
}

/// A viewer who may no longer watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The account.
    pub viewer: String,
    /// When it was revoked, Unix seconds. Tokens and sessions of that viewer made up to then are void.
    pub at_unix_s: u64,
}

/// A node that others may want to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name, unique in the cluster.
    pub name: String,
    /// What it is.
    pub role: NodeRole,
    /// Base URL for its users: viewers of a relay, relays of an ingest.
    pub url: String,
    /// Base URL of its admin listener.
    pub admin_url: String,
    /// Last sign of life, Unix milliseconds.
    pub seen_unix_ms: u64,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Takes publishers.
    Ingest,
    /// Serves viewers.
    Relay,
}

/// Under which of a stream's fencing terms a segment is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Under this one and no other: whoever raised it goes on from the last record.
    Holds(u64),
    /// Under this one or a later one: the committer follows the holder, and its segments are the holder's.
    Follows(u64),
}

impl Fence {
    /// Whether it lets pass while the stream's epoch is this. Shared by the back-ends.
    pub(crate) fn check(self, epoch: u64) -> Result<(), Error> {
        let passes = match self {
            Fence::Holds(term) => epoch == term,
            Fence::Follows(term) => epoch >= term,
        };
        if passes { Ok(()) } else { Err(Error::Stale(epoch)) }
    }
}

/// Shared state of the cluster's control side.
#[async_trait]
pub trait Coordinator: Seats {
    /// Adds a stream. `Error::Exists` when the name or key id is taken.
    async fn add_stream(&self, stream: StreamRecord) -> Result<(), Error>;
    /// Replaces the record of a stream that exists. `Error::NotFound` otherwise.
    async fn update_stream(&self, stream: StreamRecord) -> Result<(), Error>;
    /// Removes a stream; its numbers stay used. `Error::NotFound` when there is none.
    async fn remove_stream(&self, name: &StreamName) -> Result<(), Error>;
    /// All streams, by name.
    async fn streams(&self) -> Result<Vec<StreamRecord>, Error>;
    /// One stream.
    async fn stream(&self, name: &StreamName) -> Result<Option<StreamRecord>, Error>;
    /// The stream whose key has this id.
    async fn stream_by_key_id(&self, key_id: &str) -> Result<Option<StreamRecord>, Error>;
    /// Every name there is or was, by name, with its last change.
    async fn directory(&self) -> Result<Vec<DirectoryEntry>, Error>;
    /// Takes over of another node's entries those that replace this one's ([`DirectoryEntry::replaces`]); gives their names.
    /// One whose key id another stream has here is left out.
    async fn merge_directory(&self, entries: Vec<DirectoryEntry>) -> Result<Vec<StreamName>, Error>;

    /// The stream's fencing term; 0 before the first holder.
    async fn epoch(&self, stream: &StreamName) -> Result<u64, Error>;
    /// Raises the epoch from `from` to `from + 1`: compare and swap. `Error::Stale` with the real one when it differs.
    async fn advance_epoch(&self, stream: &StreamName, from: u64) -> Result<u64, Error>;

    /// Records a run before its first segment. The newest run again is `Ok`; an older one, or one whose first number is
    /// not above all used ones, is `Error::Conflict`.
    async fn begin_run(&self, run: &Run) -> Result<(), Error>;
    /// The stream's newest run.
    async fn latest_run(&self, stream: &StreamName) -> Result<Option<Run>, Error>;
    /// Records a segment before it is listed, with its GOPs, at `now_unix_ms` of the caller's clock. The fence is checked and
    /// the record written in one step: `Error::Stale` when the stream's epoch is another. The same record again is `Ok` and
    /// leaves the time as it was; another one under a used number, a number that is not the next, or one of a run that is not
    /// the newest, is `Error::Conflict`.
    async fn commit_segment(
        &self,
        stream: &StreamName,
        segment: &Segment,
        fence: Fence,
        now_unix_ms: i64,
    ) -> Result<(), Error>;
    /// Records a segment that another node published and this store has not seen: numbers before it may be missing here.
    /// The same record again, or one below the highest, is `Ok`; one of a run that is not the newest, or another record
    /// under the highest number, is `Error::Conflict`.
    async fn adopt_segment(
        &self,
        stream: &StreamName,
        segment: &Segment,
        now_unix_ms: i64,
    ) -> Result<(), Error>;
    /// The stream's highest committed segment.
    async fn last_segment(&self, stream: &StreamName) -> Result<Option<Segment>, Error>;
    /// When that one was committed or adopted, Unix milliseconds of whoever did.
    async fn last_commit_unix_ms(&self, stream: &StreamName) -> Result<Option<i64>, Error>;
    /// The record of one committed segment.
    async fn segment(&self, stream: &StreamName, number: u64) -> Result<Option<Segment>, Error>;
    /// Forgets a stream's oldest segments, with their GOPs: those of a date before this, up to the first that is not, and at
    /// most `FORGET_MAX` a call. The newest always stays, so that numbers never go back. Gives how many went.
    async fn forget_segments(&self, stream: &StreamName, before_unix_ms: i64) -> Result<usize, Error>;

    /// Revokes a viewer.
    async fn revoke(&self, revocation: Revocation) -> Result<(), Error>;
    /// Revocations recorded after `cursor` (0 for all), oldest first, and the cursor to go on from.
    async fn revocations(&self, cursor: u64) -> Result<(Vec<Revocation>, u64), Error>;

    /// Announces a node, or renews its sign of life.
    async fn announce(&self, node: NodeRecord) -> Result<(), Error>;
    /// All nodes ever announced, by name.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error>;
}

/// Why shared state did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The name or id is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// There is nothing of that name.
    #[error("there is no {0}")]
    NotFound(String),
    /// Somebody else was faster; the fencing term is this one.
    #[error("the epoch is {0} already")]
    Stale(u64),
    /// The record contradicts one that is durable.
    #[error("{0}")]
    Conflict(String),
    /// The store itself failed; trying again may help.
    #[error("the state store failed: {0}")]
    Store(String),
}

/// The largest number or time that is recorded: every store has signed 64-bit integers, and one above it must fit too.
const NUMBER_MAX: u64 = i64::MAX as u64 - 1;

/// The most segments that one call forgets: others that write are not kept waiting.
pub const FORGET_MAX: usize = 256;

/// Whether a number can be recorded. Shared by the back-ends.
pub(crate) fn check_number(what: &str, number: u64) -> Result<(), Error> {
    if number > NUMBER_MAX {
        return Err(Error::Conflict(format!("{what} is {number}, which is more than {NUMBER_MAX}")));
    }
    Ok(())
}

/// Whether a run may begin: `Ok(true)` as a new record, `Ok(false)` when it has just begun already. `known` is the record
/// of the same id, `latest` the stream's newest. Shared by the back-ends.
pub(crate) fn check_run(
    run: &Run,
    known: Option<&Run>,
    latest: Option<&Run>,
    last: Option<&Segment>,
) -> Result<bool, Error> {
    check_number("the first number of a run", run.first_number)?;
    match known {
        Some(known) if known != run => {
            return Err(Error::Conflict(format!("run {} exists with another record", run.id)));
        }
        Some(_) if latest != Some(run) => {
            return Err(Error::Conflict(format!("run {} has ended: a newer one has begun", run.id)));
        }
        Some(_) => return Ok(false),
        None => {}
    }
    match last {
        Some(last) if run.first_number <= last.number => Err(Error::Conflict(format!(
            "run {} would begin with number {}, but {} is used",
            run.id, run.first_number, last.number
        ))),
        _ => Ok(true),
    }
}

/// Whether another node's segment may be adopted: `Ok(true)` as a new record, `Ok(false)` when nothing is to be done.
/// Shared by the back-ends.
pub(crate) fn check_adopted(
    segment: &Segment,
    last: Option<&Segment>,
    run: Option<&Run>,
) -> Result<bool, Error> {
    let number = segment.number;
    check_number("the number of a segment", number)?;
    match last {
        Some(last) if last.number > number || last == segment => return Ok(false),
        Some(last) if last.number == number => {
            return Err(Error::Conflict(format!("number {number} is used for another segment")));
        }
        _ => {}
    }
    match run.filter(|run| run.id == segment.run && run.first_number <= number) {
        Some(_) => Ok(true),
        None => Err(Error::Conflict(format!(
            "segment {number} belongs to run {}, which is not the newest",
            segment.run
        ))),
    }
}

/// Whether a segment may be committed: `Ok(true)` as a new record, `Ok(false)` when it is there already. Shared by the
/// back-ends.
pub(crate) fn check_next(
    segment: &Segment,
    known: Option<&Segment>,
    last: Option<&Segment>,
    run: Option<&Run>,
) -> Result<bool, Error> {
    let number = segment.number;
    check_number("the number of a segment", number)?;
    if let Some(known) = known {
        return match known == segment {
            true => Ok(false),
            false => Err(Error::Conflict(format!("number {number} is used for another segment"))),
        };
    }
    let Some(run) = run.filter(|run| run.id == segment.run) else {
        return Err(Error::Conflict(format!(
            "segment {number} belongs to run {}, which is not the newest",
            segment.run
        )));
    };
    let next = match last {
        Some(last) if last.run == run.id => last.number + 1,
        _ => run.first_number,
    };
    match number == next {
        true => Ok(true),
        false => Err(Error::Conflict(format!("segment {number} is not the next one, which is {next}"))),
    }
}
