//! What players tell of themselves: events of Common Media Client Data, version 2 (CTA-5004-B, event mode).
//!
//! In: what a player has posted, one event a line, each a dictionary of structured fields (RFC 9651):
//! `bl=(4200),e=ps,sid="8f2",sta=p,ts=1764000000000,v=2`. Out: `Event`s with what is counted here, or which line is none.
//! `stalls` makes durations of them. Pure. Keys that are not known are passed over, types and states that are not known are
//! `other`: what comes out has as many names as stand here, whatever players send.

pub mod stalls;

use sfv::{BareItem, Dictionary, ListEntry, Parser};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use thiserror::Error;

/// Most events of one batch.
pub const EVENTS_MAX: usize = 128;
/// Longest time that is believed: what is longer is a clock that is wrong, or a lie.
pub const TIME_MAX: Duration = Duration::from_secs(3600);

/// The types of events by their word in the standard. Any other is `OTHER`.
static KINDS: [&str; 19] = [
    "abe", "abs", "ae", "as", "b", "bc", "c", "ce", "e", "h", "m", "pc", "pe", "pr", "ps", "rr", "sk", "t",
    "um",
];
/// A change of state.
pub const STATE_CHANGE: &str = "ps";
/// How a player is, every so often.
pub const INTERVAL: &str = "t";
/// What stands for every word that is not known.
pub const OTHER: &str = "other";

/// What a player does: the states of `sta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the standard's, each with its word below")]
pub enum State {
    Starting,
    Playing,
    Seeking,
    Rebuffering,
    Paused,
    Waiting,
    Ended,
    Failed,
    Quit,
    Preloading,
    Other,
}

impl State {
    fn of(token: &str) -> State {
        match token {
            "s" => State::Starting,
            "p" => State::Playing,
            "k" => State::Seeking,
            "r" => State::Rebuffering,
            "a" => State::Paused,
            "w" => State::Waiting,
            "e" => State::Ended,
            "f" => State::Failed,
            "q" => State::Quit,
            "d" => State::Preloading,
            _ => State::Other,
        }
    }

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Playing => "playing",
            State::Seeking => "seeking",
            State::Rebuffering => "rebuffering",
            State::Paused => "paused",
            State::Waiting => "waiting",
            State::Ended => "ended",
            State::Failed => "failed",
            State::Quit => "quit",
            State::Preloading => "preloading",
            State::Other => OTHER,
        }
    }
}

/// One event, as far as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `e`: one of the standard's words, or `OTHER`.
    pub kind: &'static str,
    /// `sta`.
    pub state: Option<State>,
    /// `ts`: when it was, in Unix milliseconds of the player's clock.
    pub at_ms: Option<u64>,
    /// `sid`, hashed: which of the players that share a session. Alike for all that do not say.
    pub player: u64,
    /// `bl`: how much is buffered; of several tracks the least.
    pub buffer: Option<Duration>,
    /// `ltc`: how far behind the live edge it plays.
    pub latency: Option<Duration>,
    /// `msd`: from the wish to play to the first picture.
    pub startup: Option<Duration>,
}

/// Why a batch is none: nothing of it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Not one line.
    #[error("no event: send one a line")]
    Empty,
    /// More than `EVENTS_MAX` lines.
    #[error("more than {EVENTS_MAX} events: send fewer at once")]
    TooMany,
    /// Not a dictionary of structured fields.
    #[error("line {0} is no dictionary of structured fields (RFC 9651)")]
    Dictionary(usize),
    /// A dictionary that does not say which event.
    #[error("line {0} does not say in `e` which event it is (CTA-5004-B)")]
    Kind(usize),
}

/// Reads a batch: lines that end with LF or CR LF, the last one perhaps without.
///
/// # Errors
/// Which line is no event. An empty one is none.
pub fn events(body: &[u8]) -> Result<Vec<Event>, Malformed> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    if body.trim_ascii().is_empty() {
        return Err(Malformed::Empty);
    }
    if body.iter().filter(|&&byte| byte == b'\n').count() >= EVENTS_MAX {
        return Err(Malformed::TooMany);
    }
    body.split(|&byte| byte == b'\n').enumerate().map(|(at, line)| event(line, at + 1)).collect()
}

fn event(line: &[u8], number: usize) -> Result<Event, Malformed> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let told: Dictionary = Parser::new(line).parse().map_err(|_| Malformed::Dictionary(number))?;
    let token = |key: &str| match told.get(key) {
        Some(ListEntry::Item(item)) => match &item.bare_item {
            BareItem::Token(token) => Some(token.as_str()),
            _ => None,
        },
        _ => None,
    };
    let kind = token("e").ok_or(Malformed::Kind(number))?;
    Ok(Event {
        kind: KINDS.iter().copied().find(|known| *known == kind).unwrap_or(OTHER),
        state: token("sta").map(State::of),
        at_ms: told.get("ts").and_then(least),
        player: player(told.get("sid")),
        buffer: told.get("bl").and_then(milliseconds),
        latency: told.get("ltc").and_then(milliseconds),
        startup: told.get("msd").and_then(milliseconds),
    })
}

