//! The answer to a publish: a slot of this node's, or what the holder has answered.
//!
//! In: a key, or the holder's word. Out: a claim, alone or beside another connection's. Part of a connection's task.

use super::super::strand::{Decisions, Strand};
use super::super::word::{Lead, Second};
use super::super::{Begins, Pairing, Twin};
use super::{Fate, Leave, Line, Place, kicked};
use crate::io::rtmp::{End, bare, refuse};
use crate::io::streams::ClaimError;
use crate::slot::Push;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

/// A stream that cannot take a further connection now is asked again after this.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// A publisher that it could not take for this long is refused: a standby that joins takes a GOP.
const BUSY_MAX: Duration = Duration::from_secs(10);

impl Line {
    /// Answers a publish. `false`: the answer is the holder's, and has not come.
    pub(super) async fn decide(&mut self) -> Result<bool, Fate> {
        // What a holder answered before it died counts.
        if let Some(answer) = self.answers.pop_front() {
            self.asked = None;
            match answer {
                Leave::Leads(lead, decisions) => self.follow(lead, decisions).await,
                Leave::Joins => self.join().await,
            }
        } else {
            // Without a socket nobody knows yet whose it will be.
            if self.place != Place::Live {
                return Ok(false);
            }
            let Some((key, push)) = self.asked.take() else { return Ok(false) };
            if !self.publish(key.expose(), push).await? {
                self.asked = Some((key, push));
                return Ok(false);
            }
        }
        self.session.accept_publish();
        self.write()?;
        let now = self.now();
        let fed = self.session.handle_timeout(now);
        self.judge(fed)?;
        Ok(true)
    }

    /// Publishes as the holder does.
    pub(super) async fn follow(&mut self, lead: Box<Lead>, decisions: Decisions) {
        let Some(strand) = self.tap.strand() else { return };
        let (done, ended) = watch::channel(());
        let (record, peer, push) = (lead.record.clone(), lead.peer, lead.push);
        let others = lead.live.as_ref().map(|live| live.others.clone()).unwrap_or_default();
        let twin = Twin { strand: strand.clone(), peer, push, _done: done };
        self.done = Some(ended.clone());
        self.published = true;
        let connection = self.tap.connection.0;
        let pairing = Pairing { twin, connection, decisions, begin: Begins::Follower(lead), done: ended };
        let claim = match self.door.streams.follow(&record, (push, peer), pairing).await {
            Ok(claim) => claim,
            Err(error) => {
                let words = format!("stream {}: not followed: {error}", record.name);
                return self.tap.data.diverged(words);
            }
        };
        for Second { connection, push, peer } in others {
            strand.give(connection, claim.second(push, peer, connection));
        }
        self.claim = Some(claim);
    }

    /// `false`: the stream cannot take it just now, and is to be asked again; or the connection has moved meanwhile, and its
    /// new holder decides.
    async fn publish(&mut self, key: &str, push: Push) -> Result<bool, Fate> {
        let (answer, lead) = oneshot::channel();
        let (done, ended) = watch::channel(());
        let (strand, decisions) = Strand::new(&self.tap.data);
        let peer = self.peer.ip();
        let (twin, connection) =
            (Twin { strand: strand.clone(), peer, push, _done: done }, self.tap.connection.0);
        let pairing = |record: &releve_state::coordinator::StreamRecord| {
            let begin = Begins::Holder { record: Box::new(record.clone()), lead: answer };
            Some(Pairing { twin, connection, decisions, begin, done: ended })
        };
        let claimed = self.door.streams.claim_for(bare(key), push, peer, pairing).await;
        let (record, mut claim) = match claimed {
            Ok(claimed) => claimed,
            Err(ClaimError::Busy(_))
                if self.busy_since.get_or_insert_with(Instant::now).elapsed() < BUSY_MAX =>
            {
                return Ok(false);
            }
            Err(error) => {
                refuse(&mut self.session, &error).await;
                return Err(End::NoSlot(error).into());
            }
        };
        if claim.leads() {
            let lead = tokio::select! {
                lead = lead => lead.ok(),
                kick = kicked(Some(&mut claim), true) => return Err(End::Kicked(kick).into()),
            };
            match lead {
                Some(lead) if !self.tap.publishes(&strand, &lead) => {
                    claim.moved();
                    return Ok(false);
                }
                Some(_) => {}
                None => warn!(stream = %record.name, "the standby is not told of a publish"),
            }
        }
        info!(peer = %self.peer, stream = %record.name, ?push, "publisher accepted");
        (self.done, self.claim) = (claim.done(), Some(claim));
        (self.pass, self.published, self.busy_since) = (None, true, None);
        Ok(true)
    }

    /// The publisher has a further connection from here on.
    pub(super) fn shares(&self, second: Second, admit: Option<oneshot::Sender<()>>) {
        let Some(claim) = &self.claim else { return };
        claim.share();
        if admit.is_none()
            && let Some(strand) = self.tap.strand()
        {
            strand.give(second.connection, claim.second(second.push, second.peer, second.connection));
        }
    }

    /// Publishes beside another connection, as the holder has it.
    pub(super) async fn join(&mut self) {
        let seat = match self.tap.strand() {
            Some(strand) => strand.seat(self.tap.connection).await,
            None => None,
        };
        match seat {
            Some(claim) => (self.done, self.claim) = (claim.done(), Some(claim)),
            None => {
                self.tap.data.diverged(format!("connection {}: it has no seat here", self.tap.connection))
            }
        }
        self.published = true;
    }
}
