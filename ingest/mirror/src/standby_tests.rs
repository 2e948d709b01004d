//! What a faulty holder says is an error with connection and offset, and the bounds of both books hold.

use super::*;
use crate::holder::{Event, Holder, UNCONFIRMED_MAX};
use crate::link::{Identity, Role};
use crate::rule::notices;
use proptest::prelude::*;
use releve_watermark::{Key, KeyRing};

const C: ConnectionId = ConnectionId(3);

fn link(role: Role) -> Link {
    let identity = Identity { cluster: 1, node: role as u16, role, epoch: 1 };
    Link::new(identity, KeyRing::of(Key::new(1, [5; 32])), [role as u8; 32])
}

fn opened(input: u64, output_from: u64, output: u64) -> Frame {
    Frame::Opened { connection: C, tcp: Bytes::new(), input, output_from, output }
}

fn input(offset: u64, bytes: &'static [u8]) -> Frame {
    Frame::Input { connection: C, offset, bytes: Bytes::from_static(bytes) }
}

fn piece(input: u64, at: u32, last: bool, bytes: &'static [u8]) -> Frame {
    Frame::Snapshot { connection: C, input, at, last, bytes: Bytes::from_static(bytes) }
}

fn told(frames: impl IntoIterator<Item = Frame>) -> (Standby, Result<(), Error>) {
    let mut standby = Standby::new(link(Role::Standby));
    let result = frames.into_iter().try_for_each(|frame| standby.handle_frame(frame));
    (standby, result)
}

fn gaps_copies_and_changed_orders_are_refused() {
    let position = |way, want, got| Err(Error::Position { connection: C, way, want, got });
    let start = [opened(0, 0, 0), input(0, b"abcd")];
    for got in [0, 3, 5, 8, u64::MAX - 9] {
        let frames = start.iter().cloned().chain([input(got, b"efgh")]);
        assert_eq!(told(frames).1, position(Way::Input, 4, got));
    }
    let output = |offset| Frame::Output { connection: C, offset, bytes: Bytes::from_static(b"xy") };
    assert_eq!(told([opened(0, 0, 0), output(0), output(0)]).1, position(Way::Output, 2, 0));
    assert_eq!(told([opened(0, 0, 0), output(0), output(3)]).1, position(Way::Output, 2, 3));
    let closed = Frame::Closed { connection: C, input: 5, output: 0 };
    assert_eq!(told(start.into_iter().chain([closed])).1, position(Way::Input, 4, 5));
}

#[test]
fn bytes_follow_the_last_ones() {
    gaps_copies_and_changed_orders_are_refused();
    assert!(notices(Rule::InOrder, gaps_copies_and_changed_orders_are_refused));
}

#[test]
fn a_snapshot_comes_whole_before_its_input() {
    let late = opened(100, 5, 9);
    let refused = |frames: &[Frame]| {
        let (_, result) = told([late.clone()].into_iter().chain(frames.iter().cloned()));
        assert!(
            matches!(result, Err(Error::Snapshot { connection: C, .. } | Error::Range { .. })),
            "{result:?}"
        );
    };
    refused(&[input(100, b"a")]);
    refused(&[piece(99, 0, true, b"s")]);
    refused(&[piece(100, 1, true, b"s")]);
    refused(&[piece(100, 0, false, b"s"), piece(101, 1, true, b"s")]);
    refused(&[piece(100, 0, false, b"s"), piece(100, 0, true, b"s")]);
    refused(&[piece(100, 0, false, b"s"), input(100, b"a")]);
    refused(&[piece(100, 0, true, b"s"), piece(100, 0, true, b"s")]);

    let (mut standby, result) = told([
        late,
        Frame::Roll { connections: 1 },
        piece(104, 0, false, b"st"),
        piece(104, 2, true, b"ate"),
    ]);
    assert_eq!(result, Ok(()));
    assert!(!standby.in_step());
    let state = Bytes::from_static(b"state");
    assert_eq!(standby.poll_step(), Some(Step::Snapshot { connection: C, input: 104, state }));
    // The output from 5 to 9 is not here yet.
    assert!(!standby.in_step());
    let bytes = Bytes::from_static(b"6789");
    standby.handle_frame(Frame::Output { connection: C, offset: 5, bytes }).unwrap();
    assert!(standby.in_step());
    standby.handle_frame(input(104, b"on")).unwrap();
}

