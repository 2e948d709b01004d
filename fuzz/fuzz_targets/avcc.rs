//! Sequence headers and saved state; `media::fuzzing::avcc` says what holds.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| media::fuzzing::avcc(data));
