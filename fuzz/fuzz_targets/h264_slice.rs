//! An IDR access unit of a publisher, and the same bytes as a worker's answer: values or errors; no panic.
//!
//! In: any bytes. The body is `mark::fuzzing::h264_slice`, which the corpus replay test calls too.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mark::fuzzing::h264_slice(data));
