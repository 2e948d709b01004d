//! Connections that move: frozen, dumped, restored, whole.

use crate::support::allowed;
use crate::{MOMENT, PATIENCE, connection, pair, pattern};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use takeover::rights::Right;
use takeover::socket::{Error, Frozen, Options, Quiet, Scale, TcpState, Window};

#[test]
fn a_frozen_connection_hears_nothing_and_thaws_whole() {
    if !allowed(&[Right::NetworkAdministration]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let (server, mut client) = connection("127.0.0.1");
        let frozen = Frozen::freeze(server).unwrap();
        client.write_all(b"hello").unwrap();
        std::thread::sleep(MOMENT);
        let refused = frozen.drain(&mut [0; 16]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        // All the way to the dump and back.
        let mut server = frozen.dump().unwrap().thaw().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut word = [0; 5];
        server.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hello");
    });
}

#[test]
fn what_met_the_freeze_is_counted_and_comes_again() {
    if !allowed(&[Right::NetworkAdministration]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let (mut server, mut client) = connection("127.0.0.1");
        client.set_nodelay(true).unwrap();
        // Twice on one socket: what the first freeze discarded is none of the second's.
        for words in [3, 0] {
            let frozen = Frozen::freeze(server).unwrap();
            (0..words).for_each(|_| client.write_all(b"hello").unwrap());
            let dumped = frozen.dump().unwrap();
            let until = Instant::now() + PATIENCE;
            while dumped.discarded() < words && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            // The client may have sent one of them again by now.
            let counted = dumped.discarded();
            assert!(counted >= words && (words > 0 || counted == 0), "{counted} of {words}");
            server = dumped.thaw().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = vec![0; 5 * words as usize];
            server.read_exact(&mut heard).unwrap();
            assert_eq!(heard, b"hello".repeat(words as usize));
        }
    });
}

#[test]
fn full_queues_move_whole_in_both_directions() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["127.0.0.1", "::1"] {
            let (mut server, mut client) = connection(ip);
            // More than the client's window and the send buffer take: unread, in flight and unsent are all there.
            let (up, down) = (pattern(300_000, 1), pattern(8_000_000, 2));
            client.write_all(&up).unwrap();
            server.set_nonblocking(true).unwrap();
            let mut written = 0;
            while let Ok(count) = server.write(&down[written..]) {
                written += count;
            }
            std::thread::sleep(MOMENT);
            let dumped = Frozen::freeze(server).unwrap().dump().unwrap();
            let state = TcpState::decode(&dumped.state().encode()).unwrap();
            assert!(state.unread.len() > 100_000 && state.unsent > 0, "{state:?}");
            dumped.depart().unwrap().close();
            let live = Quiet::restore(&state).unwrap().go_live().unwrap();
            let mut server = live.stream;
            let rest = [&live.tail[..], &down[written..]].concat();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut got = vec![0; up.len()];
                    (&server).read_exact(&mut got).unwrap();
                    assert!(got == up, "{ip}: the client's bytes changed");
                });
                scope.spawn(|| (&server).write_all(&rest).unwrap());
                let mut got = vec![0; down.len()];
                client.read_exact(&mut got).unwrap();
                assert!(got == down, "{ip}: the server's bytes changed");
            });
            // It still closes like any connection.
            server.flush().unwrap();
            drop(server);
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        }
    });
}

/// Two ends of a connection that never had a handshake: both restored, with numbers of our choice.
fn conjured(ip: &str, up: u32, down: u32) -> (TcpStream, TcpStream) {
    let ip: IpAddr = ip.parse().unwrap();
    let (server, client) = (SocketAddr::new(ip, 1935), SocketAddr::new(ip, 50_000));
    let end = |local, peer, receive_next, write_next| TcpState {
        local,
        peer,
        options: Options {
            segment_max: 1400,
            sack: true,
            scale: Some(Scale { send: 7, receive: 7 }),
            timestamp: Some(u32::MAX - 50),
        },
        receive_next,
        unread: Vec::new(),
        write_next,
        unacknowledged: Vec::new(),
        unsent: 0,
        window: Some(Window {
            update: receive_next.wrapping_sub(1),
            send: 65_535,
            send_max: 65_535,
            receive: 65_535,
            receive_update: receive_next,
        }),
    };
    let server_end = Quiet::restore(&end(server, client, up, down)).unwrap();
    let client_end = Quiet::restore(&end(client, server, down, up)).unwrap();
    let client = client_end.go_live().unwrap().stream;
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (server_end.go_live().unwrap().stream, client)
}

#[test]
fn many_moves_of_one_connection_while_its_numbers_wrap() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["127.0.0.1", "::1"] {
            // Both directions pass 2^32 in the middle of the run, at different moments, and the clock soon after.
            let (server, mut client) = conjured(ip, u32::MAX - 20_500, u32::MAX - 30_500);
            let mut server = Some(server);
            for round in 0..50_u8 {
                client.write_all(&pattern(1000, round)).unwrap();
                let dumped = Frozen::freeze(server.take().unwrap()).unwrap().dump().unwrap();
                let state = dumped.state().clone();
                dumped.depart().unwrap().close();
                let mut live = Quiet::restore(&state).unwrap().go_live().unwrap();
                let mut got = vec![0; 1000];
                live.stream.set_read_timeout(Some(PATIENCE)).unwrap();
                live.stream.read_exact(&mut got).unwrap();
                assert_eq!(got, pattern(1000, round));
                live.stream.write_all(&got).unwrap();
                client.read_exact(&mut got).unwrap();
                assert_eq!(got, pattern(1000, round));
                server = Some(live.stream);
            }
            let end = Frozen::freeze(server.unwrap()).unwrap().dump().unwrap().state().clone();
            assert!(end.receive_next < 40_000 && end.write_next < 40_000, "{ip}: both wrapped: {end:?}");
        }
    });
}

#[test]
fn what_is_dropped_after_the_dump_says_nothing() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let (server, mut client) = connection("127.0.0.1");
        let state = Frozen::freeze(server).unwrap().dump().unwrap().state().clone(); // dropped here
        drop(Quiet::restore(&state).unwrap()); // and so is what was never live
        client.set_read_timeout(Some(MOMENT)).unwrap();
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "neither FIN nor RST");
        // So the connection can still be built again.
        let mut live = Quiet::restore(&state).unwrap().go_live().unwrap();
        live.stream.write_all(b"x").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
    });
}

#[test]
fn a_half_closed_connection_stays_and_still_works() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let (server, mut client) = connection("127.0.0.1");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        std::thread::sleep(MOMENT);
        let kept = Frozen::freeze(server).unwrap().dump().unwrap_err();
        assert!(matches!(kept.error, Error::NotEstablished { .. }), "{}", kept.error);
        let mut server = kept.kept.thaw().unwrap();
        server.write_all(b"bye").unwrap();
        drop(server);
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "bye");
    });
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_moves_as_ipv4() {
    if !allowed(&[Right::Repair]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (server, _) = listener.accept().unwrap();
        let dumped = Frozen::freeze(server).unwrap().dump().unwrap();
        let state = dumped.state().clone();
        assert!(state.local.is_ipv4() && state.peer.is_ipv4(), "{state:?}");
        dumped.depart().unwrap().close();
        Quiet::restore(&state).unwrap().go_live().unwrap().stream.write_all(b"4").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
    });
}
