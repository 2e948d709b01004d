//! Video tag bodies (FLV 10.1 §E.4.3, Enhanced RTMP v2 "Enhanced Video").

use super::{FlvError, Head, Ignored, OneTrack, fourcc_text};
use crate::unit::VideoCoding;
use bytes::Bytes;
use ingest_api::Track;
use ingest_api::track::ENCODINGS_MAX;

/// What a video message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Video {
    /// A decoder configuration record.
    Config {
        /// Of which coding.
        coding: VideoCoding,
        /// The record.
        record: Bytes,
    },
    /// Length-prefixed NAL units of one access unit, or the OBUs of a temporal unit.
    Frame {
        /// How they are coded.
        coding: VideoCoding,
        /// What the FLV head says; the units have the last word.
        key: bool,
        /// Presentation minus decode time, in milliseconds.
        composition_ms: i32,
        /// The units.
        data: Bytes,
    },
    /// The publisher's end mark.
    End,
    /// Nothing to do.
    Ignored(Ignored),
}

const ENHANCED: u8 = 0x80;
const COMMAND: u8 = 5;
const MULTITRACK: u8 = 6;
const AVC: u8 = 7;

impl Video {
    /// Reads the payload of an RTMP video message: what it has of the picture and of each further encoding, by their ids; and
    /// how many tracks are left out.
    ///
    /// # Errors
    /// A cut head, another codec of the picture. A further encoding in another codec is left out.
    pub fn parse(payload: Bytes) -> Result<(Vec<(Track, Video)>, u64), FlvError> {
        let mut head = Head { bytes: payload, at: 0 };
        if head.bytes.is_empty() {
            return alone(Video::Ignored(Ignored::Empty));
        }
        let first = head.byte()?;
        if first & ENHANCED != 0 { enhanced(first, head) } else { alone(legacy(first, head)?) }
    }
}

fn alone(video: Video) -> Result<(Vec<(Track, Video)>, u64), FlvError> {
    Ok((vec![(Track::Video, video)], 0))
}

fn legacy(first: u8, mut head: Head) -> Result<Video, FlvError> {
    let (frame, codec) = (first >> 4, first & 0x0f);
    if frame == COMMAND {
        return Ok(Video::Ignored(Ignored::Command));
    }
    if codec != AVC {
        let name = match codec {
            2 => "Sorenson H.263",
            3 | 6 => "Screen video",
            4 | 5 => "VP6",
            12 => "HEVC (unofficial codec id 12)",
            13 => "AV1 (unofficial codec id 13)",
            _ => return Err(FlvError::VideoCodec(format!("id {codec}"))),
        };
        return Err(FlvError::VideoCodec(name.to_owned()));
    }
    let packet = head.byte()?;
    let composition_ms = signed_24(head.take()?);
    let coding = VideoCoding::H264;
    Ok(match packet {
        0 => Video::Config { coding, record: head.rest() },
        1 => Video::Frame { coding, key: is_key(frame), composition_ms, data: head.rest() },
        2 => Video::End,
        other => Video::Ignored(Ignored::PacketType(other)),
    })
}

fn enhanced(first: u8, mut head: Head) -> Result<(Vec<(Track, Video)>, u64), FlvError> {
    let frame = first >> 4 & 0x07;
    let packet = head.after_modifiers(first & 0x0f)?;
    if frame == COMMAND && packet != 4 {
        return alone(Video::Ignored(Ignored::Command));
    }
    if packet != MULTITRACK {
        let fourcc = head.take()?;
        return alone(of_track(frame, packet, fourcc, head)?);
    }
    let (tracks, mut left_out) = head.tracks(1 + ENCODINGS_MAX)?;
    let mut read = Vec::with_capacity(tracks.len());
    for OneTrack { id, packet, fourcc, head } in tracks {
        match (Track::of_video(id), of_track(frame, packet, fourcc, head)) {
            (Some(track), Ok(video)) => read.push((track, video)),
            (Some(Track::Video), Err(error)) => return Err(error),
            _ => left_out += 1,
        }
    }
    Ok((read, left_out))
}