#[test]
fn paired_too_early_or_without_the_roll_is_refused() {
    assert_eq!(told([Frame::Paired]).1, Err(Error::NotInStep));
    assert_eq!(
        told([opened(9, 0, 0), Frame::Roll { connections: 1 }, Frame::Paired]).1,
        Err(Error::NotInStep)
    );
    let (mut standby, result) = told([Frame::Roll { connections: 0 }, Frame::Paired]);
    assert_eq!(result, Ok(()));
    assert_eq!(standby.take_over(), Err(Error::Undrained { steps: 1 }));
    assert_eq!(standby.poll_step(), Some(Step::Paired));
    assert_eq!(standby.take_over(), Ok(vec![]));
    assert_eq!(standby.handle_bytes(b"x"), Err(Error::Fenced { epoch: 1 }));
}

#[test]
fn numbers_are_used_once_and_unknown_ones_refused() {
    let open = Err(Error::Open { connection: C, max: CONNECTIONS_MAX });
    let closed = Frame::Closed { connection: C, input: 0, output: 0 };
    assert_eq!(told([opened(0, 0, 0), opened(0, 0, 0)]).1, open);
    assert_eq!(told([opened(0, 0, 0), closed, opened(0, 0, 0)]).1, open);
    assert_eq!(told([input(0, b"a")]).1, Err(Error::Unknown { connection: C }));
    assert_eq!(told([Frame::PairedSeen]).1, Err(Error::Direction { name: "PairedSeen" }));
}

/// Both ends, until neither has anything to say.
fn talk(holder: &mut Holder, standby: &mut Standby) {
    loop {
        let mut quiet = true;
        while let Some(bytes) = holder.poll_transmit() {
            standby.handle_bytes(&bytes).unwrap();
            quiet = false;
        }
        while standby.poll_step().is_some() {}
        while let Some(bytes) = standby.poll_transmit() {
            holder.handle_bytes(&bytes).unwrap();
            quiet = false;
        }
        if quiet {
            return;
        }
    }
}

fn pair() -> (Holder, Standby) {
    let (mut holder, mut standby) = (Holder::default(), Standby::new(link(Role::Standby)));
    holder.open(C, Bytes::new()).unwrap();
    holder.attach(link(Role::Holder));
    talk(&mut holder, &mut standby);
    assert_eq!(holder.confirmed(C), None);
    holder.tell_paired().unwrap();
    talk(&mut holder, &mut standby);
    assert_eq!(holder.confirmed(C), Some((0, 0)));
    (holder, standby)
}

#[test]
fn a_paired_publisher_waits_for_its_standby() {
    let (mut holder, mut standby) = pair();
    let chunk = Bytes::from(vec![1; 1 << 20]);
    while holder.may_read(C) {
        holder.input(C, chunk.clone()).unwrap();
    }
    assert_eq!(holder.unconfirmed(), UNCONFIRMED_MAX);
    assert_eq!(holder.input(C, chunk.clone()), Err(Error::Full { connection: C, way: Way::Input }));
    talk(&mut holder, &mut standby);
    assert_eq!((holder.confirmed_input(C), holder.unconfirmed()), (Some(UNCONFIRMED_MAX), 0));
    holder.input(C, chunk).unwrap();
}

#[test]
fn a_publisher_does_not_wait_for_a_standby_that_joins() {
    let mut holder = Holder::default();
    holder.open(C, Bytes::new()).unwrap();
    holder.attach(link(Role::Holder));
    let chunk = Bytes::from(vec![1; 1 << 20]);
    (0..20).for_each(|_| holder.input(C, chunk.clone()).unwrap());
    assert_eq!(holder.poll_event(), Some(Event::Behind));
    assert_eq!(holder.poll_transmit(), None);
}

