//! Playlists as a function of a snapshot (RFC 8216, and its successor draft where that is stricter).
//!
//! In: a `Snapshot`. Out: text that is the same on every node and for every viewer: all URIs are relative, so that the
//! session in front of them is inherited, and none names a variant. Pure.

mod mpeg_ts;

pub use mpeg_ts::{MPEG_TS, mpeg_ts};

use crate::content_key::SegmentKey;
use crate::track::{AUDIO_TRACKS_MAX, ENCODINGS_MAX, Track};
use crate::window::{Part, Segment, Snapshot, TICKS_PER_SECOND, TrackInfo};
use jiff::Timestamp;
use std::fmt::Write;

/// File name of the multivariant playlist.
pub const INDEX: &str = "index.m3u8";
/// Content type of every playlist (RFC 8216 §4).
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// `KEYFORMAT` of encrypted segments: Clear Key, which browsers have built in (W3C Encrypted Media Extensions §9.1). The URI
/// gives the 16 bytes of the key, as that of the format `identity` does.
pub const KEY_FORMAT: &str = "org.w3.clearkey";

/// File name of a track's playlist.
pub fn media_name(track: Track) -> &'static str {
    const AUDIO: [&str; AUDIO_TRACKS_MAX] = [
        "audio.m3u8",
        "audio2.m3u8",
        "audio3.m3u8",
        "audio4.m3u8",
        "audio5.m3u8",
        "audio6.m3u8",
        "audio7.m3u8",
        "audio8.m3u8",
    ];
    const ENCODINGS: [&str; ENCODINGS_MAX] = ["video2.m3u8", "video3.m3u8", "video4.m3u8", "video5.m3u8"];
    match track {
        Track::Video => "video.m3u8",
        Track::Audio(track) => AUDIO[track.id()],
        Track::Encoding(encoding) => ENCODINGS[encoding.index()],
    }
}

/// The multivariant playlist; `None` before the first segment.
///
/// Each audio track is a rendition of one group. Players begin with the first; further ones have no language to be chosen
/// by, so only a viewer chooses them (RFC 8216bis §4.4.6.1). Each encoding of the picture is a variant, the picture itself the
/// first.
pub fn index(snapshot: &Snapshot) -> Option<String> {
    snapshot.segments.last()?;
    let video = snapshot.tracks.iter().find(|info| info.track == Track::Video);
    let audio: Vec<&TrackInfo> = snapshot.tracks.iter().filter(|info| info.track.is_audio()).collect();
    let main = video.or(audio.first().copied())?;
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    // So that a player may ask for a licence before it has a segment.
    let newest = snapshot.keys().last().and_then(|key| snapshot.signals(key.kid));
    for line in newest.iter().flat_map(|signals| &signals.session) {
        out.extend([line, "\n"]);
    }
    let grouped = !audio.is_empty() && (video.is_some() || audio.len() > 1);
    for info in audio.iter().filter(|_| grouped) {
        rendition(&mut out, info, main);
    }
    let more = if grouped { ",AUDIO=\"audio\"" } else { "" };
    stream_inf(&mut out, video, &audio, more);
    out.extend([media_name(main.track), "\n"]);
    let encodings = snapshot.tracks.iter().filter(|info| matches!(info.track, Track::Encoding(_)));
    for info in encodings {
        stream_inf(&mut out, Some(info), &audio, more);
        out.extend([media_name(info.track), "\n"]);
    }
    Some(out)
}

/// The `EXT-X-MEDIA` line of an audio track. Where there is no picture, the first one is the variant itself and has no URI of
/// its own.
fn rendition(out: &mut String, info: &TrackInfo, main: &TrackInfo) {
    let name = match info.track {
        Track::Audio(track) if !track.is_first() => format!("Audio {}", track.id() + 1),
        _ => "Audio".to_owned(),
    };
    let chosen =
        if info.track == Track::AUDIO { "DEFAULT=YES,AUTOSELECT=YES" } else { "DEFAULT=NO,AUTOSELECT=NO" };
    let _ = write!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"{name}\",{chosen},CHANNELS=\"{}\"",
        info.channels
    );
    if info.track != main.track {
        let _ = write!(out, ",URI=\"{}\"", media_name(info.track));
    }
    out.push('\n');
}

