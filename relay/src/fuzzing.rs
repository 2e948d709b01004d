//! What the fuzz targets call, and the replay of their corpora in the tests: input in, a panic if a promise breaks.

use crate::cmcd::{self, EVENTS_MAX, TIME_MAX};
use crate::revocation::Revocations;
use crate::route::{self, Carrier, Route};
use crate::session::{self, Binding, Presenter, Session};
use crate::token::foreign::Rules;
use crate::token::jwt;
use crate::token::key_set::{KeySet, Reach};
use crate::token::place::{Place, Site};
use crate::token::{self, Entry, Visit, Ways, cat};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::{CoseMac0, Header, MacContext, ProtectedHeader, TaggedCborSerializable, mac_structure_data};
use ingest_api::StreamName;
use ingest_api::access::{self, Claims};
use releve_watermark::{Key, KeyRing, WatermarkId};
use ring::hmac;
use std::sync::Arc;

/// Text as token and as session credential. Promises: nothing is opened by anything but our own credentials, and what is
/// opened has exactly one spelling.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let keys = KeyRing::of(Key::new(1, [1; 32]));
    let stream = "demo".parse().expect("a plain word is a stream name");
    let ways = Ways { keys: &keys, foreign: None, webhook: false };
    let visit = Visit { stream: &stream, token: Some(text), cat: None, place: PLACE };
    if let Ok(Entry::Known(claims)) = token::check(ways, &Revocations::default(), visit, 0) {
        assert_eq!(claims.stream, stream);
        let ours = Claims {
            stream,
            viewer: "fuzz".into(),
            issued_unix_s: 0,
            enter_until_unix_s: u64::MAX,
            watch_until_unix_s: None,
        };
        assert_eq!(text, access::mint(&keys, &ours), "a token that nobody made was taken");
    }
    if let Ok(session) = session::open(&keys, text, Presenter::default(), 0) {
        assert_eq!(session::seal(&keys, &session, Presenter::default()), text, "a session has two spellings");
        assert_eq!(session, known_session(), "a session that nobody made was taken");
    }
}

/// Bytes as a set of keys, and as header and payload of a signed JSON web token. Promises: neither panics; what is opened
/// is for the stream that was asked for and names a viewer.
pub fn jwt(data: &[u8]) {
    let _ = KeySet::parse(data, Reach::Private);
    let rules = rules();
    let stream = "demo".parse().expect("a plain word is a stream name");
    let mut words = data.splitn(2, |byte| *byte == 0);
    let header = words.next().unwrap_or_default();
    for (header, payload) in [(header, words.next().unwrap_or_default()), (br#"{"alg":"HS256"}"#, data)] {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
        if let Ok(claims) = jwt::verify(&rules, &stream, &token, 1_000) {
            check(&claims, &stream);
        }
    }
}

/// Bytes as a Common Access Token, and as the claims and the headers of one whose MAC holds. Promises: none panics; what is
/// opened is for the stream that was asked for and names a viewer; what nobody signed opens nothing.
pub fn cat(data: &[u8]) {
    let (rules, stream) = (rules(), "demo".parse().expect("a plain word is a stream name"));
    let verify = |token: &[u8]| {
        let token = URL_SAFE_NO_PAD.encode(token);
        let _ = cat::has_form(&token);
        cat::verify(&rules, &stream, PLACE, &token, 1_000)
    };
    if let Ok(claims) = verify(data) {
        check(&claims, &stream); // one of the corpus that the secret has signed
    }
    let mut halves = data.splitn(2, |byte| *byte == 0xff);
    let (head, rest) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    for (protected, claims) in [(head, rest), (&[0xa1, 1, 5][..], data)] {
        if let Ok(claims) = verify(&maced(protected, claims)) {
            check(&claims, &stream);
        }
    }
}

/// A COSE_Mac0 of these protected headers and this payload.
fn maced(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let protected = ProtectedHeader { original_data: Some(protected.to_vec()), header: Header::default() };
    let signed = mac_structure_data(MacContext::CoseMac0, protected.clone(), &[], payload);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), &signed).as_ref().to_vec();
    let token = CoseMac0 { protected, unprotected: Header::default(), payload: Some(payload.to_vec()), tag };
    token.to_tagged_vec().expect("bytes and an empty map are CBOR")
}

const PLACE: Place<'_> = Place { path: "/live/demo/index.m3u8", method: "GET", source: None };

