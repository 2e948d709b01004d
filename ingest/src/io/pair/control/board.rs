//! What operators see of the pair: the election's present state, what protection is really in force, the last takeovers.
//!
//! In: from the election's thread and the mover. Out: JSON for the status page, words for readiness, metrics.

use crate::config::pair::Protect;
use failover::detector::Verdict;
use failover::election::State;
use failover::{Alarm, Epoch, Gate, Loss, Role};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use takeover::hold::{Counts as HoldCounts, Waits};
use tracing::{error, info, warn};

/// Takeovers and alarms that are remembered.
const KEPT: usize = 32;

/// What protection works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing acknowledged is lost in a crash.
    Commit,
    /// Planned takeovers lose nothing.
    Handover,
    /// Only the address moves: publishers reconnect.
    Address,
}

/// The election at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) epoch: Epoch,
    pub(super) known: Epoch,
    pub(super) gate: Gate,
    pub(super) dead_time: Duration,
    pub(super) peer_verdict: Verdict,
    pub(super) peer_role: Option<Role>,
    pub(super) peer_epoch: Epoch,
    pub(super) link_up: bool,
    pub(super) refused: u64,
}

/// One connection in a takeover.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// The publisher.
    pub publisher: SocketAddr,
    /// Whether it lives on.
    pub alive: bool,
    /// Our bytes that it had not acknowledged.
    pub in_flight: usize,
    /// Bytes that it had sent and nobody had read.
    pub unread: usize,
    /// Its segments that met the freeze and were discarded unanswered, which it then sends again; only where this node gave
    /// it. What it sends between the address's leaving and its arrival is lost too and is in no count.
    pub discarded: Option<u32>,
    /// From the freeze at the other node until it spoke here, in milliseconds; only where this node took it.
    pub blackout_ms: Option<f64>,
}

/// One takeover, as this node saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Takeover {
    /// `took`, `gave`, `went-back`.
    pub what: &'static str,
    /// Planned, or after a loss.
    pub planned: bool,
    /// The epoch it led to.
    pub epoch: Epoch,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// From the first action to the last, in milliseconds.
    pub took_ms: f64,
    /// Where the time went: milliseconds until each step was done, from the decision at the taker, from the first order at a
    /// node that gives. `open`: packets may leave again; after a loss that needs the witnesses' grant, after a handover each
    /// still waits for the new standby.
    pub steps_ms: BTreeMap<&'static str, f64>,
    /// Its connections.
    pub connections: Vec<Moved>,
    /// What went wrong, if anything did.
    pub trouble: Vec<String>,
}

#[derive(Debug, Default)]
struct Notes {
    shown: Option<Shown>,
    takeovers: VecDeque<Takeover>,
    /// How many there were in this life.
    count: u64,
    alarms: VecDeque<(u64, String)>,
    diverged: Option<String>,
    needs_force: bool,
    hold: Option<String>,
}

/// The board.
#[derive(Debug)]
pub struct Board {
    notes: Mutex<Notes>,
    /// Configured and real protection, and why they differ.
    wanted: Level,
    level: Level,
    reasons: Vec<String>,
    node: u16,
    peer: u16,
    metrics: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuantile {
    quantile: &'static str,
}

#[derive(Clone, Debug)]
struct Counts {
    state: Family<OfState, Gauge>,
    epoch: Gauge,
    peer_alive: Gauge,
    link_up: Gauge,
    dead_ms: Gauge,
    protected: Gauge,
    refused: Gauge,
    takeovers: Family<OfKind, Counter>,
    alarms: Family<OfKind, Counter>,
    blackout: Histogram,
    held_now: Gauge,
    held_left: Gauge,
    held_dropped: Family<OfKind, Gauge>,
    held_us: Family<OfQuantile, Gauge>,
}

const STATES: [&str; 6] = ["idle", "standby", "solo", "paired", "holding", "fault"];

impl Board {
    /// An empty board.
    pub(super) fn new(wanted: Level, level: Level, reasons: Vec<String>, node: u16, peer: u16) -> Board {
        let metrics = Counts {
            state: Family::default(),
            epoch: Gauge::default(),
            peer_alive: Gauge::default(),
            link_up: Gauge::default(),
            dead_ms: Gauge::default(),
            protected: Gauge::default(),
            refused: Gauge::default(),
            takeovers: Family::default(),
            alarms: Family::default(),
            blackout: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            held_now: Gauge::default(),
            held_left: Gauge::default(),
            held_dropped: Family::default(),
            held_us: Family::default(),
        };
        Board { notes: Mutex::default(), wanted, level, reasons, node, peer, metrics }
    }

