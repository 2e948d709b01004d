//! Certificates for the tests of this room: those of `tests/tls`.

pub(super) const FIRST: &str = include_str!("../../tests/tls/first.pem");
pub(super) const FIRST_KEY: &str = include_str!("../../tests/tls/first.key");
pub(super) const SECOND: &str = include_str!("../../tests/tls/second.pem");
pub(super) const SECOND_KEY: &str = include_str!("../../tests/tls/second.key");
/// In 2026, in Unix seconds.
pub(super) const NOW: u64 = 1_790_000_000;
