//! Certificate and key as rustls wants them, checked: what is wrong is said before a viewer finds out.
//!
//! In: the texts of two PEM files, the time. Out: a configuration for new connections. Pure but for tickets, whose keys are
//! drawn at random once for all threads and stay when a certificate changes, so that viewers resume.

use crate::http1::Stamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use thiserror::Error;

/// HTTP/2 in a handshake (RFC 9113 §3.1).
pub(super) const HTTP2: &[u8] = b"h2";
/// Certificates in a file: a chain has two or three.
const CHAIN_MAX: usize = 16;

/// The keys that tickets are sealed with, changed every six hours; a ticket is good for twelve.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Tickets, IdentityError> {
        aws_lc_rs::Ticketer::new().map(Tickets).map_err(|error| IdentityError::Unusable(error.to_string()))
    }
}

/// A certificate with its key, ready for connections.
#[derive(Clone, Debug)]
pub struct Certified {
    /// What new connections are made with that speak HTTP/1.1.
    pub config: Arc<ServerConfig>,
    /// The same for those that may choose HTTP/2.
    pub with_http2: Arc<ServerConfig>,
    /// When it expires, in Unix seconds.
    pub not_after_unix_s: u64,
}

impl Certified {
    /// Reads the certificate, its issuers behind it, and the key that belongs to it.
    ///
    /// # Errors
    /// Says what is wrong, never what a key is.
    pub fn read(
        chain: &[u8],
        key: &[u8],
        tickets: &Tickets,
        now_unix_s: u64,
    ) -> Result<Certified, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .take(CHAIN_MAX)
            .collect::<Result<_, _>>()
            .map_err(|error| IdentityError::CertificateText(error.to_string()))?;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let not_after_unix_s = validity(leaf, now_unix_s)?;
        if has_encrypted_key(key) {
            return Err(IdentityError::KeyEncrypted);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::NoKey)?;
        let provider = aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::KeyOfAnother,
            error => IdentityError::Unusable(error.to_string()),
        })?;
        let unusable = |error: rustls::Error| IdentityError::Unusable(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = tickets.0.clone();
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.enable_secret_extraction = true; // for our own records
        let mut with_http2 = config.clone();
        with_http2.alpn_protocols.insert(0, HTTP2.to_vec());
        Ok(Certified { config: Arc::new(config), with_http2: Arc::new(with_http2), not_after_unix_s })
    }
}

/// When a certificate expires, if it is good now. `webpki` looks at the time before it looks for an issuer; asked for the
/// last of times it says when the certificate ends.
fn validity(leaf: &CertificateDer<'_>, now_unix_s: u64) -> Result<u64, IdentityError> {
    let unreadable = |error: webpki::Error| IdentityError::CertificateText(error.to_string());
    let certificate = webpki::EndEntityCert::try_from(leaf).map_err(unreadable)?;
    let at = |unix_s: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
        let usage = webpki::KeyUsage::server_auth();
        certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
    };
    match at(now_unix_s) {
        Some(webpki::Error::CertExpired { not_after, .. }) => {
            return Err(IdentityError::Expired(date(not_after.as_secs())));
        }
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
            return Err(IdentityError::NotYet(date(not_before.as_secs())));
        }
        Some(error @ (webpki::Error::BadDer | webpki::Error::BadDerTime)) => return Err(unreadable(error)),
        _ => {} // nobody is asked whom players trust
    }
    match at(u64::MAX >> 1) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Ok(not_after.as_secs()),
        _ => Ok(u64::MAX >> 1),
    }
}

/// `Fri, 20 Nov 2026 10:00:00 GMT`.
fn date(unix_s: u64) -> String {
    let stamp = Stamp::new(unix_s);
    String::from_utf8_lossy(stamp.line()).trim_start_matches("date: ").trim_end().to_owned()
}

