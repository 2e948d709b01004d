//! One viewer's TLS, from the first byte to close_notify.
//!
//! Bytes in: `room`, `received`, then `advance` until it gives nothing, `plaintext` and `consumed` between. Bytes out: `seal`
//! when nothing is `unsent`, then `unsent` and `wrote`, which says how many bytes of answers have gone. `close_notify` is the
//! last word, `close` the last call. After an error only `unsent` is of use: it may hold the alert for the client.

use super::buffers::{Inbound, Outbound, Pool, SEALED_BYTES_MAX};
use super::channel::{Channel, Opened};
use super::handshake::{self, Progress};
use super::record::{CLOSE_NOTIFY, TlsError, whole_record};
use rustls::ServerConfig;
use std::io::IoSlice;
use std::sync::Arc;

/// A viewer's TLS connection.
pub struct Session {
    stage: Stage,
    inbound: Option<Box<Inbound>>,
    /// The beginning of a record, while no more of it comes: so short that a buffer for it would be a waste.
    begun: Vec<u8>,
    outbound: Option<Box<Outbound>>,
    ended: bool,
    http2: bool,
}

/// Bytes of an incomplete record that are kept without a buffer: whoever sends a few bytes and waits holds those few.
const BEGUN_BYTES_MAX: usize = 2 << 10;

enum Stage {
    Handshake(Box<handshake::Handshake>),
    Open(Box<Channel>),
    Failed,
}

/// What came of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is under way.
    UnderWay,
    /// It is done, with a new secret.
    Full,
    /// It is done, from a ticket.
    Resumed,
}

