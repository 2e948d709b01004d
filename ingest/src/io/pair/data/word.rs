//! What the holder's shell tells the standby's, inside the frames of `mirror`.
//!
//! In: decisions and states of the holder's tasks. Out: bytes, and back. Pure. Reading is total; the link has checked who
//! speaks. A version byte goes first: both nodes run the same version, or do not pair.

use super::asked::Answer;
use super::copy::Chunk;
use super::strand::Decision;
use crate::io::marking::Saved;
use crate::merge::{Confluence, Standing};
use crate::slot::Push;
use bytes::Bytes;
use ingest_api::Run;
use ingest_api::window::Segment;
use media::window::Seed;
use releve_state::coordinator::StreamRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use thiserror::Error;

/// Raise it with any change of what is below, or of a saved state in it.
const VERSION: u8 = 11;

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
    /// Which copy of the feed it sends.
    pub push: Push,
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
    /// What went on of the feed, and what waits of its connections.
    pub confluence: Confluence,
    /// It has, or had, a second connection: each message has the holder's word.
    pub shared: bool,
    /// Its other connections now.
    pub(super) others: Vec<Second>,
    /// Words on its messages since this instant, each with its connection.
    pub(super) words: Vec<(u64, Next)>,
}

/// A further connection of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Its number.
    pub connection: u64,
    /// Which copy of the feed it sends.
    pub push: Push,
    /// Where it connects from.
    pub peer: IpAddr,
}

/// The holder's word on one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Next {
    /// The how manieth of the feed it is.
    pub at: u64,
    /// How things stood.
    pub standing: Standing,
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
    /// The same of a further connection.
    pub joins: Option<Joins>,
}

/// A further connection's part in the stream of another one, whose state came before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Joins {
    /// The other one.
    pub host: u64,
    /// Messages behind this state that the stream's state has already.
    pub skip: u64,
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
    /// What the holder decided on a stream.
    Decided(Decision),
    /// A finished segment.
    Made(Segment),
    /// The stream's fencing term at the holder is this now.
    Epoch(u64),
    /// The next message of this connection is the feed's next.
    Next(Next),
    /// The publisher has a further connection, which may publish; from here on each message has a word.
    Shares(Second),
    /// The publisher has ended here, whatever its bytes say.
    End,
    /// To the standby's question.
    Answer(Answer),
    /// A piece of what the standby copies; beside all connections.
    Copy(Chunk),
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

#[cfg(test)]
mod tests {
    use super::*;
    use ingest_api::window::{SegmentTrack, Sha256, SoundEnd};
    use ingest_api::{RunId, Track};

    #[test]
    fn a_record_arrives_as_it_was_with_sound_and_without() {
        let entry = |track, sound_end| SegmentTrack {
            track,
            init: "init-0123456789abcdef".to_owned(),
            len: 9,
            sha256: Sha256([2; 32]),
            parts: Vec::new(),
            clear: None,
            sound_end,
            gops: Vec::new(),
        };
        let end = Some(SoundEnd { sample: 48_000, rate: 48_000 });
        let record = Segment {
            number: 7,
            run: RunId([1; 8]),
            discontinuity: 0,
            start_90k: 180_000,
            duration_90k: 90_000,
            date_unix_ms: 1_700_000_000_000,
            independent: true,
            gops: Vec::new(),
            tracks: vec![entry(Track::Video, None), entry(Track::AUDIO, None), entry(Track::ALL[8], end)],
            has_mpeg_ts: true,
            key: None,
        };
        match read::<Word>(&write(&Word::Made(record.clone()))) {
            Ok(Word::Made(arrived)) => assert_eq!(arrived, record),
            other => panic!("{other:?}"),
        }
    }
}
