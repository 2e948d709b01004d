//! All of the shared state in memory: for tests, and as the reference that the other back-ends are compared with.
//!
//! Nothing is durable; otherwise every answer is the one the traits promise.

use crate::blobs::{Blobs, check_blob_name};
use crate::coordinator::{Coordinator, Error, Fence, NodeRecord, Revocation, StreamRecord};
use crate::coordinator::{FORGET_MAX, check_adopted, check_next, check_number, check_run};
use crate::directory::DirectoryEntry;
use crate::ledger::{Ledger, SessionRecord, check_session};
use crate::seats::{EndedSession, Held, Seat, SeatLimit, Seats, settle};
use async_trait::async_trait;
use bytes::Bytes;
use ingest_api::window::Segment;
use ingest_api::{Run, StreamName};
use releve_watermark::WatermarkId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared state that ends with the process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: BTreeMap<StreamName, StreamRecord>,
    /// The last change of each name.
    revisions: BTreeMap<StreamName, u64>,
    epochs: BTreeMap<StreamName, u64>,
    runs: Vec<Run>,
    /// Each with the time of its commit.
    segments: BTreeMap<(StreamName, u64), (Segment, i64)>,
    revocations: Vec<Revocation>,
    seats: Vec<(WatermarkId, Held)>,
    ended: BTreeMap<u64, EndedSession>,
    ended_ever: u64,
    nodes: BTreeMap<String, NodeRecord>,
    sessions: Vec<SessionRecord>,
    viewers: BTreeSet<(String, WatermarkId)>,
    blobs: BTreeMap<String, Bytes>,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn changed(&mut self, name: &StreamName) {
        let next = self.revisions.values().max().map_or(1, |last| last + 1);
        self.revisions.insert(name.clone(), next);
    }

    fn entry(&self, name: &StreamName) -> DirectoryEntry {
        let revision = self.revisions.get(name).copied().unwrap_or(0);
        DirectoryEntry { name: name.clone(), revision, record: self.streams.get(name).cloned() }
    }

    fn latest_run(&self, stream: &StreamName) -> Option<&Run> {
        self.runs.iter().rev().find(|run| &run.stream == stream)
    }

    fn last_commit(&self, stream: &StreamName) -> Option<&(Segment, i64)> {
        self.segments.range((stream.clone(), 0)..=(stream.clone(), u64::MAX)).next_back().map(|(_, s)| s)
    }

    fn last(&self, stream: &StreamName) -> Option<&Segment> {
        self.last_commit(stream).map(|(segment, _)| segment)
    }
}

#[async_trait]
impl Coordinator for Memory {
    async fn add_stream(&self, stream: StreamRecord) -> Result<(), Error> {
        let mut state = self.state();
        if state.streams.contains_key(&stream.name) {
            return Err(Error::Exists(format!("stream `{}`", stream.name)));
        }
        if state.streams.values().any(|other| other.key_id == stream.key_id) {
            return Err(Error::Exists("the key id".to_owned()));
        }
        state.changed(&stream.name);
        state.streams.insert(stream.name.clone(), stream);
        Ok(())
    }

    async fn update_stream(&self, stream: StreamRecord) -> Result<(), Error> {
        let mut state = self.state();
        if state.streams.values().any(|other| other.key_id == stream.key_id && other.name != stream.name) {
            return Err(Error::Exists("the key id".to_owned()));
        }
        if !state.streams.contains_key(&stream.name) {
            return Err(Error::NotFound(format!("stream `{}`", stream.name)));
        }
        state.changed(&stream.name);
        state.streams.insert(stream.name.clone(), stream);
        Ok(())
    }

    async fn remove_stream(&self, name: &StreamName) -> Result<(), Error> {
        let mut state = self.state();
        let removed = state.streams.remove(name);
        removed.ok_or_else(|| Error::NotFound(format!("stream `{name}`")))?;
        state.changed(name);
        Ok(())
    }

    async fn streams(&self) -> Result<Vec<StreamRecord>, Error> {
        Ok(self.state().streams.values().cloned().collect())
    }

    async fn stream(&self, name: &StreamName) -> Result<Option<StreamRecord>, Error> {
        Ok(self.state().streams.get(name).cloned())
    }

    async fn stream_by_key_id(&self, key_id: &str) -> Result<Option<StreamRecord>, Error> {
        Ok(self.state().streams.values().find(|stream| stream.key_id == key_id).cloned())
    }

    async fn directory(&self) -> Result<Vec<DirectoryEntry>, Error> {
        let state = self.state();
        Ok(state.revisions.keys().map(|name| state.entry(name)).collect())
    }

