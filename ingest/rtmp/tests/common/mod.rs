//! A small publisher for the tests: writes what encoders write, and what they should not.
//!
//! In: what to say. Out: bytes. It knows the wire, not the server under test.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use bytes::BytesMut;
use rtmp::amf::Value;
use rtmp::chunk::{Writer, kind};
use rtmp::{Config, Error, Event, Session};

pub const KEY: &str = "s3cr3t-marker-key?token=t0k3n-marker";

/// Bytes a client sends; each method appends.
#[derive(Clone, Default)]
pub struct Wire {
    pub bytes: Vec<u8>,
    writer: Writer,
    /// Offsets behind each message.
    pub cuts: Vec<usize>,
}

impl Wire {
    /// Handshake done, nothing said.
    pub fn greeted() -> Self {
        let mut wire = Self::default();
        wire.raw(&[3]).raw(&[0; 8]).raw(&[0x11; 1528]).raw(&[0x22; 1536]);
        wire
    }

    /// Up to an accepted `createStream`.
    pub fn created() -> Self {
        let mut wire = Self::greeted();
        wire.connect("live").command(0, "createStream", 4.0, &[Value::Null]);
        wire
    }

    /// Up to `publish`, as ffmpeg says it.
    pub fn publishing() -> Self {
        let mut wire = Self::greeted();
        wire.connect("live")
            .command(0, "releaseStream", 2.0, &[Value::Null, Value::text(KEY)])
            .command(0, "FCPublish", 3.0, &[Value::Null, Value::text(KEY)])
            .command(0, "createStream", 4.0, &[Value::Null])
            .publish();
        wire
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn message(&mut self, csid: u8, kind: u8, stream: u32, time: u32, payload: &[u8]) -> &mut Self {
        let mut out = BytesMut::new();
        self.writer.write(&mut out, csid, kind, stream, time, payload);
        self.bytes.extend_from_slice(&out);
        self.cuts.push(self.bytes.len());
        self
    }

    pub fn command(&mut self, stream: u32, name: &str, transaction: f64, rest: &[Value]) -> &mut Self {
        let mut payload = Vec::new();
        Value::text(name).encode(&mut payload);
        Value::Number(transaction).encode(&mut payload);
        rest.iter().for_each(|value| value.encode(&mut payload));
        self.message(3, kind::COMMAND, stream, 0, &payload)
    }

    pub fn connect(&mut self, app: &str) -> &mut Self {
        let object = Value::Object(vec![
            ("app".into(), Value::text(app)),
            ("type".into(), Value::text("nonprivate")),
            ("flashVer".into(), Value::text("FMLE/3.0 (compatible; test)")),
            ("tcUrl".into(), Value::text("rtmp://127.0.0.1/live?u=url-marker")),
        ]);
        self.command(0, "connect", 1.0, &[object])
    }

    pub fn publish(&mut self) -> &mut Self {
        self.command(1, "publish", 5.0, &[Value::Null, Value::text(KEY), Value::text("live")])
    }

    pub fn chunk_size(&mut self, size: u32) -> &mut Self {
        self.message(2, kind::SET_CHUNK_SIZE, 0, 0, &size.to_be_bytes());
        self.writer.set_chunk_size(size & 0x7FFF_FFFF);
        self
    }

    /// Some seconds of media with metadata, as ffmpeg frames it.
    pub fn media(&mut self, frames: u32) -> &mut Self {
        let mut meta = Vec::new();
        Value::text("@setDataFrame").encode(&mut meta);
        Value::text("onMetaData").encode(&mut meta);
        Value::EcmaArray(vec![("width".into(), Value::Number(1280.0))]).encode(&mut meta);
        self.message(4, kind::DATA, 1, 0, &meta);
        for n in 0..frames {
            let video: Vec<u8> = (0..(n * 37) % 700 + 20).map(|i| (i * 7 + n) as u8).collect();
            self.message(6, kind::VIDEO, 1, n * 33, &video);
            self.message(4, kind::AUDIO, 1, n * 33 + 5, &[0xAF, 1, n as u8, 9]);
        }
        self
    }

    pub fn goodbye(&mut self) -> &mut Self {
        self.command(0, "FCUnpublish", 6.0, &[Value::Null, Value::text(KEY)]).command(
            0,
            "deleteStream",
            7.0,
            &[Value::Null, Value::Number(1.0)],
        )
    }
}

/// A server session at time 0.
pub fn session() -> Session {
    Session::new(Config::default(), 0, [7; 1528])
}

/// Feeds bytes, accepts publishes, and gives all events and output, or the error with them.
pub struct Run {
    pub session: Session,
    pub events: Vec<Event>,
    pub sent: Vec<u8>,
    pub result: Result<(), Error>,
}

pub fn run(wire: &Wire) -> Run {
    run_on(session(), &wire.bytes)
}

pub fn run_on(mut session: Session, bytes: &[u8]) -> Run {
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    let mut result = session.handle_input(1, bytes);
    loop {
        while let Some(out) = session.poll_transmit() {
            sent.extend_from_slice(&out);
        }
        while let Some(event) = session.poll_event() {
            if matches!(event, Event::Publish { .. }) {
                session.accept_publish();
            }
            events.push(event);
        }
        if result.is_ok() && session.poll_timeout().is_some_and(|at| at <= 1) {
            result = session.handle_timeout(1);
            continue;
        }
        while let Some(out) = session.poll_transmit() {
            sent.extend_from_slice(&out);
        }
        return Run { session, events, sent, result };
    }
}

/// What the server said after its handshake: (type, message stream, payload).
pub fn replies(sent: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    use rtmp::chunk::{Limits, Reader};
    let mut input = sent.get(3073..).unwrap_or(&[]);
    let mut reader = Reader::new(Limits { media_len_max: 1 << 20, budget: 1 << 20 }, 0, 0);
    let mut all = Vec::new();
    while let Some(message) = reader.next(&mut input).unwrap() {
        if message.kind == kind::SET_CHUNK_SIZE {
            reader.set_chunk_size(u32::from_be_bytes(message.payload[..].try_into().unwrap())).unwrap();
        }
        all.push((message.kind, message.stream_id, message.payload.to_vec()));
    }
    assert!(input.is_empty());
    all
}

/// Codes of all `onStatus`, `_result` and `_error` info objects, in order.
pub fn codes(sent: &[u8]) -> Vec<String> {
    let mut codes = Vec::new();
    for (kind, _, payload) in replies(sent) {
        let mut reader = rtmp::amf::Reader::new(&payload);
        while kind == kind::COMMAND && !reader.is_empty() {
            let value = reader.value().unwrap();
            codes.extend(value.get("code").and_then(Value::as_str).map(str::to_owned));
        }
    }
    codes
}

pub fn media(events: &[Event]) -> Vec<rtmp::Message> {
    let message = |event: &Event| match event {
        Event::Media(message) => Some(message.clone()),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
