//! One viewer's connection: what its requests are answered, and when it ends.
//!
//! In: readiness, replies. Out: answers, and what is to become of the seat. It never waits; bytes go over its `wire`.

use super::Shared;
use super::mailbox::{Letter, Mailbox};
use super::visitor::{Objection, Visitor};
use super::wire::Wire;
use crate::address::Shares;
use crate::http1::{Connection, Ending, Kept, Pool, Request, State};
use crate::node::{Answer, Park, Reply, Step};
use crate::session::Standing;
use crate::tls;
use rustix::event::epoll::EventFlags;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Rounds of reading, answering and writing before others have their turn.
const ROUNDS_MAX: usize = 16;

/// Names a seat for as long as its viewer sits in it: place and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

/// What a worker's seats have in common.
pub(super) struct Hall {
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) runtime: Handle,
    pub(super) pool: Pool,
    pub(super) tls: tls::Pool,
    /// Handshakes under way.
    pub(super) shaking: usize,
    /// Who takes how much.
    pub(super) shares: Shares,
    /// When the next complaint about proxies may be made.
    pub(super) says_again: Instant,
    pub(super) scratch: Box<[u8]>,
    /// Who waits for a stream to change, oldest first; some may have been answered since.
    pub(super) parked: Vec<Token>,
    /// The relay stops: nobody waits any more.
    pub(super) stopping: bool,
}

/// What is to become of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It waits for its next event.
    Keep,
    /// It has more to do at once, after the others.
    Again,
    /// It is closed.
    Close,
    /// It is closed, and what the kernel holds unsent is thrown away.
    Reset,
    /// Its viewer goes on in HTTP/2.
    HandOver,
}

pub(super) struct Seat {
    wire: Wire,
    visitor: Visitor,
    connection: Connection,
    /// There was no room: its first request is answered with 503.
    turned_away: bool,
    /// Whose copy of an object is being sent.
    copy_of: Option<Standing>,
    /// The task that makes the answer.
    waits_for: Option<AbortHandle>,
    /// The request that waits for its stream.
    parked: Option<Box<Parked>>,
    /// It stands in the hall's list of those.
    listed: bool,
}

/// A request that waits for its stream to change.
struct Parked {
    request: Kept,
    park: Park,
    came: Instant,
    until: Instant,
}

