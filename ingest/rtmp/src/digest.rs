//! Digest handshake: what Flash-era clients prove to each other, and some encoders still ask for.
//!
//! In: C1. Out: S1 and S2 that carry our digests, or `None` when C1 has no valid digest (then the
//! plain echo is used). Pure. Not in Adobe's RTMP 1.0: de facto, as librtmp and ffmpeg do it.
//!
//! ```text
//! C1, S1  | time 4 | version 4 | 764 bytes | 764 bytes |   one 764 holds 4 offset bytes and, at
//!                                                          (sum of them mod 728), 32 digest bytes
//! digest of C1 = HMAC-SHA256(client key, C1 without its digest)
//! S2      | 1504 random | HMAC-SHA256(HMAC-SHA256(full server key, digest of C1), the 1504) |
//! ```
//! It authenticates nobody (the keys are known to all); the comparison need not be secret.

use ring::hmac;

use crate::handshake::{PACKET_LEN, Packet};

const DIGEST_LEN: usize = 32;
/// Where the four offset bytes are, in the two layouts ("schemas") in use.
const OFFSET_FIELDS: [usize; 2] = [8, 772];
const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// Follows [`SERVER_KEY`] when S2 is signed.
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57, 0x6E,
    0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];
/// Version we name in S1; a zero would tell the client not to look for a digest.
const SERVER_VERSION: [u8; 4] = [3, 5, 1, 1];

/// S1 and S2 for a C1 with a digest; `random` fills what is not digest.
pub(crate) fn answer(c1: &Packet, random: &[u8; 1528]) -> Option<(Box<Packet>, Box<Packet>)> {
    let (field, at) = OFFSET_FIELDS
        .into_iter()
        .map(|field| (field, digest_at(c1, field)))
        .find(|&(_, at)| digest(CLIENT_KEY, c1, at) == c1[at..at + DIGEST_LEN])?;
    let client_digest = &c1[at..at + DIGEST_LEN];

    let mut s1 = Box::new([0; PACKET_LEN]);
    s1[4..8].copy_from_slice(&SERVER_VERSION);
    s1[8..].copy_from_slice(random);
    let at = digest_at(&s1, field);
    let own = digest(SERVER_KEY, &s1, at);
    s1[at..at + DIGEST_LEN].copy_from_slice(&own);

    let mut s2 = Box::new([0; PACKET_LEN]);
    let signed = PACKET_LEN - DIGEST_LEN;
    s2[..signed].copy_from_slice(&random[..signed]);
    let full_key = [SERVER_KEY, &KEY_TAIL].concat();
    let key = sign(&full_key, &[client_digest]);
    let signature = sign(key.as_ref(), &[&s2[..signed]]);
    s2[signed..].copy_from_slice(signature.as_ref());
    Some((s1, s2))
}

/// Position of the digest: behind the four offset bytes, at most 727 further.
fn digest_at(packet: &Packet, field: usize) -> usize {
    let sum: usize = packet[field..field + 4].iter().map(|&byte| usize::from(byte)).sum();
    sum % 728 + field + 4
}

fn digest(key: &[u8], packet: &Packet, at: usize) -> [u8; DIGEST_LEN] {
    let tag = sign(key, &[&packet[..at], &packet[at + DIGEST_LEN..]]);
    tag.as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
}

fn sign(key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

/// Puts a client's digest into C1, in layout `schema` (0 or 1). For tests and fuzzing.
#[cfg(test)]
pub(crate) fn sign_c1(c1: &mut Packet, schema: usize) {
    let at = digest_at(c1, OFFSET_FIELDS[schema]);
    let own = digest(CLIENT_KEY, c1, at);
    c1[at..at + DIGEST_LEN].copy_from_slice(&own);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ffmpeg's client checks in S1 and S2 (libavformat/rtmpproto.c, `rtmp_handshake`).
    fn client_accepts(c1: &Packet, schema: usize, s1: &Packet, s2: &Packet) -> bool {
        let at = digest_at(s1, OFFSET_FIELDS[schema]);
        let c_at = digest_at(c1, OFFSET_FIELDS[schema]);
        let key = sign(&[SERVER_KEY, &KEY_TAIL].concat(), &[&c1[c_at..c_at + 32]]);
        digest(SERVER_KEY, s1, at) == s1[at..at + 32]
            && sign(key.as_ref(), &[&s2[..1504]]).as_ref() == &s2[1504..]
    }

    #[test]
    fn both_layouts_are_answered_in_kind() {
        for schema in [0, 1] {
            for seed in 0..=255u8 {
                let mut c1 = [seed; PACKET_LEN];
                c1[9] = seed.wrapping_mul(7);
                c1[775] = seed.wrapping_mul(11);
                sign_c1(&mut c1, schema);
                let (s1, s2) = answer(&c1, &[seed ^ 0x5a; 1528]).unwrap();
                assert!(client_accepts(&c1, schema, &s1, &s2), "schema {schema}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_c1_without_a_digest_is_not_answered() {
        assert!(answer(&[7; PACKET_LEN], &[1; 1528]).is_none());
        assert!(answer(&[0xff; PACKET_LEN], &[1; 1528]).is_none());
    }
}
