//! AMF0: the values in command messages.
//!
//! In: the payload of one command message (bounded by the chunk layer). Out: [`Value`]s or an
//! [`AmfError`] with the offset. Pure. Adobe AMF0 (2007), section 2.
//!
//! Counts on the wire are read and not believed: an ECMA array ends at its end marker, a strict
//! array after as many values as are really there. References (2.9) and AMF3 (2.18 "avmplus") are
//! refused: no command of a publisher needs them.

mod reader;
mod value;

pub use reader::Reader;
pub use value::Value;

/// Type markers (section 2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0A;
    pub(super) const DATE: u8 = 0x0B;
    pub(super) const LONG_STRING: u8 = 0x0C;
    pub(super) const UNSUPPORTED: u8 = 0x0D;
    pub(super) const XML: u8 = 0x0F;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

/// AMF0 bytes that cannot be read. `at` is the offset in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// A value goes on after the end of the message.
    #[error("AMF0 value is cut off at byte {at}")]
    Truncated {
        /// Offset.
        at: usize,
    },
    /// A marker that is not AMF0, or a kind we refuse.
    #[error("AMF0 type marker {marker:#04x} at byte {at} is not taken here")]
    Marker {
        /// The byte.
        marker: u8,
        /// Offset.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("AMF0 string at byte {at} is not UTF-8")]
    Utf8 {
        /// Offset.
        at: usize,
    },
    /// Another kind of value than the command needs here.
    #[error("AMF0 value at byte {at} is not a {wanted}")]
    Kind {
        /// What was needed.
        wanted: &'static str,
        /// Offset.
        at: usize,
    },
    /// Objects in objects beyond [`limits::AMF_DEPTH_MAX`](crate::limits::AMF_DEPTH_MAX).
    #[error("AMF0 values nest deeper than {max} at byte {at}")]
    Depth {
        /// The limit.
        max: usize,
        /// Offset.
        at: usize,
    },
    /// More values than [`limits::AMF_NODES_MAX`](crate::limits::AMF_NODES_MAX).
    #[error("more than {max} AMF0 values, stopped at byte {at}")]
    Nodes {
        /// The limit.
        max: usize,
        /// Offset.
        at: usize,
    },
    /// A property name longer than [`limits::NAME_LEN_MAX`](crate::limits::NAME_LEN_MAX).
    #[error("AMF0 property name of {len} bytes at byte {at}; at most {max} are taken")]
    NameLength {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
        /// Offset.
        at: usize,
    },
}
