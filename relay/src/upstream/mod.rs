//! Upstream: what the relay believes of its origins, and whom it asks.
//!
//! ```text
//! answers of origins ─► View (one a stream) ─► Shown: snapshot and playlists, shared by all viewers
//!                              │
//! route of a request ──────────┴─► Entry: hash and length of the object ─► check of what an origin sends
//! ```
//!
//! Pure: the caller brings answers and the time. Fetching is `io::origin`.

pub mod choice;
pub mod object;
pub mod parts;
pub mod shown;
pub mod view;

pub use choice::Origins;
pub use object::{Entry, Held, ObjectKey};
pub use shown::Shown;
pub use view::View;
