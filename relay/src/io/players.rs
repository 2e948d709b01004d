//! What players report of themselves, counted for Prometheus.
//!
//! In: events. Out: counters by words that stand in `cmcd`, and histograms in seconds. No label names a viewer, a session or a
//! stream.

use crate::cmcd::{Event, INTERVAL, STATE_CHANGE};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What they count.
#[derive(Debug)]
pub struct Players {
    events: Family<EventLabels, Counter>,
    states: Family<StateLabels, Counter>,
    startup: Histogram,
    stall: Histogram,
    buffer: Histogram,
    latency: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl Players {
    /// Counts at zero, as `players_…` of this registry.
    pub fn new(registry: &mut Registry) -> Players {
        let players = Players {
            events: Family::default(),
            states: Family::default(),
            startup: Histogram::new([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0]),
            stall: Histogram::new([0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]),
            buffer: Histogram::new([0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0]),
            latency: Histogram::new([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0]),
        };
        let p = &players;
        let r = registry;
        r.register("players_events", "Events that players report, by the standard's word", p.events.clone());
        r.register("players_states", "Changes of players' states, by what they do then", p.states.clone());
        r.register(
            "players_startup_seconds",
            "From the wish to play to the first picture, as players report it",
            p.startup.clone(),
        );
        r.register(
            "players_stall_seconds",
            "Stalls that ended in playing on, as players report them",
            p.stall.clone(),
        );
        r.register(
            "players_buffer_seconds",
            "How much players have buffered, every interval of theirs",
            p.buffer.clone(),
        );
        r.register(
            "players_latency_seconds",
            "How far behind the live edge players are, every interval of theirs",
            p.latency.clone(),
        );
        players
    }

    /// One event of a player.
    pub fn saw(&self, event: &Event) {
        self.events.get_or_create(&EventLabels { event: event.kind }).inc();
        if let (STATE_CHANGE, Some(state)) = (event.kind, event.state) {
            self.states.get_or_create(&StateLabels { state: state.word() }).inc();
        }
        observe(&self.startup, event.startup);
        // At other times it is told because something has happened: that would not be how players are.
        if event.kind == INTERVAL {
            observe(&self.buffer, event.buffer);
            observe(&self.latency, event.latency);
        }
    }

    /// A stall has ended.
    pub fn stalled(&self, lasted: Duration) {
        observe(&self.stall, Some(lasted));
    }
}

fn observe(histogram: &Histogram, time: Option<Duration>) {
    if let Some(time) = time {
        histogram.observe(time.as_secs_f64());
    }
}
