//! One record of an archive log: a head that says how long it is and seals everything up to its end, and a payload.
//!
//! In: payloads, or bytes of a log. Out: bytes, or heads and payloads that belong to the chain. Pure.
//!
//! ```text
//! record   "RLA1"  kind u8  zero 3 bytes  length u32  chain 32 bytes  payload          integers big endian
//! chain    SHA-256("releve archive 1\0" ‖ chain of the record before ‖ kind u8 ‖ length u32 ‖ payload)
//! ```
//!
//! A record whose chain holds is whole: what a crash tore, at the end of a log, is told by it from what was written.

use ring::digest;
use thiserror::Error;

/// Length of a record's head in bytes.
pub const HEAD_BYTES: usize = 44;
/// The longest payload in bytes: an object of the largest size in both variants, its record and its table.
pub const PAYLOAD_BYTES_MAX: usize = 132 << 20;

const MAGIC: &[u8; 4] = b"RLA1";

/// What seals all records up to one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// Before the first record.
    pub const START: Chain = Chain([0; 32]);

    /// The seal of a record behind this one.
    pub fn next(self, kind: Kind, payload: &[u8]) -> Chain {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"releve archive 1\0");
        hash.update(&self.0);
        hash.update(&[kind as u8]);
        hash.update(&(payload.len() as u32).to_be_bytes());
        hash.update(payload);
        let mut chain = [0; 32];
        chain.copy_from_slice(hash.finish().as_ref());
        Chain(chain)
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Whose log it is: first in every log, JSON.
    Head = 1,
    /// An init section, before the first segment that names it.
    Init = 2,
    /// The picture of a segment: the record and the video object.
    Segment = 3,
    /// A further encoding of a segment's picture: which one, the record and its object.
    Encoding = 4,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// What the payload is.
    pub kind: Kind,
    /// Length of the payload in bytes.
    pub len: usize,
    /// The seal of everything up to the payload's end.
    pub chain: Chain,
}

impl RecordHead {
    /// Reads a head. Nothing may be reserved by its length before the bytes are known to be there.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<RecordHead, RecordError> {
        if &bytes[..4] != MAGIC {
            return Err(RecordError::Magic);
        }
        let kind = match bytes[4] {
            1 => Kind::Head,
            2 => Kind::Init,
            3 => Kind::Segment,
            4 => Kind::Encoding,
            other => return Err(RecordError::Kind(other)),
        };
        let len = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        if len > PAYLOAD_BYTES_MAX {
            return Err(RecordError::Long(len));
        }
        let mut chain = [0; 32];
        chain.copy_from_slice(&bytes[12..]);
        Ok(RecordHead { kind, len, chain: Chain(chain) })
    }

    /// Checks a payload against its seal.
    ///
    /// # Errors
    /// When it, its head or its place in the chain is another.
    pub fn verify(&self, before: Chain, payload: &[u8]) -> Result<(), RecordError> {
        match payload.len() == self.len && before.next(self.kind, payload) == self.chain {
            true => Ok(()),
            false => Err(RecordError::Chain),
        }
    }

    /// The head's bytes.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = self.kind as u8;
        bytes[8..12].copy_from_slice(&(self.len as u32).to_be_bytes());
        bytes[12..].copy_from_slice(&self.chain.0);
        bytes
    }
}

/// Why bytes are no record of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Another format, or the middle of something.
    #[error("no record of format RLA1 begins here")]
    Magic,
    /// A kind of a later version.
    #[error("a record of kind {0}, which this version does not know")]
    Kind(u8),
    /// More than is ever written.
    #[error("a record of {0} bytes is over the limit")]
    Long(usize),
    /// Cut or altered, or not in its place.
    #[error("a record does not match its seal: it was cut, altered or moved")]
    Chain,
    /// A payload that its kind does not take.
    #[error("a record's payload cannot be read: {0}")]
    Payload(String),
}
