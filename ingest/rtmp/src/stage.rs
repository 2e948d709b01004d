//! Where a session stands, and which command is allowed there.
//!
//! | command                        | allowed in                                     | leads to              |
//! |--------------------------------|------------------------------------------------|-----------------------|
//! | handshake                      | `Handshake`                                    | `AwaitingConnect`     |
//! | `connect`                      | `AwaitingConnect`                              | `Connected`           |
//! | `releaseStream`, `FCPublish`, `getStreamLength` | any after `connect`           | the same              |
//! | `createStream`                 | `Connected`, `StreamCreated`                   | `StreamCreated`       |
//! | `publish`                      | `StreamCreated`                                | `Deciding`            |
//! | `accept_publish` (ours)        | `Deciding`                                     | `Publishing`          |
//! | `reject_publish` (ours)        | `Deciding`                                     | `StreamCreated`       |
//! | audio, video, data             | `Publishing`                                   | the same              |
//! | `FCUnpublish`, `closeStream`   | any after `connect` (no effect unless `Publishing`) | `StreamCreated`  |
//! | `deleteStream`                 | any after `connect`; ends a publish of that stream | `Connected`       |
//! | `play` and its kin             | any after `connect`: refused with a status     | the same              |
//! | unknown commands               | any after the handshake: ignored               | the same              |
//!
//! While `Deciding` no byte is read; what arrives is held.

/// The stage of a [`Session`](crate::Session).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// C0, C1 and C2 are not complete.
    Handshake = 0,
    /// Handshake done, no `connect` yet.
    AwaitingConnect = 1,
    /// `connect` answered, no stream created.
    Connected = 2,
    /// A message stream exists; `publish` may come.
    StreamCreated = 3,
    /// `publish` came; the shell has not answered it.
    Deciding = 4,
    /// Media may come.
    Publishing = 5,
    /// Ended by us or by an error. Nothing more is read.
    Closed = 6,
}

impl Stage {
    /// True while the time to the next `publish` command is limited.
    pub(crate) fn has_deadline(self) -> bool {
        matches!(self, Self::Handshake | Self::AwaitingConnect | Self::Connected | Self::StreamCreated)
    }

    pub(crate) fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Handshake,
            1 => Self::AwaitingConnect,
            2 => Self::Connected,
            3 => Self::StreamCreated,
            4 => Self::Deciding,
            5 => Self::Publishing,
            6 => Self::Closed,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Handshake => "in the handshake",
            Self::AwaitingConnect => "before connect",
            Self::Connected => "connected, without a created stream",
            Self::StreamCreated => "with a created stream, not publishing",
            Self::Deciding => "waiting for the answer to publish",
            Self::Publishing => "publishing",
            Self::Closed => "closed",
        })
    }
}
