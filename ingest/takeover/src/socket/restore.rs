//! Restore: build the connection again from its state, in silence, then let it speak.
//!
//! In: a [`TcpState`]. Out: [`Quiet`], complete and mute, and after [`Quiet::go_live`] a stream. Building needs no
//! address yet (the socket is transparent), so it runs while the address is still on its way.

use super::error::Error;
use super::repair::{self, Mute, Queue};
use super::state::{Scale, TcpState, Window};
use crate::error::Purpose;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, TcpStream};

/// TCP option numbers (RFC 9293, RFC 2018, RFC 7323).
const SEGMENT_MAX: u32 = 2;
const WINDOW_SCALE: u32 = 3;
const SACK_PERMITTED: u32 = 4;
const TIMESTAMPS: u32 = 8;

/// Windows and queues up to this size fit into every kernel's default buffers.
const BUFFER_DEFAULT: usize = 64 << 10;

/// A connection that is complete and mute. Dropped, it vanishes without a packet.
#[derive(Debug)]
pub struct Quiet {
    socket: Mute,
    tail: Vec<u8>,
}

/// A connection that speaks again.
#[derive(Debug)]
pub struct Live {
    /// The stream, blocking. Options of the program (no delay, keep-alive, time-outs) are the kernel's defaults.
    pub stream: TcpStream,
    /// Output of the old host that the send buffer did not take yet: write it before anything else.
    pub tail: Vec<u8>,
}

impl Quiet {
    /// Builds the connection. Sends nothing.
    ///
    /// # Errors
    /// The kernel refused a step, which is named; nothing remains.
    pub fn restore(state: &TcpState) -> Result<Self, Error> {
        if state.local.is_ipv4() != state.peer.is_ipv4() {
            return Err(Error::MixedFamilies { local: state.local, peer: state.peer });
        }
        let socket = Socket::new(Domain::for_address(state.local), Type::STREAM, Some(Protocol::TCP))
            .to("open a socket for a restored connection")?;
        // A listener is bound to the same port, and the address may still be on the other host.
        socket.set_reuse_address(true).to("share the port with the listener (SO_REUSEADDR)")?;
        match state.local.ip() {
            IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
            IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
        }
        .to("bind before the address is here (IP_TRANSPARENT)")?;
        repair::on(&socket).to("restore a connection (TCP_REPAIR)")?;
        // From here on a failure leaves nothing behind and says nothing.
        let socket = Mute::new(socket);
        make_room(&socket, state)?;
        socket.bind(&state.local.into()).to("bind a restored connection to the virtual address")?;
        // Sequence numbers at the beginning of each queue; refilling moves them to the end.
        let first_unread = state.receive_next.wrapping_sub(state.unread.len() as u32);
        let first_unacknowledged = state.write_next.wrapping_sub(state.unacknowledged.len() as u32);
        repair::set_sequence(&*socket, Queue::Receive, first_unread).to("set RCV.NXT (TCP_QUEUE_SEQ)")?;
        repair::set_sequence(&*socket, Queue::Send, first_unacknowledged)
            .to("set SND.UNA (TCP_QUEUE_SEQ)")?;
        // In repair mode this sends no SYN: the socket becomes established at once.
        socket.connect(&state.peer.into()).to("connect a restored connection in repair mode")?;
        set_options(&socket, state)?;
        refill(&socket, "receive", Queue::Receive, &state.unread)?;
        refill(&socket, "send", Queue::Send, state.in_flight())?;
        repair::select(&*socket, Queue::None).to("end the refill (TCP_REPAIR_QUEUE)")?;
        // After the queues: the kernel checks the window against RCV.NXT.
        if let Some(window) = state.window {
            let window = acceptable(window, state.receive_next);
            repair::set_window(&*socket, &window).to("set the windows (TCP_REPAIR_WINDOW)")?;
        }
        Ok(Self { socket, tail: state.unsent_bytes().to_vec() })
    }

