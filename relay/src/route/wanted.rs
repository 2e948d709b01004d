//! What can be asked for below a session or at a CDN, and its one spelling.
//!
//! In: a path below. Out: a `Wanted`, and the path of one. Pure and total.

use crate::cdn::PREFIX;
use crate::cdn::names::Name;
use crate::cdn::steering::STEERING;
use ingest_api::Track;
use ingest_api::content_key::KeyId;
use ingest_api::origin::is_init_name;
use ingest_api::playlist::{INDEX, MPEG_TS, media_name};

/// Where players post what they tell of themselves.
const EVENTS: &str = "cmcd";

/// What can be asked for below a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The multivariant playlist.
    Index,
    /// A track's playlist.
    Media(Track),
    /// The playlist of the segments as MPEG-TS.
    MpegTs,
    /// One viewer's playlist of a track, of files at a CDN.
    CdnMedia(Track),
    /// The same of the segments as MPEG-TS.
    CdnMpegTs,
    /// Which of the pathways a viewer is to take.
    Steering,
    /// Where a player tells of itself.
    Events,
    /// One track of one segment.
    Segment(Track, u64),
    /// One segment as MPEG-TS.
    TsSegment(u64),
    /// One part of a segment.
    Part(Track, u64, u32),
    /// An init section of a track, by its name without extension.
    Init(Track, String),
    /// A key by its id: its 16 bytes.
    Key(KeyId),
    /// The same as a licence of the Clear Key system.
    Licence(KeyId),
}

impl Wanted {
    /// The path below the session, the one spelling of it.
    pub fn to_path(&self) -> String {
        match self {
            Wanted::Index => INDEX.to_owned(),
            Wanted::Media(track) => media_name(*track).to_owned(),
            Wanted::MpegTs => MPEG_TS.to_owned(),
            Wanted::CdnMedia(track) => format!("{PREFIX}{}", media_name(*track)),
            Wanted::CdnMpegTs => format!("{PREFIX}{MPEG_TS}"),
            Wanted::Steering => STEERING.to_owned(),
            Wanted::Events => EVENTS.to_owned(),
            Wanted::TsSegment(number) => format!("ts/{number}.ts"),
            Wanted::Segment(track, number) => format!("{}/{number}.m4s", track.as_str()),
            Wanted::Part(track, number, index) => format!("{}/{number}.{index}.m4s", track.as_str()),
            Wanted::Init(track, init) => format!("{}/{init}.mp4", track.as_str()),
            Wanted::Key(kid) => format!("key/{kid}.key"),
            Wanted::Licence(kid) => format!("key/{kid}.json"),
        }
    }

    /// What a path below the session names.
    pub fn of_path(below: &str) -> Option<Wanted> {
        Some(match below {
            INDEX => Wanted::Index,
            MPEG_TS => Wanted::MpegTs,
            STEERING => Wanted::Steering,
            EVENTS => Wanted::Events,
            below => match below.split_once('/') {
                None => match below.strip_prefix(PREFIX) {
                    None => Wanted::Media(track_of(below)?),
                    Some(MPEG_TS) => Wanted::CdnMpegTs,
                    Some(below) => Wanted::CdnMedia(track_of(below)?),
                },
                Some(("ts", file)) => Wanted::TsSegment(decimal(file.strip_suffix(".ts")?)?),
                Some(("key", file)) => match file.split_once('.')? {
                    (kid, "key") => Wanted::Key(key_id(kid)?),
                    (kid, "json") => Wanted::Licence(key_id(kid)?),
                    _ => return None,
                },
                Some((track, file)) => {
                    let track = Track::of_str(track)?;
                    if let Some(name) = file.strip_suffix(".m4s") {
                        match name.split_once('.') {
                            None => Wanted::Segment(track, decimal(name)?),
                            Some((number, index)) => {
                                Wanted::Part(track, decimal(number)?, u32::try_from(decimal(index)?).ok()?)
                            }
                        }
                    } else {
                        let init = file.strip_suffix(".mp4").filter(|init| is_init_name(init))?;
                        Wanted::Init(track, init.to_owned())
                    }
                }
            },
        })
    }

    /// One word for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Wanted::Index | Wanted::Media(_) | Wanted::MpegTs => "playlist",
            Wanted::CdnMedia(_) | Wanted::CdnMpegTs => "playlist",
            Wanted::Steering => "steering",
            Wanted::Events => "cmcd",
            Wanted::Segment(..) | Wanted::TsSegment(_) => "segment",
            Wanted::Part(..) => "part",
            Wanted::Init(..) => "init",
            Wanted::Key(_) | Wanted::Licence(_) => "key",
        }
    }
}

/// The track of a playlist's name.
fn track_of(file: &str) -> Option<Track> {
    Track::ALL.into_iter().find(|track| media_name(*track) == file)
}

/// A file for a CDN: what it is of, and its name, in its one spelling.
pub(super) fn cdn(below: &str) -> Option<(Wanted, Name)> {
    let (stem, kind) = below.rsplit_once('.')?;
    let (stem, text) = stem.rsplit_once('-')?;
    let mut name = Name::default();
    hex::decode_to_slice(text, &mut name).ok()?;
    let wanted = Wanted::of_path(&format!("{stem}.{kind}"))?;
    let named = matches!(wanted, Wanted::Segment(..) | Wanted::TsSegment(_) | Wanted::Init(..));
    (named && !text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some((wanted, name))
}

/// What of a segment, for an edge that chooses variants itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Variant A, or the only one there is.
    A,
    /// Variant B.
    B,
    /// Which bit of a pattern says A or B: WMPaceInfo.
    Pace,
}

impl Of {
    /// Its folder beside the segments (ETSI TS 104 002 V1.1.1 §5.3, §5.7.5.2); variant A has none.
    pub fn folder(self) -> Option<&'static str> {
        match self {
            Of::A => None,
            Of::B => Some("b"),
            Of::Pace => Some("WMPaceInfo"),
        }
    }
}

/// A file for an edge that chooses variants itself: what it is of, and what of that. Parts and keys are not among them.
pub(super) fn edge(below: &str) -> Option<(Wanted, Of)> {
    let inner = below.split_once('/').and_then(|(track, rest)| Some((track, rest.split_once('/')?)));
    let (wanted, of) = match inner {
        None => (Wanted::of_path(below)?, Of::A),
        Some((track, (folder, file))) => {
            let of = [Of::B, Of::Pace].into_iter().find(|of| of.folder() == Some(folder))?;
            (Wanted::of_path(&format!("{track}/{file}"))?, of)
        }
    };
    let served = match wanted {
        Wanted::Segment(..) | Wanted::TsSegment(_) => true,
        Wanted::Index | Wanted::Media(_) | Wanted::MpegTs | Wanted::Init(..) => of == Of::A,
        _ => false,
    };
    served.then_some((wanted, of))
}

/// A key id in its one spelling: small letters.
fn key_id(text: &str) -> Option<KeyId> {
    let kid: KeyId = text.parse().ok()?;
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(kid)
}

/// A number in its one spelling: no sign, no zeros before it.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
