//! A player's request read and answered, against its parser alone, in the same run.
//!
//! `cargo bench -p releve-relay --bench http1`. Request: 340 bytes as hls.js in a browser sends it. `httparse` reads it and
//! no more; `parse` is our strict reading; the others are a whole turn of a kept connection: receive, request, answer,
//! slices, written.
#![allow(missing_docs)]

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use releve_relay::http1::request::parse;
use releve_relay::http1::{Connection, Patience, Pool, Rendered, condition};
use std::io::IoSlice;
use std::time::Instant;

const REQUEST: &[u8] = b"GET /v/AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/video/1234.m4s HTTP/1.1\r\n\
    Host: relay.example:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n\
    Origin: http://example.org\r\nConnection: keep-alive\r\n\r\n";
const RANGED: &[u8] =
    b"GET /v/AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/video/1234.m4s HTTP/1.1\r\nHost: relay.example\r\n\
    Range: bytes=1000-250000\r\nAccept: */*\r\n\r\n";
/// Slices of a marked object: 2 s at 2 Mb/s, a marked slice in each of 60 pictures.
const PIECES: usize = 60;

fn main() {
    divan::main();
}

#[divan::bench]
fn httparse(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(black_box(REQUEST)).is_ok_and(|status| status.is_complete())
    });
}

#[divan::bench]
fn httparse_uninit(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| {
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; 64];
        let mut request = httparse::Request::new(&mut []);
        request
            .parse_with_uninit_headers(black_box(REQUEST), &mut fields)
            .is_ok_and(|status| status.is_complete())
    });
}

#[divan::bench(name = "parse")]
fn strict_parse(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| parse(black_box(REQUEST)));
}

/// One turn of a kept connection.
fn turn(bencher: Bencher<'_, '_>, request: &'static [u8], answer: &Rendered, pieces: &[Bytes]) {
    let mut pool = Pool::new(Instant::now(), 1_798_761_599, Patience::default(), 4);
    let mut connection = Connection::new(&pool);
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| {
        connection.receive(&mut pool, black_box(request));
        let asked = connection.next_request().expect("the request is whole").expect("and good");
        let outcome = condition::outcome(&asked, answer.body_len(), Some("\"0123456789abcdef\""));
        if answer.is_shared() {
            connection.respond(&mut pool, answer, outcome);
        } else {
            connection.respond_marked(&mut pool, answer, outcome, pieces.iter().cloned());
        }
        let mut slices = [IoSlice::new(&[]); 128];
        black_box(connection.unsent(&mut slices));
        connection.wrote(&mut pool, connection.unsent_bytes());
    });
}

const FIELDS: [(&str, &str); 2] = [("content-type", "video/mp4"), ("cache-control", "private, no-cache")];

#[divan::bench]
fn playlist_1_kb(bencher: Bencher<'_, '_>) {
    let playlist = Rendered::shared(200, FIELDS, &[b'#'; 1024]).expect("the fields are good");
    turn(bencher, REQUEST, &playlist, &[]);
}

#[divan::bench]
fn shared_250_kb(bencher: Bencher<'_, '_>) {
    let object = Rendered::shared(200, FIELDS, &vec![0; 250 << 10]).expect("the fields are good");
    turn(bencher, REQUEST, &object, &[]);
}

fn marked() -> (Rendered, Vec<Bytes>) {
    let object = Bytes::from_owner(vec![0u8; 500 << 10]);
    let step = object.len() / PIECES;
    let pieces: Vec<Bytes> = (0..PIECES).map(|n| object.slice(n * step..(n + 1) * step)).collect();
    (Rendered::head(200, FIELDS, step * PIECES).expect("the fields are good"), pieces)
}

#[divan::bench]
fn marked_60_slices(bencher: Bencher<'_, '_>) {
    let (head, pieces) = marked();
    turn(bencher, REQUEST, &head, &pieces);
}

#[divan::bench]
fn marked_part(bencher: Bencher<'_, '_>) {
    let (head, pieces) = marked();
    turn(bencher, RANGED, &head, &pieces);
}
