//! The playlist of the segments as MPEG-TS (RFC 8216, version 3): no init sections, no parts.
//!
//! In: a `Snapshot`. Out: text; numbers, durations, dates and discontinuities are those of the other playlists. Pure. It is
//! a way in of its own: players choose badly where a multivariant playlist mixes containers.

use super::{date, seconds};
use crate::window::{Segment, Snapshot};
use std::fmt::Write;

/// File name of this playlist.
pub const MPEG_TS: &str = "ts.m3u8";

/// The playlist; `None` while nothing listed is there as MPEG-TS. Segments that are not are left out at the ends.
pub fn mpeg_ts(snapshot: &Snapshot) -> Option<String> {
    let has = |segment: &&Segment| segment.has_mpeg_ts;
    let listed = || snapshot.segments.iter().skip_while(|segment| !has(segment)).take_while(has);
    let first = listed().next()?;
    let mut out = String::with_capacity(256 + snapshot.segments.len() * 100);
    let _ = write!(
        out,
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
        snapshot.target_duration_s, first.number, first.discontinuity,
    );
    if listed().all(|segment| segment.independent) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let mut discontinuity = first.discontinuity;
    for segment in listed() {
        if segment.discontinuity != discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
            discontinuity = segment.discontinuity;
        }
        let (date, seconds) = (date(segment.date_unix_ms), seconds(segment.duration_90k));
        let _ =
            writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:{seconds},\nts/{}.ts", segment.number);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{segment, snapshot};
    use super::*;

    fn muxed(number: u64, discontinuity: u64) -> Segment {
        Segment { has_mpeg_ts: true, ..segment(number, discontinuity, "a") }
    }

    #[test]
    fn it_lists_what_is_there_as_mpeg_ts() {
        let segments = vec![segment(6, 3, "a"), muxed(7, 3), muxed(8, 4), segment(9, 4, "a"), muxed(10, 4)];
        assert_eq!(
            mpeg_ts(&snapshot(segments)).unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:34.137Z\n#EXTINF:2.00200,\nts/7.ts\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:36.139Z\n#EXTINF:2.00200,\nts/8.ts\n"
        );
        assert_eq!(mpeg_ts(&snapshot(vec![segment(6, 3, "a")])), None);
    }
}
