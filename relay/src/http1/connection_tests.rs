//! Order, bounds, endings and deadlines of a connection.

use super::super::ending::Patience;
use super::super::fuzzing::talk;
use super::super::request::BODY_BYTES_MAX;
use super::*;
use proptest::prelude::*;

const GET: &[u8] = b"GET /v/x HTTP/1.1\r\nHost: a\r\n\r\n";

fn pool() -> Pool {
    Pool::new(Instant::now(), 784_111_777, Patience::default(), 4)
}

fn rendered(body: &[u8]) -> Rendered {
    Rendered::shared(200, [("content-type", "text/plain")], body).unwrap()
}

/// All that is unsent, as one; nothing is marked as written.
fn said(connection: &Connection) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = connection.unsent(&mut slices);
    let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    assert_eq!(all.len(), connection.unsent_bytes());
    all
}

fn text(connection: &Connection) -> String {
    String::from_utf8(said(connection)).unwrap()
}

fn drain(connection: &mut Connection, pool: &mut Pool) {
    connection.wrote(pool, connection.unsent_bytes());
}

/// A connection that has been asked one thing.
fn asked(pool: &mut Pool, request: &[u8]) -> Connection {
    let mut connection = Connection::new(pool);
    assert_eq!(connection.receive(pool, request), request.len());
    assert!(connection.next_request().is_some());
    connection
}

/// The same after the answer.
fn answered(pool: &mut Pool, request: &[u8]) -> Connection {
    let mut connection = asked(pool, request);
    assert!(connection.respond(pool, &rendered(b"hello"), Outcome::Whole));
    connection
}

#[test]
fn an_answer_is_its_opening_and_what_was_rendered() {
    let mut pool = pool();
    let connection = answered(&mut pool, GET);
    let text = text(&connection);
    let begin = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 5\r\n";
    assert!(text.starts_with(begin) && text.ends_with("\r\n\r\nhello"), "{text}");
    assert!(!text.contains("connection:"));
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(connection.unsent(&mut slices), 1, "a small answer is one slice");
}

#[test]
fn requests_in_one_go_are_answered_in_order() {
    for count in 1..=100 {
        let input: String = (0..count).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        let talk = talk(input.as_bytes(), || usize::MAX, || usize::MAX);
        let targets: Vec<_> = talk.asked.iter().map(|asked| asked.clone().unwrap().target).collect();
        let expected: Vec<_> = (0..count).map(|n| format!("/{n}").into_bytes()).collect();
        assert_eq!(targets, expected);
        assert_eq!(talk.state, State::Open);
    }
}

#[test]
fn the_next_request_waits_for_the_answer_to_the_one_before() {
    let mut pool = pool();
    let mut connection = asked(&mut pool, &GET.repeat(2));
    assert!(connection.next_request().is_none() && connection.is_asked());
    connection.respond(&mut pool, &rendered(b"1"), Outcome::Whole);
    assert!(connection.next_request().is_some());
}

#[test]
fn a_client_that_reads_nothing_is_not_answered_without_end() {
    let mut pool = pool();
    let mut connection = Connection::new(&pool);
    let input = GET.repeat(1000);
    connection.receive(&mut pool, &input);
    assert_eq!(connection.room(), 0, "nothing more is read");
    let mut answers = 0;
    while connection.next_request().is_some() {
        connection.respond(&mut pool, &rendered(b"hello"), Outcome::Whole);
        answers += 1;
    }
    assert_eq!(answers, PIPELINE_MAX);
    connection.wrote(&mut pool, 1);
    assert!(connection.next_request().is_none());
    drain(&mut connection, &mut pool);
    assert!(connection.next_request().is_some());

    let mut connection = asked(&mut pool, &GET.repeat(2));
    let large = rendered(&vec![0; UNSENT_BYTES_MAX]);
    connection.respond(&mut pool, &large, Outcome::Whole);
    assert!(connection.next_request().is_none());
}

#[test]
fn head_has_the_head_of_the_whole_and_no_body() {
    let mut pool = pool();
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let connection = answered(&mut pool, head);
    assert!(text(&connection).contains("content-length: 5\r\n") && text(&connection).ends_with("\r\n\r\n"));
    let mut connection = asked(&mut pool, head);
    let marked = Rendered::head(200, [], 10).unwrap();
    connection.respond_marked(&mut pool, &marked, Outcome::Whole, [Bytes::from_static(b"0123456789")]);
    assert!(text(&connection).contains("content-length: 10\r\n") && text(&connection).ends_with("\r\n\r\n"));
}

