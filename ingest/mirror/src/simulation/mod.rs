//! Holder, standby and publishers in one thread, with every order of events and every cut that a seed gives.
//!
//! `world.rs` runs it and checks after each event what the mirror promises; here are the runs, and the proof that each rule
//! is needed: with any one broken, some run fails.

mod world;

use crate::rule::{Rule, notices};
use proptest::prelude::*;
use world::{Tally, World};

/// Runs of the seeded loop; `MIRROR_RUNS` asks for more.
const RUNS: u64 = 3_000;
const EVENTS: u64 = 220;

fn runs() -> u64 {
    std::env::var("MIRROR_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS)
}

fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    for _ in 0..EVENTS {
        if !world.event() {
            return world.tally;
        }
    }
    world.settle();
    world.tally
}

#[test]
fn nothing_acknowledged_is_ever_missing() {
    let mut tally = Tally::default();
    (0..runs()).for_each(|seed| tally += run(seed));
    // That the runs meet what they are for.
    let of = |share: u64| runs() / share;
    assert!(tally.takeovers > of(4) && tally.takeovers_again > of(50), "{tally:?}");
    assert!(tally.late_joins > of(2) && tally.pairings > of(1), "{tally:?}");
    assert!(tally.standby_deaths > of(8) && tally.unpaired_deaths > of(20), "{tally:?}");
    assert!(tally.survivors > of(2) && tally.unacknowledged_output > of(8), "{tally:?}");
}

#[test]
fn the_holder_may_die_at_any_byte_of_the_link() {
    let mut cuts = 0;
    for seed in 0..40 {
        for cut in 0.. {
            let mut world = World::new(seed);
            if !world.until_paired() {
                break;
            }
            world.busy();
            if cut > world.on_the_way() {
                break;
            }
            world.holder_dies(cut);
            cuts += 1;
        }
    }
    assert!(cuts > 2_000, "{cuts}");
}

#[test]
fn each_rule_is_needed() {
    use Rule::*;
    for rule in [
        ConfirmTaken,
        ConfirmHeard,
        ConfirmOutputHeard,
        ReleaseOncePaired,
        LogFromSnapshot,
        SnapshotBeforeStep,
        KeepUnacknowledged,
        TellOutput,
        Fence,
    ] {
        let work = || (0..600).for_each(|seed| _ = run(seed));
        assert!(notices(rule, work), "nothing notices that {rule:?} is broken");
    }
}

proptest! {
    #[test]
    fn any_seed_keeps_the_promises(seed: u64) {
        run(seed);
    }
}
