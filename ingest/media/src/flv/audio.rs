//! Audio tag bodies (FLV 10.1 §E.4.2, Enhanced RTMP v2 "Enhanced Audio").

use super::{FlvError, Head, Ignored, OneTrack, fourcc_text};
use crate::unit::AudioCoding;
use bytes::Bytes;
use ingest_api::AudioTrack;
use ingest_api::track::AUDIO_TRACKS_MAX;

/// What an audio message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// What a decoder must know first.
    Config {
        /// Of which coding.
        coding: AudioCoding,
        /// An `AudioSpecificConfig`, or an Opus identification header.
        record: Bytes,
    },
    /// One raw AAC frame, or one Opus packet.
    Frame {
        /// How it is coded.
        coding: AudioCoding,
        /// Its bytes.
        data: Bytes,
    },
    /// Nothing to do.
    Ignored(Ignored),
}

const EX_HEADER: u8 = 9;
const MULTITRACK: u8 = 5;
const AAC: u8 = 10;

impl Audio {
    /// Reads the payload of an RTMP audio message: what it has of each track, by their ids; and how many tracks are left out.
    ///
    /// # Errors
    /// A cut head, another codec of the first track. A further track of another codec is left out.
    pub fn parse(payload: Bytes) -> Result<(Vec<(AudioTrack, Audio)>, u64), FlvError> {
        let alone = |audio| Ok((vec![(AudioTrack::FIRST, audio)], 0));
        let mut head = Head { bytes: payload, at: 0 };
        if head.bytes.is_empty() {
            return alone(Audio::Ignored(Ignored::Empty));
        }
        let first = head.byte()?;
        match first >> 4 {
            AAC => {
                let packet = head.byte()?;
                alone(of_packet(packet, AudioCoding::Aac, head))
            }
            EX_HEADER => {
                let packet = head.after_modifiers(first & 0x0f)?;
                if packet == MULTITRACK {
                    return several(head);
                }
                let coding = coding(head.take()?)?;
                alone(of_packet(packet, coding, head))
            }
            other => Err(FlvError::AudioCodec(legacy_name(other))),
        }
    }
}

fn several(head: Head) -> Result<(Vec<(AudioTrack, Audio)>, u64), FlvError> {
    let (tracks, mut left_out) = head.tracks(AUDIO_TRACKS_MAX)?;
    let mut read = Vec::with_capacity(tracks.len());
    for OneTrack { id, packet, fourcc, head } in tracks {
        match (AudioTrack::new(id), coding(fourcc)) {
            (Some(track), Ok(coding)) => read.push((track, of_packet(packet, coding, head))),
            (Some(AudioTrack::FIRST), Err(error)) => return Err(error),
            _ => left_out += 1,
        }
    }
    Ok((read, left_out))
}

fn of_packet(packet: u8, coding: AudioCoding, head: Head) -> Audio {
    match packet {
        0 => Audio::Config { coding, record: head.rest() },
        1 => Audio::Frame { coding, data: head.rest() },
        other => Audio::Ignored(Ignored::PacketType(other)),
    }
}

fn coding(fourcc: [u8; 4]) -> Result<AudioCoding, FlvError> {
    let unsupported = |name: &str| Err(FlvError::AudioCodec(name.to_owned()));
    match &fourcc {
        b"mp4a" => Ok(AudioCoding::Aac),
        b"Opus" => Ok(AudioCoding::Opus),
        b"fLaC" => unsupported("FLAC"),
        b"ac-3" => unsupported("AC-3"),
        b"ec-3" => unsupported("E-AC-3"),
        b".mp3" => unsupported("MP3"),
        other => unsupported(&fourcc_text(*other)),
    }
}

