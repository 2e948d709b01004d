//! What a survivor restores when the holder has died.
//!
//! In: a standby whose link was drained. Out: each connection's position, and no word more from the old epoch. Pure. Order
//! in the shell:
//!
//! 1. `CloseLink`: read the link until it is empty or ended, [`Standby::handle_bytes`]; an error there ends the reading,
//!    what came before it counts. Carry out every [`Standby::poll_step`]. Close the link.
//! 2. `RestoreConnections`: [`Standby::take_over`]; for each [`Survived`] `Baseline::from(TcpState::decode(tcp))`, then
//!    `resume` with `received`, `sent_from` and `sent`; the lockstep parse is already at `received`.
//! 3. [`Holder::adopt`](crate::Holder::adopt) each of them: this node is the holder now, and a late standby may join.

use crate::frame::Publishes;
use crate::standby::Standby;
use crate::{ConnectionId, Error};
use bytes::Bytes;

/// A connection whose host has died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survived {
    /// Its number.
    pub connection: ConnectionId,
    /// Its static TCP state, as the holder gave it.
    pub tcp: Bytes,
    /// What it publishes, if it got that far.
    pub publishes: Option<Publishes>,
    /// Input since the handshake, bytes: all of it was parsed here. `rcv_nxt` is the base plus this.
    pub received: u64,
    /// Offset of the first byte of `sent`; the publisher has acknowledged everything before it.
    pub sent_from: u64,
    /// Output that the publisher may lack. `snd_nxt` is the base plus `sent_from` plus its length.
    pub sent: Bytes,
}

impl Standby {
    /// Ends the link's epoch here: later bytes of it are refused, and nothing more is said on it. Gives every open
    /// connection, in the order of their numbers. A second call gives the same.
    ///
    /// # Errors
    /// [`Error::Undrained`] while steps wait; [`Error::NotInStep`] when the holder never said "paired" here: then it may
    /// have acknowledged more than this node has, and no grant allows a takeover. Nothing has changed then.
    pub fn take_over(&mut self) -> Result<Vec<Survived>, Error> {
        if !self.steps.is_empty() {
            return Err(Error::Undrained { steps: self.steps.len() });
        }
        if !self.is_paired() {
            return Err(Error::NotInStep);
        }
        self.fenced = true;
        let survived = self.connections.iter().map(|(connection, entry)| Survived {
            connection: *connection,
            tcp: entry.tcp.clone(),
            publishes: entry.publishes.clone(),
            received: entry.received,
            sent_from: entry.output.start(),
            sent: entry.output.concat(),
        });
        Ok(survived.collect())
    }
}