    async fn merge_directory(&self, entries: Vec<DirectoryEntry>) -> Result<Vec<StreamName>, Error> {
        let mut state = self.state();
        let mut changed = Vec::new();
        for entry in entries.into_iter().filter(DirectoryEntry::is_sound) {
            let DirectoryEntry { name, revision, record } = &entry;
            let known = state.revisions.contains_key(name);
            let taken = |record: &StreamRecord| {
                state.streams.values().any(|other| other.key_id == record.key_id && other.name != *name)
            };
            if known && !entry.replaces(&state.entry(name)) || record.as_ref().is_some_and(taken) {
                continue;
            }
            state.revisions.insert(name.clone(), *revision);
            match record {
                Some(record) => drop(state.streams.insert(name.clone(), record.clone())),
                None => drop(state.streams.remove(name)),
            }
            changed.push(name.clone());
        }
        Ok(changed)
    }

    async fn epoch(&self, stream: &StreamName) -> Result<u64, Error> {
        Ok(self.state().epochs.get(stream).copied().unwrap_or(0))
    }

    async fn advance_epoch(&self, stream: &StreamName, from: u64) -> Result<u64, Error> {
        let mut state = self.state();
        let epoch = state.epochs.entry(stream.clone()).or_insert(0);
        if *epoch != from {
            return Err(Error::Stale(*epoch));
        }
        *epoch += 1;
        Ok(*epoch)
    }

    async fn begin_run(&self, run: &Run) -> Result<(), Error> {
        let mut state = self.state();
        let known = state.runs.iter().find(|known| known.stream == run.stream && known.id == run.id);
        if check_run(run, known, state.latest_run(&run.stream), state.last(&run.stream))? {
            state.runs.push(run.clone());
        }
        Ok(())
    }

    async fn latest_run(&self, stream: &StreamName) -> Result<Option<Run>, Error> {
        Ok(self.state().latest_run(stream).cloned())
    }

    async fn commit_segment(
        &self,
        stream: &StreamName,
        segment: &Segment,
        fence: Fence,
        now_unix_ms: i64,
    ) -> Result<(), Error> {
        let mut state = self.state();
        fence.check(state.epochs.get(stream).copied().unwrap_or(0))?;
        let place = (stream.clone(), segment.number);
        let known = state.segments.get(&place).map(|(segment, _)| segment);
        if check_next(segment, known, state.last(stream), state.latest_run(stream))? {
            state.segments.insert(place, (segment.clone(), now_unix_ms));
        }
        Ok(())
    }

    async fn adopt_segment(
        &self,
        stream: &StreamName,
        segment: &Segment,
        now_unix_ms: i64,
    ) -> Result<(), Error> {
        let mut state = self.state();
        if check_adopted(segment, state.last(stream), state.latest_run(stream))? {
            state.segments.insert((stream.clone(), segment.number), (segment.clone(), now_unix_ms));
        }
        Ok(())
    }

    async fn last_segment(&self, stream: &StreamName) -> Result<Option<Segment>, Error> {
        Ok(self.state().last(stream).cloned())
    }

    async fn last_commit_unix_ms(&self, stream: &StreamName) -> Result<Option<i64>, Error> {
        Ok(self.state().last_commit(stream).map(|(_, at)| *at))
    }

    async fn segment(&self, stream: &StreamName, number: u64) -> Result<Option<Segment>, Error> {
        Ok(self.state().segments.get(&(stream.clone(), number)).map(|(segment, _)| segment.clone()))
    }

    async fn forget_segments(&self, stream: &StreamName, before_unix_ms: i64) -> Result<usize, Error> {
        let mut state = self.state();
        let last = state.last(stream).map_or(0, |last| last.number);
        let all = state.segments.range((stream.clone(), 0)..(stream.clone(), last));
        let old = all.take_while(|(_, (segment, _))| segment.date_unix_ms < before_unix_ms).take(FORGET_MAX);
        let old: Vec<_> = old.map(|(place, _)| place.clone()).collect();
        old.iter().for_each(|place| drop(state.segments.remove(place)));
        Ok(old.len())
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        check_number("the time of a revocation", revocation.at_unix_s)?;
        self.state().revocations.push(revocation);
        Ok(())
    }

    async fn revocations(&self, cursor: u64) -> Result<(Vec<Revocation>, u64), Error> {
        let state = self.state();
        let from = usize::try_from(cursor).unwrap_or(usize::MAX).min(state.revocations.len());
        Ok((state.revocations[from..].to_vec(), cursor.max(state.revocations.len() as u64)))
    }

    async fn announce(&self, node: NodeRecord) -> Result<(), Error> {
        self.state().nodes.insert(node.name.clone(), node);
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        Ok(self.state().nodes.values().cloned().collect())
    }
}

