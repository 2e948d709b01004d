//! Two copies of a feed, in every order in which they may come.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use rtmp::MediaKind;

fn message(kind: MediaKind, timestamp: u32, payload: &[u8]) -> Message {
    Message { kind, timestamp, payload: Bytes::copy_from_slice(payload) }
}

/// Codec configurations, then `frames` pictures 40 ms apart, every fifth an IDR, each with sound at the same moment; sound
/// comes twice under one timestamp.
fn feed(from_ms: u32, frames: std::ops::Range<u32>) -> Vec<Message> {
    let mut all = vec![
        message(MediaKind::Video, from_ms, &[0x17, 0, 0, 0, 0, 1]),
        message(MediaKind::Audio, from_ms, &[0xaf, 0, 0x12, 0x10]),
    ];
    for frame in frames {
        let at = from_ms.wrapping_add(frame * 40);
        let head = if frame % 5 == 0 { 0x17 } else { 0x27 };
        all.push(message(MediaKind::Video, at, &[head, 1, 0, 0, 0, frame as u8]));
        all.push(message(MediaKind::Audio, at, &[0xaf, 1, frame as u8, 0]));
        all.push(message(MediaKind::Audio, at, &[0xaf, 1, frame as u8, 1]));
    }
    all
}

/// What is said of each track, in order.
fn tracks(messages: &[Message]) -> [Vec<&Message>; 2] {
    [MediaKind::Video, MediaKind::Audio].map(|kind| messages.iter().filter(|m| m.kind == kind).collect())
}

struct Lab {
    merge: Merge,
    now_ms: u64,
    out: Vec<Message>,
    anew: u32,
}

impl Lab {
    fn new() -> Lab {
        Lab { merge: Merge::new(0), now_ms: 0, out: Vec::new(), anew: 0 }
    }

    fn say(&mut self, source: &mut Source, alone: bool, messages: &[Message]) {
        for message in messages {
            let standing = Standing { alone, quiet: self.merge.is_quiet(self.now_ms) };
            match self.merge.take(source, standing, self.now_ms, message.clone()) {
                Taken::Nothing => {}
                Taken::One(message) => self.out.push(message),
                Taken::Many(messages) => self.out.extend(messages),
                Taken::Anew(messages) => {
                    self.anew += 1;
                    self.out.extend(messages);
                }
            }
        }
    }
}

#[test]
fn one_publisher_is_taken_as_it_is() {
    let (mut lab, mut one) = (Lab::new(), Source::new(1, true));
    let mut said = feed(5_000, 0..10);
    // Its clock steps back and far ahead, it says things twice, and things that are no media.
    said.extend(feed(0, 0..3));
    said.extend(feed(9_000_000, 0..3));
    said.extend(feed(9_000_000, 0..3));
    said.push(message(MediaKind::Data, 1, b"onMetaData"));
    said.push(message(MediaKind::Video, 1, &[0x17, 2, 0, 0, 0]));
    lab.say(&mut one, true, &said);
    assert_eq!(lab.out, said);
}

#[test]
fn a_spare_of_another_clock_begins_anew_with_its_newest_pictures_when_it_is_alone() {
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    let first = feed(500_000, 0..50);
    lab.say(&mut one, true, &first);
    lab.say(&mut two, false, &feed(0, 0..13));
    assert_eq!((lab.out.len(), lab.anew), (first.len(), 0), "it waits");
    lab.out.clear();
    let rest = &feed(0, 13..20)[2..];
    lab.say(&mut two, true, rest);
    let newest = &feed(0, 10..20);
    assert_eq!((lab.out.as_slice(), lab.anew), (newest.as_slice(), 1));
    // The one it replaced has another clock than the feed now.
    lab.out.clear();
    lab.say(&mut one, false, &feed(500_000, 50..60));
    assert_eq!(lab.out, []);
}

#[test]
fn a_spare_is_asked_when_the_publisher_says_nothing_any_more() {
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    lab.say(&mut one, true, &feed(500_000, 0..5));
    lab.now_ms = QUIET_MS;
    lab.say(&mut two, false, &feed(0, 0..5));
    assert_eq!(lab.anew, 0);
    lab.now_ms += 1;
    lab.say(&mut two, false, &feed(0, 5..6)[2..]);
    assert_eq!(lab.anew, 1);
}

