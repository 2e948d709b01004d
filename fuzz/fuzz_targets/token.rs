//! Text as access token and as session credential: nothing but our own opens anything, and in one spelling only.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::fuzzing::token(data));
