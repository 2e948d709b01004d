//! Certificate and key as rustls wants them, checked: what is wrong is said before a peer finds out.
//!
//! In: the texts of two PEM files, the time. Out: a key that signs for its certificate, and when that one ends. Pure.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use thiserror::Error;

/// Certificates in a file: a chain has two or three.
const CHAIN_MAX: usize = 16;
/// How long before its end a certificate is warned of, in seconds: who renews does so a month before.
const WARN_S: u64 = 14 * 86_400;

/// A certificate, its issuers and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For rustls' `SingleCertAndKey`.
    pub certified: Arc<CertifiedKey>,
    /// When it expires, in Unix seconds.
    pub not_after_unix_s: u64,
}

impl Identity {
    /// Reads the certificate, its issuers behind it, and the key that belongs to it.
    ///
    /// # Errors
    /// Says what is wrong, never what a key is.
    pub fn read(chain: &[u8], key: &[u8], now_unix_s: u64) -> Result<Identity, IdentityError> {
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
        Ok(Identity { certified: Arc::new(certified), not_after_unix_s })
    }

    /// Days until it ends, and whether they are so few that somebody should know.
    pub fn days_left(&self, now_unix_s: u64) -> (u64, bool) {
        let left_s = self.not_after_unix_s.saturating_sub(now_unix_s);
        (left_s / 86_400, left_s < WARN_S)
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
    // The formatter ends with the year 9999.
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s.min(253_402_300_799)))
}

fn has_encrypted_key(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
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
        "the key in `tls_key` is encrypted: a node starts without a passphrase, so decrypt it (openssl pkey)"
    )]
    KeyEncrypted,
    /// It belongs to another certificate.
    #[error("the key in `tls_key` does not belong to the first certificate in `tls_certificate`")]
    KeyOfAnother,
    /// rustls cannot use it.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(String),
}

/// Certificates for the tests of this package: those of the relay.
#[cfg(test)]
pub(crate) mod fixtures {
    pub(crate) const FIRST: &str = include_str!("../../../relay/tests/tls/first.pem");
    pub(crate) const FIRST_KEY: &str = include_str!("../../../relay/tests/tls/first.key");
    pub(crate) const SECOND: &str = include_str!("../../../relay/tests/tls/second.pem");
    pub(crate) const SECOND_KEY: &str = include_str!("../../../relay/tests/tls/second.key");
    /// Has the key of `FIRST`.
    pub(crate) const EXPIRED: &str = include_str!("../../../relay/tests/tls/expired.pem");
    /// When `FIRST` ends.
    pub(crate) const FIRST_ENDS: &str = "Mon, 01 Jan 2120 00:00:00 GMT";
    /// In 2026, and a year after that end, in Unix seconds.
    pub(crate) const NOW: u64 = 1_790_000_000;
    pub(crate) const ENDED: u64 = 4_765_000_000;
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;

    fn read(chain: &str, key: &str, now_unix_s: u64) -> Result<Identity, IdentityError> {
        Identity::read(chain.as_bytes(), key.as_bytes(), now_unix_s)
    }

    #[test]
    fn a_good_pair_says_when_it_ends() {
        let identity = read(FIRST, FIRST_KEY, NOW).unwrap();
        assert_eq!(date(identity.not_after_unix_s), FIRST_ENDS);
        assert_eq!(identity.days_left(identity.not_after_unix_s - 13 * 86_400), (13, true));
        assert_eq!(identity.days_left(identity.not_after_unix_s - 15 * 86_400), (15, false));
        assert!(read(&format!("{FIRST}{SECOND}"), FIRST_KEY, NOW).is_ok(), "issuers may follow");
        assert!(read(SECOND, SECOND_KEY, NOW).is_ok(), "of RSA");
        let endless = u64::MAX >> 1;
        assert_eq!(date(endless), "Fri, 31 Dec 9999 23:59:59 GMT");
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
