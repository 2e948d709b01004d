//! What the two nodes say: one value for each frame, and its bytes.
//!
//! In: a frame, or the body of one whose MAC held. Out: the other. Pure. Reading is total: other bytes are an error, every
//! length is bounded by what is there, and by a named constant before that. Numbers are big-endian; a body is a kind byte
//! and the fields in the order below; a field of free length is its length (u16) and its bytes.

use crate::compare::{PartDigest, SegmentDigest, Station, Stations};
use crate::{ConnectionId, Error};
use bytes::{Buf, Bytes};
use ingest_api::window::Sha256;
use ingest_api::{RunId, StreamName, Track};

/// Bytes of input, output or snapshot in one frame. Small, so that one connection's snapshot does not delay the others.
pub const PAYLOAD_MAX: usize = 32 << 10;
/// Bytes of a connection's static TCP state: `TcpState` without queues takes about a hundred.
pub const TCP_MAX: usize = 4 << 10;
/// Bytes of a run record: with the newest segment's record and an init section a track some kilobytes; of many tracks and long
/// segments tens of them.
pub const RECORD_MAX: usize = PAYLOAD_MAX - 64;
/// Bytes of a standby's question.
pub const ASK_MAX: usize = 256;
/// Bytes of a frame's body.
pub const BODY_MAX: usize = PAYLOAD_MAX + 64;

