//! Two nodes that share an address: what one was sent, the other has.
//!
//! `orders` is the line between the two halves: control decides, data carries.

pub mod orders;
