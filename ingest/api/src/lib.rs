//! What a relay may know of an ingest node, and both sides must spell alike.
//!
//! Names, objects, windows, playlists, access tokens and the signatures between nodes: values and their bytes. Pure: no
//! sockets, no clock, no files. The ingest gives these, the relay takes them; neither knows more of the other.
#![forbid(unsafe_code)]

pub mod access;
pub mod content_key;
pub mod edge_auth;
pub mod name;
pub mod node_auth;
pub mod origin;
pub mod playlist;
pub mod run;
pub mod signals;
pub mod track;
pub mod window;

pub use name::{RunId, StreamName};
pub use releve_watermark::object::{self, Object, Pair};
pub use run::Run;
pub use signals::Signals;
pub use track::{AudioTrack, Encoding, Track};
pub use window::Snapshot;
