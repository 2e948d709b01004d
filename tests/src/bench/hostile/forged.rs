//! Tokens that open nothing: JSON web tokens played with in every way that has worked somewhere (RFC 8725), our own cut and
//! put together otherwise.
//!
//! In: the secret that the relay's key set has, a good token, noise. Out: the name of the trick, and a token. Pure.

use super::noise::Noise;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use ring::hmac;
use serde_json::{Value, json};

/// The key ids of the relay's key set: a shared secret, and a public RSA key whose other half nobody has.
const SHARED: &str = "shared";
const RSA: &str = "rsa";
/// Modulus of the latter, and the file that its owner would publish.
const RSA_N: &str = "td78n_sBD0J8z2Hko37lY8vwqGJxQNmnGLBZufKCbAmLYJI5E6ew8hXVFGdWQU028LhjgHA6yyaMSBX6NJii0yHlBACXtHXuDxzt6icb9ZeSp1P4A5lPbSI-WhTe1V4dBhLkTdWcLTzvJIhUggSi7B5yPkSJhsYafAuKmrsp26dIExiqqZYSWiF8vFJqX9rpeoGfQVkI0bRBQjh6jCYZLsOubfxi26rYFw2QFkv5OwxpIwjMBIJdJSrSok7bXvCir0IiDywYtdiq6mfJ01SXWJSAZDPaHKqsLuEqBPt6d00Yn-YOrMr1HnGtnrqdtCRtuXt5O7tObn8aI0A-g5x2UQ";
const RSA_DER: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtd78n/sBD0J8z2Hko37lY8vwqGJxQNmnGLBZufKCbAmLYJI5E6ew8hXVFGdWQU028LhjgHA6yyaMSBX6NJii0yHlBACXtHXuDxzt6icb9ZeSp1P4A5lPbSI+WhTe1V4dBhLkTdWcLTzvJIhUggSi7B5yPkSJhsYafAuKmrsp26dIExiqqZYSWiF8vFJqX9rpeoGfQVkI0bRBQjh6jCYZLsOubfxi26rYFw2QFkv5OwxpIwjMBIJdJSrSok7bXvCir0IiDywYtdiq6mfJ01SXWJSAZDPaHKqsLuEqBPt6d00Yn+YOrMr1HnGtnrqdtCRtuXt5O7tObn8aI0A+g5x2UQIDAQAB";

/// What the relay is given as its key set.
pub(super) fn key_set(secret: &[u8; 32]) -> String {
    let shared = json!({"kty": "oct", "kid": SHARED, "alg": "HS256", "k": word(secret)});
    let rsa = json!({"kty": "RSA", "kid": RSA, "alg": "RS256", "n": RSA_N, "e": "AQAB"});
    json!({"keys": [shared, rsa]}).to_string()
}

