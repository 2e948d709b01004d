//! What both programs need to listen: the small HTTP of operators and nodes, and the files of a certificate.
//!
//! - `http`: accept, serve, stop. Viewers have an HTTP of their own, in the relay.
//! - `certificate`: two PEM files, read and looked at again; `identity`: what is in them, checked. TLS itself is each program's.
//!
//! Knows nothing of the rest.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod http;
pub mod identity;

pub use certificate::{CertificateError, Files};
pub use identity::{Identity, IdentityError};
