//! Two nodes that share an address: what one was sent, the other has.
//!
//! `control` decides, `operate` is the operator's hand on it; `orders` is the line between the two halves: control decides, data carries. `outline` is a connection as the books keep
//! it, `pulse` is how control sees that data lives.

pub mod control;
pub mod operate;
pub mod orders;
pub mod outline;
pub mod pulse;
