//! Certificates for the tests of this room: those of `tests/tls`.

pub(super) const FIRST: &str = include_str!("../../tests/tls/first.pem");
pub(super) const FIRST_KEY: &str = include_str!("../../tests/tls/first.key");
pub(super) const SECOND: &str = include_str!("../../tests/tls/second.pem");
pub(super) const SECOND_KEY: &str = include_str!("../../tests/tls/second.key");
/// When `FIRST` ends.
pub(super) const FIRST_ENDS: &str = "Mon, 01 Jan 2120 00:00:00 GMT";
/// In 2026, and a year after that end, in Unix seconds.
pub(super) const NOW: u64 = 1_790_000_000;
pub(super) const ENDED: u64 = 4_765_000_000;
