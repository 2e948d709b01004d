//! Those who mean ill over HTTP/2: frames by hand, beside a viewer who must not notice.

use crate::common::http2::*;
use crate::common::secure::*;
use crate::common::stage::Stage;
use crate::common::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Frames by hand.
mod frames {
    pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A field, spelt out (RFC 7541 §6.2.2).
    fn field(block: &mut Vec<u8>, name: &str, value: &str) {
        block.push(0);
        for text in [name, value] {
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(mut rest) => {
                    block.push(127);
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text.as_bytes());
        }
    }

    pub(super) fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        let pseudo =
            [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        for (name, value) in pseudo.iter().chain(more) {
            field(&mut block, name, value);
        }
        block
    }

    pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields("GET", path, &[]))
    }
}

/// Sends bytes after the preface and our settings, and reads to the end: the code of the GOAWAY, if there was one, and how
/// many bytes came.
fn attack(address: SocketAddr, bytes: &[u8]) -> (Option<u32>, usize) {
    use frames::*;
    let mut wire = Secure::connect(address, &offering(&[b"h2"])).unwrap();
    let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), bytes].concat();
    for chunk in all.chunks(16 << 10) {
        if wire.stream.write_all(chunk).and_then(|()| wire.stream.flush()).is_err() {
            break;
        }
    }
    let mut said = Vec::new();
    let _ = wire.stream.read_to_end(&mut said);
    let (mut at, mut code) = (0, None);
    while let Some(head) = said.get(at..at + 9) {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == GOAWAY
            && let Some(payload) = said.get(at + 9..at + 17)
        {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        at += 9 + len;
    }
    (code, said.len())
}

/// How a connection may end: with one of these codes, or without a word.
type Codes = [Option<u32>];

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn those_who_mean_ill_are_let_go_and_harm_nobody() {
    use frames::*;
    let stage = Stage::with(Show::sized("demo", 0..3, 20_000), |config| {
        config.http2 = true;
        config.limits.idle_patience = Duration::from_millis(700);
        config.limits.write_patience = Duration::from_millis(700);
    })
    .await;
    let session = stage.enter("alice").await;
    let (segment, playlist) = (format!("{session}/video/1.m4s"), format!("{session}/video.m3u8"));
    let watching = tokio::spawn({
        let (viewer, segment) = (Viewer::connect(stage.address()).await, segment.clone());
        async move {
            for _ in 0..200 {
                assert!(viewer.get(&segment).await.body == copy_for(&marked(1, 20_000), "alice"));
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let streams = || (0..20_000u32).map(|number| 2 * number + 1);
    let waiting = format!("{session}/video.m3u8?_HLS_msn=3");
    let rapid = |path: &str| -> Vec<u8> {
        streams().flat_map(|stream| [get(stream, path), reset(stream)].concat()).collect()
    };
    let flood = |one: Vec<u8>| one.repeat(50_000);
    let head = fields("GET", &playlist, &[]);
    let endless =
        [frame(HEADERS, END_STREAM, 1, &head), frame(CONTINUATION, 0, 1, &[0; 16 << 10]).repeat(200)]
            .concat();
    let many: Vec<(&str, String)> = (0..300).map(|_| ("x-long", "y".repeat(110))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let calm = Some(ENHANCE_YOUR_CALM);
    let calmed = [calm, None];
    let closed = [
        None,
        Some(PROTOCOL_ERROR),
        Some(FRAME_SIZE_ERROR),
        Some(FLOW_CONTROL_ERROR),
        Some(COMPRESSION_ERROR),
        calm,
        Some(0),
    ];
    // Who is still sending when the connection is closed may not see why.
    let broken = &closed[..6];
    let attacks: Vec<(&str, Vec<u8>, &Codes)> = vec![
        ("rapid reset of what is at hand", rapid(&segment), &calmed),
        ("rapid reset of what waits", rapid(&waiting), &calmed),
        ("rapid reset of what is refused", rapid("/v/none/video.m3u8"), &calmed),
        ("a head without end", endless, broken),
        (
            "more streams than may be",
            streams().take(500).flat_map(|stream| get(stream, &waiting)).collect(),
            &closed,
        ),
        ("a head that is too long", frame(HEADERS, 5, 1, &fields("GET", &playlist, &many[..140])), &closed),
        ("a stream of even number", get(2, &playlist), broken),
        ("data on no stream", frame(DATA, 0, 0, b"x"), broken),
        ("data nobody asked for", frame(DATA, 0, 7, b"x"), broken),
        ("a window that does not open", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), broken),
        ("a window beyond all", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]).repeat(2), broken),
        ("settings of no length", frame(SETTINGS, 0, 0, &[0; 5]), broken),
        ("a frame longer than may be", frame(HEADERS, 5, 1, &vec![0; 17 << 10]), broken),
        ("what is no header block", frame(HEADERS, 5, 1, &[0xff; 40]), broken),
        ("a flood of pings", flood(frame(PING, 0, 0, &[7; 8])), &closed),
        ("a flood of settings", flood(frame(SETTINGS, 0, 0, &[])), &closed),
        (
            "a body",
            [
                frame(HEADERS, END_HEADERS, 1, &fields("POST", &segment, &[])),
                frame(DATA, 0, 1, &[0; 9000]).repeat(40),
            ]
            .concat(),
            &closed,
        ),
        (
            "a window of nothing",
            [frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), get(1, &segment), get(3, &segment)].concat(),
            &closed,
        ),
        ("nothing", Vec::new(), &closed),
    ];
    let mut under_way = Vec::new();
    for (what, bytes, wanted) in attacks {
        let (address, wanted) = (stage.address(), wanted.to_vec());
        let attacking = tokio::task::spawn_blocking(move || attack(address, &bytes));
        under_way.push((what, wanted, attacking));
    }
    let mut wrong = Vec::new();
    for (what, wanted, attacking) in under_way {
        let (code, came) = timeout(Duration::from_secs(30), attacking).await.expect(what).unwrap();
        if !wanted.contains(&code) || came > 3 << 20 {
            wrong.push((what, code, came));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // What is no HTTP/2 at all.
    let address = stage.address();
    let said = tokio::task::spawn_blocking(move || {
        let mut wire = Secure::connect(address, &offering(&[b"h2"])).unwrap();
        wire.send("GET / HTTP/1.1\r\nhost: relay\r\n\r\n");
        let mut said = Vec::new();
        let _ = wire.stream.read_to_end(&mut said);
        said
    });
    assert!(said.await.unwrap().len() < 100);
    watching.await.unwrap();
    assert!(stage.ended("abuse") >= 2.0, "{}", stage.ended("abuse"));
    stage.nobody_is_there().await;
    assert_eq!(stage.relay.metric("releve_relay_http2_connections"), Some(0.0));
    assert_eq!(Viewer::connect(stage.address()).await.get(&playlist).await.status, 200);
}
