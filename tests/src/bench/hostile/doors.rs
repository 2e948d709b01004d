//! Attacks on the ways in: entry and watch page with tokens of every kind, files that only a CDN or an edge may fetch, places
//! that are nobody's; and requests that do no harm by design, to see that they do none.

use super::attack::{Attack, Attacker, DENIED, Expects, MALFORMED, NOTHING, Own, changed, in_query};
use super::forged;
use super::stage::{Pass, STREAMS};
use super::wire::Request;

const PLACES: [&str; 3] = ["entry", "MPEG-TS entry", "watch page"];

/// Where somebody comes in, and what it is called.
fn place(by: &mut Attacker<'_>, stream: &str) -> (&'static str, String) {
    let at = by.noise.below(PLACES.len());
    let path = match at {
        0 => format!("/live/{stream}/index.m3u8"),
        1 => format!("/live/{stream}/ts.m3u8"),
        _ => format!("/watch/{stream}"),
    };
    (PLACES[at], path)
}

fn refused(name: &'static str, on: &'static str, request: Request, with: &'static [u16]) -> Attack {
    Attack { name, on, request, expects: Expects::Refusal(with) }
}

/// No token, one of somebody else or of another time, one that is named otherwise, two.
pub(super) fn entries(by: &mut Attacker<'_>) -> Attack {
    let stream = by.noise.below(2);
    let (own, other) = (by.own(stream).clone(), by.own(1 - stream).clone());
    let passes = by.passes(stream).clone();
    let (on, path) = place(by, STREAMS[stream]);
    let good = &own.token;
    let get = |query: String| Request::get(format!("{path}{query}"));
    let (name, request, with) = match by.noise.below(30) {
        0 => ("no token", get(String::new()), DENIED),
        1 => ("no token", get("?token=".to_owned()), DENIED),
        2 => ("no token", get("?token".to_owned()), DENIED),
        3 => ("a token by another name", get(format!("?TOKEN={good}")), DENIED),
        4 => ("a token by another name", get(format!("?token[]={good}")), DENIED),
        5 => ("a token by another name", get(format!("?x=1;token={good}")), DENIED),
        6 => ("a token by another name", get(format!("?%74oken={good}")), DENIED),
        7 => ("a token by another name", get(format!("?+token={good}")), DENIED),
        8 => {
            ("a token elsewhere", get(String::new()).with("Authorization", format!("Bearer {good}")), DENIED)
        }
        9 => (
            "a token elsewhere",
            get(String::new()).with("Cookie", format!("token={good}; releve={}", own.session)),
            DENIED,
        ),
        10 => ("a token elsewhere", get(String::new()).with("CTA-Common-Access-Token", good.clone()), DENIED),
        11 => (
            "a token elsewhere",
            get(String::new()).with("Referer", format!("https://relay.example{path}?token={good}")),
            DENIED,
        ),
        12 | 13 => ("a token of another stream", get(format!("?token={}", other.token)), DENIED),
        14 => {
            let token = forged::good(&by.cast.secret, STREAMS[1 - stream], "mallory", by.now);
            ("a token of another stream", get(format!("?token={token}")), DENIED)
        }
        15 => {
            let path = path
                .replacen(STREAMS[stream], &STREAMS[stream].to_uppercase(), 2)
                .replace("/wAtch", "/watch");
            ("a token of a stream in small letters", Request::get(format!("{path}?token={good}")), DENIED)
        }
        16 => ("a token that has expired", get(format!("?token={}", passes.expired.token)), DENIED),
        17 => ("a token of who is revoked", get(format!("?token={}", passes.revoked.token)), DENIED),
        18 => ("a session as a token", get(format!("?token={}", own.session)), DENIED),
        19 => ("a key as a token", get(format!("?token={}", by.cast.cdn)), DENIED),
        20 => ("two tokens", get(format!("?token={good}&token=x")), MALFORMED),
        21 => ("two tokens", get(format!("?token=x&token={good}")), MALFORMED),
        22 => ("two tokens", get(format!("?token={good}&a=b&token={good}")), MALFORMED),
        23 => ("two tokens", get(format!("?token={good}&token")), MALFORMED),
        24 => ("two tokens", get(format!("?token={good}&CAT=x")), DENIED),
        25 => ("two tokens", get(format!("?token={good}&CAT={}", passes.victim.token)), DENIED),
        26 => ("two tokens", get(format!("?token={good}")).with("CTA-Common-Access-Token", "x"), DENIED),
        27 => {
            ("a token in other letters", get(format!("?token={}", good.replacen('.', "%2e", 1))), MALFORMED)
        }
        28 => ("a token in other letters", get(format!("?token=+{good}")), DENIED),
        _ => ("a token in other letters", get(format!("?token={good};x")), DENIED),
    };
    refused(name, on, request, with)
}

