//! The mover: carries the election's actions out, one after the other, on a thread of its own.
//!
//! In: [`Work`] of the election and reports of the data half. Out: orders to the data half, the address, live sockets, the
//! packet hold. The order of steps and its reasons are on the first page of `takeover`; how connections move is in `shift`.

use super::address::Addresses;
use super::beats::{Input, Letters, Work};
use super::board::{Board, Level, Moved, Takeover, unix_ms};
use super::gate::GateCell;
use super::held::Held;
use super::shift::{self, Given, Ready};
use crate::io::pair::orders::{Order, Report, Resumed, Socket};
use crate::io::pair::pulse::Pulse;
use failover::{Action, Epoch, Gate, Loss};
use mirror::{ConnectionId, Survived};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

/// How often the hold and foreign claims are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the hold's rule is looked at: one netlink question.
const RULE_EVERY: Duration = Duration::from_secs(1);
/// The data half answers within microseconds; one that does not in this time hangs, and the election sees that too.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Freeze to described: a little less than the election's patience with a handover, so that it goes back in good order.
const FREEZE_MAX: Duration = Duration::from_millis(400);

/// What arrives at the mover.
#[derive(Debug)]
pub(super) enum Task {
    Work(Work),
    Report(Report),
    Stop,
}

pub(super) struct Mover {
    pub(super) inbox: Receiver<Task>,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) election: Letters,
    pub(super) addresses: Option<Addresses>,
    pub(super) held: Option<Arc<Held>>,
    pub(super) gate: Arc<GateCell>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) board: Arc<Board>,
    pub(super) offset: Arc<AtomicI64>,
    pub(super) level: Level,
    /// Came while something else was awaited.
    pub(super) later: VecDeque<Task>,
    /// Restored, mute: waits for the address.
    pub(super) ready: Vec<Ready>,
    /// Frozen and dumped: waits for the point of no return, or for the way back.
    pub(super) given: Vec<Given>,
    pub(super) begun: Option<(Instant, bool)>,
    /// When the election decided what is being done now.
    pub(super) decided: Instant,
    /// Steps of a takeover that are done, milliseconds since it was decided.
    pub(super) steps: BTreeMap<&'static str, f64>,
    /// When a takeover was decided whose packets do not leave yet.
    pub(super) shut_since: Option<Instant>,
    pub(super) lost: Vec<Moved>,
    pub(super) trouble: Vec<String>,
    pub(super) claims: u64,
    pub(super) rule_looked: Instant,
}

fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

impl Mover {
    pub(super) fn run(mut self) {
        loop {
            let task = match self.later.pop_front() {
                Some(task) => task,
                None => match self.inbox.recv_timeout(LOOK_EVERY) {
                    Ok(task) => task,
                    Err(RecvTimeoutError::Timeout) => {
                        self.look();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                },
            };
            match task {
                Task::Work(work) => self.carry_out(work),
                Task::Report(Report::Diverged(words)) => self.board.diverged(words),
                // Somebody waited for it too briefly.
                Task::Report(report) => debug!(?report, "a late report of the data half"),
                Task::Stop => break,
            }
        }
        self.leave();
    }

    /// The address goes before the process does.
    fn leave(&mut self) {
        if let Some(addresses) = &self.addresses {
            addresses.give_up(0).iter().for_each(|trouble| warn!(trouble, "the address stays"));
        }
    }

    fn look(&mut self) {
        if let Some(addresses) = &self.addresses {
            let claims = addresses.claims();
            if claims > self.claims {
                self.election.put(Input::Claimed);
            }
            self.claims = claims;
        }
        if let Some(held) = &self.held
            && self.rule_looked.elapsed() > RULE_EVERY
        {
            self.rule_looked = Instant::now();
            self.board.hold(held.trouble());
            self.board.held(held.counts(), held.waits());
        }
    }

    fn order(&self, order: Order) {
        // Without a data half nothing is published either.
        let _ = self.orders.send(order);
    }

    /// Waits for a report; what else arrives meanwhile is kept in order.
    fn await_report<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(Report) -> Result<T, Report>,
    ) -> Option<T> {
        let started = Instant::now();
        // Reports that are older than the order they answer cannot be here: each is awaited where it is ordered.
        loop {
            let left = limit.saturating_sub(started.elapsed());
            match self.inbox.recv_timeout(left) {
                Ok(Task::Report(report)) => match wanted(report) {
                    Ok(found) => return Some(found),
                    Err(other) => self.later.push_back(Task::Report(other)),
                },
                Ok(other) => self.later.push_back(other),
                Err(_) => return None,
            }
        }
    }

