//! What the fuzz targets call, and the replay of their corpora in the tests: input in, a panic if a promise breaks.

use crate::revocation::Revocations;
use crate::route::{self, Carrier, Route};
use crate::session::{self, Binding, Presenter, Session};
use crate::token::jwt::{self, Rules};
use crate::token::key_set::{KeySet, Reach};
use crate::token::{self, Entry, Ways};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
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
    let ways = Ways { keys: &keys, jwt: None, webhook: false };
    if let Ok(Entry::Known(claims)) = token::check(ways, &Revocations::default(), &stream, Some(text), 0) {
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
    let secret = URL_SAFE_NO_PAD.encode([1; 32]);
    let set = format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#);
    let keys = KeySet::parse(set.as_bytes(), Reach::Private).expect("a set of one key");
    let rules = Rules { keys: Arc::new(keys), issuer: None, audience: None };
    let stream = "demo".parse().expect("a plain word is a stream name");
    let mut words = data.splitn(2, |byte| *byte == 0);
    let header = words.next().unwrap_or_default();
    for (header, payload) in [(header, words.next().unwrap_or_default()), (br#"{"alg":"HS256"}"#, data)] {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
        if let Ok(claims) = jwt::verify(&rules, &stream, &token, 1_000) {
            assert!(claims.stream == stream && access::is_viewer_name(&claims.viewer));
            assert!(claims.enter_until_unix_s >= 1_000 && claims.issued_unix_s <= 1_030);
        }
    }
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
                None => assert!(path.starts_with(&at)),
            }
        }
        Route::Asset { name } => assert_eq!(path, format!("/assets/{name}")),
        Route::Guarded | Route::Nothing => {}
    }
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