#[test]
fn parts_are_cut_from_shared_bodies_and_from_slices() {
    let mut pool = pool();
    let part = Outcome::Part { start: 2, end: 7 };
    let mut connection = asked(&mut pool, GET);
    connection.respond(&mut pool, &rendered(b"0123456789"), part);
    let shared = text(&connection);
    assert!(shared.starts_with("HTTP/1.1 206 Partial Content\r\n") && shared.ends_with("\r\n\r\n23456"));
    let mut connection = asked(&mut pool, GET);
    let head = Rendered::head(200, [("content-type", "text/plain")], 10).unwrap();
    let pieces = [&b"012"[..], b"345", b"6", b"789"].map(Bytes::from_static);
    connection.respond_marked(&mut pool, &head, part, pieces);
    assert_eq!(text(&connection), shared);
    let mut connection = asked(&mut pool, GET);
    connection.respond(&mut pool, &rendered(b"0123456789"), Outcome::NotModified);
    assert!(text(&connection).starts_with("HTTP/1.1 304 ") && !text(&connection).contains("content-length"));
}

#[test]
fn slices_that_are_not_as_long_as_promised_are_never_sent() {
    let mut pool = pool();
    let head = Rendered::head(200, [], 10).unwrap();
    for body in [&b"012345678"[..], b"0123456789a", b""] {
        let mut connection = answered(&mut pool, &GET.repeat(2));
        let before = said(&connection);
        assert!(connection.next_request().is_some());
        connection.respond_marked(&mut pool, &head, Outcome::Whole, [Bytes::from_static(body)]);
        let all = said(&connection);
        let (first, second) = all.split_at(before.len());
        assert_eq!(first, before);
        assert!(second.starts_with(b"HTTP/1.1 500 ") && second.ends_with(b"\r\n\r\n"));
        drain(&mut connection, &mut pool);
        assert_eq!(connection.state(), State::Lingering);
    }
    let mut connection = asked(&mut pool, GET);
    connection.respond(&mut pool, &head, Outcome::Whole);
    assert!(said(&connection).starts_with(b"HTTP/1.1 500 "), "a body that nobody gave");
    let mut connection = asked(&mut pool, GET);
    connection.respond(&mut pool, &rendered(b"abc"), Outcome::Part { start: 2, end: 9 });
    assert!(said(&connection).starts_with(b"HTTP/1.1 416 "), "a part of another object");
}

#[test]
fn a_nodes_answer_is_sent_as_it_is() {
    let mut pool = pool();
    let mut connection = asked(&mut pool, GET);
    connection.respond_once(&mut pool, Answer::moved("/v/x/index.m3u8".into()));
    let moved = text(&connection);
    assert!(
        moved.starts_with("HTTP/1.1 302 Found\r\n") && moved.contains("\r\nlocation: /v/x/index.m3u8\r\n")
    );
    let mut connection = asked(&mut pool, GET);
    connection.respond_once(&mut pool, Answer::bare(404).with("location", "a\r\nset-cookie: b"));
    assert!(text(&connection).starts_with("HTTP/1.1 500 ") && !text(&connection).contains("set-cookie"));
    let mut connection = asked(&mut pool, GET);
    connection.respond_once(&mut pool, Answer::content("a/b", "c", Bytes::from_static(b"xyz")));
    assert!(text(&connection).ends_with("\r\n\r\nxyz"));
}

