//! RTMP through TLS (RTMPS): the connections of `rtmp`, behind a handshake.
//!
//! In: a listener and two PEM files. Out: publishers, handed to `rtmp` once they have shaken hands, which passes them on to the
//! shared address in a pair. rustls does the protocol, TLS 1.2 and 1.3. Touches its listener and the files, which are looked at again every minute: who renews a certificate
//! writes them and does nothing else, and connections that are open keep theirs. Files that are not good are said loudly and
//! change nothing.

use crate::io::rtmp::{self, Door};
use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

/// Time for a handshake; an encoder far away needs three round trips.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// A certificate, its issuers behind it, and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, never what a key is.
    pub fn read(&self) -> Result<TlsAcceptor> {
        let chain = read(&self.certificate)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is no PEM file of certificates", self.certificate.display()))?;
        ensure!(!chain.is_empty(), "{} holds no certificate", self.certificate.display());
        let key = self.key.display();
        let mode =
            fs::metadata(&self.key).with_context(|| format!("cannot read {key}"))?.permissions().mode();
        ensure!(
            mode & 0o027 == 0,
            "the key {key} is open to others (mode {:03o}): run chmod 640 on it, or 600",
            mode & 0o777
        );
        let Ok(private) = PrivateKeyDer::from_pem_slice(&read(&self.key)?) else {
            anyhow::bail!("{key} holds no private key as PEM, or one with a password");
        };
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .with_context(|| format!("{} and {key} do not go together", self.certificate.display()))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// What tells whether a file is another one.
    fn look(&self) -> [Option<(u64, SystemTime, u64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.modified().ok()?, found.len()))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Accepts publishers until told to stop, with the certificate that the files hold then. `rtmp_port`: of those without TLS.
pub async fn listen(
    listener: TcpListener,
    rtmp_port: u16,
    files: Files,
    acceptor: TlsAcceptor,
    door: Door,
    stop: watch::Receiver<bool>,
) {
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
        never = renew(&files, &put) => match never {},
    }
}

/// Takes up changes of the files, once they have been the same for two looks: there are two, written one after the other.
async fn renew(files: &Files, put: &watch::Sender<TlsAcceptor>) -> std::convert::Infallible {
    let mut known = files.look();
    let mut before = known;
    loop {
        sleep(LOOK).await;
        let now = files.look();
        if now != known && now == before {
            known = now;
            match files.read() {
                Ok(acceptor) => {
                    put.send_replace(acceptor);
                    info!("the certificate for publishers is read again");
                }
                Err(why) => error!("the certificate for publishers stays as it was: {why:#}"),
            }
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = include_str!("../../../relay/tests/tls/first.pem");
    const KEY: &str = include_str!("../../../relay/tests/tls/first.key");

    fn files(certificate: &str, key: &str, mode: u32) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { certificate: dir.path().join("c.pem"), key: dir.path().join("k.pem") };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        (dir, files)
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said() {
        assert!(files(CERTIFICATE, KEY, 0o600).1.read().is_ok());
        let other = include_str!("../../../relay/tests/tls/second.key");
        for (certificate, key, mode, named) in [
            ("", KEY, 0o600, "c.pem holds no certificate"),
            (CERTIFICATE, "", 0o600, "k.pem holds no private key"),
            (CERTIFICATE, KEY, 0o644, "chmod 640"),
            (CERTIFICATE, other, 0o600, "do not go together"),
        ] {
            let (_dir, files) = files(certificate, key, mode);
            let said = format!("{:#}", files.read().err().unwrap());
            assert!(said.contains(named), "{said}");
            assert!(!said.contains("PRIVATE"), "{said}");
        }
        let missing = Files { certificate: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() };
        assert!(format!("{:#}", missing.read().err().unwrap()).contains("/nowhere/c.pem"));
    }
}
