//! How much of a worker one address takes, and how much it may.
//!
//! No fixed number would do: a mobile network has thousands of viewers behind one address, and an attacker with one address
//! must not keep a small relay shut. So what one address may hold is a share of what is still free. Whoever takes all they
//! can leave the others a multiple of it, and when a relay fills with viewers the same attacker may hold less and less.
//!
//! A connection counts in three stages: while it shakes hands, until it has shown a session, and after that. The first two
//! last a few round trips with a player and as long as may be with who only wants the place, so their shares are smaller.
//!
//! In: who comes, goes on and leaves, and what is free. Out: yes, or which share is used up. Pure. One table a worker: the
//! kernel spreads the connections of an address over the workers, and no lock is shared.

use super::Block;
use std::collections::HashMap;

/// Of what is free an address may hold one part in so many with connections that have not shown a session: a fifth of all
/// if nobody else comes. Of 4096 handshakes that are some 800 at once, or 4,000 viewers a second from one address at two
/// round trips of 100 ms.
const UNPROVED_PART: usize = 4;
/// An address never is refused below so many connections on a worker, however little is free: a household, an office.
const FLOOR: usize = 32;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It shakes hands.
    Shaking,
    /// It has not shown a session.
    Unproved,
    /// It has.
    Proved,
}

/// What is free on a worker.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Handshakes.
    pub handshakes: usize,
    /// Seats.
    pub seats: usize,
}

/// Which share an address has used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Of handshakes under way.
    Handshakes,
    /// Of connections that have not shown a session.
    Unproved,
    /// Of all connections.
    Seats,
}

impl Refused {
    /// In one word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Handshakes => "handshakes",
            Refused::Unproved => "unproved",
            Refused::Seats => "seats",
        }
    }
}

/// A connection that counts. It must `leave` in the end.
#[derive(Debug)]
#[must_use = "who entered must leave"]
pub struct Guest {
    block: Block,
    stage: Stage,
}

impl Guest {
    /// Whom it counts for.
    pub fn block(&self) -> Block {
        self.block
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }
}

/// What one address holds: shaking, unproved, proved.
type Held = [usize; 3];

/// Connections of a worker by address. An address that has none takes no room.
#[derive(Debug, Default)]
pub struct Shares(HashMap<Block, Held>);

impl Shares {
    /// A connection of an address comes; `left` is what was free before it.
    ///
    /// # Errors
    /// Which share is used up.
    pub fn enter(&mut self, block: Block, stage: Stage, left: Left) -> Result<Guest, Refused> {
        let [shaking, unproved, proved] = self.0.get(&block).copied().unwrap_or_default();
        let share = |free: usize| free.max(FLOOR);
        if stage == Stage::Shaking && shaking >= share(left.handshakes / UNPROVED_PART) {
            return Err(Refused::Handshakes);
        }
        if stage < Stage::Proved && shaking + unproved >= share(left.seats / UNPROVED_PART) {
            return Err(Refused::Unproved);
        }
        if shaking + unproved + proved >= share(left.seats) {
            return Err(Refused::Seats);
        }
        self.0.entry(block).or_default()[stage as usize] += 1;
        Ok(Guest { block, stage })
    }

    /// A connection goes on to another stage.
    pub fn goes_on(&mut self, guest: &mut Guest, to: Stage) {
        if let Some(held) = self.0.get_mut(&guest.block) {
            held[guest.stage as usize] -= 1;
            held[to as usize] += 1;
            guest.stage = to;
        }
    }

