//! TLS 1.3 of one viewer, as a client: shakes hands by rustls, then seals what is asked; of what comes, records are opened
//! where somebody looks at their bytes, and only counted by their headers where nobody does (RFC 8446 §5.2).
//!
//! In: bytes of a connection. Out: records, sealed or opened. Opening all of them would take more of the machine than the
//! server that is measured.

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

/// Type, version, length.
pub(super) const HEADER_BYTES: usize = 5;
/// What a record has beside its plaintext: the inner type and the tag.
pub(super) const BESIDE_BYTES: usize = 17;
/// A record's length is at most this (RFC 8446 §5.2).
const RECORD_BYTES_MAX: usize = (16 << 10) + 256;

const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// What all viewers of a process have in common: one suite, so that all servers do the same work, and no tickets.
pub(super) fn config() -> Result<Arc<ClientConfig>> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(crate::certificate::roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// A handshake that is under way.
pub(super) struct Shaking(ClientConnection);

impl Shaking {
    pub(super) fn new(config: &Arc<ClientConfig>) -> Result<Shaking> {
        Ok(Shaking(ClientConnection::new(config.clone(), "localhost".try_into()?)?))
    }

    /// Goes on as far as the socket lets it: whether it is done.
    pub(super) fn go_on(&mut self, socket: &mut (impl Read + Write)) -> Result<bool> {
        let client = &mut self.0;
        loop {
            while client.wants_write() {
                match client.write_tls(socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
            if !client.is_handshaking() {
                return Ok(true);
            }
            match client.read_tls(socket) {
                Ok(0) => bail!("the server closed during the handshake"),
                Ok(_) => client.process_new_packets().map(drop)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The records behind a handshake that is done.
    pub(super) fn records(self) -> Result<Records> {
        let secrets = self.0.dangerous_extract_secrets()?;
        Ok(Records { tx: Keys::new(secrets.tx)?, rx: Keys::new(secrets.rx)? })
    }
}

/// The keys of both directions.
pub(super) struct Records {
    tx: Keys,
    rx: Keys,
}

impl Records {
    /// A record with this in it.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut inner = [plain, &[DATA]].concat();
        let length = u16::try_from(inner.len() + BESIDE_BYTES - 1)?;
        let header = [DATA, 3, 3, (length >> 8) as u8, length as u8];
        let nonce = self.tx.nonce()?;
        let tag = self.tx.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut inner);
        let tag = tag.ok().context("a request could not be sealed")?;
        Ok([&header, &inner[..], tag.as_ref()].concat())
    }

    /// Passes a record over whose bytes nobody looks at.
    pub(super) fn skip(&mut self) -> Result<()> {
        self.rx.nonce().map(drop)
    }

    /// What is in a whole record: nothing in those that are no data.
    pub(super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a [u8]> {
        let (header, sealed) = record.split_at_mut(HEADER_BYTES);
        let nonce = self.rx.nonce()?;
        let opened = self.rx.key.open_in_place(nonce, Aad::from(&*header), sealed);
        let inner = &*opened.ok().context("a record does not open")?;
        let kind = inner.iter().rposition(|byte| *byte != 0).context("a record without a type")?;
        match inner[kind] {
            DATA => Ok(&inner[..kind]),
            HANDSHAKE => Ok(&[]), // a ticket
            other => bail!("a record of type {other}: {:?}", &inner[..kind.min(2)]),
        }
    }
}

/// How many bytes follow this header.
pub(super) fn length(header: &[u8]) -> Result<usize> {
    let &[DATA, 3, 3, high, low] = header else { bail!("no record: {header:?}") };
    let length = usize::from(u16::from_be_bytes([high, low]));
    ensure!((BESIDE_BYTES..=RECORD_BYTES_MAX).contains(&length), "a record of {length} bytes");
    Ok(length)
}

/// One direction's key, and how many records it has gone with.
struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Keys> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            bail!("another suite than was offered")
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).ok().context("a key of another length")?;
        Ok(Keys { key: LessSafeKey::new(key), iv: iv.as_ref().try_into()?, sequence })
    }

    /// The next record's (RFC 8446 §5.3).
    fn nonce(&mut self) -> Result<Nonce> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence = self.sequence.checked_add(1).context("a key is used up")?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a connection, with keys that anybody may know.
    fn ends() -> (Records, Records) {
        let keys = |byte: u8| {
            let key = UnboundKey::new(&AES_128_GCM, &[byte; 16]).unwrap();
            Keys { key: LessSafeKey::new(key), iv: [byte; NONCE_LEN], sequence: 7 }
        };
        (Records { tx: keys(1), rx: keys(2) }, Records { tx: keys(2), rx: keys(1) })
    }

    #[test]
    fn what_one_end_seals_the_other_opens_in_turn() {
        let (mut here, mut there) = ends();
        let mut sealed: Vec<_> = (0..3u8).map(|byte| here.seal(&[byte; 100]).unwrap()).collect();
        for record in &sealed {
            assert_eq!(length(&record[..HEADER_BYTES]).unwrap(), 100 + BESIDE_BYTES);
            assert_eq!(record.len(), HEADER_BYTES + 100 + BESIDE_BYTES);
        }
        assert_eq!(there.open(&mut sealed[0]).unwrap(), [0; 100]);
        there.skip().unwrap();
        assert_eq!(there.open(&mut sealed[2]).unwrap(), [2; 100]);
        assert!(there.open(&mut sealed[1]).is_err(), "out of turn");
        let mut changed = here.seal(b"x").unwrap();
        changed[HEADER_BYTES] ^= 1;
        assert!(there.open(&mut changed).is_err());
        assert!(length(b"HTTP/").is_err());
    }
}