#[test]
fn an_error_is_told_once_and_what_follows_is_passed_over() {
    let mut pool = pool();
    let mut connection = Connection::new(&pool);
    let input = [&b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n"[..], GET].concat();
    connection.receive(&mut pool, &input);
    assert_eq!(connection.next_request().unwrap().unwrap_err(), Malformed::Body);
    assert!(connection.next_request().is_none());
    connection.respond(&mut pool, &Rendered::bare(400), Outcome::Whole);
    assert!(text(&connection).contains("\r\nconnection: close\r\n"));
    assert_eq!(connection.receive(&mut pool, GET), GET.len());
    assert!(connection.next_request().is_none());
    drain(&mut connection, &mut pool);
    assert_eq!(connection.state(), State::Lingering);
    assert_eq!(connection.receive(&mut pool, GET), GET.len());
    assert!(connection.next_request().is_none() && connection.unsent_bytes() == 0);
    connection.received_end();
    assert_eq!(connection.state(), State::Over(Ending::Done));
    assert_eq!(connection.receive(&mut pool, GET), 0);
}

/// A POST of this body, and how long its head is.
fn post(body: &str) -> (Vec<u8>, usize) {
    let head = format!("POST /v/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    ((head.clone() + body).into_bytes(), head.len())
}

#[test]
fn a_body_comes_with_its_head_and_the_next_request_behind_it() {
    let mut pool = pool();
    for body in ["no line", "a\nb\n", "GET /v/y HTTP/1.1\r\nHost: a\r\n\r\n", ""] {
        let (bytes, head) = post(body);
        let all = [&bytes[..], GET].concat();
        for cut in [head - 1, head, head + body.len() / 2, bytes.len() - 1, bytes.len(), all.len()] {
            let mut connection = Connection::new(&pool);
            let mut bodies = Vec::new();
            for part in [&all[..cut], &all[cut..]] {
                assert_eq!(connection.receive(&mut pool, part), part.len());
                while let Some(request) = connection.next_request() {
                    bodies.push(request.unwrap().body.map(<[u8]>::to_vec));
                    assert!(connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole));
                }
            }
            assert_eq!(bodies, [Some(body.as_bytes().to_vec()), None], "{body:?} cut at {cut}");
        }
    }
}

#[test]
fn the_longest_head_and_the_longest_body_have_room_and_no_more() {
    let mut pool = pool();
    let (body, plain) = ("x".repeat(BODY_BYTES_MAX), post(&"x".repeat(BODY_BYTES_MAX)).1);
    let field = format!("X: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX - plain - "X: \r\n".len()));
    let head = String::from_utf8(post(&body).0[..plain - 2].to_vec()).unwrap() + &field;
    assert_eq!(head.len(), HEAD_BYTES_MAX);
    let all = [head.as_bytes(), body.as_bytes()].concat();
    let (mut connection, mut rest, mut asked) = (Connection::new(&pool), &all[..], Vec::new());
    while !rest.is_empty() {
        let cut = connection.room().min(rest.len()).min(5000);
        assert!(cut > 0 && connection.receive(&mut pool, &rest[..cut]) == cut);
        rest = &rest[cut..];
        while let Some(request) = connection.next_request() {
            asked.push(request.unwrap().body.map(<[u8]>::len));
            connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole);
            drain(&mut connection, &mut pool);
        }
        assert!(connection.room() <= HEAD_BYTES_MAX + BODY_BYTES_MAX);
    }
    assert_eq!(asked, [Some(BODY_BYTES_MAX)]);
    assert_eq!(pool.spare(), 0, "what has grown so much is not kept");
}

/// It comes while answers are in the way, fills all the room there is, and must be read on when they are gone.
#[test]
fn a_long_body_behind_many_requests_is_given_room_when_it_is_its_turn() {
    let mut pool = pool();
    let mut connection = Connection::new(&pool);
    connection.receive(&mut pool, &GET.repeat(PIPELINE_MAX.into()));
    while connection.next_request().is_some() {
        connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole);
    }
    let (bytes, _) = post(&"x".repeat(BODY_BYTES_MAX));
    let begun = connection.receive(&mut pool, &bytes);
    assert_eq!((begun, connection.room()), (HEAD_BYTES_MAX, 0));
    assert!(connection.next_request().is_none(), "the others' answers come first");
    drain(&mut connection, &mut pool);
    assert_eq!(connection.room(), 0, "its length is not known yet");
    assert!(connection.next_request().is_none());
    assert_eq!(connection.room(), bytes.len() - begun);
    assert_eq!(connection.receive(&mut pool, &bytes[begun..]), bytes.len() - begun);
    let body = connection.next_request().unwrap().unwrap().body.map(<[u8]>::len);
    assert_eq!(body, Some(BODY_BYTES_MAX));
}

#[test]
fn a_body_has_as_much_time_as_a_head() {
    let mut pool = pool();
    let (bytes, head) = post("a\nb\nc\n");
    let mut connection = Connection::new(&pool);
    let deadline = connection.poll_timeout().unwrap();
    for (at, byte) in bytes[..bytes.len() - 1].iter().enumerate() {
        connection.receive(&mut pool, &[*byte]);
        assert!(connection.next_request().is_none(), "{at} of {head}");
        let now = pool.now + Duration::from_millis(100);
        pool.turn(now, 0);
        connection.handle_timeout(now);
        if now >= deadline {
            break;
        }
        assert_eq!((connection.state(), connection.poll_timeout()), (State::Open, Some(deadline)));
    }
    connection.handle_timeout(deadline);
    assert_eq!(connection.state(), State::Over(Ending::Late));
    // A client that ends before its body does has asked nothing.
    let mut connection = Connection::new(&pool);
    connection.receive(&mut pool, &bytes[..head + 2]);
    assert!(connection.next_request().is_none());
    connection.received_end();
    assert_eq!(connection.state(), State::Over(Ending::Done));
}

