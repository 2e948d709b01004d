//! What nodes and witnesses say to each other: an ask, and its answer.
//!
//! In: values and keys, or bytes from anywhere. Out: fixed-size datagrams, or values, or a [`SealError`]. An answer names
//! the ask it belongs to by (node, incarnation, wanted): a recorded one fits no other.

use crate::seal::{self, HEADER_LEN, Header, Kind, MAC_LEN, SealError};
use crate::{ClusterId, Epoch, NodeId, WitnessId};
use releve_watermark::KeyRing;

const ASK_BODY_LEN: usize = 1 + 8;
const ANSWER_BODY_LEN: usize = 1 + 2 + 8 + 8 + 8 + 2;
/// Length of every ask, bytes.
pub const ASK_LEN: usize = HEADER_LEN + ASK_BODY_LEN + MAC_LEN;
/// Length of every answer, bytes.
pub const ANSWER_LEN: usize = HEADER_LEN + ANSWER_BODY_LEN + MAC_LEN;

/// From a node to every witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: u64,
    /// Rises with every ask of one incarnation; for logs only.
    pub counter: u64,
    /// The epoch wanted, or given back.
    pub wanted: Epoch,
    /// The newest epoch that the asker descends from, or knows to be nobody else's.
    pub base: Epoch,
    /// Not an ask but its end: `wanted` was not used and never will be.
    pub release: bool,
}

/// What is granted, to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// 0: nothing was ever granted.
    pub epoch: Epoch,
    /// Node number; 0 for nobody.
    pub node: u16,
    /// Which life of it asked.
    pub incarnation: u64,
}

/// From a witness to the node that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who answers.
    pub witness: WitnessId,
    /// Who asked.
    pub node: NodeId,
    /// In which life.
    pub incarnation: u64,
    /// For what.
    pub wanted: Epoch,
    /// `wanted` is the asker's, as far as this witness is concerned.
    pub granted: bool,
    /// Highest number this witness ever granted.
    pub highest: Epoch,
    /// What it has granted now.
    pub lock: Lock,
}

impl Ask {
    /// Writes the datagram.
    pub fn seal(&self, keys: &KeyRing, cluster: ClusterId) -> Vec<u8> {
        let header = Header {
            kind: Kind::Ask,
            sender: self.node.0,
            epoch: self.wanted,
            incarnation: self.incarnation,
            counter: self.counter,
        };
        let mut body = vec![u8::from(self.release)];
        body.extend_from_slice(&self.base.to_be_bytes());
        seal::seal(keys, cluster, &header, &body)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is not an authentic ask of this cluster.
    pub fn open(keys: &KeyRing, cluster: ClusterId, bytes: &[u8]) -> Result<Ask, SealError> {
        let (header, mut body) = seal::open(keys, cluster, Kind::Ask, ASK_BODY_LEN, bytes)?;
        Ok(Ask {
            node: NodeId(header.sender),
            incarnation: header.incarnation,
            counter: header.counter,
            wanted: header.epoch,
            release: body.u8() != 0,
            base: body.u64(),
        })
    }
}

impl Answer {
    /// Writes the datagram.
    pub fn seal(&self, keys: &KeyRing, cluster: ClusterId) -> Vec<u8> {
        let header = Header {
            kind: Kind::Answer,
            sender: self.witness.0,
            epoch: self.wanted,
            incarnation: self.incarnation,
            counter: 0,
        };
        let mut body = vec![u8::from(self.granted)];
        body.extend_from_slice(&self.node.0.to_be_bytes());
        body.extend_from_slice(&self.highest.to_be_bytes());
        body.extend_from_slice(&self.lock.epoch.to_be_bytes());
        body.extend_from_slice(&self.lock.incarnation.to_be_bytes());
        body.extend_from_slice(&self.lock.node.to_be_bytes());
        seal::seal(keys, cluster, &header, &body)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is not an authentic answer of this cluster.
    pub fn open(keys: &KeyRing, cluster: ClusterId, bytes: &[u8]) -> Result<Answer, SealError> {
        let (header, mut body) = seal::open(keys, cluster, Kind::Answer, ANSWER_BODY_LEN, bytes)?;
        Ok(Answer {
            witness: WitnessId(header.sender),
            incarnation: header.incarnation,
            wanted: header.epoch,
            granted: body.u8() != 0,
            node: NodeId(body.u16()),
            highest: body.u64(),
            lock: Lock { epoch: body.u64(), incarnation: body.u64(), node: body.u16() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use releve_watermark::Key;

    const CLUSTER: ClusterId = ClusterId(3);

    fn keys() -> KeyRing {
        KeyRing::of(Key::new(1, [4; 32]))
    }

    #[test]
    fn both_read_back_and_neither_passes_for_the_other() {
        let ask = Ask { node: NodeId(2), incarnation: 8, counter: 1, wanted: 6, base: 5, release: true };
        let lock = Lock { epoch: 6, node: 2, incarnation: 8 };
        let answer = Answer {
            witness: WitnessId(4),
            node: NodeId(2),
            incarnation: 8,
            wanted: 6,
            granted: true,
            highest: 6,
            lock,
        };
        let (asked, answered) = (ask.seal(&keys(), CLUSTER), answer.seal(&keys(), CLUSTER));
        assert_eq!((asked.len(), answered.len()), (ASK_LEN, ANSWER_LEN));
        assert_eq!(Ask::open(&keys(), CLUSTER, &asked), Ok(ask));
        assert_eq!(Answer::open(&keys(), CLUSTER, &answered), Ok(answer));
        assert!(Answer::open(&keys(), CLUSTER, &asked).is_err());
        assert!(Ask::open(&keys(), CLUSTER, &answered).is_err());
        for bit in 0..asked.len() * 8 {
            let mut bad = asked.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Ask::open(&keys(), CLUSTER, &bad).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Ask::open(&keys(), CLUSTER, &bytes).is_err());
            prop_assert!(Answer::open(&keys(), CLUSTER, &bytes).is_err());
        }
    }
}