fn of_track(frame: u8, packet: u8, fourcc: [u8; 4], mut head: Head) -> Result<Video, FlvError> {
    let unsupported = |name: &str| Err(FlvError::VideoCodec(name.to_owned()));
    let coding = match &fourcc {
        b"avc1" => VideoCoding::H264,
        b"hvc1" => VideoCoding::Hevc,
        b"av01" => VideoCoding::Av1,
        b"vp09" => return unsupported("VP9 (vp09)"),
        b"vp08" => return unsupported("VP8 (vp08)"),
        b"vvc1" => return unsupported("VVC (vvc1)"),
        other => return unsupported(&fourcc_text(*other)),
    };
    let key = is_key(frame);
    Ok(match packet {
        0 => Video::Config { coding, record: head.rest() },
        1 if coding != VideoCoding::Av1 => {
            let composition_ms = signed_24(head.take()?);
            Video::Frame { coding, key, composition_ms, data: head.rest() }
        }
        2 => Video::End,
        // Of AV1 both mean this: its frames come in the order in which they are shown.
        1 | 3 => Video::Frame { coding, key, composition_ms: 0, data: head.rest() },
        4 => Video::Ignored(Ignored::Metadata),
        other => Video::Ignored(Ignored::PacketType(other)),
    })
}

fn is_key(frame: u8) -> bool {
    matches!(frame, 1 | 4)
}

