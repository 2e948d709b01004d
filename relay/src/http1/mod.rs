//! HTTP/1.1 as a viewer's connection speaks it, without sockets and without a clock.
//!
//! ```text
//! bytes read ─► Connection::receive ─► next_request ─► (route, credential, object) ─► respond ─► unsent ─► bytes written
//! ```
//!
//! In: bytes as they arrive, answers, the time. Out: requests one after another, slices for one scatter-gather write, the
//! next deadline. Pure: no socket, no clock, no task. Nothing is allocated for a request once the buffers of `Pool` are
//! warm. RFC 9110 and RFC 9112, and stricter where a lenient reading lets two parties see different requests: one host,
//! no body but a POST's that says how long it is, every line ends with CR LF, an error ends the connection.
//!
//! - `request`: bytes become a `Request` or a `Malformed`.
//! - `condition`: what `If-None-Match` and `Range` make of an answer.
//! - `response`: heads and bodies rendered once for all who get them.
//! - `buffers`: what a busy connection holds, lent by its worker's pool; an idle one holds none.
//! - `connection`: order, pipelining, keep-alive, deadlines; `ending` has the times and the ends.

pub mod buffers;
pub mod coding;
pub mod condition;
pub mod connection;
pub mod date;
pub mod ending;
pub mod fuzzing;
pub mod request;
pub mod response;

pub use buffers::Pool;
pub use condition::Outcome;
pub use connection::Connection;
pub use date::Stamp;
pub use ending::{Ending, Patience, State};
pub use request::{Kept, Malformed, Method, Parsed, Request};
pub use response::Rendered;