#[test]
fn output_that_nobody_acknowledges_has_an_end() {
    let (mut holder, _) = pair();
    let chunk = Bytes::from(vec![1; OUTPUT_MAX as usize]);
    holder.output(C, chunk.clone()).unwrap();
    assert_eq!(holder.output(C, chunk.clone()), Err(Error::Full { connection: C, way: Way::Output }));
    holder.acked_output(C, OUTPUT_MAX).unwrap();
    holder.output(C, chunk).unwrap();
    let range = Error::Range {
        connection: C,
        way: Way::Output,
        got: u64::MAX,
        low: OUTPUT_MAX,
        high: 2 * OUTPUT_MAX,
    };
    assert_eq!(holder.acked_output(C, u64::MAX), Err(range));
}

#[test]
fn a_confirmation_of_what_was_never_sent_ends_the_link() {
    for (input, output) in [(4, 0), (2, 0), (3, 1)] {
        let (mut holder, mut standby) = pair();
        holder.input(C, Bytes::from_static(b"abc")).unwrap();
        talk(&mut holder, &mut standby);
        standby.link.send(Frame::Confirm { connection: C, input, output });
        let bytes = standby.poll_transmit().unwrap();
        assert!(matches!(holder.handle_bytes(&bytes), Err(Error::Range { connection: C, .. })));
        assert_eq!((holder.confirmed(C), holder.poll_transmit()), (None, None));
    }
}

#[test]
fn a_connection_that_was_only_written_to_needs_a_snapshot_not_its_first_state() {
    let (mut holder, mut standby) = (Holder::default(), Standby::new(link(Role::Standby)));
    holder.open(C, Bytes::new()).unwrap();
    holder.first_state(C, Bytes::from_static(b"before the output")).unwrap();
    holder.output(C, Bytes::from_static(b"out")).unwrap();
    holder.attach(link(Role::Holder));
    talk(&mut holder, &mut standby);
    assert!(holder.wants_snapshot(C) && !standby.in_step());
    holder.snapshot(C, 0, Bytes::from_static(b"after it")).unwrap();
    talk(&mut holder, &mut standby);
    assert!(holder.in_step() && standby.in_step());
    assert_eq!(standby.position(C), Some((0, 3)));
}

#[test]
fn the_shells_speak_beside_all_connections_also_where_there_is_none() {
    let (mut holder, mut standby) = (Holder::default(), Standby::new(link(Role::Standby)));
    holder.attach(link(Role::Holder));
    let (question, word) = (Bytes::from_static(b"what is there?"), Bytes::from_static(b"this"));
    standby.ask(ConnectionId::NONE, question.clone()).unwrap();
    holder.note(ConnectionId::NONE, word.clone()).unwrap();
    talk(&mut holder, &mut standby);
    let asked = Event::Asked { connection: ConnectionId::NONE, bytes: question };
    assert!(std::iter::from_fn(|| holder.poll_event()).any(|event| event == asked));
    let (mut standby, _) = told([Frame::Note { connection: ConnectionId::NONE, bytes: word.clone() }]);
    assert_eq!(standby.poll_step(), Some(Step::Note { connection: ConnectionId::NONE, bytes: word }));
    let never = Err(Error::Open { connection: ConnectionId::NONE, max: CONNECTIONS_MAX });
    assert_eq!(holder.open(ConnectionId::NONE, Bytes::new()), never, "it is no connection");
    let opened = Frame::Opened {
        connection: ConnectionId::NONE,
        tcp: Bytes::new(),
        input: 0,
        output_from: 0,
        output: 0,
    };
    assert_eq!(told([opened]).1, never);
}

