//! One direction's key: seals and opens records in place.
//!
//! In: traffic secrets of a finished handshake, plaintext or a record. Out: a record, or what is in one. Pure; nothing is
//! allocated for a record. A nonce is made of a counter that goes up with every record, so none is used twice with a key.
//! RFC 8446 §5.2–5.3 (TLS 1.3), RFC 5288 §3 (AES-GCM in 1.2), RFC 7905 §2 (ChaCha20-Poly1305 in 1.2).

use super::record::{
    BAD_RECORD_MAC, DATA, HEADER_BYTES, INTERNAL_ERROR, PLAIN_BYTES_MAX, RECORD_OVERFLOW, TAG_BYTES,
    TlsError, UNEXPECTED_MESSAGE,
};
use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};
use std::ops::Range;

/// Records that one AES-GCM key may seal: 2^24.5 is the bound of RFC 8446 §5.5.
const GCM_RECORDS_MAX: u64 = 1 << 24;
/// The part of a nonce that AES-GCM in TLS 1.2 sends with each record.
const EXPLICIT_BYTES: usize = 8;

/// How version and suite lay a record out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The type is inside, the header is authenticated.
    Tls13,
    /// Half of the nonce goes with the record.
    Tls12Gcm,
    /// Nothing but the tag is added.
    Tls12Chacha,
}

pub(super) struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// Number of the next record.
    sequence: u64,
    /// Records this key may seal.
    records_max: u64,
    form: Form,
}

impl Protection {
    pub(super) fn new(
        version: ProtocolVersion,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Protection, TlsError> {
        let (algorithm, key, iv, is_gcm) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, true),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, true),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv, false),
            _ => return Err(TlsError::Handshake("a suite whose records are not known here".into())),
        };
        let unusable = || TlsError::Handshake("a key that does not fit its suite".into());
        let form = match (version, is_gcm) {
            (ProtocolVersion::TLSv1_3, _) => Form::Tls13,
            (ProtocolVersion::TLSv1_2, true) => Form::Tls12Gcm,
            (ProtocolVersion::TLSv1_2, false) => Form::Tls12Chacha,
            _ => return Err(TlsError::Handshake("a version whose records are not known here".into())),
        };
        Ok(Protection {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?),
            iv: iv.as_ref().try_into().map_err(|_| unusable())?,
            sequence,
            records_max: if is_gcm { GCM_RECORDS_MAX } else { u64::MAX },
            form,
        })
    }

    /// Whether the next record is the last this key may seal: it announces the next key.
    pub(super) fn is_next_the_last(&self) -> bool {
        self.sequence + 1 >= self.records_max
    }

    /// Appends one record to `out`, of the plaintext that `gather` appends: at most `PLAIN_BYTES_MAX`.
    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        kind: u8,
        gather: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), TlsError> {
        if self.sequence >= self.records_max {
            return Err(TlsError::Over);
        }
        let (start, nonce) = (out.len(), self.nonce());
        out.extend_from_slice(&[0; HEADER_BYTES]);
        if self.form == Form::Tls12Gcm {
            out.extend_from_slice(&nonce[NONCE_LEN - EXPLICIT_BYTES..]);
        }
        let body = out.len();
        gather(out);
        let plain_len = out.len() - body;
        debug_assert!(plain_len <= PLAIN_BYTES_MAX, "a record of {plain_len} bytes");
        if self.form == Form::Tls13 {
            out.push(kind);
        }
        let len = (out.len() - start - HEADER_BYTES + TAG_BYTES) as u16; // at most PLAIN_BYTES_MAX + 2048
        let outer = if self.form == Form::Tls13 { DATA } else { kind };
        let header = header(outer, len);
        out[start..start + HEADER_BYTES].copy_from_slice(&header);
        let (aad, aad_len) = self.aad(header, kind, plain_len);
        let sealed = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&aad[..aad_len]),
            &mut out[body..],
        );
        let Ok(tag) = sealed else {
            out.truncate(start); // what is not sealed must not be sent
            return Err(TlsError::Record(INTERNAL_ERROR));
        };
        out.extend_from_slice(tag.as_ref());
        self.sequence += 1;
        Ok(())
    }

    /// Opens a whole record in place: its type, and where its plaintext lies in it.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), TlsError> {
        let mut nonce = self.nonce();
        let mut body = HEADER_BYTES;
        if self.form == Form::Tls12Gcm {
            let explicit = record.get(body..body + EXPLICIT_BYTES).ok_or(TlsError::Record(BAD_RECORD_MAC))?;
            nonce[..NONCE_LEN - EXPLICIT_BYTES].copy_from_slice(&self.iv[..NONCE_LEN - EXPLICIT_BYTES]);
            nonce[NONCE_LEN - EXPLICIT_BYTES..].copy_from_slice(explicit);
            body += EXPLICIT_BYTES;
        }
        let plain_len = record.len().checked_sub(body + TAG_BYTES).ok_or(TlsError::Record(BAD_RECORD_MAC))?;
        let kind = record[0];
        if self.form == Form::Tls13 && kind != DATA {
            return Err(TlsError::Record(UNEXPECTED_MESSAGE));
        }
        let header = header(kind, (record.len() - HEADER_BYTES) as u16);
        let (aad, aad_len) = self.aad(header, kind, plain_len);
        self.key
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&aad[..aad_len]),
                &mut record[body..],
            )
            .map_err(|_| TlsError::Record(BAD_RECORD_MAC))?;
        self.sequence += 1;
        let mut plain = body..body + plain_len;
        let mut inner = kind;
        if self.form == Form::Tls13 {
            // Behind the plaintext: its type, then padding of zeros.
            let at = record[plain.clone()].iter().rposition(|byte| *byte != 0);
            let at = body + at.ok_or(TlsError::Record(UNEXPECTED_MESSAGE))?;
            inner = record[at];
            plain.end = at;
        }
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(TlsError::Record(RECORD_OVERFLOW));
        }
        Ok((inner, plain))
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }

    /// What is authenticated beside the plaintext, and how long that is.
    fn aad(&self, header: [u8; HEADER_BYTES], kind: u8, plain_len: usize) -> ([u8; 13], usize) {
        let mut aad = [0; 13];
        if self.form == Form::Tls13 {
            aad[..HEADER_BYTES].copy_from_slice(&header);
            return (aad, HEADER_BYTES);
        }
        aad[..8].copy_from_slice(&self.sequence.to_be_bytes());
        aad[8..11].copy_from_slice(&[kind, 3, 3]);
        aad[11..].copy_from_slice(&(plain_len as u16).to_be_bytes()); // shorter than its record
        (aad, 13)
    }

    /// As if this key had sealed almost all it may.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, left: u64) {
        self.records_max = self.sequence + left;
    }
}

fn header(kind: u8, len: u16) -> [u8; HEADER_BYTES] {
    let [high, low] = len.to_be_bytes();
    [kind, 3, 3, high, low]
}
