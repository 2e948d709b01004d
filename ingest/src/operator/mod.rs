//! The operator's side of a running pair: what `relevectl` asks of nodes, and how it shows the answers.

pub mod ask;
pub mod edge_auth;
pub mod issue;
pub mod pair;
pub mod say;
