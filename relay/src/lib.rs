//! Relève relay: viewers in, each with their own variants.
//!
//! A viewer comes with an access token and is led to a session; each later request costs one MAC, one look into the
//! revocations and, for an object, one symbol of their codeword per slice. Objects come from the origins (ingest nodes), once
//! each, and are checked against what was promised. Any relay answers any request.
//!
//! Rooms: `address`, `token`, `session`, `revocation`, `route`, `cache`, `cdn`, `cmcd`, `upstream` are pure: no sockets, no clock, no HTTP library.
//! `node` joins them to what a relay does with a request; it waits, but still knows no HTTP library. `io` is everything
//! that touches the world: HTTP server and client, files, environment, signals, logs.
#![forbid(unsafe_code)]

pub mod address;
pub mod cache;
pub mod cdn;
pub mod cmcd;
pub mod fuzzing;
pub mod http1;
pub mod io;
pub mod node;
pub mod revocation;
pub mod route;
pub mod session;
pub mod tls;
pub mod token;
pub mod upstream;

pub use io::config::Config;
pub use io::start::{Handle, StartError, start, start_with};
pub use node::{Keys, Limits};
