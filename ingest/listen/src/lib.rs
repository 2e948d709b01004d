//! What both programs need to listen and to ask: the small HTTP of operators and nodes, the files of a certificate, and
//! services of somebody else.
//!
//! - `http`: accept, serve, stop. Viewers have an HTTP of their own, in the relay.
//! - `certificate`: two PEM files, read and looked at again; `identity`: what is in them, checked. TLS itself is each program's.
//! - `outside`: a service of somebody else, asked over HTTP.
//!
//! Knows nothing of the rest.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod http;
pub mod identity;
pub mod outside;

pub use certificate::{CertificateError, Files};
pub use identity::{Identity, IdentityError};
