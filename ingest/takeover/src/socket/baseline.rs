//! The state of a connection whose host has died, from what its standby was told.
//!
//! In: a [`Baseline`], sent once a connection, and its [`Progress`], which the standby counts by itself. Out: a
//! [`TcpState`]. Pure. It is right because nothing was acknowledged to the peer, and nothing of ours reached it, beyond
//! what the standby has: that is the packet hold's promise (`hold`).

use super::state::{Options, TcpState, Window};
use crate::hold::{Flow, SynAck};
use std::time::Duration;

/// Added to the timestamp clock on top of the time that passed. The peer discards segments whose timestamp goes back
/// (RFC 7323, section 5), so the clock must never restart behind what the dead host last sent.
const CLOCK_MARGIN: Duration = Duration::from_millis(100);
/// The smallest receive window that a restored connection claims to have announced.
const RECEIVE_WINDOW_MIN: u32 = 65_535;
/// Segment size when only the SYN-ACK was seen, which does not say what the peer accepts: every host takes this
/// (RFC 9293, section 3.7.1 for IPv4; IPv6's minimum MTU less headers).
const SEGMENT_MAX_V4: u16 = 536;
const SEGMENT_MAX_V6: u16 = 1220;

/// What stays the same as long as a connection lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline(TcpState);

/// How far a connection had come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes received since the handshake.
    pub received: u64,
    /// Offset of the first byte of `sent` in all output since the handshake. Everything before must be acknowledged
    /// by the peer.
    pub sent_from: u64,
    /// The output from there to its end.
    pub sent: &'a [u8],
    /// Time since the baseline was taken.
    pub elapsed: Duration,
    /// The largest receive window the dead host may have announced, bytes; 0 when unknown.
    pub receive_window: u32,
}

impl Baseline {
    /// From a look at the live connection ([`peek`](super::peek)) and the first sequence numbers behind the handshake.
    pub fn new(outline: TcpState, first_received: u32, first_sent: u32) -> Self {
        Self(TcpState {
            receive_next: first_received,
            write_next: first_sent,
            unread: Vec::new(),
            unacknowledged: Vec::new(),
            unsent: 0,
            ..outline
        })
    }

    /// From our SYN-ACK alone, for a host that dies before the connection was accepted. What only the peer's SYN
    /// says is assumed at its least: that is slower, never wrong.
    pub fn from_syn_ack(flow: Flow, syn_ack: &SynAck) -> Self {
        let segment_max = if flow.local.is_ipv4() { SEGMENT_MAX_V4 } else { SEGMENT_MAX_V6 };
        Self(TcpState {
            local: flow.local,
            peer: flow.peer,
            options: Options {
                segment_max: segment_max.min(syn_ack.segment_max.unwrap_or(segment_max)),
                sack: syn_ack.sack,
                scale: syn_ack.scale.map(|receive| super::Scale { send: 0, receive }),
                // A segment's clock has no unit bit; milliseconds are the kernel's default.
                timestamp: syn_ack.timestamp.map(|clock| clock & !1),
            },
            receive_next: syn_ack.base.received,
            unread: Vec::new(),
            write_next: syn_ack.base.sent,
            unacknowledged: Vec::new(),
            unsent: 0,
            window: Some(Window {
                update: syn_ack.base.received.wrapping_sub(1),
                send: segment_max.into(),
                send_max: segment_max.into(),
                receive: RECEIVE_WINDOW_MIN,
                receive_update: syn_ack.base.received,
            }),
        })
    }

    /// The baseline as a state without queues, to be encoded for the link.
    pub fn as_state(&self) -> &TcpState {
        &self.0
    }

    /// The state to restore.
    pub fn resume(&self, progress: &Progress<'_>) -> TcpState {
        let base = &self.0;
        let receive_next = base.receive_next.wrapping_add(progress.received as u32);
        let sent_end = progress.sent_from.wrapping_add(progress.sent.len() as u64);
        let shift = base.options.scale.map_or(0, |scale| scale.receive.min(14));
        let window = base.window.map(|window| Window {
            update: receive_next.wrapping_sub(1),
            send: window.send,
            send_max: window.send_max.max(window.send),
            receive: window
                .receive
                .max(progress.receive_window)
                .max(RECEIVE_WINDOW_MIN)
                .min(RECEIVE_WINDOW_MIN << shift),
            receive_update: receive_next,
        });
        TcpState {
            options: Options {
                timestamp: base.options.timestamp.map(|clock| advance(clock, progress.elapsed)),
                ..base.options
            },
            receive_next,
            unread: Vec::new(),
            write_next: base.write_next.wrapping_add(sent_end as u32),
            unacknowledged: progress.sent.to_vec(),
            // All of it may have left: the peer may acknowledge any of it.
            unsent: 0,
            window,
            ..base.clone()
        }
    }
}

impl From<TcpState> for Baseline {
    /// A baseline that came over the link. Queues, if there are any, are dropped.
    fn from(state: TcpState) -> Self {
        let (received, sent) = (state.receive_next, state.write_next);
        Self::new(state, received, sent)
    }
}

/// The clock after some time, in its own unit (lowest bit: microseconds), plus the margin.
fn advance(clock: u32, elapsed: Duration) -> u32 {
    let unit = clock & 1;
    let time = elapsed + CLOCK_MARGIN;
    let ticks = if unit == 1 { time.as_micros() } else { time.as_millis() };
    clock.wrapping_add(ticks as u32) & !1 | unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::Base;
    use proptest::prelude::*;

    fn syn_ack(received: u32, sent: u32) -> Baseline {
        let flow =
            Flow { local: "192.0.2.1:1935".parse().unwrap(), peer: "192.0.2.9:50000".parse().unwrap() };
        let syn_ack = SynAck {
            base: Base { received, sent },
            segment_max: Some(1460),
            sack: true,
            scale: Some(7),
            timestamp: Some(1001),
        };
        Baseline::from_syn_ack(flow, &syn_ack)
    }

    proptest! {
        #[test]
        fn numbers_wrap_and_the_log_ends_at_the_next_byte(
            bases: (u32, u32), received in 0..1_u64 << 40, sent_from in 0..1_u64 << 40, sent: Vec<u8>, ms in 0..1_u64 << 30,
        ) {
            let base = syn_ack(bases.0, bases.1);
            let progress = Progress {
                received, sent_from, sent: &sent, elapsed: Duration::from_millis(ms), receive_window: 0,
            };
            let state = base.resume(&progress);
            prop_assert_eq!(state.receive_next, bases.0.wrapping_add(received as u32));
            let una = state.write_next.wrapping_sub(sent.len() as u32);
            prop_assert_eq!(una, bases.1.wrapping_add(sent_from as u32));
            prop_assert_eq!(state.in_flight(), &sent[..]);
            prop_assert_eq!(TcpState::decode(&state.encode()).unwrap(), state);
        }
    }

    #[test]
    fn the_clock_keeps_its_unit_and_never_goes_back() {
        assert_eq!(advance(1000, Duration::from_millis(7)), 1106);
        assert_eq!(advance(1001, Duration::from_millis(7)), 1001 + 107_000);
        assert_eq!(advance(u32::MAX - 1, Duration::ZERO), 98);
    }

    #[test]
    fn the_receive_window_stays_within_what_its_scale_can_say() {
        let progress = Progress {
            received: 0,
            sent_from: 0,
            sent: &[],
            elapsed: Duration::ZERO,
            receive_window: u32::MAX,
        };
        assert_eq!(syn_ack(1, 1).resume(&progress).window.unwrap().receive, 65_535 << 7);
    }
}
