//! What another node listed before this one was there, put in front of what this one lists.
//!
//! In: whole segments of another node's window, newest first. Out: the same window, listing them too; whole segments of it.
//! Pure. The bytes are checked against the record, so a window never lists what it does not have.

use super::{Entry, Init, Muxed, Window, WindowError};
use bytes::Bytes;
use ingest_api::window::{Segment, Sha256, TrackInfo};
use ingest_api::{Object, Track};
use std::sync::Arc;

/// One segment with everything that serving it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its record.
    pub record: Segment,
    /// Name, encoded object and description of each init section that it names.
    pub inits: Vec<(String, Bytes, TrackInfo)>,
    /// Each track's encoded object.
    pub objects: Vec<(Track, Bytes)>,
}

impl Window {
    /// The number that comes next in front of the oldest segment kept; before the first one, of the run's first here.
    pub fn before(&self) -> Option<u64> {
        self.segments.front().map_or(self.begins, |entry| entry.record.number).checked_sub(1)
    }

    /// The record of a segment that is listed.
    pub fn lists(&self, number: u64) -> Option<&Segment> {
        self.record(number).filter(|_| number >= self.first_listed)
    }

    /// A segment that is kept, whole.
    pub fn whole(&self, number: u64) -> Option<Whole> {
        let entry = self.entry(number)?;
        let record = entry.record.clone();
        let inits = record.tracks.iter().map(|track| {
            let init = self.inits.iter().find(|init| init.name == track.init)?;
            Some((init.name.clone(), init.object.encode(), init.info.clone()))
        });
        let inits = inits.collect::<Option<Vec<_>>>()?;
        let objects = record.tracks.iter().map(|track| {
            let object = self.object(track.track, number)?;
            Some((track.track, object.encode()))
        });
        let objects = objects.collect::<Option<Vec<_>>>()?;
        Some(Whole { record, inits, objects })
    }

    /// Lists a segment of another node in front of all others. `true` where one more would be listed, too. Rates stay: those
    /// of the run so far came with `join`.
    ///
    /// # Errors
    /// A number that is not [`Window::before`], bytes that are not those of the record, missing tracks or init sections.
    pub fn push_before(&mut self, whole: &Whole) -> Result<bool, WindowError> {
        let (record, number) = (&whole.record, whole.record.number);
        if self.before() != Some(number) {
            return Err(WindowError::Number { number, last: self.before().unwrap_or(0) });
        }
        if !record.tracks.iter().map(|named| named.track).eq(whole.objects.iter().map(|(track, _)| *track)) {
            return Err(WindowError::Tracks { number });
        }
        let objects = record.tracks.iter().zip(&whole.objects).map(|(named, (track, bytes))| {
            let object = Some(bytes).filter(|bytes| Sha256::of(bytes) == named.sha256);
            let object = object.and_then(|bytes| Object::decode(bytes.clone()).ok());
            Ok((*track, object.ok_or(WindowError::Bytes { number })?))
        });
        let objects = objects.collect::<Result<Vec<_>, _>>()?;
        let mut inits: Vec<(String, Object, TrackInfo)> = Vec::new();
        for track in &record.tracks {
            if self.init(&track.init).is_none() && inits.iter().all(|(name, ..)| *name != track.init) {
                let init = whole.inits.iter().find(|(name, ..)| *name == track.init);
                let (name, bytes, info) = init.ok_or(WindowError::Init { number })?;
                let object = Object::decode(bytes.clone()).map_err(|_| WindowError::Bytes { number })?;
                inits.push((name.clone(), object, info.clone()));
            }
        }
        let named = |(name, object, info)| Init { name, object, info, named: true };
        self.inits.extend(inits.into_iter().map(named));
        let entry = Entry { record: record.clone(), objects, muxed: Muxed::default() };
        // Nothing that left the list comes back into it: this node had not listed anything before these.
        let oldest = self.segments.front().is_none_or(|entry| entry.record.number == self.first_listed);
        self.bytes += entry.bytes();
        self.segments.push_front(Arc::new(entry));
        if oldest {
            self.first_listed = number;
        }
        self.slide();
        self.changed();
        Ok(self.first_listed == number && number > 0)
    }
}
