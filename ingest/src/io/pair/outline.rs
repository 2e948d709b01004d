//! A publisher's connection as the books of the pair keep it: its TCP state, its first numbers, and how old this is.
//!
//! In: a look at the live connection, a SYN-ACK, or a full dump. Out: bytes for the books, and at the other node the state
//! to restore. Bytes are total: any of them give an `Outline` or an error. The date is on the clock of the node that took
//! it (`Pulse::now`), which the other node knows from its beats: a connection's timestamps must never step back.
//!
//! ```text
//! "RO" | version 1 | flags: 1 base known, 2 exact, 4 half open | received u32 | sent u32 | taken u64 ns | takeover::socket::TcpState
//! ```

use bytes::Bytes;
use std::net::TcpStream;
use std::time::Duration;
use takeover::hold::{Base, Flow, SynAck};
use takeover::socket::{Baseline, Error, Progress, TcpState, peek};
use thiserror::Error;

const MAGIC: [u8; 3] = *b"RO\x01";
const HEADER_LEN: usize = 20;

/// A connection, as of some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Everything the kernel knows; with queues when it is a full dump.
    pub state: TcpState,
    /// The first numbers behind the handshake; `None` where no packet hold has seen it.
    pub base: Option<Base>,
    /// When it was taken, on the clock of the node that took it.
    pub taken: Duration,
    /// A full dump of a frozen connection: this is what to restore, nothing has moved since.
    pub exact: bool,
    /// Only our SYN-ACK is known, not that the publisher has heard it.
    pub half_open: bool,
}

/// Bytes that are no outline.
#[derive(Debug, Error)]
pub enum OutlineError {
    /// Not ours.
    #[error("these bytes are no outline of a connection")]
    NotOne,
    /// The state in it is none.
    #[error(transparent)]
    State(#[from] Error),
}

impl Outline {
    /// Of a connection of which only our SYN-ACK was seen.
    pub fn of_syn_ack(flow: Flow, syn_ack: &SynAck, now: Duration) -> Outline {
        let state = Baseline::from_syn_ack(flow, syn_ack).as_state().clone();
        Outline { state, base: Some(syn_ack.base), taken: now, exact: false, half_open: true }
    }

    /// Of a live connection, which goes on.
    ///
    /// # Errors
    /// It is not established, or repair mode is not allowed.
    pub fn of_stream(stream: &TcpStream, base: Option<Base>, now: Duration) -> Result<Outline, Error> {
        Ok(Outline { state: peek(stream)?, base, taken: now, exact: false, half_open: false })
    }

    /// For the books.
    pub fn encode(&self) -> Bytes {
        let base = self.base.unwrap_or(Base { received: 0, sent: 0 });
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(self.base.is_some()) | u8::from(self.exact) << 1 | u8::from(self.half_open) << 2);
        bytes.extend_from_slice(&base.received.to_be_bytes());
        bytes.extend_from_slice(&base.sent.to_be_bytes());
        bytes.extend_from_slice(&u64::try_from(self.taken.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(&self.state.encode());
        bytes.into()
    }

    /// From the books.
    ///
    /// # Errors
    /// When they are not what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Outline, OutlineError> {
        let (header, state) = bytes.split_at_checked(HEADER_LEN).ok_or(OutlineError::NotOne)?;
        let (Some([m0, m1, m2, flags]), Some(received), Some(sent), Some(taken)) = (
            header.first_chunk::<4>(),
            header[4..].first_chunk().map(|word| u32::from_be_bytes(*word)),
            header[8..].first_chunk().map(|word| u32::from_be_bytes(*word)),
            header[12..].first_chunk().map(|word| u64::from_be_bytes(*word)),
        ) else {
            return Err(OutlineError::NotOne);
        };
        if [*m0, *m1, *m2] != MAGIC || *flags > 7 {
            return Err(OutlineError::NotOne);
        }
        let base = (*flags & 1 == 1).then_some(Base { received, sent });
        Ok(Outline {
            state: TcpState::decode(state)?,
            base,
            taken: Duration::from_nanos(taken),
            exact: *flags & 2 != 0,
            half_open: *flags & 4 != 0,
        })
    }

    /// Which connection.
    pub fn flow(&self) -> Flow {
        Flow { local: self.state.local, peer: self.state.peer }
    }

    /// The state that a survivor restores after its holder's death: `received` and `sent` count since the handshake, `age`
    /// is the time since the outline was taken. `None` where the first numbers are not known.
    pub fn survived(&self, received: u64, sent_from: u64, sent: &[u8], age: Duration) -> Option<TcpState> {
        let base = self.base?;
        let baseline = Baseline::new(self.state.clone(), base.received, base.sent);
        let progress = Progress { received, sent_from, sent, elapsed: age, receive_window: 0 };
        Some(baseline.resume(&progress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn_ack() -> (Flow, SynAck) {
        let flow =
            Flow { local: "192.0.2.1:1935".parse().unwrap(), peer: "192.0.2.9:50000".parse().unwrap() };
        let base = Base { received: u32::MAX - 1, sent: 7 };
        (flow, SynAck { base, segment_max: Some(1460), sack: true, scale: Some(7), timestamp: Some(1000) })
    }

    #[test]
    fn an_outline_reads_back_and_continues_behind_what_was_counted() {
        let (flow, syn_ack) = syn_ack();
        let outline = Outline::of_syn_ack(flow, &syn_ack, Duration::from_millis(5));
        let read = Outline::decode(&outline.encode()).unwrap();
        assert_eq!((&read, read.flow()), (&outline, flow));
        let state = read.survived(10, 3, b"abc", Duration::from_millis(40)).unwrap();
        assert_eq!((state.receive_next, state.write_next), (8, 13));
        assert_eq!((state.in_flight(), state.options.timestamp), (&b"abc"[..], Some(1140)));
        assert!(outline.half_open, "nobody knows whether it was heard");
        let blind = Outline { base: None, exact: true, half_open: false, ..outline };
        let read = Outline::decode(&blind.encode()).unwrap();
        assert_eq!((read.exact, read.half_open), (true, false));
        assert_eq!(read.survived(10, 3, b"abc", Duration::ZERO), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        let (flow, syn_ack) = syn_ack();
        let whole = Outline::of_syn_ack(flow, &syn_ack, Duration::ZERO).encode();
        for cut in 0..whole.len() {
            assert!(Outline::decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut other = whole.to_vec();
        other[1] = b'X';
        assert!(matches!(Outline::decode(&other), Err(OutlineError::NotOne)));
    }
}
