//! How long players wait for their buffers, from one change of state to the next.
//!
//! In: a player, what it does now and when that began by its own clock. Out: the length of the stall that this ends. Pure.
//! Players say that a stall begins (`sta=r`) and that it ends (`sta=p`), mostly in two posts; kept between them is one entry a
//! player that waits. A stall that ends otherwise (paused, sought away, left) has no length.

use super::{State, TIME_MAX};
use std::collections::HashMap;
use std::time::Duration;

/// Most players that are known to wait; more are counted, but not timed.
pub const OPEN_MAX: usize = 8192;

/// A player: a session, and which of those that share it.
pub type Player = ([u8; 16], u64);

/// Who waits.
#[derive(Debug, Default)]
pub struct Stalls {
    open: HashMap<Player, Open>,
    /// When it was last looked for those who left, by our clock.
    looked_unix_s: u64,
}

#[derive(Debug)]
struct Open {
    /// When it began, by the player's clock.
    since_ms: u64,
    /// When that was heard, by ours.
    heard_unix_s: u64,
}

impl Stalls {
    /// A player does something else since `at_ms`; how long the stall was that this ends.
    pub fn changed(
        &mut self,
        player: Player,
        to: State,
        at_ms: Option<u64>,
        now_unix_s: u64,
    ) -> Option<Duration> {
        let (State::Rebuffering, Some(since_ms)) = (to, at_ms) else {
            let open = self.open.remove(&player)?;
            let ends_ms = at_ms.filter(|_| to == State::Playing)?;
            let lasted = ends_ms.checked_sub(open.since_ms).map(Duration::from_millis);
            return lasted.filter(|lasted| *lasted <= TIME_MAX);
        };
        if self.open.len() >= OPEN_MAX && self.looked_unix_s != now_unix_s {
            // Those who left while they waited never say so. Whoever fills it with made-up players has it looked through once
            // a second, not with every event.
            self.looked_unix_s = now_unix_s;
            self.open.retain(|_, open| open.heard_unix_s.saturating_add(TIME_MAX.as_secs()) >= now_unix_s);
        }
        if self.open.len() < OPEN_MAX {
            // Told twice, it began the first time.
            self.open.entry(player).or_insert(Open { since_ms, heard_unix_s: now_unix_s });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Player = ([1; 16], 0);

    #[test]
    fn a_stall_lasts_until_its_player_plays() {
        let mut stalls = Stalls::default();
        assert_eq!(stalls.changed(ONE, State::Playing, Some(900), 0), None, "there was none");
        assert_eq!(stalls.changed(ONE, State::Rebuffering, Some(1_000), 0), None);
        assert_eq!(
            stalls.changed(([1; 16], 1), State::Playing, Some(1_100), 0),
            None,
            "another player of the session"
        );
        assert_eq!(stalls.changed(([2; 16], 0), State::Playing, Some(1_100), 0), None, "another session");
        assert_eq!(stalls.changed(ONE, State::Rebuffering, Some(1_500), 0), None, "it still waits");
        assert_eq!(stalls.changed(ONE, State::Playing, Some(2_250), 0), Some(Duration::from_millis(1_250)));
        assert_eq!(stalls.changed(ONE, State::Playing, Some(2_300), 0), None, "once");
    }

    #[test]
    fn other_ends_and_wrong_clocks_have_no_length() {
        let ends = [
            (State::Paused, Some(2_000)),
            (State::Ended, Some(2_000)),
            (State::Playing, None),
            (State::Playing, Some(999)),
            (State::Playing, Some(1_001 + TIME_MAX.as_millis() as u64)),
            (State::Rebuffering, None),
        ];
        for (to, at_ms) in ends {
            let mut stalls = Stalls::default();
            stalls.changed(ONE, State::Rebuffering, Some(1_000), 0);
            assert_eq!(stalls.changed(ONE, to, at_ms, 0), None, "{to:?} at {at_ms:?}");
            assert_eq!(
                stalls.changed(ONE, State::Playing, Some(3_000), 0),
                None,
                "{to:?} at {at_ms:?} ended it"
            );
        }
    }

    #[test]
    fn those_who_left_while_they_waited_are_forgotten() {
        let mut stalls = Stalls::default();
        let player = |number: usize| ([0; 16], number as u64);
        for number in 0..OPEN_MAX + 10 {
            stalls.changed(player(number), State::Rebuffering, Some(0), 1_000);
        }
        assert_eq!(stalls.open.len(), OPEN_MAX);
        assert_eq!(
            stalls.changed(player(OPEN_MAX), State::Playing, Some(5), 1_000),
            None,
            "there was no room"
        );
        stalls.changed(ONE, State::Rebuffering, Some(0), 1_001 + TIME_MAX.as_secs());
        assert_eq!(stalls.changed(ONE, State::Playing, Some(5), 4_700), Some(Duration::from_millis(5)));
        assert!(stalls.open.is_empty());
    }
}
