//! The heartbeat: one fixed-size datagram that states the sender's whole stance.
//!
//! In: a [`Beat`] and keys, or bytes from anywhere. Out: 177 bytes, or a `Beat`, or a [`SealError`]. The same beat goes out
//! on every path and differs only in `path`. See [`crate::seal`] for the envelope.

use crate::seal::{self, HEADER_LEN, Header, Kind, MAC_LEN, SealError};
use crate::{ClusterId, Epoch, NodeId};
use releve_watermark::KeyRing;
use std::time::Duration;

const BODY_LEN: usize = 5 + 12 * 8;
/// Length of every beat, bytes.
pub const BEAT_LEN: usize = HEADER_LEN + BODY_LEN + MAC_LEN;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Has nothing to go on with: just started, or overtaken. May be catching up.
    Idle = 0,
    /// Member of the newest epoch it knows; has every byte that was acknowledged.
    Standby = 1,
    /// Holds the address and serves.
    Holder = 2,
    /// Lost its peer: has the address, gives nothing out, asks the witnesses.
    Holding = 3,
    /// Gave the address up for want of a grant; still asks.
    Fault = 4,
}

/// How far a planned handover is, as this node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// None under way.
    #[default]
    None,
    /// Holder: will you take over under this number?
    Prepare(Epoch),
    /// Standby: yes, and I ask for nothing at or below this number.
    Prepared(Epoch),
    /// Former holder, past the point of no return: it is yours.
    Handed(Epoch),
}

/// What the data plane has done, for the eye of the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Turns of the data plane's loop, idle ones too: stands still only when it hangs.
    pub turns: u64,
    /// Bytes mirrored to, or from, the peer.
    pub mirrored: u64,
    /// Of these, confirmed.
    pub confirmed: u64,
}

/// One heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Who.
    pub sender: NodeId,
    /// Which life of it.
    pub incarnation: u64,
    /// Rises by one with each beat, the same on all paths.
    pub counter: u64,
    /// The epoch it is a member of; 0 for none.
    pub epoch: Epoch,
    /// By which path this copy goes.
    pub path: u8,
    /// What it is.
    pub role: Role,
    /// It held the address when it lost its peer, and would go on if the peer came back.
    pub incumbent: bool,
    /// It is hung and seeks nothing.
    pub hung: bool,
    /// Planned handover.
    pub offer: Offer,
    /// Newest incarnation and counter heard from the receiver: proof that the sender lives now and hears.
    pub heard: (u64, u64),
    /// Incarnation of the peer that it is paired with; 0 for none.
    pub partner: u64,
    /// The epoch whose holder it has caught up with; 0 for none.
    pub in_step: Epoch,
    /// Highest epoch it has heard of.
    pub known: Epoch,
    /// It holds no epoch up to this one and never will. Durable.
    pub renounced: Epoch,
    /// Data plane.
    pub progress: Progress,
    /// When it was sent, on the sender's monotonic clock; only differences mean something.
    pub sent_at: Duration,
}

impl Beat {
    /// Writes the datagram.
    pub fn seal(&self, keys: &KeyRing, cluster: ClusterId) -> Vec<u8> {
        let header = Header {
            kind: Kind::Beat,
            sender: self.sender.0,
            epoch: self.epoch,
            incarnation: self.incarnation,
            counter: self.counter,
        };
        let (offer, number) = match self.offer {
            Offer::None => (0, 0),
            Offer::Prepare(number) => (1, number),
            Offer::Prepared(number) => (2, number),
            Offer::Handed(number) => (3, number),
        };
        let mut body = Vec::with_capacity(BODY_LEN);
        let flags = u8::from(self.incumbent) | u8::from(self.hung) << 1;
        body.extend_from_slice(&[self.path, self.role as u8, flags, offer, 0]);
        for word in [
            number,
            self.heard.0,
            self.heard.1,
            self.partner,
            self.in_step,
            self.known,
            self.renounced,
            self.progress.turns,
            self.progress.mirrored,
            self.progress.confirmed,
            self.sent_at.as_secs(),
            u64::from(self.sent_at.subsec_nanos()),
        ] {
            body.extend_from_slice(&word.to_be_bytes());
        }
        seal::seal(keys, cluster, &header, &body)
    }

