//! A rustls client and a session in one thread: both versions, every suite, cuts anywhere, key changes, and nonsense.

use super::*;
use crate::tls::fixtures::*;
use crate::tls::{Certified, Tickets};
use proptest::prelude::*;
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suites};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite, version};
use std::io::{Read, Write};

fn server() -> Arc<ServerConfig> {
    server_of(FIRST, FIRST_KEY)
}

fn server_of(chain: &str, key: &str) -> Arc<ServerConfig> {
    Certified::read(chain.as_bytes(), key.as_bytes(), &Tickets::new().unwrap(), NOW).unwrap().config
}

/// A client that trusts both certificates.
fn client_config(suites: &[SupportedCipherSuite]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for pem in [FIRST, SECOND] {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let provider =
        rustls::crypto::CryptoProvider { cipher_suites: suites.to_vec(), ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(4);
    config
}

struct Pair {
    client: ClientConnection,
    session: Session,
    pool: Pool,
    /// What the session was told, and how handshakes went.
    heard: Vec<u8>,
    done: Option<Handshake>,
    /// Bytes that pass at once.
    cut: usize,
}

impl Pair {
    fn new(server: Arc<ServerConfig>, client: &Arc<ClientConfig>, cut: usize) -> Pair {
        let client = ClientConnection::new(client.clone(), "localhost".try_into().unwrap()).unwrap();
        let session = Session::new(server).unwrap();
        Pair { client, session, pool: Pool::new(4), heard: Vec::new(), done: None, cut }
    }

    /// Takes what there is of the session: plaintext into `heard`.
    fn take(&mut self) -> Result<(), TlsError> {
        loop {
            let plain = self.session.plaintext();
            self.heard.extend_from_slice(plain);
            let count = plain.len();
            self.session.consumed(&mut self.pool, count);
            if self.session.has_ended() || !self.session.has_raw() {
                return Ok(());
            }
            match self.session.advance(&mut self.pool)? {
                Some(Handshake::UnderWay) => return Ok(()),
                Some(done) => self.done = Some(done),
                None if self.session.plaintext().is_empty() => return Ok(()),
                None => {}
            }
        }
    }

    /// Client to session.
    fn up(&mut self) -> Result<(), TlsError> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        self.feed(&bytes)
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            let room = self.session.room(&mut self.pool);
            let count = bytes.len().min(room.len()).min(self.cut);
            room[..count].copy_from_slice(&bytes[..count]);
            self.session.received(&mut self.pool, count);
            bytes = &bytes[count..];
            self.take()?;
            self.session.rest(&mut self.pool);
        }
        Ok(())
    }

    /// Session to client; how many bytes of answers went.
    fn down(&mut self) -> (usize, Vec<u8>) {
        let (mut credited, mut plain) = (0, Vec::new());
        while !self.session.unsent().is_empty() {
            let count = self.session.unsent().len().min(self.cut);
            let mut sent = &self.session.unsent()[..count];
            while !sent.is_empty() {
                self.client.read_tls(&mut sent).unwrap();
                let state = self.client.process_new_packets().unwrap();
                let mut fresh = vec![0; state.plaintext_bytes_to_read()];
                self.client.reader().read_exact(&mut fresh).unwrap();
                plain.extend_from_slice(&fresh);
            }
            credited += self.session.wrote(&mut self.pool, count);
        }
        (credited, plain)
    }

    fn shake(&mut self) -> Result<(), TlsError> {
        for _ in 0..8 {
            self.up()?;
            self.down();
        }
        assert!(self.session.is_open() && !self.client.is_handshaking());
        Ok(())
    }

    fn ask(&mut self, text: &[u8]) -> Result<(), TlsError> {
        self.client.writer().write_all(text).unwrap();
        self.up()
    }

    /// Sends all of an answer in slices, in rounds as a seat does.
    fn answer(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut got, whole) = (Vec::new(), pieces.concat());
        let mut sent = 0;
        while sent < whole.len() {
            let mut skip = sent;
            let mut slices = Vec::new();
            for piece in pieces {
                let cut = skip.min(piece.len());
                skip -= cut;
                if cut < piece.len() {
                    slices.push(IoSlice::new(&piece[cut..]));
                }
            }
            self.session.seal(&mut self.pool, &slices).unwrap();
            assert!(self.session.unsent().len() <= SEALED_BYTES_MAX + 1024, "what is held is bounded");
            let (credited, plain) = self.down();
            assert!(credited == plain.len() && credited > 0, "each byte counts once: {credited}");
            sent += credited;
            got.extend_from_slice(&plain);
        }
        got
    }

    fn holds_nothing(&self) -> bool {
        self.session.inbound.is_none()
            && self.session.outbound.is_none()
            && self.session.begun.capacity() == 0
    }
}

