//! FLV tag bodies as RTMP carries them: the head says what the rest is.
//!
//! In: the payload of an RTMP audio or video message. Out: a `Video` or an `Audio` that shares the payload's bytes, or an
//! error that names the codec or the byte. Pure. Adobe FLV 10.1 Annex E.4; Enhanced RTMP v2 (FourCC packets).
//!
//! H.264 and AAC pass, in the old form and as `avc1` / `mp4a` FourCC packets, HEVC, AV1 and Opus as `hvc1`, `av01` and `Opus` packets. Every
//! other codec is refused by name: a publisher must hear why, not watch a stream that never appears. Of several tracks in one publish
//! (multitrack messages) those are read that `Track` has, by their ids; what else there is, and further tracks of other codecs, is
//! counted: the first ones go on.

mod audio;
mod video;

pub use audio::Audio;
pub use video::Video;

use bytes::Bytes;
use thiserror::Error;

/// Why a payload that is not wrong is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// No bytes at all.
    Empty,
    /// A command to a player (seek marks).
    Command,
    /// Metadata of a FourCC packet (colour information).
    Metadata,
    /// A packet type without use here.
    PacketType(u8),
}

/// Why a payload is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FlvError {
    /// The head is cut.
    #[error("the FLV tag head ends at byte {len}, before it is complete")]
    Short {
        /// Bytes there are.
        len: usize,
    },
    /// A video codec other than H.264, HEVC and AV1.
    #[error(
        "video codec {0} is not supported: publish H.264 (AVC), or HEVC or AV1 as Enhanced RTMP (hvc1, av01)"
    )]
    VideoCodec(String),
    /// An audio codec other than AAC and Opus.
    #[error("audio codec {0} is not supported: publish AAC, or Opus as Enhanced RTMP")]
    AudioCodec(String),
    /// A form of multitrack message that there is not.
    #[error("Enhanced RTMP multitrack type {0} is unknown")]
    Multitrack(u8),
}

/// A payload that is read from the front.
struct Head {
    bytes: Bytes,
    at: usize,
}

impl Head {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FlvError> {
        let mut taken = [0; N];
        let from = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.get(..N))
            .ok_or(FlvError::Short { len: self.bytes.len() })?;
        taken.copy_from_slice(from);
        self.at += N;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, FlvError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), FlvError> {
        let to = self.at.saturating_add(count);
        if to > self.bytes.len() {
            return Err(FlvError::Short { len: self.bytes.len() });
        }
        self.at = to;
        Ok(())
    }

    /// Skips `ModEx` prefixes: finer timestamps and the like. Gives the packet type after them.
    fn after_modifiers(&mut self, mut packet: u8) -> Result<u8, FlvError> {
        while packet == MOD_EX {
            let mut size = usize::from(self.byte()?) + 1;
            if size == 256 {
                size = usize::from(u16::from_be_bytes(self.take()?)) + 1;
            }
            self.skip(size)?;
            packet = self.byte()? & 0x0f;
        }
        Ok(packet)
    }

    /// Behind a multitrack head: the tracks with ids below `ids`, each as if it had come alone, by their ids; and how many
    /// others the message has (Enhanced RTMP v2, "Multitrack").
    fn tracks(mut self, ids: usize) -> Result<(Vec<OneTrack>, u64), FlvError> {
        let kind = self.byte()?;
        let (form, packet) = (kind >> 4, kind & 0x0f);
        if form > MANY_CODECS {
            return Err(FlvError::Multitrack(form));
        }
        let shared = if form == MANY_CODECS { None } else { Some(self.take()?) };
        let (mut tracks, mut others): (Vec<OneTrack>, u64) = (Vec::new(), 0);
        while self.at < self.bytes.len() {
            let fourcc = match shared {
                Some(fourcc) => fourcc,
                None => self.take()?,
            };
            let id = self.byte()?;
            let len = match form {
                ONE_TRACK => self.bytes.len() - self.at,
                _ => {
                    let [a, b, c] = self.take()?;
                    u32::from_be_bytes([0, a, b, c]) as usize
                }
            };
            let from = self.at;
            self.skip(len)?;
            if usize::from(id) < ids && tracks.iter().all(|known| known.id != id) {
                let head = Head { bytes: self.bytes.slice(from..self.at), at: 0 };
                tracks.push(OneTrack { id, packet, fourcc, head });
            } else {
                others += 1;
            }
        }
        tracks.sort_unstable_by_key(|track| track.id);
        Ok((tracks, others))
    }

    /// Everything not yet read, shared.
    fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }
}

/// A track of a multitrack message.
struct OneTrack {
    id: u8,
    packet: u8,
    fourcc: [u8; 4],
    head: Head,
}

const MOD_EX: u8 = 7;
/// Forms of multitrack messages: one track, many of one codec, many of their own.
const ONE_TRACK: u8 = 0;
const MANY_CODECS: u8 = 2;

/// A FourCC as text that cannot hurt a log.
fn fourcc_text(fourcc: [u8; 4]) -> String {
    fourcc.escape_ascii().to_string()
}
