//! What a relay does at regular times: read revocations, announce itself, look whether its origins answer and whether viewers
//! go to the CDN.
//!
//! None of it is on the media path: when the coordinator is away, viewers go on, and readiness says so without turning
//! false: a balancer that took every relay out would do more harm than stale news.

use crate::cdn::overflow::{Overflow, WHOLE};
use crate::node::{Node, now_unix_s};
use releve_state::coordinator::{Error, NodeRecord, NodeRole};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// What the regular tasks have seen.
#[derive(Debug, Default)]
pub(super) struct Signs {
    revocations_read: AtomicBool,
    coordinator_heard_unix_s: AtomicU64,
    origins_up: AtomicU64,
}

impl Signs {
    /// Ready once the revocations have been read: before that, a revoked viewer would get in.
    pub(super) fn is_ready(&self) -> bool {
        self.revocations_read.load(Ordering::Acquire)
    }

    /// Its state in words, one line each.
    pub(super) fn tell(&self, node: &Node) -> String {
        let heard = now_unix_s().saturating_sub(self.coordinator_heard_unix_s.load(Ordering::Relaxed));
        let coordinator =
            if self.is_ready() { format!("heard {heard} s ago") } else { "not heard yet".to_owned() };
        format!(
            "ready: {}\ncoordinator: {coordinator}\norigins up: {} of {}\n",
            if self.is_ready() && !node.is_stopping() { "yes" } else { "no" },
            self.origins_up.load(Ordering::Relaxed),
            node.origins().len()
        )
    }
}

/// Reads revocations, first at once, then regularly, until the node stops.
pub(super) async fn read_revocations(node: Arc<Node>, signs: Arc<Signs>) {
    let (mut cursor, mut ended_cursor, mut well) = (0, 0, true);
    let mut tick = interval(node.limits.revocation_poll);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = node.stopped() => return,
        }
        // A store that hangs must not hang this task: the next look is due anyway.
        let read = async {
            let revoked = node.coordinator().revocations(cursor).await?;
            Ok::<_, Error>((revoked, node.coordinator().ended_sessions(ended_cursor).await?))
        };
        match timeout(2 * node.limits.revocation_poll, read)
            .await
            .map_err(|_| "no answer in time".to_owned())
            .and_then(|read| read.map_err(|error| error.to_string()))
        {
            Ok(((new, next), (ended, ended_next))) => {
                for revocation in &new {
                    tracing::info!(at_unix_s = revocation.at_unix_s, "a viewer is revoked");
                }
                node.revoke(&new);
                node.end_sessions(&ended);
                (cursor, ended_cursor) = (next, ended_next);
                signs.coordinator_heard_unix_s.store(now_unix_s(), Ordering::Relaxed);
                signs.revocations_read.store(true, Ordering::Release);
                node.metrics.coordinator_up.set(1);
                if !std::mem::replace(&mut well, true) {
                    tracing::info!("revocations are read again");
                }
            }
            Err(error) => {
                node.metrics.coordinator_up.set(0);
                if std::mem::replace(&mut well, false) {
                    tracing::error!(
                        error,
                        "revocations cannot be read: viewers revoked from now on keep watching"
                    );
                }
            }
        }
    }
}

/// Looks how many viewers there are and says how much of them goes to the CDN, until the node stops.
pub(super) async fn steer(node: Arc<Node>, room: u32) {
    let mut overflow = Overflow::new(room, node.limits.overflow_hold);
    let mut tick = interval(node.limits.overflow_look);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = node.stopped() => return,
        }
        let viewers = u64::try_from(node.metrics.connections.get()).unwrap_or(0);
        let share = overflow.look(viewers, node.now_ms());
        if node.cdn_share.swap(share, Ordering::Relaxed) != share {
            tracing::info!(viewers, share, of = WHOLE, "the share of viewers that goes to the CDN");
            node.metrics.cdn_share.set(f64::from(share) / f64::from(WHOLE));
        }
    }
}

/// Announces the node and looks at its origins, until the node stops.
pub(super) async fn announce(node: Arc<Node>, signs: Arc<Signs>, url: String, admin_url: String) {
    let mut tick = interval(node.limits.announce);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    let mut up_before: Vec<Option<bool>> = vec![None; node.origins().len()];
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = node.stopped() => return,
        }
        let seen = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = NodeRecord {
            name: node.name.clone(),
            role: NodeRole::Relay,
            url: url.clone(),
            admin_url: admin_url.clone(),
            seen_unix_ms: u64::try_from(seen.as_millis()).unwrap_or(u64::MAX),
        };
        let announced = timeout(node.limits.announce, node.coordinator().announce(record)).await;
        let now_well = matches!(announced, Ok(Ok(())));
        if well && !now_well {
            tracing::warn!("the node cannot announce itself to the coordinator");
        }
        well = now_well;
        let mut up = 0;
        for (origin, before) in node.origins().iter().zip(&mut up_before) {
            let asked = origin.streams(&node.keys().cluster, now_unix_s(), &node.limits).await;
            node.metrics.origin_up(origin.url(), asked.is_ok());
            up += u64::from(asked.is_ok());
            match &asked {
                Ok(_) if *before != Some(true) => tracing::info!(origin = origin.url(), "the origin answers"),
                Err(error) if *before != Some(false) => {
                    tracing::warn!(origin = origin.url(), %error, "the origin does not answer");
                }
                _ => {}
            }
            *before = Some(asked.is_ok());
        }
        signs.origins_up.store(up, Ordering::Relaxed);
    }
}
