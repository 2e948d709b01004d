//! Nothing is allocated for a request once a worker's buffers are warm: counted, for playlists and marked objects.
#![allow(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; it hands everything on to the system's"
)]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use bytes::Bytes;
use releve_relay::http1::{Connection, Outcome, Patience, Pool, Rendered, condition};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::time::{Duration, Instant};

struct Counting;

thread_local! {
    /// Allocations of this thread: other threads are the test runner's.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // While the thread is torn down there is nothing left to count.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed on to `System` as it came; counting touches a thread-local that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: [&[u8]; 4] = [
    b"GET /v/x/video/index.m3u8 HTTP/1.1\r\nHost: a\r\nUser-Agent: player\r\n\r\n",
    b"GET /v/x/video/1.m4s HTTP/1.1\r\nHost: a\r\nRange: bytes=1000-20000\r\n\r\n",
    b"GET /v/x/video/1.m4s HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\", \"tag\"\r\n\r\n",
    b"HEAD /v/x/video/1.m4s HTTP/1.1\r\nHost: a\r\nRange: bytes=99999999-\r\n\r\n",
];

/// One request of each kind and its answer, written in steps, each request cut in two.
fn turn(pool: &mut Pool, connection: &mut Connection, answer: &Rendered, pieces: &[Bytes]) -> usize {
    let mut sent = 0;
    for (n, request) in REQUESTS.iter().enumerate() {
        let (one, two) = request.split_at(20 + n);
        connection.receive(pool, one);
        assert!(connection.next_request().is_none());
        connection.receive(pool, two);
        let asked = connection.next_request().unwrap().unwrap();
        let outcome = condition::outcome(&asked, answer.body_len(), Some("\"tag\""));
        assert_eq!(outcome == Outcome::NotModified, n == 2);
        connection.park(pool);
        assert!(if answer.is_shared() {
            connection.respond(pool, answer, outcome)
        } else {
            connection.respond_marked(pool, answer, outcome, pieces.iter().cloned())
        });
        while connection.unsent_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = connection.unsent(&mut slices);
            let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            let count = offered.min(10_000);
            connection.wrote(pool, count);
            sent += count;
        }
        pool.turn(pool.now + Duration::from_secs(1), n as u64);
    }
    sent
}

fn allocations(answer: &Rendered, pieces: &[Bytes]) -> (u64, usize) {
    let mut pool = Pool::new(Instant::now(), 0, Patience::default(), 4);
    let mut kept = Connection::new(&pool);
    for _ in 0..10 {
        turn(&mut pool, &mut kept, answer, pieces);
    }
    let before = COUNT.get();
    let mut sent = 0;
    for _ in 0..1000 {
        sent += turn(&mut pool, &mut kept, answer, pieces);
        // A viewer who has just come costs nothing either.
        let mut fresh = Connection::new(&pool);
        sent += turn(&mut pool, &mut fresh, answer, pieces);
        fresh.close(&mut pool);
    }
    (COUNT.get() - before, sent)
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(vec![0u8; 10]));
    assert_eq!(COUNT.get() - before, 1);
}

#[test]
fn playlists_are_answered_without_allocation() {
    for bytes in [1024, 30_000] {
        let playlist = Rendered::shared(200, [("etag", "\"tag\"")], &vec![b'#'; bytes]).unwrap();
        let (allocations, sent) = allocations(&playlist, &[]);
        assert!(sent > 2000 * bytes);
        assert_eq!(allocations, 0, "in 8000 requests for {bytes} bytes");
    }
}

#[test]
fn marked_objects_are_answered_without_allocation() {
    let object = Bytes::from(vec![7; 60_000]);
    let mut pieces: Vec<Bytes> = (0..40).map(|n| object.slice(n * 1500..(n + 1) * 1500)).collect();
    for piece in pieces.iter_mut().step_by(3) {
        *piece = Bytes::copy_from_slice(piece); // the other variant lies elsewhere
    }
    let head = Rendered::head(200, [("etag", "\"tag\"")], object.len()).unwrap();
    let (allocations, sent) = allocations(&head, &pieces);
    assert!(sent > 2000 * object.len());
    assert_eq!(allocations, 0, "in 8000 requests");
}
