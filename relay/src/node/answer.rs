//! What a viewer is answered: a value that any HTTP front can write.
//!
//! In: the outcome of a request. Out: status, headers, body. Pure. The headers that every answer has are here too.

use crate::session::Session;
use crate::token::Refusal;
use bytes::Bytes;
use std::borrow::Cow;

/// Headers of every answer: nothing is sniffed, no address leaks to another site, any page may play, without credentials.
pub const COMMON: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "Age, Date, Content-Length, Content-Range, Retry-After, Releve-Reason"),
];
/// Why a request was refused, in one word for the watch page: `expired` or `denied`.
pub const REASON: &str = "releve-reason";

const NO_STORE: &str = "no-store";

/// Status, headers, body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers besides `COMMON` and the length.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Body,
}

/// A body of known length.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// The same bytes for everybody who may have them.
    Shared(Bytes),
    /// One viewer's copy of an object, sent only while they may have it.
    Copy {
        /// Its slices, in order.
        pieces: Vec<Bytes>,
        /// Whose.
        session: Session,
    },
}

impl Body {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Shared(bytes) => bytes.len(),
            Body::Copy { pieces, .. } => pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Answer {
    /// A bare status; nothing is said, nothing kept.
    pub fn bare(status: u16) -> Answer {
        Answer { status, headers: vec![("cache-control", NO_STORE.into())], body: Body::Empty }
    }

    /// A body of one type.
    pub fn content(content_type: &'static str, cache: &'static str, body: Body) -> Answer {
        let headers = vec![("content-type", content_type.into()), ("cache-control", cache.into())];
        Answer { status: 200, headers, body }
    }

    /// 403, the same for streams that exist and streams that do not.
    pub fn refused(refusal: Refusal) -> Answer {
        let reason = if refusal == Refusal::Expired { "expired" } else { "denied" };
        Answer::bare(403).with(REASON, reason)
    }

    /// 404: it is not there now, ask again in `seconds`.
    pub fn not_now(seconds: u64) -> Answer {
        Answer::bare(404).with("retry-after", seconds.to_string())
    }

    /// 302 to a path of this relay.
    pub fn moved(path: String) -> Answer {
        Answer::bare(302).with("location", path)
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}