/// A good token with another character somewhere, cut, longer, its fields moved.
pub(super) fn changed_token(by: &mut Attacker<'_>) -> Attack {
    let stream = by.noise.below(2);
    let (own, victim) = (by.own(stream).token.clone(), by.passes(stream).victim.token.clone());
    let (name, token) = match by.noise.below(8) {
        0..3 => ("a character of the token changed", changed(&mut by.noise, &own)),
        3 => ("a token cut", own[..by.noise.below(own.len())].to_owned()),
        4 => (
            "a token longer",
            format!("{own}{}", by.noise.pick(&["=", ".", "A", "~", "&"]).replace('&', ".")),
        ),
        _ => forged::slid(&mut by.noise, &own, &victim, by.now),
    };
    let (on, path) = place(by, STREAMS[stream]);
    refused(name, on, Request::get(format!("{path}?token={token}")), DENIED)
}

/// JSON web tokens that open nothing, and what is no Common Access Token.
pub(super) fn forged_token(by: &mut Attacker<'_>) -> Attack {
    let stream = by.noise.below(2);
    let (trick, token) =
        forged::web_token(&mut by.noise, &by.cast.secret, STREAMS[stream], &by.cast.decoy, by.now);
    let (on, path) = place(by, STREAMS[stream]);
    match by.noise.below(10) {
        0 => refused(
            "a web token as a Common Access Token",
            on,
            Request::get(format!("{path}?CAT={token}")),
            DENIED,
        ),
        1 => {
            let request = Request::get(path).with("CTA-Common-Access-Token", token);
            refused("a web token as a Common Access Token", on, request, DENIED)
        }
        2 => {
            // Tag 61, a COSE_Mac0 of nothing; then what is not even that.
            let forms = ["2D3RhEOhAQWgQKFA", "2D3RhEOhAQWgQKFAQUFB", "0YRDoQEFoEBA", "2D3S", "2D3RhEA"];
            let name = *by.noise.pick(&["CAT", "token"]);
            let request = Request::get(format!("{path}?{name}={}", by.noise.pick(&forms)));
            refused("a Common Access Token of nothing", on, request, DENIED)
        }
        _ => refused(trick, on, Request::get(format!("{path}?token={token}")), DENIED),
    }
}

/// The ways to show a key that is none.
fn bearers(by: &mut Attacker<'_>, key: &str, other: &str) -> Request {
    let own = by.own(0).clone();
    let get = || Request::get("");
    let zero = "0".repeat(64);
    match by.noise.below(13) {
        0 | 1 => get(),
        2 => get().with("Authorization", format!("Bearer {zero}")),
        3 => get().with("Authorization", format!("Bearer {other}")),
        4 => get().with("Authorization", format!("bearer {key}")),
        5 => get().with("Authorization", format!("Bearer  {key}")),
        6 => get().with("Authorization", format!("Bearer {}", key.to_uppercase())),
        7 => get().with("Authorization", format!("Bearer {}", &key[1..])),
        8 => get().with("Authorization", format!("Bearer {key}")).with("Authorization", "Bearer x"),
        9 => get().with("Authorization", format!("Bearer {}", own.session)),
        10 => get().with("Cookie", format!("releve={}", own.session)),
        11 => get().with("Proxy-Authorization", format!("Bearer {key}")),
        _ => get().with("Authorization", key),
    }
}