    /// What the data half is to wait for: what works here, not what was wished.
    pub fn protect(&self) -> Protect {
        if self.level == Level::Commit { Protect::Commit } else { Protect::Handover }
    }

    /// Adds the pair's metrics.
    pub fn register(&self, registry: &mut Registry) {
        let m = self.metrics.clone();
        registry.register("pair_state", "1 for the state this node of the pair is in", m.state);
        registry.register("pair_epoch", "Epoch of which this node is a member, 0 for none", m.epoch);
        registry.register("pair_peer_alive", "1 while the peer beats and works", m.peer_alive);
        registry.register("pair_link_up", "1 while the replication link is up", m.link_up);
        registry.register("pair_dead_time_ms", "Silence that counts as the peer's death", m.dead_ms);
        registry.register(
            "pair_protected",
            "1 while a takeover would lose nothing that the configured protection promises",
            m.protected,
        );
        registry.register("pair_refused_datagrams", "Datagrams that are not of this cluster", m.refused);
        registry.register("pair_takeovers", "Takeovers by kind", m.takeovers);
        registry.register("pair_alarms", "What operators should hear of", m.alarms);
        registry.register("pair_blackout_seconds", "Freeze to live, per connection", m.blackout);
        registry.register("pair_held_packets", "Packets that wait for the standby", m.held_now);
        registry.register("pair_left_packets", "Packets that left", m.held_left);
        registry.register("pair_dropped_packets", "Packets dropped, by reason", m.held_dropped);
        registry.register("pair_held_us", "Time packets waited here, since the start", m.held_us);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Plain values, whole after every statement: a panic elsewhere does not spoil them.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits: `false` when somebody is reading.
    pub(super) fn show(&self, shown: Shown) -> bool {
        let mut notes = match self.notes.try_lock() {
            Ok(notes) => notes,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        notes.shown = Some(shown);
        notes.needs_force &= matches!(shown.state, State::Idle { .. });
        drop(notes);
        let m = &self.metrics;
        for state in STATES {
            m.state.get_or_create(&OfState { state }).set((state == word(shown.state)).into());
        }
        m.epoch.set(i64::try_from(shown.epoch).unwrap_or(i64::MAX));
        m.peer_alive.set((shown.peer_verdict == Verdict::Alive).into());
        m.link_up.set(shown.link_up.into());
        m.dead_ms.set(shown.dead_time.as_millis() as i64);
        m.protected.set(self.is_protected(&shown).into());
        m.refused.set(i64::try_from(shown.refused).unwrap_or(i64::MAX));
        true
    }

    fn is_protected(&self, shown: &Shown) -> bool {
        let paired = matches!(shown.state, State::Paired { .. } | State::Standby);
        paired && self.level == self.wanted
    }

    pub(super) fn took(&self, takeover: Takeover) {
        let kind = match (takeover.what, takeover.planned) {
            ("took", true) => "took-planned",
            ("took", false) => "took-after-loss",
            ("gave", _) => "gave",
            _ => "went-back",
        };
        self.metrics.takeovers.get_or_create(&OfKind { kind }).inc();
        for moved in &takeover.connections {
            if let Some(ms) = moved.blackout_ms {
                self.metrics.blackout.observe(ms / 1000.0);
            }
        }
        let alive = takeover.connections.iter().filter(|moved| moved.alive).count();
        let all = takeover.connections.len();
        info!(kind, epoch = takeover.epoch, took_ms = takeover.took_ms, alive, all, "takeover");
        takeover.trouble.iter().for_each(|trouble| error!(trouble, "takeover"));
        let mut notes = self.notes();
        notes.count += 1;
        notes.takeovers.push_back(takeover);
        if notes.takeovers.len() > KEPT {
            notes.takeovers.pop_front();
        }
    }

    /// The last takeover's packets may leave.
    pub(super) fn opened(&self, ms: f64) {
        if let Some(last) = self.notes().takeovers.back_mut() {
            last.steps_ms.insert("open", ms);
        }
    }

    /// What the packet hold has done.
    pub(super) fn held(&self, counts: HoldCounts, waits: Waits) {
        let m = &self.metrics;
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        m.held_now.set(gauge(counts.waiting as u64));
        m.held_left.set(gauge(counts.left));
        for (kind, count) in [
            ("full", counts.dropped_full),
            ("reset", counts.dropped_reset),
            ("stranger", counts.dropped_stranger),
        ] {
            m.held_dropped.get_or_create(&OfKind { kind }).set(gauge(count));
        }
        for (quantile, share) in [("0.5", 0.5), ("0.99", 0.99), ("1", 1.0)] {
            let micros = waits.quantile(share).as_micros();
            m.held_us.get_or_create(&OfQuantile { quantile }).set(micros as i64);
        }
    }

    /// What is wrong with the packet hold, if anything is.
    pub(super) fn hold(&self, trouble: Option<String>) {
        let mut notes = self.notes();
        if notes.hold != trouble {
            match &trouble {
                Some(trouble) => error!(trouble, "the packet hold does not work"),
                None => info!("the packet hold works again"),
            }
            notes.hold = trouble;
        }
    }

    pub(super) fn diverged(&self, words: String) {
        error!(words, "holder and standby made different segments");
        self.metrics.alarms.get_or_create(&OfKind { kind: "diverged" }).inc();
        self.notes().diverged = Some(words);
    }

    /// Tells the operator: log, metric, status.
    pub(super) fn alarm(&self, alarm: Alarm) {
        let (kind, words) = tell(alarm);
        match alarm {
            Alarm::Paired(_) | Alarm::Resumed(_) => info!(kind, "{words}"),
            Alarm::OwnPause(_) | Alarm::HoldDown(_) | Alarm::Solo(_) => warn!(kind, "{words}"),
            _ => error!(kind, "{words}"),
        }
        self.metrics.alarms.get_or_create(&OfKind { kind }).inc();
        let mut notes = self.notes();
        notes.needs_force |= alarm == Alarm::NeedsForce;
        notes.alarms.push_back((unix_ms(), words));
        if notes.alarms.len() > KEPT {
            notes.alarms.pop_front();
        }
    }

    /// How many takeovers there were, and those that came after so many.
    pub fn since(&self, count: u64) -> (u64, Vec<Takeover>) {
        let notes = self.notes();
        let new = usize::try_from(notes.count.saturating_sub(count)).unwrap_or(usize::MAX);
        let skip = notes.takeovers.len().saturating_sub(new);
        (notes.count, notes.takeovers.iter().skip(skip).cloned().collect())
    }

    /// What keeps this node from being ready, in words; readiness of a standby is its being in step.
    pub fn unready(&self) -> Option<String> {
        let notes = self.notes();
        let shown = notes.shown?;
        if notes.needs_force {
            return Some(
                "nobody serves, and this node may not start alone: relevectl failover --force".into(),
            );
        }
        match shown.state {
            State::Fault { .. } => Some("this node was not granted the address".into()),
            State::Idle { .. } => Some("this node is not yet in step with a holder".into()),
            State::Holding { .. } => Some("this node lost its peer and waits for a grant".into()),
            _ => None,
        }
    }

    /// What protects less than it was configured to, a line each.
    pub fn doubts(&self) -> String {
        let notes = self.notes();
        let mut lines = String::new();
        if self.level != self.wanted {
            lines = format!("protection is {:?}, not {:?}\n", self.level, self.wanted).to_lowercase();
        }
        for why in self.reasons.iter().chain(&notes.hold) {
            lines.push_str(&format!("warning: {why}\n"));
        }
        if notes.shown.is_some_and(|shown| matches!(shown.state, State::Solo { .. })) {
            lines.push_str("warning: no standby: a crash of this node loses what it acknowledges\n");
        }
        lines
    }

    /// Present state as JSON.
    pub fn status(&self) -> Value {
        let notes = self.notes();
        let mut warnings = self.reasons.clone();
        warnings.extend(notes.hold.iter().map(|why| format!("packet hold: {why}")));
        let mut status = json!({
            "node": self.node, "peer_node": self.peer, "wanted": self.wanted, "level": self.level,
            "warnings": warnings, "needs_force": notes.needs_force, "diverged": notes.diverged,
            "takeovers": notes.takeovers, "takeover_count": notes.count,
            "alarms": notes.alarms.iter().map(|(at, words)| json!({"at_unix_ms": at, "words": words})).collect::<Vec<_>>(),
        });
        if let (Some(shown), Some(status)) = (notes.shown, status.as_object_mut()) {
            let more = json!({
                "state": word(shown.state), "epoch": shown.epoch, "known_epoch": shown.known,
                "gate": format!("{:?}", shown.gate).to_lowercase(), "protected": self.is_protected(&shown),
                "dead_time_ms": shown.dead_time.as_millis() as u64, "link_up": shown.link_up,
                "peer": {
                    "verdict": format!("{:?}", shown.peer_verdict).to_lowercase(), "epoch": shown.peer_epoch,
                    "role": shown.peer_role.map(|role| format!("{role:?}").to_lowercase()),
                },
            });
            status.extend(more.as_object().cloned().unwrap_or_default());
        }
        status
    }
}

/// A state in one word.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Idle { .. } => "idle",
        State::Standby => "standby",
        State::Solo { .. } => "solo",
        State::Paired { .. } => "paired",
        State::Holding { .. } => "holding",
        State::Fault { .. } => "fault",
    }
}

/// An alarm's short name, and the sentence for a person.
fn tell(alarm: Alarm) -> (&'static str, String) {
    match alarm {
        Alarm::Paired(epoch) => ("paired", format!("paired in epoch {epoch}: everything is protected")),
        Alarm::PeerLost(why) => ("peer-lost", format!("the peer is lost: {}", because(why))),
        Alarm::Solo(epoch) => {
            ("solo", format!("alone in epoch {epoch}: a crash of this node now loses what it acknowledges"))
        }
        Alarm::Resumed(epoch) => ("resumed", format!("the peer is back in epoch {epoch}")),
        Alarm::Fault(why) => ("fault", format!("the address is down, this node has no grant: {}", because(why))),
        Alarm::OwnPause(ms) => ("own-pause", format!("this node was not scheduled for {ms} ms")),
        Alarm::HoldDown(ms) => ("hold-down", format!("the peer flaps: no new pair for {ms} ms")),
        Alarm::NeedsForce => (
            "needs-force",
            "nobody serves, and the peer may have the only copy of acknowledged bytes: start the peer, or, when it is gone for good, run relevectl failover --force".into(),
        ),
        Alarm::HandoverFailed => ("handover-failed", "a planned handover went back".into()),
    }
}

fn because(why: Loss) -> &'static str {
    match why {
        Loss::Silent => "no heartbeat for the dead time",
        Loss::LinkClosed => "the replication link ended",
        Loss::Hung => "its data plane stands still",
        Loss::Restarted => "it has started anew",
        Loss::PeerLeft => "it takes this node for dead, or has left the pair",
        Loss::Paused => "this node was paused and the peer did not answer since",
        Loss::OwnHung => "this node's own data plane stands still",
        Loss::HigherEpoch => "a higher epoch is held elsewhere",
        Loss::NotGranted => "the witnesses granted the peer",
        Loss::HeldTooLong => "no grant in time",
        Loss::HandedOver => "handed over as planned",
        Loss::PeerIsBack => "the peer, taken for dead, holds on",
    }
}

/// Now, for people.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
