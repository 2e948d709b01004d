//! Holder and standby of the unplanned takeover: every byte is mirrored, and with the hold nothing is acknowledged
//! before the standby has it. The guardian starts the holder and removes the address when it dies.

use crate::wire::{
    BEAT_A, BEAT_B, DOWN, HOST_A, LIFE_MAX, Link, PORT, QUEUE, noise, now, number, owed, poll, read_now, say,
    vip, wildcard,
};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use takeover::address::{Announcer, Announcing, Interface, Ownership};
use takeover::guardian;
use takeover::hold::{Confirmed, Event, Flow, Hold, Rule, Settings, SynAck};
use takeover::socket::{Baseline, Progress, Quiet, TcpState, peek};

/// Holder to standby: the connection begins; more is known about it; input; output; the peer's end.
const OPEN: u8 = b'O';
const KNOWN: u8 = b'N';
const INPUT: u8 = b'I';
const OUTPUT: u8 = b'W';
const END: u8 = b'E';
/// Standby to holder: the connection is known; this much is here.
const ADMIT: u8 = b'A';
const CONFIRM: u8 = b'C';

const BEAT: Duration = Duration::from_millis(5);
const DEAD: Duration = Duration::from_millis(35);
const LAG: Duration = Duration::from_millis(30);
/// Heartbeats only; the data plane stays under the ordinary policy.
const BEAT_PRIORITY: u8 = 50;