/// The `EXT-X-STREAM-INF` line: of an encoding of the picture, where there is one, with whichever audio track is the largest.
fn stream_inf(out: &mut String, video: Option<&TrackInfo>, audio: &[&TrackInfo], more: &str) {
    let sum = |of: fn(&TrackInfo) -> u64| {
        let largest = audio.iter().map(|info| of(info)).max().unwrap_or(0);
        (video.map_or(0, of) + largest).max(1)
    };
    let mut codecs: Vec<&str> = Vec::new();
    for info in video.iter().chain(audio) {
        if !codecs.contains(&info.codec.as_str()) {
            codecs.push(&info.codec);
        }
    }
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
        sum(|info| info.peak_bps),
        sum(|info| info.mean_bps),
        codecs.join(",")
    );
    if let Some(video) = video.filter(|video| video.width > 0) {
        let _ = write!(out, ",RESOLUTION={}x{}", video.width, video.height);
    }
    if let Some(video) = video.filter(|video| video.millihertz > 0) {
        let _ = write!(out, ",FRAME-RATE={}.{:03}", video.millihertz / 1000, video.millihertz % 1000);
    }
    let _ = writeln!(out, "{more}");
}

/// The newest stretch of listed segments that have a track: it may have come late, gone, or come again.
fn stretch(snapshot: &Snapshot, track: Track) -> &[Segment] {
    let lacks = |segment: &Segment| segment.tracks.iter().all(|entry| entry.track != track);
    let all = &snapshot.segments[..];
    let end = all.iter().rposition(|segment| !lacks(segment)).map_or(0, |last| last + 1);
    let from = all[..end].iter().rposition(lacks).map_or(0, |gap| gap + 1);
    &all[from..end]
}

/// The playlist of one track; `None` while nothing listed has that track.
///
/// Segments that do not have the track (it came later, or has gone) are left out, and so are those before them. Where parts
/// are listed it is a low-latency playlist (RFC 8216bis, appendix B): blocking reload, delta updates, a hint of what comes.
pub fn media(snapshot: &Snapshot, track: Track) -> Option<String> {
    render(snapshot, track, false)
}

/// The same as a delta update: without the segments further from the end than the skip boundary. `None` where there are no
/// such updates, or nothing to skip: then the whole playlist is the answer.
pub fn delta(snapshot: &Snapshot, track: Track) -> Option<String> {
    if snapshot.part_90k > 0 { render(snapshot, track, true) } else { None }
}

