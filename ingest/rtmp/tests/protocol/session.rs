//! The publish state machine, as a peer sees it. Adobe RTMP 1.0, sections 5.4 and 7.2.

use crate::common::{KEY, Wire, codes, contains, media, replies, run, run_on, session};
use rtmp::amf::Value;
use rtmp::chunk::kind;
use rtmp::{Config, Error, Event, FourCc, MediaKind, PublishKind, Reject, Session, Stage, limits};

#[test]
fn a_whole_publish_in_one_read() {
    let run = run(Wire::publishing().media(50).goodbye());
    assert_eq!(run.result, Ok(()));
    let Event::Connect { app, tc_url, flash_ver, fourcc_list, caps_ex } = &run.events[0] else { panic!() };
    assert_eq!((app.as_str(), *caps_ex, fourcc_list.len()), ("live", 0, 0));
    assert!(tc_url.starts_with("rtmp://") && flash_ver.starts_with("FMLE"));
    let Event::Publish { app, name, kind } = &run.events[1] else { panic!() };
    assert_eq!((app.as_str(), name.expose(), *kind), ("live", KEY, PublishKind::Live));
    assert_eq!(run.events.last(), Some(&Event::Unpublish));
    assert_eq!(run.events.iter().filter(|event| **event == Event::Unpublish).count(), 1);
    let media = media(&run.events);
    assert_eq!(media.len(), 101);
    assert_eq!(media[0].kind, MediaKind::Data);
    assert!(media[0].payload.starts_with(b"\x02\x00\x0aonMetaData\x08"));
    assert_eq!((media[99].kind, media[99].timestamp), (MediaKind::Video, 49 * 33));
    assert_eq!((media[100].kind, media[100].timestamp), (MediaKind::Audio, 49 * 33 + 5));
    assert_eq!(
        codes(&run.sent),
        ["NetConnection.Connect.Success", "NetStream.Publish.Start", "NetStream.Unpublish.Success"]
    );
}

#[test]
fn answers_come_with_their_transaction_and_stream() {
    let run = run(&Wire::publishing());
    let mut seen = Vec::new();
    for (kind, stream, payload) in replies(&run.sent) {
        if kind == kind::COMMAND {
            let mut reader = rtmp::amf::Reader::new(&payload);
            let (name, transaction) = (reader.string().unwrap(), reader.number().unwrap());
            seen.push(format!("{name} {transaction} on {stream}"));
        } else {
            seen.push(format!("type {kind} {payload:?} on {stream}"));
        }
    }
    assert_eq!(
        seen,
        [
            "type 5 [0, 38, 37, 160] on 0",
            "type 6 [0, 38, 37, 160, 2] on 0",
            "type 1 [0, 0, 16, 0] on 0",
            "_result 1 on 0",
            "_result 2 on 0",
            "_result 3 on 0",
            "_result 4 on 0",
            "type 4 [0, 0, 0, 0, 0, 1] on 0",
            "onStatus 0 on 1",
        ]
    );
}

#[test]
fn media_behind_publish_in_the_same_read_is_held_until_the_answer() {
    let mut session = session();
    let wire = Wire::publishing().media(3).clone();
    session.handle_input(1, &wire.bytes).unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| session.poll_event()).collect();
    assert!(matches!(events.as_slice(), [Event::Connect { .. }, Event::Publish { .. }]));
    assert_eq!((session.stage(), session.poll_timeout()), (Stage::Deciding, None));
    session.handle_timeout(60_000).unwrap();
    assert_eq!(session.poll_event(), None);

    session.accept_publish();
    assert_eq!(session.poll_timeout(), Some(60_000), "held bytes ask to be read at once");
    session.handle_timeout(60_000).unwrap();
    assert_eq!(std::iter::from_fn(|| session.poll_event()).count(), 7);
    assert_eq!(session.bytes_received(), wire.bytes.len() as u64);
    assert_eq!(session.poll_timeout(), None, "a running publish has no deadline here");
}

#[test]
fn held_bytes_are_charged_to_the_budget() {
    let config = Config { budget: 10_000, ..Config::default() };
    let mut session = Session::new(config, 0, [0; 1528]);
    session.handle_input(1, &Wire::publishing().bytes).unwrap();
    session.handle_input(1, &[0; 9_000]).unwrap();
    assert!(session.memory() < 10_000 + 16_384);
    let error = session.handle_input(1, &[0; 1_001]).unwrap_err();
    assert!(matches!(error, Error::Budget { needed: 10_001, budget: 10_000, .. }));
}

