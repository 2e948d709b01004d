//! Audio tag bodies (FLV 10.1 §E.4.2, Enhanced RTMP v2 "Enhanced Audio").

use super::{FlvError, Head, Ignored, fourcc_text};
use bytes::Bytes;

/// What an audio message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// An `AudioSpecificConfig`.
    Config(Bytes),
    /// One raw AAC frame.
    Frame(Bytes),
    /// Nothing to do.
    Ignored(Ignored),
}

const EX_HEADER: u8 = 9;
const AAC: u8 = 10;

impl Audio {
    /// Reads the payload of an RTMP audio message.
    ///
    /// # Errors
    /// A cut head, another codec, several tracks.
    pub fn parse(payload: Bytes) -> Result<Audio, FlvError> {
        let mut head = Head { bytes: payload, at: 0 };
        if head.bytes.is_empty() {
            return Ok(Audio::Ignored(Ignored::Empty));
        }
        let first = head.byte()?;
        match first >> 4 {
            AAC => {
                let packet = head.byte()?;
                Ok(match packet {
                    0 => Audio::Config(head.rest()),
                    1 => Audio::Frame(head.rest()),
                    other => Audio::Ignored(Ignored::PacketType(other)),
                })
            }
            EX_HEADER => enhanced(first & 0x0f, head),
            other => Err(FlvError::AudioCodec(legacy_name(other))),
        }
    }
}

fn enhanced(packet: u8, mut head: Head) -> Result<Audio, FlvError> {
    let packet = head.after_modifiers(packet)?;
    if packet == 5 {
        return Err(FlvError::Multitrack("audio"));
    }
    let fourcc = head.take::<4>()?;
    if &fourcc != b"mp4a" {
        let name = match &fourcc {
            b"Opus" => "Opus".to_owned(),
            b"fLaC" => "FLAC".to_owned(),
            b"ac-3" => "AC-3".to_owned(),
            b"ec-3" => "E-AC-3".to_owned(),
            b".mp3" => "MP3".to_owned(),
            other => fourcc_text(*other),
        };
        return Err(FlvError::AudioCodec(name));
    }
    Ok(match packet {
        0 => Audio::Config(head.rest()),
        1 => Audio::Frame(head.rest()),
        other => Audio::Ignored(Ignored::PacketType(other)),
    })
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
        Audio::parse(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn heads() {
        assert_eq!(parse(&[0xaf, 0, 0x12, 0x10]), Ok(Audio::Config(Bytes::from_static(&[0x12, 0x10]))));
        assert_eq!(parse(&[0xaf, 1, 7]), Ok(Audio::Frame(Bytes::from_static(&[7]))));
        assert_eq!(parse(b"\x91mp4aabc"), Ok(Audio::Frame(Bytes::from_static(b"abc"))));
        assert_eq!(parse(b"\x90mp4aabc"), Ok(Audio::Config(Bytes::from_static(b"abc"))));
        assert_eq!(parse(&[]), Ok(Audio::Ignored(Ignored::Empty)));
        assert_eq!(parse(&[0xaf]), Err(FlvError::Short { len: 1 }));
        assert_eq!(parse(&[0x2f, 1]), Err(FlvError::AudioCodec("MP3".to_owned())));
        assert_eq!(parse(b"\x90Opusx"), Err(FlvError::AudioCodec("Opus".to_owned())));
        assert_eq!(parse(b"\x95\0mp4a"), Err(FlvError::Multitrack("audio")));
    }

    proptest! {
        #[test]
        fn agrees_with_scuffle_on_aac(rest in proptest::collection::vec(any::<u8>(), 1..40)) {
            let payload: Bytes = [&[0xaf][..], &rest].concat().into();
            let oracle = AudioData::demux(&mut std::io::Cursor::new(payload.clone())).unwrap();
            let AudioTagBody::Legacy(LegacyAudioTagBody::Aac(oracle)) = oracle.body else { panic!() };
            match (Audio::parse(payload).unwrap(), oracle) {
                (Audio::Config(ours), AacAudioData::SequenceHeader(theirs)) => prop_assert_eq!(ours, theirs),
                (Audio::Frame(ours), AacAudioData::Raw(theirs)) => prop_assert_eq!(ours, theirs),
                (Audio::Ignored(_), AacAudioData::Unknown { .. }) => {}
                (ours, theirs) => panic!("{ours:?} against {theirs:?}"),
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
