//! Two nodes that share an address: what one was sent, the other has.
//!
//! `control` decides; `orders` is the line between the two halves: control decides, data carries. `outline` is a connection as the books keep
//! it, `pulse` is how control sees that data lives.

pub mod control;
pub mod orders;
pub mod outline;
pub mod pulse;