/// One secret, and nothing else expected.
fn rules() -> Rules {
    let secret = URL_SAFE_NO_PAD.encode([1; 32]);
    let set = format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#);
    let keys = KeySet::parse(set.as_bytes(), Reach::Private).expect("a set of one key");
    Rules { keys: Arc::new(keys), issuer: None, audience: None, site: Site::of("https://tv.example.org") }
}

/// What holds of everything that is opened at second 1000.
fn check(claims: &Claims, stream: &StreamName) {
    assert!(claims.stream == *stream && access::is_viewer_name(&claims.viewer));
    assert!(claims.enter_until_unix_s >= 1_000 && claims.issued_unix_s <= 1_030);
}

/// Bytes as a request target. Promises: any bytes are a route or malformed; a route says nothing that the target did not
/// spell canonically.
pub fn viewer_path(data: &[u8]) {
    let Ok(route) = route::parse(data) else { return };
    let text = std::str::from_utf8(data).expect("a route's target is ASCII");
    let path = text.split('?').next().unwrap_or(text);
    assert!(!path.contains('%') && !path.contains("//") && !path.contains("/../"));
    match route {
        Route::Live { stream, file, .. } => assert_eq!(path, format!("/live/{stream}/{file}")),
        Route::Watch { stream, .. } => assert_eq!(path, format!("/watch/{stream}")),
        Route::Session { carrier, wanted, .. } => {
            let at = match carrier {
                Carrier::Path(credential) => format!("/v/{credential}"),
                Carrier::Query(credential) => {
                    assert!(text.contains(&format!("s={credential}")) && !credential.contains('&'));
                    "/q".to_owned()
                }
                Carrier::Cookie(stream) => format!("/c/{stream}"),
            };
            match wanted {
                Some(wanted) => assert_eq!(path, format!("{at}/{}", wanted.to_path())),
                // `/v` is `/v/` with nothing behind it: a credential that does not hold.
                None => assert!(format!("{path}/").starts_with(&at)),
            }
        }
        Route::Cdn { stream, wanted, name } => {
            let (stem, kind) = wanted
                .to_path()
                .rsplit_once('.')
                .map(|(s, k)| (s.to_owned(), k.to_owned()))
                .unwrap_or_default();
            assert_eq!(path, format!("/cdn/{stream}/{stem}-{}.{kind}", hex::encode(name)));
        }
        Route::Edge { stream, wanted, of } => {
            let plain = wanted.to_path();
            let below = match (of.folder(), plain.split_once('/')) {
                (Some(folder), Some((track, file))) => format!("{track}/{folder}/{file}"),
                (_, _) => plain,
            };
            assert_eq!(path, format!("/edge/{stream}/{below}"));
        }
        Route::Asset { name } => assert_eq!(path, format!("/assets/{name}")),
        Route::Guarded | Route::Nothing => {}
    }
}

/// Bytes as a batch of players' events. Promises: they are events or malformed; times are such as are believed; a line is the
/// same event alone and among others, and whatever ends it.
pub fn cmcd(data: &[u8]) {
    let Ok(events) = cmcd::events(data) else { return };
    assert!((1..=EVENTS_MAX).contains(&events.len()));
    for event in &events {
        let times = [event.buffer, event.latency, event.startup];
        assert!(times.iter().flatten().all(|time| *time <= TIME_MAX) && event.kind.len() <= 5);
    }
    let lines = data.strip_suffix(b"\n").unwrap_or(data).split(|&byte| byte == b'\n');
    let mut ended = Vec::new();
    for (line, event) in lines.zip(&events) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert_eq!(cmcd::events(line).as_deref(), Ok(std::slice::from_ref(event)));
        ended.extend_from_slice(&[line, b"\r\n"].concat());
    }
    assert_eq!(cmcd::events(&ended), Ok(events));
}

/// The one session whose credential is in the corpus.
fn known_session() -> Session {
    Session {
        id: [2; 16],
        watermark_id: WatermarkId(3),
        stream: "demo".parse().expect("a plain word is a stream name"),
        issued_unix_s: 0,
        watch_until_unix_s: u64::MAX,
        asked: false,
        counted: false,
        bound: Binding::default(),
    }
}

/// Writes what the corpus of `token` starts from: one valid token and one valid session.
pub fn valid_credentials() -> [String; 2] {
    let keys = KeyRing::of(Key::new(1, [1; 32]));
    let claims = Claims {
        stream: "demo".parse().expect("a plain word is a stream name"),
        viewer: "fuzz".into(),
        issued_unix_s: 0,
        enter_until_unix_s: u64::MAX,
        watch_until_unix_s: None,
    };
    [access::mint(&keys, &claims), session::seal(&keys, &known_session(), Presenter::default())]
}
