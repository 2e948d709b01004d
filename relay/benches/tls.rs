//! Records of an answer sealed and a request opened, against a plain copy of the same bytes, in the same run.
//!
//! `cargo bench -p releve-relay --bench tls`. `copy` is what a record costs before it is sealed: its bytes gathered. The
//! others are what TLS adds to the turn of a kept connection in `http1`: 250 KiB of a shared object, 60 marked slices of the
//! same, a playlist, and a request opened. TLS 1.3, AES-128-GCM.
#![allow(missing_docs)]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use releve_relay::tls::{Certified, Pool, SEALED_BYTES_MAX, Session, Tickets};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{IoSlice, Write};
use std::sync::Arc;

const CHAIN: &[u8] = include_bytes!("../tests/tls/first.pem");
const KEY: &[u8] = include_bytes!("../tests/tls/first.key");
/// In 2026: the certificate is good.
const NOW_UNIX_S: u64 = 1_790_000_000;
const OBJECT_BYTES: usize = 250 << 10;

fn main() {
    divan::main();
}

fn session() -> Result<(Session, ClientConnection, Pool), Box<dyn std::error::Error>> {
    let mut pool = Pool::new(2);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CHAIN)?)?;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into()?)?;
    let mut session = Session::new(Certified::read(CHAIN, KEY, &Tickets::new()?, NOW_UNIX_S)?.config)?;
    while client.is_handshaking() || !session.is_open() {
        let mut flight = Vec::new();
        client.write_tls(&mut flight)?;
        session.room(&mut pool)[..flight.len()].copy_from_slice(&flight);
        session.received(&mut pool, flight.len());
        session.advance(&mut pool)?;
        while !session.unsent().is_empty() {
            let count = client.read_tls(&mut session.unsent())?;
            client.process_new_packets()?;
            session.wrote(&mut pool, count);
        }
    }
    Ok((session, client, pool))
}

/// Seals all of an answer, as a seat does whose kernel takes everything.
fn sealed(bencher: Bencher<'_, '_>, pieces: usize, bytes: usize) {
    let (mut session, _client, mut pool) = session().expect("both ends agree");
    let object = vec![7; bytes];
    let slices: Vec<IoSlice<'_>> = object.chunks(bytes.div_ceil(pieces)).map(IoSlice::new).collect();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let mut slices = slices.clone();
        let (mut rest, mut left) = (&mut slices[..], bytes);
        while left > 0 {
            session.seal(&mut pool, black_box(rest)).expect("there is an answer");
            let held = session.unsent().len();
            let sent = session.wrote(&mut pool, held);
            IoSlice::advance_slices(&mut rest, sent);
            left -= sent;
        }
    });
}

#[divan::bench]
fn copy_250_kb(bencher: Bencher<'_, '_>) {
    let (object, mut out) = (vec![7u8; OBJECT_BYTES], Vec::with_capacity(SEALED_BYTES_MAX));
    bencher.counter(BytesCount::new(OBJECT_BYTES)).bench_local(|| {
        for part in black_box(&object).chunks(SEALED_BYTES_MAX) {
            out.clear();
            out.extend_from_slice(part);
            black_box(&out);
        }
    });
}

#[divan::bench]
fn sealed_250_kb(bencher: Bencher<'_, '_>) {
    sealed(bencher, 1, OBJECT_BYTES);
}

#[divan::bench]
fn sealed_60_slices(bencher: Bencher<'_, '_>) {
    sealed(bencher, 60, OBJECT_BYTES);
}

#[divan::bench]
fn sealed_playlist_1_kb(bencher: Bencher<'_, '_>) {
    sealed(bencher, 1, 1200);
}

/// With the client's sealing, which is rustls's: an upper bound.
#[divan::bench]
fn opened_request(bencher: Bencher<'_, '_>) {
    let (mut session, mut client, mut pool) = session().expect("both ends agree");
    let (request, mut record) = ([b'x'; 340], Vec::with_capacity(1024));
    bencher.counter(BytesCount::new(request.len())).bench_local(|| {
        record.clear();
        client.writer().write_all(&request).expect("it is short");
        client.write_tls(&mut record).expect("a vector takes all");
        session.room(&mut pool)[..record.len()].copy_from_slice(&record);
        session.received(&mut pool, record.len());
        session.advance(&mut pool).expect("a good record");
        let count = session.plaintext().len();
        session.consumed(&mut pool, black_box(count));
    });
}
