//! Entry points of the fuzz targets: each takes any bytes, returns nothing, and asserts what must
//! hold for all of them. The corpus replay test calls the same functions.
//!
//! What is asserted: no panic; memory within the budget; the cut of the input into calls does not
//! show; a snapshot and restore after every call does not show. What is not tried: timing.

use bytes::BytesMut;

use crate::amf::{Reader as AmfReader, Value};
use crate::chunk::{Limits, Raw, Reader, Writer, kind};
use crate::{Config, Error, Event, Reject, Session, command, media};

/// Small, so that few bytes reach it.
const BUDGET: u32 = 64 * 1024;
/// What a session holds beside its budget: headers, names, the handshake, and room for growth.
const OVERHEAD: usize = 64 * 1024;

/// Everything a session gave for one input.
#[derive(Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Bytes to the peer.
    pub sent: Vec<u8>,
    /// Events.
    pub events: Vec<Event>,
    /// How it ended, if it did.
    pub error: Option<Error>,
}

/// Runs `input` through a session in pieces of the given lengths (the last one repeats; 0 counts
/// as 1). Publishes are accepted, or refused if `refuse`. With `restore`, the session is replaced
/// by its restored snapshot after every call.
pub fn drive(
    config: &Config,
    input: &[u8],
    pieces: impl IntoIterator<Item = usize>,
    restore: bool,
    refuse: bool,
) -> Transcript {
    let mut session = Session::new(config.clone(), 0, [0x5A; 1528]);
    let mut transcript = Transcript { sent: Vec::new(), events: Vec::new(), error: None };
    let (mut rest, mut pieces, mut piece) = (input, pieces.into_iter(), 1);
    while !rest.is_empty() && transcript.error.is_none() {
        piece = pieces.next().unwrap_or(piece).clamp(1, rest.len());
        let (now, later) = rest.split_at(piece);
        rest = later;
        let mut result = session.handle_input(1, now);
        loop {
            drain(&mut session, &mut transcript, refuse);
            assert!(session.memory() <= config.budget as usize + OVERHEAD, "{}", session.memory());
            if restore {
                let snapshot = session.snapshot();
                session = Session::restore(&snapshot).expect("our own snapshot is readable");
                assert!(session.snapshot() == snapshot, "a restored session has the same snapshot");
            }
            let at_once = session.poll_timeout().is_some_and(|at| at <= 1);
            if result.is_err() || !at_once {
                break;
            }
            result = session.handle_timeout(1);
        }
        transcript.error = result.err();
    }
    if transcript.error.is_some() {
        assert_eq!(session.handle_input(1, b"more"), Err(Error::Closed));
        assert_eq!(session.poll_event(), None);
    }
    transcript
}

fn drain(session: &mut Session, transcript: &mut Transcript, refuse: bool) {
    loop {
        while let Some(bytes) = session.poll_transmit() {
            transcript.sent.extend_from_slice(&bytes);
        }
        let Some(event) = session.poll_event() else { break };
        let publish = matches!(event, Event::Publish { .. });
        transcript.events.push(event);
        if publish && refuse {
            session.reject_publish(Reject::BadName);
        } else if publish {
            session.accept_publish();
        }
    }
}

/// What a client sends up to `publish`: simple handshake, `connect`, `createStream`, `publish`.
pub fn prelude() -> Vec<u8> {
    let mut out = BytesMut::from([&[3u8], [0; 3072].as_slice()].concat().as_slice());
    let writer = Writer::default();
    let mut command = |stream_id: u32, values: &[Value]| {
        let mut payload = Vec::new();
        values.iter().for_each(|value| value.encode(&mut payload));
        writer.write(&mut out, 3, kind::COMMAND, stream_id, 0, &payload);
    };
    let app = Value::Object(vec![("app".to_owned(), Value::text("live"))]);
    command(0, &[Value::text("connect"), Value::Number(1.0), app]);
    command(0, &[Value::text("createStream"), Value::Number(2.0), Value::Null]);
    let publish = [Value::text("publish"), Value::Number(3.0), Value::Null, Value::text("key")];
    command(1, &publish);
    out.to_vec()
}

/// A session: the first byte says what comes before the rest (nothing; handshake; all up to
/// `publish`) and how publishes are answered, the second seeds the cut.
pub fn session(data: &[u8]) {
    let [mode, seed, rest @ ..] = data else { return };
    let prelude = match mode % 3 {
        0 => Vec::new(),
        1 => [&[3u8], [0; 3072].as_slice()].concat(),
        _ => prelude(),
    };
    let input = [prelude.as_slice(), rest].concat();
    let refuse = mode & 0x80 != 0;
    let config = Config { budget: BUDGET, media_len_max: BUDGET / 2, ..Config::default() };
    let whole = drive(&config, &input, [input.len()], false, refuse);
    let cut = drive(&config, &input, pieces(*seed, prelude.len()), true, refuse);
    assert!(whole == cut, "the cut of the input shows: {whole:?} became {cut:?}");
    // A snapshot is not trusted either.
    let _ = Session::restore(rest);
}

/// The prelude in one piece, then lengths from 1 to 64 by a small generator.
fn pieces(seed: u8, first: usize) -> impl Iterator<Item = usize> {
    let mut state = u32::from(seed) | 0x100;
    std::iter::once(first.max(1)).chain(std::iter::from_fn(move || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        Some(1 + (state >> 16) as usize % 64)
    }))
}

/// The chunk layer alone: whole input against single bytes.
pub fn chunk(data: &[u8]) {
    let whole = chunks(data, data.len().max(1));
    let cut = chunks(data, 1);
    assert!(whole == cut, "the cut of the input shows");
}

fn chunks(data: &[u8], piece: usize) -> (Vec<Raw>, Option<Error>) {
    let limits = Limits { media_len_max: BUDGET / 2, budget: BUDGET };
    let mut reader = Reader::new(limits, 0, 0);
    let mut messages = Vec::new();
    for mut input in data.chunks(piece) {
        loop {
            match reader.next(&mut input) {
                Err(error) => return (messages, Some(error)),
                Ok(None) => break,
                Ok(Some(message)) => {
                    let size = message.payload.first_chunk().map_or(128, |n| u32::from_be_bytes(*n));
                    match message.kind {
                        kind::SET_CHUNK_SIZE if reader.set_chunk_size(size).is_err() => {
                            return (messages, None);
                        }
                        kind::ABORT => reader.abort(size),
                        _ => {}
                    }
                    messages.push(message);
                }
            }
        }
        assert!(input.is_empty(), "None means that all is read");
        assert!(reader.charged() <= u64::from(BUDGET));
        assert!(reader.memory() <= BUDGET as usize + OVERHEAD, "{}", reader.memory());
    }
    (messages, None)
}

/// AMF0 values, commands and aggregates: read, and what was read survives a round trip.
pub fn amf(data: &[u8]) {
    let mut reader = AmfReader::new(data);
    while !reader.is_empty() {
        let before = reader.position();
        let Ok(value) = reader.value() else { break };
        assert!(reader.position() > before, "a value has at least one byte");
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        value.encode(&mut bytes);
        let read = AmfReader::new(&bytes).value().expect("what we write is readable");
        read.encode(&mut again);
        assert!(bytes == again, "a value changes in a round trip");
    }
    let _ = command::parse(data);
    let mut parts = media::Aggregate::new(bytes::Bytes::copy_from_slice(data), 0);
    while let Ok(Some(part)) = parts.next() {
        assert!(part.payload.len() + 15 <= data.len());
    }
}