    /// Lets the connection speak. The address must be on this host. The kernel sends a window probe, the peer answers
    /// it, and both know again where they are.
    ///
    /// # Errors
    /// The kernel refused to leave repair mode, or to take the unsent bytes.
    pub fn go_live(self) -> Result<Live, Error> {
        repair::off_with_probe(&self.socket).to("let a restored connection speak (TCP_REPAIR)")?;
        // Never-sent bytes must not go through repair mode: what is refilled there counts as sent.
        let mut written = 0;
        while written < self.tail.len() {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            match self.socket.send_with_flags(&self.tail[written..], flags) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(error).to("send what the old host had not sent").map_err(Error::from);
                }
            }
        }
        let (socket, mut tail) = (self.socket.release(), self.tail);
        repair::free_buffers(&socket);
        tail.drain(..written);
        Ok(Live { stream: socket.into(), tail })
    }
}

/// Buffers as large as the queues and the window that was already announced: else the kernel would drop what the peer
/// is allowed to send. Before connect, which derives the largest window from them.
fn make_room(socket: &Socket, state: &TcpState) -> Result<(), Error> {
    let announced = state.window.map_or(0, |window| window.receive as usize);
    let receive = state.unread.len() + announced;
    let send = state.unacknowledged.len();
    let wanted = |bytes: usize| if bytes > BUFFER_DEFAULT { bytes.saturating_mul(2) } else { 0 };
    repair::force_buffers(socket, wanted(receive), wanted(send))
        .to("make room in the buffers (SO_RCVBUFFORCE)")?;
    Ok(())
}

fn set_options(socket: &Socket, state: &TcpState) -> Result<(), Error> {
    let agreed = &state.options;
    // Always, also when there is no scaling: the kernel has chosen a shift of its own by now, and a wrong shift is a
    // connection that stalls in silence.
    let scale = agreed.scale.unwrap_or(Scale { send: 0, receive: 0 });
    let mut options = vec![(WINDOW_SCALE, u32::from(scale.send) | u32::from(scale.receive) << 16)];
    if agreed.sack {
        options.push((SACK_PERMITTED, 0));
    }
    if agreed.timestamp.is_some() {
        options.push((TIMESTAMPS, 0));
    }
    options.push((SEGMENT_MAX, agreed.segment_max.into()));
    repair::set_options(socket, &options).to("set what the handshake agreed (TCP_REPAIR_OPTIONS)")?;
    if let Some(clock) = agreed.timestamp {
        repair::set_timestamp(socket, clock).to("set the timestamp clock (TCP_TIMESTAMP)")?;
    }
    Ok(())
}

fn refill(socket: &Socket, name: &'static str, queue: Queue, bytes: &[u8]) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let taken = repair::refill(socket, queue, bytes).to("refill a queue in repair mode")?;
    if taken == bytes.len() { Ok(()) } else { Err(Error::Refill { queue: name, taken, length: bytes.len() }) }
}

/// The kernel refuses a window that contradicts itself or RCV.NXT. A state from the link may do so; bend it.
fn acceptable(window: Window, receive_next: u32) -> Window {
    let after = |a: u32, b: u32| (a.wrapping_sub(b) as i32) > 0;
    let mut window = window;
    window.send_max = window.send_max.max(window.send);
    if after(window.receive_update, receive_next) {
        window.receive_update = receive_next;
    }
    if after(window.update, receive_next.wrapping_add(window.receive)) {
        window.update = receive_next;
    }
    window
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_window_becomes_one_the_kernel_takes(words in any::<[u32; 4]>(), receive in 0..1_u32 << 30, next: u32) {
            let [update, send, send_max, receive_update] = words;
            let window = acceptable(Window { update, send, send_max, receive, receive_update }, next);
            let after = |a: u32, b: u32| (b.wrapping_sub(a) as i32) < 0;
            // The three conditions of tcp_repair_set_window.
            prop_assert!(window.send_max >= window.send);
            prop_assert!(!after(window.update, next.wrapping_add(window.receive)));
            prop_assert!(!after(window.receive_update, next));
        }
    }
}
