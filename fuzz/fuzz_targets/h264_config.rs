//! A codec configuration record of a publisher: a plan for marking, or a misfit; no panic.
//!
//! In: any bytes. The body is `mark::fuzzing::h264_config`, which the corpus replay test calls too.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mark::fuzzing::h264_config(data));
