//! What a stranger may try: each test is one attack that ended or hurt another RTMP server. The
//! answer is always an error with its own variant, in bounded memory, after bounded work.

use crate::common::{KEY, Wire, contains, run, run_on, session};
use rtmp::amf::{AmfError, Value};
use rtmp::chunk::kind;
use rtmp::{Config, Error, Session, Stage, limits};

/// A `connect` whose first argument is these AMF0 bytes.
fn connect_with(argument: &[u8]) -> Wire {
    let mut payload = Vec::new();
    Value::text("connect").encode(&mut payload);
    Value::Number(1.0).encode(&mut payload);
    payload.extend_from_slice(argument);
    let mut wire = Wire::greeted();
    wire.chunk_size(1 << 20).message(3, kind::COMMAND, 0, 0, &payload);
    wire
}

#[test]
fn strict_array_with_4_billion_elements() {
    let run = run(&connect_with(b"\x0a\xff\xff\xff\xff"));
    assert!(matches!(run.result, Err(Error::Amf(AmfError::Truncated { .. }))));
    assert!(contains(&run.sent, b"NetConnection.Connect.Rejected"));
}

#[test]
fn ecma_array_with_4_billion_properties() {
    let run = run(&connect_with(b"\x08\xff\xff\xff\xff"));
    assert!(matches!(run.result, Err(Error::Amf(AmfError::Truncated { .. }))));
}

#[test]
fn nested_arrays_300_000_deep() {
    let nested = b"\x0a\0\0\0\x01".repeat(300_000);
    let too_long = run(&connect_with(&nested));
    assert!(matches!(too_long.result, Err(Error::MessageLength { kind: 20, .. })));
    let in_length = run(&connect_with(&nested[..60_000]));
    assert!(matches!(in_length.result, Err(Error::Amf(AmfError::Depth { max: 16, .. }))));
}

#[test]
fn nested_objects_300_000_deep() {
    let nested = b"\x03\0\x01a".repeat(300_000);
    let too_long = run(&connect_with(&nested));
    assert!(matches!(too_long.result, Err(Error::MessageLength { kind: 20, .. })));
    let in_length = run(&connect_with(&nested[..60_000]));
    assert!(matches!(in_length.result, Err(Error::Amf(AmfError::Depth { max: 16, .. }))));
}

#[test]
fn shorter_message_on_another_chunk_stream_in_the_middle_of_one() {
    let mut wire = Wire::publishing();
    wire.raw(&[6, 0, 0, 1, 0, 0, 200, 9, 1, 0, 0, 0]).raw(&[1; 128]);
    wire.raw(&[4, 0, 0, 2, 0, 0, 3, 8, 1, 0, 0, 0]).raw(&[2; 3]);
    wire.raw(&[0xC6]).raw(&[1; 72]);
    let run = run(&wire);
    assert_eq!(run.result, Ok(()));
    let media = crate::common::media(&run.events);
    assert_eq!(media.iter().map(|m| m.payload.len()).collect::<Vec<_>>(), [3, 200]);
    assert!(media[1].payload.iter().all(|&byte| byte == 1));
}

#[test]
fn window_acknowledgement_size_0() {
    let run = run(Wire::greeted().message(2, kind::WINDOW_ACK_SIZE, 0, 0, &[0; 4]));
    assert_eq!(run.result, Err(Error::WindowZero));
}

#[test]
fn window_acknowledgement_size_1_costs_no_more_than_the_smallest_window() {
    let mut wire = Wire::publishing();
    wire.message(2, kind::WINDOW_ACK_SIZE, 0, 0, &[0, 0, 0, 1]);
    let run = run(wire.chunk_size(1 << 20).message(6, kind::VIDEO, 1, 0, &[0; 1 << 20]));
    assert!(run.sent.len() < 3073 + 1024 + 257 * 16, "{}", run.sent.len());
}

#[test]
fn hundred_chunk_streams_with_4_megabytes_each_never_finished() {
    let mut wire = Wire::publishing();
    for csid in 10..60u8 {
        wire.raw(&[csid, 0, 0, 0, 0x40, 0, 0, 9, 1, 0, 0, 0]).raw(&[0; 128]);
    }
    let run = run(&wire);
    assert!(matches!(run.result, Err(Error::Budget { budget: 16_777_216, .. })), "{:?}", run.result);
    assert!(run.session.memory() < 256 * 1024, "memory follows what came: {}", run.session.memory());
}

#[test]
fn connection_that_ends_inside_the_handshake() {
    let mut session = session();
    session.handle_input(0, &Wire::greeted().bytes[..1500]).unwrap();
    for _ in 0..10 {
        session.handle_input(0, &[]).unwrap();
        assert_eq!((session.poll_event(), session.poll_transmit()), (None, None));
    }
    assert_eq!(session.poll_timeout(), Some(10_000), "nothing asks to be called again before");
}

