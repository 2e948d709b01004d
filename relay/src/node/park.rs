//! What a parked request waits for.
//!
//! In: its stream, as that was when the request was looked at. Out: whether it is time to look again. Pure but for the stream's
//! lock.

use super::stream::Stream;
use crate::route::Reload;
use crate::upstream::parts::{Due, due};
use std::sync::Arc;
use std::time::Duration;

/// What a parked request waits for.
pub struct Park {
    stream: Arc<Stream>,
    /// The stream's version when the request was looked at.
    seen: u64,
    /// What of the stream it waits for, where that is known; otherwise any change may be it.
    awaits: Option<Reload>,
    /// How long it is held, from its arrival.
    pub at_most: Duration,
}

impl Park {
    /// Until the stream changes.
    pub(super) fn of(stream: Arc<Stream>, seen: u64, at_most: Duration) -> Park {
        Park { stream, seen, awaits: None, at_most }
    }

    /// Until what a blocking reload asks for is listed. A stream changes with each part, and thousands may wait for a segment.
    pub(super) fn of_reload(stream: Arc<Stream>, seen: u64, at_most: Duration, reload: Reload) -> Park {
        Park { awaits: Some(reload), ..Park::of(stream, seen, at_most) }
    }

    /// Whether the stream has changed since, so far that the request may be answered.
    pub fn has_moved(&self) -> bool {
        self.stream.version() != self.seen && self.awaits.is_none_or(|reload| self.has_come_to(&reload))
    }

    fn has_come_to(&self, reload: &Reload) -> bool {
        let view = self.stream.view();
        view.shown().is_none_or(|shown| !matches!(due(&shown.snapshot, reload), Due::Within(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::parts::tests::view;

    #[test]
    fn a_reload_is_looked_at_again_when_what_it_asks_for_is_listed() {
        let stream = Arc::new(Stream::new("demo".parse().unwrap(), 1));
        *stream.view() = view(12, 2);
        let park = |reload| Park::of_reload(stream.clone(), stream.version(), Duration::MAX, reload);
        let whole = park(Reload { msn: Some(12), ..Reload::default() });
        let part = park(Reload { msn: Some(12), part: Some(3), ..Reload::default() });
        let any = Park::of(stream.clone(), stream.version(), Duration::MAX);
        let moved = || [&whole, &part, &any].map(Park::has_moved);
        assert_eq!(moved(), [false; 3], "nothing has changed");
        let shown = |next, parts| {
            *stream.view() = view(next, parts);
            stream.moved();
            moved()
        };
        assert_eq!(shown(12, 3), [false, false, true]);
        assert_eq!(shown(12, 4), [false, true, true]);
        assert_eq!(shown(13, 0), [true; 3]);
    }
}