    /// Reads a datagram. Total: any bytes give a beat or an error.
    ///
    /// # Errors
    /// When it is not an authentic beat of this cluster.
    pub fn open(keys: &KeyRing, cluster: ClusterId, bytes: &[u8]) -> Result<Beat, SealError> {
        let (header, mut body) = seal::open(keys, cluster, Kind::Beat, BODY_LEN, bytes)?;
        let [path, role, flags, offer, _] = body.take();
        let field = |field, value| SealError::Field { field, sender: header.sender, value };
        let role = match role {
            0 => Role::Idle,
            1 => Role::Standby,
            2 => Role::Holder,
            3 => Role::Holding,
            4 => Role::Fault,
            other => return Err(field("role", other.into())),
        };
        let number = body.u64();
        let offer = match offer {
            0 => Offer::None,
            1 => Offer::Prepare(number),
            2 => Offer::Prepared(number),
            3 => Offer::Handed(number),
            other => return Err(field("offer", other.into())),
        };
        Ok(Beat {
            sender: NodeId(header.sender),
            incarnation: header.incarnation,
            counter: header.counter,
            epoch: header.epoch,
            path,
            role,
            incumbent: flags & 1 != 0,
            hung: flags & 2 != 0,
            offer,
            heard: (body.u64(), body.u64()),
            partner: body.u64(),
            in_step: body.u64(),
            known: body.u64(),
            renounced: body.u64(),
            progress: Progress { turns: body.u64(), mirrored: body.u64(), confirmed: body.u64() },
            sent_at: {
                let (seconds, nanos) = (body.u64(), body.u64());
                Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use releve_watermark::Key;

    const CLUSTER: ClusterId = ClusterId(0xC0FFEE);

    fn ring(version: u32, byte: u8) -> KeyRing {
        KeyRing::of(Key::new(version, [byte; 32]))
    }

    fn beat() -> Beat {
        Beat {
            sender: NodeId(1),
            incarnation: 7,
            counter: 99,
            epoch: 5,
            path: 1,
            role: Role::Holding,
            incumbent: true,
            hung: false,
            offer: Offer::Handed(6),
            heard: (3, 4),
            partner: 3,
            in_step: 5,
            known: 6,
            renounced: 2,
            progress: Progress { turns: 1, mirrored: 2, confirmed: 3 },
            sent_at: Duration::from_nanos(1_234_567_890_123),
        }
    }

    #[test]
    fn a_beat_reads_back_under_either_live_key_and_no_other() {
        let (old, new) = (Key::new(1, [1; 32]), Key::new(2, [2; 32]));
        let both = KeyRing::parse(&format!("{}{}", new.to_line(), old.to_line())).unwrap();
        let early = beat().seal(&KeyRing::of(old), CLUSTER);
        assert_eq!(early.len(), BEAT_LEN);
        assert_eq!(Beat::open(&both, CLUSTER, &early), Ok(beat()));
        assert_eq!(Beat::open(&both, CLUSTER, &beat().seal(&both, CLUSTER)), Ok(beat()));
        let only_new = KeyRing::of(new);
        assert_eq!(Beat::open(&only_new, CLUSTER, &early), Err(SealError::Key { version: 1 }));
        let forged = beat().seal(&ring(2, 9), CLUSTER);
        assert_eq!(Beat::open(&only_new, CLUSTER, &forged), Err(SealError::Mac { sender: 1 }));
        assert_eq!(Beat::open(&both, ClusterId(1), &early), Err(SealError::Cluster));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (keys, bytes) = (ring(1, 1), beat().seal(&ring(1, 1), CLUSTER));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Beat::open(&keys, CLUSTER, &bad).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Beat::open(&keys, CLUSTER, &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Beat::open(&ring(1, 1), CLUSTER, &bytes).is_err());
        }
    }
}
