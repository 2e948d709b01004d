//! HEVC, and H.264 of more than 8 bits or more chroma, made anew: as many pictures at the same times in H.264 that marks.

use crate::common::{chosen, ffmpeg_or_skip, scratch};
use crate::normalise::{configs, decoded, marks, normalised, pictures, psnr, shown};
use bytes::Bytes;
use mark::PoolConfig;
use mark::h264::Sps;
use mark::h264::shown::{Shape, Signal};
use mark::normalise::coder::Coder;
use mark::normalise::{Do, Normaliser, Session};
use media::unit::{AccessUnit, Piece, Unit, VideoCoding, VideoConfig};
use mp4_atom::{Atom, Codec, Header, Moov, ReadFrom, StszSamples};
use std::process::Command;
use std::sync::Arc;

const FRAMES: usize = 130;

/// What the publisher's encoder does.
const CASES: [(&str, &str, &[&str]); 6] = [
    ("hevc", "640x360", &["-c:v", "libx265", "-x265-params", "keyint=30:open-gop=0:bframes=3"]),
    // Pictures that decoding may begin with and that others before them, in output order, refer across.
    (
        "hevc-10-open",
        "320x180",
        &["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "keyint=30:bframes=4"],
    ),
    (
        "hevc-422",
        "322x200",
        &[
            "-c:v",
            "libx265",
            "-pix_fmt",
            "yuv422p10le",
            "-vf",
            "setsar=4/3",
            "-x265-params",
            "keyint=200:scaling-list=default:temporal-layers=3:range=limited:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc",
        ],
    ),
    ("high-10", "640x360", &["-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-g", "30"]),
    ("high-422", "320x192", &["-c:v", "libx264", "-pix_fmt", "yuv422p10le", "-g", "250", "-bf", "3"]),
    ("high-444", "320x192", &["-c:v", "libx264", "-pix_fmt", "yuv444p", "-g", "60"]),
];

/// ffmpeg's film as units of a feed, and its pictures in 8 bits as ffmpeg decodes them.
fn published(name: &str, size: &str, arguments: &[&str]) -> (Vec<Unit>, Vec<u8>) {
    let path = scratch(&format!("foreign-{name}.mp4"));
    let source = format!("testsrc2=size={size}:rate=30,noise=alls=6:all_seed=7");
    let run = |arguments: &mut Command| {
        let output = arguments.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "error", "-y", "-f", "lavfi", "-i", &source]).args(arguments);
    command.args(["-preset", "veryfast", "-crf", "24", "-tag:v"]);
    command.arg(if name.starts_with("hevc") { "hvc1" } else { "avc1" });
    run(command.args(["-video_track_timescale", "90000", "-frames:v", &FRAMES.to_string()]).arg(&path));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(&path).args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]);
    (units(&std::fs::read(&path).unwrap()), run(&mut command))
}

/// The one track of an MP4 file that is not in fragments.
fn units(mp4: &[u8]) -> Vec<Unit> {
    let mut rest = mp4;
    let moov = loop {
        let header = Header::read_from(&mut rest).unwrap();
        let body = header.size.unwrap();
        if header.kind == Moov::KIND {
            break Moov::decode_body(&mut &rest[..body]).unwrap();
        }
        rest = &rest[body..];
    };
    let table = &moov.trak[0].mdia.minf.stbl;
    let mut record = Vec::new();
    let coding = match &table.stsd.codecs[0] {
        Codec::Avc1(entry) => entry.avcc.encode_body(&mut record).map(|()| VideoCoding::H264),
        Codec::Hvc1(entry) => entry.hvcc.encode_body(&mut record).map(|()| VideoCoding::Hevc),
        other => panic!("{other:?}"),
    };
    let coding = coding.unwrap();
    let config = VideoConfig::of(coding, record.into()).unwrap();
    let StszSamples::Different { sizes } = &table.stsz.samples else { panic!("one size") };
    let runs =
        |runs: Vec<(u32, i64)>| runs.into_iter().flat_map(|(count, value)| (0..count).map(move |_| value));
    let steps =
        runs(table.stts.entries.iter().map(|run| (run.sample_count, run.sample_delta.into())).collect());
    let offsets: Vec<i64> = table.ctts.as_ref().map_or(vec![0; sizes.len()], |ctts| {
        runs(ctts.entries.iter().map(|run| (run.sample_count, run.sample_offset)).collect()).collect()
    });
    // ffmpeg writes this track in chunks one behind the other.
    let mut at = table.stco.as_ref().unwrap().entries[0] as usize;
    let mut out = vec![Unit::VideoConfig(Arc::new(config))];
    let mut dts_90k = 0;
    for ((&size, step), offset) in sizes.iter().zip(steps).zip(offsets) {
        let data = Bytes::copy_from_slice(&mp4[at..at + size as usize]);
        at += size as usize;
        let idr = begins(coding, &data);
        let composition_90k = i32::try_from(offset).unwrap();
        let pieces = vec![Piece::Common(data)];
        out.push(Unit::Video(AccessUnit { dts_90k, composition_90k, idr, gop: None, pieces }));
        dts_90k += step;
    }
    out
}