fn legacy_name(format: u8) -> String {
    match format {
        0 | 3 => "PCM",
        1 => "ADPCM",
        2 | 14 => "MP3",
        4..=6 => "Nellymoser",
        7 | 8 => "G.711",
        11 => "Speex",
        13 => "Opus (unofficial format 13)",
        _ => return format!("format {format}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use scuffle_flv::audio::AudioData;
    use scuffle_flv::audio::body::{
        AudioTagBody,
        legacy::{LegacyAudioTagBody, aac::AacAudioData},
    };

    fn parse(bytes: &[u8]) -> Result<Audio, FlvError> {
        Audio::parse(Bytes::copy_from_slice(bytes)).map(|(mut tracks, left_out)| {
            let (track, audio) = tracks.pop().unwrap();
            assert_eq!((tracks.len(), left_out, track), (0, 0, AudioTrack::FIRST));
            audio
        })
    }

    #[test]
    fn heads() {
        let config = |coding, record| Ok(Audio::Config { coding, record: Bytes::from_static(record) });
        let frame = |coding, data| Ok(Audio::Frame { coding, data: Bytes::from_static(data) });
        use AudioCoding::{Aac, Opus};
        assert_eq!(parse(&[0xaf, 0, 0x12, 0x10]), config(Aac, &[0x12, 0x10]));
        assert_eq!(parse(&[0xaf, 1, 7]), frame(Aac, &[7]));
        assert_eq!(parse(b"\x91mp4aabc"), frame(Aac, b"abc"));
        assert_eq!(parse(b"\x90mp4aabc"), config(Aac, b"abc"));
        assert_eq!(parse(b"\x91Opusabc"), frame(Opus, b"abc"));
        assert_eq!(parse(b"\x90Opusabc"), config(Opus, b"abc"));
        assert_eq!(parse(b"\x94Opusabc"), Ok(Audio::Ignored(Ignored::PacketType(4))), "channel order");
        assert_eq!(parse(&[]), Ok(Audio::Ignored(Ignored::Empty)));
        assert_eq!(parse(&[0xaf]), Err(FlvError::Short { len: 1 }));
        assert_eq!(parse(&[0x2f, 1]), Err(FlvError::AudioCodec("MP3".to_owned())));
        assert_eq!(parse(b"\x90fLaCx"), Err(FlvError::AudioCodec("FLAC".to_owned())));
    }

    #[test]
    fn every_track_is_read_by_its_id() {
        let parse = |bytes: &'static [u8]| Audio::parse(Bytes::from_static(bytes));
        let frame = |id, coding, data| {
            (AudioTrack::new(id).unwrap(), Audio::Frame { coding, data: Bytes::from_static(data) })
        };
        use AudioCoding::{Aac, Opus};
        assert_eq!(parse(b"\x95\x01mp4a\0abc"), Ok((vec![frame(0, Aac, b"abc")], 0)));
        assert_eq!(parse(b"\x95\x01mp4a\x07abc"), Ok((vec![frame(7, Aac, b"abc")], 0)));
        assert_eq!(parse(b"\x95\x01mp4a\x08abc"), Ok((vec![], 1)), "ids end at 7");
        let config = Audio::Config { coding: Opus, record: Bytes::from_static(b"r") };
        assert_eq!(parse(b"\x95\0Opus\x02r"), Ok((vec![(AudioTrack::new(2).unwrap(), config)], 0)));
        let three = b"\x95\x11Opus\x01\0\0\x01b\0\0\0\x01a\xff\0\0\x01c";
        assert_eq!(
            parse(three),
            Ok((vec![frame(0, Opus, b"a"), frame(1, Opus, b"b")], 1)),
            "the first is first"
        );
        let twice = b"\x95\x11Opus\x01\0\0\x01b\x01\0\0\x01c";
        assert_eq!(parse(twice), Ok((vec![frame(1, Opus, b"b")], 1)));
        let two = b"\x95\x21Opus\0\0\0\x01amp4a\x01\0\0\x01b";
        assert_eq!(parse(two), Ok((vec![frame(0, Opus, b"a"), frame(1, Aac, b"b")], 0)));
        assert!(parse(b"\x95\x01fLaC\0x").unwrap_err().to_string().contains("FLAC"));
        assert_eq!(parse(b"\x95\x01fLaC\x01x"), Ok((vec![], 1)), "the first one goes on");
        assert_eq!(parse(b"\x95\x11mp4a\0\0\0\x09abc"), Err(FlvError::Short { len: 13 }));
        assert_eq!(parse(b"\x95\x31mp4a\0abc"), Err(FlvError::Multitrack(3)));
    }

    proptest! {
        #[test]
        fn agrees_with_scuffle_on_aac(rest in proptest::collection::vec(any::<u8>(), 1..40)) {
            let payload: Bytes = [&[0xaf][..], &rest].concat().into();
            let oracle = AudioData::demux(&mut std::io::Cursor::new(payload.clone())).unwrap();
            let AudioTagBody::Legacy(LegacyAudioTagBody::Aac(oracle)) = oracle.body else { panic!() };
            match (Audio::parse(payload).unwrap().0.remove(0).1, oracle) {
                (Audio::Config { record, .. }, AacAudioData::SequenceHeader(theirs)) => prop_assert_eq!(record, theirs),
                (Audio::Frame { data, .. }, AacAudioData::Raw(theirs)) => prop_assert_eq!(data, theirs),
                (Audio::Ignored(_), AacAudioData::Unknown { .. }) => {}
                (ours, theirs) => panic!("{ours:?} against {theirs:?}"),
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok((tracks, _)) = Audio::parse(bytes.into()) {
                prop_assert!(tracks.is_sorted_by(|a, b| a.0 < b.0), "each track once");
            }
        }
    }
}
