//! Traps that other RTMP implementations fell into, one test for each, named after it.

use crate::common::{Wire, codes, media, replies, run, session};
use rtmp::amf::Value;
use rtmp::chunk::kind;
use rtmp::{Error, Event, Stage};

#[test]
fn message_length_minus_received_never_underflows() {
    // rtmp, rml_rtmp: a shorter header on the same chunk stream in the middle of a message.
    let mut wire = Wire::publishing();
    wire.raw(&[6, 0, 0, 0, 0, 1, 0, 9, 1, 0, 0, 0]).raw(&[1; 128]);
    let at = wire.bytes.len() as u64;
    wire.raw(&[0x46, 0, 0, 0, 0, 0, 10, 9]).raw(&[1; 10]);
    assert_eq!(run(&wire).result, Err(Error::HeaderInsideMessage { csid: 6, fmt: 1, at }));
}

#[test]
fn every_chunk_stream_has_its_own_message() {
    // rtmp, rml_rtmp: one payload buffer for all chunk stream ids.
    let mut wire = Wire::publishing();
    wire.raw(&[6, 0, 0, 1, 0, 1, 0, 9, 1, 0, 0, 0]).raw(&[6; 128]);
    wire.raw(&[4, 0, 0, 2, 0, 1, 0, 8, 1, 0, 0, 0]).raw(&[4; 128]);
    wire.raw(&[0xC6]).raw(&[6; 128]).raw(&[0xC4]).raw(&[4; 128]);
    let got = media(&run(&wire).events);
    assert!(got[0].payload == vec![6; 256] && got[1].payload == vec![4; 256]);
}

#[test]
fn wire_counts_reserve_nothing_and_recursion_has_a_floor() {
    // rtmp (xflv), scuffle-amf0: with_capacity(u32 from the wire); rml_amf0: unbounded recursion.
    for bytes in
        [b"\x0a\xff\xff\xff\xff".as_slice(), b"\x08\xff\xff\xff\xff", &b"\x0a\0\0\0\x01".repeat(9000)]
    {
        assert!(rtmp::amf::Reader::new(bytes).value().is_err());
    }
}

#[test]
fn reading_amf_does_not_copy_what_is_left() {
    // rtmp (bytesio): the remaining buffer was cloned on every look. Strings are borrowed here.
    let mut payload = Vec::new();
    Value::text("name").encode(&mut payload);
    let text = rtmp::amf::Reader::new(&payload).string().unwrap();
    assert!(std::ptr::eq(text.as_ptr(), payload[3..].as_ptr()));
}

#[test]
fn silence_after_connect_is_not_cut_before_the_deadline() {
    // rtmp cut at 2.0 s, scuffle-rtmp at 2.5 s.
    let mut session = session();
    session.handle_input(0, &Wire::greeted().connect("live").bytes).unwrap();
    session.handle_timeout(9_999).unwrap();
    assert!(session.handle_timeout(10_000).is_err());
}

#[test]
fn a_shell_that_answers_late_or_twice_or_never_breaks_nothing() {
    // rtmp: unwrap on the hub's answer.
    let mut session = session();
    session.accept_publish();
    session.reject_publish(rtmp::Reject::BadName);
    assert_eq!((session.stage(), session.poll_transmit()), (Stage::Handshake, None));
    session.handle_input(0, &Wire::publishing().bytes).unwrap();
    session.accept_publish();
    let _ = session.poll_transmit();
    session.accept_publish();
    session.reject_publish(rtmp::Reject::InUse);
    assert_eq!((session.stage(), session.poll_transmit()), (Stage::Publishing, None));
}

#[test]
fn extended_timestamp_arithmetic_wraps() {
    // rml_rtmp: `timestamp - 16777215` underflows.
    let mut wire = Wire::publishing();
    wire.raw(&[6, 0xff, 0xff, 0xff, 0, 0, 1, 9, 1, 0, 0, 0, 0, 0, 0, 5, 1]);
    wire.raw(&[0x86, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]);
    let times: Vec<u32> = media(&run(&wire).events).iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [5, 4]);
}

#[test]
fn acknowledgement_is_the_total_and_not_since_the_last() {
    // rml_rtmp; rtmp sends none at all.
    let mut wire = Wire::publishing();
    wire.message(2, kind::WINDOW_ACK_SIZE, 0, 0, &8192u32.to_be_bytes());
    let base = wire.bytes.len() as u32;
    let run = run(wire.media(60));
    let acks: Vec<u32> = replies(&run.sent)
        .into_iter()
        .filter(|reply| reply.0 == kind::ACKNOWLEDGEMENT)
        .map(|reply| u32::from_be_bytes(reply.2.try_into().unwrap()))
        .collect();
    assert!(acks.len() >= 2);
    assert!(acks.iter().enumerate().all(|(n, ack)| *ack == base + 8192 * (n as u32 + 1)), "{acks:?}");
}

#[test]
fn short_protocol_messages_are_errors() {
    // rml_rtmp: "range end index 3".
    for kind in 1..=6 {
        let run = run(Wire::greeted().message(2, kind, 0, 0, &[0]));
        assert!(matches!(run.result, Err(Error::ControlShort { len: 1, .. })), "type {kind}");
    }
}

#[test]
fn connect_create_stream_and_publish_in_one_read() {
    // rml_rtmp never reached publish.
    let run = run(&Wire::publishing());
    assert!(matches!(run.events.as_slice(), [Event::Connect { .. }, Event::Publish { .. }]));
    assert_eq!(codes(&run.sent), ["NetConnection.Connect.Success", "NetStream.Publish.Start"]);
}

