//! The order in which the messages of a publisher's two connections come: one, on both nodes.
//!
//! In: a connection that has a message; the holder's words. Out: whether it is that message's turn. Touches the books.
//!
//! Which connection's message comes next is chance at the holder and its word at the standby; so is whether a publisher was
//! alone or quiet then. From a holder that has died its words count as far as they were heard: each came behind the bytes of
//! its message. Behind them this node decides. While sockets move nothing is decided, so that the other node has heard all
//! there was.

use super::super::News;
use super::super::word::{Next, Word};
use super::{Of, Strand};
use crate::merge::Standing;
use mirror::{ConnectionId, Role};
use std::pin::Pin;
use tokio::sync::futures::Notified;
use tokio::sync::watch;

impl Of {
    /// As standby: the holder's word on a message.
    pub(in super::super) fn next(&self, connection: ConnectionId, next: Next) {
        self.inner().words.insert(next.at, (connection.0, next.standing));
        self.turned.notify_waiters();
    }
}

impl Strand {
    /// How things stand for the feed's message number `at`, where that is the connection's: by the holder's word; or, where
    /// this node decides, as `ours` says, and the other node is told.
    pub fn turn(&self, connection: u64, at: u64, ours: Standing) -> Option<Standing> {
        let mut books = self.data.books();
        let mut inner = self.of.inner();
        let decides = books.ledger.role() == Role::Holder && !books.detached;
        while inner.words.first_key_value().is_some_and(|(first, _)| *first < at) {
            inner.words.pop_first();
        }
        let mut lost = None;
        if let Some((first, (whose, standing))) = inner.words.first_key_value().map(|(at, word)| (*at, *word))
        {
            if (first, whose) == (at, connection) {
                inner.words.pop_first();
                return Some(standing);
            }
            // Its message never comes.
            if !decides || (first == at && !inner.left.contains(&whose)) {
                return None;
            }
            inner.words.clear();
            lost = inner.stream.clone();
        } else if !decides {
            return None;
        }
        let next = Next { at, standing: ours };
        if let Some((_, said)) = &mut inner.said {
            said.push((connection, next));
        }
        books.note(ConnectionId(connection), Word::Next(next));
        drop((inner, books));
        self.data.ring();
        if let Some(stream) = lost {
            self.data.diverged(format!("stream {stream}: the former holder's order of messages is lost"));
        }
        Some(ours)
    }

    /// Ends at the next change; made, and enabled, before one looks.
    pub fn turned(&self) -> Notified<'_> {
        self.of.turned.notified()
    }

    /// Waits for what may make it another message's turn. `false`: the connection lives elsewhere.
    pub async fn changed(
        &self,
        connection: u64,
        turned: Pin<&mut Notified<'_>>,
        news: &mut watch::Receiver<News>,
    ) -> bool {
        if self.of.inner().abandoned.contains(&connection) {
            return false;
        }
        tokio::select! {
            () = turned => true,
            changed = news.changed() => changed.is_ok(),
        }
    }

    /// What the pair's streams are told: a node's role may have changed.
    pub fn news(&self) -> watch::Receiver<News> {
        self.data.news()
    }

    /// A message was taken.
    pub fn advance(&self) {
        self.of.turned.notify_waiters();
    }
}