#[test]
fn a_wrong_key_gets_bad_name_and_may_try_again_three_times() {
    for reject in [Reject::BadName, Reject::InUse] {
        let mut session = session();
        let mut wire = Wire::publishing();
        session.handle_input(1, &wire.bytes).unwrap();
        let mut sent = Vec::new();
        for attempt in 1..=3 {
            session.reject_publish(reject);
            sent.extend(session.poll_transmit().unwrap());
            assert_eq!(session.stage(), Stage::StreamCreated);
            assert_eq!(session.poll_timeout(), Some(attempt + 10_000), "a new deadline runs");
            wire.bytes.clear();
            let again = session.handle_input(attempt + 1, &wire.publish().bytes);
            let limit = Err(Error::Rejects { max: limits::REJECTS_MAX });
            assert_eq!(again, if attempt < 3 { Ok(()) } else { limit });
        }
        sent.extend(session.poll_transmit().unwrap());
        assert_eq!(codes(&sent)[1..], ["NetStream.Publish.BadName"; 4]);
        assert_eq!(std::iter::from_fn(|| session.poll_event()).count(), 4);
    }
}

#[test]
fn media_behind_a_refused_publish_is_an_error_and_the_status_still_goes_out() {
    let mut session = session();
    session.handle_input(1, &Wire::publishing().media(1).bytes).unwrap();
    session.reject_publish(Reject::BadName);
    let error = session.handle_timeout(1).unwrap_err();
    assert!(matches!(error, Error::MediaWithoutPublish { kind: kind::DATA, .. }));
    let sent = session.poll_transmit().unwrap();
    assert!(contains(&sent, b"NetStream.Publish.BadName"));
    assert_eq!(session.handle_input(2, b""), Err(Error::Closed));
}

#[test]
fn media_before_publish_is_refused_at_its_header() {
    for kind in [kind::AUDIO, kind::VIDEO, kind::DATA, kind::DATA_AMF3, kind::AGGREGATE] {
        for mut wire in [Wire::greeted(), Wire::created()] {
            let at = wire.bytes.len() as u64;
            wire.raw(&[6, 0, 0, 0, 0, 1, 0, kind, 1, 0, 0, 0]);
            assert_eq!(run(&wire).result, Err(Error::MediaWithoutPublish { kind, at }));
        }
    }
    let late = run(Wire::publishing().goodbye().message(4, kind::AUDIO, 1, 0, b"late"));
    assert!(matches!(late.result, Err(Error::MediaWithoutPublish { .. })));
}