    fn carry_out(&mut self, work: Work) {
        let (action, epoch, planned) = match work {
            Work::Link(role, epoch) => return self.order(Order::OpenLink(role, epoch)),
            Work::Act(action, epoch, planned, decided) => {
                self.decided = decided;
                (action, epoch, planned)
            }
        };
        debug!(?action, epoch, "action");
        match action {
            Action::HoldAcks => self.tell_gate(Gate::Held),
            Action::ReleaseAcks(gate) => self.tell_gate(gate),
            // The gate says it all.
            Action::PublishAllowed(_) => {}
            Action::CloseLink => self.order(Order::CloseLink),
            Action::RestoreConnections => self.restore(planned),
            Action::TakeAddress => self.take_address(epoch),
            Action::Announce => self.announce(),
            Action::DropAddress => self.drop_address(epoch),
            Action::StepDown(Loss::HandedOver) => self.depart(epoch),
            Action::StepDown(_) => self.step_down(),
            Action::Forget => self.order(Order::Forget),
            Action::TellPaired(epoch) => self.order(Order::TellPaired(epoch)),
            Action::Freeze(number) => {
                let frozen = self.freeze(number);
                self.election.put(Input::Frozen(frozen));
            }
            Action::Thaw => self.thaw(epoch),
            Action::Alarm(alarm) => self.board.alarm(alarm),
            // Stored by the keeper.
            Action::Persist(_) => {}
        }
    }

    /// The hold obeys the gate by itself; whoever is told next relies on it having done so.
    fn tell_gate(&mut self, gate: Gate) {
        if gate != Gate::Held && self.gate.told() != gate {
            // Changed again meanwhile: the next action says so.
            return;
        }
        if let Some(held) = &self.held {
            held.look();
        }
        self.order(Order::Gate(gate));
        if gate != Gate::Held
            && let Some(decided) = self.shut_since.take()
        {
            self.board.opened(ms_since(decided));
        }
    }

    fn step(&mut self, name: &'static str) {
        if let Some((begun, _)) = self.begun {
            self.steps.insert(name, ms_since(begun));
        }
    }

    fn announce(&self) {
        if let Some(addresses) = &self.addresses {
            addresses.announce();
        }
    }

    /// Builds what was mirrored, in silence.
    fn restore(&mut self, planned: bool) {
        self.begun = Some((self.decided, planned));
        (self.ready, self.lost, self.trouble) = (Vec::new(), Vec::new(), Vec::new());
        self.steps.clear();
        self.step("begun");
        self.order(Order::TakeOver);
        let survived = self.await_report(ANSWER_MAX, |report| match report {
            Report::Survived(survived) => Ok(survived),
            other => Err(other),
        });
        let survived: Vec<Survived> = match survived {
            Some(Some(survived)) => survived,
            Some(None) => Vec::new(),
            None => {
                self.trouble.push("the data half did not say what survived".into());
                Vec::new()
            }
        };
        self.step("survived");
        // After a crash only a hold makes sure that nothing was acknowledged beyond what is here.
        let whole = planned || self.level == Level::Commit;
        let now = self.pulse.now();
        let offset = self.offset.load(Ordering::Relaxed);
        for built in shift::restore(&survived, planned, whole, now, offset) {
            match built {
                Ok(ready) => self.ready.push(ready),
                Err((publisher, why)) => {
                    self.trouble.push(why);
                    self.lost.extend(publisher.map(|publisher| Moved {
                        publisher,
                        alive: false,
                        in_flight: 0,
                        unread: 0,
                        discarded: None,
                        blackout_ms: None,
                    }));
                }
            }
        }
        if let Some(held) = &self.held {
            for ready in &self.ready {
                if let Some(base) = ready.base {
                    held.adopt(ready.flow, base);
                }
            }
        }
        self.step("restored");
    }

    /// The sockets are there: now the address, then they speak.
    fn take_address(&mut self, epoch: Epoch) {
        let mut trouble = std::mem::take(&mut self.trouble);
        if let Some(addresses) = &self.addresses {
            trouble.extend(addresses.take(epoch));
        }
        self.step("address");
        let offset = self.offset.load(Ordering::Relaxed);
        let mut connections = std::mem::take(&mut self.lost);
        let mut resumed = Vec::new();
        let planned = self.begun.is_some_and(|(_, planned)| planned);
        for ready in std::mem::take(&mut self.ready) {
            let (moved, live) = shift::go_live(ready, planned, &self.pulse, offset);
            connections.push(moved);
            match live {
                Ok(live) => resumed.push(live),
                Err(why) => trouble.push(why),
            }
        }
        self.order(Order::Resume(resumed));
        self.step("live");
        self.announce();
        if let Some(held) = &self.held {
            held.strangers_may_reset(true);
        }
        let (begun, planned) = self.begun.take().unwrap_or((Instant::now(), false));
        let steps_ms = std::mem::take(&mut self.steps);
        let took_ms = ms_since(begun);
        let at_unix_ms = unix_ms();
        self.shut_since = Some(begun);
        self.board.took(Takeover {
            what: "took",
            planned,
            epoch,
            at_unix_ms,
            took_ms,
            steps_ms,
            connections,
            trouble,
        });
    }

    fn drop_address(&mut self, epoch: Epoch) {
        self.shut_since = None;
        if let Some(held) = &self.held {
            held.strangers_may_reset(false);
        }
        if let Some(addresses) = &self.addresses {
            addresses.give_up(epoch).iter().for_each(|trouble| warn!(trouble, "the address stays"));
        }
    }