fn has_encrypted_key(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// The certificate in force; all threads look here for each new connection.
#[derive(Debug)]
pub struct Current(RwLock<Certified>);

impl Current {
    /// Puts the first one in force.
    pub fn new(certified: &Certified) -> Current {
        Current(RwLock::new(certified.clone()))
    }

    /// What a new connection is made with, whether or not it may choose HTTP/2.
    pub fn get(&self, http2: bool) -> Arc<ServerConfig> {
        let certified = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if http2 { certified.with_http2.clone() } else { certified.config.clone() }
    }

    /// Puts another one in force: connections that are open keep theirs.
    pub fn put(&self, certified: &Certified) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified.clone();
    }
}

/// What is wrong with a certificate or its key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The certificate file has none.
    #[error(
        "`tls_certificate` holds no certificate: a PEM file is wanted, the server's own certificate first"
    )]
    NoCertificate,
    /// It is damaged.
    #[error("`tls_certificate` cannot be read as a certificate: {0}")]
    CertificateText(String),
    /// It was good until then.
    #[error("the certificate in `tls_certificate` expired on {0}")]
    Expired(String),
    /// It will be good from then on.
    #[error("the certificate in `tls_certificate` is not valid before {0}: is the clock right?")]
    NotYet(String),
    /// The key file has none.
    #[error("`tls_key` holds no private key: a PEM file is wanted (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    /// It is locked.
    #[error(
        "the key in `tls_key` is encrypted: a relay starts without a passphrase, so decrypt it (openssl pkey)"
    )]
    KeyEncrypted,
    /// It belongs to another certificate.
    #[error("the key in `tls_key` does not belong to the first certificate in `tls_certificate`")]
    KeyOfAnother,
    /// rustls cannot use it.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixtures::*;

    fn read(chain: &str, key: &str, now_unix_s: u64) -> Result<Certified, IdentityError> {
        Certified::read(chain.as_bytes(), key.as_bytes(), &Tickets::new().unwrap(), now_unix_s)
    }

    #[test]
    fn a_good_pair_says_when_it_ends() {
        let certified = read(FIRST, FIRST_KEY, NOW).unwrap();
        assert_eq!(date(certified.not_after_unix_s), FIRST_ENDS);
        assert!(read(&format!("{FIRST}{SECOND}"), FIRST_KEY, NOW).is_ok(), "issuers may follow");
        let rsa = read(SECOND, SECOND_KEY, NOW).unwrap();
        assert!(rsa.config.enable_secret_extraction);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |chain: &str, key: &str, now| read(chain, key, now).unwrap_err();
        assert_eq!(wrong(FIRST, SECOND_KEY, NOW), IdentityError::KeyOfAnother);
        assert_eq!(wrong(FIRST_KEY, FIRST_KEY, NOW), IdentityError::NoCertificate);
        assert_eq!(wrong("", FIRST_KEY, NOW), IdentityError::NoCertificate);
        assert_eq!(wrong(FIRST, FIRST, NOW), IdentityError::NoKey);
        let locked = FIRST_KEY.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE");
        assert_eq!(wrong(FIRST, &locked, NOW), IdentityError::KeyEncrypted);
        assert_eq!(wrong(FIRST, FIRST_KEY, ENDED), IdentityError::Expired(FIRST_ENDS.into()));
        let early = wrong(FIRST, FIRST_KEY, 0);
        assert!(matches!(&early, IdentityError::NotYet(from) if from.contains("20")), "{early}");
        let cut = &FIRST[..FIRST.len() / 2];
        assert!(matches!(wrong(cut, FIRST_KEY, NOW), IdentityError::CertificateText(_)));
        let middle = FIRST.len() / 2;
        let mut bent = FIRST.to_owned();
        bent.replace_range(middle..middle + 4, "AAAA");
        let garbage = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        assert!(matches!(wrong(garbage, FIRST_KEY, NOW), IdentityError::CertificateText(_)));
        assert!(read(&bent, FIRST_KEY, NOW).is_ok() || !wrong(&bent, FIRST_KEY, NOW).to_string().is_empty());
    }
}