/// What a connection publishes: the holder's decision, which its input does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publishes {
    /// Public name.
    pub stream: StreamName,
    /// The run that its segments belong to.
    pub run: RunId,
    /// The run record, encoded by the shell; at most [`RECORD_MAX`] bytes.
    pub record: Bytes,
}

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing: proves that the sender lives and holds the key.
    Ping,
    /// There is a connection.
    Opened {
        /// Its number.
        connection: ConnectionId,
        /// Its static TCP state, at most [`TCP_MAX`] bytes.
        tcp: Bytes,
        /// Input read so far; 0 for a new one. Above 0 a snapshot follows, at this offset or later.
        input: u64,
        /// Where the output frames of this link begin: the first byte that the publisher has not acknowledged.
        output_from: u64,
        /// Output so far.
        output: u64,
    },
    /// Every connection there was when the link came up has been named.
    Roll {
        /// How many.
        connections: u32,
    },
    /// A better static TCP state: `Opened` comes with the SYN-ACK, this one once the connection is accepted.
    Tcp {
        /// Which connection.
        connection: ConnectionId,
        /// At most [`TCP_MAX`] bytes.
        tcp: Bytes,
    },
    /// The holder let the connection publish.
    Published {
        /// Which connection.
        connection: ConnectionId,
        /// What.
        publishes: Publishes,
    },
    /// A piece of the state that the lockstep parse starts with.
    Snapshot {
        /// Which connection.
        connection: ConnectionId,
        /// Input offset of the state.
        input: u64,
        /// Where in the state this piece belongs.
        at: u32,
        /// Whether it is the last piece.
        last: bool,
        /// The piece.
        bytes: Bytes,
    },
    /// Read from the publisher.
    Input {
        /// Which connection.
        connection: ConnectionId,
        /// Of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// To be sent to the publisher.
    Output {
        /// Which connection.
        connection: ConnectionId,
        /// Of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The publisher has acknowledged our output up to here; it is not needed for a restore.
    Acked {
        /// Which connection.
        connection: ConnectionId,
        /// Everything before it is acknowledged.
        output: u64,
    },
    /// The connection is over.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// All its input.
        input: u64,
        /// All its output.
        output: u64,
    },
    /// From here on the standby has whatever the holder acknowledges.
    Paired,
    /// Standby: has this much, taken.
    Confirm {
        /// Which connection.
        connection: ConnectionId,
        /// Input.
        input: u64,
        /// Output.
        output: u64,
    },
    /// Standby: knows that the connection is over.
    Forgotten {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Standby: has read `Paired`.
    PairedSeen,
    /// What the sender made of a segment.
    SegmentHash(SegmentDigest),
    /// What the sender made of a part.
    PartHash(PartDigest),
    /// A word of the holder's shell to the standby's, in order with the connection's input.
    Note {
        /// Which connection.
        connection: ConnectionId,
        /// What the shell says, at most [`PAYLOAD_MAX`] bytes.
        bytes: Bytes,
    },
    /// Standby: a word of its shell to the holder's, at most [`ASK_MAX`] bytes.
    Ask {
        /// Which connection it is about.
        connection: ConnectionId,
        /// What the shell says.
        bytes: Bytes,
    },
    /// Standby: has read the newest `Tcp` of the connection, one answer for each.
    TcpSeen {
        /// Which connection.
        connection: ConnectionId,
    },
}

impl Frame {
    /// What the frame is called in errors.
    pub fn name(&self) -> &'static str {
        self.kind().1
    }

    fn kind(&self) -> (u8, &'static str) {
        match self {
            Frame::Ping => (1, "Ping"),
            Frame::Opened { .. } => (2, "Opened"),
            Frame::Roll { .. } => (3, "Roll"),
            Frame::Tcp { .. } => (4, "Tcp"),
            Frame::Published { .. } => (5, "Published"),
            Frame::Snapshot { .. } => (6, "Snapshot"),
            Frame::Input { .. } => (7, "Input"),
            Frame::Output { .. } => (8, "Output"),
            Frame::Acked { .. } => (9, "Acked"),
            Frame::Closed { .. } => (10, "Closed"),
            Frame::Paired => (11, "Paired"),
            Frame::Confirm { .. } => (12, "Confirm"),
            Frame::Forgotten { .. } => (13, "Forgotten"),
            Frame::PairedSeen => (14, "PairedSeen"),
            Frame::SegmentHash(_) => (15, "SegmentHash"),
            Frame::Note { .. } => (16, "Note"),
            Frame::TcpSeen { .. } => (17, "TcpSeen"),
            Frame::PartHash(_) => (18, "PartHash"),
            Frame::Ask { .. } => (19, "Ask"),
        }
    }

    /// Appends the body. Whoever made the frame has kept the bounds above.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut put = Put(out);
        put.0.push(self.kind().0);
        match self {
            Frame::Ping | Frame::Paired | Frame::PairedSeen => {}
            Frame::Opened { connection, tcp, input, output_from, output } => {
                put.words(&[connection.0, *input, *output_from, *output]);
                put.bytes(tcp);
            }
            Frame::Roll { connections } => put.0.extend_from_slice(&connections.to_be_bytes()),
            Frame::Tcp { connection, tcp } => {
                put.words(&[connection.0]);
                put.bytes(tcp);
            }
            Frame::Published { connection, publishes } => {
                put.words(&[connection.0]);
                put.bytes(publishes.stream.as_str().as_bytes());
                put.0.extend_from_slice(&publishes.run.0);
                put.bytes(&publishes.record);
            }
            Frame::Snapshot { connection, input, at, last, bytes } => {
                put.words(&[connection.0, *input]);
                put.0.extend_from_slice(&at.to_be_bytes());
                put.0.push(u8::from(*last));
                put.bytes(bytes);
            }
            Frame::Input { connection, offset, bytes } | Frame::Output { connection, offset, bytes } => {
                put.words(&[connection.0, *offset]);
                put.bytes(bytes);
            }
            Frame::Acked { connection, output } => put.words(&[connection.0, *output]),
            Frame::Closed { connection, input, output } | Frame::Confirm { connection, input, output } => {
                put.words(&[connection.0, *input, *output]);
            }
            Frame::Forgotten { connection } | Frame::TcpSeen { connection } => put.words(&[connection.0]),
            Frame::Note { connection, bytes } | Frame::Ask { connection, bytes } => {
                put.words(&[connection.0]);
                put.bytes(bytes);
            }
            Frame::PartHash(digest) => {
                put.bytes(digest.stream.as_str().as_bytes());
                put.0.extend_from_slice(&digest.run.0);
                put.words(&[digest.number]);
                put.0.extend_from_slice(&digest.index.to_be_bytes());
                put.0.push(digest.track.index() as u8); // one of TRACKS_MAX
                put.0.extend_from_slice(&digest.sha256.0);
            }
            Frame::SegmentHash(digest) => {
                put.bytes(digest.stream.as_str().as_bytes());
                put.0.extend_from_slice(&digest.run.0);
                put.words(&[digest.number]);
                put.0.push(digest.track.index() as u8); // one of TRACKS_MAX
                put.0.extend_from_slice(&digest.sha256.0);
                Station::ALL.iter().for_each(|station| put.0.extend_from_slice(digest.stations.of(*station)));
            }
        }
    }

    /// The frame of a body.
    ///
    /// # Errors
    /// [`Error::Layout`].
    pub(crate) fn read(body: Bytes) -> Result<Frame, Error> {
        let kind = body.first().copied().unwrap_or(0);
        let mut take = Take(body);
        let frame = take.frame().filter(|_| take.0.is_empty());
        frame.ok_or(Error::Layout { kind })
    }
}