/// Both begin at one moment, and the one that does not lead is heard first: it joins by its sound, and its pictures are of no
/// use without what they were configured with.
#[test]
fn a_connection_that_was_heard_before_the_first_brings_its_configurations() {
    let all = feed(0, 0..10);
    let sound = |message: &&Message| message.kind == MediaKind::Audio;
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    lab.say(&mut two, false, &all[..2 + 3 * 5]);
    assert_eq!(lab.out, []);
    let sound_first: Vec<_> = all.iter().filter(sound).take(1 + 2 * 5).cloned().collect();
    lab.say(&mut one, false, &sound_first);
    lab.say(&mut two, false, &all[2 + 3 * 5..]);
    lab.say(&mut one, false, &all);
    assert_eq!(tracks(&lab.out), tracks(&all));
}

#[test]
fn a_connection_that_is_ahead_waits_until_the_other_reaches_it_and_then_makes_no_hole() {
    let all = feed(0, 0..30);
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    lab.say(&mut one, true, &all[..2 + 3 * 10]);
    // It has frames 15 to 24 already, and nothing of 10 to 14.
    lab.say(&mut two, false, &feed(0, 15..25)[..]);
    assert_eq!(lab.out.len(), 2 + 3 * 10);
    lab.say(&mut one, false, &all[2 + 3 * 10..2 + 3 * 16]);
    lab.say(&mut two, true, &all[2 + 3 * 25..]);
    assert_eq!(tracks(&lab.out), tracks(&all));
    assert_eq!(lab.anew, 0);
}

#[test]
fn a_new_configuration_goes_on_once() {
    let mut all = feed(0, 0..10);
    let mut second = feed(0, 10..20);
    second[0] = message(MediaKind::Video, 400, &[0x17, 0, 0, 0, 0, 2]);
    second.remove(1);
    all.extend(second);
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    lab.say(&mut one, true, &all[..20]);
    lab.say(&mut two, false, &all[..10]);
    lab.say(&mut one, false, &all[20..]);
    lab.say(&mut two, false, &all[10..]);
    assert_eq!(tracks(&lab.out), tracks(&all));
}

/// The same moments in another encode: other bytes, and other lengths now and then.
fn encoded_again(messages: &[Message]) -> Vec<Message> {
    let again = |(nth, message): (usize, &Message)| {
        let mut payload = message.payload.to_vec();
        if What::of(message) == What::Media(0) {
            payload.extend_from_slice(&vec![0xee; 1 + nth % 3]);
        }
        Message { payload: payload.into(), ..message.clone() }
    };
    messages.iter().enumerate().map(again).collect()
}

#[test]
fn of_two_encodes_on_one_clock_one_is_used_and_the_other_is_its_spare() {
    let all = feed(0, 0..40);
    let again = encoded_again(&all);
    // It is behind, at once, or ahead.
    for lead in [-20, 0, 20] {
        let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
        lab.say(&mut one, true, &all[..2]);
        lab.say(&mut two, false, &again[..2]);
        let found = (2..all.len()).filter(|at| {
            let of_two = at.saturating_add_signed(lead);
            lab.say(&mut one, false, &all[*at..=*at]);
            let known = (2..again.len()).contains(&of_two);
            lab.say(&mut two, false, if known { &again[of_two..=of_two] } else { &[] });
            two.found_to_differ()
        });
        assert_eq!(found.count(), 1, "it is said once");
        assert_eq!(tracks(&lab.out), tracks(&all), "nothing of the second one");
        assert_eq!(lab.anew, 0);
        // The first one is lost.
        lab.out.clear();
        let rest = encoded_again(&feed(0, 40..47)[2..]);
        lab.say(&mut two, true, &rest);
        assert_eq!(lab.anew, 1);
        let first = lab.out.iter().find(|message| What::of(message) == What::Media(0)).unwrap();
        assert!(is_idr(first), "it begins with its newest pictures");
        assert!(tracks(&lab.out)[0].contains(&&rest[0]) && lab.out.ends_with(&rest[rest.len() - 3..]));
    }
}

