//! How much of a relay's audience goes to the CDN: nobody up to a set number of viewers, then as many as are over it.
//!
//! In: how many there are, the time. Out: a share in sixteenths. Pure.
//!
//! The share grows as soon as the load asks for it. It shrinks when less would have been enough for a while, with a tenth
//! of the room left free: so that neither a load about a boundary nor a moment's dip moves viewers to and fro.

use std::time::Duration;

/// What all viewers are, in shares.
pub const WHOLE: u8 = 16;

/// Decides on the share.
#[derive(Clone, Debug)]
pub struct Overflow {
    room: u64,
    hold_ms: u64,
    share: u8,
    /// Since when less is enough, and the most of that since then.
    less: Option<(u64, u8)>,
}

impl Overflow {
    /// With room for so many viewers; a share shrinks after `hold` at the earliest.
    pub fn new(room: u32, hold: Duration) -> Overflow {
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        Overflow { room: room.into(), hold_ms, share: 0, less: None }
    }

    /// The share for this many viewers at this time, in milliseconds that never go back.
    pub fn look(&mut self, viewers: u64, now_ms: u64) -> u8 {
        self.share = self.share.max(share(viewers, self.room));
        let enough = share(viewers, self.room - self.room / 10);
        if enough >= self.share {
            self.less = None;
        } else {
            let (since, most) = self.less.map_or((now_ms, enough), |(since, most)| (since, most.max(enough)));
            self.less = Some((since, most));
            if now_ms - since >= self.hold_ms {
                (self.share, self.less) = (most, None);
            }
        }
        self.share
    }
}

/// The sixteenths of so many viewers for whom there is no room, rounded up.
fn share(viewers: u64, room: u64) -> u8 {
    let over = viewers.saturating_sub(room);
    let whole = u64::from(WHOLE);
    u8::try_from((over * whole).div_ceil(viewers.max(1))).unwrap_or(WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for 1000, a second to hold; each line: the time in ms, viewers, the share.
    fn table(lines: &[(u64, u64, u8)]) {
        let mut overflow = Overflow::new(1000, Duration::from_secs(1));
        for (at, viewers, share) in lines {
            assert_eq!(overflow.look(*viewers, *at), *share, "{viewers} at {at} ms of {lines:?}");
        }
    }

    #[test]
    fn who_is_over_the_room_goes() {
        table(&[(0, 0, 0), (1, 1, 0), (2, 1000, 0), (3, 1001, 1), (4, 1066, 1), (5, 1067, 2), (6, 2000, 8)]);
        table(&[(0, 4000, 12), (1, 16_000, 15), (2, 16_001, 16), (3, u64::from(u32::MAX), 16)]);
        // What stays at the relay is never more than its room.
        for viewers in 0..20_000 {
            let stays = viewers * u64::from(WHOLE - share(viewers, 1000));
            assert!(stays <= 1000 * u64::from(WHOLE), "{viewers}");
        }
    }

    #[test]
    fn they_come_back_after_a_while_and_not_to_the_last_seat() {
        table(&[(0, 2000, 8), (10, 900, 8), (1009, 900, 8), (1010, 900, 0), (1011, 1000, 0)]);
        // Room again, but not a tenth of it: who went stays.
        table(&[
            (0, 1001, 1),
            (10, 1000, 1),
            (5000, 950, 1),
            (9000, 901, 1),
            (9001, 900, 1),
            (10_001, 900, 0),
        ]);
    }

    #[test]
    fn a_dip_moves_nobody_and_the_most_since_then_counts() {
        table(&[(0, 2000, 8), (10, 0, 8), (900, 2000, 8), (1100, 0, 8), (2000, 0, 8), (2100, 0, 0)]);
        table(&[
            (0, 2000, 8),
            (10, 0, 8),
            (500, 1200, 8),
            (600, 0, 8),
            (1010, 0, 4),
            (2009, 0, 4),
            (3010, 0, 0),
        ]);
        // Growing needs no time, also while less was enough.
        table(&[(0, 1100, 2), (10, 0, 2), (20, 4000, 12), (900, 0, 12), (1500, 0, 12), (1900, 0, 0)]);
    }

    #[test]
    fn a_load_about_a_boundary_moves_viewers_once() {
        let mut overflow = Overflow::new(1000, Duration::from_secs(60));
        let shares = (0..3600_u64).map(|second| overflow.look(995 + second % 11, second * 1000));
        let moves = shares.collect::<Vec<_>>().windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(moves, 1);
    }
}
