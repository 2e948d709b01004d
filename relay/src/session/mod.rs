//! The session credential: what a viewer's path carries below `/v/`, and all that a relay knows of them.
//!
//! ```text
//! 2 u8  key version u32  session id 16  watermark id u64  issued u64  watch until u64  flags u8
//! address tag 8, if bound to it   agent tag 8, if bound to that   stream name 1…64   MAC 32
//! ```
//!
//! as base64url without padding (RFC 4648 §5); integers big-endian, times in Unix seconds, the MAC HMAC-SHA-256
//! (RFC 2104) over a label and everything before it. The flags say which tags there are, and the stream name is the only
//! field without a fixed length, so no two sessions share an encoding. Any relay with the key can check it: a viewer may come to another one at any request.
//!
//! In: a session and keys, or text and the time; and who presents it, for what it is bound to (`binding`). Out: the other
//! one. Pure: the caller brings time and randomness.

mod binding;

pub use binding::{Binding, BoundTo, Presenter};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use binding::TAG_BYTES;
use ingest_api::{StreamName, name::STREAM_NAME_MAX};
use releve_watermark::{KeyRing, WatermarkId};
use ring::hmac;
use thiserror::Error;

/// How long a viewer may watch when their token does not say, in seconds.
pub const WATCH_S: u64 = 12 * 3600;
/// The longest credential, in characters.
pub const CREDENTIAL_CHARS_MAX: usize = BYTES_MAX.div_ceil(3) * 4;

const LABEL: &[u8] = b"releve session 1\0";
const FORMAT: u8 = 2;
const HEAD_BYTES: usize = 1 + 4 + 16 + 8 + 8 + 8 + 1;
/// The webhook let the viewer in, and is asked again.
const ASKED: u8 = 1;
/// It takes one of its viewer's seats.
const COUNTED: u8 = 2;
/// It is bound to an address.
const BOUND_ADDRESS: u8 = 4;
/// It is bound to a player.
const BOUND_AGENT: u8 = 8;
const MAC_BYTES: usize = 32;
const BYTES_MAX: usize = HEAD_BYTES + 2 * TAG_BYTES + STREAM_NAME_MAX + MAC_BYTES;

/// One admitted viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Drawn at random; the ledger's key.
    pub id: [u8; 16],
    /// What the viewer's codeword is drawn by, and what a revocation finds them by.
    pub watermark_id: WatermarkId,
    /// The one stream it opens.
    pub stream: StreamName,
    /// When it was admitted, Unix seconds.
    pub issued_unix_s: u64,
    /// Last second to watch, Unix seconds.
    pub watch_until_unix_s: u64,
    /// Whether the webhook let the viewer in: it is asked again while they watch.
    pub asked: bool,
    /// Whether it takes one of its viewer's seats.
    pub counted: bool,
    /// What it is bound to.
    pub bound: Binding,
}

/// What says of a session whether it still holds: as much as a connection keeps of it while a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The session.
    pub id: [u8; 16],
    /// Its viewer.
    pub watermark_id: WatermarkId,
    /// When it was admitted, Unix seconds.
    pub issued_unix_s: u64,
    /// Last second to watch, Unix seconds.
    pub watch_until_unix_s: u64,
}

impl Session {
    /// What says whether it still holds.
    pub fn standing(&self) -> Standing {
        let Session { id, watermark_id, issued_unix_s, watch_until_unix_s, .. } = *self;
        Standing { id, watermark_id, issued_unix_s, watch_until_unix_s }
    }
}

