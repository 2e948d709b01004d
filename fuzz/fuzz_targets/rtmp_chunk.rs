//! The RTMP chunk reader alone: bounded memory, no panic, the cut of the input does not show.
//!
//! In: any bytes. The body is `rtmp::fuzzing::chunk`, which the corpus replay test calls too.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rtmp::fuzzing::chunk(data));
