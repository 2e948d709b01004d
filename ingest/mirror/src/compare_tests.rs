//! Every segment gets one verdict, and the right station is named.

use super::*;
use proptest::prelude::*;

fn made(number: u64, outputs: [&[u8]; 4]) -> SegmentDigest {
    let mut chain = Chain::default();
    Station::ALL.iter().zip(outputs).for_each(|(station, bytes)| chain.add(*station, bytes));
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, outputs[3]).as_ref());
    SegmentDigest {
        stream: "cam".parse().unwrap(),
        run: RunId([3; 8]),
        number,
        track: Track::Video,
        sha256: Sha256(sha256),
        stations: chain.finish(),
    }
}

fn good(number: u64) -> SegmentDigest {
    made(number, [b"in", b"units", b"marked", b"box"])
}

fn verdicts(compare: &mut Compare) -> Vec<Verdict> {
    std::iter::from_fn(|| compare.poll_verdict()).collect()
}

#[test]
fn the_first_station_that_differs_is_named() {
    let bent: [([&[u8]; 4], _); 5] = [
        ([b"IN", b"UNITS", b"MARKED", b"BOX"], Station::Input),
        ([b"in", b"UNITS", b"MARKED", b"BOX"], Station::Units),
        ([b"in", b"units", b"MARKED", b"BOX"], Station::Marked),
        ([b"in", b"units", b"marked", b"BOX"], Station::Container),
        // A difference that happens not to reach the bytes is one all the same.
        ([b"in", b"UNITS", b"marked", b"box"], Station::Units),
    ];
    for (outputs, want) in bent {
        let mut compare = Compare::default();
        compare.handle_digest(Side::Theirs, made(5, outputs));
        compare.handle_digest(Side::Ours, good(5));
        let verdicts = verdicts(&mut compare);
        let [verdict @ Verdict::Mismatch { ours, station, .. }] = &verdicts[..] else {
            panic!("{verdicts:?}")
        };
        assert_eq!((*station, ours.as_ref()), (Some(want), &good(5)));
        let text = verdict.to_string();
        assert!(
            text.contains("segment 5 (video) of stream cam") && text.contains(&format!("{want:?}")),
            "{text}"
        );
    }
}

#[test]
fn bytes_that_differ_behind_equal_stations_are_an_alarm() {
    let (mut compare, mut theirs) = (Compare::default(), good(5));
    theirs.sha256.0[0] ^= 1;
    compare.handle_digest(Side::Ours, good(5));
    compare.handle_digest(Side::Theirs, theirs);
    assert!(matches!(verdicts(&mut compare)[..], [Verdict::Mismatch { station: None, .. }]));
}

#[test]
fn a_side_that_makes_nothing_says_so_at_once() {
    for (side, says) in [(Side::Ours, Side::Theirs), (Side::Theirs, Side::Ours)] {
        let mut compare = Compare::default();
        compare.handle_digest(side, good(5));
        assert_eq!(verdicts(&mut compare), []);
        compare.handle_digest(says, good(5).of_nothing());
        assert_eq!(verdicts(&mut compare), [Verdict::Missing { side: says, made: good(5) }]);
        // It makes the next one again.
        compare.handle_digest(side, good(6));
        compare.handle_digest(says, good(6));
        assert_eq!(verdicts(&mut compare), [Verdict::Matched(good(6))]);
    }
}

#[test]
fn what_a_side_said_does_not_change() {
    let mut compare = Compare::default();
    compare.handle_digest(Side::Ours, good(5));
    compare.handle_digest(Side::Ours, good(5));
    compare.handle_digest(Side::Theirs, good(5));
    compare.handle_digest(Side::Theirs, good(5));
    assert_eq!(verdicts(&mut compare), [Verdict::Matched(good(5))]);
    let other = made(5, [b"in", b"units", b"marked", b"other"]);
    compare.handle_digest(Side::Theirs, other.clone());
    assert_eq!(verdicts(&mut compare), [Verdict::Changed { side: Side::Theirs, last: other }]);
}