impl Seat {
    pub(super) fn new(wire: Wire, visitor: Visitor, pool: &Pool, turned_away: bool) -> Seat {
        Seat {
            wire,
            visitor,
            connection: Connection::new(pool),
            turned_away,
            copy_of: None,
            waits_for: None,
            parked: None,
            listed: false,
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.wire.socket()
    }

    pub(super) fn is_turned_away(&self) -> bool {
        self.turned_away
    }

    /// The kernel says what has changed.
    pub(super) fn ready(&mut self, hall: &mut Hall, token: Token, flags: EventFlags) -> After {
        if self.wire.ready(flags) { self.go_on(hall, token) } else { After::Close }
    }

    /// The request that had to wait has its answer.
    pub(super) fn answered(&mut self, hall: &mut Hall, token: Token, reply: Reply) -> After {
        self.waits_for = None;
        self.say(hall, reply, None);
        self.go_on(hall, token)
    }

    /// A stream has changed; the seat has been taken off the hall's list.
    pub(super) fn moved(&mut self, hall: &mut Hall, token: Token) -> After {
        self.listed = false;
        match &self.parked {
            Some(parked) if parked.park.has_moved() => self.step(hall, token),
            Some(_) => {
                self.list(hall, token);
                After::Keep
            }
            None => After::Keep,
        }
    }

    /// Looks again at the request that waits.
    fn step(&mut self, hall: &mut Hall, token: Token) -> After {
        let Some(mut parked) = self.parked.take() else { return After::Keep };
        let over = hall.stopping || hall.pool.now >= parked.until;
        match hall.shared.node.step(&parked.request.request(), over) {
            Step::Reply(reply) => self.say(hall, reply, Some(parked.came)),
            Step::Park(park) => {
                parked.park = park;
                self.parked = Some(parked);
                self.list(hall, token);
                return After::Keep;
            }
            Step::Ask => {
                self.ask(hall, token, parked.request);
                return After::Keep;
            }
        }
        self.go_on(hall, token)
    }

    fn list(&mut self, hall: &mut Hall, token: Token) {
        if !std::mem::replace(&mut self.listed, true) {
            hall.parked.push(token);
        }
    }

    /// The relay stops.
    pub(super) fn stop(&mut self, hall: &mut Hall, token: Token) -> After {
        self.connection.stop();
        match self.step(hall, token) {
            After::Keep => self.go_on(hall, token),
            after => after,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, hall: &mut Hall, token: Token) -> After {
        if self.parked.as_ref().is_some_and(|parked| parked.until <= hall.pool.now) {
            return self.step(hall, token);
        }
        if self.connection.poll_timeout().is_some_and(|deadline| deadline <= hall.pool.now) {
            self.connection.handle_timeout(hall.pool.now);
        }
        match self.connection.state() {
            State::Over(ending) => after(ending),
            _ if self.may_go_on(hall) => After::Keep,
            _ => After::Reset,
        }
    }

    /// Ends what its viewer may no longer have.
    pub(super) fn look(&mut self, hall: &mut Hall, token: Token) -> After {
        if self.may_go_on(hall) { self.step(hall, token) } else { After::Reset }
    }

    /// The last call.
    pub(super) fn close(mut self, hall: &mut Hall, how: After) {
        self.visitor.leaves(hall);
        if let Some(task) = self.waits_for {
            task.abort();
        }
        self.wire.close(hall, how == After::Close);
        self.connection.close(&mut hall.pool);
    }

    /// For HTTP/2 to go on with.
    pub(super) fn into_parts(self, hall: &mut Hall) -> (Wire, Visitor) {
        self.connection.close(&mut hall.pool);
        (self.wire, self.visitor)
    }

    fn may_go_on(&self, hall: &Hall) -> bool {
        let Some(session) = &self.copy_of else { return true };
        let Err(refusal) = hall.shared.node.still(session) else { return true };
        tracing::debug!(%refusal, "a body is cut");
        hall.shared.node.metrics.bodies_cut.inc();
        false
    }

    fn go_on(&mut self, hall: &mut Hall, token: Token) -> After {
        for _ in 0..ROUNDS_MAX {
            let room = self.connection.room();
            let read = match self.wire.read(hall, &mut self.connection) {
                Ok(moved) => moved,
                Err(error) => {
                    tracing::debug!(%error, "connection ended");
                    return After::Close;
                }
            };
            if !self.wire.is_shaking() {
                self.visitor.has_shaken(hall);
            }
            if let Some(source) = self.wire.take_source()
                && self.visitor.introduced(hall, source).is_err()
            {
                return After::Reset;
            }
            if self.wire.is_http2() {
                return if self.turned_away { After::Close } else { After::HandOver };
            }
            let answered = self.answer(hall, token);
            let wrote = match self.write(hall) {
                Ok(moved) => moved,
                Err(after) => return after,
            };
            match self.connection.state() {
                State::Open => {}
                State::Lingering => {
                    if self.wire.shut(hall, &mut self.connection).is_err() {
                        return After::Close;
                    }
                }
                State::Over(ending) => return after(ending),
            }
            // The length of a body, once it is known, makes room where there was none: what was left unread has no news of it.
            if !(read || answered || wrote || self.connection.room() > room) {
                return After::Keep;
            }
        }
        After::Again
    }

    /// Answers what has been asked, as far as it is at hand. Whether there was something.
    fn answer(&mut self, hall: &mut Hall, token: Token) -> bool {
        let mut answered = false;
        while let Some(next) = self.connection.next_request() {
            answered = true;
            let reply = match next {
                _ if self.turned_away => {
                    self.connection.stop(); // once a request is out this makes its answer the last
                    Reply::Once(Answer::bare(503).with("retry-after", "2"))
                }
                Err(malformed) => {
                    tracing::debug!(%malformed, "refused");
                    hall.shared.node.metrics.request("malformed", malformed.status());
                    Reply::Once(Answer::bare(malformed.status()))
                }
                Ok(request) => match self.visitor.asks(hall, request.forwarded_for) {
                    Err(Objection::Full) => Reply::Once(Answer::bare(503).with("retry-after", "2")),
                    Err(Objection::Malformed) => {
                        self.connection.stop();
                        Reply::Once(Answer::bare(400))
                    }
                    Ok(source) => {
                        let request = Request { source: Some(source), ..request };
                        match hall.shared.node.step(&request, hall.stopping) {
                            Step::Reply(reply) => reply,
                            Step::Park(park) => {
                                self.visitor.is_proved(hall); // nobody else is kept waiting
                                let (request, came) = (request.keep(), hall.pool.now);
                                let until = came + park.at_most;
                                self.parked = Some(Box::new(Parked { request, park, came, until }));
                                self.list(hall, token);
                                self.connection.park(&mut hall.pool);
                                continue;
                            }
                            Step::Ask => {
                                let request = request.keep();
                                self.ask(hall, token, request);
                                self.connection.park(&mut hall.pool);
                                continue;
                            }
                        }
                    }
                },
            };
            self.say(hall, reply, None);
        }
        answered
    }

    /// Has a task make the answer.
    fn ask(&mut self, hall: &Hall, token: Token, request: Kept) {
        let (node, owed) = (hall.shared.node.clone(), Owed::new(hall, token));
        let task = hall.runtime.spawn(async move { owed.pay(node.answer(&request.request()).await) });
        self.waits_for = Some(task.abort_handle());
    }

    /// `held_since`: when the request came, if it was held.
    fn say(&mut self, hall: &mut Hall, reply: Reply, held_since: Option<Instant>) {
        tracing::trace!(status = reply.status(), "answered");
        if reply.is_of_session() {
            self.visitor.is_proved(hall);
        }
        if let Reply::Playlist(..) = &reply {
            let held = held_since.map_or(0.0, |came| came.elapsed().as_secs_f64());
            hall.shared.node.metrics.playlist_hold_seconds.observe(held);
        }
        match reply {
            Reply::Once(answer) => self.connection.respond_once(&mut hall.pool, answer),
            Reply::Playlist(answer, outcome) => self.connection.respond(&mut hall.pool, &answer, outcome),
            Reply::Cdn(copy) => {
                self.connection.respond_marked(&mut hall.pool, &copy.head, copy.outcome, copy.pieces())
            }
            Reply::Copy(copy) => {
                let head = &copy.held.head;
                let said = self.connection.respond_marked(&mut hall.pool, head, copy.outcome, copy.pieces());
                self.copy_of = Some(copy.session.standing());
                said
            }
        };
    }

    /// Writes what the kernel takes. Whether it took something.
    fn write(&mut self, hall: &mut Hall) -> Result<bool, After> {
        let mut wrote = false;
        while self.wire.may_write(&self.connection) {
            if !self.may_go_on(hall) {
                return Err(After::Reset);
            }
            match self.wire.write(hall, &mut self.connection) {
                Ok(moved) => wrote |= moved,
                Err(error) => {
                    tracing::debug!(%error, "connection ended");
                    return Err(After::Close);
                }
            }
        }
        if self.copy_of.is_some() && self.connection.unsent_bytes() == 0 {
            self.copy_of = None;
        }
        Ok(wrote)
    }
}

fn after(ending: Ending) -> After {
    match ending {
        Ending::Done => After::Close,
        ending => {
            tracing::debug!(?ending, "connection ended");
            if ending == Ending::Slow { After::Reset } else { After::Close }
        }
    }
}

/// The promise of a reply: a task that ends without one still answers.
struct Owed {
    mailbox: Arc<Mailbox>,
    token: Token,
    paid: bool,
}

impl Owed {
    fn new(hall: &Hall, token: Token) -> Owed {
        Owed { mailbox: hall.mailbox.clone(), token, paid: false }
    }

    fn pay(mut self, reply: Reply) {
        self.paid = true;
        self.mailbox.post(Letter::Answered(self.token, reply));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.paid {
            self.mailbox.post(Letter::Answered(self.token, Answer::bare(500).into()));
        }
    }
}

/// The time of a worker's turn.
pub(super) fn now() -> (Instant, u64) {
    (Instant::now(), crate::node::now_unix_s())
}
