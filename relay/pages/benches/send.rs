//! What a connection costs that is sent a segment: `write` of its bytes beside `sendfile` of the pages they lie on.
//!
//! `cargo bench --workspace --bench send`. One connection on loopback, and a thread that takes everything; what is measured
//! is the sending thread's time, waiting for room included.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends loudly")]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() {
    divan::main();
}

/// A part of a third of a second at 1 Mb/s, a segment of 2 s at 1 Mb/s, the same at 6.
const LENGTHS: [usize; 3] = [41_700, 250_000, 1_500_000];

/// A connection whose other end takes everything.
fn connection() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    std::thread::spawn(move || {
        let mut taken = vec![0; 1 << 20];
        while other.read(&mut taken).is_ok_and(|count| count > 0) {}
    });
    socket
}

#[divan::bench(args = LENGTHS)]
fn copied(bencher: Bencher<'_, '_>, len: usize) {
    let (mut socket, bytes) = (connection(), vec![7; len]);
    bencher.counter(BytesCount::new(len)).bench_local(|| socket.write_all(black_box(&bytes)).unwrap());
}

#[divan::bench(args = LENGTHS)]
fn as_pages(bencher: Bencher<'_, '_>, len: usize) {
    let (socket, pages) = (connection(), pages::Arena::default());
    let bytes = pages.keep(&vec![7; len]).unwrap();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let (sheet, mut from) = pages.find(black_box(&bytes)).unwrap();
        let mut left = len;
        while left > 0 {
            left -= rustix::fs::sendfile(&socket, sheet.file(), Some(&mut from), left).unwrap();
        }
    });
}
