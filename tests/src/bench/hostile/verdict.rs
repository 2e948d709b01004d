//! What an answer to an attack is worth: status, fields and each byte of the body.
//!
//! In: an attack, its answer, the bodies that everybody may have. Out: a fault, or none. Pure. A status alone says little: what
//! counts is that whoever has no right gets no byte but those of the page that says so, and no session.

use super::attack::{Attack, Expects, Own};
use super::wire::Answer;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Bytes, or a session, for somebody without a right: so many bytes.
    Unauthorised(usize),
    /// An answer of 5xx.
    ServerError,
    /// Another answer than the attack is to get.
    Wrong,
    /// No answer in time.
    Hung,
}

/// What is wrong with an answer: the worst of it.
pub(super) fn judge(attack: &Attack, answer: &Answer, public: &[Vec<u8>]) -> Option<(Fault, String)> {
    let is_public = |body: &[u8]| body.is_empty() || public.iter().any(|known| known == body);
    let (statuses, own) = match &attack.expects {
        Expects::Refusal(statuses) => (statuses, None),
        Expects::Harmless(statuses, own) => (statuses, Some(own)),
    };
    let wrong = |words: String| Some((Fault::Wrong, words));
    match own {
        None | Some(Own::Public | Own::Nothing) if !is_public(&answer.body) => {
            let begin = &answer.body[..answer.body.len().min(64)];
            let words =
                format!("{} bytes that are not everybody's: {}", answer.body.len(), begin.escape_ascii());
            return Some((Fault::Unauthorised(answer.body.len()), words));
        }
        None if answer.field("location").is_some() || answer.field("set-cookie").is_some() => {
            let given = answer.field("location").or(answer.field("set-cookie")).unwrap_or_default();
            return Some((Fault::Unauthorised(given.len()), format!("a session: {given}")));
        }
        _ => {}
    }
    if answer.status >= 500 && !statuses.contains(&answer.status) {
        return Some((Fault::ServerError, format!("status {}", answer.status)));
    }
    if !statuses.contains(&answer.status) {
        return wrong(format!("status {}", answer.status));
    }
    if let Some(own) = own
        && let Err((fault, words)) = may_have(own, answer)
    {
        return Some((fault, words));
    }
    fields(answer).err().and_then(wrong)
}

/// Whether the answer is no more than the asker may have.
fn may_have(own: &Own, answer: &Answer) -> Result<(), (Fault, String)> {
    match own {
        Own::Nothing | Own::Public => Ok(()), // looked at before
        Own::Session(token) => {
            let location = answer.field("location").unwrap_or_default();
            let is_session = location.starts_with("/v/") && !location.contains(token.as_str());
            if is_session { Ok(()) } else { Err((Fault::Wrong, format!("led to {location:?}"))) }
        }
        Own::Bytes(bytes) => {
            let range = match answer.status {
                206 => range(answer.field("content-range").unwrap_or_default(), bytes.len()),
                _ => Some(0..bytes.len()),
            };
            let Some(range) = range else { return Err((Fault::Wrong, "a strange range".to_owned())) };
            let same = bytes.get(range) == Some(&answer.body[..]);
            let words = || format!("{} bytes, and not those that are the asker's", answer.body.len());
            if same { Ok(()) } else { Err((Fault::Unauthorised(answer.body.len()), words())) }
        }
    }
}

/// The range that an answer says it is, of so many bytes.
pub(super) fn range(field: &str, whole: usize) -> Option<std::ops::Range<usize>> {
    let (range, len) = field.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (len.parse() == Ok(whole) && first <= last && last < whole).then_some(first..last + 1)
}

