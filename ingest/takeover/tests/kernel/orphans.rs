//! Connections of a former life, which are ended without a word.

use crate::support::allowed;
use crate::{connection, pair};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use takeover::hold::Rule;
use takeover::rights::Right;
use takeover::socket::{Frozen, Quiet, destroy_orphan, destroy_orphans};

#[test]
fn an_orphan_is_destroyed_once() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["127.0.0.1", "::1"] {
            let (server, mut client) = connection(ip);
            let ends = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            assert!(destroy_orphan(ends.0, ends.1).unwrap());
            assert!(!destroy_orphan(ends.0, ends.1).unwrap());
            assert!(client.read(&mut [0; 1]).is_err(), "a destroyed connection says so");
        }
    });
}

/// Found in the lab: the reset of an orphan that was destroyed during a takeover killed the connection that took its place.
#[test]
fn a_node_that_starts_removes_all_of_its_former_life() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let listener = TcpListener::bind(SocketAddr::new(ip, 0)).unwrap();
            let at = listener.local_addr().unwrap();
            let mut ends: Vec<_> =
                (0..3).map(|_| (TcpStream::connect(at).unwrap(), listener.accept().unwrap().0)).collect();
            assert_eq!(destroy_orphans(ip, at.port()).unwrap(), 3);
            assert_eq!(destroy_orphans(ip, at.port()).unwrap(), 0);
            assert!(ends.iter_mut().all(|(client, _)| client.read(&mut [0; 1]).is_err()));
            let _client = TcpStream::connect(at).unwrap();
            listener.accept().unwrap();
        }
    });
}

/// Found in the lab: where there was no orphan, the listener of the port was destroyed in its place.
#[test]
fn a_listener_is_no_orphan() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for (any, ip) in [("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
            let listener = TcpListener::bind(SocketAddr::new(any.parse().unwrap(), 0)).unwrap();
            let local = SocketAddr::new(ip.parse().unwrap(), listener.local_addr().unwrap().port());
            let stranger = SocketAddr::new(ip.parse().unwrap(), 50_000);
            assert!(!destroy_orphan(local, stranger).unwrap());
            let _client = TcpStream::connect(local).unwrap();
            listener.accept().unwrap();
        }
    });
}

#[test]
fn an_orphan_behind_the_rule_makes_way_for_its_own_connection() {
    if !allowed(&[Right::Repair, Right::PacketHold]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["127.0.0.1", "::1"] {
            let (server, mut client) = connection(ip);
            let dumped = Frozen::freeze(server).unwrap().dump().unwrap();
            let state = dumped.state().clone();
            let server = dumped.thaw().unwrap();
            let rule = Rule::install("releve_test", &[state.local.ip()], state.local.port(), 9).unwrap();
            drop(server); // as a killed process does; the FIN stays behind the rule
            assert!(Quiet::restore(&state).is_err(), "the orphan holds the four numbers");
            assert!(destroy_orphan(state.local, state.peer).unwrap());
            let quiet = Quiet::restore(&state).unwrap();
            rule.remove().unwrap();
            let mut server = quiet.go_live().unwrap().stream;
            server.write_all(b"back").unwrap();
            let mut word = [0; 4];
            client.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"back");
        }
    });
}
