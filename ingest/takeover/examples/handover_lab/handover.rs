//! A host of the planned handover. Both hosts run the same program; who has the connection is the holder.

use crate::wire::{
    DOWN, HOST_A, LIFE_MAX, Link, noise, now, number, owed, poll, read_now, say, vip, wildcard,
};
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use takeover::address::{Announcer, Announcing, Interface, Ownership};
use takeover::socket::{Frozen, Quiet, TcpState};

const STATE: u8 = b'S';
const GO: u8 = b'G';
const DONE: u8 = b'D';

struct Node {
    link: Link,
    ownership: Ownership,
    announcing: Announcing,
    /// Both hosts write to one file, each at its offset.
    sink: File,
    connection: Option<TcpStream>,
    received: u64,
    produced: u64,
}

pub(crate) fn node(me: &str, v6: bool) {
    let listener = TcpListener::bind(wildcard(v6)).unwrap();
    let link = if me == "a" {
        TcpListener::bind(HOST_A).unwrap().accept().unwrap().0
    } else {
        (0..200)
            .find_map(|_| {
                std::thread::sleep(Duration::from_millis(20));
                TcpStream::connect(HOST_A).ok()
            })
            .expect("host A listens")
    };
    let interface = Interface::named("eth0").unwrap();
    let ownership = Ownership::prepare(vip(v6), &interface).unwrap();
    let announcing = Announcing::prepare(Announcer::prepare(vip(v6), &interface).unwrap()).unwrap();
    let sink = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(std::env::var("SINK").unwrap())
        .unwrap();
    let mut node = Node {
        link: Link::new(link),
        ownership,
        announcing,
        sink,
        connection: None,
        received: 0,
        produced: 0,
    };
    if me == "a" {
        node.ownership.take().unwrap();
        node.announcing.begin().unwrap();
    }
    say(format_args!("ready"));
    let stdin = std::io::stdin();
    let started = Instant::now();
    while started.elapsed() < LIFE_MAX {
        let waiting = [
            Some(stdin.as_fd()),
            Some(node.link.stream.as_fd()),
            Some(listener.as_fd()),
            node.connection.as_ref().map(AsFd::as_fd),
        ];
        let [command, word, newcomer, data] = poll(waiting, Duration::from_secs(1));
        if data {
            node.consume();
        }
        if newcomer {
            let (stream, _) = listener.accept().unwrap();
            node.connection = Some(stream);
        }
        if word {
            if !node.link.fill() {
                return;
            }
            while let Some((kind, body)) = node.link.take() {
                assert_eq!(kind, STATE);
                node.take_over(&body);
            }
        }
        if command {
            let mut line = String::new();
            if stdin.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            node.hand_over();
        }
    }
}

impl Node {
    fn store(&mut self, bytes: &[u8]) {
        self.sink.write_all_at(bytes, self.received).unwrap();
        self.received += bytes.len() as u64;
    }

    fn consume(&mut self) {
        let Some(stream) = self.connection.take() else { return };
        let mut buffer = vec![0; 1 << 18];
        match read_now(&stream, &mut buffer) {
            Ok(0) => {
                say(format_args!("end received={}", self.received));
                return; // closes
            }
            Ok(count) => self.store(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return say(format_args!("broken {error}")),
        }
        self.connection = Some(stream);
        self.produce();
    }

    fn produce(&mut self) {
        let owed = owed(self.received) - self.produced;
        if let Some(stream) = &mut self.connection {
            stream.write_all(&noise(DOWN, self.produced, owed as usize)).unwrap();
            self.produced += owed;
        }
    }

    fn hand_over(&mut self) {
        let Some(stream) = self.connection.take() else { return say(format_args!("nothing to hand over")) };
        let start = now();
        let frozen = Frozen::freeze(stream).unwrap();
        let mut buffer = vec![0; 1 << 18];
        while let Ok(count @ 1..) = frozen.drain(&mut buffer) {
            self.store(&buffer[..count]);
        }
        let dumped = frozen.dump().unwrap();
        let counters = [start, self.received, self.produced].map(u64::to_be_bytes).concat();
        self.link.send(STATE, &[&counters, &dumped.state().encode()]).unwrap();
        let dumped_at = now();
        self.announcing.cease();
        self.ownership.give_up().unwrap();
        let departed = dumped.depart().unwrap();
        self.link.send(GO, &[]).unwrap();
        let told = now();
        assert_eq!(self.link.receive().unwrap().0, DONE);
        departed.close();
        say(format_args!(
            "gone dump_us={} leave_us={}",
            (dumped_at - start) / 1000,
            (told - dumped_at) / 1000
        ));
    }

    fn take_over(&mut self, body: &[u8]) {
        let got = now();
        let start = number(body);
        (self.received, self.produced) = (number(&body[8..]), number(&body[16..]));
        let state = TcpState::decode(&body[24..]).unwrap();
        let quiet = Quiet::restore(&state).unwrap();
        let restored = now();
        assert_eq!(self.link.receive().unwrap().0, GO);
        let go = now();
        self.ownership.take().unwrap();
        let mut live = quiet.go_live().unwrap();
        let end = now();
        self.announcing.begin().unwrap();
        self.link.send(DONE, &[]).unwrap();
        live.stream.write_all(&live.tail).unwrap();
        self.connection = Some(live.stream);
        self.produce();
        say(format_args!(
            "live blackout_us={} restore_us={} go_us={} unread={} in_flight={} unsent={}",
            (end - start) / 1000,
            (restored - got) / 1000,
            (end - go) / 1000,
            state.unread.len(),
            state.in_flight().len(),
            state.unsent
        ));
    }
}
