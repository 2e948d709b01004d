//! What the standby says, and what the packet hold may release for it.

use super::{Event, Holder, Phase};
use crate::frame::Frame;
use crate::rule::{Rule, broken};
use crate::{ConnectionId, Error, Way};

impl Holder {
    /// Bytes from the link.
    ///
    /// # Errors
    /// The standby is detached; close the link. [`Error::NoLink`] when there is none.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.link.as_mut().ok_or(Error::NoLink)?.0.handle_bytes(bytes);
        while let Some((link, _)) = &mut self.link {
            let handled = match link.poll_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => self.handle_frame(frame),
                Err(error) => Err(error),
            };
            if handled.is_err() {
                self.detach();
                return handled;
            }
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Ping => {}
            Frame::Confirm { connection, input, output } => self.confirm(connection, (input, output))?,
            Frame::Forgotten { connection } => {
                if !self.entry(connection)?.closing {
                    return Err(Error::Snapshot { connection, what: "forgotten, but it is open" });
                }
                self.remove(connection);
            }
            Frame::PairedSeen => match &mut self.link {
                Some((_, phase @ Phase::Told)) => {
                    *phase = Phase::Paired;
                    self.events.push_back(Event::Paired);
                    let all: Vec<_> = self.connections.keys().copied().collect();
                    all.into_iter().for_each(|connection| self.report(connection));
                }
                _ => return Err(Error::Direction { name: "PairedSeen" }),
            },
            Frame::TcpSeen { connection } => {
                let entry = self.entry(connection)?;
                entry.tcp_unseen =
                    entry.tcp_unseen.checked_sub(1).ok_or(Error::Direction { name: "TcpSeen" })?;
                if entry.tcp_unseen == 0 {
                    self.events.push_back(Event::TcpKnown(connection));
                }
            }
            // Of one that is over nobody needs an answer.
            Frame::Ask { connection, bytes }
                if connection == ConnectionId::NONE || self.connections.contains_key(&connection) =>
            {
                self.events.push_back(Event::Asked { connection, bytes });
            }
            Frame::Ask { .. } => {}
            Frame::PartHash(digest) => self.events.push_back(Event::Part(digest)),
            Frame::SegmentHash(digest) => self.events.push_back(Event::Segment(digest)),
            other => return Err(Error::Direction { name: other.name() }),
        }
        Ok(())
    }

    fn confirm(&mut self, connection: ConnectionId, said: (u64, u64)) -> Result<(), Error> {
        let entry = self.entry(connection)?;
        if entry.awaits_snapshot {
            return Err(Error::Snapshot { connection, what: "confirmed before its snapshot was sent" });
        }
        let low = entry.confirmed.unwrap_or(entry.low);
        for (way, got, low, high) in
            [(Way::Input, said.0, low.0, entry.input), (Way::Output, said.1, low.1, entry.output.end())]
        {
            if got < low || got > high {
                return Err(Error::Range { connection, way, got, low, high });
            }
        }
        let before = entry.unconfirmed();
        entry.confirmed = Some(said);
        let freed = before - entry.unconfirmed();
        self.unconfirmed -= freed;
        self.report(connection);
        Ok(())
    }

    fn report(&mut self, connection: ConnectionId) {
        if let Some(has) = self.confirmed(connection) {
            self.releases.insert(connection, has);
        }
    }

    /// Input and output, in bytes since the handshake, that the paired standby has: what the packet hold may release.
    /// `None`: nothing, not even the SYN-ACK.
    pub fn confirmed(&self, connection: ConnectionId) -> Option<(u64, u64)> {
        let (_, phase) = self.link.as_ref()?;
        if *phase != Phase::Paired && !broken(Rule::ReleaseOncePaired) {
            return None;
        }
        let entry = self.connections.get(&connection)?;
        let (input, output) = entry.confirmed?;
        Some((
            if broken(Rule::ConfirmHeard) { entry.input } else { input },
            if broken(Rule::ConfirmOutputHeard) { entry.output.end() } else { output },
        ))
    }

    /// The input half of [`Holder::confirmed`].
    pub fn confirmed_input(&self, connection: ConnectionId) -> Option<u64> {
        self.confirmed(connection).map(|(input, _)| input)
    }

    /// The output half of [`Holder::confirmed`].
    pub fn confirmed_output(&self, connection: ConnectionId) -> Option<u64> {
        self.confirmed(connection).map(|(_, output)| output)
    }
}
