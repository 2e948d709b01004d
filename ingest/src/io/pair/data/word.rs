//! What the holder's shell tells the standby's, inside the frames of `mirror`.
//!
//! In: decisions and states of the holder's tasks. Out: bytes, and back. Pure. Reading is total; the link has checked who
//! speaks. A version byte goes first: both nodes run the same version, or do not pair.

use super::asked::Answer;
use crate::io::marking::Saved;
use bytes::Bytes;
use ingest_api::Run;
use ingest_api::window::{Gop, Segment};
use media::window::Seed;
use releve_state::coordinator::StreamRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use thiserror::Error;

/// Raise it with any change of what is below, or of a saved state in it.
const VERSION: u8 = 2;

/// Bytes that are no word of this version.
#[derive(Debug, Error)]
#[error("the holder's words are of another version ({0:?}); run the same version on both nodes")]
pub(super) struct WordError(Option<u8>);

/// Where a stream's twin starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lead {
    /// The stream, as the holder knows it.
    pub record: StreamRecord,
    /// Where the publisher connects from.
    pub peer: IpAddr,
    /// The run.
    pub run: Run,
    /// The stream's fencing term at the holder.
    pub epoch: u64,
    /// The segmenter, whole.
    pub segmenter: Bytes,
    /// Init sections and rates of the window.
    pub seed: Seed,
    /// The newest segment: its number is used.
    pub last: Option<Segment>,
    /// The publisher's part, where it does not begin just now.
    pub live: Option<LiveState>,
}

/// What a publisher has left in its stream's task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveState {
    /// The feed, whole.
    pub feed: Bytes,
    /// Marking, but for the workers.
    pub marking: Saved,
}

/// What a connection's twin starts from: of one instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LineState {
    /// The RTMP session.
    pub session: Bytes,
    /// Output it has given so far, bytes.
    pub output: u64,
    /// The stream, where it publishes.
    pub lead: Option<Lead>,
}

/// How a connection's twin starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Start {
    /// From this state.
    State(Box<LineState>),
    /// It stood there already when the connection came over from it, after `from` bytes of input: this happened since.
    Again {
        /// Input then, bytes.
        from: u64,
        /// In order.
        log: Vec<Again>,
    },
}

/// What happened on a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Again {
    /// Input.
    Input(Bytes),
    /// It may publish.
    Published(Box<Lead>),
    /// A word.
    Word(Box<Word>),
}

/// A word between two bytes of input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// How marking ended for a GOP.
    Gop(Gop),
    /// A finished segment.
    Made(Segment),
    /// The stream's fencing term at the holder is this now.
    Epoch(u64),
    /// The publisher has ended here, whatever its bytes say.
    End,
    /// To the standby's question.
    Answer(Answer),
}

/// As bytes.
pub(super) fn write(what: &impl Serialize) -> Bytes {
    let written = postcard::to_extend(what, vec![VERSION]);
    written.expect("a Vec takes any length and our words have only derived, sized fields").into()
}

/// From bytes.
///
/// # Errors
/// Another version, or no word.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WordError> {
    let (version, rest) = bytes.split_first().ok_or(WordError(None))?;
    match postcard::take_from_bytes(rest) {
        Ok((word, [])) if *version == VERSION => Ok(word),
        _ => Err(WordError(Some(*version))),
    }
}
