//! Playlists as a function of a snapshot (RFC 8216, and its successor draft where that is stricter).
//!
//! In: a `Snapshot`. Out: text that is the same on every node and for every viewer: all URIs are relative, so that the
//! session in front of them is inherited, and none names a variant. Pure.

use crate::window::{Segment, Snapshot, TICKS_PER_SECOND, Track, TrackInfo};
use jiff::Timestamp;
use std::fmt::Write;

/// File name of the multivariant playlist.
pub const INDEX: &str = "index.m3u8";
/// Content type of every playlist (RFC 8216 §4).
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// File name of a track's playlist.
pub fn media_name(track: Track) -> &'static str {
    match track {
        Track::Video => "video.m3u8",
        Track::Audio => "audio.m3u8",
    }
}

/// The multivariant playlist; `None` before the first segment.
pub fn index(snapshot: &Snapshot) -> Option<String> {
    snapshot.segments.last()?;
    let track = |which| snapshot.tracks.iter().find(|info| info.track == which);
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    match (track(Track::Video), track(Track::Audio)) {
        (Some(video), Some(audio)) => {
            let _ = writeln!(
                out,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{}\",URI=\"{}\"",
                audio.channels,
                media_name(Track::Audio)
            );
            stream_inf(&mut out, &[video, audio], ",AUDIO=\"audio\"");
            out.push_str(media_name(Track::Video));
        }
        (Some(only), None) | (None, Some(only)) => {
            stream_inf(&mut out, &[only], "");
            out.push_str(media_name(only.track));
        }
        (None, None) => return None,
    }
    out.push('\n');
    Some(out)
}

/// The `EXT-X-STREAM-INF` line; the first track is the one its URI names.
fn stream_inf(out: &mut String, tracks: &[&TrackInfo], more: &str) {
    let sum = |of: fn(&TrackInfo) -> u64| tracks.iter().map(|info| of(info)).sum::<u64>().max(1);
    let codecs: Vec<&str> = tracks.iter().map(|info| info.codec.as_str()).collect();
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
        sum(|info| info.peak_bps),
        sum(|info| info.mean_bps),
        codecs.join(",")
    );
    let first = tracks[0];
    if first.width > 0 {
        let _ = write!(out, ",RESOLUTION={}x{}", first.width, first.height);
    }
    if first.millihertz > 0 {
        let _ = write!(out, ",FRAME-RATE={}.{:03}", first.millihertz / 1000, first.millihertz % 1000);
    }
    let _ = writeln!(out, "{more}");
}

/// The playlist of one track; `None` while no listed segment has that track.
///
/// Segments that do not have the track (it came later, or has gone) are left out at the ends of the window.
pub fn media(snapshot: &Snapshot, track: Track) -> Option<String> {
    let has = |segment: &&Segment| segment.tracks.iter().any(|entry| entry.track == track);
    let first = snapshot.segments.iter().find(has)?;
    let mut out = String::with_capacity(256 + snapshot.segments.len() * 128);
    let _ = write!(
        out,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
        snapshot.target_duration_s, first.number, first.discontinuity
    );
    if snapshot.segments.iter().all(|segment| segment.independent) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let (mut init, mut discontinuity) = ("", first.discontinuity);
    for segment in snapshot.segments.iter().skip_while(|segment| segment.number < first.number) {
        let Some(entry) = segment.tracks.iter().find(|entry| entry.track == track) else { break };
        if segment.discontinuity != discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
            discontinuity = segment.discontinuity;
        }
        if entry.init != init {
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}/{}.mp4\"", track.as_str(), entry.init);
            init = &entry.init;
        }
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date(segment.date_unix_ms));
        let _ = writeln!(
            out,
            "#EXTINF:{},\n{}/{}.m4s",
            seconds(segment.duration_90k),
            track.as_str(),
            segment.number
        );
    }
    Some(out)
}

/// Ticks as seconds with five decimals, rounded down: a tick is 11 µs.
fn seconds(ticks: i64) -> String {
    let hundred_thousandths = ticks.max(0) * 100_000 / TICKS_PER_SECOND;
    format!("{}.{:05}", hundred_thousandths / 100_000, hundred_thousandths % 100_000)
}

/// ISO 8601 in UTC with milliseconds; a date outside the calendar is the epoch (no run is anchored there).
fn date(unix_ms: i64) -> String {
    let at = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{SegmentTrack, Sha256};

    fn info(track: Track) -> TrackInfo {
        let video = track == Track::Video;
        TrackInfo {
            track,
            codec: if video { "avc1.64001f" } else { "mp4a.40.2" }.into(),
            peak_bps: 1_000,
            mean_bps: 900,
            width: if video { 1280 } else { 0 },
            height: if video { 720 } else { 0 },
            millihertz: if video { 29_970 } else { 0 },
            channels: if video { 0 } else { 2 },
        }
    }

    fn segment(number: u64, discontinuity: u64, init: &str) -> Segment {
        let entry = |track| SegmentTrack {
            track,
            init: format!("init-{init:0>16}"),
            len: 1,
            sha256: Sha256([0; 32]),
            parts: Vec::new(),
        };
        Segment {
            number,
            run: crate::RunId([1; 8]),
            discontinuity,
            start_90k: 0,
            duration_90k: 180_180,
            sound_end: None,
            date_unix_ms: 1_700_000_000_123 + number as i64 * 2002,
            independent: true,
            gops: Vec::new(),
            tracks: vec![entry(Track::Video), entry(Track::Audio)],
        }
    }

    fn snapshot(segments: Vec<Segment>) -> Snapshot {
        Snapshot {
            stream: "demo".parse().unwrap(),
            epoch: 1,
            version: 1,
            live: true,
            target_duration_s: 2,
            tracks: vec![info(Track::Video), info(Track::Audio)],
            segments,
        }
    }

    #[test]
    fn a_media_playlist_lists_the_window() {
        let text = media(&snapshot(vec![segment(7, 3, "a"), segment(8, 4, "b")]), Track::Video);
        assert_eq!(
            text.unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"video/init-000000000000000a.mp4\"\n\
             #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:34.137Z\n#EXTINF:2.00200,\nvideo/7.m4s\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"video/init-000000000000000b.mp4\"\n\
             #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:36.139Z\n#EXTINF:2.00200,\nvideo/8.m4s\n"
        );
    }

    #[test]
    fn the_index_names_what_there_is() {
        let both = index(&snapshot(vec![segment(1, 0, "a")])).unwrap();
        assert!(both.contains("BANDWIDTH=2000,AVERAGE-BANDWIDTH=1800,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\"\nvideo.m3u8\n"), "{both}");
        let mut audio_only = snapshot(vec![segment(1, 0, "a")]);
        audio_only.tracks.remove(0);
        assert!(index(&audio_only).unwrap().ends_with("CODECS=\"mp4a.40.2\"\naudio.m3u8\n"));
        assert_eq!(index(&snapshot(Vec::new())), None);
        assert_eq!(media(&snapshot(Vec::new()), Track::Audio), None);
    }

    #[test]
    fn a_track_that_came_late_starts_where_it_came() {
        let mut late = snapshot(vec![segment(1, 0, "a"), segment(2, 1, "a")]);
        late.segments[0].tracks.pop();
        let text = media(&late, Track::Audio).unwrap();
        assert!(text.contains("MEDIA-SEQUENCE:2\n") && text.contains("DISCONTINUITY-SEQUENCE:1\n"));
        assert!(!text.contains("#EXT-X-DISCONTINUITY\n"));
    }
}