pub(crate) fn guardian(v6: bool, arguments: &[String]) {
    let ownership = Ownership::prepare(vip(v6), &Interface::named("eth0").unwrap()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("role-holder").args(&arguments[1..]);
    let ended = guardian::watch(&mut command, &[ownership]).unwrap();
    say(format_args!("guardian removed={} took_us={}", ended.removed, ended.took.as_micros()));
}

struct Holder {
    link: Link,
    hold: Hold,
    /// Frames that wait for their time: the injected lag of the control run.
    late: VecDeque<(Instant, u8, Vec<u8>)>,
    lag: Duration,
    opened: Option<(Flow, SynAck)>,
    connection: Option<TcpStream>,
    received: u64,
    produced: u64,
}

pub(crate) fn holder(v6: bool, protect: bool, lag: bool) {
    let interface = Interface::named("eth0").unwrap();
    // First of all descriptors: the kernel closes those of a dead process newest first, and a packet socket takes it
    // 5 to 15 ms. The link to the standby is the newest, so the standby sees its end at once.
    let announcing = Announcing::prepare(Announcer::prepare(vip(v6), &interface).unwrap()).unwrap();
    let listener = TcpListener::bind(wildcard(v6)).unwrap();
    let (events, opened) = mpsc::sync_channel(64);
    let (mut bell, heard) = UnixStream::pair().unwrap();
    let hold = Hold::start(Settings::new(QUEUE), move |event| {
        if events.try_send(event).is_ok() {
            let _ = bell.write_all(&[1]);
        }
    })
    .unwrap();
    // Without protection the same machinery runs, but lets everything pass at once.
    hold.set_solo(!protect);
    let rule = Rule::install("releve_lab", &[vip(v6)], PORT, QUEUE).unwrap();
    assert!(rule.is_installed().unwrap());
    Ownership::prepare(vip(v6), &interface).unwrap().take().unwrap();
    announcing.begin().unwrap();
    std::thread::spawn(beat);
    let link = Link::new(TcpListener::bind(HOST_A).unwrap().accept().unwrap().0);
    say(format_args!(
        "ready pid={} target={:?} owned={}",
        std::process::id(),
        rule.target(),
        rule.is_owned()
    ));
    let mut holder = Holder {
        link,
        hold,
        late: VecDeque::new(),
        lag: if lag { LAG } else { Duration::ZERO },
        opened: None,
        connection: None,
        received: 0,
        produced: 0,
    };
    let stdin = std::io::stdin();
    let started = Instant::now();
    while started.elapsed() < LIFE_MAX {
        let limit = holder.send_due();
        let waiting = [
            Some(stdin.as_fd()),
            Some(holder.link.stream.as_fd()),
            Some(heard.as_fd()),
            Some(listener.as_fd()),
            holder.connection.as_ref().map(AsFd::as_fd),
        ];
        let [command, word, news, newcomer, data] = poll(waiting, limit);
        if command || (word && !holder.hear()) {
            return;
        }
        if news || (newcomer && holder.opened.is_none()) {
            // Without protection the connection may be complete before its news is read.
            let _ = (&heard).read(&mut [0; 64]);
            for Event::Opened { flow, syn_ack } in opened.try_iter() {
                holder.opened = Some((flow, syn_ack));
                holder.replicate(OPEN, Baseline::from_syn_ack(flow, &syn_ack).as_state().encode());
            }
        }
        if newcomer {
            let (stream, _) = listener.accept().unwrap();
            let (_, syn_ack) = holder.opened.expect("the SYN-ACK came first");
            let known = Baseline::new(peek(&stream).unwrap(), syn_ack.base.received, syn_ack.base.sent);
            holder.replicate(KNOWN, known.as_state().encode());
            holder.connection = Some(stream);
        }
        if data {
            holder.consume();
        }
    }
}

/// The holder's heartbeat, on a thread of its own.
fn beat() {
    let _ = takeover::realtime::fifo(BEAT_PRIORITY);
    let socket = UdpSocket::bind(BEAT_A).unwrap();
    loop {
        let _ = socket.send_to(&[1], BEAT_B);
        std::thread::sleep(BEAT);
    }
}

impl Holder {
    fn replicate(&mut self, kind: u8, body: Vec<u8>) {
        self.late.push_back((Instant::now() + self.lag, kind, body));
        self.send_due();
    }

    /// Sends what is due; gives the time until the next.
    fn send_due(&mut self) -> Duration {
        while let Some((due, kind, body)) = self.late.front() {
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return left.max(Duration::from_millis(1));
            }
            let _ = self.link.send(*kind, &[body]);
            self.late.pop_front();
        }
        Duration::from_secs(1)
    }

    fn hear(&mut self) -> bool {
        let alive = self.link.fill();
        while let Some((kind, body)) = self.link.take() {
            let (flow, syn_ack) = self.opened.expect("the standby speaks about the connection");
            if kind == ADMIT {
                self.hold.admit(flow, syn_ack.base);
            } else {
                let has = Confirmed { received: number(&body), sent: number(&body[8..]) };
                self.hold.confirm(&[(flow, syn_ack.base, has)]);
            }
        }
        alive
    }

    fn consume(&mut self) {
        let Some(mut stream) = self.connection.take() else { return };
        let mut buffer = vec![0; 1 << 18];
        match read_now(&stream, &mut buffer) {
            Ok(0) => {
                self.replicate(END, Vec::new());
                let waits = self.hold.waits();
                let counts = self.hold.counts();
                return say(format_args!(
                    "end received={} waited_us={} waited_max_us={} packets={}",
                    self.received,
                    waits.mean().as_micros(),
                    waits.longest().as_micros(),
                    counts.left
                ));
            }
            Ok(count) => {
                self.received += count as u64;
                self.replicate(INPUT, buffer[..count].to_vec());
                let more = noise(DOWN, self.produced, (owed(self.received) - self.produced) as usize);
                // The standby must know of output before the peer can acknowledge it: mirrored first, written then.
                self.produced += more.len() as u64;
                self.replicate(OUTPUT, more.clone());
                stream.write_all(&more).unwrap();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return say(format_args!("broken {error}")),
        }
        self.connection = Some(stream);
    }
}

struct Standby {
    link: Option<Link>,
    sink: File,
    baseline: Option<(Baseline, Instant)>,
    received: u64,
    output: Vec<u8>,
    ended: bool,
}

pub(crate) fn standby(v6: bool) {
    let listener = TcpListener::bind(wildcard(v6)).unwrap();
    let beats = UdpSocket::bind(BEAT_B).unwrap();
    beats.set_nonblocking(true).unwrap();
    let link = (0..200)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TcpStream::connect(HOST_A).ok()
        })
        .expect("the holder listens");
    let interface = Interface::named("eth0").unwrap();
    let ownership = Ownership::prepare(vip(v6), &interface).unwrap();
    let announcing = Announcing::prepare(Announcer::prepare(vip(v6), &interface).unwrap()).unwrap();
    let sink =
        File::options().write(true).create(true).truncate(true).open(std::env::var("SINK").unwrap()).unwrap();
    let mut standby = Standby {
        link: Some(Link::new(link)),
        sink,
        baseline: None,
        received: 0,
        output: Vec::new(),
        ended: false,
    };
    say(format_args!("ready"));
    let stdin = std::io::stdin();
    let started = Instant::now();
    let mut last_beat: Option<Instant> = None;
    let reason = loop {
        let Some(link) = &standby.link else { break "lost" };
        let limit = last_beat.map_or(Duration::from_secs(1), |last| DEAD.saturating_sub(last.elapsed()));
        let waiting = [Some(stdin.as_fd()), Some(link.stream.as_fd()), Some(beats.as_fd())];
        let [command, word, _] = poll(waiting, limit.max(Duration::from_millis(1)));
        if command || started.elapsed() > LIFE_MAX {
            return say(format_args!("end received={}", standby.received));
        }
        // Our own lateness is not the holder's death: what waits in the socket counts as heard now.
        while beats.recv(&mut [0; 8]).is_ok() {
            last_beat = Some(Instant::now());
        }
        if word && !standby.hear() {
            break "eof";
        }
        if last_beat.is_some_and(|last| last.elapsed() > DEAD) {
            break "silence";
        }
    };
    let detected = now();
    // Take what the holder had already mirrored, then never listen to it again.
    if let Some(link) = &standby.link {
        link.stream.set_nonblocking(true).unwrap();
        while standby.link.is_some() && standby.hear() {}
    }
    standby.link = None;
    let mut connection = None;
    if let Some((baseline, taken)) = standby.baseline.as_ref().filter(|_| !standby.ended) {
        let progress = Progress {
            received: standby.received,
            sent_from: 0,
            sent: &standby.output,
            elapsed: taken.elapsed(),
            receive_window: 0,
        };
        let quiet = Quiet::restore(&baseline.resume(&progress)).unwrap();
        ownership.take().unwrap();
        let mut live = quiet.go_live().unwrap();
        live.stream.write_all(&live.tail).unwrap();
        connection = Some(live.stream);
    } else {
        ownership.take().unwrap();
    }
    let live_at = now();
    announcing.begin().unwrap();
    say(format_args!(
        "live reason={reason} detected={detected} at={live_at} takeover_us={} received={}",
        (live_at - detected) / 1000,
        standby.received
    ));
    standby.serve(&listener, connection);
}

