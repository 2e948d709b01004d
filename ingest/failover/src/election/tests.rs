//! Scenarios, one at a time: two elections and three witnesses in one thread, without loss, in milliseconds.

use super::*;
use crate::action::Alarm;
use crate::witness::{self, Record, Witness};
use crate::{NodeId, WitnessId};

/// Both nodes, the witnesses, what each node was told and whether it can be reached.
struct Pair {
    now: u64,
    nodes: [Option<Election>; 2],
    notes: [Note; 2],
    reach: [bool; 2],
    witnesses: Vec<Witness>,
    witnesses_up: bool,
    link: bool,
    told: [Vec<Action>; 2],
}

const IDS: [WitnessId; 3] = [WitnessId(1), WitnessId(2), WitnessId(3)];

fn config(me: usize) -> Config {
    Config::of(NodeId(me as u16 + 1), NodeId(2 - me as u16), IDS.to_vec())
}

impl Pair {
    fn new() -> Pair {
        let node = |me| Election::new(config(me), 1, Note::default(), Duration::ZERO, Broken::default());
        let witness = |id: &WitnessId| Witness::new(*id, Record::default(), Broken::default());
        Pair {
            now: 0,
            nodes: [Some(node(0)), Some(node(1))],
            notes: [Note::default(); 2],
            reach: [true; 2],
            witnesses: IDS.iter().map(witness).collect(),
            witnesses_up: true,
            link: false,
            told: [Vec::new(), Vec::new()],
        }
    }

    /// A pair with node 0 as the holder.
    fn paired() -> Pair {
        let mut pair = Pair::new();
        pair.run(3_000);
        assert!(matches!(pair.state(0), State::Paired { .. }), "{:?}", pair.told);
        assert_eq!(pair.state(1), State::Standby);
        pair.told = [Vec::new(), Vec::new()];
        pair
    }

    fn state(&self, at: usize) -> State {
        self.nodes[at].as_ref().unwrap().state()
    }

    fn node(&mut self, at: usize) -> (&mut Election, Duration) {
        (self.nodes[at].as_mut().unwrap(), Duration::from_millis(self.now))
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            for at in 0..2 {
                self.turn(at);
            }
            self.connect();
        }
    }

    fn turn(&mut self, at: usize) {
        let now = Duration::from_millis(self.now);
        let Some(node) = &mut self.nodes[at] else { return };
        node.handle_poll(now, Progress { turns: self.now, ..Progress::default() });
        if let Some(beat) = node.poll_beat(now)
            && self.reach[at]
            && let Some(peer) = &mut self.nodes[1 - at]
        {
            peer.handle_beat(now, &beat).unwrap();
        }
        let mut asks = Vec::new();
        while let Some(ask) = self.nodes[at].as_mut().unwrap().poll_ask() {
            asks.push(ask);
        }
        for ask in asks.iter().filter(|_| self.witnesses_up) {
            for witness in &mut self.witnesses {
                witness.handle_ask(ask);
                while let Some(action) = witness.poll_action() {
                    if let witness::Action::Answer(answer) = action {
                        self.nodes[at].as_mut().unwrap().handle_answer(now, &answer);
                    }
                }
            }
        }
        for at in 0..2 {
            self.carry_out(at);
        }
    }

    fn carry_out(&mut self, at: usize) {
        let now = Duration::from_millis(self.now);
        while let Some(action) = self.nodes[at].as_mut().and_then(Election::poll_action) {
            self.told[at].push(action);
            let peer = self.nodes[1 - at].as_mut();
            match (action, peer) {
                (Action::Persist(note), _) => {
                    self.notes[at] = note;
                    self.nodes[at].as_mut().unwrap().handle_persisted(now, note);
                }
                (Action::TellPaired(epoch), Some(peer)) => peer.handle_paired(now, epoch),
                (Action::CloseLink, Some(peer)) if self.link => {
                    self.link = false;
                    peer.handle_link_down(now);
                }
                (Action::CloseLink, None) => self.link = false,
                (Action::Freeze(_), _) => self.nodes[at].as_mut().unwrap().handle_frozen(now),
                _ => {}
            }
        }
    }

    fn connect(&mut self) {
        let now = Duration::from_millis(self.now);
        let [Some(one), Some(two)] = &mut self.nodes else { return };
        let serves = |node: &Election| {
            matches!(
                node.state(),
                State::Solo { .. } | State::Paired { .. } | State::Holding { incumbent: true, .. }
            )
        };
        if !self.link && self.reach == [true; 2] && serves(one) != serves(two) {
            self.link = true;
            one.handle_link_up(now);
            two.handle_link_up(now);
        }
        if self.link {
            let (leader, follower) = if serves(one) { (one, two) } else { (two, one) };
            if leader.epoch() != 0 {
                follower.handle_in_step(now, leader.epoch());
            }
        }
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
        self.link = false;
    }

    fn place(&self, at: usize, action: &Action) -> usize {
        self.told[at]
            .iter()
            .position(|told| told == action)
            .unwrap_or_else(|| panic!("no {action:?} in {:?}", self.told))
    }
}

