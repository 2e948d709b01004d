//! Bytes as the beginning of a listed proxy's connection: cuts make no difference, no header is longer than it may be.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::address::introduction::fuzzed(data));