fn render(snapshot: &Snapshot, track: Track, skip: bool) -> Option<String> {
    let listed = stretch(snapshot, track);
    let low_latency = snapshot.part_90k > 0;
    let open = snapshot.open.as_ref().filter(|_| low_latency);
    let follows = |number| listed.last().is_none_or(|last| last.number + 1 == number);
    let open = open.filter(|open| follows(open.number));
    let open = open.and_then(|open| Some((open, open.tracks.iter().find(|entry| entry.track == track)?)));
    let (number, first_discontinuity) = match (listed.first(), open) {
        (Some(first), _) => (first.number, first.discontinuity),
        (None, Some((open, _))) => (open.number, open.discontinuity),
        (None, None) => return None,
    };
    let skipped = if skip { Some(skippable(snapshot, listed).filter(|count| *count > 0)?) } else { None };
    let mut out = String::with_capacity(512 + snapshot.segments.len() * 160);
    let _ = write!(
        out,
        "#EXTM3U\n#EXT-X-VERSION:{}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{number}\n#EXT-X-DISCONTINUITY-SEQUENCE:{first_discontinuity}\n",
        if low_latency { 9 } else { 7 },
        snapshot.target_duration_s,
    );
    if snapshot.segments.iter().all(|segment| segment.independent) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    if low_latency {
        control(&mut out, snapshot);
    }
    let mut said = Head { discontinuity: first_discontinuity, ..Head::default() };
    if let Some(count) = skipped {
        let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={count}");
        // What was skipped is known to whoever asks: its lines are not repeated.
        if let Some(last) = listed.get(count - 1) {
            // But for the key, which is: whoever lost it has it again.
            said.init = last.tracks.iter().find(|entry| entry.track == track).map_or("", |entry| &entry.init);
            said.discontinuity = last.discontinuity;
        }
    }
    let part_from = listed.last().map_or(0, |last| last.number.saturating_sub(PARTS_OF - 1));
    for segment in listed.iter().skip(skipped.unwrap_or(0)) {
        let Some(entry) = segment.tracks.iter().find(|entry| entry.track == track) else { break };
        let head = Head { discontinuity: segment.discontinuity, key: segment.key, init: &entry.init };
        begin(&mut out, snapshot, track, head, segment.date_unix_ms, &mut said);
        if low_latency && segment.number >= part_from {
            parts(&mut out, track, segment.number, &entry.parts);
        }
        let _ = writeln!(
            out,
            "#EXTINF:{},\n{}/{}.m4s",
            seconds(segment.duration_90k),
            track.as_str(),
            segment.number
        );
    }
    if let Some((open, entry)) = open {
        let head = Head { discontinuity: open.discontinuity, key: open.key, init: &entry.init };
        begin(&mut out, snapshot, track, head, open.date_unix_ms, &mut said);
        parts(&mut out, track, open.number, &entry.parts[..open.parts()]);
    }
    if low_latency {
        end(&mut out, snapshot, track);
    }
    Some(out)
}

/// Segments before the end whose parts are listed: three target durations, and the open one.
const PARTS_OF: u64 = 3;
/// Part targets that players stay behind the end: three, as the specification advises.
const HOLD_BACK: i64 = 3;

/// What a server of low-latency playlists promises. Values are rounded up: none may be less than what is true.
fn control(out: &mut String, snapshot: &Snapshot) {
    let target_s = snapshot.target_duration_s;
    let _ = writeln!(
        out,
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={}.0,HOLD-BACK={}.0,PART-HOLD-BACK={}\n#EXT-X-PART-INF:PART-TARGET={}",
        SKIP_TARGETS * target_s,
        3 * target_s,
        seconds(HOLD_BACK * (snapshot.part_90k + 1)),
        seconds(snapshot.part_90k + 1),
    );
}

/// The skip boundary in target durations; six are the least that may be promised.
const SKIP_TARGETS: u32 = 6;

/// How many segments at the beginning lie further from the end than the skip boundary.
fn skippable(snapshot: &Snapshot, listed: &[Segment]) -> Option<usize> {
    let boundary = i64::from(SKIP_TARGETS * snapshot.target_duration_s) * TICKS_PER_SECOND;
    let open = snapshot.open.as_ref().and_then(|open| open.tracks.first());
    let open_90k: i64 = open.map_or(0, |entry| entry.parts.iter().map(|part| part.duration_90k).sum());
    let durations: Vec<i64> = listed.iter().map(|segment| segment.duration_90k).collect();
    let mut after = open_90k + durations.iter().sum::<i64>();
    let mut count = 0;
    for duration in durations {
        if after - duration < boundary {
            break;
        }
        after -= duration;
        count += 1;
    }
    Some(count)
}

/// What a playlist says once, until it changes.
#[derive(Clone, Copy, Default)]
struct Head<'a> {
    discontinuity: u64,
    key: Option<SegmentKey>,
    init: &'a str,
}

/// The lines before a segment's parts and URI.
fn begin<'a>(
    out: &mut String,
    snapshot: &Snapshot,
    track: Track,
    head: Head<'a>,
    date_unix_ms: i64,
    said: &mut Head<'a>,
) {
    if head.discontinuity != said.discontinuity {
        out.push_str("#EXT-X-DISCONTINUITY\n");
    }
    match head.key {
        key if key == said.key => {}
        Some(SegmentKey { kid, .. }) => match snapshot.signals(kid) {
            Some(signals) => signals.media.iter().for_each(|line| out.extend([line, "\n"])),
            None => {
                let _ = writeln!(
                    out,
                    "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"key/{kid}.key\",KEYID=0x{kid},KEYFORMAT=\"{KEY_FORMAT}\",KEYFORMATVERSIONS=\"1\""
                );
            }
        },
        None => out.push_str("#EXT-X-KEY:METHOD=NONE\n"),
    }
    if head.init != said.init {
        let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}/{}.mp4\"", track.as_str(), head.init);
    }
    *said = head;
    let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date(date_unix_ms));
}

