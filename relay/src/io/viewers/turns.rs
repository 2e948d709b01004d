//! When a worker looks again: at once, or after a rest in which more viewers come to have something for it.
//!
//! In: how many had something in a turn, how many sit, the time. Out: how long to rest. Pure.
//!
//! A look of its own for each of thousands of requests a second costs a sleep, a waking and cold caches each time. Requests
//! that are taken by the dozen share them: 6 to 8 % of the processor's time with 10,000 viewers at a worker. A rest is shorter than
//! anybody notices who fetches a segment every few seconds. Where the same few ask again and again, one answer after the
//! other, they would wait for nothing: then, and where little is asked, there is none.

use std::time::{Duration, Instant};

/// Between the beginnings of two turns; four or eight times as long saved no more.
const TURN: Duration = Duration::from_millis(1);
/// How long is counted before it is decided anew.
const SPAN: Duration = Duration::from_millis(10);
/// Events in a span that are worth it: three a turn.
const EVENTS_MIN: usize = 30;
/// Seats for each event of a span, at least: whose viewers ask again within 40 ms are few, and waiting.
const SEATS_AN_EVENT: usize = 4;

/// The pace of a worker.
#[derive(Debug)]
pub(super) struct Turns {
    began: Instant,
    span_began: Instant,
    events: usize,
    rests: bool,
}

impl Turns {
    pub(super) fn new(now: Instant) -> Turns {
        Turns { began: now, span_began: now, events: 0, rests: false }
    }

    /// A turn begins, with so many events, among so many who sit.
    pub(super) fn begin(&mut self, now: Instant, events: usize, seats: usize) {
        self.began = now;
        self.events += events;
        if now.duration_since(self.span_began) >= SPAN {
            self.rests = self.events >= EVENTS_MIN && self.events * SEATS_AN_EVENT <= seats;
            (self.span_began, self.events) = (now, 0);
        }
    }

    /// How long to rest before the next look.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let left = TURN.checked_sub(now.duration_since(self.began))?;
        (self.rests && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns as long as its rests make them, each with what came meanwhile at this rate; how many rests there were in a second.
    fn rests(events_a_second: u32, seats: usize) -> usize {
        let begin = Instant::now();
        let (mut turns, mut now, mut taken, mut rests) = (Turns::new(begin), begin, 0, 0);
        while now - begin < Duration::from_secs(1) {
            let rest = turns.rest(now);
            rests += usize::from(rest.is_some());
            // Without a rest it wakes for the next event.
            now += rest.unwrap_or(Duration::from_secs(1) / events_a_second);
            let come = ((now - begin).as_secs_f64() * f64::from(events_a_second)) as usize;
            turns.begin(now, come - taken, seats);
            taken = come;
        }
        rests
    }

    #[test]
    fn a_herd_is_taken_by_the_dozen_and_few_at_once() {
        assert!((950..=1_000).contains(&rests(10_000, 10_000)), "{}", rests(10_000, 10_000));
        assert!((950..=1_000).contains(&rests(30_000, 5_000)), "parts: {}", rests(30_000, 5_000));
        assert_eq!(rests(1_000, 10_000), 0, "little is asked");
        assert_eq!(rests(20_000, 64), 0, "the same few ask again and again");
        assert_eq!(rests(20_000, 500), 0, "a proxy's connections");
    }

    #[test]
    fn a_turn_that_took_long_is_followed_by_the_next_at_once() {
        let begin = Instant::now();
        let mut turns = Turns::new(begin);
        turns.begin(begin + SPAN, 1_000, 10_000);
        let at = |micros| turns.rest(begin + SPAN + Duration::from_micros(micros));
        assert_eq!(at(300), Some(Duration::from_micros(700)));
        assert_eq!((at(1_000), at(5_000)), (None, None));
    }
}
