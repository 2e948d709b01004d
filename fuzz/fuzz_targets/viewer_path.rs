//! Bytes as a viewer's request target: always a route or malformed, and a route only in its canonical spelling.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::fuzzing::viewer_path(data));