/// Files of the CDN: without its key, or by a name that is none.
pub(super) fn cdn_files(by: &mut Attacker<'_>) -> Attack {
    let target = by.noise.pick(&by.scene.cdn).clone();
    let (key, edge) = (by.cast.cdn.clone(), by.cast.edge.clone());
    if by.noise.below(2) == 0 {
        let request = Request { target, ..bearers(by, &key, &edge) };
        return refused("a CDN's file without its key", "CDN file", request, DENIED);
    }
    let (stem, kind) = target.rsplit_once('.').unwrap_or((&target, ""));
    let (before, name) = stem.rsplit_once('-').unwrap_or((stem, ""));
    let other = by.noise.pick(&by.scene.cdn).rsplit(['-', '.']).nth(1).unwrap_or_default().to_owned();
    let other = if other == name { "0".repeat(32) } else { other };
    let target = match by.noise.below(7) {
        0 => format!("{before}-{other}.{kind}"),
        1 => format!("{before}-{}.{kind}", "0".repeat(32)),
        2 => {
            let mut name = name.as_bytes().to_vec();
            let at = by.noise.below(name.len());
            name[at] = if name[at] == b'0' { b'1' } else { b'0' };
            format!("{before}-{}.{kind}", String::from_utf8_lossy(&name))
        }
        3 => target.replacen(&format!("/{}/", STREAMS[0]), &format!("/{}/", STREAMS[1]), 1),
        4 => format!("{before}-.{kind}"),
        5 => format!("{before}.{kind}"),
        _ => target.replacen("/cdn/", "/cdn/b/", 1),
    };
    let request = Request::get(target).with("Authorization", format!("Bearer {key}"));
    refused("a CDN's file by another name", "CDN file", request, DENIED)
}

