//! What the fuzz targets call, and the replay of their corpora in the tests: input in, a panic if a promise breaks.

use crate::revocation::Revocations;
use crate::route::{self, Route};
use crate::session::{self, Session};
use crate::token;
use ingest_api::access::{self, Claims};
use releve_watermark::{Key, KeyRing, WatermarkId};

/// Text as token and as session credential. Promises: nothing is opened by anything but our own credentials, and what is
/// opened has exactly one spelling.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let keys = KeyRing::of(Key::new(1, [1; 32]));
    let stream = "demo".parse().expect("a plain word is a stream name");
    let opened = token::check(&keys, &Revocations::default(), &stream, Some(text), 0);
    if let Ok(claims) = opened {
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
    if let Ok(session) = session::open(&keys, text, 0) {
        assert_eq!(session::seal(&keys, &session), text, "a session has two spellings");
        assert_eq!(session, known_session(), "a session that nobody made was taken");
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
        Route::Live { stream, .. } => assert_eq!(path, format!("/live/{stream}/index.m3u8")),
        Route::Watch { stream, .. } => assert_eq!(path, format!("/watch/{stream}")),
        Route::Session { credential, wanted: Some(wanted), .. } => {
            assert_eq!(path, format!("/v/{credential}/{}", wanted.to_path()));
        }
        Route::Session { wanted: None, .. } => assert!(path == "/v" || path.starts_with("/v/")),
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
    [access::mint(&keys, &claims), session::seal(&keys, &known_session())]
}