#[test]
fn a_question_of_the_standby_reaches_the_holder_and_one_of_a_connection_that_is_over_does_not() {
    let (mut holder, mut standby) = pair();
    let question = Bytes::from_static(b"what was it?");
    standby.ask(C, question.clone()).unwrap();
    talk(&mut holder, &mut standby);
    let asked = Event::Asked { connection: C, bytes: question.clone() };
    assert!(std::iter::from_fn(|| holder.poll_event()).any(|event| event == asked));
    let stranger = ConnectionId(9);
    assert_eq!(standby.ask(stranger, question.clone()), Err(Error::Unknown { connection: stranger }));
    let long = Bytes::from(vec![0; ASK_MAX + 1]);
    assert!(matches!(standby.ask(C, long), Err(Error::Length { .. })));
    assert_eq!(
        told([Frame::Ask { connection: C, bytes: question.clone() }]).1,
        Err(Error::Direction { name: "Ask" })
    );

    // It is closed while the question is under way.
    standby.ask(C, question).unwrap();
    holder.close(C).unwrap();
    talk(&mut holder, &mut standby);
    talk(&mut holder, &mut standby);
    let all: Vec<_> = std::iter::from_fn(|| holder.poll_event()).collect();
    assert!(all.contains(&Event::Finished(C)), "{all:?}");
    assert_eq!(holder.open(ConnectionId(4), Bytes::new()), Ok(()), "the link is as it was");
}

#[test]
fn nothing_is_said_of_a_connection_behind_its_end() {
    let (mut holder, mut standby) = pair();
    holder.output(C, Bytes::from_static(b"refused")).unwrap();
    talk(&mut holder, &mut standby);
    holder.close(C).unwrap();
    // Its socket and its task have not ended yet.
    holder.acked_output(C, 7).unwrap();
    holder.set_tcp(C, Bytes::new()).unwrap();
    holder.note(C, Bytes::from_static(b"word")).unwrap();
    let (stream, run) = ("demo".parse().unwrap(), ingest_api::RunId([1; 8]));
    holder.publish(C, Publishes { stream, run, record: Bytes::new() }).unwrap();
    talk(&mut holder, &mut standby);
    assert_eq!(std::iter::from_fn(|| standby.poll_step()).last(), None, "all was taken");
    assert!(std::iter::from_fn(|| holder.poll_event()).any(|event| event == Event::Finished(C)));
}

#[test]
fn nothing_counts_as_confirmed_without_a_link() {
    let (mut holder, _) = pair();
    holder.close(C).unwrap();
    holder.detach();
    assert_eq!(holder.confirmed(C), None);
    assert!(std::iter::from_fn(|| holder.poll_event()).any(|event| event == Event::Finished(C)));
    assert_eq!(holder.open(C, Bytes::new()), Err(Error::Open { connection: C, max: CONNECTIONS_MAX }));
}

proptest! {
    #[test]
    fn any_frames_in_any_order_are_taken_or_refused(
        frames in prop::collection::vec((0..9_u8, 0..3_u64, 0..6_u64, 0..6_u64), 0..40),
    ) {
        let mut standby = Standby::new(link(Role::Standby));
        for (kind, id, a, b) in frames {
            let connection = ConnectionId(id);
            let bytes = Bytes::from(vec![7; 1 + b as usize]);
            let _ = standby.handle_frame(match kind {
                0 => Frame::Opened { connection, tcp: bytes, input: a, output_from: b, output: a },
                1 => Frame::Roll { connections: a as u32 },
                2 => Frame::Snapshot { connection, input: a, at: b as u32, last: b % 2 == 0, bytes },
                3 | 4 => Frame::Input { connection, offset: a, bytes },
                5 => Frame::Output { connection, offset: a, bytes },
                6 => Frame::Acked { connection, output: a },
                7 => Frame::Closed { connection, input: a, output: b },
                _ => Frame::Paired,
            });
            if a == b {
                while standby.poll_step().is_some() {}
            }
        }
        while standby.poll_step().is_some() {}
        if standby.is_paired() {
            for survivor in standby.take_over().unwrap() {
                prop_assert_eq!(standby.position(survivor.connection).unwrap().0, survivor.received);
            }
        }
    }
}
