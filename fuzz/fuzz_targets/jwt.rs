//! Bytes as a set of keys, and as header and payload of a signed JSON web token.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::fuzzing::jwt(data));
