//! The envelope of every cluster datagram: who, which cluster, which epoch, which counter, and a MAC over all of it.
//!
//! In: a header and a fixed-size body, or bytes from anywhere. Out: bytes, or header and body, or why not. A bad datagram
//! costs at most one HMAC and changes nothing. Keys: the cluster's [`KeyRing`]; two may be live while keys change.
//!
//! ```text
//!  0        4     5     6         8         16      24            32        40            44
//!  | "RLVF" | ver | kind| sender  | cluster | epoch | incarnation | counter | key version | body … | HMAC-SHA-256 |
//! ```
//! Numbers are big-endian. The MAC is taken over a label and everything before it.

use crate::{ClusterId, Epoch};
use releve_watermark::KeyRing;
use ring::hmac;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"RLVF";
const VERSION: u8 = 1;
const LABEL: &[u8] = b"releve cluster datagram 1\0";
/// Bytes before the body.
pub const HEADER_LEN: usize = 44;
/// Bytes of the MAC.
pub const MAC_LEN: usize = 32;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Node to node.
    Beat = 1,
    /// Node to witness.
    Ask = 2,
    /// Witness to node.
    Answer = 3,
}

/// What every datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// Node or witness number; the kind tells which.
    pub sender: u16,
    /// The sender's epoch.
    pub epoch: Epoch,
    /// Which life of the sender, rising with every start.
    pub incarnation: u64,
    /// Rises with every datagram of one incarnation.
    pub counter: u64,
}

/// Writes a datagram, MAC'd with the ring's current key.
pub fn seal(keys: &KeyRing, cluster: ClusterId, header: &Header, body: &[u8]) -> Vec<u8> {
    let key = keys.current();
    let mut bytes = Vec::with_capacity(HEADER_LEN + body.len() + MAC_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, header.kind as u8]);
    bytes.extend_from_slice(&header.sender.to_be_bytes());
    for word in [cluster.0, header.epoch, header.incarnation, header.counter] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.extend_from_slice(&key.version.to_be_bytes());
    bytes.extend_from_slice(body);
    let mac = mac(key.secret(), &bytes);
    bytes.extend_from_slice(mac.as_ref());
    bytes
}

/// Reads a datagram of one kind, whose body has exactly `body_len` bytes.
///
/// # Errors
/// Says why it is not one of ours; cheap tests come first.
pub fn open<'a>(
    keys: &KeyRing,
    cluster: ClusterId,
    kind: Kind,
    body_len: usize,
    bytes: &'a [u8],
) -> Result<(Header, Reader<'a>), SealError> {
    if bytes.len() != HEADER_LEN + body_len + MAC_LEN {
        return Err(SealError::Length { got: bytes.len(), want: HEADER_LEN + body_len + MAC_LEN });
    }
    let (signed, tag) = bytes.split_at(HEADER_LEN + body_len);
    let mut reader = Reader(signed);
    if reader.take::<4>() != MAGIC || reader.u8() != VERSION {
        return Err(SealError::NotOurs);
    }
    if reader.u8() != kind as u8 {
        return Err(SealError::Kind);
    }
    let sender = reader.u16();
    if reader.u64() != cluster.0 {
        return Err(SealError::Cluster);
    }
    let (epoch, incarnation, counter) = (reader.u64(), reader.u64(), reader.u64());
    let version = u32::from_be_bytes(reader.take());
    let key = keys.version(version).ok_or(SealError::Key { version })?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret());
    let mut labelled = Vec::with_capacity(LABEL.len() + signed.len());
    labelled.extend_from_slice(LABEL);
    labelled.extend_from_slice(signed);
    hmac::verify(&key, &labelled, tag).map_err(|_| SealError::Mac { sender })?;
    Ok((Header { kind, sender, epoch, incarnation, counter }, reader))
}

fn mac(secret: &[u8; 32], signed: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(LABEL);
    context.update(signed);
    context.sign()
}

/// Reads numbers off the front of bytes whose length was checked; past the end it reads zeros.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.0 = rest;
                *head
            }
            None => [0; N],
        }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

/// Why a datagram is refused. Nothing of this is told to whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// Not the one length that this kind has.
    #[error("datagram of {got} bytes where this kind has {want}")]
    Length {
        /// Bytes received.
        got: usize,
        /// Bytes that a whole one has.
        want: usize,
    },
    /// Wrong magic or version.
    #[error("not a datagram of this protocol and version")]
    NotOurs,
    /// Another kind than this socket takes.
    #[error("datagram of another kind")]
    Kind,
    /// Another cluster's.
    #[error("datagram of another cluster; is the port shared?")]
    Cluster,
    /// A key that is not live here.
    #[error(
        "datagram under key version {version}, which is not live here; give both nodes the same cluster key file"
    )]
    Key {
        /// What the datagram names.
        version: u32,
    },
    /// Forged or damaged.
    #[error("MAC does not hold; sender claims to be {sender}")]
    Mac {
        /// Who it claims to be.
        sender: u16,
    },
    /// A body that no node of ours writes, under a good MAC.
    #[error("field {field} of sender {sender} has no meaning: {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// Who.
        sender: u16,
        /// What it holds.
        value: u64,
    },
}