#[test]
fn end_of_input_does_not_spin() {
    // scuffle-rtmp: a loop that ignored a read of 0 bytes.
    let mut session = session();
    session.handle_input(0, &[]).unwrap();
    assert_eq!((session.poll_transmit(), session.poll_event()), (None, None));
    assert_eq!(session.poll_timeout(), Some(10_000));
}

#[test]
fn window_of_zero_divides_nothing() {
    // scuffle-rtmp: `% window`.
    let run = run(Wire::publishing().message(2, kind::WINDOW_ACK_SIZE, 0, 0, &[0; 4]));
    assert_eq!(run.result, Err(Error::WindowZero));
}

#[test]
fn everything_we_say_is_chunked_and_streams_are_counted() {
    // scuffle-rtmp: a command without chunk framing; createStream always answered 1.
    let mut wire = Wire::created();
    wire.command(0, "createStream", 8.0, &[Value::Null]);
    let all = replies(&run(&wire).sent);
    let number = |payload: &[u8]| f64::from_be_bytes(payload[payload.len() - 8..].try_into().unwrap());
    assert_eq!((number(&all[4].2), number(&all[5].2)), (1.0, 2.0));
    let small = rtmp::Config { chunk_size_out: 1, ..rtmp::Config::default() };
    let mut session = rtmp::Session::new(small, 0, [0; 1528]);
    session.handle_input(0, &wire.bytes).unwrap();
    assert_eq!(replies(&session.poll_transmit().unwrap()).len(), all.len());
}

#[test]
fn type_3_begins_a_new_message_with_the_delta_added() {
    // scuffle-rtmp: the delta was not applied again.
    let mut wire = Wire::publishing();
    wire.raw(&[6, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 1]).raw(&[0x86, 0, 0, 40, 2]).raw(&[0xC6, 3, 0xC6, 4]);
    let times: Vec<u32> = media(&run(&wire).events).iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [0, 40, 80, 120]);
}

#[test]
fn five_partial_messages_at_once_are_fine() {
    // scuffle-rtmp: a cap of 4.
    let mut wire = Wire::publishing();
    for csid in 10..26 {
        wire.raw(&[csid, 0, 0, 0, 0, 0, 129, 9, 1, 0, 0, 0]).raw(&[csid; 128]);
    }
    for csid in 10..26u8 {
        wire.raw(&[0xC0 | csid, csid]);
    }
    assert_eq!(media(&run(&wire).events).len(), 16);
}

#[test]
fn chunk_stream_ids_and_their_total_are_bounded() {
    // rtmp-rs: any id creates state, the announced length is reserved at once, no total.
    let mut wire = Wire::publishing();
    for csid in 10..14 {
        wire.raw(&[csid, 0, 0, 0, 0x50, 0, 0, 9, 1, 0, 0, 0]).raw(&[csid; 128]);
    }
    let run = run(&wire);
    assert!(matches!(run.result, Err(Error::Budget { .. })));
    assert!(run.session.memory() < 64 * 1024);
}

#[test]
fn a_chunk_that_ends_no_message_does_not_hide_the_next() {
    // rtmp-rs: `None` meant both "need bytes" and "chunk eaten".
    let run = run(Wire::publishing().message(6, kind::VIDEO, 1, 0, &[1; 1000]).media(1));
    assert_eq!(media(&run.events).len(), 4);
}

#[test]
fn set_chunk_size_is_in_force_for_the_next_byte_of_the_same_read() {
    // rtmp-runtime's public `push`.
    let mut wire = Wire::publishing();
    wire.chunk_size(200).message(6, kind::VIDEO, 1, 0, &[1; 500]);
    wire.chunk_size(1).message(6, kind::VIDEO, 1, 0, &[2; 5]);
    wire.chunk_size(9000).message(6, kind::VIDEO, 1, 0, &[3; 9500]);
    let lengths: Vec<usize> = media(&run(&wire).events).iter().map(|message| message.payload.len()).collect();
    assert_eq!(lengths, [500, 5, 9500]);
}

#[test]
fn a_partial_payload_is_not_copied_for_every_chunk() {
    // shiguredo_rtmp: quadratic. Memory of an unfinished message follows what came, at most twice.
    let mut wire = Wire::publishing();
    wire.message(6, kind::VIDEO, 1, 0, &vec![1; 1 << 20]);
    let mut session = session();
    session.handle_input(0, &wire.bytes[..4000]).unwrap();
    while session.poll_event().is_some() {}
    session.accept_publish();
    session.handle_timeout(0).unwrap();
    for piece in wire.bytes[4000..700_000].chunks(1000) {
        session.handle_input(0, piece).unwrap();
    }
    while session.poll_transmit().is_some() {}
    assert!(session.memory() < 2 * 700_000, "{}", session.memory());
}

#[test]
fn a_connect_without_flash_ver_is_served() {
    // shiguredo_rtmp dropped the connection.
    let object = Value::Object(vec![("app".into(), Value::text("live"))]);
    let run = run(Wire::greeted().command(0, "connect", 1.0, &[object]));
    assert_eq!((run.result, codes(&run.sent).len()), (Ok(()), 1));
}

#[test]
fn a_connect_without_app_is_refused_with_a_status() {
    let run = run(Wire::greeted().command(0, "connect", 1.0, &[Value::Object(vec![])]));
    assert!(matches!(run.result, Err(Error::CommandArgument { command: "connect", .. })));
    assert_eq!(codes(&run.sent), ["NetConnection.Connect.Rejected"]);
}
