//! The handshake: C0, C1 and C2 of one client, and our S0, S1 and S2.
//!
//! In: bytes from the first of the connection. Out: our 3,073 bytes once C1 is whole. Holds at
//! most C1 and our random bytes, whatever comes. Pure. Adobe RTMP 1.0, section 5.2.
//!
//! C2 is counted, not compared: encoders in use send wrong echoes, and nothing depends on it.

use bytes::BytesMut;

use crate::snapshot::{Load, Save};
use crate::{Error, RestoreError, digest};

/// Length of C1, C2, S1 and S2 in bytes.
pub(crate) const PACKET_LEN: usize = 1536;
/// One of C1, C2, S1, S2.
pub(crate) type Packet = [u8; PACKET_LEN];

const VERSION: u8 = 3;
/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// How far the client has come.
pub(crate) enum Handshake {
    /// Nothing, or C0 and a part of C1.
    C1 {
        /// C0 came.
        greeted: bool,
        /// What is there of C1; never more than [`PACKET_LEN`].
        c1: Vec<u8>,
        /// Our random bytes, until S1 is made.
        random: Box<[u8; 1528]>,
    },
    /// S0, S1 and S2 are out; so many bytes of C2 are missing.
    C2 {
        /// At most [`PACKET_LEN`].
        missing: usize,
    },
}

impl Handshake {
    pub(crate) fn new(random: [u8; 1528]) -> Self {
        Self::C1 { greeted: false, c1: Vec::new(), random: Box::new(random) }
    }

    /// Takes what belongs to the handshake from `input`. True when it is complete.
    pub(crate) fn read(&mut self, input: &mut &[u8], out: &mut BytesMut) -> Result<bool, Error> {
        if let Self::C1 { greeted, c1, random } = self {
            if !*greeted {
                let Some((&version, rest)) = input.split_first() else { return Ok(false) };
                check_version(version)?;
                *greeted = true;
                *input = rest;
            }
            let (mine, rest) = input.split_at(input.len().min(PACKET_LEN - c1.len()));
            c1.reserve_exact(PACKET_LEN - c1.len());
            c1.extend_from_slice(mine);
            *input = rest;
            let Ok(c1) = <&Packet>::try_from(c1.as_slice()) else { return Ok(false) };
            answer(c1, random, out);
            *self = Self::C2 { missing: PACKET_LEN };
        }
        if let Self::C2 { missing } = self {
            let mine = input.len().min(*missing);
            *input = &input[mine..];
            *missing -= mine;
            return Ok(*missing == 0);
        }
        Ok(false)
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::C1 { c1, .. } => c1.capacity() + 1528,
            Self::C2 { .. } => 0,
        }
    }

    pub(crate) fn save(&self, out: &mut Save) {
        match self {
            Self::C1 { greeted, c1, random } => {
                out.u8(0);
                out.u8(u8::from(*greeted));
                out.bytes(c1);
                out.bytes(random.as_slice());
            }
            Self::C2 { missing } => {
                out.u8(1);
                out.u64(*missing as u64);
            }
        }
    }

    pub(crate) fn load(from: &mut Load<'_>) -> Result<Self, RestoreError> {
        let invalid = RestoreError::Invalid { what: "handshake" };
        match from.u8()? {
            0 => {
                let greeted = from.flag("handshake")?;
                let c1 = from.bytes()?.to_vec();
                let random = <[u8; 1528]>::try_from(from.bytes()?).map_err(|_| invalid.clone())?;
                if c1.len() >= PACKET_LEN || (!greeted && !c1.is_empty()) {
                    return Err(invalid);
                }
                Ok(Self::C1 { greeted, c1, random: Box::new(random) })
            }
            1 => {
                let missing = from.count()?;
                if missing == 0 || missing > PACKET_LEN {
                    return Err(invalid);
                }
                Ok(Self::C2 { missing })
            }
            _ => Err(invalid),
        }
    }
}

fn check_version(version: u8) -> Result<(), Error> {
    match version {
        VERSION => Ok(()),
        TLS_HANDSHAKE => Err(Error::Tls),
        b'A'..=b'Z' => Err(Error::Http),
        _ => Err(Error::Version { version }),
    }
}

fn answer(c1: &Packet, random: &[u8; 1528], out: &mut BytesMut) {
    out.extend_from_slice(&[VERSION]);
    // A version field of zero says: simple handshake (section 5.2.3).
    let signed = if c1[4..8] == [0; 4] { None } else { digest::answer(c1, random) };
    match signed {
        Some((s1, s2)) => {
            out.extend_from_slice(s1.as_slice());
            out.extend_from_slice(s2.as_slice());
        }
        None => {
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(random);
            out.extend_from_slice(c1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8], step: usize) -> Result<(bool, Vec<u8>, usize), Error> {
        let mut handshake = Handshake::new([9; 1528]);
        let (mut out, mut done, mut unread) = (BytesMut::new(), false, 0);
        for part in input.chunks(step) {
            let mut rest = part;
            if !done {
                done = handshake.read(&mut rest, &mut out)?;
            }
            unread += rest.len();
            assert!(handshake.memory() <= PACKET_LEN + 1528);
        }
        Ok((done, out.to_vec(), unread))
    }

    #[test]
    fn simple_handshake_echoes_c1_for_any_split() {
        let mut input = vec![3, 0, 0, 0, 5, 0, 0, 0, 0];
        input.extend((0..1528).map(|n| n as u8));
        input.extend([1; PACKET_LEN]);
        input.extend(b"rest");
        for step in [1, 7, 1536, 1537, input.len()] {
            let (done, out, unread) = run(&input, step).unwrap();
            assert!(done);
            assert_eq!(unread, 4);
            assert_eq!(out.len(), 1 + 2 * PACKET_LEN);
            assert_eq!((out[0], &out[1..9], &out[9..1537]), (3, &[0; 8][..], &[9; 1528][..]));
            assert_eq!(out[1537..], input[1..1537]);
        }
    }

    #[test]
    fn a_version_without_a_digest_falls_back_to_the_echo() {
        let mut input = vec![3];
        input.extend([0x44; PACKET_LEN]);
        let (done, out, _) = run(&input, input.len()).unwrap();
        assert!(!done);
        assert_eq!(out[1537..], input[1..1537]);
    }

    #[test]
    fn a_digest_is_answered_by_a_digest() {
        let mut c1 = [0x44; PACKET_LEN];
        digest::sign_c1(&mut c1, 1);
        let input = [&[3], c1.as_slice()].concat();
        let (_, out, _) = run(&input, 100).unwrap();
        assert_ne!(out[5..9], [0; 4]);
        assert_ne!(out[1537..], input[1..1537]);
    }

    #[test]
    fn other_protocols_are_named() {
        assert_eq!(run(b"GET / HTTP/1.1\r\n", 16), Err(Error::Http));
        assert_eq!(run(b"\x16\x03\x01\x02\x00\x01", 1), Err(Error::Tls));
        assert_eq!(run(b"\x06", 1), Err(Error::Version { version: 6 }));
        assert!(Error::Tls.to_string().contains("rtmps://"));
        assert!(Error::Http.to_string().contains("HTTP port"));
    }
}
