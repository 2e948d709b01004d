//! The tracks of a stream: the picture, up to four further encodings of it, and up to eight of audio.
//!
//! In: a word of a path, an id of a publish. Out: a `Track`, and the other way round. Pure.

use serde::{Deserialize, Serialize};

/// The most audio tracks of a stream: OBS mixes six. Each is a playlist, and an object a segment and part.
pub const AUDIO_TRACKS_MAX: usize = 8;
/// The most further encodings of the picture: with the first a ladder of 1080, 720, 480, 360 and 160 lines. Each is a playlist,
/// an object a segment and part, and bytes of the window.
pub const ENCODINGS_MAX: usize = 4;
/// The most tracks of a stream: the picture, audio, and further encodings of the picture.
pub const TRACKS_MAX: usize = 1 + AUDIO_TRACKS_MAX + ENCODINGS_MAX;

/// An audio track of a stream, by its id in the publish (Enhanced RTMP v2, "Multitrack"): 0 is the first, and the one that
/// comes without an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct AudioTrack(u8);

impl AudioTrack {
    /// The one that players begin with.
    pub const FIRST: AudioTrack = AudioTrack(0);
    /// All of them, in order.
    pub const ALL: [AudioTrack; AUDIO_TRACKS_MAX] = {
        let mut all = [AudioTrack::FIRST; AUDIO_TRACKS_MAX];
        let mut id = 0;
        while id < AUDIO_TRACKS_MAX {
            all[id] = AudioTrack(id as u8);
            id += 1;
        }
        all
    };

    /// The track of this id; `None` beyond `AUDIO_TRACKS_MAX`.
    pub fn new(id: u8) -> Option<AudioTrack> {
        (usize::from(id) < AUDIO_TRACKS_MAX).then_some(AudioTrack(id))
    }

    /// Its id, below `AUDIO_TRACKS_MAX`.
    pub fn id(self) -> usize {
        usize::from(self.0)
    }

    /// Whether it is the one that players begin with.
    pub fn is_first(self) -> bool {
        self == AudioTrack::FIRST
    }
}

impl TryFrom<u8> for AudioTrack {
    type Error = &'static str;
    fn try_from(id: u8) -> Result<AudioTrack, &'static str> {
        AudioTrack::new(id).ok_or("an audio track that there is not")
    }
}

impl From<AudioTrack> for u8 {
    fn from(track: AudioTrack) -> u8 {
        track.0
    }
}

/// A further encoding of the picture, by its id in the publish (Enhanced RTMP v2, "Multitrack"): 0 is the picture itself, 1 to
/// `ENCODINGS_MAX` are these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Encoding(u8);

impl Encoding {
    /// All of them, in order.
    pub const ALL: [Encoding; ENCODINGS_MAX] = {
        let mut all = [Encoding(1); ENCODINGS_MAX];
        let mut at = 0;
        while at < ENCODINGS_MAX {
            all[at] = Encoding(1 + at as u8);
            at += 1;
        }
        all
    };

    /// The one of this id; `None` for 0, and beyond `ENCODINGS_MAX`.
    pub fn new(id: u8) -> Option<Encoding> {
        (1..=ENCODINGS_MAX).contains(&usize::from(id)).then_some(Encoding(id))
    }

    /// Its id, from 1 on.
    pub fn id(self) -> usize {
        usize::from(self.0)
    }

    /// Its place in `ALL`.
    pub fn index(self) -> usize {
        self.id() - 1
    }
}

impl TryFrom<u8> for Encoding {
    type Error = &'static str;
    fn try_from(id: u8) -> Result<Encoding, &'static str> {
        Encoding::new(id).ok_or("a further encoding that there is not")
    }
}

impl From<Encoding> for u8 {
    fn from(encoding: Encoding) -> u8 {
        encoding.0
    }
}

/// A track of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Track {
    /// The picture: what everything else is cut by.
    Video,
    /// Sound: one of several, each a rendition of its own.
    Audio(AudioTrack),
    /// The same picture encoded in another way, as a variant that players may switch to.
    Encoding(Encoding),
}

