//! Each step against the real kernel, in anonymous network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::netns::Namespace;
use support::{allowed, example, skip};
use takeover::address::{Announcer, Announcing, Interface, Ownership};
use takeover::hold::{Base, Confirmed, Event, Hold, Rule, Settings};
use takeover::rights::Right;
use takeover::socket::{
    Error, Frozen, Options, Quiet, Scale, TcpState, Window, destroy_orphan, destroy_orphans,
};

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

#[test]
fn an_address_is_taken_once_and_given_up_once() {
    if !allowed(&[Right::NetworkAdministration]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["10.77.0.100", "fd77::100"] {
            let ip: IpAddr = ip.parse().unwrap();
            let usable = || TcpListener::bind(SocketAddr::new(ip, 0)).is_ok();
            let ownership = Ownership::prepare(ip, &Interface::named("eth0").unwrap()).unwrap();
            assert!(!usable());
            assert!(ownership.take().unwrap());
            assert!(!ownership.take().unwrap(), "taken twice is no error and no news");
            assert!(usable());
            assert!(ownership.give_up().unwrap());
            assert!(!ownership.give_up().unwrap());
            assert!(!usable());
        }
        assert!(matches!(Interface::named("none"), Err(takeover::address::Error::NoInterface { .. })));
    });
}

#[test]
fn a_foreign_claim_is_seen_and_answered() {
    if !allowed(&[Right::NetworkAdministration, Right::RawPackets]) {
        return;
    }
    let (a, b) = pair();
    for ip in ["10.77.0.100", "fd77::100"] {
        let announcing = || {
            let announcer =
                Announcer::prepare(ip.parse().unwrap(), &Interface::named("eth0").unwrap()).unwrap();
            Announcing::prepare(announcer).unwrap()
        };
        let (ours, theirs) = (a.enter(announcing), b.enter(announcing));
        ours.begin().unwrap();
        std::thread::sleep(MOMENT);
        assert_eq!(ours.claims().0, 0, "our own announcements are no claims");
        assert_eq!(theirs.claims().0, 0, "while the address is another's, claims are right");
        theirs.begin().unwrap();
        let until = Instant::now() + PATIENCE;
        while (ours.claims().0 == 0 || theirs.claims().0 == 0) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (count, last) = ours.claims();
        assert!(count > 0, "{ip}: the other host's claim was not seen");
        assert_eq!(last.unwrap().ip, ip.parse::<IpAddr>().unwrap());
        assert!(theirs.claims().0 > 0, "{ip}: the claim was not answered");
        theirs.cease();
        std::thread::sleep(MOMENT);
        let settled = ours.claims().0;
        std::thread::sleep(MOMENT);
        assert_eq!(ours.claims().0, settled, "{ip}: nothing is announced after the end");
    }
}

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

#[test]
fn without_a_listener_the_rule_lets_nothing_out() {
    if !allowed(&[Right::PacketHold]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let target = listener.local_addr().unwrap();
        let rule = Rule::install("releve_test", &[ip], target.port(), 7).unwrap();
        assert!(rule.is_installed().unwrap());
        if rule.is_owned() {
            // Others can neither replace nor flush what is ours.
            assert!(Rule::install("releve_test", &[ip], target.port(), 8).is_err());
            if let Ok(output) = Command::new("nft").args(["flush", "ruleset"]).output() {
                assert!(rule.is_installed().unwrap(), "{output:?}");
            }
        }
        assert!(TcpStream::connect_timeout(&target, MOMENT).is_err(), "a SYN-ACK escaped");
        // As after a kill: the owner is gone, the rule stays and can be inherited.
        drop(rule);
        assert!(TcpStream::connect_timeout(&target, MOMENT).is_err(), "the rule went with its owner");
        let rule = Rule::install("releve_test", &[ip, "::1".parse().unwrap()], target.port(), 7).unwrap();
        assert!(rule.is_installed().unwrap());
        rule.remove().unwrap();
        TcpStream::connect_timeout(&target, PATIENCE).unwrap();
    });
}

#[test]
fn the_hold_opens_only_for_what_is_confirmed() {
    if !allowed(&[Right::PacketHold]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for (queue, ip) in [(11, "127.0.0.1"), (12, "::1")] {
            let ip: IpAddr = ip.parse().unwrap();
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let target = listener.local_addr().unwrap();
            let (sender, events) = mpsc::channel();
            let hold = Hold::start(Settings::new(queue), move |event| sender.send(event).unwrap()).unwrap();
            assert!(
                matches!(
                    Hold::start(Settings::new(queue), |_| ()),
                    Err(takeover::hold::Error::QueueTaken { .. })
                ),
                "one queue, one listener"
            );
            let rule = Rule::install("releve_test", &[ip], target.port(), queue).unwrap();
            let connecting = std::thread::spawn(move || TcpStream::connect_timeout(&target, PATIENCE));
            let Event::Opened { flow, syn_ack } = events.recv_timeout(PATIENCE).unwrap();
            std::thread::sleep(MOMENT);
            assert!(!connecting.is_finished(), "the SYN-ACK escaped");
            hold.admit(flow, syn_ack.base);
            let mut client = connecting.join().unwrap().unwrap();
            assert_eq!(client.local_addr().unwrap(), flow.peer);
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(b"secret").unwrap();
            client.set_read_timeout(Some(MOMENT)).unwrap();
            assert!(client.read(&mut [0; 6]).is_err(), "unconfirmed output escaped");
            hold.confirm(&[(flow, syn_ack.base, Confirmed { received: 0, sent: 6 })]);
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut word = [0; 6];
            client.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"secret");
            let counts = hold.counts();
            assert!(counts.left >= 2 && counts.flows == 1, "{counts:?}");
            assert_eq!(hold.failure(), None);
            assert_ne!(syn_ack.base, Base { received: 0, sent: 0 });
            rule.remove().unwrap();
        }
    });
}