const ALL: [SupportedCipherSuite; 6] = [
    suites::TLS13_AES_128_GCM_SHA256,
    suites::TLS13_AES_256_GCM_SHA384,
    suites::TLS13_CHACHA20_POLY1305_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[test]
fn every_suite_of_both_versions_carries_requests_and_answers() {
    let long: Vec<u8> = (0..200_000u32).map(|n| (n * 7) as u8).collect();
    for suite in ALL {
        for cut in [1_000_000, 1_447] {
            let mut pair = Pair::new(server(), &Arc::new(client_config(&[suite])), cut);
            pair.shake().unwrap();
            assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
            for round in 0..3 {
                let request = format!("GET /{round} HTTP/1.1\r\n\r\n");
                pair.ask(request.as_bytes()).unwrap();
                assert_eq!(String::from_utf8_lossy(&std::mem::take(&mut pair.heard)), request);
                let pieces = [&b"head"[..], &long[..50_000], b"", &long[50_000..50_001], &long[50_001..]];
                assert!(pair.answer(&pieces) == pieces.concat(), "{suite:?}");
            }
            assert!(pair.holds_nothing(), "an idle connection holds its keys and nothing else");
            pair.session.close_notify(&mut pair.pool);
            pair.down();
            assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
            pair.client.send_close_notify();
            pair.up().unwrap();
            assert!(pair.session.has_ended() && pair.holds_nothing());
        }
    }
}

#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_heard() {
    for suite in [ALL[0], ALL[3]] {
        let mut pair = Pair::new(server(), &Arc::new(client_config(&[suite])), 1_000_000);
        pair.client.writer().write_all(b"early").unwrap(); // rustls sends it with its last flight
        pair.shake().unwrap();
        assert_eq!(pair.heard, b"early");
    }
}

#[test]
fn sessions_are_resumed_from_tickets_also_after_the_certificate_has_changed() {
    let tickets = Tickets::new().unwrap();
    let config = |chain: &str, key: &str| {
        Certified::read(chain.as_bytes(), key.as_bytes(), &tickets, NOW).unwrap().config
    };
    // A suite of TLS 1.2 goes with the kind of key, and so does its ticket.
    for (suite, second, second_key) in [(ALL[0], SECOND, SECOND_KEY), (ALL[3], FIRST, FIRST_KEY)] {
        let client = Arc::new(client_config(&[suite]));
        let (first, second) = (config(FIRST, FIRST_KEY), config(second, second_key));
        let went = |server: &Arc<ServerConfig>| {
            let mut pair = Pair::new(server.clone(), &client, 1_000_000);
            pair.shake().unwrap();
            assert_eq!(pair.answer(&[b"answer"]), b"answer"); // and the ticket with it
            pair.done.unwrap()
        };
        let hands = [&first, &first, &second].map(went);
        assert_eq!(hands, [Handshake::Full, Handshake::Resumed, Handshake::Resumed]);
        let stranger = server_of(FIRST, FIRST_KEY);
        assert_eq!(went(&stranger), Handshake::Full, "tickets of others are passed over");
    }
}

#[test]
fn keys_change_when_the_client_asks_and_when_ours_are_used_up() {
    let mut pair = Pair::new(server(), &Arc::new(client_config(&ALL)), 1_000_000);
    pair.shake().unwrap();
    for round in 0..40 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.ask(b"x").unwrap();
        assert_eq!(pair.heard.len(), round + 1);
        pair.session.wear_out(3);
        assert_eq!(pair.answer(&[&[5; 100_000]]), [5; 100_000]);
    }
    // Without data between, there is an end to it.
    let mut refused = false;
    for _ in 0..40 {
        pair.client.refresh_traffic_keys().unwrap();
        refused |= pair.up().is_err();
    }
    assert!(refused);
    // Nor may they pile up with a client that takes nothing.
    let mut pair = Pair::new(server(), &Arc::new(client_config(&ALL)), 1_000_000);
    pair.shake().unwrap();
    let rounds = (0..10_000).take_while(|_| {
        pair.client.refresh_traffic_keys().unwrap();
        pair.ask(b"x").is_ok()
    });
    assert!((1_000..9_000).contains(&rounds.count()));
    assert!(pair.session.unsent().len() <= SEALED_BYTES_MAX + 1024);
    // TLS 1.2 has no other key: the connection ends rather than use one too long.
    let mut pair = Pair::new(server(), &Arc::new(client_config(&[ALL[3]])), 1_000_000);
    pair.shake().unwrap();
    pair.session.wear_out(2);
    assert_eq!(pair.session.seal(&mut pair.pool, &[IoSlice::new(&[1; 64_000])]), Err(TlsError::Over));
}