impl Track {
    /// The first audio track.
    pub const AUDIO: Track = Track::Audio(AudioTrack::FIRST);
    /// All that there may be, in order.
    pub const ALL: [Track; TRACKS_MAX] = {
        let mut all = [Track::Video; TRACKS_MAX];
        let mut id = 0;
        while id < AUDIO_TRACKS_MAX {
            all[id + 1] = Track::Audio(AudioTrack::ALL[id]);
            id += 1;
        }
        let mut at = 0;
        while at < ENCODINGS_MAX {
            all[1 + AUDIO_TRACKS_MAX + at] = Track::Encoding(Encoding::ALL[at]);
            at += 1;
        }
        all
    };

    /// The track of a video id in a publish: 0 is the picture.
    pub fn of_video(id: u8) -> Option<Track> {
        if id == 0 { Some(Track::Video) } else { Encoding::new(id).map(Track::Encoding) }
    }

    /// The word in paths: `video`, `audio`, `audio2` to `audio8`, and `video2` to `video5`.
    pub fn as_str(self) -> &'static str {
        const AUDIO: [&str; AUDIO_TRACKS_MAX] =
            ["audio", "audio2", "audio3", "audio4", "audio5", "audio6", "audio7", "audio8"];
        const ENCODINGS: [&str; ENCODINGS_MAX] = ["video2", "video3", "video4", "video5"];
        match self {
            Track::Video => "video",
            Track::Audio(track) => AUDIO[track.id()],
            Track::Encoding(encoding) => ENCODINGS[encoding.index()],
        }
    }

    /// The track of a word in paths.
    pub fn of_str(word: &str) -> Option<Track> {
        Track::ALL.into_iter().find(|track| track.as_str() == word)
    }

    /// Its place in `ALL`.
    pub fn index(self) -> usize {
        match self {
            Track::Video => 0,
            Track::Audio(track) => 1 + track.id(),
            Track::Encoding(encoding) => 1 + AUDIO_TRACKS_MAX + encoding.index(),
        }
    }

    /// Whether it is sound.
    pub fn is_audio(self) -> bool {
        matches!(self, Track::Audio(_))
    }
}

impl TryFrom<String> for Track {
    type Error = &'static str;
    fn try_from(word: String) -> Result<Track, &'static str> {
        Track::of_str(&word).ok_or("a track that there is not")
    }
}

impl From<Track> for String {
    fn from(track: Track) -> String {
        track.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_one_word_everywhere() {
        for (index, track) in Track::ALL.into_iter().enumerate() {
            assert_eq!((track.index(), Track::of_str(track.as_str())), (index, Some(track)));
            let json = serde_json::to_string(&track).unwrap();
            assert_eq!(json, format!("\"{}\"", track.as_str()), "as it always was for the first two");
            assert_eq!(serde_json::from_str::<Track>(&json).unwrap(), track);
        }
        let words = ["video", "audio", "audio2", "audio3", "audio4", "audio5", "audio6", "audio7", "audio8"];
        let further = ["video2", "video3", "video4", "video5"];
        assert_eq!(Track::ALL.map(Track::as_str)[..], [&words[..], &further].concat());
        assert!(Track::ALL.is_sorted());
        for word in ["", "audio0", "audio1", "audio9", "audio02", "Audio", "video0", "video1", "video6", "ts"]
        {
            assert_eq!(Track::of_str(word), None, "{word}");
        }
        assert_eq!(AudioTrack::new(8), None);
        assert!(serde_json::from_str::<AudioTrack>("8").is_err());
        assert_eq!([0, 5].map(Encoding::new), [None; 2]);
        assert!(serde_json::from_str::<Encoding>("0").is_err());
        let ids = [0, 1, 4, 5].map(|id| Track::of_video(id).map(Track::as_str));
        assert_eq!(ids, [Some("video"), Some("video2"), Some("video5"), None]);
    }
}