/// Also while nothing has to wait: a node that accepts a connection must know where its numbers begin.
#[test]
fn a_handshake_is_told_of_before_it_is_over() {
    if !allowed(&[Right::PacketHold]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let target = listener.local_addr().unwrap();
        let (sender, events) = mpsc::channel();
        let told = move |event| {
            std::thread::sleep(MOMENT);
            sender.send(event).unwrap();
        };
        let hold = Hold::start(Settings::new(13), told).unwrap();
        hold.set_solo(true);
        let rule = Rule::install("releve_test", &[ip], target.port(), 13).unwrap();
        let client = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
        let Ok(Event::Opened { flow, .. }) = events.try_recv() else { panic!("nobody was told") };
        assert_eq!(client.local_addr().unwrap(), flow.peer);
        rule.remove().unwrap();
    });
}

#[test]
fn the_guardian_hands_signals_on_and_removes_the_address() {
    if !allowed(&[Right::NetworkAdministration]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let interface = Interface::named("eth0").unwrap();
        for ip in ["10.77.0.100", "fd77::100"] {
            let ownership = Ownership::prepare(ip.parse().unwrap(), &interface).unwrap();
            ownership.take().unwrap();
            let mut guardian = Command::new(example("guarded"))
                .args(["eth0", ip, "/bin/sh", "-c", "echo up; exec sleep 1000"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = guardian.stdout.take().unwrap();
            output.read_exact(&mut [0; 3]).unwrap();
            let pid = i32::try_from(guardian.id()).unwrap();
            // SAFETY: plain numbers; the guardian is our child and not reaped.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
            let mut said = String::new();
            output.read_to_string(&mut said).unwrap();
            assert!(said.contains("removed=1"), "{said}");
            assert!(said.contains(&format!("signal: {}", libc::SIGTERM)), "{said}");
            let status = guardian.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (Some(0), None));
            assert!(!ownership.give_up().unwrap());
            println!("{ip}: {said}");
        }
    });
}

#[test]
fn an_heir_has_nothing_of_its_process_open_hears_nothing_and_ends_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// Dies with the test.
    struct Mortal(std::process::Child);
    impl Drop for Mortal {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let asked = [&listener.local_addr().unwrap().to_string(), "16", "heir"];
    let mut mortal = Mortal(Command::new(example("mortal")).args(asked).spawn().unwrap());
    let (mut link, _) = listener.accept().unwrap();
    let mut number = [0; 4];
    link.read_exact(&mut number).unwrap();
    let heir = format!("/proc/{}", u32::from_be_bytes(number));
    let open = || {
        std::fs::read_dir(format!("{heir}/fd")).unwrap().map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
    };
    let since = Instant::now();
    while open().collect::<Vec<_>>() != [Some("anon_inode:[pidfd]".into())] {
        assert!(since.elapsed() < PATIENCE, "the heir has open: {:?}", open().collect::<Vec<_>>());
        std::thread::sleep(MOMENT);
    }
    let status = std::fs::read_to_string(format!("{heir}/status")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(line("Name:"), "releve-heir");
    assert_eq!(line("PPid:"), mortal.0.id().to_string());
    // Every signal but the two that nobody can block, and the two that glibc keeps for threads.
    let deaf = u64::from_str_radix(line("SigBlk:"), 16).unwrap();
    assert_eq!(deaf | 1 << 8 | 1 << 18 | 3 << 31, u64::MAX, "{status}");
    // What the node allocates after it is its memory, too.
    assert!(line("VmRSS:").trim_end_matches(" kB").parse::<u64>().unwrap() > 16 << 10, "{status}");
    mortal.0.kill().unwrap();
    assert!(matches!(link.read(&mut [0; 1]), Ok(0) | Err(_)), "the connection ends with its process");
    mortal.0.wait().unwrap();
    let since = Instant::now();
    // Dead, or waiting to be reaped by whoever adopted it.
    while std::fs::read_to_string(format!("{heir}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(since.elapsed() < PATIENCE, "the heir lives on");
        std::thread::sleep(MOMENT);
    }
}

#[test]
fn nothing_works_by_accident_without_rights() {
    // Only meaningful for root, who can give rights up: a child without capabilities must be told what is missing.
    let probe = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--reuid=65534", "--clear-groups"])
        .arg(example("rights"))
        .output();
    let Ok(output) = probe else {
        skip("setpriv (util-linux) is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        skip(&format!("rights cannot be given up here: {}", String::from_utf8_lossy(&output.stderr)));
        return;
    }
    for word in ["CAP_NET_ADMIN", "CAP_NET_RAW", "TCP_REPAIR", "NFQUEUE"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(said.lines().filter(|line| line.contains(": no (")).count(), 6, "{said}");
}
