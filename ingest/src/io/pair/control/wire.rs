//! The election's sockets: one for each heartbeat path, one a family for the witnesses.
//!
//! In: what arrives, authentic or not. Out: beats and answers that hold, and sealed datagrams. Non-blocking; a datagram that
//! cannot be sent is lost, which the protocol expects.

use crate::config::pair::{BeatPath, PATHS_MAX, WitnessAt};
use crate::io::vacancy::{is_in_use, once_free};
use failover::beat::{BEAT_LEN, Beat};
use failover::vote::{ANSWER_LEN, Answer, Ask};
use failover::{ClusterId, WitnessId};
use releve_watermark::KeyRing;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;
use takeover::wait::{Bell, readable};

/// What fits into any socket's queue many times over: after a pause all of it is read before anything is decided.
const DRAIN_MAX: usize = 4096;
const WAITED: usize = PATHS_MAX + 3;

/// All sockets of one node's election.
#[derive(Debug)]
pub(super) struct Wire {
    keys: KeyRing,
    cluster: ClusterId,
    paths: Vec<(UdpSocket, SocketAddr)>,
    /// For IPv4 and IPv6 witnesses, where there are any.
    asks: [Option<UdpSocket>; 2],
    witnesses: Vec<(WitnessId, SocketAddr)>,
    /// Datagrams that did not hold.
    pub(super) refused: u64,
}

impl Wire {
    pub(super) fn open(
        keys: KeyRing,
        cluster: ClusterId,
        paths: &[BeatPath],
        witnesses: &[WitnessAt],
    ) -> Result<Wire, (SocketAddr, io::Error)> {
        let bind = |at: SocketAddr| {
            let bound = once_free(is_in_use, || UdpSocket::bind(at));
            let bound = bound.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            bound.map_err(|error| (at, error))
        };
        let asks = |v6: bool, any: IpAddr| {
            let some = witnesses.iter().any(|witness| witness.address.is_ipv6() == v6);
            some.then(|| bind((any, 0).into())).transpose()
        };
        Ok(Wire {
            paths: paths
                .iter()
                .map(|path| Ok((bind(path.local)?, path.peer)))
                .collect::<Result<_, (SocketAddr, io::Error)>>()?,
            asks: [asks(false, Ipv4Addr::UNSPECIFIED.into())?, asks(true, Ipv6Addr::UNSPECIFIED.into())?],
            witnesses: witnesses.iter().map(|witness| (WitnessId(witness.id), witness.address)).collect(),
            keys,
            cluster,
            refused: 0,
        })
    }

    /// Everything that has arrived.
    pub(super) fn drain(&mut self, mut beat: impl FnMut(&Beat), mut answer: impl FnMut(&Answer)) {
        let mut buffer = [0; 512];
        const { assert!(BEAT_LEN < 512 && ANSWER_LEN < 512) };
        for (socket, _) in &self.paths {
            for _ in 0..DRAIN_MAX {
                let Some(length) = receive(socket, &mut buffer) else { break };
                match Beat::open(&self.keys, self.cluster, &buffer[..length]) {
                    Ok(read) => beat(&read),
                    Err(_) => self.refused += 1,
                }
            }
        }
        for socket in self.asks.iter().flatten() {
            for _ in 0..DRAIN_MAX {
                let Some(length) = receive(socket, &mut buffer) else { break };
                match Answer::open(&self.keys, self.cluster, &buffer[..length]) {
                    Ok(read) => answer(&read),
                    Err(_) => self.refused += 1,
                }
            }
        }
    }

    /// The same beat on every path.
    pub(super) fn beat(&self, beat: &Beat) {
        for (path, (socket, peer)) in self.paths.iter().enumerate() {
            let beat = Beat { path: path as u8, ..*beat };
            let _ = socket.send_to(&beat.seal(&self.keys, self.cluster), peer);
        }
    }

    /// The same ask to every witness.
    pub(super) fn ask(&self, ask: &Ask) {
        let bytes = ask.seal(&self.keys, self.cluster);
        for (_, at) in &self.witnesses {
            if let Some(socket) = &self.asks[usize::from(at.is_ipv6())] {
                let _ = socket.send_to(&bytes, at);
            }
        }
    }

    /// Waits for a datagram, the bell, or the time.
    pub(super) fn wait(&self, bell: &Bell, limit: Duration) -> io::Result<()> {
        let mut open = [None; WAITED];
        let sockets = self.paths.iter().map(|(socket, _)| socket).chain(self.asks.iter().flatten());
        for (place, socket) in open.iter_mut().zip(sockets) {
            *place = Some(socket.as_fd());
        }
        open[WAITED - 1] = Some(bell.as_fd());
        readable(open, Some(limit)).map(drop)
    }
}

/// One datagram, if there is one. Errors of earlier sends show here; they are read like datagrams of no length.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<usize> {
    match socket.recv(buffer) {
        Ok(length) => Some(length),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(0),
    }
}
