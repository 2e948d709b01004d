//! How the two nodes say it: Hello, then frames under keys that only this link has.
//!
//! In: bytes of the link as they arrive, frames to send, 32 random bytes. Out: frames, bytes to send. Pure.
//!
//! ```text
//! Hello  "RLVM" | ver 1 | role 1 | node u16 | cluster u64 | epoch u64 | key version u32 | nonce 32 | HMAC-SHA-256 32
//! frame  length of body u32 | epoch u64 | counter u64 | body | AES-256-GMAC of all before it 16, its nonce the counter
//! ```
//!
//! Each way has its own key, HMAC(cluster key, label, way, both Hellos): bytes recorded on another link, or of the other
//! way, do not hold here, and neither end sends anything but a Ping before a frame of the other end has held. A recorded
//! Hello alone therefore learns and changes nothing. Counters start at 1 and rise by one, so no nonce is used twice (NIST SP
//! 800-38D, section 8). Every packet to a publisher waits for two of these, and a GMAC takes less time than an HMAC.
//!
//! Call [`Link::handle_bytes`], then [`Link::poll_frame`] until it gives `None`; [`Link::poll_transmit`] at any time.

use crate::frame::{BODY_MAX, Frame};
use crate::rule::{Rule, broken};
use crate::{Error, frame};
use bytes::{Buf, Bytes, BytesMut};
use releve_watermark::KeyRing;
use ring::{aead, hmac};
use std::collections::VecDeque;

const MAGIC: [u8; 4] = *b"RLVM";
const VERSION: u8 = 2;
const HELLO_LABEL: &[u8] = b"releve mirror hello 1\0";
const KEY_LABEL: &[u8] = b"releve mirror key 2\0";
/// Bytes of a Hello.
pub const HELLO_LEN: usize = 92;
const HELLO_SIGNED: usize = HELLO_LEN - 32;
const HEADER_LEN: usize = 20;
const MAC_LEN: usize = 16;
/// Bytes sealed at once; the rest waits as frames, whose bytes are shared with the logs.
const BATCH_BYTES: usize = 64 << 10;

const _: () = assert!(frame::PAYLOAD_MAX <= u16::MAX as usize);

/// Which books this end keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Has the publishers.
    Holder = 1,
    /// Follows.
    Standby = 2,
}

/// Who this end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster (`failover::ClusterId`).
    pub cluster: u64,
    /// This node (`failover::NodeId`).
    pub node: u16,
    /// What it does on this link.
    pub role: Role,
    /// The holder's epoch; the same at both ends, as long as the link lives.
    pub epoch: u64,
}

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    identity: Identity,
    keys: KeyRing,
    hello: [u8; HELLO_LEN],
    hello_sent: bool,
    received: BytesMut,
    /// The keys of this link, once the other Hello is here: ours to send with, theirs to check.
    session: Option<(Seal, Seal)>,
    proven: bool,
    sent: u64,
    read: u64,
    queue: VecDeque<Frame>,
    failed: Option<Error>,
}

impl Link {
    /// An end that has said nothing yet. `nonce` is random and never used again.
    pub fn new(identity: Identity, keys: KeyRing, nonce: [u8; 32]) -> Link {
        let key = keys.current();
        let mut hello = Vec::with_capacity(HELLO_LEN);
        hello.extend_from_slice(&MAGIC);
        hello.extend_from_slice(&[VERSION, identity.role as u8]);
        hello.extend_from_slice(&identity.node.to_be_bytes());
        hello.extend_from_slice(&identity.cluster.to_be_bytes());
        hello.extend_from_slice(&identity.epoch.to_be_bytes());
        hello.extend_from_slice(&key.version.to_be_bytes());
        hello.extend_from_slice(&nonce);
        let tag = mac(&hmac::Key::new(hmac::HMAC_SHA256, key.secret()), &[HELLO_LABEL, &hello]);
        hello.extend_from_slice(tag.as_ref());
        Link {
            identity,
            keys,
            hello: hello.try_into().expect("the fields above are 60 bytes, the MAC 32"),
            hello_sent: false,
            received: BytesMut::new(),
            session: None,
            proven: false,
            sent: 0,
            read: 0,
            queue: VecDeque::new(),
            failed: None,
        }
    }

