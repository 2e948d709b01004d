//! Each step against the real kernel, in anonymous network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod addresses;
mod guardians;
mod holds;
mod moves;
mod orphans;
#[path = "../support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use support::netns::Namespace;

/// Long enough for any retransmission timer, short enough to notice.
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(150);

/// A namespace with loopback and an Ethernet interface whose other end is in a second one.
fn pair() -> (Namespace, Namespace) {
    let (a, b) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    a.ip("link add eth0 type veth peer name eth0 netns {other}", Some(&b));
    for (space, host) in [(&a, 1), (&b, 2)] {
        space.ip("link set lo up", None);
        space.ip("link set eth0 up", None);
        space.ip(&format!("addr add 10.77.0.{host}/24 dev eth0"), None);
        space.ip(&format!("addr add fd77::{host}/64 dev eth0 nodad"), None);
    }
    (a, b)
}

fn connection(ip: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    (listener.accept().unwrap().0, client)
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}
