//! Who may come in: one access token, for this stream, of a viewer who is not revoked.
//!
//! In: the stream and token of a request, the access keys, the revocations, the time. Out: the token's claims, or a
//! `Refusal` that is the same whether or not the stream exists. Pure. Our own token is `ingest_api::access`, those of others
//! are `jwt` and `cat`; what both say is `foreign`.

pub mod bearer;
pub mod cat;
#[cfg(test)]
mod fixtures;
pub mod foreign;
pub mod jwt;
pub mod key_set;
pub mod place;

use crate::revocation::Revocations;
use crate::session::SessionError;
use foreign::ForeignError;
use ingest_api::StreamName;
use ingest_api::access::{self, AccessError, Claims};
use place::Place;
use releve_watermark::KeyRing;
use thiserror::Error;

/// The ways in that are open.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// Keys of our own tokens.
    pub keys: &'a KeyRing,
    /// What tokens of others are measured by, though their keys may not be known yet; without it none are taken.
    pub foreign: Option<&'a foreign::Rules>,
    /// Whether an operator's webhook decides on all other tokens.
    pub webhook: bool,
}

/// What somebody brings who wants to come in.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Where they want to.
    pub stream: &'a StreamName,
    /// A token of any kind.
    pub token: Option<&'a str>,
    /// A token from a place where only Common Access Tokens stand.
    pub cat: Option<&'a str>,
    /// How they come.
    pub place: Place<'a>,
}

/// What a token leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Its claims hold.
    Known(Claims),
    /// Nothing is known of it here: the webhook decides.
    Ask,
}

/// Checks the token that came with a request for a stream.
///
/// A token of ours begins with `r1.`, a JSON web token has three words, a Common Access Token begins with its tags; where there
/// is a webhook, any other text may be one.
///
/// # Errors
/// `Refusal::Expired` only for a token that was signed; everything else is for the log.
pub fn check(
    ways: Ways<'_>,
    revocations: &Revocations,
    visit: Visit<'_>,
    now_unix_s: u64,
) -> Result<Entry, Refusal> {
    let stream = visit.stream;
    let (token, is_cat) = match (visit.token, visit.cat) {
        (Some(token), None) => (token, cat::has_form(token)),
        (None, Some(token)) => (token, true),
        (None, None) => return Err(Refusal::Missing),
        (Some(_), Some(_)) => return Err(Refusal::TwoCredentials),
    };
    let claims = match ways.foreign {
        Some(rules) if is_cat => cat::verify(rules, stream, visit.place, token, now_unix_s)?,
        Some(rules) if jwt::has_form(token) => jwt::verify(rules, stream, token, now_unix_s)?,
        _ if visit.cat.is_some() => return Err(Refusal::Missing),
        _ if ways.webhook && !access::has_form(token) => {
            let fits = !token.is_empty() && token.len() <= access::TOKEN_BYTES_MAX;
            return if fits { Ok(Entry::Ask) } else { Err(Refusal::Missing) };
        }
        _ => access::verify(ways.keys, token, now_unix_s)?,
    };
    if claims.stream != *stream {
        return Err(Refusal::OtherStream);
    }
    if revocations.covers_claims(&claims) {
        return Err(Refusal::Revoked);
    }
    Ok(Entry::Known(claims))
}

/// Why a request gets 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No credential at all.
    #[error("no credential")]
    Missing,
    /// A token that is not ours.
    #[error("{0}")]
    Invalid(AccessError),
    /// A CDN or an edge that does not show its key.
    #[error("no key of cdn.key, or of edge.key")]
    Bearer,
    /// A name that opens nothing.
    #[error("the name opens nothing")]
    Name,
    /// A token of others that does not hold.
    #[error("{0}")]
    Foreign(ForeignError),
    /// A token of others that names a key which is not known, or not yet.
    #[error("the token names no key of the set")]
    UnknownKey,
    /// The webhook says no.
    #[error("the webhook says no")]
    Denied,
    /// The session was ended: another one took its seat, or the webhook said so.
    #[error("the session was ended")]
    Ended,
    /// The viewer has as many sessions as they may.
    #[error("the viewer has no seat free")]
    Full,
    /// A session that is not ours.
    #[error("{0}")]
    Session(SessionError),
    /// A token or session whose time is over.
    #[error("the credential has expired")]
    Expired,
    /// A token or cookie for another stream.
    #[error("the credential is for another stream")]
    OtherStream,
    /// The viewer was revoked.
    #[error("the viewer is revoked")]
    Revoked,
    /// A session in the path and a token in the query, or two tokens: which one counts must not be a question.
    #[error("two credentials in one request")]
    TwoCredentials,
}

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Refusal {
        match error {
            AccessError::Expired => Refusal::Expired,
            other => Refusal::Invalid(other),
        }
    }
}

