//! A stream's publisher slot: who may hold it when a second publisher comes with the same key.
//!
//! An encoder that lost its network returns while its old connection still looks alive; it must get in at once. Two encoders
//! with one key must not fight: the first, as long as it sends, stays.
//! In: the holder, the newcomer's address, the time. Out: a `Decision`. Pure.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// After this long without a media message a publisher is stale, in milliseconds: four times the longest frame spacing of
/// a slow feed (2 frames a second).
pub const STALE_MS: u64 = 2_000;

/// Which of a feed's two copies a publisher sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// The feed.
    Primary = 0,
    /// The same feed again, by another way: it says so with `backup=1`.
    Backup = 1,
}

impl Push {
    /// What the query of the stream name says, or that of the application: encoders put it behind either.
    pub fn of(app: &str, name: &str) -> Push {
        let says = |text: &str| {
            text.split_once('?').is_some_and(|(_, query)| query.split('&').any(|word| word == "backup=1"))
        };
        if says(app) || says(name) { Push::Backup } else { Push::Primary }
    }

    /// The other copy.
    pub fn other(self) -> Push {
        match self {
            Push::Primary => Push::Backup,
            Push::Backup => Push::Primary,
        }
    }
}

/// Who holds a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where it connects from.
    pub peer: IpAddr,
    /// When its last media message came, in milliseconds of the node's monotonic clock.
    pub last_media_ms: u64,
}

/// What happens to a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The slot is free.
    Take,
    /// The holder is stale or the same peer: it is closed and the newcomer goes on.
    Replace,
    /// The holder is alive and well: the newcomer is refused.
    Refuse,
}

/// Decides over a newcomer that has shown the right key.
pub fn decide(holder: Option<Holder>, newcomer: IpAddr, now_ms: u64) -> Decision {
    match holder {
        None => Decision::Take,
        Some(holder) if holder.peer == newcomer => Decision::Replace,
        Some(holder) if now_ms.saturating_sub(holder.last_media_ms) > STALE_MS => Decision::Replace,
        Some(_) => Decision::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_says_so_in_a_query() {
        for (app, name) in [("live", "key?backup=1"), ("live2?backup=1", "key"), ("live", "key?x=2&backup=1")]
        {
            assert_eq!(Push::of(app, name), Push::Backup, "{app} {name}");
        }
        for name in ["key", "key?backup=0", "key?backup=10", "keybackup=1", "key?nobackup=1"] {
            assert_eq!(Push::of("live", name), Push::Primary, "{name}");
        }
    }

    #[test]
    fn a_live_holder_stays_and_a_stale_one_goes() {
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let holder = Some(Holder { peer: here, last_media_ms: 1_000 });
        assert_eq!(decide(None, here, 0), Decision::Take);
        assert_eq!(decide(holder, here, 1_001), Decision::Replace);
        assert_eq!(decide(holder, there, 3_000), Decision::Refuse);
        assert_eq!(decide(holder, there, 3_001), Decision::Replace);
    }
}
