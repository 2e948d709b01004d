//! One worker: a loop around its epoll.
//!
//! In: events of the kernel, letters, the time. Out: seats taken, served and left. One thread owns all of it.

use super::Shared;
use super::door::{Accepted, Door};
use super::mailbox::{Letter, Mailbox};
use super::seat::{After, Hall, Seat, Token, now};
use super::turns::Turns;
use super::visitor::Visitor;
use super::wire::{READ_BYTES, Wire};
use crate::address::{Shares, Stage};
use crate::http1::{Patience, Pool};
use crate::io::http2;
use crate::tls::{self, Current, Session, TlsError};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Events taken at once.
const EVENTS_MAX: usize = 512;
/// Accepted at once, before those who are in have their turn.
const ACCEPTS_MAX: usize = 64;
/// Parked requests looked at at once, before others have their turn: some ten milliseconds.
const RELEASES_MAX: usize = 1024;
/// Events taken at once beside them. Whoever has their answer asks for the next one, which is not there yet: to park them again
/// while others still wait for this one would double the time of the last.
const EVENTS_BESIDE_MAX: usize = 64;
/// How often deadlines are looked at: none of them is shorter than a second.
const TICK: Duration = Duration::from_millis(250);
/// Most connections of a worker that are being told that there are too many; further ones are told in passing.
const TURNED_AWAY_MAX: usize = 64;
/// Buffers kept for the next requests: as many as are busy at once in a herd.
const SPARE_BUFFERS_MAX: usize = 1024;
/// TLS buffers kept, of each kind: all but a few of the slow give theirs back at once.
const SPARE_TLS_BUFFERS_MAX: usize = 64;

/// Events that are not a viewer's.
const DOOR: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
const TLS_DOOR: u64 = u64::MAX - 2;

pub(super) struct Worker {
    hall: Hall,
    epoll: OwnedFd,
    /// Where viewers come in; none when the relay stops.
    doors: Vec<Door>,
    places: Vec<Place>,
    free: Vec<u32>,
    turned_away: usize,
    /// Who has more to do at once.
    again: Vec<Token>,
    /// Parked requests that may be due, oldest first.
    released: VecDeque<Token>,
    next_tick: Instant,
    /// When those who are left are cut off; set when the relay stops.
    ends: Option<Instant>,
}

/// A place for a seat. Its generation counts who has sat there, so that news for one who has gone reach nobody.
struct Place {
    generation: u32,
    seat: Option<Seat>,
    /// Who has the place and goes on in HTTP/2.
    away: Option<Box<Away>>,
}

/// A viewer whose connection is served elsewhere.
struct Away {
    visitor: Visitor,
    task: AbortHandle,
}

