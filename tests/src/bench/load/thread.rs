//! The thread of one process of the load generator: its viewers' sockets, one epoll, one calendar.
//!
//! In: which viewers, and the stage of the run. Out: their part of the outcome.

use super::answer::Answer;
use super::tls;
use super::viewer::{Next, Viewer, Waits};
use super::wire::{Came, Wire};
use super::{Load, MEASURED, OVER, Outcome, Stage};
use anyhow::{Context, Result};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustls::ClientConfig;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The shortest sleep: a calendar that is looked at more often costs the servers their processor.
const SLEEP_MIN: Duration = Duration::from_micros(500);
/// Thrown away at once.
const DROP_BYTES: usize = 1 << 20;
/// Viewers that share a source address: a household.
const VIEWERS_AN_ADDRESS: usize = 4;

struct Seat {
    viewer: Viewer,
    wire: Option<Wire>,
    answer: Option<Answer>,
    /// What is asked as soon as the connection stands.
    to_ask: Option<String>,
}

struct Thread<'a> {
    load: &'a Load,
    tls: Option<Arc<ClientConfig>>,
    seats: Vec<Seat>,
    epoll: OwnedFd,
    calendar: BinaryHeap<Reverse<(Instant, usize)>>,
    out: Outcome,
    measured: bool,
    first: usize,
    step: usize,
    scratch: Vec<u8>,
}

pub(super) fn run(
    load: &Load,
    stage: &Stage,
    viewers: Range<usize>,
    step: usize,
    begin: Instant,
) -> Result<Outcome> {
    let ramp = load.ramp;
    let first = viewers.start;
    let mut thread = Thread {
        load,
        tls: load.secure.then(tls::config).transpose()?,
        seats: Vec::new(),
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        calendar: BinaryHeap::new(),
        out: Outcome::default(),
        measured: false,
        first,
        step,
        scratch: vec![0; DROP_BYTES],
    };
    for number in viewers.step_by(step) {
        let due = begin + ramp.mul_f64(number as f64 / load.viewers as f64);
        thread.calendar.push(Reverse((due, thread.seats.len())));
        let viewer = Viewer::new(number, load, begin, due);
        thread.seats.push(Seat { viewer, wire: None, answer: None, to_ask: None });
    }
    let mut events = Vec::with_capacity(512);
    loop {
        let now = Instant::now();
        match stage.0.load(Ordering::Acquire) {
            OVER => break,
            stage => thread.measured = stage == MEASURED,
        }
        while let Some(Reverse((due, at))) = thread.calendar.peek().copied()
            && due <= now
        {
            thread.calendar.pop();
            if thread.measured {
                let lag = Instant::now().saturating_duration_since(due).as_micros();
                thread.out.lag_us.push(u32::try_from(lag).unwrap_or(u32::MAX));
            }
            thread.due(at, due)?;
        }
        let next =
            thread.calendar.peek().map(|Reverse((due, _))| due.saturating_duration_since(Instant::now()));
        let pause = next.unwrap_or(SLEEP_MIN).clamp(SLEEP_MIN, Duration::from_millis(50));
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        events.clear();
        match epoll::wait(&thread.epoll, rustix::buffer::spare_capacity(&mut events), Some(&pause)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (flags, data) = (event.flags, event.data);
            thread.ready(data.u64() as usize, flags)?;
        }
    }
    thread.out.served = thread.seats.iter().filter(|seat| seat.viewer.is_served()).count();
    Ok(thread.out)
}

impl Thread<'_> {
    /// A viewer's time has come.
    fn due(&mut self, at: usize, due: Instant) -> Result<()> {
        let path = self.seats[at].viewer.begin(self.load, due);
        if self.seats[at].wire.is_some() {
            return self.ask(at, path);
        }
        let number = self.first + at * self.step;
        let wire = connect(server_of(self.load, number), number)
            .and_then(|socket| Wire::new(socket, self.tls.as_ref()));
        match wire {
            Ok(wire) => {
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&self.epoll, wire.socket(), EventData::new_u64(at as u64), flags)?;
                self.seats[at].wire = Some(wire);
                self.seats[at].to_ask = Some(path);
            }
            Err(error) => self.lose(at, &format!("cannot connect: {error:#}")),
        }
        Ok(())
    }

    fn ask(&mut self, at: usize, path: String) -> Result<()> {
        let seat = &mut self.seats[at];
        seat.answer = Some(Answer::new(seat.viewer.usage()));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: relay.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) load/1\r\n\
             Accept: */*\r\nAccept-Encoding: identity\r\nOrigin: http://player.example\r\n\r\n"
        );
        let wire = seat.wire.as_mut().context("whoever asks has a connection")?;
        if let Err(error) = wire.ask(request.as_bytes()) {
            self.lose(at, &format!("cannot ask: {error:#}"));
        }
        Ok(())
    }

    fn ready(&mut self, at: usize, flags: EventFlags) -> Result<()> {
        let seat = &mut self.seats[at];
        if seat.to_ask.is_some()
            && let Some(wire) = &mut seat.wire
        {
            match wire.opens() {
                Ok(true) if flags.intersects(EventFlags::IN | EventFlags::OUT) => {
                    let path = seat.to_ask.take().unwrap_or_default();
                    self.ask(at, path)?;
                }
                Ok(_) => {}
                Err(error) => self.lose(at, &format!("cannot open: {error:#}")),
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        loop {
            let seat = &mut self.seats[at];
            let Some(wire) = &mut seat.wire else { return Ok(()) };
            match wire.take(&mut seat.answer, &mut self.scratch) {
                Ok(Came::Nothing) => return Ok(()),
                Ok(Came::Bytes) => {}
                Ok(Came::End) => {
                    let waits = seat.viewer.waits();
                    self.lose(at, &format!("the server closed, {waits:?}"));
                    return Ok(());
                }
                Err(error) => {
                    self.lose(at, &format!("{error:#}"));
                    return Ok(());
                }
            }
            if seat_is_whole(&self.seats[at]) {
                self.answered(at)?;
            }
        }
    }

    fn answered(&mut self, at: usize) -> Result<()> {
        let now = Instant::now();
        let seat = &mut self.seats[at];
        let answer = seat.answer.take().context("there is an answer")?;
        match seat.viewer.answered(&answer, now, self.measured, &mut self.out) {
            Next::Ask(path) => self.ask(at, path)?,
            Next::At(due) => self.calendar.push(Reverse((due, at))),
            Next::Reconnect(due) => {
                seat.wire = None;
                self.calendar.push(Reverse((due, at)));
            }
            Next::Rest => {}
        }
        Ok(())
    }

    /// The connection is no use any more. One that waited for its time has its entry in the calendar already.
    fn lose(&mut self, at: usize, why: &str) {
        let seat = &mut self.seats[at];
        seat.wire = None;
        seat.answer = None;
        seat.to_ask = None;
        if seat.viewer.waits() != Waits::Time {
            self.calendar.push(Reverse((seat.viewer.lost(Instant::now()), at)));
        }
        self.out.error(|| why.to_owned());
    }
}

fn seat_is_whole(seat: &Seat) -> bool {
    seat.answer.as_ref().is_some_and(Answer::is_whole)
}

/// Where the addresses begin that viewers come from.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// Whose viewer this is: on every server there are viewers of every account.
fn server_of(load: &Load, number: usize) -> SocketAddr {
    load.servers[number / load.entrance.accounts() % load.servers.len()]
}

/// A connection that is being made, from one of thousands of loopback addresses.
fn connect(server: SocketAddr, number: usize) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let source = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + (number / VIEWERS_AN_ADDRESS) as u32);
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(socket.into())
}
