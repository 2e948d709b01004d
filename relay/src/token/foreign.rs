//! What tokens of others say, whatever they are written in, and what it is measured by.
//!
//! In: claims that `jwt` or `cat` has read from a token whose signature holds, the expectations, the time. Out: a viewer's
//! claims for one stream, or a `ForeignError`. Pure.
//!
//! A token with watermark claims (ETSI TS 104 002 §5.4) is taken in **indirect mode**: `wmver` 1, `wmid`, `wmvnd`,
//! `wmpatlen`, `wmopid`, `wmkeyver` and `iat` must all be there. `wmid` is the viewer: codewords are drawn by it, and
//! revocation and register know them by it; a `sub` beside it must say the same. The other five are checked for their form
//! only: which keys a codeword is drawn by stands in the record of each GOP, a codeword has no end, and there are no vendors
//! to choose from. **Direct mode** (`wmpattern`) is refused: such a token is for an edge that
//! chooses whole segments, and names no viewer.

use super::key_set::KeySet;
use super::place::Site;
use ingest_api::StreamName;
use ingest_api::access::{Claims, is_viewer_name};
use std::sync::Arc;
use thiserror::Error;

/// How far the clock of whoever made a token may be ahead of ours, in seconds.
pub(super) const AHEAD_S: u64 = 30;
/// Dates above this are no dates: integers above it are not exact in JSON (RFC 7493 §2.2).
pub(super) const DATE_MAX: u64 = (1 << 53) - 1;

/// What tokens are measured by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The keys in force.
    pub keys: Arc<KeySet>,
    /// What `iss` must be, if anything.
    pub issuer: Option<String>,
    /// What `aud` must hold, if anything.
    pub audience: Option<String>,
    /// Where viewers find this relay.
    pub site: Site,
}

/// What a token says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) sub: Option<String>,
    pub(super) exp: Option<u64>,
    pub(super) nbf: Option<u64>,
    pub(super) iat: Option<u64>,
    pub(super) watch_until: Option<u64>,
    pub(super) iss: Option<String>,
    pub(super) aud: Option<Vec<String>>,
    pub(super) watermark: Watermark,
}

/// The watermark claims, as far as they matter here.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    pub(super) version: Option<u64>,
    pub(super) id: Option<String>,
    /// `wmpattern` is there.
    pub(super) pattern: bool,
    /// `wmvnd`, `wmpatlen`, `wmopid` and `wmkeyver` are there, in their form.
    pub(super) others: [bool; 4],
}

impl Said {
    /// Who watches.
    fn viewer(&self) -> Result<&str, ForeignError> {
        let mark = &self.watermark;
        if mark.pattern {
            return Err(ForeignError::Pattern);
        }
        let viewer = match &mark.id {
            None if mark.version.is_some() || mark.others.contains(&true) => {
                return Err(ForeignError::Watermark);
            }
            None => self.sub.as_deref().ok_or(ForeignError::Malformed)?,
            Some(_) if mark.version != Some(1) || mark.others.contains(&false) || self.iat.is_none() => {
                return Err(ForeignError::Watermark);
            }
            Some(id) if self.sub.as_ref().is_some_and(|sub| sub != id) => {
                return Err(ForeignError::Watermark);
            }
            Some(id) => id,
        };
        if is_viewer_name(viewer) { Ok(viewer) } else { Err(ForeignError::Malformed) }
    }

    /// The claims for a stream, if all but the stream holds; that it is one of the token's is for the caller.
    pub(super) fn claims(
        &self,
        rules: &Rules,
        stream: &StreamName,
        now_unix_s: u64,
    ) -> Result<Claims, ForeignError> {
        let viewer = self.viewer()?.to_owned();
        let exp = self.exp.ok_or(ForeignError::Malformed)?;
        let ahead = |date: Option<u64>| date.is_some_and(|date| date > now_unix_s.saturating_add(AHEAD_S));
        if ahead(self.nbf) || ahead(self.iat) {
            return Err(ForeignError::NotYet);
        }
        if exp < now_unix_s || self.watch_until.is_some_and(|until| until < now_unix_s) {
            return Err(ForeignError::Expired);
        }
        if rules.issuer.is_some() && rules.issuer != self.iss {
            return Err(ForeignError::Issuer);
        }
        let meant = match (&rules.audience, &self.aud) {
            (None, None) => true,
            (Some(ours), Some(some)) => some.contains(ours),
            _ => false,
        };
        if !meant {
            return Err(ForeignError::Audience);
        }
        Ok(Claims {
            stream: stream.clone(),
            viewer,
            issued_unix_s: self.iat.unwrap_or(0),
            enter_until_unix_s: exp,
            watch_until_unix_s: self.watch_until,
        })
    }
}

/// Whether one of these names is the stream's, or says "all".
pub(super) fn names<'a>(mut names: impl Iterator<Item = &'a String>, stream: &StreamName) -> bool {
    names.any(|name| name == "*" || name == stream.as_str())
}

/// Whole seconds of a NumericDate that is no integer (RFC 7519 §2), if it is a date.
pub(super) fn date(number: f64) -> Option<u64> {
    (0.0..=DATE_MAX as f64).contains(&number).then_some(number as u64)
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ForeignError {
    /// Not of the form that is expected, or too long.
    #[error("the token is malformed")]
    Malformed,
    /// It demands what is not understood here.
    #[error("the token demands what is not understood here")]
    Critical,
    /// No key of that id: it may be new.
    #[error("the token names no key of the set")]
    UnknownKey,
    /// Its header names another algorithm than its key has.
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    /// Signed with another key, or changed since.
    #[error("the token's signature does not hold")]
    BadSignature,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Another `iss`.
    #[error("the token is of another issuer")]
    Issuer,
    /// Another `aud`.
    #[error("the token is for another audience")]
    Audience,
    /// It carries a watermark pattern (direct mode).
    #[error("the token carries a watermark pattern of its own")]
    Pattern,
    /// Its watermark claims are incomplete, of another version, or at odds with `sub`.
    #[error("the token's watermark claims are not complete, or not the viewer's")]
    Watermark,
    /// None of its streams is the one that was asked for, or none of its addresses.
    #[error("the token is for another stream")]
    OtherStream,
    /// It may not be used from where it came.
    #[error("the token is for other networks")]
    OtherNetwork,
    /// It may not be used by this method.
    #[error("the token is for other methods")]
    OtherMethod,
}
