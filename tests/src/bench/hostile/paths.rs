//! Attacks by who has a good session of their own: other spellings of what they may have, what is not theirs beside it, and
//! requests that two readers would take for different ones. Each must be refused although its session holds.

use super::attack::{Attack, Attacker, DENIED, Expects, MALFORMED, NOTHING, in_cookie};
use super::scene::Thing;
use super::stage::STREAMS;
use super::wire::Request;

/// An attack on something that the asker may have, spelled as it should be.
fn refused(name: &'static str, thing: &Thing, request: Request, with: &'static [u16]) -> Attack {
    Attack { name, on: thing.kind, request, expects: Expects::Refusal(with) }
}

/// The session, and the path and query below it.
fn parts(by: &Attacker<'_>, thing: &Thing) -> (String, String, String) {
    let (path, query) = thing.below.split_once('?').map_or((thing.below.as_str(), ""), |both| both);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    (by.own(thing.stream).session.clone(), path.to_owned(), query)
}

/// A path has one spelling: whatever would have to be decoded, resolved or merged is none.
pub(super) fn path_games(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let (target, with) = match by.noise.below(30) {
        0 => (format!("/v/{s}/%2e%2e/{s}/{p}"), MALFORMED),
        1 => (format!("/v/{s}/../{s}/{p}"), MALFORMED),
        2 => (format!("/v/{s}/./{p}"), MALFORMED),
        3 => (format!("/v/{s}//{p}"), MALFORMED),
        4 => (format!("//v/{s}/{p}"), MALFORMED),
        5 => (format!("/v//{s}/{p}"), MALFORMED),
        6 => (format!("/v/{s};x/{p}"), MALFORMED),
        7 => (format!("/v/{s}/{p};x"), MALFORMED),
        8 => (format!("/v/{s}/{p};jsessionid=1"), MALFORMED),
        9 => (format!("/v/{s}%2f{p}"), MALFORMED),
        10 => (format!("/v%2F{s}/{p}"), MALFORMED),
        11 => (format!("/v/{s}/{p}%00"), MALFORMED),
        12 => (format!("/v/{s}/%00{p}"), MALFORMED),
        13 => (format!("/v/{s}/{p}%20"), MALFORMED),
        14 => (format!("/v/{s}/..%5c{p}"), MALFORMED),
        15 => (format!("/v\\{s}\\{p}"), MALFORMED),
        16 => (format!("/v/{s}/{p}/."), MALFORMED),
        17 => (format!("/v/{s}/{p}/.."), MALFORMED),
        18 => (format!("/v/{s}/a/b/../../{p}"), MALFORMED),
        19 => (format!("/assets/../v/{s}/{p}"), MALFORMED),
        20 => (format!("/v/{s}/{p}%3fx"), MALFORMED),
        21 => (format!("/v/{s}/%252e%252e/{p}"), MALFORMED),
        22 => (format!("/v/{s}/{}", p.replacen(['.', '/'], "%2e", 1)), MALFORMED),
        23 => (format!("/v/{s}/{p}\u{ff0e}"), MALFORMED),
        24 => (format!("/v/{s}/*{p}"), MALFORMED),
        25 => (format!("/v/{s}/{p}/"), NOTHING),
        26 => (format!("/v/{s}/{p}."), NOTHING),
        27 => (format!("/v/{s}/{p}~"), NOTHING),
        28 => (format!("/v/{s}/v/{s}/{p}"), NOTHING),
        _ => {
            let raw = match by.noise.below(4) {
                0 => format!("GET http://relay.example/v/{s}/{p} HTTP/1.1\r\nHost: relay.example\r\n\r\n"),
                1 => format!("GET /v/{s}/{p}#x HTTP/1.1\r\nHost: relay.example\r\n\r\n"),
                2 => format!("GET v/{s}/{p} HTTP/1.1\r\nHost: relay.example\r\n\r\n"),
                _ => "OPTIONS * HTTP/1.1\r\nHost: relay.example\r\n\r\n".to_owned(),
            };
            return refused("a target that is no path", &thing, Request::raw(raw), MALFORMED);
        }
    };
    refused("another spelling of a path", &thing, Request::get(format!("{target}{q}")), with)
}

