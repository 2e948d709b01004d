//! The takeover lab: two ingest nodes that share an address, witnesses, real publishers, viewers, and what may go wrong.
//!
//! ```text
//!            ┌── ns a: ingest ──┐   ns r: relays (witnesses 1–3; the first two read one node each, the third both)
//!  bridge ───┤                  ├── private wire
//!            └── ns b: ingest ──┘   ns c: ffmpeg, steady publishers, viewers, capture, and this program
//! ```
//!
//! In: root, iproute2, nftables, ffmpeg. Out: an `Outcome` a scenario. Everything is removed when dropped.
//!
//! | module | what it is |
//! |---|---|
//! | `net`, `rig` | namespaces and wires; programs |
//! | `wire`, `capture` | frames; what the publishers' host sees of its connections |
//! | `events`, `scenario` | what goes wrong; who publishes, how often, and what is made of it |
//! | `audience` | viewers and their judgement: rules, equal bytes, nothing missing |
//! | `kinds`, `wrap` | publishers with less in their handshake; one whose sequence numbers wrap |
//! | `slow`, `echo` | a slow link between the nodes; strange heartbeats |
//! | `proof` | the commit invariant, packet by packet |
//! | `summary` | percentiles, and how late the machine itself is |

pub mod audience;
pub mod capture;
pub mod echo;
pub mod events;
pub mod kinds;
pub mod net;
pub mod proof;
pub mod rig;
pub mod scenario;
pub mod slow;
pub mod summary;
pub mod wire;
pub mod wrap;
