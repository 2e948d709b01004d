//! What a relay does about running sessions at regular times: report those that take a seat, ask the webhook again about
//! those it let in. None of it is on the media path: viewers go on while a store or a webhook is away.

use super::webhook::{Event, Kind, Verdict, Webhook, WebhookError};
use crate::node::{Node, now_unix_s};
use crate::session::Session;
use releve_state::seats::{EndedSession, Seat, SeatLimit};
use releve_watermark::Key;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Seats reported in one call: others that write are not kept waiting.
const REPORT_MAX: usize = 1000;
/// Most sessions that are being asked about, or wait for it.
const ASKING_MAX: usize = 256;
/// How often it is looked which sessions are due.
const LOOK: Duration = Duration::from_secs(1);

/// Reports the sessions that take a seat, until the node stops.
pub(super) async fn report(node: Arc<Node>, limit: SeatLimit) {
    let mut tick = interval(node.limits.seat_report);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut well, mut since) = (true, now_unix_s());
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = node.stopped() => return,
        }
        let began = now_unix_s();
        let seats: Vec<Seat> = node.watched.counted_since(since).into_iter().map(seat).collect();
        let mut now_well = true;
        for some in seats.chunks(REPORT_MAX) {
            let kept = node.coordinator().keep_seats(some.to_vec(), limit);
            now_well &= matches!(timeout(node.limits.ledger_patience, kept).await, Ok(Ok(())));
        }
        if now_well {
            since = began;
        }
        if std::mem::replace(&mut well, now_well) && !now_well {
            tracing::error!("running sessions cannot be reported: their seats will seem free");
        }
    }
}

fn seat((session, seen_unix_s): (Session, u64)) -> Seat {
    Seat {
        viewer: session.watermark_id,
        session: session.id,
        seen_unix_s,
        until_unix_s: session.watch_until_unix_s,
    }
}

/// Asks the webhook again about the sessions it let in, and forgets those that nobody watches any more, until the node stops.
pub(super) async fn recheck(node: Arc<Node>) {
    let mut tick = interval(LOOK.min(node.limits.recheck));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let every_s = node.limits.recheck.as_secs().max(1);
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(_) = asking.join_next() => continue,
            () = node.stopped() => return,
        }
        let now = now_unix_s();
        node.watched.forget(now.saturating_sub(2 * every_s));
        let Some(webhook) = &node.webhook else { continue };
        // Those that must wait for their turn stay due: a webhook that is away gathers no crowd here.
        let room = ASKING_MAX.saturating_sub(asking.len());
        for session in node.watched.due(room, now, now + every_s) {
            asking.spawn(ask_again(node.clone(), webhook.clone(), session));
        }
    }
}

async fn ask_again(node: Arc<Node>, webhook: Arc<Webhook>, session: Session) {
    match verdict(&node, &webhook, &session).await {
        Ok(Verdict::Allow { watch_until_unix_s, .. })
            if watch_until_unix_s.is_none_or(|until| until >= now_unix_s()) =>
        {
            node.metrics.webhook("stays");
        }
        Ok(_) => {
            node.metrics.webhook("ended");
            tracing::info!(session = node.short(&session.id), "the webhook ends a session");
            let now = now_unix_s();
            let ended = EndedSession { session: session.id, until_unix_s: session.watch_until_unix_s };
            node.end_sessions(&[ended]); // here at once, elsewhere when the store has it
            let told = timeout(node.limits.ledger_patience, node.coordinator().end_session(ended, now)).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::error!("the end of a session cannot be told to other relays: tried again");
                node.watched.ask_at(&session.id, now + node.limits.recheck_retry.as_secs());
            }
        }
        Err(error) => {
            node.metrics.webhook("failed");
            tracing::warn!(%error, "the webhook gave no verdict on a session: it goes on, and is asked about again");
            node.watched.ask_at(&session.id, now_unix_s() + node.limits.recheck_retry.as_secs());
        }
    }
}

async fn verdict(node: &Node, webhook: &Webhook, session: &Session) -> Result<Verdict, WebhookError> {
    let known = timeout(node.limits.ledger_patience, node.ledger().session(session.id)).await;
    let viewer = known.ok().and_then(Result::ok).flatten().map(|record| record.viewer);
    let keys = node.keys();
    let key: &Key = keys.webhook.as_ref().ok_or(WebhookError::NoKey)?.current();
    let event = Event {
        event: Kind::Recheck,
        id: hex::encode(node.draw().ok_or(WebhookError::Random)?),
        relay: &node.name,
        session: hex::encode(session.id),
        stream: &session.stream,
        token: None,
        viewer,
    };
    webhook.ask(key, &event, now_unix_s()).await
}
