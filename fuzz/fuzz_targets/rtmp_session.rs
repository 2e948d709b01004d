//! A whole RTMP session: bounded memory, no panic, the cut of the input and snapshots do not show.
//!
//! In: any bytes. The body is `rtmp::fuzzing::session`, which the corpus replay test calls too.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rtmp::fuzzing::session(data));
