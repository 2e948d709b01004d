//! What a standby copies of its holder, on the link: questions and answers, and when it says that it is in step.
//!
//! In: questions of the standby, answers of the holder. Out: the same in notes beside all connections. What is copied and in
//! which order is `copy`'s; what a stream does with it is `publish::copied`'s. Touches the state store, for where streams
//! stand.

use super::super::books::Data;
use super::super::copy::{Chunk, Question, Reply, Standing, Want, record_hash};
use super::super::directory;
use super::super::word::{Word, read, write};
use super::Engine;
use crate::io::pair::orders::Report;
use crate::io::streams::Streams;
use bytes::Bytes;
use ingest_api::StreamName;
use ingest_api::window::Sha256;
use mirror::{ConnectionId, Role, Standby};
use releve_state::coordinator::Error as StateError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// A standby in step waits no longer than this for the rest of what it copies: meanwhile a crash would lose connections.
const COPY_MAX: Duration = Duration::from_secs(3);

impl Engine {
    /// As holder: the standby asks, beside all connections.
    pub(super) fn serve(&self, question: &Bytes) {
        let Ok(question) = read::<Question>(question) else { return };
        if question.at > 0 && self.data.books().shelf.has(&question.want) {
            return self.data.answer(&question, None);
        }
        let (data, streams) = (self.data.clone(), self.door.streams.clone());
        match &question.want {
            Want::Segment(stream, number, have) => {
                let reply = segment(&streams, stream, *number, have.as_ref());
                data.answer(&question, Some(reply));
            }
            Want::Directory(theirs, newer) => {
                let (theirs, newer) = (*theirs, newer.clone());
                tokio::spawn(async move {
                    let reply = directory::reply(streams.state(), &theirs, newer).await;
                    data.answer(&question, Some(reply));
                });
            }
            Want::Streams => drop(tokio::spawn(async move {
                let reply = match standings(&streams).await {
                    Ok(all) => Reply::Streams(all),
                    Err(error) => {
                        warn!(%error, "the standby is not told where the streams stand");
                        Reply::Nothing
                    }
                };
                data.answer(&question, Some(reply));
            })),
        }
    }

    /// As standby: a piece of an answer.
    pub(super) fn copied(&self, chunk: &Chunk) {
        let mut books = self.data.books();
        let Some((want, bytes)) = books.copies.heard(chunk) else { return };
        drop(books);
        // Whatever does not read is not there.
        let reply = read::<Reply>(&bytes).unwrap_or(Reply::Nothing);
        let mut books = self.data.books();
        books.copies.answered(&want, reply, Instant::now());
        if want == Want::Streams {
            let streams = &self.door.streams;
            books.copies.await_streams(|stream| streams.get(stream).is_some());
        }
        drop(books);
        self.data.tell_streams();
    }

    /// As standby: asks for what is lacking.
    pub(super) fn ask(&self) {
        let mut guard = self.data.books();
        let books = &mut *guard;
        let Some(standby) = books.standby.as_mut().filter(|_| self.wire.is_some()) else { return };
        if let Some(question) = books.copies.poll(Instant::now())
            && let Err(error) = standby.ask(ConnectionId::NONE, write(&question))
        {
            warn!(%error, "the holder is not asked for what it listed alone");
        }
    }

    /// Says that this node is in step: every connection runs here, and what the holder listed alone is here too.
    pub(super) fn tell_in_step(&mut self) {
        let Some((Role::Standby, _)) = self.wanted else { return };
        let Some(wire) = self.wire.as_mut().filter(|wire| !wire.in_step_told) else { return };
        let books = self.data.books();
        if !books.standby.as_ref().is_some_and(Standby::in_step) || !books.ear.is_carried_out() {
            return;
        }
        let since = *wire.in_step_since.get_or_insert_with(Instant::now);
        if !books.copies.are_whole() {
            if since.elapsed() < COPY_MAX {
                return;
            }
            let streams = books.copies.open();
            warn!(
                streams,
                "not all of what the holder listed alone is here yet; the pair does not wait for it"
            );
        }
        drop(books);
        wire.in_step_told = true;
        let epoch = wire.epoch;
        self.forget_unmentioned();
        self.report(Report::InStep(epoch));
    }
}

impl Data {
    /// Says a round of an answer; of a new one, where there is one.
    fn answer(&self, question: &Question, reply: Option<Reply>) {
        let answer = reply.map(|reply| write(&reply));
        let mut guard = self.books();
        let books = &mut *guard;
        if let Some(answer) = answer {
            books.shelf.put(question.want.clone(), answer);
        }
        for chunk in books.shelf.round(question) {
            let noted = books.holder.note(ConnectionId::NONE, write(&Word::Copy(chunk)));
            if let Err(error) = noted {
                warn!(%error, "the standby misses a piece of what it copies");
            }
        }
        drop(guard);
        self.ring();
    }
}

/// A listed segment for a standby.
fn segment(streams: &Streams, stream: &StreamName, number: u64, have: Option<&Sha256>) -> Reply {
    let Some(slot) = streams.get(stream) else { return Reply::Nothing };
    let window = slot.window.borrow().clone();
    if window.newest().is_some_and(|newest| newest.number < number) {
        return Reply::Later;
    }
    match window.lists(number) {
        Some(record) if have == Some(&record_hash(record)) => Reply::Same,
        Some(_) => match window.whole(number) {
            Some(whole) => Reply::Segment(Box::new(whole.into())),
            None => Reply::Nothing,
        },
        None => Reply::Nothing,
    }
}

/// Where the streams stand that have a segment.
async fn standings(streams: &Arc<Streams>) -> Result<Vec<Standing>, StateError> {
    let mut all = Vec::new();
    for (name, slot) in streams.all() {
        let state = streams.state();
        let (Some(run), Some(last)) = (state.latest_run(&name).await?, state.last_segment(&name).await?)
        else {
            continue;
        };
        let epoch = state.epoch(&name).await?;
        let seed = slot.window.borrow().seed();
        all.push(Standing { name, run, epoch, last, seed });
    }
    Ok(all)
}