#[test]
fn an_old_client_is_told_that_the_connection_stays() {
    let mut pool = pool();
    let mut connection = answered(&mut pool, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(text(&connection).contains("\r\nconnection: keep-alive\r\n"));
    drain(&mut connection, &mut pool);
    assert_eq!(connection.state(), State::Open);
    let mut connection = answered(&mut pool, b"GET / HTTP/1.0\r\n\r\n");
    assert!(text(&connection).contains("\r\nconnection: close\r\n"));
    drain(&mut connection, &mut pool);
    assert_eq!(connection.state(), State::Lingering);
}

#[test]
fn what_was_asked_before_the_clients_end_is_answered() {
    let mut pool = pool();
    let mut connection = Connection::new(&pool);
    connection.receive(&mut pool, &GET.repeat(2));
    connection.received_end();
    for _ in 0..2 {
        assert!(connection.next_request().is_some());
        connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole);
    }
    assert_eq!(connection.state(), State::Open);
    drain(&mut connection, &mut pool);
    assert_eq!(connection.state(), State::Over(Ending::Done));
    // Half a request is none.
    let mut connection = Connection::new(&pool);
    connection.receive(&mut pool, &GET[..20]);
    connection.received_end();
    assert!(connection.next_request().is_none());
    assert_eq!(connection.state(), State::Over(Ending::Done));
}

#[test]
fn a_stopping_relay_answers_what_was_asked_and_closes() {
    let mut pool = pool();
    let mut idle = Connection::new(&pool);
    idle.stop();
    assert_eq!(idle.state(), State::Over(Ending::Done));
    let mut held = asked(&mut pool, GET);
    held.stop();
    assert_eq!(held.state(), State::Open);
    held.respond(&mut pool, &rendered(b"x"), Outcome::Whole);
    assert!(text(&held).contains("\r\nconnection: close\r\n"));
    drain(&mut held, &mut pool);
    assert_eq!(held.state(), State::Lingering);
    let mut sending = answered(&mut pool, GET);
    sending.stop();
    assert_eq!(sending.state(), State::Open);
    drain(&mut sending, &mut pool);
    assert_eq!(sending.state(), State::Lingering);
}

#[test]
fn an_answer_without_a_request_is_not_sent() {
    let mut pool = pool();
    let mut connection = Connection::new(&pool);
    assert!(!connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole));
    assert_eq!(connection.unsent_bytes(), 0);
    let mut connection = answered(&mut pool, GET);
    assert!(!connection.respond(&mut pool, &rendered(b"y"), Outcome::Whole), "only once");
}

#[test]
fn idle_and_parked_connections_hold_no_buffers() {
    let mut pool = pool();
    let mut connection = asked(&mut pool, GET);
    assert!(connection.buffers.is_some());
    connection.park(&mut pool);
    assert!(connection.buffers.is_none() && pool.spare() == 1);
    connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole);
    drain(&mut connection, &mut pool);
    assert!(connection.buffers.is_none() && pool.spare() == 1);
    // With the next request already here they stay.
    let mut connection = asked(&mut pool, &GET.repeat(2));
    connection.park(&mut pool);
    assert!(connection.buffers.is_some());
    assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
}

#[test]
fn a_head_is_looked_at_once_a_line_not_once_a_byte() {
    let mut pool = pool();
    let mut connection = Connection::new(&pool);
    let mut looks = 0;
    for byte in GET.chunks(1) {
        connection.receive(&mut pool, byte);
        looks += usize::from(connection.look);
        assert_eq!(connection.next_request().is_some(), connection.is_asked());
    }
    assert_eq!(looks, 3);
    assert!(connection.is_asked());
}

