//! A publisher's messages through feed and segmenter; `media::fuzzing::flv` says what holds.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| media::fuzzing::flv(data));
