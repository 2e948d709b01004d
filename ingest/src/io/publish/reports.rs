//! What a stream's task tells operators.
//!
//! In: notes of the feed, reports of the segmenter, words of the task itself. Out: counters, and a log line for a publisher's first
//! of a kind.

use super::Stream;
use crate::metrics::OfStreamAnd;
use ingest_api::Track;
use media::feed::Note;
use media::segment::Report;
use media::timeline::Event;
use tracing::warn;

impl Stream {
    pub(super) fn count_gop(&self, marking: ingest_api::window::Marking) {
        use ingest_api::window::Marking::{Marked, Unmarked, Withheld};
        let kind = match marking {
            Marked => "marked",
            Unmarked => "unmarked",
            Withheld => "withheld",
        };
        let of = OfStreamAnd { stream: self.context.stream.to_string(), kind };
        self.context.metrics.gops.get_or_create(&of).inc();
    }

    pub(super) fn note(&mut self, note: Note) {
        match note {
            Note::Started(_) => {}
            Note::LeftOut(track) => {
                let text = match track {
                    Track::Video | Track::Encoding(_) => {
                        "the publisher sends a further video track that is left out: ids 1 to 4 of H.264, HEVC and AV1 go on beside the first"
                    }
                    Track::Audio(_) => {
                        "the publisher sends an audio track that is left out: ids 1 to 7 of AAC and Opus go on beside the first"
                    }
                };
                self.report("further-tracks", text);
            }
            Note::Time(Event::Jump { .. }) => self.report("time-jump", &format!("{note:?}")),
            Note::Time(Event::Bump { .. }) => self.report("time-bump", &format!("{note:?}")),
        }
    }

    pub(super) fn reported(&mut self, report: Report) {
        let kind = match report {
            Report::LongGop { .. } => "long-gop",
            Report::AudioReanchored { .. } => "audio-gap",
            Report::EmptyAudio { .. } => "no-audio",
            Report::EmptyVideo { .. } => "no-video",
            Report::Oversize { .. } => "oversize",
            Report::NotAligned { .. } => "not-aligned",
            Report::NoMpegTs { .. } => "no-mpeg-ts",
            Report::Hole { .. } => "hole",
            Report::Dropped { .. } => "dropped",
            Report::BadPair { .. } => "bad-pair",
            Report::BadConfig { .. } => "bad-config",
        };
        self.report(kind, &format!("{report:?}"));
    }

    pub(super) fn report(&mut self, kind: &'static str, text: &str) {
        let of = OfStreamAnd { stream: self.context.stream.to_string(), kind };
        self.context.metrics.reports.get_or_create(&of).inc();
        // One line for a publisher's first of a kind, then the counter tells.
        if self.told.insert(kind) {
            warn!(stream = %self.context.stream, kind, "{text}");
        }
    }
}