fn parts(out: &mut String, track: Track, number: u64, parts: &[Part]) {
    for (index, part) in parts.iter().enumerate() {
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        let _ = writeln!(
            out,
            "#EXT-X-PART:DURATION={},URI=\"{}/{number}.{index}.m4s\"{independent}",
            seconds(part.duration_90k),
            track.as_str()
        );
    }
}

/// What comes next, and how far the other tracks are.
fn end(out: &mut String, snapshot: &Snapshot, track: Track) {
    let Some((number, index)) = next_part(snapshot) else { return };
    if snapshot.live {
        let _ =
            writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}/{number}.{index}.m4s\"", track.as_str());
    }
    let (last_msn, last_part) = match (&snapshot.open, snapshot.segments.last()) {
        (Some(open), _) if open.parts() > 0 => (open.number, open.parts()),
        (_, Some(last)) => (last.number, last.tracks.first().map_or(0, |entry| entry.parts.len())),
        (_, None) => return,
    };
    for info in snapshot.tracks.iter().filter(|info| info.track != track) {
        let _ = write!(out, "#EXT-X-RENDITION-REPORT:URI=\"{}\",LAST-MSN={last_msn}", media_name(info.track));
        if last_part > 0 {
            let _ = write!(out, ",LAST-PART={}", last_part - 1);
        }
        out.push('\n');
    }
}

