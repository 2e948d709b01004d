//! What players report: events posted below their sessions become counts.
//!
//! In: a request to `cmcd` below a session that holds. Out: 204, or why its events were not taken.

use super::answer::{Answer, NO_STORE};
use super::{Node, now_unix_s};
use crate::cmcd::{self, STATE_CHANGE};
use crate::http1::request::CMCD;
use crate::http1::{Method, Request};
use crate::session::Session;
use std::sync::PoisonError;

const ALLOWED: &str = "POST, OPTIONS";

impl Node {
    /// Counts a batch of events, all of them or none.
    pub(super) fn report(&self, request: &Request<'_>, session: &Session) -> Answer {
        match (request.method, request.body) {
            (Method::Options, _) => Answer::bare(204)
                .with("access-control-allow-methods", ALLOWED)
                .with("access-control-allow-headers", "Content-Type, CTA-Common-Access-Token")
                .with("access-control-max-age", "86400"),
            (Method::Post, None) => Answer::bare(411),
            (Method::Post, Some(_)) if !request.is_cmcd => Answer::bare(415).with("accept", CMCD),
            (Method::Post, Some(body)) => match cmcd::events(body) {
                Ok(events) => {
                    self.count(&events, session);
                    Answer { of_session: true, ..Answer::bare(204) }
                }
                Err(malformed) => {
                    let text = format!("{malformed}\n").into();
                    Answer { status: 400, ..Answer::content("text/plain; charset=utf-8", NO_STORE, text) }
                }
            },
            _ => Answer::bare(405).with("allow", ALLOWED),
        }
    }

    fn count(&self, events: &[cmcd::Event], session: &Session) {
        let now_unix_s = now_unix_s();
        for event in events {
            self.metrics.players.saw(event);
            if let (STATE_CHANGE, Some(state)) = (event.kind, event.state) {
                let player = (session.id, event.player);
                let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(lasted) = stalls.changed(player, state, event.at_ms, now_unix_s) {
                    self.metrics.players.stalled(lasted);
                }
            }
        }
    }
}