/// SI24: sign in bit 23.
fn signed_24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use scuffle_flv::video::VideoData;
    use scuffle_flv::video::body::{VideoTagBody, legacy::LegacyVideoTagBody};
    use scuffle_flv::video::header::{VideoTagHeaderData, legacy as oracle};

    fn parse(bytes: &[u8]) -> Result<Video, FlvError> {
        Video::parse(Bytes::copy_from_slice(bytes)).map(|(mut tracks, left_out)| {
            let (track, video) = tracks.pop().unwrap();
            assert_eq!((tracks.len(), left_out, track), (0, 0, Track::Video));
            video
        })
    }

    #[test]
    fn old_heads() {
        let coding = VideoCoding::H264;
        let config = Video::Config { coding, record: Bytes::from_static(&[1, 2]) };
        assert_eq!(parse(&[0x17, 0, 0, 0, 0, 1, 2]), Ok(config));
        let data = Bytes::from_static(&[9]);
        let frame = |key, composition_ms| Video::Frame { coding, key, composition_ms, data: data.clone() };
        assert_eq!(parse(&[0x17, 1, 0, 0, 67, 9]), Ok(frame(true, 67)));
        assert_eq!(parse(&[0x27, 1, 0xff, 0xff, 0xdf, 9]), Ok(frame(false, -33)));
        assert_eq!(parse(&[0x17, 2, 0, 0, 0]), Ok(Video::End));
        assert_eq!(parse(&[0x57, 0]), Ok(Video::Ignored(Ignored::Command)));
        assert_eq!(parse(&[]), Ok(Video::Ignored(Ignored::Empty)));
        assert_eq!(parse(&[0x17, 1, 0]), Err(FlvError::Short { len: 3 }));
    }

    #[test]
    fn fourcc_heads() {
        for (fourcc, coding) in [(b"avc1", VideoCoding::H264), (b"hvc1", VideoCoding::Hevc)] {
            let parse = |head: u8, rest: &[u8]| parse(&[&[head], &fourcc[..], rest].concat());
            let record = Bytes::from_static(b"cfg");
            assert_eq!(parse(0x90, b"cfg"), Ok(Video::Config { coding, record }));
            let data = Bytes::from_static(b"nal");
            let frame =
                |key, composition_ms| Video::Frame { coding, key, composition_ms, data: data.clone() };
            assert_eq!(parse(0x91, b"\0\0\x21nal"), Ok(frame(true, 33)));
            assert_eq!(parse(0xa1, b"\xff\xff\xdfnal"), Ok(frame(false, -33)));
            assert_eq!(parse(0xa3, b"nal"), Ok(frame(false, 0)));
            assert_eq!(parse(0x92, b""), Ok(Video::End));
            assert_eq!(parse(0x94, b"colour"), Ok(Video::Ignored(Ignored::Metadata)));
        }
        let data = Bytes::from_static(b"obu");
        let av1 = |key| Video::Frame { coding: VideoCoding::Av1, key, composition_ms: 0, data: data.clone() };
        assert_eq!(parse(b"\x91av01obu"), Ok(av1(true)), "AV1 has no composition time");
        assert_eq!(parse(b"\xa3av01obu"), Ok(av1(false)));
        let record = Bytes::from_static(b"cfg");
        assert_eq!(parse(b"\x90av01cfg"), Ok(Video::Config { coding: VideoCoding::Av1, record }));
        let (coding, data) = (VideoCoding::H264, Bytes::from_static(b"nal"));
        let frame = |key, composition_ms| Video::Frame { coding, key, composition_ms, data: data.clone() };
        assert_eq!(parse(b"\x97\x02\0\0\0\x03avc1nal"), Ok(frame(true, 0)), "a nanosecond offset is skipped");
    }

    #[test]
    fn other_codecs_are_named() {
        for (bytes, name) in [
            (&b"\x90vvc1"[..], "VVC"),
            (b"\x90vp09", "VP9"),
            (b"\x1c\0\0\0\0", "HEVC"),
            (b"\x22", "H.263"),
            (b"\x90\n\0xy", "\\n\\x00xy"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn every_encoding_is_read_by_its_id() {
        let parse = |bytes: &'static [u8]| Video::parse(Bytes::from_static(bytes));
        let frame = |id, coding, data| {
            let data = Bytes::from_static(data);
            (Track::of_video(id).unwrap(), Video::Frame { coding, key: true, composition_ms: 0, data })
        };
        let (hevc, av1) = (VideoCoding::Hevc, VideoCoding::Av1);
        assert_eq!(parse(b"\x96\x03hvc1\0nal"), Ok((vec![frame(0, hevc, b"nal")], 0)), "one track");
        assert_eq!(parse(b"\x96\x03hvc1\x04nal"), Ok((vec![frame(4, hevc, b"nal")], 0)));
        assert_eq!(parse(b"\x96\x03hvc1\x05nal"), Ok((vec![], 1)), "ids end at 4");
        let two = b"\x96\x13hvc1\x01\0\0\x02xx\0\0\0\x03nal";
        let both = vec![frame(0, hevc, b"nal"), frame(1, hevc, b"xx")];
        assert_eq!(parse(two), Ok((both, 0)), "the picture first");
        let three = b"\x96\x23av01\0\0\0\x03obuhvc1\x01\0\0\x01xvp09\x02\0\0\0";
        let known = vec![frame(0, av1, b"obu"), frame(1, hevc, b"x")];
        assert_eq!(parse(three), Ok((known, 1)), "the picture goes on");
        let timed = b"\x91hvc1\0\0\x21nal";
        let inside = b"\x96\x11hvc1\0\0\0\x06\0\0\x21nal";
        assert_eq!(parse(inside).unwrap().0, parse(timed).unwrap().0, "with its composition time");
        assert_eq!(parse(b"\x96\x01hvc1\x01\0").unwrap(), (vec![], 1), "a frame that is cut");
        for cut in 2..two.len() - 1 {
            // At the end of a track there may be one less.
            let whole = cut == 6 || cut == 12;
            assert_eq!(Video::parse(Bytes::copy_from_slice(&two[..cut])).is_ok(), whole, "cut at {cut}");
        }
        assert_eq!(parse(b"\x96\x33hvc1\0nal"), Err(FlvError::Multitrack(3)));
        assert!(parse(b"\x96\x03vp09\0x").unwrap_err().to_string().contains("VP9"));
        let again = vec![(Track::Video, Video::Ignored(Ignored::PacketType(6)))];
        assert_eq!(parse(b"\x96\x06hvc1\0x").unwrap().0, again, "not again");
    }

    proptest! {
        /// Frames are the same bytes and times that scuffle-flv sees. (Not fed to it: metadata, whose decoder can abort.)
        #[test]
        fn agrees_with_scuffle_on_old_heads(first in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 4..40)) {
            let payload: Bytes = [&[first & 0x7f][..], &rest].concat().into();
            let oracle = VideoData::demux(&mut std::io::Cursor::new(payload.clone()));
            let Ok((mut ours, _)) = Video::parse(payload) else { return Ok(()) };
            let (_, ours) = ours.remove(0);
            if let Video::Frame { composition_ms, data, .. } = ours {
                let oracle = oracle.expect("scuffle-flv refuses a frame that we take");
                let VideoTagBody::Legacy(LegacyVideoTagBody::Other { data: theirs }) = oracle.body else {
                    panic!("scuffle-flv sees no frame")
                };
                prop_assert_eq!(data, theirs);
                let VideoTagHeaderData::Legacy(oracle::LegacyVideoTagHeader::AvcPacket(
                    oracle::LegacyVideoTagHeaderAvcPacket::Nalu { composition_time_offset })) = oracle.header.data else {
                    panic!("scuffle-flv sees another head")
                };
                prop_assert_eq!(composition_ms as u32 & 0x00ff_ffff, composition_time_offset);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok((tracks, _)) = Video::parse(bytes.into()) {
                prop_assert!(tracks.is_sorted_by(|a, b| a.0 < b.0), "each track once");
            }
        }
    }
}
