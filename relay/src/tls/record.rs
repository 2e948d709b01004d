//! How records are framed, and what ends a connection. RFC 8446 §5.1, §6; RFC 5246 §6.2.
//!
//! In: the first bytes of a record. Out: its length, or why it is none. Pure.

use std::ops::Range;
use thiserror::Error;

/// Type, version, length.
pub(super) const HEADER_BYTES: usize = 5;
/// Plaintext of one record, at most.
pub(super) const PLAIN_BYTES_MAX: usize = 16 << 10;
/// A whole record, at most: TLS 1.2 allows 2048 bytes of protection, 1.3 fewer.
pub(super) const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAIN_BYTES_MAX + 2048;
/// What an authentication tag takes, in every suite.
pub(super) const TAG_BYTES: usize = 16;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

pub(super) const CLOSE_NOTIFY: u8 = 0;
pub(super) const UNEXPECTED_MESSAGE: u8 = 10;
pub(super) const BAD_RECORD_MAC: u8 = 20;
pub(super) const RECORD_OVERFLOW: u8 = 22;
pub(super) const DECODE_ERROR: u8 = 50;
pub(super) const INTERNAL_ERROR: u8 = 80;
pub(super) const USER_CANCELED: u8 = 90;

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// What came is no TLS record: plain HTTP on the wrong port, as a rule.
    #[error("no TLS record: a plain request at the TLS address?")]
    NotTls,
    /// rustls refuses the handshake.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// A message of the handshake is longer than a record may be.
    #[error("a message of the handshake is too long")]
    TooLong,
    /// The client gave up.
    #[error("the client sent alert {0}")]
    Alerted(u8),
    /// A record breaks the protocol; the client is told by this alert.
    #[error("a record was refused with alert {0}")]
    Record(u8),
    /// The connection has failed before, or its keys are used up.
    #[error("the connection is at its end")]
    Over,
}

/// The first record of some bytes: its whole length once that is known.
///
/// # Errors
/// When the bytes cannot be the beginning of a record.
pub(super) fn first_record(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    if bytes.first().is_some_and(|kind| !(CHANGE_CIPHER_SPEC..=DATA).contains(kind))
        || bytes.get(1).is_some_and(|major| *major != 3)
    {
        return Err(TlsError::NotTls);
    }
    let &[_, _, _, high, low, ..] = bytes else { return Ok(None) };
    let len = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > RECORD_BYTES_MAX {
        return Err(TlsError::Record(RECORD_OVERFLOW));
    }
    Ok(Some(len))
}

/// The first record of some bytes, if it has come whole.
pub(super) fn whole_record(bytes: &[u8]) -> Result<Option<Range<usize>>, TlsError> {
    Ok(first_record(bytes)?.filter(|len| *len <= bytes.len()).map(|len| 0..len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_by_its_header_and_never_longer_than_the_buffer() {
        assert_eq!(first_record(&[]), Ok(None));
        assert_eq!(first_record(&[22, 3, 1, 2]), Ok(None));
        assert_eq!(first_record(&[22, 3, 1, 0, 9]), Ok(Some(14)));
        assert_eq!(whole_record(&[22, 3, 1, 0, 2, 7]), Ok(None));
        assert_eq!(whole_record(&[22, 3, 1, 0, 2, 7, 8, 9]), Ok(Some(0..7)));
        assert_eq!(first_record(b"GET / HTTP/1.1"), Err(TlsError::NotTls));
        assert_eq!(first_record(&[22, 2]), Err(TlsError::NotTls));
        assert_eq!(first_record(&[23, 3, 3, 0x48, 0]), Ok(Some(RECORD_BYTES_MAX)));
        assert_eq!(first_record(&[23, 3, 3, 0x48, 1]), Err(TlsError::Record(RECORD_OVERFLOW)));
        assert_eq!(first_record(&[23, 3, 3, 0xff, 0xff]), Err(TlsError::Record(RECORD_OVERFLOW)));
    }
}
