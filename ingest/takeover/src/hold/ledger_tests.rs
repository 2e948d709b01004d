//! The ledger against its promise, with numbers kept wide so that no wrapping hides a mistake.

use super::*;
use proptest::prelude::*;

const BASE: Base = Base { received: u32::MAX - 5, sent: u32::MAX - 900 };

fn flow(number: u16) -> Flow {
    Flow { local: "192.0.2.1:1935".parse().unwrap(), peer: ([192, 0, 2, 9], 50_000 + number).into() }
}

fn syn_ack(base: Base) -> SynAck {
    SynAck { base, segment_max: None, sack: false, scale: None, timestamp: None }
}

/// A segment that acknowledges `received` bytes and carries `length` from output offset `sent`.
fn segment(flow: Flow, received: u64, sent: u64, length: u32) -> Segment {
    let sequence = BASE.sent.wrapping_add(sent as u32);
    Segment {
        flow,
        sequence,
        end: sequence.wrapping_add(length),
        acknowledges: Some(BASE.received.wrapping_add(received as u32)),
        reset: false,
        syn_ack: None,
    }
}

fn handshake(flow: Flow) -> Segment {
    Segment {
        sequence: BASE.sent.wrapping_sub(1),
        end: BASE.sent,
        syn_ack: Some(syn_ack(BASE)),
        ..segment(flow, 0, 0, 0)
    }
}

fn drain<P>(ledger: &mut Ledger<P>) -> Vec<(P, Verdict)> {
    std::iter::from_fn(|| ledger.poll_verdict()).collect()
}

#[test]
fn a_syn_ack_waits_until_the_standby_knows() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.offer(Some(handshake(flow(1))), 1);
    assert_eq!(ledger.poll_event(), Some(Event::Opened { flow: flow(1), syn_ack: syn_ack(BASE) }));
    // The kernel sends it again: no second event, no leak.
    ledger.offer(Some(handshake(flow(1))), 2);
    assert_eq!(ledger.poll_event(), None);
    assert_eq!(drain(&mut ledger), []);
    ledger.admit(flow(1), BASE);
    assert_eq!(drain(&mut ledger), [(1, Verdict::Leave), (2, Verdict::Leave)]);
}

#[test]
fn an_acknowledgement_waits_for_its_bytes_and_order_is_kept() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.admit(flow(1), BASE);
    ledger.offer(Some(segment(flow(1), 100, 0, 0)), 1);
    ledger.offer(Some(segment(flow(1), 0, 0, 0)), 2); // alone it could leave; behind 1 it waits
    ledger.offer(Some(segment(flow(1), 100, 0, 10)), 3);
    assert_eq!(drain(&mut ledger), []);
    assert!(ledger.confirm(flow(1), BASE, Confirmed { received: 99, sent: 0 }));
    assert_eq!(drain(&mut ledger), []);
    ledger.confirm(flow(1), BASE, Confirmed { received: 100, sent: 9 });
    assert_eq!(drain(&mut ledger), [(1, Verdict::Leave), (2, Verdict::Leave)]);
    ledger.confirm(flow(1), BASE, Confirmed { received: 50, sent: 10 }); // going back changes nothing
    assert_eq!(drain(&mut ledger), [(3, Verdict::Leave)]);
}

#[test]
fn a_fin_counts_one_and_a_reset_needs_the_end() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.admit(flow(1), BASE);
    ledger.confirm(flow(1), BASE, Confirmed { received: 10, sent: 10 });
    ledger.offer(Some(segment(flow(1), 10, 10, 1)), 1); // FIN
    ledger.offer(Some(Segment { reset: true, ..segment(flow(1), 10, 10, 0) }), 2);
    assert_eq!(drain(&mut ledger), [(2, Verdict::Drop)]);
    ledger.confirm(flow(1), BASE, Confirmed { received: 10, sent: 11 });
    assert_eq!(drain(&mut ledger), [(1, Verdict::Leave)]);
    ledger.finish(flow(1), BASE);
    ledger.offer(Some(Segment { reset: true, ..segment(flow(1), 10, 10, 0) }), 3);
    ledger.offer(Some(segment(flow(1), 99, 99, 0)), 4);
    assert_eq!(drain(&mut ledger), [(3, Verdict::Leave), (4, Verdict::Leave)]);
}

#[test]
fn strangers_are_dropped_and_reset_only_when_allowed() {
    let mut ledger = Ledger::new(Limits::default());
    let reset = Segment { reset: true, ..segment(flow(7), 0, 0, 0) };
    ledger.offer(Some(reset), 1);
    ledger.offer(Some(segment(flow(7), 0, 0, 0)), 2);
    ledger.offer(None, 3);
    ledger.strangers_may_reset(true);
    ledger.offer(Some(reset), 4);
    ledger.offer(Some(segment(flow(7), 0, 0, 0)), 5);
    let fates = [Verdict::Drop, Verdict::Drop, Verdict::Drop, Verdict::Leave, Verdict::Drop];
    assert_eq!(drain(&mut ledger), (1..).zip(fates).collect::<Vec<_>>());
}