#[test]
fn an_encode_on_one_clock_with_moments_of_its_own_is_no_copy_either() {
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    let (all, between) = (feed(0, 0..30), feed(13, 0..30));
    lab.say(&mut one, true, &all[..2 + 3 * 10]);
    lab.say(&mut two, false, &between[..2 + 3 * 8]);
    assert!(two.found_to_differ());
    lab.say(&mut one, false, &all[2 + 3 * 10..]);
    lab.say(&mut two, false, &between[2 + 3 * 8..]);
    assert_eq!((lab.out.as_slice(), lab.anew), (all.as_slice(), 0));
}

#[test]
fn a_copy_that_becomes_another_encode_leaves_and_a_lost_message_or_three_do_not_matter() {
    let all = feed(0, 0..30);
    let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
    lab.say(&mut one, true, &all[..2 + 3 * 20]);
    // Without the pictures 4 to 6, and with one that was damaged.
    let mut copy: Vec<_> = all[..2 + 3 * 10].to_vec();
    copy.retain(|message| What::of(message) != What::Media(0) || !(160..=240).contains(&message.timestamp));
    copy.last_mut().unwrap().payload = Bytes::from_static(&[0xaf, 1, 99]);
    lab.say(&mut two, false, &copy);
    assert!(two.joined && !two.found_to_differ());
    lab.say(&mut two, false, &encoded_again(&all[2 + 3 * 10..2 + 3 * 16]));
    assert!(!two.joined && two.found_to_differ());
    lab.say(&mut one, false, &all[2 + 3 * 20..]);
    lab.say(&mut two, false, &encoded_again(&all[2 + 3 * 16..]));
    assert_eq!((lab.out.as_slice(), lab.anew), (all.as_slice(), 0));
}

#[test]
fn a_gop_begins_under_either_head() {
    let video = |payload: &[u8]| is_idr(&message(MediaKind::Video, 0, payload));
    assert!(video(&[0x17, 1, 0, 0, 0, 1]) && video(b"\x91hvc1\0\0\0") && video(b"\x93hvc1"));
    assert!(!video(&[0x17, 0, 0, 0, 0, 1]) && !video(&[0x27, 1, 0, 0, 0, 1]) && !video(&[]));
    assert!(!video(b"\x90hvc1") && !video(b"\xa1hvc1\0\0\0") && !video(b"\x94hvc1"));
    assert!(!is_idr(&message(MediaKind::Audio, 0, &[0x17, 1, 0, 0, 0, 1])));
}

proptest! {
    /// Two connections with the same feed, each seen whole or lost at some moment, but never both; one may be lost and come
    /// back. What goes on is the feed: nothing is missing, nothing twice, nothing out of order. Where both were written in
    /// one order of sound and picture, as here, it goes on in that order, however the two meet.
    #[test]
    fn two_copies_make_one(
        turns in prop::collection::vec((any::<bool>(), 1usize..40), 1..60),
        from_ms in prop_oneof![Just(0u32), Just(u32::MAX - 700), any::<u32>()],
        joins_at in 0u32..40,
        lost_at in 0usize..200,
        first_is_lost in any::<bool>(),
    ) {
        const FRAMES: u32 = 60;
        let all = feed(from_ms, 0..FRAMES);
        // The second one begins with its configurations, at a picture of its own.
        let mut late = feed(from_ms, joins_at..FRAMES);
        late[0].timestamp = from_ms.wrapping_add(joins_at * 40);
        late[1].timestamp = late[0].timestamp;
        let (mut lab, mut one, mut two) = (Lab::new(), Source::new(1, true), Source::new(2, false));
        let (mut at_one, mut at_two) = (2 + 3 * joins_at as usize, 0);
        lab.say(&mut one, true, &all[..at_one]);
        let mut lost = false;
        for (of_first, count) in turns {
            let of_first = if lost { !first_is_lost } else { of_first };
            if of_first {
                let end = (at_one + count).min(all.len());
                lab.say(&mut one, lost, &all[at_one..end]);
                at_one = end;
            } else {
                let end = (at_two + count).min(late.len());
                lab.say(&mut two, lost, &late[at_two..end]);
                at_two = end;
            }
            // A loss counts once the other one is part of the feed: before, nobody could stand in.
            lost = lost || (two.joined && at_one.max(at_two) > lost_at);
        }
        if lost && first_is_lost {
            lab.say(&mut two, true, &late[at_two..]);
        } else {
            lab.say(&mut one, lost, &all[at_one..]);
        }
        prop_assert_eq!(&lab.out, &all);
        prop_assert_eq!(lab.anew, 0);
    }
}
