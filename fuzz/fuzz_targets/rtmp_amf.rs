//! AMF0 values, commands and aggregates: no panic, values survive a round trip.
//!
//! In: any bytes. The body is `rtmp::fuzzing::amf`, which the corpus replay test calls too.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rtmp::fuzzing::amf(data));
