//! Which origin to ask first, and which next.
//!
//! In: how asking went, and when. Out: an order. Pure. Times are milliseconds of any clock that only goes forward.

/// How long an origin that failed once is asked last, in milliseconds; it doubles with every failure in a row.
const REST_MS: u64 = 500;
/// The longest it is asked last before it is tried again in its turn, in milliseconds.
const REST_MS_MAX: u64 = 8_000;

/// What is known of the origins, by their place in the configuration.
#[derive(Clone, Debug)]
pub struct Origins {
    states: Vec<State>,
    /// The one that gave the newest snapshot.
    leader: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    failures: u32,
    resting_until_ms: u64,
}

impl Origins {
    /// So many origins, nothing known of any.
    pub fn new(count: usize) -> Origins {
        Origins { states: vec![State::default(); count], leader: 0 }
    }

    /// The order to ask in: every origin once, those that failed lately last, the leader first among equals.
    pub fn order(&self, now_ms: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.states.len()).collect();
        order.sort_by_key(|origin| {
            let resting = self.states[*origin].resting_until_ms > now_ms;
            (resting, *origin != self.leader, *origin)
        });
        order
    }

    /// Notes that an origin gave what was asked of it.
    pub fn succeeded(&mut self, origin: usize) {
        self.states[origin] = State::default();
    }

    /// Notes that it did not.
    pub fn failed(&mut self, origin: usize, now_ms: u64) {
        let state = &mut self.states[origin];
        state.failures = state.failures.saturating_add(1);
        let rest_ms = REST_MS << (state.failures - 1).min(10);
        state.resting_until_ms = now_ms.saturating_add(rest_ms.min(REST_MS_MAX));
    }

    /// Notes who gave the newest snapshot.
    pub fn led_by(&mut self, origin: usize) {
        self.leader = origin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_asked_first_until_it_fails() {
        let mut origins = Origins::new(3);
        assert_eq!(origins.order(0), [0, 1, 2]);
        origins.led_by(2);
        assert_eq!(origins.order(0), [2, 0, 1]);
        origins.failed(2, 100);
        assert_eq!(origins.order(100), [0, 1, 2]);
        assert_eq!(origins.order(100 + REST_MS), [2, 0, 1]);
    }

    #[test]
    fn failures_in_a_row_rest_longer_up_to_a_bound() {
        let mut origins = Origins::new(2);
        for _ in 0..100 {
            origins.failed(0, 0);
        }
        assert_eq!(origins.order(REST_MS_MAX - 1), [1, 0]);
        assert_eq!(origins.order(REST_MS_MAX), [0, 1]);
        origins.failed(0, 0);
        origins.succeeded(0);
        assert_eq!(origins.order(0), [0, 1]);
    }
}
