//! A link is live, whole, and nobody else's.

use super::*;
use crate::rule::notices;
use proptest::prelude::*;
use releve_watermark::Key;

fn ring(version: u32) -> KeyRing {
    KeyRing::of(Key::new(version, [version as u8; 32]))
}

fn end(role: Role, epoch: u64, nonce: u8) -> Link {
    let identity = Identity { cluster: 9, node: role as u16, role, epoch };
    Link::new(identity, ring(7), [nonce; 32])
}

/// What `from` has to say now.
fn said(from: &mut Link) -> Vec<u8> {
    std::iter::from_fn(|| from.poll_transmit()).flatten().collect()
}

fn heard(to: &mut Link, bytes: &[u8]) -> Result<Vec<Frame>, Error> {
    to.handle_bytes(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = to.poll_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Both ends proven; and all that the holder has said.
fn met(nonces: (u8, u8)) -> (Link, Link, Vec<u8>) {
    let (mut holder, mut standby) = (end(Role::Holder, 4, nonces.0), end(Role::Standby, 4, nonces.1));
    let mut tape = said(&mut holder);
    heard(&mut standby, &tape).unwrap();
    heard(&mut holder, &said(&mut standby)).unwrap();
    let ping = said(&mut holder);
    heard(&mut standby, &ping).unwrap();
    tape.extend_from_slice(&ping);
    assert!(holder.is_proven() && standby.is_proven());
    (holder, standby, tape)
}

fn roll(connections: u32) -> Frame {
    Frame::Roll { connections }
}

#[test]
fn frames_arrive_whatever_the_pieces() {
    let (mut holder, mut standby, _) = met((1, 2));
    (0..200).for_each(|n| holder.send(roll(n)));
    let frames: Vec<_> =
        said(&mut holder).chunks(7).flat_map(|bytes| heard(&mut standby, bytes).unwrap()).collect();
    assert_eq!(frames, (0..200).map(roll).collect::<Vec<_>>());
}

fn a_recorded_link_does_not_hold() {
    let (mut holder, _, mut tape) = met((1, 2));
    holder.send(roll(1));
    tape.extend_from_slice(&said(&mut holder));
    let mut later = end(Role::Standby, 4, 3);
    assert_eq!(heard(&mut later, &tape), Err(Error::Mac { counter: 1 }));
    assert!(!later.is_proven());
}

#[test]
fn a_recorded_link_is_refused() {
    a_recorded_link_does_not_hold();
    assert!(notices(Rule::FreshNonce, a_recorded_link_does_not_hold));
}

#[test]
fn a_replayed_hello_is_told_nothing() {
    let mut holder = end(Role::Holder, 4, 1);
    holder.send(roll(1));
    said(&mut holder);
    heard(&mut holder, &said(&mut end(Role::Standby, 4, 2))).unwrap();
    // The Ping and no more.
    assert_eq!(said(&mut holder).len(), HEADER_LEN + 1 + MAC_LEN);
}

#[test]
fn an_echo_is_refused() {
    let (mut holder, _, _) = met((1, 2));
    holder.send(roll(1));
    let own = said(&mut holder);
    assert!(matches!(heard(&mut holder, &own), Err(Error::Mac { .. })));
    let mut holder = end(Role::Holder, 4, 1);
    let own = said(&mut holder);
    assert_eq!(heard(&mut holder, &own), Err(Error::Role { node: 1 }));
}

#[test]
fn a_hello_of_another_epoch_cluster_or_key_is_refused() {
    let standby = || end(Role::Standby, 4, 2);
    let hello = |cluster, epoch, key| {
        let identity = Identity { cluster, node: 1, role: Role::Holder, epoch };
        said(&mut Link::new(identity, ring(key), [1; 32]))
    };
    assert_eq!(heard(&mut standby(), &hello(9, 3, 7)), Err(Error::Epoch { ours: 4, theirs: 3 }));
    assert_eq!(heard(&mut standby(), &hello(9, 5, 7)), Err(Error::Epoch { ours: 4, theirs: 5 }));
    assert_eq!(heard(&mut standby(), &hello(8, 4, 7)), Err(Error::Cluster));
    assert_eq!(heard(&mut standby(), &hello(9, 4, 6)), Err(Error::Key { version: 6 }));
    let mut bent = hello(9, 4, 7);
    bent[40] ^= 1;
    assert_eq!(heard(&mut standby(), &bent), Err(Error::Mac { counter: 0 }));
}

fn a_frame_of_another_epoch_is_no_news() {
    for epoch in [3, 5] {
        let (mut holder, mut standby, _) = met((1, 2));
        holder.identity.epoch = epoch;
        holder.send(roll(1));
        assert_eq!(heard(&mut standby, &said(&mut holder)), Err(Error::Epoch { ours: 4, theirs: epoch }));
    }
}

#[test]
fn a_frame_of_another_epoch_is_refused() {
    a_frame_of_another_epoch_is_no_news();
    assert!(notices(Rule::OneEpoch, a_frame_of_another_epoch_is_no_news));
}

#[test]
fn a_frame_left_out_or_said_twice_is_noticed() {
    for sent in [1, 3] {
        let (mut holder, mut standby, _) = met((1, 2));
        let want = holder.sent + 1;
        holder.sent = if sent == 1 { holder.sent - 1 } else { holder.sent + 1 };
        holder.send(roll(1));
        let got = holder.sent + 1;
        assert_eq!(heard(&mut standby, &said(&mut holder)), Err(Error::Counter { want, got }));
    }
}

#[test]
fn while_keys_change_both_versions_meet() {
    let both = KeyRing::parse(&[7, 8].map(|n| Key::new(n, [n as u8; 32]).to_line()).concat()).unwrap();
    let turned = KeyRing::parse(&[8, 7].map(|n| Key::new(n, [n as u8; 32]).to_line()).concat()).unwrap();
    let of =
        |role, keys| Link::new(Identity { cluster: 9, node: role as u16, role, epoch: 4 }, keys, [1; 32]);
    let (mut holder, mut standby) = (of(Role::Holder, both), of(Role::Standby, turned));
    heard(&mut standby, &said(&mut holder)).unwrap();
    heard(&mut holder, &said(&mut standby)).unwrap();
    assert!(holder.is_proven());
}

fn every_flipped_bit_is_noticed() {
    for bit in 0..8 * (HEADER_LEN + 5 + MAC_LEN) {
        let (mut holder, mut standby, _) = met((1, 2));
        holder.send(roll(0));
        let mut bytes = said(&mut holder);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let heard = heard(&mut standby, &bytes);
        // A longer length waits for bytes that never come; nothing is believed.
        assert!(heard.is_err() || heard == Ok(vec![]), "bit {bit}: {heard:?}");
    }
}

#[test]
fn a_flipped_bit_is_refused() {
    every_flipped_bit_is_noticed();
    assert!(notices(Rule::CheckMac, every_flipped_bit_is_noticed));
}

proptest! {
    #[test]
    fn hostile_bytes_give_no_frame(bytes: Vec<u8>, after_hello: bool) {
        let (_, mut standby, _) = met((1, 2));
        let mut fresh = end(Role::Standby, 4, 3);
        let end = if after_hello { &mut standby } else { &mut fresh };
        if let Ok(frames) = heard(end, &bytes) {
            prop_assert_eq!(frames, vec![]);
        }
    }
}
