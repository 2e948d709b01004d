//! Segments of a window as MPEG-TS: made when somebody asks for one, then kept beside it.
//!
//! In: a segment's number, and what it is to be made of. Out: an object. Pure: a function of the segment, whoever makes it and
//! when. All windows of one stream that have a segment share what was made of it.
//!
//! It is not made with the segment: most streams are watched by nobody in this container, and muxing and hashing it was a good
//! part of what a publisher cost. Both nodes of a pair can make it at any time, so it is no part of the record; what is, the hashes
//! of the tracks, names it. They are checked before it is made of them.

use super::{Entry, WINDOW_BYTES_MAX, Window, weight};
use crate::container::mpeg_ts::{self, Source};
use ingest_api::window::Sha256;
use ingest_api::{Object, Track};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was made of a segment, while there is room for it.
#[derive(Debug, Default)]
pub(super) struct Muxed(Mutex<Option<Object>>);

impl Muxed {
    /// Poisoned or not: it is whole or not there.
    fn lock(&self) -> MutexGuard<'_, Option<Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> usize {
        self.lock().as_ref().map_or(0, weight)
    }
}

impl Window {
    /// A segment as MPEG-TS, if it has been made.
    pub fn muxed(&self, number: u64, of: Sha256) -> Option<Object> {
        self.as_mpeg_ts(number, of)?.muxed.lock().clone()
    }

    /// A segment as MPEG-TS, made now where it has not been: milliseconds of work, not for a task that others wait for. `None`
    /// where there is none that is made of this, or where what is kept is not what was recorded.
    pub fn mux(&self, number: u64, of: Sha256) -> Option<Object> {
        if let Some(muxed) = self.muxed(number, of) {
            return Some(muxed);
        }
        let entry = self.as_mpeg_ts(number, of)?;
        let source = |track: Track| {
            let named = entry.record.tracks.iter().find(|named| named.track == track)?;
            let object =
                self.object(track, number).filter(|object| Sha256::of_object(object) == named.sha256)?;
            Some(Source { init: &self.init(&named.init)?.a, object })
        };
        let sources = [Track::Video, Track::AUDIO].map(source);
        let named =
            entry.record.tracks.iter().filter(|named| matches!(named.track, Track::Video | Track::AUDIO));
        if sources.iter().flatten().count() != named.count() {
            return None;
        }
        let [video, audio] = sources;
        let object = mpeg_ts::segment(video, audio)?;
        if self.bytes + self.muxed_bytes() + weight(&object) <= WINDOW_BYTES_MAX {
            *entry.muxed.lock() = Some(object.clone());
        }
        Some(object)
    }

    fn as_mpeg_ts(&self, number: u64, of: Sha256) -> Option<&Entry> {
        self.entry(number).filter(|entry| entry.record.mpeg_ts() == Some(of))
    }

    fn muxed_bytes(&self) -> usize {
        self.segments.iter().map(|entry| entry.muxed.bytes()).sum()
    }

    /// Segments come first: what was made of them goes where there is no room for both, the oldest before the others.
    pub(super) fn make_room(&self) {
        let mut bytes = self.bytes + self.muxed_bytes();
        for entry in &self.segments {
            if bytes <= WINDOW_BYTES_MAX {
                return;
            }
            bytes -= entry.muxed.lock().take().as_ref().map_or(0, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Output, Segmenter};
    use crate::unit::{AccessUnit, Piece, Unit, VideoConfig};
    use bytes::Bytes;
    use ingest_api::{Run, RunId};
    use std::sync::Arc;

    fn run() -> Run {
        Run {
            id: RunId([9; 8]),
            stream: "demo".parse().unwrap(),
            anchor_unix_ms: 0,
            first_number: 0,
            first_discontinuity: 0,
            target_duration_s: 1,
            part_90k: 30_000,
            mpeg_ts: true,
            encryption: None,
        }
    }

    /// So many segments of a second, as a segmenter makes them.
    fn outputs(segments: i64) -> Vec<Output> {
        let avcc = "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0";
        let config = VideoConfig::of_avcc(hex::decode(avcc).unwrap().into()).unwrap();
        let mut segmenter = Segmenter::begin(run());
        let mut outputs = segmenter.push(Unit::VideoConfig(Arc::new(config)));
        for n in 0..=segments * 30 {
            let idr = n % 30 == 0;
            let unit = [&[0, 0, 0, 9, if idr { 0x65 } else { 0x41 }][..], &[n as u8; 8]].concat();
            let (dts_90k, pieces) = (n * 3_000, vec![Piece::Common(unit.into())]);
            let unit = AccessUnit { dts_90k, composition_90k: 0, idr, gop: None, pieces };
            outputs.extend(segmenter.push(Unit::Video(unit)));
        }
        outputs
    }

    fn window(outputs: &[Output]) -> Window {
        let mut window = Window::new(run().stream, 1, 60, 60, 0);
        outputs.iter().for_each(|output| window.apply(output).unwrap());
        window
    }

    #[test]
    fn it_is_made_when_somebody_asks_and_then_kept_for_all_who_have_the_segment() {
        let (first, outputs) = (outputs(1), outputs(3));
        let shown = window(&outputs);
        let earlier = shown.clone();
        for segment in shown.snapshot().segments {
            let (number, of) = (segment.number, segment.mpeg_ts().unwrap());
            assert_eq!(earlier.muxed(number, of), None, "nobody has asked");
            let made = shown.mux(number, of).unwrap();
            assert!(made.len().is_multiple_of(188) && !made.is_empty());
            let kept = earlier.muxed(number, of).unwrap();
            assert_eq!(kept.a.as_ptr(), made.a.as_ptr(), "not made again");
            assert_eq!(earlier.mux(number, of).unwrap().a.as_ptr(), made.a.as_ptr());
            assert!(shown.mux(number, Sha256::of(b"others")).is_none() && shown.mux(9, of).is_none());
        }
        // Another node, that has made the same segments, makes the same of them.
        let segment = &shown.snapshot().segments[0];
        let of = segment.mpeg_ts().unwrap();
        assert_eq!(window(&first).mux(0, of), shown.muxed(0, of));
    }

    #[test]
    fn of_what_was_not_recorded_nothing_is_made() {
        let mut outputs = outputs(1);
        for output in &mut outputs {
            if let Output::Segment { objects, .. } = output {
                let mut bytes = objects[0].1.a.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                objects[0].1.a = bytes.into();
            }
        }
        let window = window(&outputs);
        let of = window.snapshot().segments[0].mpeg_ts().unwrap();
        assert_eq!(window.mux(0, of), None);
    }

    #[test]
    fn it_goes_before_a_segment_does() {
        let mut window = window(&outputs(2));
        let large = Object::plain(Bytes::from(vec![0; 32 << 20]));
        let ofs: Vec<_> = window.snapshot().segments.iter().map(|one| one.mpeg_ts().unwrap()).collect();
        // As if the segments filled all but a little more than one of these.
        let most = WINDOW_BYTES_MAX - window.bytes;
        window.bytes += most - large.len() - 1;
        for entry in &window.segments {
            *entry.muxed.lock() = Some(large.clone());
        }
        window.make_room();
        assert_eq!(window.muxed(0, ofs[0]), None, "the oldest");
        assert_eq!(window.muxed(1, ofs[1]), Some(large));
        assert!(window.mux(0, ofs[0]).is_some(), "made for who asks");
        assert_eq!(window.muxed(0, ofs[0]), None, "and not kept, where there is no room");
        assert_eq!(window.segments.len(), 2);
    }
}
