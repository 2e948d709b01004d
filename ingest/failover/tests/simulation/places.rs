//! Who takes part: two nodes with their shells' memory, witnesses with their disks, one publisher.

use failover::{Action, Config, Election, Epoch, Gate, Note, Record, Witness};
use std::collections::VecDeque;
use std::time::Duration;

/// Nanoseconds of true time.
pub type Time = u64;
pub const MS: Time = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Node(usize),
    Witness(usize),
}

/// What a node has of the publisher's stream: which connection, up to which byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    pub connection: u64,
    pub bytes: u64,
}

/// A node's monotonic clock: any origin, a little fast or slow, and now and then a step.
pub struct Clock {
    pub origin: u64,
    pub ppm: i64,
    pub steps: i64,
}

impl Clock {
    pub fn read(&self, time: Time) -> Duration {
        let drift = time as i128 * self.ppm as i128 / 1_000_000;
        let nanos = self.origin as i128 + time as i128 + drift + self.steps as i128;
        Duration::from_nanos(u64::try_from(nanos).expect("origins are larger than all steps back"))
    }
}

pub struct Node {
    pub config: Config,
    pub clock: Clock,
    // Through restarts.
    pub incarnation: u64,
    pub note: Note,
    // Of this life.
    pub life: u64,
    pub election: Option<Election>,
    pub booted: Time,
    pub wake_at: Time,
    pub paused_until: Time,
    pub woke: Time,
    pub hung_until: Time,
    pub turns: u64,
    pub gate: Gate,
    pub publishes: bool,
    pub address: bool,
    pub data: Option<Data>,
    pub confirmed: Data,
    pub link: Option<u64>,
    pub highest_member: Epoch,
    pub alone_at: Epoch,
    pub newest_counter: (u64, u64),
    /// True time at which the newest beat that it accepted was made.
    pub newest_beat_sent: Time,
}

impl Node {
    pub fn up(&self, time: Time) -> bool {
        self.election.is_some() && self.paused_until <= time
    }
}

pub struct WitnessPlace {
    pub durable: Record,
    pub core: Option<Witness>,
    pub life: u64,
    pub writing: bool,
    pub queue: VecDeque<failover::witness::Action>,
}

/// One connection after another; it believes what is acknowledged.
#[derive(Debug, Default)]
pub struct Publisher {
    pub connection: u64,
    pub sent: u64,
    pub acknowledged: u64,
    /// A node that served alone died with it: two faults, the connection may be lost.
    pub excused: bool,
    /// Which node the network sends to: the last that announced.
    pub owner: Option<usize>,
}

/// A line of the trace of an action that is worth a line.
pub fn tells(action: &Action) -> bool {
    !matches!(action, Action::Announce)
}
