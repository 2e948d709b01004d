//! What a session tells its shell. Values only; nothing here prints a stream key.

use std::fmt;

use bytes::Bytes;

/// Something the publisher did.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// `connect` came and was answered with success.
    Connect {
        /// Application name, at most [`limits::NAME_LEN_MAX`](crate::limits::NAME_LEN_MAX) bytes, as sent: with its query,
        /// if any.
        app: String,
        /// URL the peer says it connected to; may be empty, may contain a key (`Debug` hides it).
        tc_url: String,
        /// Encoder name; may be empty.
        flash_ver: String,
        /// Enhanced RTMP codecs the peer names; empty for a classic one.
        fourcc_list: Vec<FourCc>,
        /// Enhanced RTMP capability bits of the peer, 0 if it names none.
        caps_ex: u32,
    },
    /// `publish` came. Answer with `accept_publish` or `reject_publish`; until then nothing is read.
    Publish {
        /// Application name of the `connect`.
        app: String,
        /// Publishing name with its query, as sent: the stream key.
        name: StreamKeyText,
        /// What the peer wants done with the stream.
        kind: PublishKind,
    },
    /// One whole audio, video or data message of the accepted publish.
    Media(Message),
    /// The accepted publish ended. A new one needs a new `Publish` event and a new answer.
    Unpublish,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { app, flash_ver, fourcc_list, caps_ex, .. } => f
                .debug_struct("Connect")
                .field("app", &public_part(app))
                .field("tc_url", &"***")
                .field("flash_ver", flash_ver)
                .field("fourcc_list", fourcc_list)
                .field("caps_ex", caps_ex)
                .finish(),
            Self::Publish { app, name, kind } => f
                .debug_struct("Publish")
                .field("app", &public_part(app))
                .field("name", name)
                .field("kind", kind)
                .finish(),
            Self::Media(message) => message.fmt(f),
            Self::Unpublish => f.write_str("Unpublish"),
        }
    }
}

/// `app` up to its query: some encoders put the key behind the question mark.
fn public_part(app: &str) -> &str {
    app.split('?').next().unwrap_or("")
}

/// Text that may be a secret: `Debug` and `Display` print `***`.
///
/// `==` is for tests; compare keys by hash, in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKeyText(String);

impl StreamKeyText {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, at most [`limits::KEY_LEN_MAX`](crate::limits::KEY_LEN_MAX) bytes, `?query` included.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for StreamKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One message of the publisher's media.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub kind: MediaKind,
    /// Milliseconds, absolute, wrapping at 2³²; deltas are applied.
    pub timestamp: u32,
    /// The FLV tag body. For data: AMF0 values, after `@setDataFrame` (so it begins with the
    /// string `onMetaData` or another name). Not parsed: treat it as hostile.
    pub payload: Bytes,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} ms, {} bytes", self.kind, self.timestamp, self.payload.len())
    }
}

/// What a [`Message`] carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MediaKind {
    /// Message type 8.
    Audio = 8,
    /// Message type 9.
    Video = 9,
    /// Message type 18, or 15 with AMF0 inside.
    Data = 18,
}

/// Third argument of `publish`. A missing or unknown one means live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PublishKind {
    /// Do not record.
    Live = 0,
    /// Record to a new file.
    Record = 1,
    /// Record, appending.
    Append = 2,
}

/// Why a publish is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Wrong or unknown key.
    BadName,
    /// The key is right, and a live publisher has the stream.
    InUse,
}

/// A codec name of Enhanced RTMP, such as `avc1` or `hvc1`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    /// The wildcard `*`: every codec.
    pub const ANY: FourCc = FourCc(*b"*   ");

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::ANY);
        }
        let bytes: [u8; 4] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_graphic).then_some(Self(bytes))
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