/// Letters of another case are other letters, and numbers have one spelling.
pub(super) fn other_cases(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let (target, with) = match by.noise.below(6) {
        0 => (format!("/V/{s}/{p}"), NOTHING),
        1 => (format!("/v/{s}/{}", p.to_uppercase()), NOTHING),
        2 => (format!("/v/{}/{p}", s.to_uppercase()), DENIED),
        3 => (format!("/v/{s}/{}", p.replacen('/', "/0", 1).replacen("m3u8", "M3U8", 1)), NOTHING),
        4 => (format!("/v/{s}/{}", p.replacen('/', "/+", 1).replacen("m3u8", "+m3u8", 1)), MALFORMED),
        _ => (format!("/v/{s}/{}", p.replacen('/', "/-", 1).replacen("m3u8", "m3u", 1)), NOTHING),
    };
    if target == format!("/v/{s}/{p}") {
        return other_cases(by); // the steering manifest has neither a number nor that ending
    }
    refused("another case", &thing, Request::get(format!("{target}{q}")), with)
}

/// Reloads that wait for what is too far ahead, or do not say for what.
pub(super) fn far_ahead(by: &mut Attacker<'_>) -> Attack {
    let stream = by.noise.below(2);
    let ahead = by.scene.newest[stream] + 1000;
    let session = &by.own(stream).session.clone();
    let file = *by.noise.pick(&["video.m3u8", "audio.m3u8"]);
    let query = match by.noise.below(12) {
        0 => format!("_HLS_msn={ahead}"),
        1 => format!("_HLS_msn={ahead}&_HLS_part=0"),
        2 => format!("_HLS_msn={}", u64::MAX),
        3 => format!("_HLS_msn={}&_HLS_part={}", u64::MAX, u64::MAX),
        4 => "_HLS_msn=18446744073709551616".to_owned(),
        5 => "_HLS_msn=-1".to_owned(),
        6 => "_HLS_msn=1e9".to_owned(),
        7 => "_HLS_part=0".to_owned(),
        8 => format!("_HLS_msn={ahead}&_HLS_msn=1"),
        9 => "_HLS_msn=%31".to_owned(),
        10 => "_HLS_msn=".to_owned(),
        _ => format!("_HLS_msn={ahead}&_HLS_skip=YES&_HLS_skip=v2"),
    };
    let request = Request::get(format!("/v/{session}/{file}?{query}"));
    let expects = Expects::Refusal(MALFORMED);
    Attack { name: "a reload of what is far ahead", on: "blocking reload", request, expects }
}

/// More than anybody needs.
pub(super) fn too_long(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let good = Request::get(format!("/v/{s}/{p}{q}"));
    let join = if q.is_empty() { '?' } else { '&' };
    let (request, with): (_, &'static [u16]) = match by.noise.below(6) {
        0 => (Request::get(format!("/v/{s}/{p}{q}{join}{}", "x".repeat(5_000))), MALFORMED),
        1 => (Request::get(format!("/v/{s}/{p}{q}{join}{}", "x".repeat(9_000))), &[414]),
        2 => ((0..70).fold(good, |request, _| request.with("X-More", "x")), &[431]),
        3 => (Request::raw(with_fields(&good, &format!("X-Long: {}\r\n", "x".repeat(20_000)))), &[431]),
        4 => (Request::raw(with_fields(&good, &"a: b\r\n".repeat(16_000))), &[431]),
        _ => (Request::raw(with_fields(&good, &format!("Cookie: {}\r\n", "a=b; ".repeat(5_000)))), &[431]),
    };
    refused("too long", &thing, request, with)
}