#[test]
fn object_with_150_000_keys() {
    let mut object = vec![3];
    (0..150_000u32).for_each(|n| object.extend([0, 4, b'a', b'b', b'c', (n % 100) as u8 + 20, 5]));
    let too_long = run(&connect_with(&object));
    assert!(matches!(too_long.result, Err(Error::MessageLength { .. })));
    let in_length = run(&connect_with(&object[..60_000]));
    assert!(matches!(in_length.result, Err(Error::Amf(AmfError::Nodes { max: 1024, .. }))));
}

#[test]
fn announced_16_megabytes_then_silence() {
    for kind in [kind::COMMAND, kind::VIDEO, kind::SET_CHUNK_SIZE, 77] {
        let run = run(Wire::publishing().raw(&[6, 0, 0, 0, 0xff, 0xff, 0xff, kind, 1, 0, 0, 0, 1]));
        assert!(matches!(run.result, Err(Error::MessageLength { len: 0xff_ffff, .. })));
        assert!(run.session.memory() < 64 * 1024);
    }
    let run = run(Wire::publishing().raw(&[6, 0, 0, 0, 0x70, 0, 0, 9, 1, 0, 0, 0, 1]));
    assert_eq!(run.result, Ok(()));
    assert!(run.session.memory() < 64 * 1024, "7 MB announced, 1 byte came");
}

#[test]
fn chunk_size_bombs() {
    for size in [0, 0x8000_0000, 0xFFFF_FFFF] {
        let run = run(Wire::greeted().message(2, kind::SET_CHUNK_SIZE, 0, 0, &u32::to_be_bytes(size)));
        assert_eq!(run.result, Err(Error::ChunkSize { size }));
    }
    for size in [0x7FFF_FFFF, 134_217_728] {
        let mut wire = Wire::publishing();
        let run = run(wire.chunk_size(size).message(6, kind::VIDEO, 1, 0, &[5; 100_000]));
        assert_eq!((run.result, crate::common::media(&run.events).len()), (Ok(()), 1));
        assert!(run.session.memory() < 64 * 1024);
    }
}

#[test]
fn one_byte_chunks() {
    let mut wire = Wire::publishing();
    let run = run(wire.chunk_size(1).message(6, kind::VIDEO, 1, 0, &[0; 4 << 20]));
    assert!(matches!(run.result, Err(Error::ChunkWork { at }) if at < 100_000), "{:?}", run.result);
    assert_eq!(run.result.unwrap_err().reason(), "chunk-work");
}

#[test]
fn empty_messages_and_ping_floods() {
    let empty = run(Wire::publishing().message(6, kind::VIDEO, 1, 0, &[]).raw(&[0xC6; 100_000]));
    assert!(matches!(empty.result, Err(Error::ChunkWork { .. })));
    assert!(empty.events.len() < 17_000);
    let mut wire = Wire::created();
    wire.message(2, kind::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]);
    wire.raw(&b"\xC2\0\x06\x01\x02\x03\x04".repeat(10_000));
    let pings = run(&wire);
    assert!(matches!(pings.result, Err(Error::ChunkWork { .. })));
    assert!(pings.sent.len() < 16 * 1024, "{}", pings.sent.len());
}

#[test]
fn all_65_599_chunk_streams_with_one_byte_each() {
    let mut wire = Wire::publishing();
    wire.chunk_size(1);
    for id in 0..65_535u16 {
        let [low, high] = id.to_le_bytes();
        wire.raw(&[1, low, high, 0, 0, 0, 0, 0, 9, 9, 1, 0, 0, 0, 1]);
    }
    let partial = run(&wire);
    assert!(matches!(partial.result, Err(Error::PartialMessages { max: 16, .. })));
    let mut wire = Wire::publishing();
    for id in 0..65_535u16 {
        let [low, high] = id.to_le_bytes();
        wire.raw(&[1, low, high, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 1]);
    }
    let finished = run(&wire);
    assert!(matches!(finished.result, Err(Error::ChunkStreams { max: 64, .. })));
}

#[test]
fn abort_frees_the_place_and_the_budget() {
    let mut wire = Wire::publishing();
    for round in 0..100u8 {
        let csid = 10 + round % 40;
        wire.raw(&[csid, 0, 0, 0, 0x40, 0, 0, 9, 1, 0, 0, 0]).raw(&[0; 128]);
        wire.message(2, kind::ABORT, 0, 0, &u32::from(csid).to_be_bytes());
    }
    wire.message(2, kind::ABORT, 0, 0, &9999u32.to_be_bytes());
    let run = run(wire.message(6, kind::VIDEO, 1, 7, b"whole"));
    assert_eq!((run.result, crate::common::media(&run.events).len()), (Ok(()), 1));
    assert!(run.session.memory() < 64 * 1024);
}

