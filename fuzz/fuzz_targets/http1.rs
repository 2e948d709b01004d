//! Bytes as a viewer's HTTP/1.1 connection: cuts make no difference, only strict requests are taken, answers follow in order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| releve_relay::http1::fuzzing::connection(data));