/// What every answer has: nothing is sniffed, no address leaks, any page may read it but with nobody's cookies; and nobody keeps
/// a refusal.
fn fields(answer: &Answer) -> Result<(), String> {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("access-control-allow-origin", "*"),
    ] {
        if answer.field(name) != Some(value) {
            return Err(format!("{name} is {:?}", answer.field(name)));
        }
    }
    if let Some(value) = answer.field("access-control-allow-credentials") {
        return Err(format!("access-control-allow-credentials is {value:?}"));
    }
    let cache = answer.field("cache-control").unwrap_or_default();
    if answer.status >= 400 && !cache.contains("no-store") {
        return Err(format!("a refusal that may be kept: cache-control is {cache:?}"));
    }
    if answer.more > 0 {
        return Err(format!("{} bytes after the answer of a connection that was to end", answer.more));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::hostile::wire::Request;

    fn attack(expects: Expects) -> Attack {
        Attack { name: "a trick", on: "a segment", request: Request::get("/"), expects }
    }

    fn answer(status: u16, body: &[u8]) -> Answer {
        let fields = [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("access-control-allow-origin", "*"),
            ("cache-control", "no-store"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Answer { status, fields, body: body.to_vec(), more: 0 }
    }

    fn with(mut answer: Answer, name: &str, value: &str) -> Answer {
        answer.fields.retain(|(other, _)| other != name);
        answer.fields.push((name.to_owned(), value.to_owned()));
        answer
    }

    #[test]
    fn no_byte_is_missed_whatever_the_status() {
        let refusal = attack(Expects::Refusal(&[403]));
        let public = [b"<html>no".to_vec()];
        let judged = |answer: Answer| judge(&refusal, &answer, &public).map(|(fault, _)| fault);
        assert_eq!(judged(answer(403, b"")), None);
        assert_eq!(judged(answer(403, b"<html>no")), None);
        for status in [200, 206, 403, 500] {
            assert_eq!(judged(answer(status, b"styp")), Some(Fault::Unauthorised(4)), "{status}");
        }
        assert_eq!(judged(answer(200, b"")), Some(Fault::Wrong));
        assert_eq!(judged(answer(404, b"")), Some(Fault::Wrong));
        assert_eq!(judged(answer(503, b"")), Some(Fault::ServerError));
        for name in ["location", "set-cookie"] {
            let given = with(answer(302, b""), name, "/v/abc/");
            assert_eq!(judged(given), Some(Fault::Unauthorised(7)), "{name}");
        }
    }

    #[test]
    fn fields_of_a_refusal_are_looked_at() {
        let refusal = attack(Expects::Refusal(&[403]));
        let wrong = |answer: Answer| {
            let fault = judge(&refusal, &answer, &[]).map(|(fault, _)| fault);
            assert_eq!(fault, Some(Fault::Wrong), "{answer:?}");
        };
        wrong(with(answer(403, b""), "access-control-allow-origin", "https://evil.example"));
        wrong(with(answer(403, b""), "access-control-allow-credentials", "true"));
        wrong(with(answer(403, b""), "cache-control", "public, max-age=3600"));
        wrong(with(answer(403, b""), "referrer-policy", "unsafe-url"));
        wrong(Answer { more: 9, ..answer(403, b"") });
    }

    #[test]
    fn ones_own_is_ones_own_to_the_byte() {
        let own = attack(Expects::Harmless(&[200, 206], Own::Bytes(b"0123456789".as_slice().into())));
        let judged = |answer: Answer| judge(&own, &answer, &[]).map(|(fault, _)| fault);
        assert_eq!(judged(answer(200, b"0123456789")), None);
        assert_eq!(judged(answer(200, b"012345678x")), Some(Fault::Unauthorised(10)));
        let part = |range: &str, body: &[u8]| judged(with(answer(206, body), "content-range", range));
        assert_eq!(part("bytes 2-4/10", b"234"), None);
        assert_eq!(part("bytes 2-4/10", b"235"), Some(Fault::Unauthorised(3)));
        assert_eq!(part("bytes 2-4/11", b"234"), Some(Fault::Wrong));
        let session = attack(Expects::Harmless(&[302], Own::Session("tok".to_owned())));
        let led = |to: &str| judge(&session, &with(answer(302, b""), "location", to), &[]);
        assert!(led("/v/abc/index.m3u8").is_none() && led("/v/abc/?token=tok").is_some());
    }
}