/// Writes a session as a credential, with the current key. `to`: who it is bound to, as far as it is.
pub fn seal(keys: &KeyRing, session: &Session, to: Presenter<'_>) -> String {
    let version = keys.current().version;
    let key = keys.current().mac();
    let mut bytes = Vec::with_capacity(BYTES_MAX);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&session.id);
    bytes.extend_from_slice(&session.watermark_id.0.to_be_bytes());
    bytes.extend_from_slice(&session.issued_unix_s.to_be_bytes());
    bytes.extend_from_slice(&session.watch_until_unix_s.to_be_bytes());
    let flags = [
        (session.asked, ASKED),
        (session.counted, COUNTED),
        (session.bound.address, BOUND_ADDRESS),
        (session.bound.agent, BOUND_AGENT),
    ];
    bytes.push(flags.iter().map(|(set, flag)| u8::from(*set) * flag).sum());
    if session.bound.address {
        bytes.extend_from_slice(&to.address_tag(key, &session.id));
    }
    if session.bound.agent {
        bytes.extend_from_slice(&to.agent_tag(key, &session.id));
    }
    bytes.extend_from_slice(session.stream.as_str().as_bytes());
    let mut mac = hmac::Context::with_key(key);
    mac.update(LABEL);
    mac.update(&bytes);
    bytes.extend_from_slice(mac.sign().as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Checks a credential that somebody presents, and gives its session. The MAC is compared in constant time, before any field
/// is believed.
///
/// # Errors
/// Every reason is one of `SessionError`; a stranger is told nothing but "no".
pub fn open(
    keys: &KeyRing,
    credential: &str,
    by: Presenter<'_>,
    now_unix_s: u64,
) -> Result<Session, SessionError> {
    if credential.len() > CREDENTIAL_CHARS_MAX {
        return Err(SessionError::Malformed);
    }
    // The label first, then the bytes: what is signed lies in one piece, and nothing is allocated for a request.
    let mut buffer = [0; LABEL.len() + BYTES_MAX + 2]; // the decoder may want room for a last group of three
    buffer[..LABEL.len()].copy_from_slice(LABEL);
    let len = URL_SAFE_NO_PAD
        .decode_slice(credential, &mut buffer[LABEL.len()..])
        .map_err(|_| SessionError::Malformed)?;
    let bytes = &buffer[..LABEL.len() + len];
    let signed_len = bytes.len().checked_sub(MAC_BYTES).filter(|len| *len >= LABEL.len());
    let (signed, mac) = bytes.split_at(signed_len.ok_or(SessionError::Malformed)?);
    let (head, rest) =
        signed[LABEL.len()..].split_first_chunk::<HEAD_BYTES>().ok_or(SessionError::Malformed)?;
    let flags = head[45];
    if head[0] != FORMAT || flags & !(ASKED | COUNTED | BOUND_ADDRESS | BOUND_AGENT) != 0 {
        return Err(SessionError::Malformed);
    }
    let version = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let key = keys.version(version).ok_or(SessionError::UnknownKey)?;
    let key = key.mac();
    hmac::verify(key, signed, mac).map_err(|_| SessionError::BadMac)?;
    let mut id = [0; 16];
    id.copy_from_slice(&head[5..21]);
    let bound = Binding { address: flags & BOUND_ADDRESS != 0, agent: flags & BOUND_AGENT != 0 };
    let (address_tag, rest) = tag(bound.address, rest).ok_or(SessionError::Malformed)?;
    let (agent_tag, rest) = tag(bound.agent, rest).ok_or(SessionError::Malformed)?;
    // Nobody can choose what these tags say: comparing them tells no secret.
    if address_tag.is_some_and(|tag| by.address.is_none() || *tag != by.address_tag(key, &id)) {
        return Err(SessionError::OtherAddress);
    }
    if agent_tag.is_some_and(|tag| *tag != by.agent_tag(key, &id)) {
        return Err(SessionError::OtherAgent);
    }
    let stream = std::str::from_utf8(rest).map_err(|_| SessionError::Malformed)?;
    let session = Session {
        id,
        watermark_id: WatermarkId(read_u64(head, 21)),
        stream: stream.parse().map_err(|_| SessionError::Malformed)?,
        issued_unix_s: read_u64(head, 29),
        watch_until_unix_s: read_u64(head, 37),
        asked: flags & ASKED != 0,
        counted: flags & COUNTED != 0,
        bound,
    };
    if session.watch_until_unix_s < now_unix_s {
        return Err(SessionError::Expired);
    }
    Ok(session)
}

/// The tag at the beginning, if there is to be one, and what follows.
fn tag(there: bool, bytes: &[u8]) -> Option<(Option<&[u8; TAG_BYTES]>, &[u8])> {
    if there { bytes.split_first_chunk().map(|(tag, rest)| (Some(tag), rest)) } else { Some((None, bytes)) }
}

fn read_u64(bytes: &[u8; HEAD_BYTES], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

/// Why a credential opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Not what `seal` writes.
    #[error("the session credential is malformed")]
    Malformed,
    /// Signed with a key that is not live.
    #[error("the session names a session key that is not live")]
    UnknownKey,
    /// Signed with another secret, or changed since.
    #[error("the session's signature does not hold")]
    BadMac,
    /// Its time is over.
    #[error("the session is over")]
    Expired,
    /// Presented from a network that it is not bound to.
    #[error("the session is bound to another address")]
    OtherAddress,
    /// Presented by a player that it is not bound to.
    #[error("the session is bound to another user agent")]
    OtherAgent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    fn keys() -> KeyRing {
        KeyRing::of(Key::new(7, [3; 32]))
    }

    /// A credential that nothing is bound to.
    fn seal(keys: &KeyRing, session: &Session) -> String {
        super::seal(keys, session, Presenter::default())
    }

    fn open(keys: &KeyRing, credential: &str, now_unix_s: u64) -> Result<Session, SessionError> {
        super::open(keys, credential, Presenter::default(), now_unix_s)
    }

    fn session() -> Session {
        Session {
            id: [9; 16],
            watermark_id: WatermarkId(0x0102_0304_0506_0708),
            stream: "demo".parse().unwrap(),
            issued_unix_s: 1_000,
            watch_until_unix_s: 2_000,
            asked: true,
            counted: false,
            bound: Binding::default(),
        }
    }

    #[test]
    fn a_credential_opens_until_its_last_second() {
        let credential = seal(&keys(), &session());
        assert_eq!(open(&keys(), &credential, 2_000), Ok(session()));
        assert_eq!(open(&keys(), &credential, 2_001), Err(SessionError::Expired));
        let longest = Session { stream: "x".repeat(STREAM_NAME_MAX).parse().unwrap(), ..session() };
        let credential = seal(&keys(), &longest);
        assert!(credential.len() <= CREDENTIAL_CHARS_MAX);
        assert_eq!(open(&keys(), &credential, 0), Ok(longest));
        let counted = Session { asked: false, counted: true, ..session() };
        assert_eq!(open(&keys(), &seal(&keys(), &counted), 0), Ok(counted));
    }

    #[test]
    fn a_bound_one_opens_for_its_viewer_only() {
        let agent: Option<&[u8]> = Some(b"VLC/3.0.21");
        let home = Presenter { address: "192.0.2.7".parse().ok(), agent };
        let neighbour = Presenter { address: "192.0.2.8".parse().ok(), ..home };
        let away = Presenter { address: "198.51.100.7".parse().ok(), ..home };
        let nowhere = Presenter { address: None, ..home };
        let other = Presenter { agent: Some(b"curl/8"), ..home };
        for (address, agent) in [(false, false), (true, false), (false, true), (true, true)] {
            let stream = "x".repeat(STREAM_NAME_MAX).parse().unwrap();
            let session = Session { bound: Binding { address, agent }, stream, ..session() };
            let credential = super::seal(&keys(), &session, home);
            assert!(credential.len() <= CREDENTIAL_CHARS_MAX);
            let open = |by| super::open(&keys(), &credential, by, 0);
            let unless = |bound, error| if bound { Err(error) } else { Ok(session.clone()) };
            assert_eq!((open(home), open(neighbour)), (Ok(session.clone()), Ok(session.clone())));
            for by in [away, nowhere] {
                assert_eq!(open(by), unless(address, SessionError::OtherAddress));
            }
            assert_eq!(open(other), unless(agent, SessionError::OtherAgent));
        }
        // Without an address nothing is bound to one: it is not a place of its own.
        let session = Session { bound: Binding { address: true, agent: false }, ..session() };
        let credential = super::seal(&keys(), &session, nowhere);
        assert_eq!(super::open(&keys(), &credential, nowhere, 0), Err(SessionError::OtherAddress));
    }

    #[test]
    fn every_changed_character_closes_it() {
        let bound = Session { bound: Binding { address: true, agent: true }, ..session() };
        let by = Presenter { address: "192.0.2.7".parse().ok(), agent: None };
        let credential = super::seal(&keys(), &bound, by);
        let open = |keys: &KeyRing, credential: &str, now| super::open(keys, credential, by, now);
        assert_eq!(open(&keys(), &credential, 0), Ok(bound));
        for at in 0..credential.len() {
            let mut changed = credential.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(open(&keys(), &changed, 0).is_err(), "character {at}");
        }
        for cut in 0..credential.len() {
            assert!(open(&keys(), &credential[..cut], 0).is_err(), "cut at {cut}");
        }
        assert!(open(&keys(), &format!("{credential}="), 0).is_err());
    }

    #[test]
    fn two_keys_are_live_and_a_third_is_not() {
        let (old, new) = (Key::new(1, [1; 32]), Key::new(2, [2; 32]));
        let both = KeyRing::parse(&format!("{}{}", new.to_line(), old.to_line())).unwrap();
        let before = seal(&KeyRing::of(old), &session());
        assert_eq!(open(&both, &before, 0), Ok(session()));
        assert_eq!(open(&KeyRing::of(new), &before, 0), Err(SessionError::UnknownKey));
        let forged = seal(&KeyRing::of(Key::new(2, [8; 32])), &session());
        assert_eq!(open(&both, &forged, 0), Err(SessionError::BadMac));
    }

    #[test]
    fn an_access_token_is_no_session() {
        let claims = ingest_api::access::Claims {
            stream: "demo".parse().unwrap(),
            viewer: "alice".into(),
            issued_unix_s: 40,
            enter_until_unix_s: 9_000,
            watch_until_unix_s: None,
        };
        let token = ingest_api::access::mint(&keys(), &claims);
        assert_eq!(open(&keys(), &token, 0), Err(SessionError::Malformed));
    }
}
