//! A connection as a value: given to a standby that joins, and taken from the holder.
//!
//! In: where the connection stands; a state of the holder's. Out: the same to the books, or behind the messages before it to the
//! stream, whose part it lacks. Part of a connection's task.

use super::super::strand::{Decisions, Strand};
use super::super::word::{Joins, LineState};
use super::super::{Moment, Rest};
use super::{Fate, Line, NO_IDR_MAX, Place};
use rtmp::{Session, Stage};
use std::time::{Duration, Instant};

impl Line {
    pub(super) async fn restore(&mut self, state: LineState, decisions: Decisions) -> Result<(), Fate> {
        self.session = match Session::restore(&state.session) {
            Ok(session) => session,
            Err(error) => {
                self.tap.data.diverged(format!("connection {}: {error}", self.tap.connection));
                self.broken = true;
                return Ok(());
            }
        };
        self.session.follow();
        self.zero = Duration::from_millis(self.session.time());
        self.start = Instant::now();
        self.read = self.session.bytes_received();
        self.said = state.output;
        if let Some(lead) = state.lead {
            self.follow(Box::new(lead), decisions).await;
        }
        if let Some(Joins { skip, .. }) = state.joins {
            self.skip = skip;
            self.join().await;
        }
        self.events().await
    }

    /// A snapshot travels behind the messages that were sent before it.
    pub(super) async fn moment(&mut self) {
        if !std::mem::take(&mut self.awaited_since).is_some_and(|_| self.tap.is_awaited()) {
            return;
        }
        let Some(claim) = &self.claim else { return };
        let (rest, record) = (self.rest(), claim.record());
        let (link, others, confluence, shared) = (0, Vec::new(), None, false);
        // Where it is not the instant for all of the publisher's connections, another one will be.
        claim.send_moment(Moment { rest, record, link, others, confluence, shared }).await;
    }

    /// Where the connection stands now.
    fn rest(&self) -> Rest {
        let (connection, session) = (self.tap.connection, self.session.snapshot().into());
        Rest { connection, session, input: self.read, output: self.said }
    }

    /// A connection that does not publish is given as it is.
    pub(super) async fn snapshot_now(&mut self) {
        if self.place == Place::Mirrored || self.session.stage() == Stage::Deciding {
            return;
        }
        let Some(claim) = &self.claim else {
            self.awaited_since = None;
            let Rest { session, input, output, .. } = self.rest();
            return self.tap.snapshot(input, LineState { session, output, lead: None, joins: None });
        };
        if let Some(strand) = self.tap.strand().filter(Strand::is_shared) {
            // Whichever connection shows an IDR picture next, its instant is that of all.
            strand.store(self.rest(), claim.taken().await);
        }
        if self.awaited_since.is_some_and(|since| since.elapsed() > NO_IDR_MAX) {
            self.moment().await;
        }
    }
}
