//! Bytes as a Common Access Token, and as the headers and claims of a signed one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::fuzzing::cat(data));