/// Says that such a connection has come to its end, however it did.
struct Leaves {
    mailbox: Arc<Mailbox>,
    token: Token,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.mailbox.post(Letter::Gone(self.token));
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        listener: TcpListener,
        secure: Option<(TcpListener, Arc<Current>)>,
        runtime: Handle,
    ) -> io::Result<Worker> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, mailbox.bell(), EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        let mut doors = vec![Door::new(DOOR, listener, None)];
        doors.extend(secure.map(|(listener, current)| Door::new(TLS_DOOR, listener, Some(current))));
        for door in &doors {
            epoll::add(&epoll, door.listener(), EventData::new_u64(door.number), EventFlags::IN)?;
        }
        let limits = &shared.node.limits;
        let patience = Patience {
            idle: limits.idle_patience,
            head: limits.head_patience,
            write: limits.write_patience,
            ..Patience::default()
        };
        let (now, unix_s) = now();
        Ok(Worker {
            hall: Hall {
                shared,
                mailbox,
                runtime,
                pool: Pool::new(now, unix_s, patience, SPARE_BUFFERS_MAX),
                tls: tls::Pool::new(SPARE_TLS_BUFFERS_MAX),
                shaking: 0,
                shares: Shares::default(),
                says_again: now,
                scratch: vec![0; READ_BYTES].into(),
                parked: Vec::new(),
                stopping: false,
            },
            epoll,
            doors,
            places: Vec::new(),
            free: Vec::new(),
            turned_away: 0,
            again: Vec::new(),
            released: VecDeque::new(),
            next_tick: now + TICK,
            ends: None,
        })
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self) {
        // What the node starts from here runs on the runtime.
        let runtime = self.hall.runtime.clone();
        let _inside = runtime.enter();
        let mut room = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        let (mut letters, mut again) = (Vec::new(), Vec::new());
        let mut turns = Turns::new(self.hall.pool.now);
        loop {
            let pause = if self.again.is_empty() && self.released.is_empty() {
                let now = Instant::now();
                if let Some(rest) = turns.rest(now) {
                    std::thread::sleep(rest);
                }
                self.next_tick.saturating_duration_since(now)
            } else {
                Duration::ZERO
            };
            let most = if self.released.is_empty() { EVENTS_MAX } else { EVENTS_BESIDE_MAX };
            // A signal may interrupt it: then there are no events. It cannot fail otherwise.
            let events = epoll::wait(&self.epoll, &mut room[..most], Some(&timespec(pause)))
                .map_or(&mut [][..], |(events, _)| events);
            let (now, unix_s) = now();
            self.hall.pool.turn(now, unix_s);
            turns.begin(now, events.len(), self.places.len() - self.free.len());
            std::mem::swap(&mut self.again, &mut again);
            for token in again.drain(..) {
                self.seated(token, |seat, hall| seat.ready(hall, token, EventFlags::empty()));
            }
            for _ in 0..RELEASES_MAX {
                let Some(token) = self.released.pop_front() else { break };
                self.seated(token, |seat, hall| seat.moved(hall, token));
            }
            for Event { flags, data, .. } in events.iter().copied() {
                match data.u64() {
                    number @ (DOOR | TLS_DOOR) => self.open_door(number),
                    BELL => {
                        self.hall.mailbox.take(&mut letters);
                        for letter in letters.drain(..) {
                            if self.read(letter).is_none() {
                                return self.leave();
                            }
                        }
                    }
                    token => self.seated(Token(token), |seat, hall| seat.ready(hall, Token(token), flags)),
                }
            }
            if now >= self.next_tick {
                self.next_tick = now + TICK;
                self.tick();
            }
            if let Some(ends) = self.ends
                && (self.free.len() == self.places.len() || now >= ends)
            {
                return self.leave();
            }
        }
    }

    /// `None`: everything ends.
    fn read(&mut self, letter: Letter) -> Option<()> {
        match letter {
            Letter::Answered(token, reply) => {
                self.seated(token, |seat, hall| seat.answered(hall, token, reply));
            }
            Letter::Proved(token) => {
                if let Some(Place { away: Some(away), .. }) = place_of(&mut self.places, token) {
                    away.visitor.is_proved(&mut self.hall);
                }
            }
            Letter::Gone(token) => {
                if place_of(&mut self.places, token).is_some_and(|place| place.away.is_some()) {
                    self.unseat(token.0 as u32, After::Close);
                }
            }
            Letter::Changed => self.released.extend(self.hall.parked.drain(..)),
            Letter::Look => self.each(|seat, hall, token| seat.look(hall, token)),
            Letter::Stop => {
                self.doors.clear();
                self.hall.stopping = true;
                self.ends = Some(self.hall.pool.now + self.hall.shared.node.limits.stop_patience);
                self.each(|seat, hall, token| seat.stop(hall, token));
            }
            Letter::End => return None,
        }
        Some(())
    }

    fn tick(&mut self) {
        for at in 0..self.doors.len() {
            if self.doors[at].rests {
                self.listen(at, true);
            }
        }
        self.each(|seat, hall, token| seat.tick(hall, token));
        // While no stream changes, those who have gone stay in the list: it is not let grow beyond twice what it needs.
        if self.hall.parked.len() > 2 * (self.places.len() - self.free.len()) + RELEASES_MAX {
            let places = &self.places;
            self.hall.parked.retain(|token| {
                let place = places.get(token.0 as u32 as usize);
                place
                    .is_some_and(|place| place.seat.is_some() && u64::from(place.generation) == token.0 >> 32)
            });
        }
    }

    fn open_door(&mut self, number: u64) {
        let Some(at) = self.doors.iter().position(|door| door.number == number) else { return };
        for _ in 0..ACCEPTS_MAX {
            match self.doors[at].accept() {
                Accepted::Viewer(socket, peer) => self.seat(socket, peer, at),
                Accepted::Nobody => return,
                Accepted::Later => return self.listen(at, false),
            }
        }
    }

    /// Listens to a door, or lets it rest until the next tick.
    fn listen(&mut self, at: usize, to: bool) {
        let door = &mut self.doors[at];
        let flags = if to { EventFlags::IN } else { EventFlags::empty() };
        door.rests = !to;
        let number = EventData::new_u64(door.number);
        if let Err(error) = epoll::modify(&self.epoll, door.listener(), number, flags) {
            tracing::error!(%error, "the listener cannot be watched");
        }
    }

    /// What a viewer who came in by this door speaks TLS with; an error if they cannot be taken in.
    fn tls(&self, at: usize, visitor: &Visitor) -> Result<Option<Session>, TlsError> {
        let http2 = self.hall.shared.http2 && !visitor.is_one_of_many(&self.hall);
        self.doors[at].tls().map(|current| Session::new(current.get(http2))).transpose()
    }

    fn seat(&mut self, socket: TcpStream, peer: IpAddr, door: usize) {
        let is_secure = self.doors[door].tls().is_some();
        if is_secure && self.hall.shaking >= self.hall.shared.handshakes {
            return self.hall.shared.node.metrics.handshake("refused");
        }
        let stage = if is_secure { Stage::Shaking } else { Stage::Unproved };
        let Some(mut visitor) = Visitor::enters(&mut self.hall, peer, stage) else {
            return self.doors[door].refuse(socket);
        };
        let Ok(tls) = self.tls(door, &visitor) else { return visitor.leaves(&mut self.hall) };
        let shared = &self.hall.shared;
        let turned_away = shared.seated.fetch_add(1, Ordering::Relaxed) >= shared.seats;
        if turned_away {
            shared.seated.fetch_sub(1, Ordering::Relaxed);
            shared.node.metrics.connections_refused.inc();
            if self.turned_away >= TURNED_AWAY_MAX {
                visitor.leaves(&mut self.hall);
                return self.doors[door].refuse(socket);
            }
            self.turned_away += 1;
        } else {
            shared.node.metrics.connections.inc();
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, seat: None, away: None });
            self.places.len() as u32 - 1 // there are fewer descriptors than that
        });
        let token = self.token(place);
        self.hall.shaking += usize::from(tls.is_some());
        let wire = Wire::new(socket, tls, visitor.is_to_be_introduced(&self.hall));
        let seat = Seat::new(wire, visitor, &self.hall.pool, turned_away);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let watched = epoll::add(&self.epoll, seat.socket(), EventData::new_u64(token.0), flags);
        self.places[place as usize].seat = Some(seat);
        if let Err(error) = watched {
            tracing::warn!(%error, "a viewer's connection cannot be watched");
            self.unseat(place, After::Close);
        }
    }

    fn token(&self, place: u32) -> Token {
        Token(u64::from(self.places[place as usize].generation) << 32 | u64::from(place))
    }

    /// Has the seat of a token do something, if its viewer still sits there.
    fn seated(&mut self, token: Token, act: impl FnOnce(&mut Seat, &mut Hall) -> After) {
        let place = token.0 as u32;
        let Some(Place { generation, seat: Some(seat), .. }) = self.places.get_mut(place as usize) else {
            return;
        };
        if u64::from(*generation) != token.0 >> 32 {
            return;
        }
        match act(seat, &mut self.hall) {
            After::Keep => {}
            After::Again => self.again.push(token),
            After::HandOver => self.hand_over(token),
            how => self.unseat(place, how),
        }
    }

    /// The viewer has chosen HTTP/2: a task serves them, and their place stays theirs.
    fn hand_over(&mut self, token: Token) {
        let Some(seat) = place_of(&mut self.places, token).and_then(|place| place.seat.take()) else {
            return;
        };
        let (wire, visitor) = seat.into_parts(&mut self.hall);
        let (socket, tls) = wire.into_parts();
        let _ = epoll::delete(&self.epoll, &socket); // it is not watched at worst
        let Hall { shared, mailbox, runtime, pool, .. } = &self.hall;
        let leaves = Leaves { mailbox: mailbox.clone(), token };
        let (mailbox, patience) = (mailbox.clone(), pool.patience);
        let on_proof = Box::new(move || mailbox.post(Letter::Proved(token)));
        let (node, source) = (shared.node.clone(), visitor.source());
        let task = runtime.spawn(async move {
            let _leaves = leaves;
            if let Some(tls) = tls {
                http2::serve(node, socket, tls, source, patience, on_proof).await;
            }
        });
        let away = Box::new(Away { visitor, task: task.abort_handle() });
        if let Some(place) = place_of(&mut self.places, token) {
            place.away = Some(away);
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Seat, &mut Hall, Token) -> After) {
        for place in 0..self.places.len() as u32 {
            let token = self.token(place);
            self.seated(token, |seat, hall| act(seat, hall, token));
        }
    }

    fn unseat(&mut self, place: u32, how: After) {
        let Place { generation, seat, away } = &mut self.places[place as usize];
        let (seat, away) = (seat.take(), away.take());
        if seat.is_none() && away.is_none() {
            return;
        }
        *generation = generation.wrapping_add(1) & (u32::MAX >> 1); // below `BELL` and `DOOR`
        self.free.push(place);
        if seat.as_ref().is_some_and(Seat::is_turned_away) {
            self.turned_away -= 1;
        } else {
            self.hall.shared.seated.fetch_sub(1, Ordering::Relaxed);
            self.hall.shared.node.metrics.connections.dec();
        }
        if let Some(seat) = seat {
            seat.close(&mut self.hall, how);
        }
        if let Some(mut away) = away {
            away.task.abort();
            away.visitor.leaves(&mut self.hall);
        }
    }

    /// Ends everything that is left.
    fn leave(mut self) {
        let left = self.places.len() - self.free.len();
        if left > 0 {
            tracing::warn!(connections = left, "connections cut off: they did not finish in time");
        }
        for place in 0..self.places.len() as u32 {
            self.unseat(place, After::Close);
        }
    }
}

/// The place of a token, if its viewer still has it.
fn place_of(places: &mut [Place], token: Token) -> Option<&mut Place> {
    let place = places.get_mut(token.0 as u32 as usize)?;
    (u64::from(place.generation) == token.0 >> 32).then_some(place)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
