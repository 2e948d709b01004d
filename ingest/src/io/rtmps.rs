//! RTMP through TLS (RTMPS): the connections of `rtmp`, behind a handshake.
//!
//! In: a listener and two PEM files. Out: publishers, handed to `rtmp` once they have shaken hands, which passes them on to the
//! shared address in a pair. rustls does the protocol, TLS 1.2 and 1.3. Touches its listener and the files, which are looked
//! at again every minute: who renews a certificate writes them and does nothing else, and connections that are open keep
//! theirs. Files that are not good are said loudly and change nothing.

use crate::io::rtmp::{self, Door};
use crate::metrics::Metrics;
use releve_listen::{CertificateError, Files, Identity, IdentityError};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

/// Time for a handshake; an encoder far away needs three round trips.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_secs(60);

/// What connections are made with, and the files it comes from.
pub struct Secure {
    files: Files,
    acceptor: TlsAcceptor,
    look: Duration,
}

impl Secure {
    /// Reads the files for the first time; they are looked at again every `look`.
    ///
    /// # Errors
    /// Says which file and what is wrong.
    pub fn read(files: Files, look: Duration, metrics: &Metrics) -> Result<Secure, CertificateError> {
        Ok(Secure { acceptor: acceptor(&files, metrics)?, files, look })
    }
}

fn acceptor(files: &Files, metrics: &Metrics) -> Result<TlsAcceptor, CertificateError> {
    let identity = files.read()?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| IdentityError::Unusable(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    tell(&identity, metrics);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn tell(identity: &Identity, metrics: &Metrics) {
    metrics.tls_certificate_expires.set(i64::try_from(identity.not_after_unix_s).unwrap_or(i64::MAX));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match identity.days_left(now) {
        (days, true) => warn!(days, "the certificate for publishers expires soon"),
        (days, false) => info!(days, "the certificate for publishers is read"),
    }
}

/// Accepts publishers until told to stop, with the certificate that the files hold then. `rtmp_port`: of those without TLS.
pub async fn listen(
    listener: TcpListener,
    rtmp_port: u16,
    secure: Secure,
    door: Door,
    stop: watch::Receiver<bool>,
) {
    let Secure { files, acceptor, look } = secure;
    let (put, current) = watch::channel(acceptor);
    let accept = rtmp::accept(&listener, &door, stop, |socket, peer, pass| {
        let (door, acceptor) = (door.clone(), current.borrow().clone());
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let Ok(local) = socket.local_addr() else { return };
            match timeout(HANDSHAKE_MAX, acceptor.accept(socket)).await {
                Ok(Ok(socket)) => door.serve(socket, (local.ip(), rtmp_port).into(), peer, pass).await,
                Ok(Err(error)) => door.refused(peer, "tls", &format!("no TLS: {error}")),
                Err(_) => door.refused(peer, "tls", "no TLS handshake within 5 s"),
            }
        });
    });
    tokio::select! {
        () = accept => {}
        never = renew(&files, look, &door.metrics, &put) => match never {},
    }
}

/// Takes up changes of the files; what is in force stays when they are not good.
async fn renew(
    files: &Files,
    look: Duration,
    metrics: &Metrics,
    put: &watch::Sender<TlsAcceptor>,
) -> std::convert::Infallible {
    let mut watched = files.watched();
    loop {
        sleep(look).await;
        if !watched.changed() {
            continue;
        }
        match acceptor(files, metrics) {
            Ok(acceptor) => drop(put.send_replace(acceptor)),
            Err(why) => {
                metrics.tls_certificate_refused.inc();
                error!("the certificate for publishers stays as it was: {why}");
            }
        }
    }
}
