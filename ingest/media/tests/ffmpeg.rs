//! Real media: what ffmpeg publishes comes out of feed and segmenter as files that ffmpeg reads without a word, picture
//! for picture. Needs `ffmpeg` and `ffprobe`; without them it says SKIP, or fails under `RELEVE_REQUIRE_TOOLS=1`.
#![allow(clippy::unwrap_used)] // a test says what it expects by failing loudly, its helpers too

use bytes::Bytes;
use ingest_api::content_key::ContentKey;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::Segment;
use ingest_api::{Run, RunId, Track};
use media::cbcs::Seal;
use media::feed::{Feed, Kind};
use media::segment::{DropCause, Output, Report, Segmenter};
use media::window::Window;
use mp4_atom::{Atom, Codec, Decode, Header, Mdat, Moof, Moov};
use releve_watermark::Key;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tools() -> bool {
    let there = ["ffmpeg", "ffprobe"].iter().all(|tool| Command::new(tool).arg("-version").output().is_ok());
    if !there {
        assert!(
            std::env::var("RELEVE_REQUIRE_TOOLS").as_deref() != Ok("1"),
            "ffmpeg and ffprobe are required"
        );
        println!("SKIP: ffmpeg or ffprobe is not on the PATH");
    }
    there
}

/// Runs a tool; it must succeed and say nothing on standard error. Gives its standard output.
fn quiet(tool: &str, args: &[&str]) -> String {
    // The variable keeps SVT-AV1 from telling of itself.
    let output = Command::new(tool).args(args).env("SVT_LOG", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{tool} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The messages of an FLV file (FLV 10.1 §E.3).
fn messages(flv: &Bytes) -> Vec<(Kind, u32, Bytes)> {
    let (mut at, mut all) = (13, Vec::new());
    while at + 11 <= flv.len() {
        let head = &flv[at..at + 11];
        let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        let kind = match head[0] {
            8 => Kind::Audio,
            9 => Kind::Video,
            _ => Kind::Data,
        };
        all.push((kind, time, flv.slice(at + 11..at + 11 + len)));
        at += 11 + len + 4;
    }
    all
}

fn run() -> Run {
    Run {
        id: RunId([3; 8]),
        stream: "real".parse().unwrap(),
        anchor_unix_ms: 1_700_000_000_000,
        first_number: 1,
        first_discontinuity: 0,
        target_duration_s: 2,
        part_90k: 45_000,
        mpeg_ts: true,
        encryption: None,
    }
}

struct Files {
    folder: tempfile::TempDir,
    records: Vec<Segment>,
    reports: Vec<Report>,
    outputs: Vec<Output>,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Publishes messages and writes `video.mp4`, `audio.mp4`, `audio2.mp4`…: init and all segments; `muxed.ts`: all segments.
fn publish(messages: &[(Kind, u32, Bytes)]) -> Files {
    let mut feed = Feed::new(0);
    let mut segmenter = Segmenter::begin(run());
    let mut outputs = Vec::new();
    for (kind, time, bytes) in messages {
        for unit in feed.push(*kind, *time, bytes.clone()).unwrap() {
            outputs.extend(segmenter.push(unit));
        }
    }
    outputs.extend(segmenter.gone());
    let (mut records, mut reports) = (Vec::new(), Vec::new());
    let mut files: [Vec<u8>; TRACKS_MAX] = Default::default();
    let (mut window, mut muxed) = (Window::new(run().stream, 2, 60, 60, 0), Vec::new());
    for output in &outputs {
        window.apply(output).unwrap();
        match output {
            Output::Init { track, object, .. } => files[track.index()].extend_from_slice(&object.a),
            Output::Segment { record, objects } => {
                records.push(record.clone());
                let object = record.mpeg_ts().map(|of| window.mux(record.number, of).unwrap());
                muxed.extend(object.iter().flat_map(|object| object.a.iter()));
                for (track, object) in objects {
                    files[track.index()].extend_from_slice(&object.a);
                }
            }
            Output::Report(report) => reports.push(report.clone()),
            Output::Part { .. } => {}
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for (track, file) in Track::ALL.iter().zip(&files) {
        std::fs::write(folder.path().join(format!("{}.mp4", track.as_str())), file).unwrap();
    }
    std::fs::write(folder.path().join("muxed.ts"), muxed).unwrap();
    Files { folder, records, reports, outputs }
}

fn make_flv(folder: &Path, extra: &[&str]) -> PathBuf {
    let path = folder.join("source.flv");
    let mut args = vec!["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=7"];
    args.extend(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=7"]);
    args.extend(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30", "-sc_threshold", "0"]);
    args.extend(["-c:a", "aac", "-b:a", "96k", "-shortest"]);
    args.extend(extra);
    let text = path.to_str().unwrap();
    args.extend(["-f", "flv", text]);
    quiet("ffmpeg", &args);
    path
}

fn hashes(path: &Path, stream: &str) -> Vec<String> {
    hashes_of(path, stream, &[])
}

/// With these words about the codec: `-c copy` gives what is coded, none the pictures or the sound of it.
fn hashes_of(path: &Path, stream: &str, codec: &[&str]) -> Vec<String> {
    let mut args = vec!["-v", "error", "-i", path.to_str().unwrap(), "-map", stream];
    args.extend(codec);
    args.extend(["-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let text = quiet("ffmpeg", &args);
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// The same of an encrypted file, read in order: ffmpeg 5.1 mixes the maps of fragments up when it looks ahead.
fn decrypted(path: &Path, stream: &str, key: &str) -> Vec<String> {
    let args = [
        "-v",
        "error",
        "-nostdin",
        "-xerror",
        "-fflags",
        "ignidx",
        "-decryption_key",
        key,
        "-i",
        path.to_str().unwrap(),
    ];
    let rest = ["-map", stream, "-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let text = quiet("ffmpeg", &[&args[..], &rest].concat());
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn encrypted_it_is_the_same_media_to_who_has_the_key() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = make_flv(folder.path(), &["-x264-params", "slices=3"]);
    let files = publish(&messages(&std::fs::read(&source).unwrap().into()));
    let key = ContentKey::of_segment(&Key::new(1, [5; 32]), &run().stream, 7, 300);
    for (track, stream) in [(Track::Video, "0:v"), (Track::AUDIO, "0:a")] {
        let init = files.outputs.iter().find_map(|output| match output {
            Output::Init { track: of, object, .. } if *of == track => Some(object.a.clone()),
            _ => None,
        });
        let seal = Seal::new(track, &init.unwrap(), &key).unwrap();
        let (mut whole, mut parts, mut clear_bytes) = (seal.init().to_vec(), seal.init().to_vec(), 0);
        for output in &files.outputs {
            match output {
                Output::Part { track: of, object, .. } if *of == track => {
                    let (sealed, lens) = seal.seal(object).unwrap();
                    assert_eq!(lens, [sealed.len() as u64]);
                    parts.extend_from_slice(&sealed.a);
                }
                Output::Segment { record, objects } => {
                    let (_, object) = objects.iter().find(|(of, _)| *of == track).unwrap();
                    let (sealed, lens) = seal.seal(object).unwrap();
                    let entry = record.tracks.iter().find(|entry| entry.track == track).unwrap();
                    assert_eq!(lens.len(), entry.parts.len());
                    assert_eq!(lens.iter().sum::<u64>(), sealed.len() as u64);
                    clear_bytes += object.len();
                    whole.extend_from_slice(&sealed.a);
                }
                _ => {}
            }
        }
        assert_eq!(whole, parts, "a segment is its parts, encrypted or not");
        assert!(whole.len() < clear_bytes + clear_bytes / 20 + 2_000, "{} of {clear_bytes}", whole.len());
        let path = files.path("encrypted.mp4");
        std::fs::write(&path, whole).unwrap();
        let clear = files.path(if track == Track::Video { "video.mp4" } else { "audio.mp4" });
        let right: String = key.secret().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(decrypted(&path, stream, &right), hashes(&clear, stream));
        let args = ["-v", "quiet", "-nostdin", "-i", path.to_str().unwrap(), "-map", stream];
        let rest = ["-fps_mode", "passthrough", "-f", "framemd5", "-"];
        let without = Command::new("ffmpeg").args(args).args(rest).output().unwrap();
        let pictures = hashes(&clear, stream);
        let seen = String::from_utf8_lossy(&without.stdout).into_owned();
        let same = pictures.iter().filter(|hash| seen.contains(hash.as_str())).count();
        assert!(same < 3, "{same} of {} are right without the key", pictures.len());
    }
}

/// (pts, dts) of each packet, in seconds.
fn packets(path: &Path, stream: &str) -> Vec<(f64, f64)> {
    let entries = ["-show_entries", "packet=pts_time,dts_time", "-of", "csv=p=0", path.to_str().unwrap()];
    let text = quiet("ffprobe", &[&["-v", "warning", "-select_streams", stream][..], &entries].concat());
    let row = |line: &str| {
        let mut words = line.split(',').map(|word| word.parse::<f64>().unwrap());
        (words.next().unwrap(), words.next().unwrap())
    };
    text.lines().filter(|line| !line.is_empty()).map(row).collect()
}

#[test]
fn every_picture_and_frame_comes_out_as_it_went_in() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = make_flv(folder.path(), &[]);
    let messages = messages(&std::fs::read(&source).unwrap().into());
    let files = publish(&messages);
    // Sound beyond the decode time of the end is given up when the publisher leaves; nothing else is.
    let tail = files.reports.len();
    let after_end =
        |r: &Report| matches!(r, Report::Dropped { track: Track::AUDIO, why: DropCause::AfterEnd, .. });
    assert!(tail <= 4 && files.reports.iter().all(after_end), "{:?}", files.reports);
    assert_eq!(files.records.iter().map(|r| r.duration_90k).collect::<Vec<_>>()[..3], [180_000; 3]);
    let (video, audio) = (files.path("video.mp4"), files.path("audio.mp4"));

    let expected = hashes(&source, "0:v");
    assert_eq!(expected.len(), 210);
    assert_eq!(hashes(&video, "0:v"), expected);
    let (from, to) = (packets(&source, "v"), packets(&video, "v"));
    assert_eq!(from.len(), to.len());
    let shift = to[0].1 - from[0].1;
    for (from, to) in from.iter().zip(&to) {
        assert!(
            (to.0 - from.0 - shift).abs() < 1e-4 && (to.1 - from.1 - shift).abs() < 1e-4,
            "{from:?} {to:?}"
        );
    }
    assert!(to.windows(2).all(|pair| pair[0].1 < pair[1].1), "decode times grow");

    // Audio: all frames from the first picture on, at their places to within the milliseconds of FLV.
    let (from, to) = (packets(&source, "a"), packets(&audio, "a"));
    let skipped = from.len() - tail - to.len();
    assert!(skipped <= 3, "{skipped} audio frames lie before the first picture");
    for (from, to) in from[skipped..].iter().zip(&to) {
        assert!((to.0 - from.0 - shift).abs() < 0.0015, "{from:?} {to:?}");
    }
    let step = 1_024.0 / 44_100.0;
    assert!(to.windows(2).all(|pair| (pair[1].1 - pair[0].1 - step).abs() < 1e-4), "audio counts samples");
    assert_eq!(hashes(&audio, "0:a").len(), to.len());
}

/// What ffmpeg says of a file that it demuxes, at its most talkative.
fn remarks(path: &Path) -> String {
    let args = ["-nostdin", "-v", "debug", "-i", path.to_str().unwrap(), "-c", "copy", "-f", "null", "-"];
    String::from_utf8_lossy(&Command::new("ffmpeg").args(args).output().unwrap().stderr).into_owned()
}

#[test]
fn as_mpeg_ts_it_is_the_same_media_at_the_same_times() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = make_flv(folder.path(), &[]);
    let files = publish(&messages(&std::fs::read(&source).unwrap().into()));
    let (muxed, video, audio) = (files.path("muxed.ts"), files.path("video.mp4"), files.path("audio.mp4"));
    assert_eq!(hashes(&muxed, "0:v"), hashes(&source, "0:v"));
    assert_eq!(hashes(&muxed, "0:a"), hashes(&audio, "0:a"));
    for (stream, cmaf) in [("v", &video), ("a", &audio)] {
        let (own, cmaf) = (packets(&muxed, stream), packets(cmaf, stream));
        assert_eq!(own.len(), cmaf.len());
        for (own, cmaf) in own.iter().zip(&cmaf) {
            assert!(
                (own.0 - cmaf.0 - 0.5).abs() < 3e-5 && (own.1 - cmaf.1 - 0.5).abs() < 3e-5,
                "{own:?} {cmaf:?}"
            );
        }
    }
    // Segments are made alone, and yet nothing is missing between them.
    let said = remarks(&muxed);
    for word in ["ontinuity check failed", "orrupt", "size mismatch"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    let strict = ["-v", "warning", "-nostdin", "-xerror", "-err_detect", "explode"];
    quiet("ffmpeg", &[&strict[..], &["-i", muxed.to_str().unwrap(), "-f", "null", "-"]].concat());
    // The check can fail: without its first packet a later segment is noticed.
    let mut torn = std::fs::read(&muxed).unwrap();
    torn.drain(188 * 500..188 * 501);
    std::fs::write(&muxed, torn).unwrap();
    assert!(remarks(&muxed).contains("ontinuity check failed"), "a torn stream is noticed");
}

#[test]
fn a_segment_alone_behind_its_init_plays() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = make_flv(folder.path(), &["-g", "60"]);
    let files = publish(&messages(&std::fs::read(&source).unwrap().into()));
    let init = |wanted| {
        let found = files.outputs.iter().find_map(|output| match output {
            Output::Init { track, object, .. } if *track == wanted => Some(object.a.clone()),
            _ => None,
        });
        found.unwrap()
    };
    for output in &files.outputs {
        let Output::Segment { record, objects } = output else { continue };
        assert_eq!(objects.len(), 2);
        for (track, object) in objects {
            let (track, letter) = (*track, if track.is_audio() { "a" } else { "v" });
            let path = files.path("one.mp4");
            std::fs::write(&path, [&init(track)[..], &object.a].concat()).unwrap();
            let first = packets(&path, letter)[0].1;
            let start = record.start_90k as f64 / 90_000.0;
            let first = if record.number == 1 { start } else { first }; // sound may begin later than pictures
            assert!(
                (first - start).abs() < 0.025,
                "{track:?} of {} starts at {first}, not {start}",
                record.number
            );
        }
    }
}

/// A publish with two audio tracks, as Enhanced RTMP has it: the second in messages of its own.
#[test]
fn a_second_audio_track_is_decoded_as_what_was_sent() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut all = messages(&std::fs::read(make_flv(folder.path(), &[])).unwrap().into());
    let second = folder.path().join("second.flv");
    let mut args = vec!["-v", "error", "-y", "-f", "lavfi"];
    args.extend(["-i", "sine=frequency=1000:sample_rate=48000:duration=7", "-c:a", "aac", "-b:a", "64k"]);
    quiet("ffmpeg", &[&args[..], &["-f", "flv", second.to_str().unwrap()]].concat());
    for (kind, time, bytes) in messages(&std::fs::read(&second).unwrap().into()) {
        let (Kind::Audio, [0xaf, packet, data @ ..]) = (kind, &bytes[..]) else { continue };
        all.push((kind, time, [&[0x95, *packet][..], b"mp4a\x01", data].concat().into()));
    }
    all.sort_by_key(|(_, time, _)| *time);
    let files = publish(&all);
    assert!(files.records.iter().all(|record| record.tracks.len() == 3));
    let copy = |path: &Path| hashes_of(path, "0:a", &["-c", "copy"]);
    for (ours, theirs) in [("audio.mp4", "source.flv"), ("audio2.mp4", "second.flv")] {
        let (went, came) = (copy(&files.path(ours)), copy(&folder.path().join(theirs)));
        assert!(
            came.len() - went.len() <= 4 && came.starts_with(&went),
            "{ours}: {} of {}",
            went.len(),
            came.len()
        );
        // Decoded without a word, a frame each.
        assert_eq!(hashes(&files.path(ours), "0:a").len(), went.len(), "{ours}");
    }
    assert_ne!(hashes(&files.path("audio.mp4"), "0:a"), hashes(&files.path("audio2.mp4"), "0:a"));
}

/// A publish of two encodings, as Enhanced RTMP has it: the second, smaller, in messages of its own.
#[test]
fn a_second_encoding_is_decoded_as_what_was_sent_and_at_the_same_times() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = make_flv(folder.path(), &[]);
    let alone = messages(&std::fs::read(&first).unwrap().into());
    let second = folder.path().join("second.flv");
    let mut args = vec!["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=7"];
    args.extend(["-vf", "scale=160:90", "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30"]);
    args.extend(["-sc_threshold", "0", "-f", "flv", second.to_str().unwrap()]);
    quiet("ffmpeg", &args);
    let mut all = alone.clone();
    for (kind, time, bytes) in messages(&std::fs::read(&second).unwrap().into()) {
        let (Kind::Video, [head, packet @ 0..=1, data @ ..]) = (kind, &bytes[..]) else { continue };
        // Only pictures have a composition time there.
        let data = if *packet == 1 { data } else { &data[3..] };
        all.push((kind, time, [&[0x80 | head & 0xf0 | 6, *packet][..], b"avc1\x01", data].concat().into()));
    }
    all.sort_by_key(|(_, time, _)| *time);
    let files = publish(&all);
    assert!(files.records.iter().all(|record| record.tracks.len() == 3), "{:?}", files.reports);
    let [video, other] = ["video.mp4", "video2.mp4"].map(|name| files.path(name));
    let expected = hashes(&second, "0:v");
    assert_eq!(expected.len(), 210);
    assert_eq!(hashes(&other, "0:v"), expected);
    // Picture beside picture; in which order they are decoded is each encoder's own.
    let times = |path: &Path| -> (Vec<f64>, Vec<f64>) {
        let (mut shown, decoded): (Vec<f64>, Vec<f64>) = packets(path, "v").into_iter().unzip();
        shown.sort_by(f64::total_cmp);
        (shown, decoded)
    };
    assert_eq!(times(&other), times(&video));
    assert_eq!(std::fs::read(&video).unwrap(), std::fs::read(publish(&alone).path("video.mp4")).unwrap());
    let (init, info) = files
        .outputs
        .iter()
        .find_map(|output| match output {
            Output::Init { track: Track::Encoding(_), object, info, .. } => Some((object.a.clone(), info)),
            _ => None,
        })
        .unwrap();
    assert_eq!((info.width, info.height), (160, 90));
    // Each segment alone behind its init section begins with a picture: players may switch to it.
    for output in &files.outputs {
        let Output::Segment { objects, .. } = output else { continue };
        let path = files.path("one.mp4");
        std::fs::write(&path, [&init[..], &objects[2].1.a].concat()).unwrap();
        assert!(hashes(&path, "0:v").len() >= 30);
    }
}

#[test]
fn long_gops_and_empty_fragments_are_read_without_a_word() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = make_flv(folder.path(), &["-g", "300"]);
    let mut messages = messages(&std::fs::read(&source).unwrap().into());
    // Two and a half seconds of silence.
    messages.retain(|(kind, time, _)| *kind != Kind::Audio || !(2_000..4_500).contains(time));
    let files = publish(&messages);
    assert_eq!(files.reports.iter().filter(|report| matches!(report, Report::LongGop { .. })).count(), 1);
    assert!(files.reports.iter().any(|report| matches!(report, Report::AudioReanchored { .. })));
    assert_eq!(hashes(&files.path("video.mp4"), "0:v"), hashes(&source, "0:v"));
    let audio = packets(&files.path("audio.mp4"), "a");
    assert!(audio.windows(2).any(|pair| pair[1].1 - pair[0].1 > 2.4));
    assert!(files.records.iter().all(|record| record.duration_90k <= 220_000));
}

#[test]
fn the_bytes_are_the_same_twice() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = make_flv(folder.path(), &[]);
    let messages = messages(&std::fs::read(&source).unwrap().into());
    assert!(publish(&messages).outputs == publish(&messages).outputs);
}

/// A stream of silent frames (ADTS, ISO/IEC 13818-7 §6.2) is zeros, at any rate, and a strict decoder finds no error.
#[test]
fn silent_frames_are_silence() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (channels, asc) in [(1u8, [0x11, 0x88]), (2, [0x11, 0x90])] {
        let config = media::unit::AudioConfig::of_asc(Bytes::copy_from_slice(&asc)).unwrap();
        let frame = config.silence().unwrap();
        let len = frame.len() as u8 + 7;
        let head = [0xff, 0xf1, 0x4c, channels << 6, len >> 3, len << 5 | 0x1f, 0xfc];
        let path = folder.path().join("silence.aac");
        std::fs::write(&path, [&head[..], frame].concat().repeat(20)).unwrap();
        let raw = folder.path().join("silence.raw");
        let (from, to) = (path.to_str().unwrap(), raw.to_str().unwrap());
        let strict = ["-v", "error", "-nostdin", "-y", "-xerror", "-err_detect", "explode", "-i", from];
        quiet("ffmpeg", &[&strict[..], &["-f", "s16le", to]].concat());
        let samples = std::fs::read(raw).unwrap();
        assert_eq!(samples.len(), 20 * 1_024 * 2 * usize::from(channels));
        assert!(samples.iter().all(|byte| *byte == 0));
    }
}

/// What is in an MP4 file with a fragment a sample, as an encoder that speaks Enhanced RTMP says it.
fn enhanced(mp4: &[u8], fourcc: &[u8; 4]) -> Vec<(Kind, u32, Bytes)> {
    let mut rest = mp4;
    let (mut messages, mut fragment, mut scale) = (Vec::new(), None::<Moof>, 0u64);
    let kind = if fourcc == b"Opus" { Kind::Audio } else { Kind::Video };
    while let Ok(head) = Header::decode(&mut rest) {
        let (body, after) = rest.split_at(head.size.unwrap());
        if head.kind == Moov::KIND {
            let moov = Moov::decode_body(&mut &body[..]).unwrap();
            scale = moov.trak[0].mdia.mdhd.timescale.into();
            let mut record = vec![0x90];
            record.extend(fourcc);
            match &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] {
                Codec::Hvc1(hvc1) => hvc1.hvcc.encode_body(&mut record).unwrap(),
                Codec::Av01(av01) => av01.av1c.encode_body(&mut record).unwrap(),
                Codec::Opus(opus) => {
                    record.extend(b"OpusHead\x01");
                    record.push(opus.dops.output_channel_count);
                    record.extend(opus.dops.pre_skip.to_le_bytes());
                    record.extend(opus.dops.input_sample_rate.to_le_bytes());
                    record.extend([0; 3]);
                }
                _ => panic!("another codec"),
            }
            messages.push((kind, 0, record.into()));
        } else if head.kind == Moof::KIND {
            fragment = Some(Moof::decode_body(&mut &body[..]).unwrap());
        } else if let Some(fragment) = fragment.take_if(|_| head.kind == Mdat::KIND) {
            let traf = &fragment.traf[0];
            let (mut time, mut at) = (traf.tfdt.as_ref().unwrap().base_media_decode_time, 0);
            for sample in traf.trun.iter().flat_map(|run| run.samples.iter()) {
                let end = at + sample.size.or(traf.tfhd.default_sample_size).unwrap() as usize;
                let flags = sample.flags.or(traf.tfhd.default_sample_flags).unwrap();
                let composition = (sample.cts.unwrap_or(0) * 1_000 / scale as i64) as i32;
                let frame = if flags & 0x0001_0000 == 0 { 1u8 } else { 2 };
                // Without a composition time where there is none, as encoders do; AV1 has never one.
                let bare = fourcc != b"hvc1";
                assert!(!bare || composition == 0);
                let packet = if composition == 0 && !bare { 3 } else { 1 };
                let head = if kind == Kind::Audio { 0x90 } else { 0x80 | frame << 4 };
                let mut payload = vec![head | packet];
                payload.extend(fourcc);
                if packet == 1 && !bare {
                    payload.extend(&composition.to_be_bytes()[1..]);
                }
                payload.extend(&body[at..end]);
                messages.push((kind, (time * 1_000 / scale) as u32, payload.into()));
                time += u64::from(sample.duration.or(traf.tfhd.default_sample_duration).unwrap());
                at = end;
            }
            assert_eq!(at, body.len());
        }
        rest = after;
    }
    messages
}

/// HEVC in Enhanced RTMP beside AAC: whatever its GOPs are like, pictures and sound are what they were.
#[test]
fn hevc_comes_out_as_it_went_in() {
    if !tools() {
        return;
    }
    for (gops, b_frames) in
        [("open-gop=0", "bframes=0"), ("open-gop=0", "bframes=3"), ("open-gop=1", "bframes=3")]
    {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.mp4");
        let params = format!("keyint=25:min-keyint=25:scenecut=0:{gops}:{b_frames}:log-level=none");
        let mut args =
            vec!["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=7"];
        args.extend(["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", &params, "-tag:v", "hvc1"]);
        args.extend(["-movflags", "frag_every_frame+empty_moov+default_base_moof", source.to_str().unwrap()]);
        quiet("ffmpeg", &args);
        let mut all = enhanced(&std::fs::read(&source).unwrap(), b"hvc1");
        assert_eq!(all.len(), 1 + 175);
        let sound = make_flv(folder.path(), &[]);
        let sound = messages(&std::fs::read(sound).unwrap().into());
        all.extend(sound.into_iter().filter(|(kind, ..)| *kind == Kind::Audio));
        all.sort_by_key(|(_, time, _)| *time);
        let files = publish(&all);
        assert_eq!(hashes(&files.path("video.mp4"), "0:v"), hashes(&source, "0:v"), "{params}");
        assert!(files.records.len() >= 3 && files.records[..3].iter().all(|r| r.duration_90k == 180_000));
        let info = files.outputs.iter().find_map(|output| match output {
            Output::Init { track: Track::Video, info, .. } => Some(info.clone()),
            _ => None,
        });
        let info = info.unwrap();
        assert_eq!((info.codec.as_str(), info.width, info.height), ("hvc1.1.6.L60.90", 320, 180));
        // Not as MPEG-TS, and that is said, for each segment.
        assert!(files.records.iter().all(|record| !record.has_mpeg_ts));
        let said = files.reports.iter().filter(|report| matches!(report, Report::NoMpegTs { .. })).count();
        assert_eq!(said, files.records.len());
    }
}

/// AV1 in Enhanced RTMP alone, of both encoders that Debian's ffmpeg has, with temporal delimiters as some encoders leave them.
#[test]
fn av1_comes_out_as_it_went_in() {
    if !tools() {
        return;
    }
    let svt = [
        "libsvtav1",
        "-preset",
        "12",
        "-svtav1-params",
        "keyint=25",
        "-movflags",
        "frag_every_frame+empty_moov+default_base_moof",
    ];
    let aom = [
        "libaom-av1",
        "-cpu-used",
        "8",
        "-usage",
        "realtime",
        "-g",
        "25",
        "-movflags",
        "frag_every_frame+delay_moov+default_base_moof",
    ];
    for (encoder, codec) in [(&svt[..], "av01.0.00M.08"), (&aom, "av01.0.00M.08")] {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.mp4");
        let mut args = vec![
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x180:rate=25:duration=7",
            "-c:v",
        ];
        args.extend(encoder);
        args.push(source.to_str().unwrap());
        quiet("ffmpeg", &args);
        let mut all = enhanced(&std::fs::read(&source).unwrap(), b"av01");
        assert_eq!(all.len(), 1 + 175);
        let plain = publish(&all);
        assert_eq!(hashes(&plain.path("video.mp4"), "0:v"), hashes(&source, "0:v"), "{}", encoder[0]);
        assert!(
            plain.records.len() >= 3
                && plain.records[..3].iter().all(|r| r.duration_90k == 180_000 && r.independent)
        );
        let info = plain.outputs.iter().find_map(|output| match output {
            Output::Init { track: Track::Video, info, .. } => Some(info.clone()),
            _ => None,
        });
        let info = info.unwrap();
        assert_eq!((info.codec.as_str(), info.width, info.height), (codec, 320, 180));
        assert!(plain.records.iter().all(|record| !record.has_mpeg_ts));
        for (.., payload) in &mut all[1..] {
            *payload = [&payload[..5], &[0x12, 0], &payload[5..]].concat().into();
        }
        assert!(publish(&all).outputs == plain.outputs, "a temporal delimiter went on");
    }
}

/// Opus in Enhanced RTMP beside H.264: the packets are what they were, of 20 ms and of 60, and the clock is that of its samples.
#[test]
fn opus_comes_out_as_it_went_in() {
    if !tools() {
        return;
    }
    for (frame, count) in [("20", 350), ("60", 117)] {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.mp4");
        let mut args = vec![
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=48000:duration=6.99",
        ];
        args.extend(["-ac", "2", "-c:a", "libopus", "-b:a", "64k", "-frame_duration", frame]);
        args.extend(["-movflags", "frag_every_frame+delay_moov+default_base_moof", source.to_str().unwrap()]);
        quiet("ffmpeg", &args);
        let mut all = enhanced(&std::fs::read(&source).unwrap(), b"Opus");
        assert_eq!(all.len(), 1 + count);
        let film = make_flv(folder.path(), &[]);
        let film = messages(&std::fs::read(film).unwrap().into());
        all.extend(film.into_iter().filter(|(kind, ..)| *kind == Kind::Video));
        all.sort_by_key(|(_, time, _)| *time);
        let files = publish(&all);
        let (ours, theirs) = (files.path("audio.mp4"), source);
        let copy = |path| hashes_of(path, "0:a", &["-c", "copy"]);
        let (came, went) = (copy(&theirs), copy(&ours));
        assert!(came.len() - went.len() <= 1 && came.starts_with(&went), "{} of {}", went.len(), came.len());
        // What a decoder makes of it is whole, and no frame was moved.
        assert!(hashes(&ours, "0:a").len() == went.len());
        assert!(
            !files
                .reports
                .iter()
                .any(|report| matches!(report, Report::AudioReanchored { .. } | Report::NoMpegTs { .. }))
        );
        let entries = files.records.iter().rev().flat_map(|record| &record.tracks);
        let end = entries.filter_map(|entry| entry.sound_end).next().unwrap();
        assert_eq!(
            (end.rate, end.sample),
            (48_000, went.len() as u64 * if count == 350 { 960 } else { 2_880 })
        );
        let info = files.outputs.iter().find_map(|output| match output {
            Output::Init { track: Track::AUDIO, info, .. } => Some(info.clone()),
            _ => None,
        });
        assert_eq!(info.map(|info| (info.codec, info.channels)), Some(("Opus".to_owned(), 2)));
        // MPEG-TS has the pictures alone.
        assert_eq!(
            hashes(&files.path("muxed.ts"), "0:v").len(),
            hashes(&files.path("video.mp4"), "0:v").len()
        );
        let args = ["-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0"];
        let muxed = files.path("muxed.ts");
        let kinds = quiet("ffprobe", &[&args[..], &[muxed.to_str().unwrap()]].concat());
        assert!(kinds.contains("video") && !kinds.contains("audio"), "{kinds}");
    }
}