#[test]
fn a_record_that_was_touched_ends_the_connection_and_the_client_is_told() {
    for suite in [ALL[0], ALL[3], ALL[5]] {
        let mut pair = Pair::new(server(), &Arc::new(client_config(&[suite])), 1_000_000);
        pair.shake().unwrap();
        pair.client.writer().write_all(b"request").unwrap();
        let mut record = Vec::new();
        pair.client.write_tls(&mut record).unwrap();
        *record.last_mut().unwrap() ^= 1;
        assert_eq!(pair.feed(&record), Err(TlsError::Record(20)));
        let mut alert = pair.session.unsent();
        pair.client.read_tls(&mut alert).unwrap();
        let told = pair.client.process_new_packets().unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
        assert_eq!(pair.session.advance(&mut pair.pool), Err(TlsError::Over));
    }
}

#[test]
fn who_speaks_only_other_protocols_is_told_so() {
    let mut config = client_config(&ALL);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut pair = Pair::new(server(), &Arc::new(config), 1_000_000);
    let refused = pair.up().unwrap_err();
    assert!(matches!(&refused, TlsError::Handshake(why) if why.contains("known protocol")), "{refused}");
    let mut alert = pair.session.unsent();
    pair.client.read_tls(&mut alert).unwrap();
    assert!(pair.client.process_new_packets().is_err());
    assert_eq!(
        Session::new(server()).map(|mut session| {
            let mut pool = Pool::new(1);
            session.room(&mut pool)[..18].copy_from_slice(b"GET / HTTP/1.1\r\n\r\n");
            session.received(&mut pool, 18);
            session.advance(&mut pool)
        }),
        Ok(Err(TlsError::NotTls))
    );
}

/// The flights of a client up to the end of a handshake, to be bent: they fit no server, but go deep into one.
fn flights() -> Vec<u8> {
    let mut pair = Pair::new(server(), &Arc::new(client_config(&ALL)), 1_000_000);
    let mut bytes = Vec::new();
    pair.client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Bytes in pieces to a new session. Promises: no panic, an end, and bounded buffers.
fn hostile(server: &Arc<ServerConfig>, pool: &mut Pool, mut bytes: &[u8]) {
    let mut session = Session::new(server.clone()).unwrap();
    while !bytes.is_empty() {
        let room = session.room(pool);
        assert!(!room.is_empty() && room.len() <= 18_437);
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        session.received(pool, count);
        let went = session.advance(pool);
        assert!(!session.is_open() && session.plaintext().is_empty());
        assert!(session.unsent().len() < 8192);
        if went.is_err() {
            assert_eq!(session.advance(pool), Err(TlsError::Over));
            break;
        }
        session.rest(pool);
        let held = session.inbound.as_ref().map_or(0, |inbound| inbound.raw_bytes().len());
        assert!(held == 0 || held > BEGUN_BYTES_MAX && session.begun.is_empty(), "few bytes hold no buffer");
    }
    session.close(pool);
}

#[test]
fn ten_thousand_hostile_strings_end_or_wait_in_bounded_room() {
    let (server, mut pool, good) = (server(), Pool::new(2), flights());
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for round in 0..10_000 {
        let mut bytes = match round % 4 {
            0 => (0..next(600)).map(|_| next(256) as u8).collect(),
            1 => {
                // A record of any type with any content.
                let len = next(20_000);
                let mut record = vec![20 + next(4) as u8, 3, next(5) as u8, (len >> 8) as u8, len as u8];
                record.extend((0..len.min(40)).map(|_| next(256) as u8));
                record.resize(len + 5, next(2) as u8);
                record
            }
            _ => good.clone(),
        };
        if round % 4 >= 2 {
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            bytes.truncate(1 + next(bytes.len()));
            if round % 8 == 3 {
                bytes.extend_from_slice(&good);
            }
        }
        hostile(&server, &mut pool, &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn answers_come_whole_however_they_are_cut(
        lens in proptest::collection::vec(0usize..40_000, 1..12),
        cut in 1usize..70_000,
        suite in 0usize..6,
    ) {
        let bytes: Vec<u8> = (0..lens.iter().sum::<usize>()).map(|n| (n % 251) as u8).collect();
        let mut pieces = Vec::new();
        let mut at = 0;
        for len in lens {
            pieces.push(&bytes[at..at + len]);
            at += len;
        }
        let mut pair = Pair::new(server(), &Arc::new(client_config(&[ALL[suite]])), cut);
        pair.shake().unwrap();
        prop_assert!(pair.answer(&pieces) == bytes);
        prop_assert!(pair.holds_nothing());
    }
}
