//! Whom a connection counts for: its peer, or whom a listed proxy names.
//!
//! In: the peer's address, what a proxy says. Out: a share of the worker's places, or none. A listed proxy itself counts for
//! nobody; a connection of it counts for the viewer whose request it carried last.

use super::seat::Hall;
use crate::address::{Block, Guest, Left, Networks, Refused, Stage, forwarded_for};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a worker complains of proxies at most.
const SAYS_AGAIN: Duration = Duration::from_secs(10);

/// Who may say whose connection it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// From where they come.
    pub(crate) listed: Networks,
    /// Each of their connections begins with a PROXY header.
    pub(crate) introduce: bool,
}

pub(super) struct Visitor {
    guest: Option<Guest>,
    /// The peer, or whom a PROXY header names.
    source: IpAddr,
    /// A listed proxy brings them.
    by_proxy: bool,
    stage: Stage,
}

/// Why a visitor cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// Their address holds all it may.
    Full,
    /// The proxy does not say who they are.
    Malformed,
}

impl Visitor {
    /// Somebody comes in; `None` when their address holds all it may.
    pub(super) fn enters(hall: &mut Hall, peer: IpAddr, stage: Stage) -> Option<Visitor> {
        let by_proxy = hall.shared.proxies.listed.contains(peer);
        let guest = if by_proxy { None } else { Some(hall.enter(peer, stage).ok()?) };
        Some(Visitor { guest, source: peer, by_proxy, stage })
    }

    /// Whether a header must come first that says who they are.
    pub(super) fn is_to_be_introduced(&self, hall: &Hall) -> bool {
        self.by_proxy && hall.shared.proxies.introduce
    }

    /// Whether other viewers' requests come on the same connection.
    pub(super) fn is_one_of_many(&self, hall: &Hall) -> bool {
        self.by_proxy && !hall.shared.proxies.introduce
    }

    /// A PROXY header named them; before anything else came.
    pub(super) fn introduced(&mut self, hall: &mut Hall, source: IpAddr) -> Result<(), Objection> {
        self.source = source;
        self.counts_for(hall, source)
    }

    /// Whose the connection is; where it carries several viewers' requests, the proxy's.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// A request came, with this `X-Forwarded-For`. Gives whose it is: where a proxy does not say, its own.
    pub(super) fn asks(&mut self, hall: &mut Hall, field: Option<&[u8]>) -> Result<IpAddr, Objection> {
        let (true, Some(field)) = (self.is_one_of_many(hall), field) else {
            return Ok(self.source);
        };
        match forwarded_for(field, &hall.shared.proxies.listed) {
            Ok(Some(source)) => self.counts_for(hall, source).map(|()| source),
            Ok(None) => {
                self.leaves(hall);
                Ok(self.source)
            }
            Err(malformed) => {
                hall.proxy_is_wrong(&malformed);
                Err(Objection::Malformed)
            }
        }
    }

    fn counts_for(&mut self, hall: &mut Hall, source: IpAddr) -> Result<(), Objection> {
        if self.guest.as_ref().is_some_and(|guest| guest.block() == Block::of(source)) {
            return Ok(());
        }
        self.leaves(hall);
        self.stage = self.stage.min(Stage::Unproved); // another viewer's proof is not theirs
        self.guest = Some(hall.enter(source, self.stage).map_err(|_| Objection::Full)?);
        Ok(())
    }

    /// Hands are shaken.
    pub(super) fn has_shaken(&mut self, hall: &mut Hall) {
        self.goes_on(hall, Stage::Shaking, Stage::Unproved);
    }

    /// They have shown a session.
    pub(super) fn is_proved(&mut self, hall: &mut Hall) {
        self.goes_on(hall, Stage::Unproved, Stage::Proved);
    }

    fn goes_on(&mut self, hall: &mut Hall, from: Stage, to: Stage) {
        if self.stage == from {
            self.stage = to;
            if let Some(guest) = &mut self.guest {
                hall.shares.goes_on(guest, to);
            }
        }
    }

    /// They count for nobody any more.
    pub(super) fn leaves(&mut self, hall: &mut Hall) {
        if let Some(guest) = self.guest.take() {
            hall.shares.leave(guest);
        }
    }
}

impl Hall {
    fn enter(&mut self, address: IpAddr, stage: Stage) -> Result<Guest, Refused> {
        let shared = &self.shared;
        let left = Left {
            handshakes: shared.handshakes.saturating_sub(self.shaking),
            seats: shared.seats.saturating_sub(shared.seated.load(Ordering::Relaxed)) / shared.workers,
        };
        self.shares
            .enter(Block::of(address), stage, left)
            .inspect_err(|refused| shared.node.metrics.address_refused(refused.word()))
    }

    /// A listed proxy sent what it may not: said once in a while, for whoever set it up.
    pub(super) fn proxy_is_wrong(&mut self, why: &dyn std::fmt::Display) {
        self.shared.node.metrics.proxy_malformed.inc();
        if self.says_again <= self.pool.now {
            self.says_again = self.pool.now + SAYS_AGAIN;
            tracing::warn!(%why, "a listed proxy does not say whose connection it is: closed");
        }
    }
}