    /// All live connections end here without a packet.
    fn step_down(&mut self) {
        self.ready.clear();
        self.given.clear();
        self.order(Order::StepDown);
        for socket in self.detached(ANSWER_MAX).unwrap_or_default() {
            let flow = takeover::hold::Flow { local: socket.local, peer: socket.peer };
            shift::vanish(socket.stream);
            if let Some(held) = &self.held {
                super::held::forget(held, flow);
            }
        }
    }

    fn detached(&mut self, limit: Duration) -> Option<Vec<Socket>> {
        self.await_report(limit, |report| match report {
            Report::Detached(sockets) => Ok(sockets),
            other => Err(other),
        })
    }

    /// Planned handover, up to the last step that can be taken back. `false`: taken back, or not begun.
    fn freeze(&mut self, number: Epoch) -> bool {
        let began = Instant::now();
        self.begun = Some((began, true));
        self.trouble.clear();
        self.steps.clear();
        self.order(Order::Detach);
        let Some(sockets) = self.detached(FREEZE_MAX) else {
            self.trouble.push("the data half did not give the sockets out".into());
            return self.go_back(Vec::new(), number);
        };
        self.step("detached");
        let held = self.held.clone();
        let base = |flow| held.as_ref().and_then(|held| held.base(flow));
        let (mut given, mut back) = (Vec::new(), Vec::new());
        for frozen in shift::freeze(sockets, &self.pulse, base) {
            match frozen {
                Ok((each, drained)) => {
                    for bytes in drained {
                        self.order(Order::Drained(each.connection, bytes));
                    }
                    given.push(each);
                }
                Err((stream, why)) => {
                    self.trouble.push(why);
                    back.extend(stream);
                }
            }
        }
        if !back.is_empty() {
            self.given = given;
            return self.go_back(back, number);
        }
        self.step("frozen");
        let mut waiting: Vec<ConnectionId> = Vec::new();
        for each in &given {
            self.order(Order::Describe(each.connection, each.outline.encode()));
            waiting.push(each.connection);
        }
        self.given = given;
        while !waiting.is_empty() {
            let left = FREEZE_MAX.saturating_sub(began.elapsed());
            let described = self.await_report(left, |report| match report {
                Report::Described(connection) => Ok(connection),
                other => Err(other),
            });
            let Some(connection) = described else {
                self.trouble
                    .push(format!("the standby has not confirmed {} connections in time", waiting.len()));
                return self.go_back(Vec::new(), number);
            };
            waiting.retain(|other| *other != connection);
        }
        self.step("described");
        // Whatever the peer decides, two owners there are never: the address goes before the word.
        if let Some(addresses) = &self.addresses {
            let trouble = addresses.give_up(number);
            if !trouble.is_empty() {
                self.trouble.extend(trouble);
                return self.go_back(Vec::new(), number);
            }
        }
        self.step("address");
        true
    }

    /// Everything that was frozen lives on here.
    fn go_back(&mut self, back: Vec<(ConnectionId, std::net::TcpStream)>, epoch: Epoch) -> bool {
        let (begun, _) = self.begun.take().unwrap_or((Instant::now(), true));
        let mut trouble = std::mem::take(&mut self.trouble);
        if let Some(addresses) = &self.addresses {
            trouble.extend(addresses.take(epoch));
        }
        let mut connections = Vec::new();
        let mut resumed: Vec<Resumed> = Vec::new();
        for each in std::mem::take(&mut self.given) {
            let (moved, live) = shift::thaw(each, &self.pulse);
            connections.push(moved);
            match live {
                Ok(live) => resumed.push(live),
                Err(why) => trouble.push(why),
            }
        }
        for (connection, stream) in back {
            match shift::live_again(connection, stream, None, &self.pulse) {
                Ok(live) => resumed.push(live),
                Err(why) => trouble.push(why),
            }
        }
        self.order(Order::Resume(resumed));
        self.announce();
        let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let at_unix_ms = unix_ms();
        self.board.took(Takeover {
            what: "went-back",
            planned: true,
            epoch,
            at_unix_ms,
            took_ms,
            steps_ms: std::mem::take(&mut self.steps),
            connections,
            trouble,
        });
        false
    }

    fn thaw(&mut self, epoch: Epoch) {
        // Gone back already when the mover itself gave it up.
        if self.begun.is_some() {
            self.trouble.push("the peer did not take over".into());
            self.go_back(Vec::new(), epoch);
        }
    }

    /// The peer owns the connections now.
    fn depart(&mut self, epoch: Epoch) {
        let (begun, _) = self.begun.take().unwrap_or((Instant::now(), true));
        let mut trouble = std::mem::take(&mut self.trouble);
        let mut connections = Vec::new();
        for each in std::mem::take(&mut self.given) {
            if let Some(held) = &self.held {
                super::held::forget(held, each.flow);
            }
            let (moved, departed) = shift::depart(each);
            connections.push(moved);
            trouble.extend(departed.err());
        }
        self.order(Order::Departed);
        let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let at_unix_ms = unix_ms();
        self.board.took(Takeover {
            what: "gave",
            planned: true,
            epoch,
            at_unix_ms,
            took_ms,
            steps_ms: std::mem::take(&mut self.steps),
            connections,
            trouble,
        });
    }
}
