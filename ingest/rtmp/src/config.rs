//! What the operator may choose for one session. Plain values; limits that nobody needs to turn
//! are constants in [`limits`](crate::limits).

use crate::FourCc;
use crate::snapshot::{Load, Save};
use crate::{RestoreError, limits};

/// Settings of one [`Session`](crate::Session).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes between two acknowledgements until the peer names its own window, and the window we
    /// announce. At least [`limits::ACK_WINDOW_MIN`] is used.
    pub window_ack_size: u32,
    /// Chunk size of what we send, in bytes, 1 to [`limits::CHUNK_SIZE_MAX`].
    pub chunk_size_out: u32,
    /// Handshake, `connect` and `publish` must all have arrived this many milliseconds after the
    /// session began. The same time is given again after a refused or ended publish.
    pub publish_deadline_ms: u64,
    /// Longest audio, video or aggregate message, in bytes.
    pub media_len_max: u32,
    /// One total for everything this connection holds: unfinished messages at their declared
    /// length, and bytes held while a publish is being decided. In bytes.
    pub budget: u32,
    /// Enhanced RTMP codecs to offer when the peer names them too. Empty: nothing is offered.
    pub fourcc_offer: Vec<FourCc>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_ack_size: 2_500_000,
            chunk_size_out: 4096,
            publish_deadline_ms: 10_000,
            media_len_max: 8 * 1024 * 1024,
            budget: 16 * 1024 * 1024,
            fourcc_offer: Vec::new(),
        }
    }
}

impl Config {
    /// The same settings with every number inside the range in which it means something.
    pub(crate) fn clamped(mut self) -> Self {
        self.window_ack_size = self.window_ack_size.max(limits::ACK_WINDOW_MIN);
        self.chunk_size_out = self.chunk_size_out.clamp(1, limits::CHUNK_SIZE_MAX);
        self.media_len_max = self.media_len_max.min(limits::CHUNK_SIZE_MAX);
        self.fourcc_offer.truncate(limits::FOURCC_MAX);
        self
    }

    pub(crate) fn save(&self, out: &mut Save) {
        out.u32(self.window_ack_size);
        out.u32(self.chunk_size_out);
        out.u64(self.publish_deadline_ms);
        out.u32(self.media_len_max);
        out.u32(self.budget);
        out.fourccs(&self.fourcc_offer);
    }

    pub(crate) fn load(from: &mut Load<'_>) -> Result<Self, RestoreError> {
        let config = Self {
            window_ack_size: from.u32()?,
            chunk_size_out: from.u32()?,
            publish_deadline_ms: from.u64()?,
            media_len_max: from.u32()?,
            budget: from.u32()?,
            fourcc_offer: from.fourccs()?,
        };
        if config != config.clone().clamped() {
            return Err(RestoreError::Invalid { what: "config" });
        }
        Ok(config)
    }
}