#[test]
fn two_empty_nodes_become_a_pair_and_the_lower_id_holds() {
    let pair = Pair::paired();
    let node = pair.nodes[0].as_ref().unwrap();
    assert_eq!(node.gate(Duration::from_millis(pair.now)), Gate::Confirmed(1));
    assert_eq!(pair.nodes[1].as_ref().unwrap().epoch(), 1);
}

#[test]
fn after_kill_the_standby_restores_first_takes_the_address_and_opens_only_with_the_grant() {
    let mut pair = Pair::paired();
    pair.kill(0);
    let (standby, now) = pair.node(1);
    standby.handle_link_down(now);
    assert_eq!(standby.gate(now), Gate::Held);
    pair.run(3);
    assert_eq!(pair.state(1), State::Solo { paused: false });
    let restored = pair.place(1, &Action::RestoreConnections);
    let taken = pair.place(1, &Action::TakeAddress);
    let opened = pair.place(1, &Action::ReleaseAcks(Gate::Alone(2)));
    assert!(restored < taken && taken < opened);
    assert_eq!(pair.notes[1].alone, 2);
}

#[test]
fn after_power_loss_silence_is_noticed_within_the_dead_time() {
    let mut pair = Pair::paired();
    pair.kill(0);
    pair.run(30);
    assert_eq!(pair.state(1), State::Standby);
    pair.run(15);
    assert_eq!(pair.state(1), State::Solo { paused: false });
}

#[test]
fn without_witnesses_the_survivor_holds_then_drops_the_address_and_is_granted_later() {
    let mut pair = Pair::paired();
    pair.witnesses_up = false;
    pair.kill(0);
    pair.run(3_000);
    assert!(matches!(pair.state(1), State::Holding { .. }));
    assert!(!pair.told[1].iter().any(|told| matches!(told, Action::ReleaseAcks(_))));
    pair.run(100);
    assert!(matches!(pair.state(1), State::Fault { .. }));
    pair.place(1, &Action::DropAddress);
    pair.witnesses_up = true;
    pair.run(4_000);
    assert!(matches!(pair.state(1), State::Solo { .. }));
}

#[test]
fn a_planned_handover_moves_the_address_without_any_witness_and_back() {
    let mut pair = Pair::paired();
    pair.witnesses_up = false;
    let (holder, now) = pair.node(0);
    holder.handle_handover(now).unwrap();
    pair.run(30);
    assert_eq!(pair.state(0), State::Standby);
    assert!(matches!(pair.state(1), State::Paired { .. }));
    assert!(pair.place(0, &Action::HoldAcks) < pair.place(0, &Action::Freeze(2)));
    assert!(pair.place(0, &Action::Freeze(2)) < pair.place(0, &Action::DropAddress));
    assert!(pair.place(1, &Action::RestoreConnections) < pair.place(1, &Action::TakeAddress));
    let (standby, now) = pair.node(0);
    assert!(matches!(standby.handle_handover(now), Err(NoHandover::NotPaired(_))));
    let (holder, now) = pair.node(1);
    holder.handle_handover(now).unwrap();
    pair.run(30);
    assert!(matches!(pair.state(0), State::Paired { .. }));
}

/// Sockets that could not be dumped go on where they were, at once, not after the handover's time.
#[test]
fn a_handover_whose_sockets_do_not_freeze_goes_back_at_once() {
    let mut pair = Pair::paired();
    let epoch = pair.nodes[0].as_ref().unwrap().epoch();
    let (holder, now) = pair.node(0);
    holder.handle_handover(now).unwrap();
    let beat = holder.poll_beat(now).unwrap();
    let (standby, now) = pair.node(1);
    standby.handle_beat(now, &beat).unwrap();
    let beat = standby.poll_beat(now).unwrap();
    let (holder, now) = pair.node(0);
    holder.handle_beat(now, &beat).unwrap();
    assert!(matches!(holder.state(), State::Paired { frozen: true, .. }));
    while holder.poll_action().is_some() {}
    holder.handle_not_frozen(now);
    assert!(matches!(holder.state(), State::Paired { frozen: false, .. }));
    assert_eq!(holder.gate(now), Gate::Confirmed(epoch));
    let told: Vec<Action> = std::iter::from_fn(|| holder.poll_action()).collect();
    assert!(
        told.contains(&Action::Thaw) && told.contains(&Action::ReleaseAcks(Gate::Confirmed(epoch))),
        "{told:?}"
    );
    holder.handle_not_frozen(now);
    assert_eq!(holder.poll_action(), None, "only once");
}