/// As the feed says it: an IDR picture, of HEVC any that decoding may begin with.
fn begins(coding: VideoCoding, data: &[u8]) -> bool {
    mark::h264::nal::Units::new(data, 4).any(|unit| {
        let head = unit.unwrap().1[0];
        if coding == VideoCoding::Hevc { (16..=21).contains(&(head >> 1)) } else { head & 31 == 5 }
    })
}

#[test]
fn what_only_libavcodec_decodes_is_the_same_film_in_h264_that_marks() {
    if !ffmpeg_or_skip("what_only_libavcodec_decodes_is_the_same_film_in_h264_that_marks") {
        return;
    }
    for (name, size, arguments) in CASES {
        let (units, film) = published(name, size, arguments);
        let out = normalised(&units);
        let (came, went) = (pictures(&units), pictures(&out));
        assert_eq!((came.len(), went.len()), (FRAMES, FRAMES), "{name}");
        let mut times: Vec<i64> = came.iter().map(|picture| shown(picture)).collect();
        times.sort_unstable();
        assert_eq!(went.iter().map(|picture| shown(picture)).collect::<Vec<_>>(), times, "{name}");
        assert!(went.iter().all(|picture| picture.composition_90k >= 0), "{name}");
        let idr: Vec<i64> =
            went.iter().filter(|picture| picture.idr).map(|picture| picture.dts_90k).collect();
        assert!(went[0].idr && idr.windows(2).all(|two| two[1] - two[0] <= 184_000), "{name}: {idr:?}");
        let config = |units: &[Unit]| match &units[0] {
            Unit::VideoConfig(config) => (config.coding, config.width, config.height, config.millihertz),
            other => panic!("{other:?}"),
        };
        let (host, ours) = (config(&units), config(&out));
        assert_eq!(ours, (VideoCoding::H264, host.1, host.2, 30_000), "{name}");
        let ours = configs(&out);
        assert_eq!(ours.len(), 1, "{name}");
        if name == "hevc-422" {
            let length = usize::from(u16::from_be_bytes([ours[0][6], ours[0][7]]));
            let shown = Sps::parse(&ours[0][8..8 + length]).unwrap().shown().unwrap();
            assert_eq!(shown.shape, Some(Shape::Known(14)), "4 to 3");
            let colours = Some([9, 18, 9]);
            assert_eq!(shown.signal, Some(Signal { format: 5, full_range: false, colours }));
        }

        let bytes: Vec<Vec<u8>> = went.iter().map(|picture| chosen(&picture.pieces, |_| false)).collect();
        let ours = decoded(&format!("{name}-ours"), &configs(&out)[0], &bytes);
        let shown = cropped(&ours, (host.1 as usize, host.2 as usize));
        assert_eq!(shown.len(), film.len(), "{name}: no picture is missing");
        let one = film.len() / FRAMES;
        let worst = shown.chunks(one).zip(film.chunks(one)).map(|(a, b)| psnr(a, b)).fold(99.0, f64::min);
        let sum = |pictures: &[&AccessUnit]| pictures.iter().map(|picture| picture.len()).sum::<usize>();
        let grown = sum(&went) as f64 / sum(&came) as f64;
        println!(
            "{name}: {grown:.2} of the bytes, worst picture {worst:.1} dB, all {:.1} dB",
            psnr(&shown, &film)
        );
        assert!(worst > 28.0 && grown < 2.5, "{name}: {worst} dB, {grown} of the bytes");
        marks(name, &configs(&out)[0], &went, &ours);
        assert_eq!(normalised(&units), out, "{name}: the same again");
    }
}

/// What is shown of pictures of whole macroblocks.
fn cropped(film: &[u8], (width, height): (usize, usize)) -> Vec<u8> {
    let (columns, rows) = (width.next_multiple_of(16), height.next_multiple_of(16));
    let mut out = Vec::new();
    for picture in film.chunks(columns * rows * 3 / 2) {
        let (luma, chroma) = picture.split_at(columns * rows);
        let (cb, cr) = chroma.split_at(chroma.len() / 2);
        for (plane, half) in [(luma, 1), (cb, 2), (cr, 2)] {
            for row in plane.chunks(columns / half).take(height / half) {
                out.extend_from_slice(&row[..width / half]);
            }
        }
    }
    out
}

#[tokio::test]
async fn a_worker_behind_its_walls_makes_the_same_of_it() {
    if !ffmpeg_or_skip("a_worker_behind_its_walls_makes_the_same_of_it") {
        return;
    }
    for (name, size, arguments) in [CASES[1], CASES[4]] {
        let (units, _) = published(&format!("{name}-worker"), size, arguments);
        let mut coder = Coder::start(&PoolConfig::new(env!("CARGO_BIN_EXE_mark-worker"), &[])).await.unwrap();
        let (mut normaliser, mut session, mut count) = (Normaliser::new(180_000), Session::default(), 0);
        let mut todo: Vec<Do> = units.iter().flat_map(|unit| normaliser.push(unit.clone(), true)).collect();
        todo.extend(normaliser.end());
        for one in todo {
            let Do::Code(step) = one else { continue };
            let ours = session.step(step.clone()).unwrap();
            count += ours.pictures.len();
            assert_eq!(coder.step(&step).await.unwrap(), ours, "{name}");
        }
        assert_eq!(count, FRAMES, "{name}");
    }
}