struct Put<'a>(&'a mut Vec<u8>);

impl Put<'_> {
    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.0.extend_from_slice(&word.to_be_bytes()));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= PAYLOAD_MAX, "every maker of frames splits or refuses longer ones");
        self.0.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }
}

/// Reads a body off its front; `None` past its end.
struct Take(Bytes);

impl Take {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.0.first_chunk::<N>()?;
        self.0.advance(N);
        Some(array)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn connection(&mut self) -> Option<ConnectionId> {
        self.u64().map(ConnectionId)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn track(&mut self) -> Option<Track> {
        let [index] = self.array()?;
        Track::ALL.get(usize::from(index)).copied()
    }

    fn bytes(&mut self, max: usize) -> Option<Bytes> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        (len <= max && len <= self.0.len()).then(|| self.0.split_to(len))
    }

    fn stream(&mut self) -> Option<StreamName> {
        std::str::from_utf8(&self.bytes(ingest_api::name::STREAM_NAME_MAX)?).ok()?.parse().ok()
    }

    fn run(&mut self) -> Option<RunId> {
        self.array().map(RunId)
    }

    fn frame(&mut self) -> Option<Frame> {
        let [kind] = self.array()?;
        Some(match kind {
            1 => Frame::Ping,
            2 => {
                let connection = self.connection()?;
                let (input, output_from, output) = (self.u64()?, self.u64()?, self.u64()?);
                Frame::Opened { connection, tcp: self.bytes(TCP_MAX)?, input, output_from, output }
            }
            3 => Frame::Roll { connections: u32::from_be_bytes(self.array()?) },
            4 => Frame::Tcp { connection: self.connection()?, tcp: self.bytes(TCP_MAX)? },
            5 => {
                let connection = self.connection()?;
                let (stream, run) = (self.stream()?, self.run()?);
                let publishes = Publishes { stream, run, record: self.bytes(RECORD_MAX)? };
                Frame::Published { connection, publishes }
            }
            6 => Frame::Snapshot {
                connection: self.connection()?,
                input: self.u64()?,
                at: u32::from_be_bytes(self.array()?),
                last: self.flag()?,
                bytes: self.bytes(PAYLOAD_MAX)?,
            },
            7 | 8 => {
                let (connection, offset) = (self.connection()?, self.u64()?);
                let bytes = self.bytes(PAYLOAD_MAX)?;
                offset.checked_add(bytes.len() as u64).filter(|_| !bytes.is_empty())?;
                match kind {
                    7 => Frame::Input { connection, offset, bytes },
                    _ => Frame::Output { connection, offset, bytes },
                }
            }
            9 => Frame::Acked { connection: self.connection()?, output: self.u64()? },
            10 => Frame::Closed { connection: self.connection()?, input: self.u64()?, output: self.u64()? },
            11 => Frame::Paired,
            12 => Frame::Confirm { connection: self.connection()?, input: self.u64()?, output: self.u64()? },
            13 => Frame::Forgotten { connection: self.connection()? },
            14 => Frame::PairedSeen,
            15 => {
                let (stream, run, number) = (self.stream()?, self.run()?, self.u64()?);
                let track = self.track()?;
                let sha256 = Sha256(self.array()?);
                let stations = Stations([self.array()?, self.array()?, self.array()?, self.array()?]);
                Frame::SegmentHash(SegmentDigest { stream, run, number, track, sha256, stations })
            }
            16 => Frame::Note { connection: self.connection()?, bytes: self.bytes(PAYLOAD_MAX)? },
            17 => Frame::TcpSeen { connection: self.connection()? },
            18 => {
                let (stream, run, number) = (self.stream()?, self.run()?, self.u64()?);
                let index = u32::from_be_bytes(self.array()?);
                let track = self.track()?;
                let sha256 = Sha256(self.array()?);
                Frame::PartHash(PartDigest { stream, run, number, index, track, sha256 })
            }
            19 => Frame::Ask { connection: self.connection()?, bytes: self.bytes(ASK_MAX)? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 1..max).prop_map(Bytes::from)
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let name = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}".prop_map(|name| name.parse::<StreamName>().unwrap());
        (0..18_u8, any::<[u64; 4]>(), bytes(2_000), name, any::<bool>()).prop_map(
            |(kind, [id, a, b, c], bytes, stream, flag)| {
                let connection = ConnectionId(id);
                let run = RunId(a.to_be_bytes());
                match kind {
                    0 => Frame::Ping,
                    1 => Frame::Opened { connection, tcp: bytes, input: a, output_from: b, output: c },
                    2 => Frame::Roll { connections: a as u32 },
                    3 => Frame::Tcp { connection, tcp: bytes },
                    4 => Frame::Published { connection, publishes: Publishes { stream, run, record: bytes } },
                    5 => Frame::Snapshot { connection, input: a, at: b as u32, last: flag, bytes },
                    6 => Frame::Input { connection, offset: a >> 1, bytes },
                    7 => Frame::Output { connection, offset: a >> 1, bytes },
                    8 => Frame::Acked { connection, output: a },
                    9 => Frame::Closed { connection, input: a, output: b },
                    10 => {
                        if flag {
                            Frame::Paired
                        } else {
                            Frame::PairedSeen
                        }
                    }
                    11 => Frame::Confirm { connection, input: a, output: b },
                    12 => Frame::Forgotten { connection },
                    13 => Frame::Note { connection, bytes },
                    14 => Frame::TcpSeen { connection },
                    15 => {
                        let track = Track::ALL[id as usize % Track::ALL.len()];
                        let sha256 = Sha256([b as u8; 32]);
                        Frame::PartHash(PartDigest { stream, run, number: c, index: b as u32, track, sha256 })
                    }
                    16 => Frame::Ask { connection, bytes: bytes.slice(..bytes.len().min(ASK_MAX)) },
                    _ => {
                        let track = Track::ALL[id as usize % Track::ALL.len()];
                        let stations = Stations([a, b, c, id].map(|word| [word as u8; 16]));
                        let sha256 = Sha256([b as u8; 32]);
                        Frame::SegmentHash(SegmentDigest { stream, run, number: c, track, sha256, stations })
                    }
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_and_no_prefix_is_one(frame in frames(), cut: prop::sample::Index) {
            let mut body = Vec::new();
            frame.write(&mut body);
            prop_assert!(body.len() <= BODY_MAX);
            let cut = cut.index(body.len());
            prop_assert!(Frame::read(body[..cut].to_vec().into()).is_err());
            prop_assert_eq!(Frame::read(body.into()).unwrap(), frame);
        }

        #[test]
        fn any_bytes_are_an_error_or_the_one_form_of_a_frame(kind in 0..22_u8, rest: Vec<u8>) {
            let body = [&[kind][..], &rest].concat();
            if let Ok(frame) = Frame::read(body.clone().into()) {
                let mut again = Vec::new();
                frame.write(&mut again);
                prop_assert_eq!(again, body);
            }
        }
    }
}