/// What was offered before a pause may be over: its taker asks first.
#[test]
fn a_handover_taken_after_a_pause_opens_nothing_yet() {
    let mut late = Pair::paired();
    let (holder, now) = late.node(0);
    holder.handle_handover(now).unwrap();
    while late.state(0) != State::Standby {
        late.run(1);
    }
    let (holder, now) = late.node(0);
    let handed = holder.poll_beat(now).unwrap();
    assert_eq!(handed.offer, Offer::Handed(2));
    late.now += 300;
    let (taker, now) = late.node(1);
    taker.handle_beat(now, &handed).unwrap();
    taker.handle_poll(now, Progress { turns: 1, ..Progress::default() });
    assert!(matches!(taker.state(), State::Paired { paused: Some(_), .. }));
    assert_eq!(taker.gate(now), Gate::Held);
}

/// Wherever the network breaks: one node goes on, alone, and the other knows its place when they meet again.
#[test]
fn a_handover_may_be_cut_at_any_moment() {
    let mut after_handing = 0;
    for cut_at in 0..25 {
        let mut pair = Pair::paired();
        let (holder, now) = pair.node(0);
        holder.handle_handover(now).unwrap();
        pair.run(cut_at);
        after_handing += u32::from(pair.state(0) == State::Standby);
        pair.reach = [false; 2];
        pair.link = false;
        pair.run(500);
        let alone = |at: usize| matches!(pair.state(at), State::Solo { .. });
        assert!(alone(0) != alone(1), "cut after {cut_at} ms: {:?} {:?}", pair.state(0), pair.state(1));
        pair.reach = [true; 2];
        pair.run(4_000);
        let states = [pair.state(0), pair.state(1)];
        assert!(states.contains(&State::Standby), "cut after {cut_at} ms: {states:?}");
        assert!(states.iter().any(|state| matches!(state, State::Paired { .. })), "{states:?}");
    }
    assert!((5..25).contains(&after_handing), "the cut misses one side of the point of no return");
}

#[test]
fn a_foreign_claim_is_answered_but_not_in_a_storm() {
    let mut pair = Pair::paired();
    pair.run(12_000);
    pair.told[0].clear();
    for _ in 0..100 {
        let (holder, now) = pair.node(0);
        holder.handle_foreign_claim(now);
        let (standby, now) = pair.node(1);
        standby.handle_foreign_claim(now);
        pair.run(1);
    }
    let count = |at: usize| pair.told[at].iter().filter(|told| **told == Action::Announce).count();
    assert_eq!((count(0), count(1)), (2, 0));
}

#[test]
fn a_paused_holder_lets_nothing_out_until_its_standby_has_answered() {
    let mut pair = Pair::paired();
    pair.now += 36;
    let (holder, now) = pair.node(0);
    assert_eq!(holder.gate(now), Gate::Held, "asked before the election has run");
    holder.handle_poll(now, Progress { turns: 1, ..Progress::default() });
    assert_eq!(holder.gate(now), Gate::Held, "its standby may have taken over meanwhile");
    pair.run(12);
    let (holder, now) = pair.node(0);
    assert_eq!(holder.gate(now), Gate::Confirmed(1));
}

#[test]
fn a_zombie_steps_down_at_the_sight_of_the_higher_epoch() {
    let mut pair = Pair::paired();
    let zombie = pair.nodes[0].take();
    pair.link = false;
    pair.run(60);
    assert!(matches!(pair.state(1), State::Solo { .. }));
    pair.nodes[0] = zombie;
    let now = Duration::from_millis(pair.now);
    assert_eq!(pair.nodes[0].as_ref().unwrap().gate(now), Gate::Held);
    pair.run(10);
    assert!(matches!(pair.state(0), State::Idle { .. }));
    assert!(pair.place(0, &Action::DropAddress) < pair.place(0, &Action::StepDown(Loss::HigherEpoch)));
    assert!(!pair.told[0].iter().any(|told| matches!(told, Action::ReleaseAcks(_))));
    // It rejoins as the standby, and nobody moves back by itself.
    pair.run(4_000);
    assert!(matches!(pair.state(1), State::Paired { .. }));
    assert_eq!(pair.state(0), State::Standby);
}

