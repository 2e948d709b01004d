//! Seats: how many sessions of one viewer run at once, over all relays, and which sessions have been ended.
//!
//! A session of a viewer with a limit takes a seat when it is admitted; its relay reports every few seconds which sessions
//! it still serves, and a seat that nobody reports is free again. So a relay that dies takes no seat with it, and no request
//! of a viewer ever waits for the store. Sessions without a limit are never written here.
//!
//! In: what was admitted and what is still served. Out: whether there is room, and what must end; relays read that as they
//! read revocations. Who decides is `settle`, pure and shared by the back-ends.

use crate::coordinator::Error;
use async_trait::async_trait;
use releve_watermark::WatermarkId;

/// A session that takes a seat, or still sits in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose.
    pub viewer: WatermarkId,
    /// The session.
    pub session: [u8; 16],
    /// When it was last served, Unix seconds.
    pub seen_unix_s: u64,
    /// When it ends anyway, Unix seconds.
    pub until_unix_s: u64,
}

/// How many, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatLimit {
    /// Most sessions of one viewer at once, from 1.
    pub seats: u32,
    /// What happens to one more.
    pub when_full: WhenFull,
    /// After how long without a sign of its viewer a seat is free, in seconds.
    pub idle_s: u64,
}

/// What happens to a session for which there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is not admitted.
    RejectNew,
    /// It is, and the viewer's oldest session ends.
    StopOldest,
}

/// A session that was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// Which.
    pub session: [u8; 16],
    /// When it would have ended anyway, Unix seconds: the record may be forgotten after that.
    pub until_unix_s: u64,
}

/// Sessions of viewers with a limit, and sessions that were ended.
#[async_trait]
pub trait Seats: Send + Sync {
    /// Takes a seat for a new session, or says that there is none (`false`). Atomic: two relays never give the last seat
    /// twice. Sessions that lose theirs are ended.
    async fn take_seat(&self, seat: Seat, limit: SeatLimit) -> Result<bool, Error>;
    /// Reports sessions that are still served. One that had lost its seat for idleness takes one again; where there is
    /// none it is ended, or the viewer's oldest is, as the limit says. One that was ended stays so.
    async fn keep_seats(&self, seats: Vec<Seat>, limit: SeatLimit) -> Result<(), Error>;
    /// Ends a session on all relays. Durable when it returns. Records of sessions that were over by `now` are forgotten.
    async fn end_session(&self, ended: EndedSession, now_unix_s: u64) -> Result<(), Error>;
    /// Sessions ended after `cursor` (0 for all), oldest first, and the cursor to go on from.
    async fn ended_sessions(&self, cursor: u64) -> Result<(Vec<EndedSession>, u64), Error>;
}

/// A seat as a store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) session: [u8; 16],
    pub(crate) taken_unix_s: u64,
    pub(crate) seen_unix_s: u64,
    pub(crate) until_unix_s: u64,
}

/// What becomes of a viewer's seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Whether the session has a seat.
    pub(crate) seated: bool,
    /// Seats that are free again: nobody has been seen in them.
    pub(crate) idle: Vec<[u8; 16]>,
    /// Sessions that end for it, oldest first.
    pub(crate) ended: Vec<EndedSession>,
}

/// Decides on a seat, given all that the viewer holds. Among equally old sessions the smaller id counts as the older.
pub(crate) fn settle(held: &[Held], seat: &Seat, limit: SeatLimit) -> Settled {
    let free = |held: &&Held| held.seen_unix_s.saturating_add(limit.idle_s) < seat.seen_unix_s;
    let idle: Vec<_> =
        held.iter().filter(free).map(|held| held.session).filter(|id| *id != seat.session).collect();
    let mut others: Vec<_> =
        held.iter().filter(|held| held.session != seat.session && !idle.contains(&held.session)).collect();
    others.sort_by_key(|held| (held.taken_unix_s, held.session));
    let over = (others.len() + 1).saturating_sub(limit.seats as usize);
    let known = held.iter().any(|held| held.session == seat.session);
    if known || over == 0 {
        return Settled { seated: true, idle, ended: Vec::new() };
    }
    if limit.when_full == WhenFull::RejectNew {
        return Settled { seated: false, idle, ended: Vec::new() };
    }
    let ended = others.iter().take(over);
    let ended = ended.map(|held| EndedSession { session: held.session, until_unix_s: held.until_unix_s });
    Settled { seated: true, idle, ended: ended.collect() }
}
