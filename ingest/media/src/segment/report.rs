//! What a segmenter answers: things to publish, and things to count.

use ingest_api::content_key::SegmentKey;
use ingest_api::window::{Part, Segment, TrackInfo};
use ingest_api::{Object, Track};

/// One consequence of a unit, in order: an init section before the first part that needs it, parts before their segment.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// An init section that was not given out before.
    Init {
        /// Its track.
        track: Track,
        /// `init-` and the first 16 hex digits of the SHA-256 of its bytes.
        name: String,
        /// Its bytes.
        object: Object,
        /// What a multivariant playlist says of the track; bit rates are 0, the window knows them.
        info: TrackInfo,
    },
    /// A part is complete; first the video's, then that of each further track of the same ticks. Its bytes are
    /// `offset..offset + part.len` of its segment's track.
    Part {
        /// Its track.
        track: Track,
        /// Its segment.
        number: u64,
        /// Counted from 0 in the segment.
        index: u32,
        /// First tick.
        start_90k: i64,
        /// First byte in the segment of this track.
        offset: u64,
        /// Its record.
        part: Part,
        /// Its bytes.
        object: Object,
        /// What is known of its segment by now.
        of: OfSegment,
    },
    /// A segment is complete.
    Segment {
        /// Its record.
        record: Segment,
        /// The bytes of each track, as the record names them.
        objects: Vec<(Track, Object)>,
    },
    /// For metrics and logs.
    Report(Report),
}

/// What is known of a segment and track from the first part on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfSegment {
    /// The init section of the track.
    pub init: String,
    /// Discontinuities before the segment.
    pub discontinuity: u64,
    /// Its date in Unix milliseconds.
    pub date_unix_ms: i64,
    /// The key that it is encrypted by; `None` from the segmenter, which makes clear segments.
    pub key: Option<SegmentKey>,
}

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A GOP longer than a segment may be was cut inside; once a GOP.
    LongGop {
        /// The segment that ends.
        number: u64,
        /// Start of the GOP.
        start_90k: i64,
        /// Its length up to the cut.
        so_far_90k: i64,
    },
    /// Audio time left its count by more than a frame, forward: there is a gap in the track.
    AudioReanchored {
        /// Of which track.
        track: Track,
        /// Where: the segment.
        number: u64,
        /// Samples left out.
        samples: u64,
    },
    /// No audio frame came for a whole segment; it has empty fragments.
    EmptyAudio {
        /// On which track.
        track: Track,
        /// Which.
        number: u64,
    },
    /// No picture came, or was let through, for a whole segment.
    EmptyVideo {
        /// Which.
        number: u64,
    },
    /// A further encoding of the picture has no IDR picture, marked if the picture's is, where the picture has the one that a
    /// segment begins with: it is left out of that segment.
    NotAligned {
        /// Which one.
        track: Track,
        /// The segment.
        number: u64,
    },
    /// Cut early because it would have grown over a limit.
    Oversize {
        /// The segment that ends.
        number: u64,
    },
    /// As MPEG-TS it would be larger than an object may be: that playlist ends before it.
    NoMpegTs {
        /// Which.
        number: u64,
    },
    /// The next segment starts later than the last one ended.
    Hole {
        /// End of the last one.
        from_90k: i64,
        /// Start of the next one.
        to_90k: i64,
    },
    /// A unit was not used.
    Dropped {
        /// Its track.
        track: Track,
        /// Its time.
        time_90k: i64,
        /// Why.
        why: DropCause,
    },
    /// A marked slice whose variants differ in length, or without a GOP record: everyone gets A.
    BadPair {
        /// The segment.
        number: u64,
        /// The slice.
        slice: u16,
    },
    /// A configuration that no init section can be made of; its track is dropped.
    BadConfig {
        /// The track.
        track: Track,
        /// What is wrong.
        why: String,
    },
}

/// Why a unit was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// No configuration before it.
    NoConfig,
    /// Audio before the first IDR picture.
    BeforeStart,
    /// Refers to pictures that are not there.
    WaitsForIdr,
    /// Its segment is closed.
    Late,
    /// A time below 0 or over `TICKS_MAX`.
    Time,
    /// No bytes, or too many.
    Size,
    /// Audio over audio that is already there.
    Overlap,
    /// Sound, or a further encoding's picture, of another configuration than the open segment's.
    OtherConfig,
    /// The queue is full: of sound the oldest goes, of a further encoding everything.
    Queue,
    /// Audio beyond the end of what a publisher left.
    AfterEnd,
}
