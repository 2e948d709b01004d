//! The election in a seeded world: two nodes and their witnesses, every fault we could think of, and checks from above.
//!
//! `cargo test -p failover --test simulation` runs 500 seeds. `scripts/simulate.sh` runs 100,000,
//! `RELEVE_SIM_SEED=n` runs one and prints its trace. A broken promise names its seed.

#![allow(unreachable_pub)] // A test binary has no outside.

mod checks;
mod dice;
mod places;
mod world;

use dice::Dice;
use failover::election::State;
use failover::rule::{Broken, Rule};
use places::{MS, Place};
use world::{Fault, Weather, World};

/// Faults happen up to here, then everything heals.
const TROUBLE: u64 = 1_500 * MS;
/// By then there is one holder with one standby.
const SETTLED: u64 = 3_500 * MS;

/// What a seed makes of the world.
fn world(seed: u64, broken: Broken) -> World {
    let mut dice = Dice::new(seed);
    let witnesses = dice.pick(&[1, 3, 3, 3, 5]);
    let delay = dice.pick(&[MS / 10, MS, 3 * MS, 8 * MS]);
    let weather = Weather {
        loss: dice.pick(&[0, 0, 20, 100, 300]),
        copies: dice.pick(&[0, 50, 300]),
        delay_min: MS / 20,
        delay_max: delay,
    };
    let mut world = World::new(seed, witnesses, weather, seed.is_multiple_of(4), broken);
    let mut time = dice.range(200, 400) * MS;
    while time < TROUBLE {
        for (after, fault) in trouble(&mut dice, witnesses) {
            world.plan(time + after, fault);
        }
        // Faults come in bursts: many matter only when the next one meets the first.
        time += if dice.chance(500) { dice.range(0, 30) } else { dice.range(20, 350) } * MS;
    }
    world
}

/// One trouble, and often its end.
fn trouble(dice: &mut Dice, witnesses: usize) -> Vec<(u64, Fault)> {
    let node = dice.range(0, 1) as usize;
    let witness = dice.range(0, witnesses as u64 - 1) as usize;
    let (me, peer) = (Place::Node(node), Place::Node(1 - node));
    let later = dice.pick(&[5 * MS, 40 * MS, 150 * MS, 500 * MS]);
    match dice.range(0, 13) {
        0 | 1 => vec![(0, Fault::Crash(node)), (later, Fault::Boot(node))],
        2 => vec![
            (0, Fault::Crash(node)),
            (0, Fault::Crash(1 - node)),
            (0, Fault::Boot(node)),
            (later, Fault::Boot(1 - node)),
        ],
        3 => vec![(0, Fault::Pause(node, dice.range(5, 90) * MS))],
        4 => vec![(0, Fault::Pause(node, dice.range(30, 400) * MS))],
        5 => vec![(0, Fault::Hang(node, dice.range(50, 600) * MS))],
        6 => {
            // A machine that was suspended. Back it never goes: that would hide a pause, and the kernel promises it.
            let step = dice.range(0, 300) as i64;
            vec![(0, Fault::ClockStep(node, step * MS as i64))]
        }
        7 => {
            // Half of the handovers are hit in their middle.
            let mut faults = vec![(0, Fault::Handover(0)), (0, Fault::Handover(1))];
            let soon = dice.range(0, 25_000) * MS / 1000;
            match dice.range(0, 5) {
                0 => faults.push((soon, Fault::Crash(node))),
                1 => faults.push((soon, Fault::Cut(me, peer, None, false))),
                2 => faults.push((soon, Fault::Cut(me, peer, None, true))),
                _ => {}
            }
            faults.extend([(soon + later, Fault::Heal), (soon + later, Fault::Boot(node))]);
            faults
        }
        8 => vec![(0, Fault::CrashWitness(witness)), (later, Fault::BootWitness(witness))],
        9 => vec![(0, Fault::CutLink)],
        10 => vec![(0, Fault::Cut(me, peer, None, false)), (later, Fault::Heal)],
        11 => vec![(0, Fault::Cut(me, peer, None, true)), (later, Fault::Heal)],
        12 => {
            let path = Some(dice.range(0, 1) as usize);
            vec![(0, Fault::Cut(me, peer, path, dice.chance(500))), (later, Fault::Heal)]
        }
        _ => vec![(0, Fault::Cut(me, Place::Witness(witness), None, dice.chance(700))), (later, Fault::Heal)],
    }
}

/// Runs a seed; gives the first broken promise with the end of the trace.
fn run(seed: u64, broken: Broken) -> Result<World, String> {
    let mut world = world(seed, broken);
    world.run(TROUBLE + 500 * MS);
    world.recover();
    world.run(SETTLED);
    if world.checks.broken.is_none() {
        let states: Vec<Option<State>> =
            world.nodes.iter().map(|node| node.election.as_ref().map(|election| election.state())).collect();
        let paired = states.iter().filter(|state| matches!(state, Some(State::Paired { .. }))).count();
        let standby = states.iter().filter(|state| matches!(state, Some(State::Standby))).count();
        let holder = states.iter().position(|state| matches!(state, Some(State::Paired { .. })));
        if (paired, standby) != (1, 1) || holder != world.publisher.owner {
            world.checks.fail(format!("live: two seconds after all healed the nodes are {states:?}"));
        }
        let before = world.publisher.acknowledged;
        world.run(SETTLED + 100 * MS);
        if world.publisher.acknowledged <= before {
            world.checks.fail("live: the holder acknowledges nothing".to_owned());
        }
    }
    match world.checks.broken.clone() {
        None => Ok(world),
        Some(promise) => {
            let lines: Vec<String> = world.checks.lines.drain(..).collect();
            Err(format!("seed {seed} breaks a promise\n{}\n{promise}", lines.join("\n")))
        }
    }
}

