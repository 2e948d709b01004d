//! What a standby that joins is given of a publisher: all its connections and its stream, of one instant.
//!
//! In: where each connection stands between two of its messages, and where the stream stands. Out: one state for each
//! connection, in the books, and the words on messages since. Touches the books.
//!
//! ```text
//!  connection 1  ──m──m──m──IDR│──m──►   the instant: between two messages of the feed
//!  connection 2  ──m─[stored]──m│──m──►  stands before it; the messages between the two are skipped there
//! ```

use super::super::word::{Joins, Lead, LineState, Start, write};
use super::super::{Moment, Rest};
use super::Strand;
use crate::merge::Confluence;

/// A connection between two of its messages.
pub(super) struct Stored {
    pub(super) rest: Rest,
    /// Its messages that the feed has taken.
    pub(super) taken: u64,
    /// Given to the standby of this link only.
    pub(super) link: u64,
}

impl Strand {
    /// As holder: where a connection stands, for a standby that joins. Taken once a link.
    pub(in super::super) fn store(&self, rest: Rest, taken: u64) {
        let books = self.data.books();
        let (link, connection) = (books.links, rest.connection.0);
        if !books.holder.takes_snapshot(rest.connection, rest.input) {
            return;
        }
        let mut inner = self.of.inner();
        if inner.stored.get(&connection).is_none_or(|stored| stored.link != link) {
            inner.stored.insert(connection, Stored { rest, taken, link });
        }
    }

    /// Whether the publisher has further connections.
    pub(in super::super) fn is_shared(&self) -> bool {
        self.of.inner().publishing().count() > 1
    }

    /// An instant of the whole publisher: its other connections as they stand, if all of them can be given now. From here
    /// on words on messages are kept for whoever is given it.
    pub fn instant(&self, moment: &mut Moment, confluence: &Confluence, shared: bool) -> bool {
        let books = self.data.books();
        let mut inner = self.of.inner();
        let link = books.links;
        if inner.on_the_way(link) || !books.holder.takes_snapshot(moment.rest.connection, moment.rest.input) {
            return false;
        }
        let host = moment.rest.connection.0;
        for member in inner.publishing().filter(|member| member.connection != host) {
            let stored = inner.stored.get(&member.connection).filter(|stored| stored.link == link);
            let Some(stored) = stored else { return false };
            let skip = confluence.taken_of(member.connection).saturating_sub(stored.taken);
            moment.others.push((*member, stored.rest.clone(), skip));
        }
        inner.said = Some((link, Vec::new()));
        (moment.link, moment.shared, moment.confluence) = (link, shared, Some(confluence.clone()));
        true
    }

    /// The stream has no state to give with an instant: the next one may do.
    pub fn lapses(&self, moment: &Moment) {
        self.of.inner().said.take_if(|(of, _)| *of == moment.link);
    }

    /// Everything of that instant, for a standby that joins.
    pub fn joined(&self, moment: Moment, mut lead: Lead) {
        let Moment { rest, link, others, .. } = moment;
        let host = rest.connection;
        let mut guard = self.data.books();
        let books = &mut *guard;
        let mut inner = self.of.inner();
        let said = inner.said.take_if(|(of, _)| *of == link).map(|(_, said)| said);
        let takes = |rest: &Rest| {
            books.holder.takes_snapshot(rest.connection, rest.input)
                && !inner.left.contains(&rest.connection.0)
        };
        let own = inner.members.iter().find(|member| member.connection == host.0);
        let (Some(own), true, true) =
            (own, books.links == link, takes(&rest) && others.iter().all(|(_, rest, _)| takes(rest)))
        else {
            // The link came up after this instant, or has gone, or one of them has: the next instant will do.
            return;
        };
        (lead.push, lead.peer) = (own.push, own.peer);
        drop(inner);
        let stream = lead.record.name.clone();
        if let Some(live) = &mut lead.live {
            live.words = said.unwrap_or_default();
        }
        let mut states = vec![(rest, Some(lead), None)];
        states.extend(
            others.into_iter().map(|(_, rest, skip)| (rest, None, Some(Joins { host: host.0, skip }))),
        );
        let mut failed = None;
        for (rest, lead, joins) in states {
            let Rest { connection, session, input, output } = rest;
            let state = LineState { session, output, lead, joins };
            let state = write(&Start::State(Box::new(state)));
            match books.holder.snapshot(connection, input, state) {
                Ok(()) => {}
                Err(error) => failed = Some(format!("connection {connection}: no snapshot: {error}")),
            }
        }
        books.ledger.joined(&stream);
        drop(guard);
        if let Some(words) = failed {
            self.data.diverged(words);
        }
        self.data.ring();
        self.data.tell_streams();
    }
}