#[test]
fn new_numbers_on_the_same_ends_are_a_new_connection() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.admit(flow(1), BASE);
    ledger.offer(Some(segment(flow(1), 5, 0, 0)), 1);
    let base = Base { received: 1, sent: 2 };
    let again = Segment {
        sequence: 1,
        end: 2,
        acknowledges: Some(1),
        syn_ack: Some(syn_ack(base)),
        ..handshake(flow(1))
    };
    ledger.offer(Some(again), 2);
    assert_eq!(drain(&mut ledger), [(1, Verdict::Drop)]);
    assert!(ledger.poll_event().is_some());
    assert!(
        !ledger.confirm(flow(1), BASE, Confirmed { received: 5, sent: 0 }),
        "the old numbers must not open the new"
    );
    ledger.admit(flow(1), base);
    assert_eq!(drain(&mut ledger), [(2, Verdict::Leave)]);
}

#[test]
fn alone_everything_leaves_and_a_standby_closes_the_gate_again() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.admit(flow(1), BASE);
    ledger.offer(Some(segment(flow(1), 5, 0, 0)), 1);
    ledger.offer(Some(handshake(flow(2))), 2);
    ledger.set_solo(true);
    ledger.offer(Some(segment(flow(3), 5, 0, 0)), 3);
    let mut left = drain(&mut ledger);
    left.sort_unstable_by_key(|(token, _)| *token);
    assert_eq!(left, [(1, Verdict::Leave), (2, Verdict::Leave), (3, Verdict::Leave)]);
    ledger.set_solo(false);
    ledger.offer(Some(segment(flow(1), 6, 0, 0)), 4);
    ledger.offer(Some(segment(flow(2), 0, 0, 0)), 5);
    assert_eq!(drain(&mut ledger), []);
}

#[test]
fn a_flood_of_handshakes_does_not_push_out_the_living() {
    let mut ledger = Ledger::new(Limits { packets: 10, flows: 4 });
    ledger.admit(flow(0), BASE);
    ledger.confirm(flow(0), BASE, Confirmed { received: 1, sent: 0 });
    for number in 1..500 {
        ledger.offer(Some(handshake(flow(number))), number);
        ledger.poll_event();
        assert!(ledger.counts().flows <= 4 && ledger.counts().waiting <= 10);
    }
    drain(&mut ledger);
    ledger.offer(Some(segment(flow(0), 1, 0, 0)), 0);
    assert_eq!(drain(&mut ledger), [(0, Verdict::Leave)]);
}