/// The same with more fields, as it would be sent.
fn with_fields(request: &Request, fields: &str) -> Vec<u8> {
    let mut bytes = request.to_http1();
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(fields.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// No address says which variant: those that would are not there, or not for viewers.
pub(super) fn other_variant(by: &mut Attacker<'_>) -> Attack {
    let thing = by.own_thing();
    let (stream, newest) = (STREAMS[0], by.scene.newest[0]);
    let (s, p, _) = parts(by, &thing);
    let (folder, file) = p.split_once('/').unwrap_or(("video", "0.m4s"));
    let (stem, kind) = file.rsplit_once('.').unwrap_or((file, "m4s"));
    let edge = |path: String| Request::get(format!("/edge/{stream}/{path}"));
    let (request, with): (_, &'static [u16]) = match by.noise.below(14) {
        0 => (Request::get(format!("/v/{s}/{folder}/b/{file}")), NOTHING),
        1 => (Request::get(format!("/v/{s}/b/{folder}/{file}")), NOTHING),
        2 => (Request::get(format!("/v/{s}/{folder}/{stem}.b.{kind}")), NOTHING),
        3 => (Request::get(format!("/v/{s}/{folder}/{stem}-b.{kind}")), NOTHING),
        4 => (Request::get(format!("/v/{s}/edge/{stream}/{folder}/b/{file}")), NOTHING),
        5 => (in_cookie(stream, &format!("{folder}/b/{file}"), &s), NOTHING),
        6 => (Request::get(format!("/v/{s}{}", by.noise.pick(&by.scene.cdn))), NOTHING),
        7 => (Request::get(format!("/v/{s}/video/WMPaceInfo/{newest}.m4s")), NOTHING),
        8 => (edge(format!("video/b/{newest}.m4s")).with("Cookie", format!("releve={s}")), DENIED),
        9 => (edge(format!("video/b/{newest}.m4s")).with("Authorization", format!("Bearer {s}")), DENIED),
        10 => (edge(format!("ts/b/{newest}.ts?s={s}")), DENIED),
        11 => (edge(format!("video/{newest}.m4s?token={}", by.own(0).token)), DENIED),
        12 => (Request::get(format!("/c/{stream}/edge/{stream}/video/b/{newest}.m4s")), DENIED),
        _ => (Request::get(format!("/v/{s}/video/{newest}.m4s/b")), NOTHING),
    };
    refused("another variant", &thing, request, with)
}

/// A good session opens nothing but GET and HEAD.
pub(super) fn methods(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let methods = ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get", "Get", "GETT"];
    let method = *by.noise.pick(&methods);
    refused("another method", &thing, Request::get(format!("/v/{s}/{p}{q}")).method(method), &[405])
}

/// One host, and one that is.
pub(super) fn hosts(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let hosts = *by.noise.pick(&[
        "Host: relay.example\r\nHost: relay.example\r\n",
        "Host: relay.example\r\nHost: evil.example\r\n",
        "",
        "Host: relay.example/v/x\r\n",
        "Host: user@relay.example\r\n",
        "Host: relay.example, evil.example\r\n",
        "Host: relay.example evil.example\r\n",
        "Host : relay.example\r\n",
        " Host: relay.example\r\n",
    ]);
    let raw = format!("GET /v/{s}/{p}{q} HTTP/1.1\r\n{hosts}\r\n");
    refused("hosts", &thing, Request::raw(raw), MALFORMED)
}

/// A request in a request: nothing behind one that may be read in two ways is answered.
pub(super) fn smuggled(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let field = *by.noise.pick(&[
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Content-Length: 3\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0, 0",
        "Content-Length: +0",
        "Content-Length: 00",
        "Content-Length: 5",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Expect: 100-continue",
        "X: a\nY: b",
        "X: a\r\n folded",
        "X: a\r\r\nY: b",
        "X\0: a",
        "X: a\0b",
        ": a",
        "X y: a",
        "X",
    ]);
    let good = format!("GET /v/{s}/{p}{q} HTTP/1.1\r\nHost: relay.example\r\n");
    let raw = format!("{good}{field}\r\n\r\n{good}\r\n");
    refused("a request in a request", &thing, Request::raw(raw), &[400, 417])
}

/// Lines that begin no request of HTTP/1.1. 505 is what another version is to be answered (RFC 9110 §15.6.6): no fault of the
/// relay's.
pub(super) fn versions(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (s, p, q) = parts(by, &thing);
    let target = format!("/v/{s}/{p}{q}");
    let line = match by.noise.below(10) {
        0 => format!("GET {target} HTTP/2.0\r\n"),
        1 => format!("GET {target} HTTP/1.2\r\n"),
        2 => format!("GET {target} HTTP/0.9\r\n"),
        3 => format!("GET {target} http/1.1\r\n"),
        4 => format!("GET {target}\r\n"),
        5 => format!("GET {target} HTTP/1.1 x\r\n"),
        6 => format!("GET\t{target} HTTP/1.1\r\n"),
        7 => format!("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET {target} HTTP/1.1\r\n"),
        8 => format!("\r\n\r\nGET {target} HTTP/1.1\r\n"),
        _ => "PRI * HTTP/2.0\r\n\r\nSM\r\n".to_owned(),
    };
    let raw = format!("{line}Host: relay.example\r\n\r\n");
    refused("another version", &thing, Request::raw(raw), &[400, 505])
}
