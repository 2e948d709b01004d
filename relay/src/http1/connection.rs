//! One viewer's connection: requests out in order, answers in, bytes both ways.
//!
//! Four kinds of calls. Events: `receive`, `received_end`, `wrote`, `handle_timeout`, `stop`. Work: `next_request` gives a
//! request, which `respond` or `respond_marked` answers, at once or later; the next one is given out after that. Output:
//! `unsent` fills the slices for one scatter-gather write. Looks: `room`, `poll_timeout`, `state`. After every event the
//! shell calls `next_request` until it gives nothing, writes what is unsent, and looks at `state` and `poll_timeout`.
//!
//! ```text
//!            a head            an answer
//!  Reading ──────────► Answering ──────────► Reading      (kept open)
//!                          │ last answer, or malformed
//!                          ▼
//!                       Closing ─all sent─► Lingering ─the client's end, or time─► Over
//! ```
//!
//! Pure: time comes in with `Pool`. RFC 9112 §9: persistence, pipelining, tear-down.

use super::buffers::{Buffers, Pool};
use super::condition::Outcome;
use super::ending::{Ending, State};
use super::request::{HEAD_BYTES_MAX, Malformed, Method, Parsed, Request, parse};
use super::response::{Farewell, Rendered, not_modified_head, opening, outside_head, part_head};
use crate::node::Answer;
use bytes::Bytes;
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// Answers that may wait to be sent; the next request is looked at when they are gone.
pub const PIPELINE_MAX: u8 = 16;
/// With so many bytes unsent no further request is looked at.
pub const UNSENT_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Copy, Debug)]
enum Phase {
    Reading,
    Answering(Asked),
    Closing,
    Lingering,
    Over(Ending),
}

/// What the answer must know of its request.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// HEAD: only the head is sent.
    head_only: bool,
    keep_alive: bool,
    is_http_10: bool,
}