/// The part that comes next, as far as one can tell: a segment that is as long as the one before it is taken to be at
/// its end. A hint may be wrong; the part it names is then not there.
fn next_part(snapshot: &Snapshot) -> Option<(u64, usize)> {
    let last = snapshot.segments.last();
    let Some(open) = &snapshot.open else { return Some((last?.number + 1, 0)) };
    let so_far: i64 = open.tracks.first()?.parts.iter().map(|part| part.duration_90k).sum();
    let usual =
        last.map_or(i64::from(snapshot.target_duration_s) * TICKS_PER_SECOND, |last| last.duration_90k);
    let at_its_end = so_far + snapshot.part_90k / 2 > usual;
    Some(if at_its_end { (open.number + 1, 0) } else { (open.number, open.parts()) })
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
pub(crate) mod tests {
    use super::*;
    use crate::Signals;
    use crate::window::{OpenSegment, OpenTrack, SegmentTrack, Sha256};

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

    fn entry(track: Track, init: &str) -> SegmentTrack {
        SegmentTrack {
            track,
            init: format!("init-{init:0>16}"),
            len: 1,
            sha256: Sha256([0; 32]),
            parts: Vec::new(),
            clear: None,
            sound_end: None,
            gops: Vec::new(),
        }
    }

    pub(crate) fn segment(number: u64, discontinuity: u64, init: &str) -> Segment {
        Segment {
            number,
            run: crate::RunId([1; 8]),
            discontinuity,
            start_90k: 0,
            duration_90k: 180_180,
            date_unix_ms: 1_700_000_000_123 + number as i64 * 2002,
            independent: true,
            gops: Vec::new(),
            tracks: vec![entry(Track::Video, init), entry(Track::AUDIO, init)],
            has_mpeg_ts: false,
            key: None,
        }
    }

    pub(super) fn snapshot(segments: Vec<Segment>) -> Snapshot {
        Snapshot {
            stream: "demo".parse().unwrap(),
            epoch: 1,
            version: 1,
            live: true,
            target_duration_s: 2,
            tracks: vec![info(Track::Video), info(Track::AUDIO)],
            segments,
            part_90k: 0,
            open: None,
            signals: Vec::new(),
        }
    }

    /// Segments 1 to `last` of 2 s in six parts, and so many parts of the next one.
    fn low_latency(last: u64, open: usize) -> Snapshot {
        let part =
            |index| Part { duration_90k: 30_000, len: 9, independent: index == 0, sha256: Sha256([1; 32]) };
        let mut segments: Vec<Segment> = (1..=last).map(|number| segment(number, 0, "a")).collect();
        for entry in segments.iter_mut().flat_map(|segment| &mut segment.tracks) {
            entry.parts = (0..6).map(part).collect();
        }
        let mut all = snapshot(segments);
        let init = format!("init-{:0>16}", "a");
        let entry = |track| OpenTrack { track, init: init.clone(), parts: (0..open).map(part).collect() };
        all.part_90k = 30_000;
        all.open = (open > 0).then(|| OpenSegment {
            number: last + 1,
            discontinuity: 0,
            date_unix_ms: 1_700_000_000_123,
            key: None,
            tracks: vec![entry(Track::Video), entry(Track::AUDIO)],
        });
        all
    }

    /// Segments 1 and 2 under one key, 3 under the next, 4 in the clear.
    #[test]
    fn keys_are_named_where_they_change() {
        let key = |kid| Some(SegmentKey { content_key: 1, kid: crate::content_key::KeyId([kid; 16]) });
        let sealed = |number, kid, init| Segment { key: key(kid), ..segment(number, 0, init) };
        let segments =
            vec![sealed(1, 0xa, "a"), sealed(2, 0xa, "a"), sealed(3, 0xb, "b"), segment(4, 0, "c")];
        let text = media(&snapshot(segments), Track::AUDIO).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("KEY") || line.contains("MAP")).collect();
        let (first, second) = ("0a".repeat(16), "0b".repeat(16));
        let line = |kid: &str| {
            format!(
                "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"key/{kid}.key\",KEYID=0x{kid},KEYFORMAT=\"org.w3.clearkey\",KEYFORMATVERSIONS=\"1\""
            )
        };
        let map = |init: &str| format!("#EXT-X-MAP:URI=\"audio/init-{init:0>16}.mp4\"");
        let none = "#EXT-X-KEY:METHOD=NONE".to_owned();
        assert_eq!(lines, [line(&first), map("a"), line(&second), map("b"), none, map("c")]);
        assert!(!text.contains("DISCONTINUITY\n"));
        // A delta update says the key of what it begins with, though whoever asks may know it.
        let mut live = low_latency(12, 2);
        live.segments.iter_mut().for_each(|segment| segment.key = key(0xa));
        live.open.iter_mut().for_each(|open| open.key = key(0xa));
        let update = delta(&live, Track::Video).unwrap();
        assert_eq!((update.matches("#EXT-X-KEY").count(), update.matches("#EXT-X-MAP").count()), (1, 0));
    }

    #[test]
    fn keys_of_a_key_server_are_told_in_its_own_lines() {
        use crate::content_key::{KeyId, OF_KEY_SERVER};
        let key = |kid| Some(SegmentKey { content_key: OF_KEY_SERVER, kid: KeyId([kid; 16]) });
        let mut all = vec![segment(7, 0, "a"), segment(8, 0, "a"), segment(9, 0, "b")];
        (all[0].key, all[1].key, all[2].key) = (key(0xa), key(0xa), key(0xb));
        let lines = |tag: &str, kid: u8| -> Vec<String> {
            let of = |system| format!("#EXT-X-{tag}:METHOD=SAMPLE-AES,URI=\"{system}{kid}\"");
            ["skd://", "data:"].map(of).into()
        };
        let signals = |kid: u8| Signals {
            kid: KeyId([kid; 16]),
            media: lines("KEY", kid),
            session: lines("SESSION-KEY", kid),
        };
        let all = Snapshot { signals: vec![signals(0xb), signals(0xa)], ..snapshot(all) };
        let said = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.contains("KEY")).map(str::to_owned).collect()
        };
        let text = media(&all, Track::AUDIO).unwrap();
        assert_eq!(said(&text), [lines("KEY", 0xa), lines("KEY", 0xb)].concat(), "{text}");
        assert_eq!(said(&index(&all).unwrap()), lines("SESSION-KEY", 0xb), "of the newest key alone");
    }

    #[test]
    fn a_low_latency_playlist_lists_parts_and_what_comes() {
        let text = media(&low_latency(5, 2), Track::Video).unwrap();
        let begins = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.00003\n\
             #EXT-X-PART-INF:PART-TARGET=0.33334\n#EXT-X-MAP:URI=\"video/init-000000000000000a.mp4\"\n";
        assert!(text.starts_with(begins), "{text}");
        let ends = "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.123Z\n\
             #EXT-X-PART:DURATION=0.33333,URI=\"video/6.0.m4s\",INDEPENDENT=YES\n\
             #EXT-X-PART:DURATION=0.33333,URI=\"video/6.1.m4s\"\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/6.2.m4s\"\n\
             #EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=6,LAST-PART=1\n";
        assert!(text.ends_with(ends), "{text}");
        assert!(!text.contains("video/2.5.m4s") && text.contains("video/3.0.m4s"), "parts near the end only");
        let before = media(&low_latency(5, 0), Track::AUDIO).unwrap();
        let ends = "audio/5.m4s\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"audio/6.0.m4s\"\n\
             #EXT-X-RENDITION-REPORT:URI=\"video.m3u8\",LAST-MSN=5,LAST-PART=5\n";
        assert!(before.ends_with(ends), "{before}");
        let full = media(&low_latency(5, 6), Track::Video).unwrap();
        assert!(
            full.contains("PRELOAD-HINT:TYPE=PART,URI=\"video/7.0.m4s\""),
            "as long as the one before: {full}"
        );
        let mut gone = low_latency(5, 2);
        gone.live = false;
        assert!(!media(&gone, Track::Video).unwrap().contains("PRELOAD-HINT"));
        let first = media(&low_latency(0, 1), Track::Video).unwrap();
        assert!(first.contains("MEDIA-SEQUENCE:1\n") && first.contains("video/1.0.m4s"), "{first}");
    }

    #[test]
    fn a_delta_update_leaves_out_what_is_far_from_the_end() {
        assert_eq!(delta(&low_latency(6, 1), Track::Video), None, "12 s and a part: nothing to skip");
        assert_eq!(delta(&snapshot(vec![segment(1, 0, "a")]), Track::Video), None);
        let whole = media(&low_latency(10, 1), Track::Video).unwrap();
        let text = delta(&low_latency(10, 1), Track::Video).unwrap();
        assert!(
            text.contains("#EXT-X-MEDIA-SEQUENCE:1\n") && text.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n")
        );
        assert!(!text.contains("EXT-X-MAP") && !text.contains("video/4.m4s"), "{text}");
        let from = |text: &str| text[text.find("#EXTINF").unwrap()..].to_owned();
        assert!(from(&whole).ends_with(&from(&text)), "what is left is as it was");
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
    fn a_playlist_is_named_as_its_track() {
        for track in Track::ALL {
            assert_eq!(media_name(track), format!("{}.m3u8", track.as_str()));
        }
    }

    #[test]
    fn the_index_names_what_there_is() {
        let both = index(&snapshot(vec![segment(1, 0, "a")])).unwrap();
        assert!(both.contains("BANDWIDTH=2000,AVERAGE-BANDWIDTH=1800,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\"\nvideo.m3u8\n"), "{both}");
        let mut audio_only = snapshot(vec![segment(1, 0, "a")]);
        audio_only.tracks.remove(0);
        assert!(index(&audio_only).unwrap().ends_with("CODECS=\"mp4a.40.2\"\naudio.m3u8\n"));
        assert_eq!(index(&snapshot(Vec::new())), None);
        assert_eq!(media(&snapshot(Vec::new()), Track::AUDIO), None);
    }

    #[test]
    fn a_track_that_came_late_starts_where_it_came() {
        let mut late = snapshot(vec![segment(1, 0, "a"), segment(2, 1, "a")]);
        late.segments[0].tracks.pop();
        let text = media(&late, Track::AUDIO).unwrap();
        assert!(text.contains("MEDIA-SEQUENCE:2\n") && text.contains("DISCONTINUITY-SEQUENCE:1\n"));
        assert!(!text.contains("#EXT-X-DISCONTINUITY\n"));
    }
    /// With a third track, in another coding, from segment 2 on.
    fn several(last: u64) -> Snapshot {
        let third = Track::ALL[3];
        let mut all = snapshot((1..=last).map(|number| segment(number, 0, "a")).collect());
        for segment in all.segments.iter_mut().filter(|segment| segment.number > 1) {
            segment.tracks.push(entry(third, "b"));
        }
        let of = TrackInfo { codec: "Opus".into(), peak_bps: 3_000, channels: 1, ..info(Track::AUDIO) };
        all.tracks.push(TrackInfo { track: third, ..of });
        all
    }

    #[test]
    fn every_audio_track_is_a_rendition_and_one_is_the_default() {
        let begins = "#EXTM3U\n#EXT-X-VERSION:7\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio.m3u8\"\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio 3\",DEFAULT=NO,AUTOSELECT=NO,CHANNELS=\"1\",URI=\"audio3.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=4000,AVERAGE-BANDWIDTH=1800,CODECS=\"avc1.64001f,mp4a.40.2,Opus\",";
        let text = index(&several(3)).unwrap();
        assert!(text.starts_with(begins) && text.ends_with(",AUDIO=\"audio\"\nvideo.m3u8\n"), "{text}");
        let mut sound = several(3);
        sound.tracks.remove(0);
        let ends = "NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\"\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio 3\",DEFAULT=NO,AUTOSELECT=NO,CHANNELS=\"1\",URI=\"audio3.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=3000,AVERAGE-BANDWIDTH=900,CODECS=\"mp4a.40.2,Opus\",AUDIO=\"audio\"\naudio.m3u8\n";
        let text = index(&sound).unwrap();
        assert!(text.ends_with(ends), "the variant is the first one itself: {text}");
    }

    #[test]
    fn every_encoding_of_the_picture_is_a_variant_with_the_same_sound() {
        let third = Track::of_video(2).unwrap();
        let mut all = snapshot((1..=3).map(|number| segment(number, 0, "a")).collect());
        all.segments.iter_mut().for_each(|segment| segment.tracks.push(entry(third, "b")));
        let small = TrackInfo { width: 640, height: 360, peak_bps: 300, mean_bps: 200, ..info(Track::Video) };
        all.tracks.push(TrackInfo { track: third, codec: "avc1.64001e".into(), millihertz: 0, ..small });
        let ends = "CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\"\nvideo.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1300,AVERAGE-BANDWIDTH=1100,CODECS=\"avc1.64001e,mp4a.40.2\",\
             RESOLUTION=640x360,AUDIO=\"audio\"\nvideo3.m3u8\n";
        let text = index(&all).unwrap();
        assert!(text.ends_with(ends), "{text}");
        assert_eq!(text.matches("TYPE=AUDIO").count(), 1);
        let [own, first] = [third, Track::Video].map(|track| media(&all, track).unwrap());
        let as_first =
            first.replace("video/", "video3/").replace("init-000000000000000a", "init-000000000000000b");
        assert_eq!(own, as_first, "numbers, dates and durations are the same");
    }

    #[test]
    fn a_track_that_came_again_is_listed_from_there_on() {
        let third = Track::ALL[3];
        let mut all = several(7);
        let text = media(&all, third).unwrap();
        assert!(
            text.contains("MEDIA-SEQUENCE:2\n")
                && text.contains("MAP:URI=\"audio3/init-000000000000000b.mp4\"\n")
        );
        assert!(text.ends_with("audio3/7.m4s\n"), "{text}");
        all.segments[4].tracks.pop();
        let text = media(&all, third).unwrap();
        assert!(text.contains("MEDIA-SEQUENCE:6\n") && !text.contains("audio3/4.m4s"), "{text}");
        assert_eq!(media(&all, Track::ALL[2]), None);
    }
}
