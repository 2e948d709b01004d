//! The little of H.264 syntax that replacing an IDR needs (ISO/IEC 14496-10, clause 7.3).
//!
//! In: bytes of a publisher. Out: values, or `Malformed` with the bit where reading stopped. Pure and total: no input
//! makes it panic, loop for long or allocate more than a few times its own length.

pub mod bits;
pub mod nal;
pub mod pps;
pub mod shown;
pub mod slice;
pub mod sps;

pub use bits::Malformed;
pub use pps::Pps;
pub use slice::IdrHeader;
pub use sps::Sps;