fn word(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of this header and these claims, signed with HMAC-SHA-256.
fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let text = format!("{}.{}", word(header), word(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", word(tag))
}

/// A token that is good.
pub(super) fn good(secret: &[u8; 32], stream: &str, viewer: &str, now: u64) -> String {
    signed(&header("HS256", SHARED), &claims(stream, viewer, now).to_string(), secret)
}

fn header(alg: &str, kid: &str) -> String {
    json!({"alg": alg, "typ": "JWT", "kid": kid}).to_string()
}

fn claims(stream: &str, viewer: &str, now: u64) -> Value {
    json!({"sub": viewer, "stream": stream, "iat": now, "exp": now + 600})
}

/// A JSON web token that must not open `stream`: what is wrong with it, and the token. `decoy` is an address that nobody is to
/// be led to.
pub(super) fn web_token(
    noise: &mut Noise,
    secret: &[u8; 32],
    stream: &str,
    decoy: &str,
    now: u64,
) -> (&'static str, String) {
    let plain = claims(stream, "mallory", now);
    let text = plain.to_string();
    let with = |name: &str, value: Value| {
        let mut claims = plain.clone();
        claims[name] = value;
        claims.to_string()
    };
    let without = |name: &str| {
        let mut claims = plain.clone();
        if let Some(claims) = claims.as_object_mut() {
            claims.remove(name);
        }
        claims.to_string()
    };
    // Signed as it should be: it is the claims that are not good.
    let ours = |claims: &str| signed(&header("HS256", SHARED), claims, secret);
    let good = ours(&text);
    let theirs = [0x5a_u8; 32];
    let der = BASE64_STANDARD.decode(RSA_DER).unwrap_or_default();
    let pem = || {
        let lines: Vec<&str> =
            (0..RSA_DER.len()).step_by(64).map(|at| &RSA_DER[at..RSA_DER.len().min(at + 64)]).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    };
    let body = good.rsplit_once('.').map_or("", |(body, _)| body);
    match noise.below(44) {
        0..4 => {
            let alg = *noise.pick(&["none", "None", "NONE", "nOnE"]);
            let kid = *noise.pick(&[SHARED, RSA, ""]);
            ("no algorithm", format!("{}.{}.", word(header(alg, kid)), word(&text)))
        }
        4 => ("no signature", format!("{body}.")),
        5 => ("the public key's file as a secret", signed(&header("HS256", RSA), &text, pem().as_bytes())),
        6 => ("the public key's bytes as a secret", signed(&header("HS256", RSA), &text, &der)),
        7 => ("the public key's modulus as a secret", signed(&header("HS256", RSA), &text, RSA_N.as_bytes())),
        8 => ("another algorithm than the key's", signed(&header("RS256", SHARED), &text, secret)),
        9 => ("the shared secret for the public key", signed(&header("HS256", RSA), &text, secret)),
        10 => ("algorithm HS512", signed(&header("HS512", SHARED), &text, secret)),
        11..14 => {
            let kid =
                *noise.pick(&["../../../../dev/null", "shared' OR '1'='1", "shared\0", "Shared", "", "*"]);
            ("key id that is a path or a query", signed(&header("HS256", kid), &text, b""))
        }
        14 => ("no key id", signed(r#"{"alg":"HS256"}"#, &text, secret)),
        15 => ("a list for a key id", signed(r#"{"alg":"HS256","kid":["shared"]}"#, &text, secret)),
        16..18 => {
            let name = *noise.pick(&["jku", "x5u"]);
            let at = format!("http://{decoy}/keys.json");
            let kid = *noise.pick(&[SHARED, "elsewhere"]);
            let header = json!({"alg": "HS256", "kid": kid, name: at});
            ("keys from elsewhere", signed(&header.to_string(), &text, &theirs))
        }
        18 => {
            let jwk = json!({"kty": "oct", "k": word(theirs)});
            let header = json!({"alg": "HS256", "kid": SHARED, "jwk": jwk});
            ("a key of its own", signed(&header.to_string(), &text, &theirs))
        }
        19 => ("another secret", signed(&header("HS256", SHARED), &text, &theirs)),
        20 => ("a fourth word", format!("{good}.")),
        21 => ("a fourth word before", format!(".{good}")),
        22 => ("two words", body.to_owned()),
        23 => ("an empty claims word", good.replacen(&word(&text), "", 1)),
        24 => ("no end", ours(&without("exp"))),
        25 => ("an end that is text", ours(&with("exp", json!((now + 600).to_string())))),
        26 => ("an end of 1e308", ours(&with("exp", json!(1e308)))),
        27 => ("an end beyond all numbers", ours(&text.replace(&(now + 600).to_string(), "1e999"))),
        28 => ("an end before all time", ours(&with("exp", json!(-1)))),
        29 => ("an end of 1e16", ours(&with("exp", json!(1e16)))),
        30 => ("two ends", ours(&text.replacen('{', &format!("{{\"exp\":{},", now + 900), 1))),
        31 => ("an end that was", ours(&with("exp", json!(now - 60)))),
        32 => ("an end that is nothing", ours(&with("exp", Value::Null))),
        33 => ("a beginning to come", ours(&with("nbf", json!(now + 3600)))),
        34 => ("made in time to come", ours(&with("iat", json!(now + 3600)))),
        35 => ("an audience", ours(&with("aud", json!("tv")))),
        36 => {
            let other = match noise.below(5) {
                0 => format!("{stream}b"),
                1 => stream.to_uppercase(),
                2 => format!("{stream}*"),
                3 => format!("{stream}\0"),
                _ => String::new(),
            };
            ("a name that is like the stream's", ours(&with("stream", json!(other))))
        }
        37 => ("no stream", ours(&without("stream"))),
        38 => ("no viewer", ours(&without("sub"))),
        39 => {
            let name = *noise.pick(&["", "a\nb", "x"]);
            let name = if name == "x" { "x".repeat(200) } else { name.to_owned() };
            ("a viewer who is none", ours(&with("sub", json!(name))))
        }
        40 => {
            let critical = json!({"alg": "HS256", "kid": SHARED, "crit": ["exp"]}).to_string();
            ("something critical", signed(&critical, &text, secret))
        }
        41 => {
            let deep = format!("{}{}", "[".repeat(400), "]".repeat(400));
            (
                "a deep claim",
                signed(
                    &header("HS256", SHARED),
                    &text.replacen('{', &format!("{{\"x\":{deep},"), 1),
                    &theirs,
                ),
            )
        }
        42 => ("a pattern of its own", ours(&with("wmpattern", json!("AAAA")))),
        _ => ("longer than any", ours(&with("x", json!("x".repeat(1600))))),
    }
}

/// One of our own tokens, `r1.VERSION.CLAIMS.MAC`, with its fields moved or written anew: what is wrong with it, and the token.
pub(super) fn slid(noise: &mut Noise, token: &str, other: &str, now: u64) -> (&'static str, String) {
    let words: Vec<&str> = token.split('.').collect();
    let [kind, version, claims, mac] = words[..] else { return ("no token of ours", String::new()) };
    let others: Vec<&str> = other.split('.').collect();
    let said = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
    let mut said: Value = serde_json::from_slice(&said).unwrap_or_default();
    let written = |said: &Value| format!("{kind}.{version}.{}.{mac}", word(said.to_string()));
    match noise.below(10) {
        0 => {
            let (rest, last) = claims.split_at(claims.len() - 1);
            ("a character moved to the MAC", format!("{kind}.{version}.{rest}.{last}{mac}"))
        }
        1 => {
            let (first, rest) = mac.split_at(1);
            ("a character moved from the MAC", format!("{kind}.{version}.{claims}{first}.{rest}"))
        }
        2 => {
            let (first, rest) = claims.split_at(1);
            ("a character moved to the version", format!("{kind}.{version}{first}.{rest}.{mac}"))
        }
        3 => {
            let version = *noise.pick(&["0", "2", "-1", "4294967297", "01", "+1", ""]);
            // The version is signed: a spelling of the same number is another text.
            ("another version", format!("{kind}.{version}.{claims}.{mac}"))
        }
        4 => {
            said["e"] = json!(now + 864_000);
            ("a later end", written(&said))
        }
        5 => {
            said["v"] = json!("somebody");
            ("another viewer", written(&said))
        }
        6 => {
            said["w"] = json!(now + 864_000);
            ("a longer time to watch", written(&said))
        }
        7 => ("another token's MAC", format!("{kind}.{version}.{claims}.{}", others.last().unwrap_or(&""))),
        8 => ("no MAC", format!("{kind}.{version}.{claims}.")),
        _ => ("another kind", format!("{}.{version}.{claims}.{mac}", noise.pick(&["r0", "r2", "R1", ""]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_forged_token_is_the_good_one_and_all_tricks_come() {
        let (secret, now) = ([7; 32], 1_790_000_000);
        let good = good(&secret, "a", "mallory", now);
        let ours = format!("r1.1.{}.{}", word(r#"{"s":"a","v":"x","i":1,"e":2}"#), "A".repeat(43));
        let other = ours.replace("AAA", "BBB");
        let (mut tricks, mut slides) = (BTreeSet::new(), BTreeSet::new());
        for index in 0..4000 {
            let mut noise = Noise::of(1, index);
            let (trick, token) = web_token(&mut noise, &secret, "a", "127.0.0.1:9", now);
            assert_ne!(token, good, "{trick}");
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%'), "{trick}");
            tricks.insert(trick);
            let (trick, token) = slid(&mut noise, &ours, &other, now);
            assert_ne!(token, ours, "{trick}");
            slides.insert(trick);
        }
        assert_eq!((tricks.len(), slides.len()), (38, 10), "{tricks:?}");
    }

    /// RFC 7515 appendix A.1, its own key.
    #[test]
    fn what_is_signed_is_signed_as_the_standard_has_it() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = BASE64_URL_SAFE_NO_PAD.decode(key).unwrap();
        let claims = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let token = signed("{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}", claims, &key);
        assert!(token.ends_with(".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "{token}");
    }
}