#[test]
fn each_publish_on_a_connection_needs_its_own_answer() {
    let mut session = session();
    let mut wire = Wire::publishing();
    session.handle_input(1, &wire.bytes).unwrap();
    session.accept_publish();
    wire.bytes.clear();
    wire.media(1).goodbye().command(0, "createStream", 8.0, &[Value::Null]);
    wire.command(2, "publish", 0.0, &[Value::Null, Value::text("other"), Value::text("record")]);
    wire.media(1);
    session.handle_input(2, &wire.bytes).unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| session.poll_event()).collect();
    let Some(Event::Publish { name, kind, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((name.expose(), *kind, session.stage()), ("other", PublishKind::Record, Stage::Deciding));
    assert_eq!(events.iter().filter(|event| **event == Event::Unpublish).count(), 1);
}

#[test]
fn commands_out_of_order_are_refused() {
    let order = |command, stage| Err(Error::CommandOrder { command, stage });
    let name = [Value::Null, Value::text(KEY)];
    let all: [(&str, &[Value]); 7] = [
        ("releaseStream", &name),
        ("FCPublish", &name),
        ("createStream", &[Value::Null]),
        ("publish", &name),
        ("FCUnpublish", &name),
        ("deleteStream", &[Value::Null, Value::Number(1.0)]),
        ("play", &name),
    ];
    for (command, arguments) in all {
        let early = run(Wire::greeted().command(0, command, 2.0, arguments));
        assert_eq!(early.result, order(command, Stage::AwaitingConnect));
    }
    let twice = run(Wire::created().connect("live"));
    assert_eq!(twice.result, order("connect", Stage::StreamCreated));
    let uncreated = run(Wire::greeted().connect("live").publish());
    assert_eq!(uncreated.result, order("publish", Stage::Connected));
    let deleted = run(Wire::publishing().goodbye().publish());
    assert_eq!(deleted.result, order("publish", Stage::Connected));
    let second = run(Wire::publishing().publish());
    assert_eq!(second.result, order("publish", Stage::Publishing));
    assert_eq!(codes(&second.sent).last().unwrap(), "NetStream.Publish.BadName");
    let create = run(Wire::publishing().command(0, "createStream", 9.0, &[Value::Null]));
    assert_eq!(create.result, order("createStream", Stage::Publishing));
}

#[test]
fn play_is_refused_with_a_status_and_publish_may_still_follow() {
    let run = run(Wire::created().command(1, "play", 0.0, &[Value::Null, Value::text("x")]).publish());
    assert_eq!(run.result, Ok(()));
    assert_eq!(codes(&run.sent)[1..], ["NetStream.Play.Failed", "NetStream.Publish.Start"]);
}

#[test]
fn unknown_commands_and_messages_are_ignored_with_their_arguments_unread() {
    let mut payload = Vec::new();
    Value::text("_checkbw").encode(&mut payload);
    payload.extend([0x11, 0xff, 0xff]);
    let mut wire = Wire::created();
    wire.message(3, kind::COMMAND, 0, 0, &payload)
        .message(3, 16, 0, 0, b"shared object")
        .message(3, 99, 0, 0, b"?");
    assert_eq!(run(wire.publish().media(1)).result, Ok(()));
}

#[test]
fn small_questions_of_encoders_are_answered() {
    let mut wire = Wire::created();
    wire.command(0, "getStreamLength", 9.0, &[Value::Null, Value::text("x")]);
    wire.command(0, "FCUnpublish", 10.0, &[Value::Null, Value::text("x")]);
    wire.command(0, "_error", 11.0, &[]).command(0, "FCPublish", 0.0, &[Value::Null]);
    let run = run(&wire);
    let answers: Vec<_> = replies(&run.sent).into_iter().skip(5).collect();
    assert_eq!(answers.len(), 2, "no answer where the transaction id is 0");
    assert!(answers[0].2.ends_with(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "length 0");
}

#[test]
fn an_amf3_command_is_amf0_behind_a_byte() {
    let wire = Wire::created();
    let mut payload = vec![0];
    Value::text("publish").encode(&mut payload);
    Value::Number(5.0).encode(&mut payload);
    Value::Null.encode(&mut payload);
    Value::text("k").encode(&mut payload);
    let run = run(wire.clone().message(3, kind::COMMAND_AMF3, 1, 0, &payload));
    assert!(matches!(run.events.last(), Some(Event::Publish { .. })));
    let empty = self::run(wire.clone().message(3, kind::COMMAND_AMF3, 1, 0, &[]));
    assert!(matches!(empty.result, Err(Error::Amf(_))));
}

#[test]
fn aggregates_are_unpacked_with_their_work_charged() {
    let mut body = Vec::new();
    for (kind, time, data) in [(9, 500u32, b"vv".as_slice()), (8, 510, b"a"), (20, 511, b"?"), (9, 533, b"")]
    {
        body.extend([kind, 0, 0, data.len() as u8]);
        body.extend([(time >> 16) as u8, (time >> 8) as u8, time as u8, 0, 0, 0, 0]);
        body.extend(data);
        body.extend((11 + data.len() as u32).to_be_bytes());
    }
    let run = run(Wire::publishing().message(6, kind::AGGREGATE, 1, 9000, &body));
    let got: Vec<_> = media(&run.events).iter().map(|m| (m.kind, m.timestamp, m.payload.len())).collect();
    assert_eq!(got, [(MediaKind::Video, 9000, 2), (MediaKind::Audio, 9010, 1), (MediaKind::Video, 9033, 0)]);
    let empty_parts = [8u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11].repeat(200_000);
    let run = self::run(Wire::publishing().message(6, kind::AGGREGATE, 1, 0, &empty_parts));
    assert!(matches!(run.result, Err(Error::ChunkWork { .. })));
    let cut = self::run(Wire::publishing().message(6, kind::AGGREGATE, 1, 0, &body[..20]));
    assert_eq!(cut.result, Err(Error::Aggregate { offset: 17 }));
}

#[test]
fn acknowledgements_carry_the_total_modulo_2_to_the_32() {
    let mut wire = Wire::publishing();
    wire.message(2, kind::WINDOW_ACK_SIZE, 0, 0, &5000u32.to_be_bytes());
    let begin = wire.bytes.len() as u32;
    let run = run(wire.chunk_size(4096).message(6, kind::VIDEO, 1, 0, &[0; 20_000]));
    let acks: Vec<u32> = replies(&run.sent)
        .into_iter()
        .filter(|(kind, ..)| *kind == kind::ACKNOWLEDGEMENT)
        .map(|(_, _, payload)| u32::from_be_bytes(payload.try_into().unwrap()))
        .collect();
    assert_eq!(acks, [5000, 10_000, 15_000, 20_000].map(|n| begin + n));
}

#[test]
fn acknowledgements_wrap_after_4_gib() {
    let config = Config { window_ack_size: 1 << 30, ..Config::default() };
    let mut wire = Wire::publishing();
    wire.chunk_size(0xFF_FFFF);
    let head = wire.bytes.len();
    let message = wire.message(6, kind::VIDEO, 1, 0, &[0; 8 << 20]).bytes.split_off(head);
    let mut run = run_on(Session::new(config, 0, [0; 1528]), &wire.bytes);
    run.sent.drain(3073..);
    while run.session.bytes_received() < (5 << 30) + (9 << 20) {
        run.session.handle_input(1, &message).unwrap();
        while run.session.poll_event().is_some() {}
        if let Some(sent) = run.session.poll_transmit() {
            run.sent.extend_from_slice(&sent);
        }
    }
    let acks: Vec<_> = replies(&run.sent).into_iter().map(|(_, _, n)| n[0]).collect();
    assert_eq!(acks, [0x40, 0x80, 0xC0, 0x00, 0x40]);
}

#[test]
fn a_ping_is_answered() {
    let run = run(Wire::created().message(2, kind::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]));
    let last = replies(&run.sent).pop().unwrap();
    assert_eq!(last, (kind::USER_CONTROL, 0, vec![0, 7, 1, 2, 3, 4]));
}

#[test]
fn the_deadline_covers_handshake_connect_and_publish_together() {
    let stages: [(Wire, Stage); 4] = [
        (Wire::default(), Stage::Handshake),
        (Wire::greeted(), Stage::AwaitingConnect),
        (Wire::greeted().connect("live").clone(), Stage::Connected),
        (Wire::created(), Stage::StreamCreated),
    ];
    for (wire, stage) in stages {
        let mut session = Session::new(Config::default(), 5_000, [0; 1528]);
        session.handle_input(14_998, &wire.bytes).unwrap();
        session.handle_timeout(14_999).unwrap();
        assert_eq!(session.poll_timeout(), Some(15_000));
        let late = Err(Error::PublishDeadline { stage, limit_ms: 10_000 });
        assert_eq!(session.handle_timeout(15_000), late);
        let mut session = Session::new(Config::default(), 5_000, [0; 1528]);
        session.handle_input(14_998, &wire.bytes).unwrap();
        assert_eq!(session.handle_input(15_000, &[3]), late, "one byte a second does not extend it");
        assert_eq!(session.poll_timeout(), None);
    }
    let mut session = run_on(session(), &Wire::publishing().bytes).session;
    session.handle_timeout(1_000_000).unwrap();
}

#[test]
fn close_tells_the_peer_what_it_can_understand() {
    for (wire, told) in [
        (Wire::greeted(), vec![]),
        (Wire::created(), vec!["NetConnection.Connect.Closed"]),
        (Wire::publishing(), vec!["NetStream.Unpublish.Success", "NetConnection.Connect.Closed"]),
    ] {
        let mut run = run(&wire);
        let before = codes(&run.sent).len();
        run.session.close(&"é".repeat(4000));
        while let Some(bytes) = run.session.poll_transmit() {
            run.sent.extend_from_slice(&bytes);
        }
        assert_eq!(codes(&run.sent)[before..], told);
        assert_eq!(run.session.handle_input(1, b"x"), Err(Error::Closed));
        assert_eq!((run.session.stage(), run.session.poll_timeout()), (Stage::Closed, None));
    }
}

#[test]
fn enhanced_rtmp_is_read_and_only_the_truth_is_answered() {
    let list = ["av01", "hvc1", "*", "not a fourcc", "vp09"].map(Value::text).to_vec();
    let object = Value::Object(vec![
        ("app".into(), Value::text("live")),
        ("fourCcList".into(), Value::StrictArray(list)),
        ("capsEx".into(), Value::Number(7.0)),
    ]);
    let mut wire = Wire::greeted();
    wire.command(0, "connect", 1.0, &[object]);
    let plain = run(&wire);
    let Event::Connect { fourcc_list, caps_ex, .. } = &plain.events[0] else { panic!() };
    assert_eq!(*caps_ex, 7);
    assert_eq!(*fourcc_list, [FourCc(*b"av01"), FourCc(*b"hvc1"), FourCc::ANY, FourCc(*b"vp09")]);
    assert!(!contains(&plain.sent, b"fourCcList"));
    assert!(contains(&plain.sent, b"\0\x06capsEx\0\x40\x08\0\0\0\0\0\0"), "of 1, 2 and 4 we have 1 and 2");

    let config = Config { fourcc_offer: vec![FourCc(*b"avc1")], ..Config::default() };
    let offered = run_on(Session::new(config.clone(), 0, [0; 1528]), &wire.bytes);
    assert!(contains(&offered.sent, b"fourCcList\x0a\0\0\0\x01\x02\0\x04avc1"));
    let classic = run_on(Session::new(config, 0, [0; 1528]), &Wire::created().bytes);
    assert!(!contains(&classic.sent, b"fourCcList"), "a peer that did not ask is not told");
    assert!(!contains(&classic.sent, b"capsEx"), "nor of what we could do");
}

/// A publish of a peer with these Enhanced RTMP capabilities.
fn publishing_with(caps_ex: f64) -> Wire {
    let object =
        Value::Object(vec![("app".into(), Value::text("live")), ("capsEx".into(), Value::Number(caps_ex))]);
    let mut wire = Wire::greeted();
    wire.command(0, "connect", 1.0, &[object]).command(0, "createStream", 4.0, &[Value::Null]).publish();
    wire
}

#[test]
fn a_peer_that_announced_it_is_asked_to_reconnect_and_sends_on() {
    for caps_ex in [1.0, 7.0] {
        let mut run = run(&publishing_with(caps_ex));
        assert!(run.session.request_reconnect("the server is stopping"));
        let asked = run.session.poll_transmit().unwrap();
        let mut payload = Vec::new();
        Value::text("onStatus").encode(&mut payload);
        Value::Number(0.0).encode(&mut payload);
        Value::Null.encode(&mut payload);
        let info = [
            ("level", "status"),
            ("code", "NetConnection.Connect.ReconnectRequest"),
            ("description", "the server is stopping"),
        ];
        Value::Object(info.map(|(name, text)| (name.to_owned(), Value::text(text))).to_vec())
            .encode(&mut payload);
        // One chunk: type 0 on chunk stream 3, time 0, the length, a command, message stream 0.
        let mut chunk = vec![3, 0, 0, 0, 0, 0, payload.len() as u8, kind::COMMAND, 0, 0, 0, 0];
        chunk.extend(payload);
        assert_eq!(asked, chunk);
        let mut restored = Session::restore(&run.session.snapshot()).unwrap();
        assert!(restored.request_reconnect("again"), "a twin on another node knows it too");
        let mut more = Wire::default();
        run.session.handle_input(2, &more.media(1).bytes).unwrap();
        assert!(
            std::iter::from_fn(|| run.session.poll_event()).any(|event| matches!(event, Event::Media(_)))
        );
    }
}

#[test]
fn nobody_else_is_asked_to_reconnect() {
    for wire in [publishing_with(0.0), publishing_with(6.0), Wire::publishing()] {
        let mut run = run(&wire);
        assert!(!run.session.request_reconnect("the server is stopping"));
        assert_eq!(run.session.poll_transmit(), None);
    }
    let mut ended = run(publishing_with(1.0).goodbye());
    assert!(!ended.session.request_reconnect("it does not publish"));
    assert_eq!(ended.session.poll_transmit(), None);
}

#[test]
fn secrets_are_in_no_debug_display_error_or_reply() {
    let mut wire = Wire::greeted();
    wire.connect("live?key=app-marker").command(0, "createStream", 2.0, &[Value::Null]).publish();
    let run = run(wire.media(1).publish());
    let mut printed = format!("{:?} {:?} {:?}", run.events, run.session, run.result);
    if let Some(Event::Publish { name, .. }) = run.events.get(1) {
        printed += &format!("{name} {name:?}");
    }
    printed += &run.result.unwrap_err().to_string();
    printed += &String::from_utf8_lossy(&run.sent[3073..]);
    assert!(!printed.contains("marker"), "{printed}");
    assert!(printed.contains("live") && printed.contains("***"));
}