impl From<ForeignError> for Refusal {
    fn from(error: ForeignError) -> Refusal {
        match error {
            ForeignError::Expired => Refusal::Expired,
            ForeignError::OtherStream => Refusal::OtherStream,
            ForeignError::UnknownKey => Refusal::UnknownKey,
            other => Refusal::Foreign(other),
        }
    }
}

impl Refusal {
    /// One word for metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::Missing => "missing",
            Refusal::Invalid(_) | Refusal::Foreign(_) | Refusal::UnknownKey => "token",
            Refusal::Bearer => "bearer",
            Refusal::Name => "name",
            Refusal::Denied => "webhook",
            Refusal::Full => "full",
            Refusal::Ended => "ended",
            Refusal::Session(SessionError::OtherAddress) => "address",
            Refusal::Session(SessionError::OtherAgent) => "agent",
            Refusal::Session(_) => "session",
            Refusal::Expired => "expired",
            Refusal::OtherStream => "stream",
            Refusal::Revoked => "revoked",
            Refusal::TwoCredentials => "two",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::{Key, KeyRing};

    fn keys() -> KeyRing {
        KeyRing::of(Key::new(1, [1; 32]))
    }

    fn token(stream: &str) -> String {
        let claims = Claims {
            stream: stream.parse().unwrap(),
            viewer: "alice".into(),
            issued_unix_s: 40,
            enter_until_unix_s: 100,
            watch_until_unix_s: None,
        };
        access::mint(&keys(), &claims)
    }

    fn visit<'a>(stream: &'a StreamName, token: Option<&'a str>) -> Visit<'a> {
        let place = Place { path: "/live/demo/index.m3u8", method: "GET", source: None };
        Visit { stream, token, cat: None, place }
    }

    fn checked(
        revocations: &Revocations,
        stream: &StreamName,
        token: Option<&str>,
        now: u64,
    ) -> Result<String, Refusal> {
        let ways = Ways { keys: &keys(), foreign: None, webhook: false };
        match check(ways, revocations, visit(stream, token), now)? {
            Entry::Known(claims) => Ok(claims.viewer),
            Entry::Ask => panic!("there is nobody to ask"),
        }
    }

    #[test]
    fn a_webhook_decides_on_what_is_nobody_elses() {
        let (nobody, keys) = (Revocations::default(), keys());
        let demo = "demo".parse().unwrap();
        let ways = Ways { keys: &keys, foreign: None, webhook: true };
        let look = |visit: Visit<'_>| check(ways, &nobody, visit, 101);
        let check = |token: Option<&str>| look(visit(&demo, token));
        assert_eq!(check(Some("cookie-17")), Ok(Entry::Ask));
        assert_eq!(check(Some("a.b.c")), Ok(Entry::Ask), "no JSON web tokens are taken here");
        assert_eq!(check(Some(&token("demo"))), Err(Refusal::Expired), "ours is ours");
        assert_eq!(check(Some("r1.x")), Err(Refusal::Invalid(AccessError::Malformed)));
        assert_eq!(check(Some("")), Err(Refusal::Missing));
        assert_eq!(check(Some(&"x".repeat(3000))), Err(Refusal::Missing));
        assert_eq!(check(None), Err(Refusal::Missing));
        assert_eq!(check(Some("2D3RhEOhAQU")), Ok(Entry::Ask), "no Common Access Tokens either");
        let by_name = Visit { cat: Some("cookie-17"), ..visit(&demo, None) };
        assert_eq!(look(by_name), Err(Refusal::Missing), "this one says that it is one");
        let both = Visit { cat: Some("2D3RhEOhAQU"), ..visit(&demo, Some("cookie-17")) };
        assert_eq!(look(both), Err(Refusal::TwoCredentials));
    }

    #[test]
    fn a_token_opens_its_own_stream_only() {
        let nobody = Revocations::default();
        let demo = "demo".parse().unwrap();
        let check = |token: Option<&str>, now| checked(&nobody, &demo, token, now);
        assert_eq!(check(Some(&token("demo")), 100), Ok("alice".into()));
        assert_eq!(check(Some(&token("demo")), 101), Err(Refusal::Expired));
        assert_eq!(check(Some(&token("dem")), 100), Err(Refusal::OtherStream));
        assert_eq!(check(Some(&token("demo2")), 100), Err(Refusal::OtherStream));
        assert_eq!(check(None, 100), Err(Refusal::Missing));
        assert_eq!(check(Some(""), 100), Err(Refusal::Invalid(AccessError::Malformed)));
    }

    #[test]
    fn a_revoked_viewer_stays_out_until_a_newer_token() {
        let mut revocations = Revocations::default();
        let demo = "demo".parse().unwrap();
        revocations.revoke("alice", 9);
        assert!(checked(&revocations, &demo, Some(&token("demo")), 100).is_ok());
        revocations.revoke("alice", 50);
        let refused = checked(&revocations, &demo, Some(&token("demo")), 100);
        assert_eq!(refused, Err(Refusal::Revoked));
    }
}