impl Standby {
    /// Reads what the holder sent; `false` when there is no more.
    fn hear(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let alive = link.fill();
        let mut news = false;
        while let Some((kind, body)) = link.take() {
            news = true;
            match kind {
                OPEN | KNOWN => {
                    self.baseline = Some((TcpState::decode(&body).unwrap().into(), Instant::now()));
                    if kind == OPEN {
                        (self.received, self.ended) = (0, false);
                        self.output.clear();
                        let _ = link.send(ADMIT, &[]);
                    }
                }
                INPUT => {
                    self.sink.write_all_at(&body, self.received).unwrap();
                    self.received += body.len() as u64;
                }
                OUTPUT => self.output.extend(&body),
                _ => self.ended = true,
            }
        }
        if news {
            // A FIN counts one, on both sides.
            let one = u64::from(self.ended);
            let counts = [self.received + one, self.output.len() as u64 + one].map(u64::to_be_bytes).concat();
            let _ = link.send(CONFIRM, &[&counts]);
        }
        alive
    }

    /// As holder without a standby.
    fn serve(&mut self, listener: &TcpListener, mut connection: Option<TcpStream>) {
        let stdin = std::io::stdin();
        let mut first = true;
        let mut produced = self.output.len() as u64;
        let mut buffer = vec![0; 1 << 18];
        let started = Instant::now();
        while started.elapsed() < LIFE_MAX {
            let waiting = [Some(stdin.as_fd()), Some(listener.as_fd()), connection.as_ref().map(AsFd::as_fd)];
            let [command, newcomer, data] = poll(waiting, Duration::from_secs(1));
            if command {
                return;
            }
            if newcomer {
                // The publisher that lost its connection would come back here; the lab's does not.
                drop(listener.accept());
            }
            let Some(stream) = connection.as_mut().filter(|_| data) else { continue };
            match read_now(stream, &mut buffer) {
                Ok(0) => {
                    say(format_args!("end received={}", self.received));
                    connection = None;
                }
                Ok(count) => {
                    if std::mem::take(&mut first) {
                        say(format_args!("first at={}", now()));
                    }
                    self.sink.write_all_at(&buffer[..count], self.received).unwrap();
                    self.received += count as u64;
                    let more = owed(self.received).saturating_sub(produced);
                    stream.write_all(&noise(DOWN, produced, more as usize)).unwrap();
                    produced += more;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    say(format_args!("broken {error}"));
                    connection = None;
                }
            }
        }
    }
}
