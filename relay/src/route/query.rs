//! What the query of a request says: access tokens, a session, how a playlist is asked for.
//!
//! In: the text behind the `?`. Out: each name at most once, or `Malformed`; names that are not known are passed over. Pure.

use super::wanted::decimal;
use super::{Malformed, carried};
use crate::cdn::steering::Pathway;

const TOKEN: &str = "token";
/// The name of the standard.
const CAT: &str = "CAT";

/// The access tokens of a query: one at most is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens<'a> {
    /// By the name `token`: of any kind.
    pub any: Option<&'a str>,
    /// By the name `CAT`: a Common Access Token.
    pub cat: Option<&'a str>,
}

/// How a playlist is asked for (RFC 8216bis §6.2.5): with nothing set, as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Not before this segment is listed …
    pub msn: Option<u64>,
    /// … or this part of it.
    pub part: Option<u64>,
    /// As a delta update.
    pub skip: bool,
    /// By a player that is on this pathway (§7.1).
    pub here: Option<Pathway>,
}

/// The one session of a query.
pub(super) fn session_of(query: &str) -> Result<Option<&str>, Malformed> {
    let mut sessions =
        query.split('&').filter_map(|pair| pair.strip_prefix(carried::NAME)?.strip_prefix('='));
    match (sessions.next(), sessions.next()) {
        (Some(session), None) if session.contains('%') => Err(Malformed),
        (session, None) => Ok(session),
        (_, Some(_)) => Err(Malformed),
    }
}

/// The tokens of a query, each name once, and how a playlist is asked for.
pub(super) fn asked(query: &str) -> Result<(Tokens<'_>, Reload), Malformed> {
    if query.contains('#') {
        return Err(Malformed);
    }
    let (mut tokens, mut reload) = (Tokens::default(), Reload::default());
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let once = match name {
            TOKEN => tokens.any.replace(value).is_none() && !value.contains('%'),
            CAT => tokens.cat.replace(value).is_none() && !value.contains('%'),
            "_HLS_msn" => reload.msn.replace(decimal(value).ok_or(Malformed)?).is_none(),
            "_HLS_part" => reload.part.replace(decimal(value).ok_or(Malformed)?).is_none(),
            "_HLS_pathway" => reload.here.replace(Pathway::told(value)).is_none(),
            "_HLS_skip" => !std::mem::replace(&mut reload.skip, true),
            _ => true,
        };
        if !once {
            return Err(Malformed);
        }
    }
    // A part is one of a segment.
    if reload.part.is_some() && reload.msn.is_none() { Err(Malformed) } else { Ok((tokens, reload)) }
}
