//! What a standby copies of what its holder listed without it: where each stream stands, and the listed segments, newest first.
//!
//! In: what streams lack, the holder's answers. Out: questions, one at a time; what has come, for the stream's task. Pure. A
//! node that was away would else have nothing of that time: the next crash would be the loss of both.
//!
//! ```text
//!  standby                                             holder
//!  Want::Streams ────────────────────────────────────► run, epoch, newest record of each stream ─► its numbers are used
//!  Want::Before(stream, 17, hash of our own 17) ─────► the same · not yet · nothing · all bytes of 17 ─► in front of 18
//!  Want::Directory(hash of ours, what is newer here) ─► the same · all entries of the directory (`directory`)
//! ```
//!
//! An answer comes in rounds of [`ROUND_BYTES`], each asked for, so that what publishers send never waits long behind it.

use super::word::write;
use bytes::{Bytes, BytesMut};
use ingest_api::window::{Segment, Sha256, TrackInfo};
use ingest_api::{Run, StreamName, Track};
use media::window::{Seed, Whole};
use mirror::frame::PAYLOAD_MAX;
use releve_state::DirectoryEntry;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes between two questions: 2 ms of a link of 1 Gb/s.
const ROUND_BYTES: usize = 256 << 10;
/// Bytes of an answer in one note, with room for what stands around them.
const PIECE_BYTES: usize = PAYLOAD_MAX - 64;
/// The longest answer: a segment of ten seconds at 100 Mb/s. A longer one is not copied.
const ANSWER_MAX: usize = 128 << 20;
/// A segment that the holder has not listed yet is asked for again after this.
const AGAIN: Duration = Duration::from_millis(20);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Want {
    /// Where each stream stands.
    Streams,
    /// The segment of this number, where it is listed; the hash of the record that the standby has of it.
    Segment(StreamName, u64, Option<Sha256>),
    /// The directory of streams, where it is not the one of this hash. The holder takes over the entries that come with it.
    Directory(Sha256, Vec<DirectoryEntry>),
}

/// A question: the answer from this byte on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) want: Want,
    pub(super) at: u32,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    at: u32,
    /// The length of all of it.
    whole: u32,
    bytes: Bytes,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// All streams that have a segment.
    Streams(Vec<Standing>),
    /// The standby has it.
    Same,
    /// It will be listed, and is not yet.
    Later,
    /// It is not listed, or no longer.
    Nothing,
    /// All of it.
    Segment(Box<Copied>),
    /// All of the holder's.
    Directory(Vec<DirectoryEntry>),
}

/// Where a stream stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// The stream.
    pub name: StreamName,
    /// Its newest run.
    pub run: Run,
    /// Its fencing term at the holder.
    pub epoch: u64,
    /// Its newest segment.
    pub last: Segment,
    /// Init sections and rates of the window.
    pub seed: Seed,
}

/// `Whole` on the link.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Copied {
    record: Segment,
    inits: Vec<(String, Bytes, TrackInfo)>,
    objects: Vec<(Track, Bytes)>,
}

impl From<Whole> for Copied {
    fn from(Whole { record, inits, objects }: Whole) -> Copied {
        Copied { record, inits, objects }
    }
}

impl From<Copied> for Whole {
    fn from(Copied { record, inits, objects }: Copied) -> Whole {
        Whole { record, inits, objects }
    }
}

/// What came of a stream's wish.
#[derive(Debug)]
pub enum Found {
    /// The holder lists what this node has.
    Same,
    /// There is nothing more to copy.
    Nothing,
    /// This.
    Segment(Box<Whole>),
}

/// The hash by which two nodes know a record.
pub fn record_hash(record: &Segment) -> Sha256 {
    let bytes = serde_json::to_vec(record).expect("records are plain strings and numbers");
    Sha256::of(&bytes)
}

/// The holder's end: the answer that is being fetched.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    answer: Option<(Want, Bytes)>,
}

impl Shelf {
    /// An answer was put together.
    pub(super) fn put(&mut self, want: Want, answer: Bytes) {
        let fits = answer.len() <= ANSWER_MAX;
        self.answer = Some((want, if fits { answer } else { write(&Reply::Nothing) }));
    }

    /// The round of an answer from there on; none where it has to be put together first.
    pub(super) fn round(&self, question: &Question) -> Vec<Chunk> {
        let Some((_, answer)) = self.answer.as_ref().filter(|(want, _)| *want == question.want) else {
            return Vec::new();
        };
        let from = question.at as usize;
        let end = answer.len().min(from.saturating_add(ROUND_BYTES));
        let piece = |at: usize| Chunk {
            at: at as u32,
            whole: answer.len() as u32,
            bytes: answer.slice(at..end.min(at + PIECE_BYTES)),
        };
        (from..end).step_by(PIECE_BYTES).map(piece).collect()
    }

    /// Whether the answer is the present one.
    pub(super) fn has(&self, want: &Want) -> bool {
        self.answer.as_ref().is_some_and(|(of, _)| of == want)
    }
}

/// What a stream lacks.
#[derive(Debug)]
struct Wish {
    number: u64,
    have: Option<Sha256>,
    from: Option<Instant>,
}

/// The standby's end.
#[derive(Debug, Default)]
pub(super) struct Copies {
    asked: Option<(Want, BytesMut)>,
    /// The next round of the answer is to be asked for.
    next_round: bool,
    /// The holder has not said yet where its streams stand.
    unlisted: bool,
    /// Streams that a connection publishes to, whose tasks have not begun it yet.
    joining: BTreeSet<StreamName>,
    /// Streams whose tasks have not said yet that nothing is lacking.
    open: BTreeSet<StreamName>,
    wishes: BTreeMap<StreamName, Wish>,
    standings: BTreeMap<StreamName, Standing>,
    found: BTreeMap<StreamName, (u64, Found)>,
    /// Somebody wants to compare directories, and waits for the answer.
    directory: Option<(Want, oneshot::Sender<Reply>)>,
}

