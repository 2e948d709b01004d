//! Chunk parse throughput against a plain copy of the same bytes, in the same run.
//!
//! `cargo bench -p rtmp --bench parse`. Input: 92 KB messages (50 Mb/s video) on one chunk stream,
//! fed in 64 KiB reads. `session` adds events and acknowledgements to `chunks`.
#![allow(missing_docs)]

use bytes::BytesMut;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use rtmp::chunk::{Limits, Reader, Writer, kind};
use rtmp::{Config, Event, Session, fuzzing};

const MESSAGE: usize = 92 * 1024;
const MESSAGES: usize = 64;
const READ: usize = 64 * 1024;

fn main() {
    divan::main();
}

fn stream(chunk_size: u32, announce: bool) -> Vec<u8> {
    let (mut out, mut writer) = (BytesMut::new(), Writer::default());
    if announce {
        writer.write(&mut out, 2, kind::SET_CHUNK_SIZE, 0, 0, &chunk_size.to_be_bytes());
    }
    writer.set_chunk_size(chunk_size);
    let payload: Vec<u8> = (0..MESSAGE).map(|n| (n * 31) as u8).collect();
    for n in 0..MESSAGES {
        writer.write(&mut out, 6, kind::VIDEO, 1, n as u32 * 33, &payload);
    }
    out.to_vec()
}

#[divan::bench(args = [4096, 128])]
fn memcpy(bencher: Bencher<'_, '_>, chunk_size: u32) {
    let input = stream(chunk_size, false);
    let mut target = vec![0; READ];
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        for read in input.chunks(READ) {
            target[..read.len()].copy_from_slice(black_box(read));
            black_box(&target);
        }
    });
}

/// What a parse must at least do: allocate each message and copy it once.
#[divan::bench(args = [4096, 128])]
fn copy_into_messages(bencher: Bencher<'_, '_>, chunk_size: u32) {
    let input = stream(chunk_size, false);
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        for message in input.chunks(MESSAGE) {
            black_box(black_box(message).to_vec());
        }
    });
}

#[divan::bench(args = [4096, 128])]
fn chunks(bencher: Bencher<'_, '_>, chunk_size: u32) {
    let input = stream(chunk_size, false);
    let limits = Limits { media_len_max: 8 << 20, budget: 16 << 20 };
    let mut reader = Reader::new(limits, 0, 0);
    reader.set_chunk_size(chunk_size).expect("a legal chunk size");
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        for mut read in input.chunks(READ) {
            while let Some(message) = reader.next(&mut read).expect("legal chunks") {
                black_box(message);
            }
        }
    });
}

#[divan::bench(args = [4096, 128])]
fn session(bencher: Bencher<'_, '_>, chunk_size: u32) {
    let input = stream(chunk_size, true);
    let mut session = Session::new(Config::default(), 0, [1; 1528]);
    session.handle_input(0, &fuzzing::prelude()).expect("a legal publish");
    while let Some(event) = session.poll_event() {
        if matches!(event, Event::Publish { .. }) {
            session.accept_publish();
        }
    }
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        for read in input.chunks(READ) {
            session.handle_input(0, black_box(read)).expect("legal chunks");
            while let Some(event) = session.poll_event() {
                black_box(event);
            }
            black_box(session.poll_transmit());
        }
    });
}