#[test]
fn segments_before_a_standby_joined_are_not_missing_and_later_ones_are() {
    let mut compare = Compare::default();
    (1..=5).for_each(|number| compare.handle_digest(Side::Ours, good(number)));
    compare.handle_digest(Side::Theirs, good(4));
    compare.forget(&"cam".parse().unwrap(), RunId([3; 8]));
    assert_eq!(
        verdicts(&mut compare),
        [Verdict::Matched(good(4)), Verdict::Missing { side: Side::Theirs, made: good(5) }]
    );
}

#[test]
fn a_side_that_makes_nothing_is_noticed_within_the_bound() {
    let mut compare = Compare::default();
    (0..=AHEAD_MAX as u64).for_each(|number| compare.handle_digest(Side::Theirs, good(number)));
    assert_eq!(verdicts(&mut compare), [Verdict::Missing { side: Side::Ours, made: good(0) }]);
}

#[test]
fn a_side_that_is_far_ahead_is_no_alarm_and_is_compared_when_the_other_comes() {
    let mut compare = Compare::default();
    compare.handle_digest(Side::Theirs, good(0));
    (0..100).for_each(|number| compare.handle_digest(Side::Ours, good(number)));
    (1..100).for_each(|number| compare.handle_digest(Side::Theirs, good(number)));
    assert_eq!(
        verdicts(&mut compare),
        (0..100).map(|number| Verdict::Matched(good(number))).collect::<Vec<_>>()
    );
}

#[test]
fn what_a_side_has_passed_without_making_it_is_missing_soon() {
    let mut compare = Compare::default();
    (0..=WAITING_MAX as u64).for_each(|number| compare.handle_digest(Side::Ours, good(number)));
    compare.handle_digest(Side::Theirs, good(WAITING_MAX as u64));
    assert_eq!(verdicts(&mut compare), [Verdict::Matched(good(WAITING_MAX as u64))], "it began later");
    let mut compare = Compare::default();
    compare.handle_digest(Side::Theirs, good(0));
    (0..=WAITING_MAX as u64 + 1).for_each(|number| compare.handle_digest(Side::Ours, good(number)));
    // It leaves one out.
    compare.handle_digest(Side::Theirs, good(2));
    (WAITING_MAX as u64 + 2..WAITING_MAX as u64 + 4)
        .for_each(|number| compare.handle_digest(Side::Ours, good(number)));
    let all = verdicts(&mut compare);
    let wanted = [
        Verdict::Matched(good(0)),
        Verdict::Matched(good(2)),
        Verdict::Missing { side: Side::Theirs, made: good(1) },
    ];
    assert_eq!(all, wanted);
}

proptest! {
    #[test]
    fn equal_sides_match_in_any_interleaving(order in prop::collection::vec(any::<bool>(), 60)) {
        let (mut compare, mut next) = (Compare::default(), [0_u64; 2]);
        for ours in order {
            let (me, side) = if ours { (0, Side::Ours) } else { (1, Side::Theirs) };
            compare.handle_digest(side, good(next[me]));
            next[me] += 1;
        }
        let want: Vec<_> = (0..next[0].min(next[1])).map(|number| Verdict::Matched(good(number))).collect();
        prop_assert_eq!(verdicts(&mut compare), want);
    }

    #[test]
    fn the_first_byte_that_differs_is_found(same: Vec<u8>, ours: Vec<u8>, theirs: Vec<u8>) {
        let (a, b) = ([&same[..], &ours].concat(), [&same[..], &theirs].concat());
        match first_difference(&a, &b) {
            None => prop_assert_eq!(a, b),
            Some(at) => {
                prop_assert_eq!(&a[..at], &b[..at]);
                prop_assert_ne!(a.get(at), b.get(at));
            }
        }
    }

    #[test]
    fn how_output_is_cut_into_calls_does_not_matter(bytes: Vec<u8>, cut: prop::sample::Index) {
        let cut = cut.index(bytes.len() + 1);
        let (mut whole, mut pieces) = (Chain::default(), Chain::default());
        whole.add(Station::Input, &bytes);
        pieces.add(Station::Input, &bytes[..cut]);
        pieces.add(Station::Input, &bytes[cut..]);
        prop_assert_eq!(whole.finish(), pieces.finish());
    }
}