impl Copies {
    /// Of a link whose holder may have listed something alone: all is asked for.
    pub(super) fn of_link() -> Copies {
        Copies { unlisted: true, ..Copies::default() }
    }

    /// This stream's task will begin, and say what it lacks.
    pub(super) fn expect(&mut self, stream: StreamName) {
        self.joining.insert(stream);
    }

    /// How many streams are not whole.
    pub(super) fn open(&self) -> usize {
        self.open.union(&self.joining).count()
    }

    /// Whether everything that the holder listed is here.
    pub(super) fn are_whole(&self) -> bool {
        !self.unlisted && self.joining.is_empty() && self.open.is_empty()
    }

    fn lacks(&mut self, stream: &StreamName, number: u64, have: Option<Sha256>) {
        self.open.insert(stream.clone());
        self.found.remove(stream);
        self.wishes.insert(stream.clone(), Wish { number, have, from: None });
    }

    fn is_whole(&mut self, stream: &StreamName) {
        self.open.remove(stream);
        self.wishes.remove(stream);
        self.found.remove(stream);
    }

    /// What to ask now: never a second thing before the first is here.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Question> {
        if let Some((want, bytes)) = &self.asked {
            let ask = std::mem::take(&mut self.next_round);
            return ask.then(|| Question { want: want.clone(), at: bytes.len() as u32 });
        }
        let want = match self.unlisted {
            true => Want::Streams,
            false => {
                let due = |wish: &Wish| wish.from.is_none_or(|from| now >= from);
                match self.wishes.iter().find(|(_, wish)| due(wish)) {
                    Some((stream, wish)) => Want::Segment(stream.clone(), wish.number, wish.have),
                    None => self.directory.as_ref().map(|(want, _)| want.clone())?,
                }
            }
        };
        self.asked = Some((want.clone(), BytesMut::new()));
        Some(Question { want, at: 0 })
    }

    /// A piece of the answer: what it is once it is whole.
    pub(super) fn heard(&mut self, chunk: &Chunk) -> Option<(Want, BytesMut)> {
        let (_, bytes) = self.asked.as_mut()?;
        if chunk.at as usize != bytes.len() || chunk.whole as usize > ANSWER_MAX {
            // Of a question of another link.
            return None;
        }
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() >= chunk.whole as usize {
            self.next_round = false;
            return self.asked.take();
        }
        self.next_round = bytes.len() % ROUND_BYTES == 0;
        None
    }

    /// An answer that is whole, read.
    pub(super) fn answered(&mut self, want: &Want, reply: Reply, now: Instant) {
        match (want, reply) {
            (Want::Streams, Reply::Streams(standings)) => {
                self.unlisted = false;
                self.standings = standings.into_iter().map(|one| (one.name.clone(), one)).collect();
            }
            (Want::Streams, _) => self.unlisted = false,
            (Want::Directory(..), reply) => {
                if let Some((_, waits)) = self.directory.take_if(|(wanted, _)| wanted == want) {
                    // Whoever asked may have given up.
                    let _ = waits.send(reply);
                }
            }
            (Want::Segment(stream, number, _), reply) => {
                let Some(wish) = self.wishes.get_mut(stream).filter(|wish| wish.number == *number) else {
                    return;
                };
                let found = match reply {
                    Reply::Later => {
                        wish.from = Some(now + AGAIN);
                        return;
                    }
                    Reply::Same => Found::Same,
                    Reply::Segment(copied) => Found::Segment(Box::new((*copied).into())),
                    Reply::Nothing | Reply::Streams(_) | Reply::Directory(_) => Found::Nothing,
                };
                self.wishes.remove(stream);
                self.found.insert(stream.clone(), (*number, found));
            }
        }
    }

    /// Asks for the holder's directory when nothing else is lacking. A question that was not answered is forgotten.
    pub(super) fn compare(&mut self, want: Want) -> oneshot::Receiver<Reply> {
        let (answer, waits) = oneshot::channel();
        self.directory = Some((want, answer));
        waits
    }

    /// Where the holder's streams stand; those of them that this node has are awaited.
    pub(super) fn await_streams(&mut self, known: impl Fn(&StreamName) -> bool) {
        self.standings.retain(|stream, _| known(stream));
        self.open.extend(self.standings.keys().cloned());
    }
}

impl super::Data {
    /// Where the stream stands at the holder: said once on each link.
    pub fn standing(&self, stream: &StreamName) -> Option<Standing> {
        self.books().copies.standings.remove(stream)
    }

    /// The stream has begun where the holder stands, and said what it lacks.
    pub fn begun(&self, stream: &StreamName) {
        self.books().copies.joining.remove(stream);
        self.ring();
    }

    /// What came of the stream's last wish, with its number.
    pub fn found(&self, stream: &StreamName) -> Option<(u64, Found)> {
        self.books().copies.found.remove(stream)
    }

    /// The stream lacks the segment of this number; `have` is the hash of the record it has of it.
    pub fn lacks(&self, stream: &StreamName, number: u64, have: Option<Sha256>) {
        self.books().copies.lacks(stream, number, have);
        self.ring();
    }

    /// The stream lacks nothing that could be had.
    pub fn is_whole(&self, stream: &StreamName) {
        self.books().copies.is_whole(stream);
        self.ring();
    }
}
