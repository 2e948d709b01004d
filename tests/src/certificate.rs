//! The tests' own certificate (`relay/tests/tls`): where servers find it, and clients that trust it alone.
//!
//! In: a folder for the key. Out: paths, and what to trust. Touches: files of this tree, and a copy of the key.

use crate::root;
use anyhow::{Context, Result};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The certificate: of `localhost` and 127.0.0.1, signed by itself.
pub fn certificate() -> PathBuf {
    root().join("relay/tests/tls/first.pem")
}

/// Its key, as the tree has it: a checkout's files may be read by all.
pub fn key() -> PathBuf {
    root().join("relay/tests/tls/first.key")
}

/// What a relay that starts with this environment needs for TLS on a port of the system's choice. It takes no key that
/// others may read: the key is copied into the folder.
///
/// # Errors
/// When the key cannot be copied, or a path is no text.
pub fn relay_env(folder: &Path) -> Result<[(&'static str, String); 3]> {
    let private = folder.join("relay.key");
    std::fs::copy(key(), &private).context("the tests' key")?;
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is text");
    Ok([
        ("RELEVE_RELAY_TLS_LISTEN", "127.0.0.1:0".to_owned()),
        ("RELEVE_RELAY_TLS_CERTIFICATE", text(&certificate())?),
        ("RELEVE_RELAY_TLS_KEY", text(&private)?),
    ])
}

/// What a client trusts: this certificate and no other.
///
/// # Errors
/// When it cannot be read.
pub fn roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate()).context("the tests' certificate")?)?;
    Ok(roots)
}