    /// Who this end is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A frame of the other end has held.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Bytes from the link. A broken tail is kept until the rest of it comes.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The link is worth nothing any more: close it. Every later call says the same.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.next_frame().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.session.is_none() {
            let Some(hello) = self.received.first_chunk::<HELLO_LEN>().copied() else { return Ok(None) };
            self.session = Some(self.meet(&hello)?);
            self.received.advance(HELLO_LEN);
            self.queue.push_front(Frame::Ping);
        }
        let Some((_, theirs)) = &self.session else { return Ok(None) };
        let Some(header) = self.received.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let mut fields = &header[..];
        let (body_len, epoch, counter) = (fields.get_u32(), fields.get_u64(), fields.get_u64());
        let want = self.read + 1;
        if body_len as usize > BODY_MAX {
            return Err(Error::Length { what: "frame", got: body_len.into(), max: BODY_MAX as u64 });
        }
        let signed = HEADER_LEN + body_len as usize;
        if self.received.len() < signed + MAC_LEN {
            return Ok(None);
        }
        let bytes = self.received.split_to(signed + MAC_LEN).freeze();
        let (head, tag) = bytes.split_at(signed);
        if !theirs.holds(counter, head, tag) && !broken(Rule::CheckMac) {
            return Err(Error::Mac { counter: want });
        }
        if epoch != self.identity.epoch && !broken(Rule::OneEpoch) {
            return Err(Error::Epoch { ours: self.identity.epoch, theirs: epoch });
        }
        if counter != want {
            return Err(Error::Counter { want, got: counter });
        }
        self.read = want;
        self.proven = true;
        Frame::read(bytes.slice(HEADER_LEN..signed)).map(Some)
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, frame: Frame) {
        self.queue.push_back(frame);
    }

    /// Bytes for the link, `None` when there is nothing to say now.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.hello_sent, true) {
            return Some(Bytes::copy_from_slice(&self.hello));
        }
        let (ours, _) = self.session.as_ref()?;
        let mut out = Vec::new();
        while out.len() < BATCH_BYTES {
            // Before proof only the Ping that proves us.
            if !self.proven && self.sent > 0 {
                break;
            }
            let Some(frame) = self.queue.pop_front() else { break };
            self.sent += 1;
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&self.identity.epoch.to_be_bytes());
            out.extend_from_slice(&self.sent.to_be_bytes());
            frame.write(&mut out);
            let body_len = (out.len() - start - HEADER_LEN) as u32;
            out[start..start + 4].copy_from_slice(&body_len.to_be_bytes());
            let tag = ours.tag(self.sent, &out[start..]);
            out.extend_from_slice(tag.as_ref());
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// Checks the other Hello and makes the keys.
    fn meet(&self, hello: &[u8; HELLO_LEN]) -> Result<(Seal, Seal), Error> {
        let (signed, tag) = hello.split_at(HELLO_SIGNED);
        let mut fields = signed;
        let magic = fields.get_u32().to_be_bytes();
        let (version, role, node) = (fields.get_u8(), fields.get_u8(), fields.get_u16());
        let (cluster, epoch, key_version) = (fields.get_u64(), fields.get_u64(), fields.get_u32());
        if magic != MAGIC || version != VERSION {
            return Err(Error::NotOurs { version });
        }
        if cluster != self.identity.cluster {
            return Err(Error::Cluster);
        }
        let secret = self.keys.version(key_version).ok_or(Error::Key { version: key_version })?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.secret());
        let labelled = [HELLO_LABEL, signed].concat();
        hmac::verify(&secret, &labelled, tag).map_err(|_| Error::Mac { counter: 0 })?;
        let other = match self.identity.role {
            Role::Holder => Role::Standby,
            Role::Standby => Role::Holder,
        };
        if role != other as u8 || node == self.identity.node {
            return Err(Error::Role { node });
        }
        if epoch != self.identity.epoch {
            return Err(Error::Epoch { ours: self.identity.epoch, theirs: epoch });
        }
        // The holder's key: while keys change the two Hellos may name different ones.
        let (holder, standby) = match self.identity.role {
            Role::Holder => (&self.hello, hello),
            Role::Standby => (hello, &self.hello),
        };
        let secret = match self.identity.role {
            Role::Holder => hmac::Key::new(hmac::HMAC_SHA256, self.keys.current().secret()),
            Role::Standby => secret,
        };
        let derive = |role: Role| {
            let way = [role as u8];
            let parts = [KEY_LABEL, &way, holder, standby];
            let parts = if broken(Rule::FreshNonce) { &parts[..2] } else { &parts[..] };
            Seal::new(&mac(&secret, parts))
        };
        Ok((derive(self.identity.role), derive(other)))
    }
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

/// The key of one way.
#[derive(Debug)]
struct Seal(aead::LessSafeKey);

impl Seal {
    fn new(secret: &hmac::Tag) -> Seal {
        let key =
            aead::UnboundKey::new(&aead::AES_256_GCM, secret.as_ref()).expect("an HMAC-SHA-256 has 32 bytes");
        Seal(aead::LessSafeKey::new(key))
    }

    fn tag(&self, counter: u64, signed: &[u8]) -> aead::Tag {
        let sealed = self.0.seal_in_place_separate_tag(nonce(counter), aead::Aad::from(signed), &mut []);
        sealed.expect("a frame is shorter than 2^36 bytes")
    }

    fn holds(&self, counter: u64, signed: &[u8], tag: &[u8]) -> bool {
        let mut tag = tag.to_vec();
        self.0.open_in_place(nonce(counter), aead::Aad::from(signed), &mut tag).is_ok()
    }
}

fn nonce(counter: u64) -> aead::Nonce {
    let mut nonce = [0; aead::NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    aead::Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