#[derive(Clone, Debug)]
enum Step {
    Offer { flow: u16, received: u64, sent: u64, length: u32, reset: bool },
    Open(u16),
    Admit(u16),
    Confirm { flow: u16, received: u64, sent: u64 },
    Finish(u16),
    Forget(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..3_u16;
    prop_oneof![
        8 => (number.clone(), 0..2000_u64, 0..2000_u64, 0..100_u32, prop::bool::weighted(0.1))
            .prop_map(|(flow, received, sent, length, reset)| Step::Offer { flow, received, sent, length, reset }),
        1 => number.clone().prop_map(Step::Open),
        2 => number.clone().prop_map(Step::Admit),
        6 => (number.clone(), 0..2200_u64, 0..2200_u64)
            .prop_map(|(flow, received, sent)| Step::Confirm { flow, received, sent }),
        1 => number.clone().prop_map(Step::Finish),
        1 => number.prop_map(Step::Forget),
    ]
}

/// What the test itself knows of a connection: confirmed so far, and whether it is over.
type Knowledge = Option<(Confirmed, bool)>;

proptest! {
    #[test]
    fn nothing_leaves_early_nothing_is_judged_twice_and_order_is_kept(
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut ledger = Ledger::new(Limits { packets: 20, flows: 8 });
        let mut known: [Knowledge; 3] = [None; 3];
        let mut packets: Vec<(u16, u64, u64)> = Vec::new(); // flow, acknowledged bytes, end of output bytes
        let mut judged: HashMap<usize, Verdict> = HashMap::new();
        let mut last_left = [0; 3];
        for step in steps {
            match step {
                Step::Offer { flow: number, received, sent, length, reset } => {
                    let token = packets.len();
                    packets.push((number, received, sent + u64::from(length)));
                    ledger.offer(Some(Segment { reset, ..segment(flow(number), received, sent, length) }), token);
                }
                Step::Open(number) => {
                    packets.push((number, 0, 0));
                    ledger.offer(Some(handshake(flow(number))), packets.len() - 1);
                }
                Step::Admit(number) => {
                    ledger.admit(flow(number), BASE);
                    known[usize::from(number)].get_or_insert_default();
                }
                Step::Confirm { flow: number, received, sent } => {
                    let taken = ledger.confirm(flow(number), BASE, Confirmed { received, sent });
                    if let Some((confirmed, false)) = &mut known[usize::from(number)] {
                        prop_assert!(taken);
                        confirmed.received = confirmed.received.max(received);
                        confirmed.sent = confirmed.sent.max(sent);
                    }
                }
                Step::Finish(number) => {
                    ledger.finish(flow(number), BASE);
                    // A handshake that is finished before it was admitted is finished too.
                    known[usize::from(number)].get_or_insert_default().1 = true;
                }
                Step::Forget(number) => {
                    ledger.forget(flow(number));
                    known[usize::from(number)] = None;
                }
            }
            while let Some((token, verdict)) = ledger.poll_verdict() {
                prop_assert!(judged.insert(token, verdict).is_none(), "packet {token} judged twice");
                if verdict == Verdict::Leave {
                    let (number, received, sent) = packets[token];
                    let number = usize::from(number);
                    let (confirmed, finished) = known[number].expect("only known connections speak");
                    prop_assert!(finished || (received <= confirmed.received && sent <= confirmed.sent));
                    prop_assert!(token >= last_left[number], "packet {token} overtook {}", last_left[number]);
                    last_left[number] = token;
                }
            }
            while ledger.poll_event().is_some() {}
            let counts = ledger.counts();
            prop_assert!(counts.waiting <= 20 && counts.flows <= 8);
            prop_assert_eq!(packets.len(), judged.len() + counts.waiting);
            let dropped = counts.dropped_full + counts.dropped_reset + counts.dropped_stranger;
            prop_assert_eq!(judged.len() as u64, counts.left + dropped);
        }
        // In the end everything that is confirmed is out.
        for number in 0..3 {
            ledger.admit(flow(number), BASE);
            ledger.confirm(flow(number), BASE, Confirmed { received: 5000, sent: 5000 });
        }
        prop_assert_eq!(ledger.counts().waiting, 0);
    }
}

/// A host that may have been overtaken says nothing, not even what was confirmed; and all of it once it may again.
#[test]
fn a_shut_ledger_keeps_what_was_confirmed() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.admit(flow(1), BASE);
    ledger.confirm(flow(1), BASE, Confirmed { received: 100, sent: 0 });
    ledger.strangers_may_reset(true);
    ledger.set_passage(Passage::Shut);
    ledger.offer(Some(segment(flow(1), 50, 0, 0)), 1);
    ledger.offer(Some(segment(flow(1), 150, 0, 0)), 2);
    ledger.offer(Some(Segment { reset: true, ..segment(flow(2), 0, 0, 0) }), 3);
    ledger.confirm(flow(1), BASE, Confirmed { received: 120, sent: 0 });
    assert_eq!(drain(&mut ledger), [(3, Verdict::Drop)]);
    ledger.set_passage(Passage::Confirmed);
    assert_eq!(drain(&mut ledger), [(1, Verdict::Leave)]);
    ledger.set_passage(Passage::Shut);
    ledger.set_passage(Passage::Open);
    assert_eq!(drain(&mut ledger), [(2, Verdict::Leave)]);
    ledger.offer(Some(segment(flow(1), 500, 0, 0)), 4);
    assert_eq!(drain(&mut ledger), [(4, Verdict::Leave)]);
    assert_eq!(ledger.counts().waiting, 0);
}

/// A publisher's port is used again before everybody knows that the connection before it is over.
#[test]
fn the_end_of_a_connection_is_not_the_end_of_the_next_one_between_the_same_ends() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.admit(flow(1), BASE);
    ledger.confirm(flow(1), BASE, Confirmed { received: 5000, sent: 5000 });
    let next = Base { received: BASE.received.wrapping_add(1 << 20), sent: BASE.sent.wrapping_add(1 << 20) };
    ledger.admit(flow(1), next);
    assert!(!ledger.confirm(flow(1), BASE, Confirmed { received: 6000, sent: 6000 }));
    ledger.finish(flow(1), BASE);
    ledger.offer(Some(segment(flow(1), (1 << 20) + 100, 0, 0)), 1);
    assert_eq!(drain(&mut ledger), [], "the standby does not have it");
    ledger.confirm(flow(1), next, Confirmed { received: 100, sent: 0 });
    assert_eq!(drain(&mut ledger), [(1, Verdict::Leave)]);
}