/// A number that is not negative, without its fraction; of several, one for each kind of object, the least.
fn least(entry: &ListEntry) -> Option<u64> {
    let number = |item: &BareItem| match item {
        BareItem::Integer(number) => u64::try_from(i64::from(*number)).ok(),
        BareItem::Decimal(number) => {
            Some(f64::from(*number)).filter(|number| *number >= 0.0).map(|number| number as u64)
        }
        _ => None,
    };
    match entry {
        ListEntry::Item(item) => number(&item.bare_item),
        ListEntry::InnerList(list) => list.items.iter().filter_map(|item| number(&item.bare_item)).min(),
    }
}

fn milliseconds(entry: &ListEntry) -> Option<Duration> {
    least(entry).map(Duration::from_millis).filter(|time| *time <= TIME_MAX)
}

fn player(sid: Option<&ListEntry>) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(ListEntry::Item(item)) = sid
        && let BareItem::String(sid) = &item.bare_item
    {
        sid.as_str().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Event {
        let mut all = events(line.as_bytes()).unwrap();
        assert_eq!(all.len(), 1, "{line}");
        all.remove(0)
    }

    #[test]
    fn what_a_player_tells_is_read() {
        let told =
            one("bl=(4200;v 3900;a),com.example-x=?0,e=t,ltc=1310,msd=812.5,nor=(\"a\";r=\"0-9\"),pr=1.08,\
            sid=\"6e2fb550\",sn=3,st=ll,sta=p,ts=1764000000000,v=2\n");
        assert_eq!((told.kind, told.state, told.at_ms), ("t", Some(State::Playing), Some(1_764_000_000_000)));
        assert_eq!(told.buffer, Some(Duration::from_millis(3900)), "the track that runs dry first");
        assert_eq!(told.latency, Some(Duration::from_millis(1310)));
        assert_eq!(told.startup, Some(Duration::from_millis(812)));
        assert_eq!(told.player, one("e=ps,sid=\"6e2fb550\"").player);
        assert_ne!(told.player, one("e=ps,sid=\"6e2fb551\"").player);
    }

    #[test]
    fn what_is_not_known_has_one_name() {
        let told = one("e=new-thing,sta=zz,bl=(),ltc=-1,msd=\"5\",ts=x,sid=5");
        assert_eq!((told.kind, told.state), (OTHER, Some(State::Other)));
        assert_eq!((told.buffer, told.latency, told.startup, told.at_ms), (None, None, None, None));
        assert_eq!(one("e=t,bl=3600000").buffer, Some(TIME_MAX));
        assert_eq!(one("e=t,bl=3600001").buffer, None, "nobody has buffered so much");
        for kind in KINDS {
            assert_eq!(one(&format!("e={kind}")).kind, kind);
        }
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_at_all() {
        assert_eq!(events(b"e=t\ne=e\r\ne=ps").unwrap().len(), 3);
        for (body, why) in [
            (&b""[..], Malformed::Empty),
            (b"\n", Malformed::Empty),
            (b"e=t\n\ne=t\n", Malformed::Kind(2)),
            (b"e=t\n\n", Malformed::Kind(2)),
            (b"e=t\nsta=p\n", Malformed::Kind(2)),
            (b"e=\"t\"", Malformed::Kind(1)),
            (b"e=(t)", Malformed::Kind(1)),
            (b"e=t,\n", Malformed::Dictionary(1)),
            (b"e=t\ne=t ts=1\n", Malformed::Dictionary(2)),
            (b"e=t\0", Malformed::Dictionary(1)),
            (b"e=t,cid=\"caf\xc3\xa9\"", Malformed::Dictionary(1)),
            (b"{\"e\":\"t\"}", Malformed::Dictionary(1)),
        ] {
            assert_eq!(events(body), Err(why), "{:?}", String::from_utf8_lossy(body));
        }
        let lines = |count: usize| "e=t\n".repeat(count);
        assert_eq!(events(lines(EVENTS_MAX).as_bytes()).unwrap().len(), EVENTS_MAX);
        assert_eq!(events(lines(EVENTS_MAX + 1).as_bytes()), Err(Malformed::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_events_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzzing::cmcd(&bytes);
        }

        #[test]
        fn so_are_almost_events(text in "(e=(t|ps|rr)|bl=\\(?[0-9]{0,20}\\)?|sta=[a-z]?|[,;=()\\n\" ]){0,40}") {
            crate::fuzzing::cmcd(text.as_bytes());
        }
    }
}