#[test]
fn each_wait_has_its_deadline() {
    let (mut pool, patience) = (pool(), Patience::default());
    let start = pool.now;
    let after = |duration: Duration| Some(start + duration);
    let (mut at, second) = (start, Duration::from_secs(1));

    // A head that trickles: the deadline stands.
    let mut late = Connection::new(&pool);
    assert_eq!(late.poll_timeout(), after(patience.head));
    for byte in GET[..5].chunks(1) {
        late.receive(&mut pool, byte);
        assert!(late.next_request().is_none());
        at += second;
        pool.turn(at, 0);
    }
    assert_eq!(late.poll_timeout(), after(patience.head));
    late.handle_timeout(start + patience.head - second);
    assert_eq!(late.state(), State::Open);
    late.handle_timeout(start + patience.head);
    assert_eq!(late.state(), State::Over(Ending::Late));

    // Held: none; then the answer's; then the idle one.
    pool.turn(start, 0);
    let mut connection = asked(&mut pool, GET);
    assert_eq!(connection.poll_timeout(), None);
    connection.respond(&mut pool, &rendered(b"x"), Outcome::Whole);
    assert_eq!(connection.poll_timeout(), after(patience.write));
    drain(&mut connection, &mut pool);
    assert_eq!(connection.poll_timeout(), after(patience.idle));
    connection.handle_timeout(start + patience.idle);
    assert_eq!(connection.state(), State::Over(Ending::Idle));

    // Nobody ends it after us.
    let mut connection = answered(&mut pool, b"GET / HTTP/1.0\r\n\r\n");
    drain(&mut connection, &mut pool);
    assert_eq!(connection.poll_timeout(), after(patience.linger));
    connection.handle_timeout(start + patience.linger);
    assert_eq!(connection.state(), State::Over(Ending::Done));
}

/// A viewer who takes `bytes_s` bytes each second of a large answer: how many seconds they last.
fn lasts(bytes_s: usize) -> usize {
    let mut pool = pool();
    let start = pool.now;
    let mut connection = asked(&mut pool, GET);
    let body = Bytes::from(vec![0; 400 << 10]);
    let head = Rendered::head(200, [], body.len()).unwrap();
    connection.respond_marked(&mut pool, &head, Outcome::Whole, [body]);
    for second in 1.. {
        pool.turn(start + Duration::from_secs(second as u64), 0);
        connection.handle_timeout(pool.now);
        match connection.state() {
            State::Over(ending) => {
                assert_eq!(ending, Ending::Slow);
                return second;
            }
            _ if connection.unsent_bytes() == 0 => return usize::MAX,
            _ => connection.wrote(&mut pool, bytes_s),
        }
    }
    unreachable!("the loop has no end of its own")
}

#[test]
fn a_viewer_must_take_bytes_and_not_too_few() {
    assert_eq!(lasts(0), 20);
    assert!((20..25).contains(&lasts(10)));
    assert!(
        (39..42).contains(&lasts(2 << 10)),
        "half the rate uses patience up at half speed: {}",
        lasts(2 << 10)
    );
    assert_eq!(lasts(4 << 10), usize::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Writes that stop after any byte, of an answer in any slices, come to the whole.
    #[test]
    fn writes_resume_at_any_byte(
        lens in proptest::collection::vec(0usize..3000, 1..20),
        writes in proptest::collection::vec(1usize..4000, 1..50),
        slots in 1usize..9,
        range in any::<Option<(u16, u16)>>(),
    ) {
        let pieces: Vec<Bytes> =
            lens.iter().enumerate().map(|(n, &len)| Bytes::from(vec![n as u8; len])).collect();
        let body = pieces.concat();
        let head = Rendered::head(200, [], body.len()).unwrap();
        let outcome = match range {
            Some((start, len)) if (start as usize) < body.len() => {
                let start = start as usize;
                Outcome::Part { start, end: (start + 1 + len as usize).min(body.len()) }
            }
            _ => Outcome::Whole,
        };
        let expected = if let Outcome::Part { start, end } = outcome { &body[start..end] } else { &body[..] };
        let mut pool = pool();
        let mut connection = asked(&mut pool, GET);
        connection.respond_marked(&mut pool, &head, outcome, pieces);
        let mut sent = Vec::new();
        let mut writes = writes.iter().cycle();
        while connection.unsent_bytes() > 0 {
            let mut slices = vec![IoSlice::new(&[]); slots];
            let filled = connection.unsent(&mut slices);
            let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            prop_assert!(!offered.is_empty());
            let count = offered.len().min(*writes.next().unwrap());
            sent.extend_from_slice(&offered[..count]);
            connection.wrote(&mut pool, count);
        }
        let split = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        prop_assert_eq!(&sent[split..], expected);
        prop_assert_eq!(pool.spare(), 1);
    }
}