#[test]
fn strings_that_lie_references_amf3_and_numbers_that_are_none() {
    let amf = |argument: &[u8]| run(&connect_with(argument)).result.unwrap_err();
    assert!(matches!(amf(b"\x02\xff\xffabc"), Error::Amf(AmfError::Truncated { .. })));
    assert!(matches!(amf(b"\x07\0\x63"), Error::Amf(AmfError::Marker { marker: 7, .. })));
    assert!(matches!(amf(b"\x11\x04\xff\xff\xff\xff"), Error::Amf(AmfError::Marker { .. })));
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let run = run(Wire::created().command(0, "createStream", number, &[Value::Null]));
        assert_eq!(run.result, Err(Error::Transaction { command: "createStream" }));
    }
    for id in [f64::NAN, -1.0, 1e300, 4_294_967_296.0, 31.0, 32.0] {
        let run = run(Wire::publishing().command(0, "deleteStream", 0.0, &[Value::Null, Value::Number(id)]));
        assert_eq!((run.result, run.session.stage()), (Ok(()), Stage::Publishing));
    }
}

#[test]
fn handshake_stalls_and_other_protocols() {
    let mut session = session();
    for second in 0..10 {
        session.handle_input(second * 1000, &[3]).unwrap();
        assert!(session.memory() < 8192);
    }
    let late = Err(Error::PublishDeadline { stage: Stage::Handshake, limit_ms: 10_000 });
    assert_eq!(session.handle_input(10_000, &[3]), late);
    assert_eq!(run_on(crate::common::session(), b"GET / HTTP/1.1\r\n\r\n").result, Err(Error::Http));
    assert_eq!(run_on(crate::common::session(), b"\x16\x03\x01\x02\x00").result, Err(Error::Tls));
    assert_eq!(run_on(crate::common::session(), b"\x06").result, Err(Error::Version { version: 6 }));
}

#[test]
fn names_of_4096_bytes() {
    let long = "n".repeat(4096);
    for property in ["app", "tcUrl", "flashVer"] {
        let mut pairs = vec![(property.to_owned(), Value::text(&long))];
        pairs.push(("app".to_owned(), Value::text("live")));
        let run = run(Wire::greeted().command(0, "connect", 1.0, &[Value::Object(pairs)]));
        let error = run.result.unwrap_err();
        assert!(matches!(error, Error::NameLength { what, len: 4096, .. } if what == property));
        assert!(contains(&run.sent, b"NetConnection.Connect.Rejected"));
    }
    let run = run(Wire::created().command(1, "publish", 5.0, &[Value::Null, Value::text(&long)]));
    assert!(matches!(run.result, Err(Error::NameLength { len: 4096, max: limits::KEY_LEN_MAX, .. })));
    assert!(contains(&run.sent, b"NetStream.Publish.BadName"));
}

#[test]
fn create_stream_without_end() {
    let mut wire = Wire::created();
    for n in 0..limits::CREATED_STREAMS_MAX {
        wire.command(0, "createStream", f64::from(n) + 10.0, &[Value::Null]);
    }
    assert_eq!(run(&wire).result, Err(Error::CreatedStreams { max: 16 }));
}

#[test]
fn timestamps_that_jump_go_back_and_wrap() {
    let mut wire = Wire::publishing();
    for time in [0, 36_000_000, 35_999_999, 0xFF_FFFF, 0xFFFF_FFFF, 5] {
        wire.message(6, kind::VIDEO, 1, time, b"v");
    }
    // Delta 0xFFFF_FFFF is one back.
    wire.raw(&[0x86, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).raw(b"w");
    let times: Vec<u32> = crate::common::media(&run(&wire).events).iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [0, 36_000_000, 35_999_999, 0xFF_FFFF, 0xFFFF_FFFF, 5, 4]);
    let cut = run(Wire::publishing().raw(&[6, 0xff, 0xff, 0xff, 0, 0, 1, 9, 1, 0, 0, 0, 1]));
    assert_eq!((cut.result, crate::common::media(&cut.events).len()), (Ok(()), 0), "waits for the field");
}

#[test]
fn four_thousand_random_streams_after_the_handshake() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let publishing = Wire::publishing();
    for round in 0..4000 {
        let head = if round % 2 == 0 { &Wire::greeted().bytes } else { &publishing.bytes };
        let mut bytes = head.clone();
        (0..random() % 2000).for_each(|_| bytes.push(random() as u8));
        let config = Config { budget: 1 << 20, media_len_max: 1 << 19, ..Config::default() };
        let run = run_on(Session::new(config, 0, [0; 1528]), &bytes);
        assert!(run.session.memory() <= (1 << 20) + 64 * 1024);
        assert!(!format!("{:?} {:?}", run.result, run.events).contains(KEY));
    }
}