impl State {
    /// Settles one seat; what must end is ended.
    fn seat(&mut self, seat: &Seat, limit: SeatLimit) -> bool {
        let held: Vec<_> = self
            .seats
            .iter()
            .filter(|(viewer, _)| *viewer == seat.viewer)
            .map(|(_, held)| held.clone())
            .collect();
        let settled = settle(&held, seat, limit);
        self.seats.retain(|(viewer, held)| *viewer != seat.viewer || !settled.idle.contains(&held.session));
        settled.ended.into_iter().for_each(|ended| self.end(ended));
        if settled.seated {
            match self.seats.iter_mut().find(|(_, held)| held.session == seat.session) {
                Some((_, held)) => held.seen_unix_s = held.seen_unix_s.max(seat.seen_unix_s),
                None => {
                    let (session, seen_unix_s) = (seat.session, seat.seen_unix_s);
                    let until_unix_s = seat.until_unix_s;
                    let held = Held { session, taken_unix_s: seen_unix_s, seen_unix_s, until_unix_s };
                    self.seats.push((seat.viewer, held));
                }
            }
        }
        settled.seated
    }

    fn end(&mut self, ended: EndedSession) {
        self.seats.retain(|(_, held)| held.session != ended.session);
        if !self.has_ended(ended.session) {
            self.ended_ever += 1;
            self.ended.insert(self.ended_ever, ended);
        }
    }

    fn has_ended(&self, session: [u8; 16]) -> bool {
        self.ended.values().any(|ended| ended.session == session)
    }
}

#[async_trait]
impl Seats for Memory {
    async fn take_seat(&self, seat: Seat, limit: SeatLimit) -> Result<bool, Error> {
        check_number("the time of a seat", seat.seen_unix_s.max(seat.until_unix_s))?;
        Ok(self.state().seat(&seat, limit))
    }

    async fn keep_seats(&self, seats: Vec<Seat>, limit: SeatLimit) -> Result<(), Error> {
        let mut state = self.state();
        for seat in seats {
            if !state.has_ended(seat.session) && !state.seat(&seat, limit) {
                state.end(EndedSession { session: seat.session, until_unix_s: seat.until_unix_s });
            }
        }
        Ok(())
    }

    async fn end_session(&self, ended: EndedSession, now_unix_s: u64) -> Result<(), Error> {
        check_number("the end of a session", ended.until_unix_s)?;
        let mut state = self.state();
        state.ended.retain(|_, known| known.until_unix_s >= now_unix_s);
        state.end(ended);
        Ok(())
    }

    async fn ended_sessions(&self, cursor: u64) -> Result<(Vec<EndedSession>, u64), Error> {
        let state = self.state();
        let new: Vec<_> = state.ended.iter().filter(|(id, _)| **id > cursor).collect();
        let end = new.last().map_or(cursor, |(id, _)| **id);
        Ok((new.into_iter().map(|(_, ended)| *ended).collect(), end))
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn record_session(&self, record: SessionRecord) -> Result<(), Error> {
        let mut state = self.state();
        let known = state.sessions.iter().find(|known| known.session == record.session);
        if check_session(&record, known)? {
            state.viewers.insert((record.viewer.clone(), record.watermark_id));
            state.sessions.push(record);
        }
        Ok(())
    }

    async fn session(&self, session: [u8; 16]) -> Result<Option<SessionRecord>, Error> {
        Ok(self.state().sessions.iter().find(|record| record.session == session).cloned())
    }

    async fn sessions_of(&self, viewer: &str) -> Result<Vec<SessionRecord>, Error> {
        let mut sessions: Vec<_> =
            self.state().sessions.iter().filter(|record| record.viewer == viewer).cloned().collect();
        sessions.sort_by_key(|record| record.admitted_unix_s);
        Ok(sessions)
    }

    async fn register(&self) -> Result<Vec<(String, WatermarkId)>, Error> {
        Ok(self.state().viewers.iter().cloned().collect())
    }
}

#[async_trait]
impl Blobs for Memory {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        check_blob_name(name)?;
        match self.state().blobs.entry(name.to_owned()).or_insert_with(|| bytes.clone()) == &bytes {
            true => Ok(()),
            false => Err(Error::Conflict(format!("blob {name} exists with other bytes"))),
        }
    }

    async fn append(&self, name: &str, at: u64, bytes: Bytes) -> Result<(), Error> {
        check_blob_name(name)?;
        let mut state = self.state();
        let before = state.blobs.get(name).cloned().unwrap_or_default();
        let kept = usize::try_from(at).ok().and_then(|at| before.get(..at));
        let kept = kept.ok_or_else(|| Error::Conflict(format!("blob {name} is shorter than {at} bytes")))?;
        state.blobs.insert(name.to_owned(), [kept, &bytes].concat().into());
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.state().blobs.get(name).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        Ok(self.state().blobs.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.state().blobs.remove(name);
        Ok(())
    }
}
