//! The replay window: of each sender only the strictly newer counts.
//!
//! In: incarnation and counter of authentic beats. Out: new, or the same beat again by another path, or refused. A sender
//! that starts anew brings a higher incarnation and may count from 1; its earlier lives are over for good.

use crate::rule::{Broken, Rule};
use thiserror::Error;

/// How a beat stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Newer than all before.
    New,
    /// The newest once more, by another path.
    Again,
}

/// Why a beat does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Replay {
    /// Not from the peer.
    #[error("beat from node {0}, which is not the peer")]
    Stranger(u16),
    /// A counter that is over.
    #[error("counter {got} where {newest} was seen: late, copied or replayed")]
    Counter {
        /// In the beat.
        got: u64,
        /// Seen before.
        newest: u64,
    },
    /// A life that is over.
    #[error(
        "incarnation {got} where {newest} lives: replayed, or a node started with an old incarnation number"
    )]
    Incarnation {
        /// In the beat.
        got: u64,
        /// Seen before.
        newest: u64,
    },
}

/// What was seen of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    incarnation: u64,
    counter: u64,
}

impl Window {
    /// Judges a beat and remembers it.
    ///
    /// # Errors
    /// When it is not newer; the window stays as it was.
    pub fn accept(&mut self, incarnation: u64, counter: u64, broken: Broken) -> Result<Seen, Replay> {
        if incarnation < self.incarnation {
            return Err(Replay::Incarnation { got: incarnation, newest: self.incarnation });
        }
        if incarnation == self.incarnation {
            if counter == self.counter {
                return Ok(Seen::Again);
            }
            if counter < self.counter && !broken.is(Rule::CounterRises) {
                return Err(Replay::Counter { got: counter, newest: self.counter });
            }
        }
        *self = Window { incarnation, counter };
        Ok(Seen::New)
    }

    /// The newest beat: (incarnation, counter). Echoed to the sender.
    pub fn newest(&self) -> (u64, u64) {
        (self.incarnation, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_beats_count_and_restarts_begin_anew() {
        let (mut window, all) = (Window::default(), Broken::default());
        assert_eq!(window.accept(3, 9, all), Ok(Seen::New));
        assert_eq!(window.accept(3, 9, all), Ok(Seen::Again));
        assert_eq!(window.accept(3, 8, all), Err(Replay::Counter { got: 8, newest: 9 }));
        assert_eq!(window.accept(4, 1, all), Ok(Seen::New));
        assert_eq!(window.accept(3, 10, all), Err(Replay::Incarnation { got: 3, newest: 4 }));
        assert_eq!(window.newest(), (4, 1));
    }
}
