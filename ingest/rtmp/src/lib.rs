//! RTMP server session for publishers, without I/O.
//!
//! In: the bytes one publisher sends, as they arrive, and the time as a number. Out: bytes to send
//! back, [`Event`]s, and the moment of the next [`Session::handle_timeout`]. No sockets, no clock,
//! no randomness is read here, and no `unsafe` is written.
//!
//! ```text
//! bytes ─► Handshake ─► chunk::Reader ─► Raw message ─► Session (stage) ─► Event
//!                                                          │
//!             bytes to send ◄─ chunk::Writer ◄─ replies ◄──┘
//! ```
//!
//! | what                                    | where it is specified                              |
//! |-----------------------------------------|----------------------------------------------------|
//! | handshake, chunk streams, messages      | Adobe RTMP 1.0 (2012), sections 5 to 7             |
//! | digest in the handshake                 | not in the specification; de facto, see `digest`   |
//! | AMF0                                    | Adobe AMF0 (2007)                                  |
//! | `fourCcList`, `capsEx` in `connect`     | Enhanced RTMP v2                                   |
//! | `ReconnectRequest`                      | Enhanced RTMP v2                                   |
//! | aggregate messages                      | Adobe RTMP 1.0, section 7.1.6; FLV 10.1, annex E   |
//!
//! # The contract
//!
//! After every call that changes the session (`handle_…`, `accept_publish`, `reject_publish`,
//! `close`) drain [`Session::poll_transmit`] and [`Session::poll_event`] until both give `None`,
//! then wait for bytes or for [`Session::poll_timeout`], whichever is first.
//!
//! # What a stranger can cost
//!
//! Every byte sequence costs bounded memory and bounded time and never a panic. Each bound is a
//! named constant in [`limits`] or a field of [`Config`], and each has its own [`Error`] variant.
//! Nothing on the wire sizes an allocation: buffers grow by bytes received.
#![forbid(unsafe_code)]

pub mod amf;
pub mod chunk;
mod command;
mod config;
mod control;
mod digest;
mod error;
mod event;
pub mod fuzzing;
mod handshake;
pub mod limits;
mod media;
mod reply;
mod session;
mod snapshot;
mod stage;

pub use config::Config;
pub use error::{Error, RestoreError};
pub use event::{Event, FourCc, MediaKind, Message, PublishKind, Reject, StreamKeyText};
pub use session::Session;
pub use stage::Stage;

/// Milliseconds since any fixed moment; only differences count. The core reads no clock.
pub type Millis = u64;
