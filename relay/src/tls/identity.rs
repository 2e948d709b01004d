//! What viewers' connections are made with: a certificate with its key, and tickets.
//!
//! In: a certificate that was read and checked (`releve_listen`). Out: a configuration for new connections. Pure but for
//! tickets, whose keys are drawn at random once for all threads and stay when a certificate changes, so that viewers resume.

use releve_listen::{Identity, IdentityError};
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, version};
use std::sync::{Arc, PoisonError, RwLock};

/// HTTP/2 in a handshake (RFC 9113 §3.1).
pub(super) const HTTP2: &[u8] = b"h2";

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
}

impl Certified {
    /// What connections with this certificate are made with.
    ///
    /// # Errors
    /// When rustls cannot use it.
    pub fn of(identity: &Identity, tickets: &Tickets) -> Result<Certified, IdentityError> {
        let unusable = |error: rustls::Error| IdentityError::Unusable(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = tickets.0.clone();
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.enable_secret_extraction = true; // for our own records
        let mut with_http2 = config.clone();
        with_http2.alpn_protocols.insert(0, HTTP2.to_vec());
        let (config, with_http2) = (Arc::new(config), Arc::new(with_http2));
        Ok(Certified { config, with_http2 })
    }

    /// Reads certificate and key, and makes the same of them.
    ///
    /// # Errors
    /// Says what is wrong, never what a key is.
    pub fn read(
        chain: &[u8],
        key: &[u8],
        tickets: &Tickets,
        now_unix_s: u64,
    ) -> Result<Certified, IdentityError> {
        Certified::of(&Identity::read(chain, key, now_unix_s)?, tickets)
    }
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
