//! Records after the handshake: opened in place, sealed from slices.
//!
//! In: records; slices of answers. Out: plaintext; records. Key updates are followed (TLS 1.3), and our own key is changed
//! before it has sealed too much. Everything else that is not data ends the connection. RFC 8446 §4.6.3, §6.

use super::buffers::Outbound;
use super::protection::Protection;
use super::record::{
    ALERT, CLOSE_NOTIFY, DATA, DECODE_ERROR, HANDSHAKE, INTERNAL_ERROR, PLAIN_BYTES_MAX, TlsError,
    UNEXPECTED_MESSAGE, USER_CANCELED,
};
use rustls::ProtocolVersion;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use std::io::IoSlice;
use std::ops::Range;

/// Key updates that a client may ask for without sending any data: each costs two key derivations.
const KEY_UPDATES_MAX: u8 = 32;
/// Type and length of a key update.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

pub(super) struct Channel {
    /// Derives the next keys.
    kernel: KernelConnection<ServerConnectionData>,
    opens: Protection,
    seals: Protection,
    /// Key updates since data came last.
    key_updates: u8,
}

/// What a record held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Data; where it lies in the record.
    Data(Range<usize>),
    /// Something that is dealt with.
    Nothing,
    /// The client sends no more.
    End,
}

impl Channel {
    pub(super) fn new(
        kernel: KernelConnection<ServerConnectionData>,
        secrets: rustls::ExtractedSecrets,
    ) -> Result<Channel, TlsError> {
        let version = kernel.protocol_version();
        Ok(Channel {
            opens: Protection::new(version, secrets.rx)?,
            seals: Protection::new(version, secrets.tx)?,
            kernel,
            key_updates: 0,
        })
    }

    /// Opens a whole record in place.
    pub(super) fn open(&mut self, record: &mut [u8], outbound: &mut Outbound) -> Result<Opened, TlsError> {
        let (kind, plain) = self.opens.open(record)?;
        match (kind, &record[plain.clone()]) {
            (DATA, _) => {
                self.key_updates = 0;
                Ok(Opened::Data(plain))
            }
            (ALERT, [_, CLOSE_NOTIFY]) => Ok(Opened::End),
            (ALERT, [1, USER_CANCELED]) => Ok(Opened::Nothing), // a close_notify follows
            (ALERT, [_, alert]) => Err(TlsError::Alerted(*alert)),
            (HANDSHAKE, message) if self.is_13() => {
                let [head @ .., answer] = message else { return Err(TlsError::Record(DECODE_ERROR)) };
                if head != KEY_UPDATE || *answer > 1 {
                    return Err(TlsError::Record(UNEXPECTED_MESSAGE));
                }
                self.follow(*answer == 1, outbound)?;
                Ok(Opened::Nothing)
            }
            _ => Err(TlsError::Record(UNEXPECTED_MESSAGE)),
        }
    }

    /// The client has changed its key, and perhaps wants us to change ours.
    fn follow(&mut self, answer: bool, outbound: &mut Outbound) -> Result<(), TlsError> {
        self.key_updates += 1;
        // Nor may answers to it pile up with a client that takes nothing.
        if self.key_updates > KEY_UPDATES_MAX || outbound.is_full() {
            return Err(TlsError::Record(UNEXPECTED_MESSAGE));
        }
        let secrets = self.kernel.update_rx_secret().map_err(|_| TlsError::Record(INTERNAL_ERROR))?;
        self.opens = Protection::new(self.kernel.protocol_version(), secrets)?;
        if answer { self.change_key(outbound) } else { Ok(()) }
    }

    fn change_key(&mut self, outbound: &mut Outbound) -> Result<(), TlsError> {
        let update = |out: &mut Vec<u8>| {
            out.extend_from_slice(&KEY_UPDATE);
            out.push(0); // the other side need not
        };
        self.seals.seal(&mut outbound.bytes, HANDSHAKE, update)?;
        let secrets = self.kernel.update_tx_secret().map_err(|_| TlsError::Record(INTERNAL_ERROR))?;
        self.seals = Protection::new(self.kernel.protocol_version(), secrets)?;
        Ok(())
    }

    /// Seals bytes of `slices`, `most` at most, in records as long as can be.
    pub(super) fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        most: usize,
        outbound: &mut Outbound,
    ) -> Result<(), TlsError> {
        let mut left = slices.iter().map(|slice| slice.len()).sum::<usize>().min(most);
        let (mut slices, mut skip) = (slices.iter(), 0);
        let mut slice: &[u8] = &[];
        while left > 0 {
            if self.is_13() && self.seals.is_next_the_last() {
                self.change_key(outbound)?;
            }
            let len = left.min(PLAIN_BYTES_MAX);
            self.seals.seal(&mut outbound.bytes, DATA, |out| {
                let mut wanted = len;
                while wanted > 0 {
                    if skip == slice.len() {
                        // There are `left` bytes in the slices, and so there is a next one.
                        let Some(next) = slices.next() else { return };
                        (slice, skip) = (next, 0);
                    }
                    let count = wanted.min(slice.len() - skip);
                    out.extend_from_slice(&slice[skip..skip + count]);
                    skip += count;
                    wanted -= count;
                }
            })?;
            outbound.sealed(len);
            left -= len;
        }
        Ok(())
    }

    /// Tells the client that nothing more comes, or why it fails.
    pub(super) fn alert(&mut self, alert: u8, outbound: &mut Outbound) {
        let level = if alert == CLOSE_NOTIFY { 1 } else { 2 };
        // A key that is used up seals no alert either: then the connection ends without one.
        let _ = self.seals.seal(&mut outbound.bytes, ALERT, |out| out.extend_from_slice(&[level, alert]));
    }

    fn is_13(&self) -> bool {
        self.kernel.protocol_version() == ProtocolVersion::TLSv1_3
    }

    /// As if our key had sealed almost all it may.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, left: u64) {
        self.seals.wear_out(left);
    }
}
