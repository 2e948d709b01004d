//! Watermark tokens that `relevectl` makes (`ingest/api/vectors`): relays take them, and so do readers that others wrote.

use crate::cat::{npm, taking};
use crate::common::*;
use crate::jwt::python;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::path::Path;

fn vectors() -> Vec<Value> {
    let text = include_str!("../../../ingest/api/vectors/watermark-tokens.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    vectors["keys"].as_array().unwrap().clone()
}

/// The other character at this place of a token.
fn altered(token: &str, at: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_watermark_token_opens_its_stream_for_its_account() {
    for vector in vectors() {
        let origin = FakeOrigin::start().await;
        origin.put(Show::new("demo", 0..3));
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&[origin.url()]);
        taking(&mut config, folder.path(), &json!({"keys": [vector["public"]]}));
        let relay = Relay::with(config).await;
        for form in ["direct_jwt", "direct_cwt"] {
            let target = format!("/live/demo/index.m3u8?token={}", vector[form].as_str().unwrap());
            assert_eq!(relay.client().await.get(&target).await.status, 403, "{form} is for an edge");
        }
        for form in ["jwt", "cwt"] {
            let token = vector[form].as_str().unwrap();
            let mut client = relay.client().await;
            let entered = client.get(&format!("/live/demo/index.m3u8?token={token}")).await;
            assert_eq!(entered.status, 302, "{form} of {}", vector["public"]["kid"]);
            let index = entered.header("location").unwrap();
            let mine = client.get(&index.replace("index.m3u8", "video/1.m4s")).await;
            assert_eq!(mine.body, copy_for(&marked(1, 40), "alice"), "{form}: marked for `wmid`");
            assert_eq!(client.get(&format!("/live/other/index.m3u8?token={token}")).await.status, 403);
            for at in (5..token.len() - 4).step_by(17) {
                let target = format!("/live/demo/index.m3u8?token={}", altered(token, at));
                assert_eq!(client.get(&target).await.status, 403, "{form}, character {at} altered");
            }
        }
    }
}

/// What PyJWT makes of the tokens, each with its key and no other algorithm.
const PYJWT: &str = r#"
import json, sys, jwt
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm

kinds = {"oct": (HMACAlgorithm, "HS256"), "OKP": (OKPAlgorithm, "EdDSA"), "EC": (ECAlgorithm, "ES256")}
read = []
for key in json.load(open("vectors.json")):
    maker, algorithm = kinds[key["public"]["kty"]]
    read.append(jwt.decode(key["jwt"], maker.from_jwk(json.dumps(key["public"])), algorithms=[algorithm]))
json.dump(read, sys.stdout)
"#;

#[test]
fn others_read_what_they_say() {
    let vectors = vectors();
    let expected = json!({
        "iat": 1_700_000_000, "exp": 4_102_444_800_u64, "stream": "demo", "wmver": 1, "wmvnd": 7, "wmpatlen": 65_535,
        "wmid": "alice", "wmopid": 3, "wmkeyver": 1,
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vectors.json"), json!(vectors).to_string()).unwrap();
    if let Some(read) = python(PYJWT, folder.path()) {
        let read: Value = serde_json::from_slice(&read).unwrap();
        assert_eq!(read, json!([expected, expected, expected]));
    }
    let secret = URL_SAFE_NO_PAD.decode(vectors[0]["private"]["k"].as_str().unwrap()).unwrap();
    let arguments = [hex(&secret), vectors[0]["cwt"].as_str().unwrap().to_owned()];
    if let Some(read) = npm(Path::new("read.cjs"), &arguments) {
        let read: Value = serde_json::from_slice(&read).unwrap();
        // This library has no names for labels that are text.
        let claims = [
            json!([4, 4_102_444_800_u64]),
            json!([6, 1_700_000_000]),
            json!([300, 1]),
            json!([301, 7]),
            json!([302, 65_535]),
            json!([305, "alice"]),
            json!([306, 3]),
            json!([307, 1]),
            json!([null, "demo"]),
        ];
        assert_eq!(read, json!(claims));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