/// A viewer's connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// What came may hold a whole head: something new has come since it was last looked at.
    look: bool,
    /// How many bytes a request takes whose head has come and whose body has not; 0: there is none.
    awaits: usize,
    /// The client sends no more.
    ended: bool,
    /// The relay stops: this connection's next answer is its last.
    stopping: bool,
    /// Answers since everything was last sent.
    answered: u8,
    deadline: Option<Instant>,
    buffers: Option<Box<Buffers>>,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(pool: &Pool) -> Connection {
        Connection {
            phase: Phase::Reading,
            look: false,
            awaits: 0,
            ended: false,
            stopping: false,
            answered: 0,
            deadline: Some(pool.now + pool.patience.head),
            buffers: None,
        }
    }

    /// How many bytes `receive` takes now; 0: do not read.
    pub fn room(&self) -> usize {
        match self.phase {
            Phase::Reading | Phase::Answering(_) => HEAD_BYTES_MAX.max(self.awaits) - self.unread().len(),
            Phase::Closing | Phase::Lingering => HEAD_BYTES_MAX,
            Phase::Over(_) => 0,
        }
    }

    /// Bytes came; how many were taken, `room` at most. None of them is looked at here.
    pub fn receive(&mut self, pool: &mut Pool, bytes: &[u8]) -> usize {
        match self.phase {
            Phase::Over(_) => return 0,
            Phase::Closing | Phase::Lingering => return bytes.len().min(HEAD_BYTES_MAX), // passed over
            _ if self.ended || bytes.is_empty() => return 0,
            Phase::Reading | Phase::Answering(_) => {}
        }
        let begins = self.unread().is_empty();
        let buffers = self.buffers.get_or_insert_with(|| pool.lend());
        let taken = buffers.take(bytes, HEAD_BYTES_MAX.max(self.awaits));
        // A head ends with a line, or with the room for it: a client that sends byte by byte costs no more than its lines.
        // Most that comes ends with a line: only what does not is searched for one.
        let bytes = &bytes[..taken];
        let line = bytes.ends_with(b"\n") || bytes.contains(&b'\n');
        let unread = buffers.unread().len();
        self.look |= if self.awaits > 0 { unread >= self.awaits } else { line || unread == HEAD_BYTES_MAX };
        if begins && buffers.unsent() == 0 && matches!(self.phase, Phase::Reading) {
            self.deadline = Some(pool.now + pool.patience.head);
        }
        taken
    }

    /// The client sends no more. What it asked before is answered.
    pub fn received_end(&mut self) {
        self.ended = true;
        match self.phase {
            Phase::Lingering => self.over(Ending::Done),
            Phase::Reading if !self.look => self.last(),
            _ => {}
        }
    }

    /// The relay stops: what was asked is answered, then the connection closes.
    pub fn stop(&mut self) {
        self.stopping = true;
        if matches!(self.phase, Phase::Reading) && !self.look {
            self.last();
        }
    }

    /// The next request, if one has come and the one before is answered. It must be answered with `respond` or
    /// `respond_marked`, now or later; so must a malformed one, with its status, after which the connection closes.
    pub fn next_request(&mut self) -> Option<Result<Request<'_>, Malformed>> {
        if !matches!(self.phase, Phase::Reading) || !self.look {
            return None;
        }
        let buffers = self.buffers.as_deref_mut()?;
        if self.answered >= PIPELINE_MAX || buffers.unsent() >= UNSENT_BYTES_MAX {
            return None; // `wrote` comes back to it
        }
        let unsent = buffers.unsent();
        let Buffers { input, consumed, .. } = buffers;
        let unread = &input[*consumed..];
        let mut parsed = parse(if self.awaits > 0 { unread } else { whole_lines(unread) });
        if let Parsed::Awaits(len) = parsed
            && len <= unread.len()
        {
            parsed = parse(unread); // its body does not end with a line
        }
        self.awaits = if let Parsed::Awaits(len) = parsed { len } else { 0 };
        match parsed {
            Parsed::Incomplete | Parsed::Awaits(_) => {
                self.look = false;
                if self.ended || self.stopping {
                    self.phase = if unsent == 0 { Phase::Over(Ending::Done) } else { Phase::Closing };
                }
                None
            }
            Parsed::Request(request, len) => {
                *consumed += len;
                self.look = *consumed < input.len();
                self.phase = Phase::Answering(Asked {
                    head_only: request.method == Method::Head,
                    keep_alive: request.keep_alive,
                    is_http_10: request.is_http_10,
                });
                if unsent == 0 {
                    self.deadline = None; // the relay's own limits bound how long an answer takes
                }
                Some(Ok(request))
            }
            Parsed::Malformed(malformed) => {
                *consumed = input.len();
                self.look = false;
                self.phase =
                    Phase::Answering(Asked { head_only: false, keep_alive: false, is_http_10: false });
                if unsent == 0 {
                    self.deadline = None;
                }
                Some(Err(malformed))
            }
        }
    }

    /// The answer will take a while: gives the buffers back if they hold nothing.
    pub fn park(&mut self, pool: &mut Pool) {
        if let Some(buffers) = self.buffers.take_if(|held| held.unread().is_empty() && held.unsent() == 0) {
            pool.take_back(buffers);
        }
    }

    /// Answers the request that was given out last with an answer rendered once. `false`: there is none, nothing is sent.
    pub fn respond(&mut self, pool: &mut Pool, answer: &Rendered, outcome: Outcome) -> bool {
        self.answer(pool, answer, outcome, |buffers, part| {
            let len = part.len();
            if !answer.is_shared() {
                return 0;
            }
            buffers.push_shared(answer.body(part));
            len
        })
    }

    /// Answers it with a body in slices: one viewer's copy, `answer.body_len()` bytes in all. If they are fewer or more,
    /// the answer is 500 and the connection closes: a wrong length would make one answer run into the next.
    pub fn respond_marked(
        &mut self,
        pool: &mut Pool,
        answer: &Rendered,
        outcome: Outcome,
        pieces: impl IntoIterator<Item = Bytes>,
    ) -> bool {
        self.answer(pool, answer, outcome, |buffers, part| {
            let (mut at, mut pushed) = (0, 0);
            for piece in pieces {
                let len = piece.len();
                let (from, to) = (part.start.clamp(at, at + len), part.end.clamp(at, at + len));
                if from < to {
                    pushed += to - from;
                    // A whole piece moves: cutting it would count its owners up and down again.
                    let whole = to - from == len;
                    buffers.push_slice(if whole { piece } else { piece.slice(from - at..to - at) });
                }
                at += len;
            }
            if at == answer.body_len() { pushed } else { usize::MAX }
        })
    }

    /// Answers it with what a node said: rendered for this one answer.
    pub fn respond_once(&mut self, pool: &mut Pool, answer: Answer) -> bool {
        let fields = answer.headers.iter().map(|(name, value)| (*name, value.as_ref()));
        let Ok(head) = Rendered::head(answer.status, fields, answer.body.len()) else {
            return self.respond(pool, &Rendered::bare(500), Outcome::Whole);
        };
        self.respond_marked(pool, &head, Outcome::Whole, [answer.body])
    }

    /// Queues an answer; `body` appends the bytes of a range and says how many it appended.
    fn answer(
        &mut self,
        pool: &mut Pool,
        answer: &Rendered,
        outcome: Outcome,
        body: impl FnOnce(&mut Buffers, std::ops::Range<usize>) -> usize,
    ) -> bool {
        let Phase::Answering(asked) = self.phase else { return false };
        let mut keep = asked.keep_alive && !self.stopping;
        let buffers = self.buffers.get_or_insert_with(|| pool.lend());
        let was_unsent = buffers.unsent() > 0;
        let farewell = match (keep, asked.is_http_10) {
            (true, false) => Farewell::None,
            (true, true) => Farewell::KeepAlive,
            (false, _) => Farewell::Close,
        };
        let (mark, stamp) = (buffers.mark(), &pool.stamp);
        let mut part = 0..0;
        match outcome {
            // Head and body lie in one buffer: one copy, or one slice.
            Outcome::Whole if answer.is_shared() && !asked.head_only => {
                buffers.push_own(|own| opening(own, answer.status(), stamp, farewell));
                buffers.push_shared(answer.rest().clone());
            }
            Outcome::Whole => {
                part = 0..answer.body_len();
                buffers.push_own(|own| {
                    opening(own, answer.status(), stamp, farewell);
                    own.extend_from_slice(answer.rest_of_head());
                });
            }
            // A range that is none of this object's would come from a decision for another one.
            Outcome::Part { start, end } if start < end && end <= answer.body_len() => {
                part = start..end;
                buffers.push_own(|own| {
                    opening(own, 206, stamp, farewell);
                    part_head(own, answer, &part);
                });
            }
            Outcome::NotModified => buffers.push_own(|own| {
                opening(own, 304, stamp, farewell);
                not_modified_head(own, answer);
            }),
            Outcome::Outside | Outcome::Part { .. } => buffers.push_own(|own| {
                opening(own, 416, stamp, farewell);
                outside_head(own, answer);
            }),
        }
        if !asked.head_only && !part.is_empty() && body(buffers, part.clone()) != part.len() {
            buffers.back_to(&mark);
            keep = false;
            buffers.push_own(|own| {
                opening(own, 500, stamp, Farewell::Close);
                own.extend_from_slice(Rendered::bare(500).rest_of_head());
            });
        }
        self.answered += 1;
        if !was_unsent {
            self.deadline = Some(pool.now + pool.patience.write);
        }
        self.phase = if keep { Phase::Reading } else { Phase::Closing };
        if keep && (self.ended || self.stopping) && !self.look {
            self.phase = Phase::Closing;
        }
        true
    }

    /// Fills `slices` with what is to be sent; how many it filled.
    pub fn unsent<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.slices(slices))
    }

    /// How many bytes are to be sent.
    pub fn unsent_bytes(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.unsent())
    }

    /// The kernel took the first `count` bytes of what is unsent.
    pub fn wrote(&mut self, pool: &mut Pool, count: usize) {
        let Some(buffers) = self.buffers.as_deref_mut() else { return };
        let count = count.min(buffers.unsent());
        if count == 0 {
            return;
        }
        buffers.wrote(count);
        if buffers.unsent() > 0 {
            // What is taken buys time at the lowest rate, but never more than `write`.
            let bought = Duration::from_secs(count as u64) / pool.patience.write_rate_min.max(1);
            self.deadline =
                self.deadline.map(|deadline| (deadline + bought).min(pool.now + pool.patience.write));
            return;
        }
        self.answered = 0;
        let begun = !buffers.unread().is_empty();
        match self.phase {
            Phase::Reading => {
                let wait = if begun { pool.patience.head } else { pool.patience.idle };
                self.deadline = Some(pool.now + wait);
            }
            Phase::Closing if self.ended => self.over(Ending::Done),
            Phase::Closing => {
                self.phase = Phase::Lingering;
                self.deadline = Some(pool.now + pool.patience.linger);
            }
            Phase::Answering(_) => self.deadline = None,
            Phase::Lingering | Phase::Over(_) => {}
        }
        if !begun || matches!(self.phase, Phase::Lingering | Phase::Over(_)) {
            self.give_back(pool);
        }
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Time has passed, perhaps as far as the deadline.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let ending = match self.phase {
            _ if self.unsent_bytes() > 0 => Ending::Slow,
            Phase::Reading if self.unread().is_empty() => Ending::Idle,
            Phase::Reading => Ending::Late,
            _ => Ending::Done,
        };
        self.over(ending);
    }

    /// What the shell has to do.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Reading | Phase::Answering(_) | Phase::Closing => State::Open,
            Phase::Lingering => State::Lingering,
            Phase::Over(ending) => State::Over(ending),
        }
    }

    /// Whether a request has been given out and is not answered yet.
    pub fn is_asked(&self) -> bool {
        matches!(self.phase, Phase::Answering(_))
    }

    /// The last call: gives the buffers back.
    pub fn close(mut self, pool: &mut Pool) {
        self.give_back(pool);
    }

    fn give_back(&mut self, pool: &mut Pool) {
        if let Some(buffers) = self.buffers.take() {
            pool.take_back(buffers);
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| buffers.unread())
    }

    /// No further request comes.
    fn last(&mut self) {
        if self.unsent_bytes() > 0 {
            self.phase = Phase::Closing;
        } else {
            self.over(Ending::Done);
        }
    }

    fn over(&mut self, ending: Ending) {
        self.phase = Phase::Over(ending);
        self.deadline = None;
    }
}

/// What of the unread bytes is looked at: lines that have come to their end, and everything once the longest head would be
/// there. So the verdict does not depend on how the bytes were cut.
fn whole_lines(unread: &[u8]) -> &[u8] {
    if unread.len() >= HEAD_BYTES_MAX {
        return unread;
    }
    &unread[..unread.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)]
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
