//! The takeover lab: two ingest nodes that share an address, witnesses, a real publisher, viewers, and what may go wrong.
//!
//! ```text
//!            ┌── ns a: ingest ──┐   ns r: relays (witnesses 1–3; the first two read one node each, the third both)
//!  bridge ───┤                  ├── private wire
//!            └── ns b: ingest ──┘   ns c: ffmpeg, viewers, capture, and this program
//! ```
//!
//! In: root, iproute2, ffmpeg. Out: one `Run` a scenario. `net` makes and removes the namespaces, `capture` hears the
//! publisher's wire, `rig` starts the programs, `scenario` breaks things and judges. Everything is removed when dropped.

pub mod capture;
pub mod net;
pub mod rig;
pub mod scenario;
