//! Bytes as a batch of players' events: events or malformed, with bounded words and times, however lines end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::fuzzing::cmcd(data));
