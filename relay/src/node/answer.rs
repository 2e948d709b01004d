//! What a viewer is answered: values that a front writes.
//!
//! In: the outcome of a request. Out: status, headers, body. Pure. The headers that every answer has are here too.

use super::Keys;
use crate::http1::{Outcome, Rendered};
use crate::session::Session;
use crate::token::Refusal;
use crate::upstream::Held;
use bytes::Bytes;
use releve_watermark::{Position, Symbol};
use std::borrow::Cow;
use std::sync::Arc;

/// Headers of every answer: nothing is sniffed, no address leaks to another site, any page may play, without credentials.
pub const COMMON: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "Age, Date, Content-Length, Content-Range, Retry-After, Releve-Reason"),
];
/// Why a request was refused, in one word for the watch page: `expired`, `full`, `ended` or `denied`.
pub const REASON: &str = "releve-reason";

pub(super) const NO_STORE: &str = "no-store";

/// Status, headers, body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers besides `COMMON` and the length.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body, the same bytes for everybody who may have them.
    pub body: Bytes,
    /// Whether only who has a session gets it, or who is being given one.
    pub of_session: bool,
}

/// What a request is answered with, ready to be sent.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Rendered for this one answer.
    Once(Answer),
    /// Rendered once for all viewers.
    Playlist(Rendered, Outcome),
    /// One viewer's copy of an object, sent only while they may have it.
    Copy(ViewersCopy),
    /// One whole variant of an object, for a CDN.
    Cdn(CdnCopy),
}

/// One whole variant of an object.
#[derive(Clone, Debug)]
pub struct CdnCopy {
    /// The object.
    pub held: Arc<Held>,
    /// Status and fields.
    pub head: Rendered,
    /// What of it.
    pub outcome: Outcome,
    /// Which slices.
    pub(super) symbol: Symbol,
}

impl CdnCopy {
    /// Its bytes, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        self.held.object.copy(|_| self.symbol)
    }
}

/// One viewer's copy of an object.
#[derive(Clone, Debug)]
pub struct ViewersCopy {
    /// The object.
    pub held: Arc<Held>,
    /// Whose copy.
    pub session: Session,
    /// What of it.
    pub outcome: Outcome,
    /// The keys that say which slices; they hold the codebook that the object names.
    pub(super) keys: Arc<Keys>,
}

impl ViewersCopy {
    /// The slices of this copy, in order. Nothing is allocated.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let codebook = self.keys.codebook(self.held.object.code_key);
        let id = self.session.watermark_id;
        // Symbols are drawn by the block: slices of one GOP come one after the other and share their draws.
        let mut drawing = None;
        self.held.object.copy(move |position| {
            let Some(codebook) = codebook else { return Symbol::A }; // an object without pairs asks for none
            let Position { gop, slice } = position;
            if !matches!(&drawing, Some((drawn, next, _)) if *drawn == gop && *next <= slice) {
                drawing = None;
            }
            let (_, next, symbols) =
                drawing.get_or_insert_with(|| (gop, 0, codebook.symbols(id, gop, u16::MAX)));
            let ahead = slice - *next;
            *next = slice.saturating_add(1);
            symbols.nth(usize::from(ahead)).unwrap_or_else(|| codebook.symbol(id, position))
        })
    }
}

impl Reply {
    /// Its status.
    pub fn status(&self) -> u16 {
        match self {
            Reply::Once(answer) => answer.status,
            Reply::Playlist(_, outcome)
            | Reply::Copy(ViewersCopy { outcome, .. })
            | Reply::Cdn(CdnCopy { outcome, .. }) => outcome.status(),
        }
    }

    /// Whether only who has a session gets it, or who is being given one: a stranger never sees such an answer.
    pub fn is_of_session(&self) -> bool {
        !matches!(self, Reply::Once(Answer { of_session: false, .. }))
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Once(answer)
    }
}

impl Answer {
    /// A bare status; nothing is said, nothing kept.
    pub fn bare(status: u16) -> Answer {
        let headers = vec![("cache-control", NO_STORE.into())];
        Answer { status, headers, body: Bytes::new(), of_session: false }
    }

    /// A body of one type.
    pub fn content(content_type: &'static str, cache: &'static str, body: Bytes) -> Answer {
        let headers = vec![("content-type", content_type.into()), ("cache-control", cache.into())];
        Answer { status: 200, headers, body, of_session: false }
    }

    /// 403, the same for streams that exist and streams that do not.
    pub fn refused(refusal: Refusal) -> Answer {
        let reason = match refusal {
            Refusal::Expired => "expired",
            Refusal::Full => "full",
            Refusal::Ended => "ended",
            _ => "denied",
        };
        Answer::bare(403).with(REASON, reason)
    }

    /// 404: it is not there now, ask again in `seconds`.
    pub fn not_now(seconds: u64) -> Answer {
        Answer::bare(404).with("retry-after", seconds.to_string())
    }

    /// 302 to the session that the path carries.
    pub fn moved(path: String) -> Answer {
        Answer { of_session: true, ..Answer::bare(302).with("location", path) }
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}
