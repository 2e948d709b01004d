//! The packet hold: what is let out, and when.

use crate::support::allowed;
use crate::{MOMENT, PATIENCE, pair};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use takeover::hold::{Base, Confirmed, Event, Hold, Rule, Settings};
use takeover::rights::Right;

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