impl Session {
    /// A connection that has just been accepted.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, TlsError> {
        let stage = Stage::Handshake(Box::new(handshake::Handshake::new(config)?));
        Ok(Session { stage, inbound: None, begun: Vec::new(), outbound: None, ended: false, http2: false })
    }

    /// Whether answers can be sealed.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Whether the client has chosen HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// Whether the client has said that it sends no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Room for bytes that come. None while plaintext waits for a taker.
    pub fn room(&mut self, pool: &mut Pool) -> &mut [u8] {
        let begun = &mut self.begun;
        let inbound = self.inbound.get_or_insert_with(|| {
            let (mut inbound, begun) = (pool.lend_inbound(), std::mem::take(begun));
            inbound.room()[..begun.len()].copy_from_slice(&begun);
            inbound.received(begun.len());
            inbound
        });
        inbound.room()
    }

    /// `count` bytes have come into the room.
    pub fn received(&mut self, pool: &mut Pool, count: usize) {
        if let Some(inbound) = &mut self.inbound {
            inbound.received(count);
        }
        self.give_back(pool);
    }

    /// Goes on with what has come; what the handshake is now, if it was under way. Plaintext may have come of it.
    ///
    /// # Errors
    /// When the connection cannot go on. What is `unsent` then is worth an attempt.
    pub fn advance(&mut self, pool: &mut Pool) -> Result<Option<Handshake>, TlsError> {
        let Some(inbound) = &mut self.inbound else { return Ok(None) };
        let outbound = self.outbound.get_or_insert_with(|| pool.lend_outbound());
        let done = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Handshake(shaking) => match shaking.advance(inbound, outbound)? {
                Progress::Waits(shaking) => {
                    self.stage = Stage::Handshake(shaking);
                    Handshake::UnderWay
                }
                Progress::Done(channel, resumed, http2) => {
                    self.http2 = http2;
                    self.stage = Stage::Open(channel);
                    if resumed { Handshake::Resumed } else { Handshake::Full }
                }
            },
            Stage::Open(mut channel) => {
                self.ended |= open(&mut channel, inbound, outbound)?;
                self.stage = Stage::Open(channel);
                self.give_back(pool);
                return Ok(None);
            }
            Stage::Failed => return Err(TlsError::Over),
        };
        self.give_back(pool);
        Ok(Some(done))
    }

    /// What came and is to be taken.
    pub fn plaintext(&self) -> &[u8] {
        self.inbound.as_ref().map_or(&[], |inbound| inbound.plaintext())
    }

    /// Whether something came that `advance` has not looked at, be it that a record is incomplete.
    pub fn has_raw(&mut self) -> bool {
        self.inbound.as_mut().is_some_and(|inbound| !inbound.raw().is_empty())
    }

    /// The first `count` bytes of the plaintext are taken.
    pub fn consumed(&mut self, pool: &mut Pool, count: usize) {
        if let Some(inbound) = &mut self.inbound {
            inbound.plain.start = (inbound.plain.start + count).min(inbound.plain.end);
        }
        self.give_back(pool);
    }

    /// Whether so many bytes can be sealed behind what is unsent: it is not begun, and not too much.
    pub fn has_room_to_seal(&self, len: usize) -> bool {
        self.outbound.as_ref().is_none_or(|outbound| outbound.has_room_for(len))
    }

    /// Seals bytes of an answer, from its first unsent one on, up to `SEALED_BYTES_MAX`. Nothing may be unsent, unless there
    /// is room to seal behind it.
    ///
    /// # Errors
    /// Before the handshake is done, and when the keys are used up.
    pub fn seal(&mut self, pool: &mut Pool, slices: &[IoSlice<'_>]) -> Result<(), TlsError> {
        let Stage::Open(channel) = &mut self.stage else { return Err(TlsError::Over) };
        let outbound = self.outbound.get_or_insert_with(|| pool.lend_outbound());
        debug_assert!(outbound.is_untouched(), "an answer is sealed once");
        channel.seal(slices, SEALED_BYTES_MAX, outbound)
    }

    /// Says that nothing more comes.
    pub fn close_notify(&mut self, pool: &mut Pool) {
        if let Stage::Open(channel) = &mut self.stage {
            channel.alert(CLOSE_NOTIFY, self.outbound.get_or_insert_with(|| pool.lend_outbound()));
        }
    }

    /// Bytes for the socket.
    pub fn unsent(&self) -> &[u8] {
        self.outbound.as_ref().map_or(&[], |outbound| outbound.unsent())
    }

    /// The kernel took the first `count` of them: how many bytes of answers that makes.
    pub fn wrote(&mut self, pool: &mut Pool, count: usize) -> usize {
        let plain = self.outbound.as_mut().map_or(0, |outbound| outbound.wrote(count));
        self.give_back(pool);
        plain
    }

    /// The last call: gives the buffers back.
    pub fn close(mut self, pool: &mut Pool) {
        pool.take_back(self.inbound.take(), self.outbound.take());
    }

    /// No more comes for now: what is incomplete and short needs no buffer meanwhile.
    pub fn rest(&mut self, pool: &mut Pool) {
        if let Some(inbound) =
            self.inbound.take_if(|held| held.plain.is_empty() && held.raw().len() <= BEGUN_BYTES_MAX)
        {
            self.begun.extend_from_slice(inbound.raw_bytes());
            pool.take_back(Some(inbound), None);
        }
    }

    fn give_back(&mut self, pool: &mut Pool) {
        let inbound = self.inbound.take_if(|held| held.is_empty());
        let outbound = self.outbound.take_if(|held| held.unsent().is_empty());
        pool.take_back(inbound, outbound);
    }

    /// As if our key had sealed almost all it may.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, left: u64) {
        if let Stage::Open(channel) = &mut self.stage {
            channel.wear_out(left);
        }
    }
}

/// Opens records until there is plaintext or nothing whole is left. Whether the client has said that it sends no more.
fn open(channel: &mut Channel, inbound: &mut Inbound, outbound: &mut Outbound) -> Result<bool, TlsError> {
    while inbound.plain.is_empty() {
        let opened = match whole_record(inbound.raw()) {
            Ok(None) => return Ok(false),
            Ok(Some(record)) => {
                let len = record.end;
                channel.open(&mut inbound.raw()[record], outbound).map(|opened| (opened, len))
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok((Opened::Data(plain), len)) => inbound.opened(len, plain),
            Ok((Opened::Nothing, len)) => inbound.opened(len, 0..0),
            Ok((Opened::End, _)) => {
                // What comes after the end is nobody's (RFC 8446 §6.1).
                let rest = inbound.raw().len();
                inbound.opened(rest, 0..0);
                return Ok(true);
            }
            Err(error) => {
                if let TlsError::Record(alert) = error {
                    channel.alert(alert, outbound);
                }
                return Err(error);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
