//! Whose connection it is, and how much of a relay one address may take.
//!
//! ```text
//! peer ─► listed proxy? ─no──────────────────────────────► Block ─► Shares: a seat, or none
//!              └─yes─► PROXY header, or X-Forwarded-For ─► Block ─┘
//! ```
//!
//! In: addresses, the first bytes of a proxy's connection, a header field. Out: blocks to count by, and whether one may
//! take more. Pure: no socket, no clock.
//!
//! - `block`: what counts as one address; lists of networks.
//! - `shares`: who takes how much, and what one may take.
//! - `introduction`: the PROXY protocol, versions 1 and 2.
//! - `forwarded`: `X-Forwarded-For`.

pub mod block;
pub mod forwarded;
pub mod introduction;
pub mod shares;

pub use block::{Block, Networks};
pub use forwarded::forwarded_for;
pub use introduction::{Introduction, introduction};
pub use shares::{Guest, Left, Refused, Shares, Stage};
