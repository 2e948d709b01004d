//! The replication link: in order, without loss, until it ends; what is said on it, and what that means.

use super::{Event, LinkWord, World};
use crate::places::{Data, MS, Place};
use failover::Election;
use failover::election::State;

impl World {
    pub(super) fn say(&mut self, from: usize, word: LinkWord) {
        let Some(session) = self.nodes[from].link else { return };
        let delay = self.dice.range(self.weather.delay_min, self.weather.delay_max);
        let due = self.words[1 - from].back().map_or(0, |word| word.0).max(self.time + delay);
        self.words[1 - from].push_back((due, word));
        self.at(due, Event::LinkPump(1 - from, session));
    }

    pub(super) fn pump_link(&mut self, to: usize, session: u64) {
        if self.nodes[to].link != Some(session) {
            return;
        }
        let blocked = !self.open_path(Place::Node(1 - to), Place::Node(to), 0)
            || !self.open_path(Place::Node(to), Place::Node(1 - to), 0);
        if blocked {
            return self.at(self.time + 7 * MS, Event::LinkPump(to, session));
        }
        while let Some((due, _)) = self.words[to].front()
            && *due <= self.time
            && self.nodes[to].link == Some(session)
        {
            let (_, word) = self.words[to].pop_front().expect("looked at");
            self.hear(to, word);
        }
    }

    pub(super) fn hear(&mut self, at: usize, word: LinkWord) {
        let Some(election) = &self.nodes[at].election else { return };
        let (state, epoch) = (election.state(), election.epoch());
        let follows = matches!(state, State::Idle { .. } | State::Standby);
        match word {
            // A standby takes and confirms; anybody else has stopped doing so.
            LinkWord::Bytes { epoch: of, data } if follows && of >= epoch => {
                let mine = &mut self.nodes[at].data;
                match mine {
                    Some(mine) if mine.connection == data.connection => {
                        mine.bytes = mine.bytes.max(data.bytes)
                    }
                    _ => *mine = Some(data),
                }
                self.say(at, LinkWord::Confirm { epoch: of, data });
                if matches!(state, State::Idle { .. }) {
                    self.tell(at, |election, now| election.handle_in_step(now, of));
                }
            }
            LinkWord::Confirm { epoch: of, data } if of == epoch => self.nodes[at].confirmed = data,
            LinkWord::Paired(of) => self.tell(at, |election, now| election.handle_paired(now, of)),
            LinkWord::Frozen(data) if follows => {
                self.nodes[at].data = Some(data);
                self.say(at, LinkWord::Thawable);
            }
            LinkWord::Thawable => self.tell(at, |election, now| election.handle_frozen(now)),
            _ => {}
        }
    }

    pub(super) fn drop_link(&mut self, at: usize) {
        self.nodes[at].link = None;
        self.words[at].clear();
        self.nodes[at].confirmed = Data::default();
    }

    pub(super) fn close_link(&mut self, at: usize) {
        let Some(session) = self.nodes[at].link else { return };
        // "Drain, then close": what has arrived counts, also for who takes over.
        self.pump_link(at, session);
        self.drop_link(at);
        self.end_at_peer(at, session);
    }

    /// The other end hears of it, behind everything that was said.
    pub(super) fn end_at_peer(&mut self, at: usize, session: u64) {
        let delay = self.dice.range(self.weather.delay_min, self.weather.delay_max);
        let due = self.words[1 - at].back().map_or(0, |word| word.0).max(self.time + delay);
        self.at(due, Event::LinkEnd(1 - at, session));
    }

    pub(super) fn connect(&mut self) {
        if !self.nodes.iter().all(|node| node.up(self.time)) || !self.dice.chance(300) {
            return;
        }
        let state = |at: usize| self.nodes[at].election.as_ref().map(Election::state);
        let follows = |at| matches!(state(at), Some(State::Idle { .. } | State::Standby));
        let leads = |at| {
            matches!(
                state(at),
                Some(
                    State::Solo { .. }
                        | State::Paired { .. }
                        | State::Holding { incumbent: true, .. }
                        | State::Fault { incumbent: true, .. }
                )
            )
        };
        let ways = (0..2).all(|at| self.open_path(Place::Node(at), Place::Node(1 - at), 0));
        let wanted = (0..2).any(|at| follows(at) && leads(1 - at) && self.nodes[at].link.is_none());
        if !ways || !wanted {
            return;
        }
        for at in 0..2 {
            if self.nodes[at].link.is_some() {
                self.drop_link(at);
                self.tell(at, |election, now| election.handle_link_down(now));
            }
        }
        self.sessions += 1;
        for at in 0..2 {
            self.words[at].clear();
            self.nodes[at].link = Some(self.sessions);
        }
        for at in 0..2 {
            self.tell(at, |election, now| election.handle_link_up(now));
        }
    }
}