/// Files of an edge: without its key.
pub(super) fn edge_files(by: &mut Attacker<'_>) -> Attack {
    let target = by.noise.pick(&by.scene.edge).clone();
    let (key, cdn) = (by.cast.edge.clone(), by.cast.cdn.clone());
    let method = *by.noise.pick(&["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]);
    let request = Request { target, method, ..bearers(by, &key, &cdn) };
    refused("an edge's file without its key", "edge file", request, DENIED)
}

/// What others list, serve to operators, or echo.
pub(super) fn listings(by: &mut Attacker<'_>) -> Attack {
    let own = by.own(0).clone();
    let (target, with): (String, &'static [u16]) = match by.noise.below(7) {
        0 => {
            let path = *by.noise.pick(&[
                "/",
                "/api/",
                "/api/v1/tokens",
                "/metrics",
                "/admin",
                "/healthz",
                "/livez",
                "/status",
                "/origin/1/streams",
                "/origin/1/streams/a/window?wait_ms=0",
                "/.git/config",
                "/favicon.ico",
                "/robots.txt",
                "/assets/",
                "/assets/x.js",
                "/index.m3u8",
                "/a/index.m3u8",
                "/hls/a.m3u8",
            ]);
            (path.to_owned(), NOTHING)
        }
        1 => {
            let places = [
                "/live", "/live/", "/live/a", "/live/a/", "/watch", "/watch/", "/cdn", "/cdn/a/", "/edge/a/",
                "/v", "/v/", "/q/", "/c/a/", "/c",
            ];
            ((*by.noise.pick(&places)).to_owned(), DENIED)
        }
        2 => (format!("/v/{}/", own.session), NOTHING),
        3 => ("/watch/\"><script>alert(1)</script>".to_owned(), MALFORMED),
        4 => ("/watch/%22%3E%3Cscript%3Ealert(1)%3C/script%3E".to_owned(), MALFORMED),
        5 => ("/watch/a?token=\"><script>alert(1)</script>".to_owned(), DENIED),
        _ => ("/assets/../../../../etc/passwd".to_owned(), MALFORMED),
    };
    let request = Request::get(target);
    // What a client of HTTP/2 would not say is said as it is.
    let request = match request.to_http2() {
        Some(_) => request,
        None => Request::raw(format!(
            "GET {} HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n\r\n",
            request.target
        )),
    };
    refused("a place that is nobody's", "listings and scripts", request, with)
}

/// Ranges, and what they are answered with by whoever may have the whole (RFC 9110 §14.2: what is not understood is passed over).
const RANGES: [(&str, &[u16]); 12] = [
    ("bytes=0-0", &[206]),
    ("bytes=3-", &[206]),
    ("bytes=-5", &[206]),
    ("bytes=-99999999999999999999", &[206]),
    ("bytes=0-18446744073709551616", &[206]),
    ("bytes=18446744073709551616-", &[416]),
    ("bytes=-0", &[416]),
    ("bytes=5-2", &[200]),
    ("bytes=0-1,3-4", &[200]),
    ("bytes=0-,0-,0-,0-,0-", &[200]),
    ("bytes=a-b", &[200]),
    ("lines=0-1", &[200]),
];

/// What does no harm: the asker's own, whatever stands beside it.
pub(super) fn harmless(by: &mut Attacker<'_>) -> Attack {
    let thing = by.own_thing();
    let (own, victim): (Pass, Pass) = (by.own(0).clone(), by.passes(0).victim.clone());
    let bytes = thing.own.clone().map_or(Own::Nothing, Own::Bytes);
    let path = format!("/v/{}/{}", own.session, thing.below);
    let allowed = |name, request, with, own| Attack {
        name,
        on: thing.kind,
        request,
        expects: Expects::Harmless(with, own),
    };
    match by.noise.below(16) {
        0 => allowed(
            "a query that means nothing",
            Request::get(format!("{path}?variant=b&a=1&CMCD=br%3D1")),
            &[200],
            bytes,
        ),
        1 => {
            let request = Request::get(format!("{path}?s={}", victim.session));
            allowed(
                "another's session beside",
                request.with("Cookie", format!("releve={}", victim.session)),
                &[200],
                bytes,
            )
        }
        2 => allowed(
            "another's session beside",
            in_query(&thing.below, &own.session).with("Cookie", format!("releve={}", victim.session)),
            &[200],
            bytes,
        ),
        3..9 => {
            let (range, with) = *by.noise.pick(&RANGES);
            let bytes = if with == [416] { Own::Nothing } else { bytes };
            allowed("a strange range", Request::get(path).with("Range", range), with, bytes)
        }
        9 => allowed(
            "two ranges",
            Request::get(path).with("Range", "bytes=0-1").with("Range", "bytes=3-4"),
            &[200],
            bytes,
        ),
        10 => allowed("HEAD of one's own", Request::get(path).method("HEAD"), &[200], Own::Nothing),
        11 => allowed("OPTIONS of one's own", Request::get(path).method("OPTIONS"), &[204], Own::Nothing),
        12 => {
            let path = format!("/v/{}/index.m3u8", own.session);
            allowed("nothing new", Request::get(path).with("If-None-Match", "*"), &[304], Own::Nothing)
        }
        13 => allowed(
            "fields that claim something",
            Request::get(path).with("X-Forwarded-For", "192.0.2.1").with("X-Original-URL", "/metrics"),
            &[200],
            bytes,
        ),
        14 => {
            let path = format!("/live/{}/index.m3u8", STREAMS[0]);
            allowed(
                "whether a page may ask",
                Request::get(path).method("OPTIONS").with("Origin", "https://evil.example"),
                &[204],
                Own::Nothing,
            )
        }
        _ if by.noise.below(10) > 0 => allowed(
            "a file of the watch page that is not there",
            Request::get("/assets/watch.js"),
            &[404],
            Own::Public,
        ),
        _ => {
            let token = forged::good(&by.cast.secret, STREAMS[0], "mallory", by.now);
            let token = if by.noise.below(2) == 0 { token } else { own.token.clone() };
            let request = Request::get(format!("/live/{}/index.m3u8?token={token}&x=1", STREAMS[0]));
            allowed("a token that is good", request, &[302], Own::Session(token))
        }
    }
}