    /// A connection has gone.
    pub fn leave(&mut self, guest: Guest) {
        if let Some(held) = self.0.get_mut(&guest.block) {
            held[guest.stage as usize] -= 1;
            if *held == Held::default() {
                self.0.remove(&guest.block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use proptest::prelude::*;

    fn block(number: u32) -> Block {
        Block::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    /// A worker with so many places of each kind: everybody takes what they can get, in turn.
    fn greedy(attackers: u32, places: usize, stage: Stage) -> (usize, Vec<usize>) {
        let mut shares = Shares::default();
        let (mut free, mut got) = (places, vec![0; attackers as usize]);
        loop {
            let before = free;
            for attacker in 0..attackers {
                let left = Left { handshakes: free, seats: free };
                // Whoever comes in never leaves.
                if free > 0 && shares.enter(block(attacker), stage, left).is_ok() {
                    got[attacker as usize] += 1;
                    free -= 1;
                }
            }
            if free == before {
                return (free, got);
            }
        }
    }

    #[test]
    fn whoever_takes_all_they_can_leaves_the_others_more() {
        let (free, got) = greedy(1, 2048, Stage::Shaking);
        assert!((400..=420).contains(&got[0]) && free > 1600, "{got:?}");
        let (free, got) = greedy(1, 30_000, Stage::Proved);
        assert!(got[0] == 15_000 && free == 15_000, "{got:?}");
        // Ten of them get less each, and still leave room.
        let (free, got) = greedy(10, 2048, Stage::Shaking);
        assert!(got.iter().all(|got| *got < 150) && free > 500, "{got:?}");
    }

    #[test]
    fn a_household_comes_in_however_little_is_free() {
        let (mut shares, left) = (Shares::default(), Left { handshakes: 1, seats: 1 });
        let guests: Vec<_> =
            (0..FLOOR).map(|_| shares.enter(block(1), Stage::Shaking, left).unwrap()).collect();
        assert_eq!(shares.enter(block(1), Stage::Shaking, left).unwrap_err(), Refused::Handshakes);
        assert_eq!(shares.enter(block(1), Stage::Unproved, left).unwrap_err(), Refused::Unproved);
        assert_eq!(shares.enter(block(1), Stage::Proved, left).unwrap_err(), Refused::Seats);
        for mut guest in guests {
            shares.goes_on(&mut guest, Stage::Proved);
            shares.leave(guest);
        }
        assert!(shares.0.is_empty(), "who has gone takes no room");
    }

    #[test]
    fn who_has_shown_a_session_makes_room_for_the_next() {
        let (mut shares, left) = (Shares::default(), Left { handshakes: 400, seats: 4000 });
        let mut guests: Vec<_> =
            (0..100).map(|_| shares.enter(block(1), Stage::Shaking, left).unwrap()).collect();
        assert_eq!(shares.enter(block(1), Stage::Shaking, left).unwrap_err(), Refused::Handshakes);
        assert!(shares.enter(block(2), Stage::Shaking, left).is_ok(), "nobody else is harmed");
        guests.iter_mut().for_each(|guest| shares.goes_on(guest, Stage::Proved));
        assert!(shares.enter(block(1), Stage::Shaking, left).is_ok());
    }

    proptest! {
        /// Whatever happens in whatever order, what is counted is who is there.
        #[test]
        fn the_count_is_who_is_there(steps in proptest::collection::vec((0..4u8, 0..5u32, 0..3u8), 0..300)) {
            let (mut shares, mut here) = (Shares::default(), Vec::<Guest>::new());
            let stage = |number: u8| [Stage::Shaking, Stage::Unproved, Stage::Proved][usize::from(number)];
            for (act, who, to) in steps {
                match act {
                    0 | 1 => here.extend(shares.enter(block(who), stage(to), Left { handshakes: 80, seats: 160 })),
                    2 if !here.is_empty() => {
                        let at = who as usize % here.len();
                        shares.goes_on(&mut here[at], stage(to));
                    }
                    3 if !here.is_empty() => shares.leave(here.remove(who as usize % here.len())),
                    _ => {}
                }
                let mut counted = HashMap::<Block, Held>::new();
                for guest in &here {
                    counted.entry(guest.block).or_default()[guest.stage as usize] += 1;
                }
                prop_assert_eq!(&counted, &shares.0);
            }
        }
    }
}