#[test]
fn a_broken_link_without_witnesses_is_resumed_by_the_holder() {
    let mut pair = Pair::paired();
    pair.witnesses_up = false;
    pair.link = false;
    for at in 0..2 {
        let (node, now) = pair.node(at);
        node.handle_link_down(now);
    }
    pair.run(200);
    assert!(matches!(pair.state(0), State::Paired { .. }));
    assert_eq!(pair.state(1), State::Standby);
    pair.place(0, &Action::Alarm(Alarm::Resumed(1)));
    pair.place(1, &Action::StepDown(Loss::PeerIsBack));
}

#[test]
fn one_that_was_alone_starts_again_alone_and_one_that_was_paired_waits() {
    for paired in [false, true] {
        let mut pair = Pair::paired();
        if !paired {
            pair.kill(1);
            pair.run(100);
            assert!(matches!(pair.state(0), State::Solo { .. }));
        }
        pair.kill(0);
        pair.nodes[1] = None;
        let now = Duration::from_millis(pair.now);
        pair.nodes[0] = Some(Election::new(config(0), 2, pair.notes[0], now, Broken::default()));
        pair.told[0].clear();
        pair.run(5_000);
        assert_eq!(matches!(pair.state(0), State::Solo { .. }), !paired);
        if paired {
            pair.place(0, &Action::Alarm(Alarm::NeedsForce));
            let (node, now) = pair.node(0);
            node.handle_force(now);
            pair.run(100);
            assert!(matches!(pair.state(0), State::Solo { .. }));
        }
    }
}

#[test]
fn flapping_makes_the_next_pair_wait_longer() {
    let mut pair = Pair::paired();
    let mut waits = Vec::new();
    for life in 2..5 {
        pair.kill(1);
        pair.run(100);
        let now = Duration::from_millis(pair.now);
        pair.nodes[1] = Some(Election::new(config(1), life, pair.notes[1], now, Broken::default()));
        let mut wait = 0;
        while !matches!(pair.state(0), State::Paired { .. }) {
            pair.run(100);
            wait += 100;
            assert!(wait < 20_000);
        }
        waits.push(wait);
    }
    assert!(waits[0] * 3 / 2 < waits[1] && waits[1] * 3 / 2 < waits[2], "{waits:?}");
}

#[test]
fn replayed_and_strange_beats_change_nothing() {
    let mut pair = Pair::paired();
    let (standby, now) = pair.node(1);
    standby.next_beat = now;
    let old = standby.poll_beat(now).unwrap();
    pair.run(20);
    let (holder, now) = pair.node(0);
    let before = format!("{holder:?}");
    assert!(matches!(holder.handle_beat(now, &old), Err(Replay::Counter { .. })));
    assert!(matches!(holder.handle_beat(now, &Beat { sender: NodeId(9), ..old }), Err(Replay::Stranger(9))));
    assert!(matches!(
        holder.handle_beat(now, &Beat { incarnation: 0, ..old }),
        Err(Replay::Incarnation { .. })
    ));
    assert_eq!(before, format!("{holder:?}"));
}

/// A later life must ask above what this one promised, so the promise is on disk before it is said.
#[test]
fn what_is_renounced_is_said_only_when_it_is_durable() {
    let mut pair = Pair::new();
    let (node, now) = pair.node(0);
    let mut beat = node.poll_beat(now).unwrap();
    (beat.sender, beat.known, beat.heard) = (NodeId(2), 9, (1, 1));
    node.handle_beat(now, &beat).unwrap();
    let note = Note { alone: 0, renounced: 9 };
    assert_eq!(node.poll_action(), Some(Action::Persist(note)));
    node.next_beat = now;
    assert_eq!(node.poll_beat(now).unwrap().renounced, 0);
    node.handle_persisted(now, note);
    node.next_beat = now;
    assert_eq!(node.poll_beat(now).unwrap().renounced, 9);
    let later = Election::new(config(0), 2, note, now, Broken::default());
    assert_eq!(later.known(), 9);
}

#[test]
fn a_hung_holder_hands_its_part_to_the_standby() {
    let mut pair = Pair::paired();
    for _ in 0..1_300 {
        pair.now += 1;
        let now = Duration::from_millis(pair.now);
        let hung = Progress { turns: 5, ..Progress::default() };
        pair.nodes[0].as_mut().unwrap().handle_poll(now, hung);
        if let Some(beat) = pair.nodes[0].as_mut().unwrap().poll_beat(now) {
            pair.nodes[1].as_mut().unwrap().handle_beat(now, &beat).unwrap();
        }
        pair.carry_out(0);
        pair.turn(1);
    }
    assert!(matches!(pair.state(1), State::Solo { .. }), "{:?}", pair.told);
    assert!(!matches!(pair.state(0), State::Solo { .. } | State::Paired { .. }));
}