/// A pair, then a minority of witnesses fails, then the pair breaks: one node goes on, and soon.
#[test]
fn with_a_majority_of_witnesses_one_node_goes_on() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let witnesses = dice.pick(&[1, 3, 5]);
        let weather = Weather {
            loss: dice.pick(&[0, 20, 50]),
            copies: 50,
            delay_min: MS / 20,
            delay_max: dice.pick(&[MS, 4 * MS]),
        };
        let mut world = World::new(seed, witnesses, weather, false, Broken::default());
        let both = [Place::Node(0), Place::Node(1)];
        let is = |world: &World, at: usize| world.nodes[at].election.as_ref().map(|e| e.state());
        while !(0..2).any(|at| is(&world, at) == Some(State::Standby)) {
            world.run(world.time + 10 * MS);
            assert!(world.time < 5_000 * MS, "seed {seed}: no pair");
        }
        for witness in 0..witnesses / 2 {
            world.fault(Fault::CrashWitness(witness));
        }
        let end = dice.range(0, 2) as usize;
        match end {
            2 => world.fault(Fault::Cut(both[0], both[1], None, true)),
            node => world.fault(Fault::Crash(node)),
        }
        let (broken_at, resets) = (world.time, world.checks.resets);
        let alone = |world: &World| {
            (0..2).filter(|at| matches!(is(world, *at), Some(State::Solo { .. }))).collect::<Vec<_>>()
        };
        while alone(&world).is_empty() {
            world.run(world.time + 10 * MS);
            let lines = || world.checks.lines.iter().cloned().collect::<Vec<_>>().join("\n");
            assert!(world.time < broken_at + 700 * MS, "seed {seed}: nobody goes on\n{}", lines());
        }
        world.run(world.time + 400 * MS);
        let survivor = alone(&world);
        assert!(survivor.len() == 1 && survivor[0] != end, "seed {seed}: {survivor:?}");
        assert!(!world.nodes[1 - survivor[0]].address, "seed {seed}: the other still has the address");
        assert_eq!(world.checks.broken, None, "seed {seed}");
        assert_eq!(world.checks.resets, resets, "seed {seed}: a connection was lost");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("RELEVE_SIM_SEED") {
        match run(seed, Broken::default()) {
            Ok(world) => world.checks.lines.iter().for_each(|line| println!("{line}")),
            Err(trace) => panic!("{trace}"),
        }
        return;
    }
    let seeds = number("RELEVE_SIM_SEEDS").unwrap_or(500);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // Seeds, grants used, of these with the connection alive, connections reset, segments published.
    let mut totals = [0; 5];
    let shares: Vec<[u64; 5]> = std::thread::scope(|scope| {
        let share = |first: u64| {
            let mut share = [0; 5];
            for seed in (first..seeds).step_by(threads as usize) {
                let world = run(seed, Broken::default())
                    .unwrap_or_else(|trace| panic!("{trace}\nagain: RELEVE_SIM_SEED={seed}"));
                let checks = &world.checks;
                let parts = [1, checks.takeovers, checks.kept, checks.resets, checks.published];
                for (sum, part) in share.iter_mut().zip(parts) {
                    *sum += part;
                }
            }
            share
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        running.into_iter().map(|share| share.join().expect("a seed broke a promise; see above")).collect()
    });
    for share in shares {
        for (sum, part) in totals.iter_mut().zip(share) {
            *sum += part;
        }
    }
    let [done, grants, kept, resets, published] = totals;
    println!(
        "{done} seeds, {grants} grants used, {kept} with the connection alive, {resets} connections reset, \
         {published} segments published"
    );
    assert_eq!(done, seeds);
    assert!(grants > seeds && kept * 4 > seeds && published > seeds * 10, "the faults do nothing");
}

/// Breaks one rule and says within how many seeds it is noticed.
fn noticed(rule: Rule, within: u64) {
    for seed in 0..within {
        if let Err(trace) = run(seed, Broken::at(rule)) {
            assert!(run(seed, Broken::default()).is_ok(), "seed {seed} breaks a promise without any help");
            let promise = trace.lines().last().unwrap_or_default();
            println!("{rule:?}: seed {seed}: {promise}");
            return;
        }
    }
    panic!("{rule:?} can be broken for {within} seeds and nobody notices");
}

macro_rules! mutations {
    ($($name:ident: $rule:ident within $seeds:literal;)*) => {
        $(#[test] fn $name() { noticed(Rule::$rule, $seeds); })*
    };
}

mutations! {
    a_witness_that_forgets_is_noticed: DurableFirst within 500;
    a_witness_that_ignores_descent_is_noticed: BaseNotBelowLock within 500;
    a_witness_that_grants_twice_is_noticed: OneGrantPerEpoch within 500;
    a_takeover_with_one_vote_is_noticed: MajorityGrants within 500;
    a_takeover_before_the_grant_is_noticed: HoldUntilGranted within 500;
    a_replayed_beat_is_noticed: CounterRises within 500;
    a_recorded_beat_after_a_restart_is_noticed: IncarnationEchoed within 500;
    a_zombie_that_does_not_look_is_noticed: CheckAfterPause within 500;
    a_standby_paired_too_early_is_noticed: ConfirmBeforePaired within 500;
    a_lower_epoch_that_stays_is_noticed: YieldToHigherEpoch within 500;
    a_restart_that_does_not_wait_is_noticed: PairedWaitsForPeer within 500;
}
