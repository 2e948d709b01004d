//! Many viewers at once, each with a session of their own: every segment and part that they get must be the copy which the tracer
//! says is theirs, whole, by ranges, as MPEG-TS, over connections that carry the requests of many.
//!
//! In: sessions, how many segments. Out: how many were compared, and how many were another viewer's. What each viewer's copy
//! must be is put together from both variants, as an edge is given them, by the symbols that `releve-trace codeword` prints.

use super::copies::Pair;
use super::line::{Doors, Line, Line2, ask2, connect2};
use super::noise::Noise;
use super::raid::address;
use super::stage::{Cast, STREAMS};
use super::verdict::range;
use super::wire::{Answer, Lost, Network, Request};
use crate::hls::MediaPlaylist;
use crate::{Cluster, http};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Hands that fetch over HTTP/1.1, and HTTP/2: the latter for so many viewers each, so many requests at once.
const HANDS: [usize; 2] = [12, 4];
const GROUP: usize = 8;
/// Segments that are taken from the window at the beginning.
const FIRST: usize = 2;
/// Faults that are told; all are counted.
const TOLD: u64 = 10;

/// A viewer with a session.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    pub(super) name: String,
    pub(super) session: String,
}

/// A segment or a part, and what each viewer must get for it.
struct Piece {
    below: String,
    number: u64,
    /// What of the copies it is.
    span: Range<usize>,
    /// By viewer.
    copies: Arc<Vec<Arc<[u8]>>>,
}

impl Piece {
    fn of(&self, viewer: usize) -> &[u8] {
        &self.copies[viewer][self.span.clone()]
    }
}

/// What can be fetched now.
#[derive(Clone, Default)]
struct Listed {
    segments: Vec<Arc<Piece>>,
    parts: Vec<Arc<Piece>>,
}

/// What viewers and their judge share.
pub(super) struct Hall {
    doors: Doors,
    watchers: Vec<Watcher>,
    listed: RwLock<Arc<Listed>>,
    seed: u64,
    /// Segments still to be fetched, by version.
    left: [AtomicU64; 2],
    until: Instant,
    over: AtomicBool,
    pub(super) segments: AtomicU64,
    pub(super) ranges: AtomicU64,
    pub(super) parts: AtomicU64,
    pub(super) crossed: AtomicU64,
    pub(super) faults: AtomicU64,
    /// Different copies of all segments together, and segments.
    pub(super) copies: AtomicU64,
    pub(super) pairs: AtomicU64,
}

/// What somebody fetches.
struct Wish {
    piece: Arc<Piece>,
    viewer: usize,
    range: Option<Range<usize>>,
    request: Request,
}

/// What the answer is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Same,
    /// It has left the window.
    Gone,
    /// Another viewer's copy, or nobody's.
    Crossed(String),
    Wrong(String),
}

impl Hall {
    pub(super) fn new(doors: Doors, watchers: Vec<Watcher>, seed: u64, total: u64, until: Instant) -> Hall {
        let second = total / 4;
        let count = AtomicU64::default;
        Hall {
            doors,
            watchers,
            listed: RwLock::default(),
            seed,
            left: [AtomicU64::new(total - second), AtomicU64::new(second)],
            until,
            over: AtomicBool::new(false),
            segments: count(),
            ranges: count(),
            parts: count(),
            crossed: count(),
            faults: count(),
            copies: count(),
            pairs: count(),
        }
    }

    fn listed(&self) -> Arc<Listed> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what is listed up to date until everything is fetched. Blocks.
    pub(super) fn follow(&self, cluster: &Cluster, cast: &Cast) -> Result<()> {
        let followed = self.follow_on(cluster, cast);
        self.over.store(true, Ordering::Release); // whoever fetches ends too
        followed
    }

    fn follow_on(&self, cluster: &Cluster, cast: &Cast) -> Result<()> {
        let mut known = 0;
        while !self.over.load(Ordering::Acquire) {
            let text = self.get(&self.below(0, "video.m3u8"), &[])?;
            let text = std::str::from_utf8(&text)?;
            let playlist = MediaPlaylist::parse(text)?;
            let numbers: Vec<u64> = playlist.segments.iter().map(|segment| segment.number).collect();
            let newest = *numbers.last().context("no segment")?;
            let mut listed = Listed::clone(&self.listed());
            for number in numbers.iter().rev().take(FIRST).rev().copied().filter(|number| *number > known) {
                self.take(cluster, cast, number, text, &mut listed)?;
            }
            known = newest;
            // What is about to leave the window is left alone, and so are parts of what is long complete.
            listed.segments.retain(|piece| piece.number > numbers[0] + 1);
            listed.parts.retain(|piece| piece.number >= newest);
            *self.listed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listed);
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn below(&self, viewer: usize, below: &str) -> String {
        format!("/v/{}/{below}", self.watchers[viewer].session)
    }

    fn get(&self, path: &str, fields: &[(&str, &str)]) -> Result<Vec<u8>> {
        let url = format!("http://{}{path}", self.doors.plain);
        Ok(http::request("GET", &url, fields)?.ok().with_context(|| path.to_owned())?.body)
    }

    /// Works out what everybody's copies of a new segment are.
    fn take(
        &self,
        cluster: &Cluster,
        cast: &Cast,
        number: u64,
        text: &str,
        listed: &mut Listed,
    ) -> Result<()> {
        let bearer = format!("Bearer {}", cast.edge);
        let edge = |path: String| {
            self.get(&format!("/edge/{}/{path}", STREAMS[0]), &[("Authorization", bearer.as_str())])
        };
        let mp4 = Pair::of_mp4(edge(format!("video/{number}.m4s"))?, edge(format!("video/b/{number}.m4s"))?)?;
        let ts = Pair::of_ts(edge(format!("ts/{number}.ts"))?, edge(format!("ts/b/{number}.ts"))?)?;
        ensure!(
            mp4.differing() > 0 && ts.differing() == mp4.differing(),
            "segment {number}: the variants are the same"
        );
        let (mut known, mut of_mp4, mut of_ts) = (HashMap::new(), Vec::new(), Vec::new());
        for watcher in &self.watchers {
            let word = cluster.codeword(STREAMS[0], &watcher.name, number)?;
            let symbols = word["symbols"].as_str().context("symbols are text")?.to_owned();
            if !known.contains_key(&symbols) {
                let both: [Arc<[u8]>; 2] = [mp4.copy(&symbols)?.into(), ts.copy(&symbols)?.into()];
                known.insert(symbols.clone(), both);
            }
            let [one, other] = known[&symbols].clone();
            of_mp4.push(one);
            of_ts.push(other);
        }
        self.pairs.fetch_add(1, Ordering::Relaxed);
        self.copies.fetch_add(known.len() as u64, Ordering::Relaxed);
        let (of_mp4, of_ts) = (Arc::new(of_mp4), Arc::new(of_ts));
        let piece = |below: String, span: Range<usize>, copies: &Arc<Vec<_>>| {
            Arc::new(Piece { below, number, span, copies: copies.clone() })
        };
        // Parts are as long for everybody, and make up their segment.
        let (mut at, mut parts) = (0, Vec::new());
        for index in 0.. {
            let below = format!("video/{number}.{index}.m4s");
            if !text.contains(&format!("\"{below}\"")) {
                break;
            }
            let length = self.get(&self.below(0, &below), &[])?.len();
            parts.push(piece(below, at..at + length, &of_mp4));
            at += length;
        }
        let whole = of_mp4[0].len();
        ensure!(parts.is_empty() || at == whole, "the parts of {number} have {at} bytes, it has {whole}");
        listed.parts.extend(parts);
        listed.segments.push(piece(format!("video/{number}.m4s"), 0..whole, &of_mp4));
        listed.segments.push(piece(format!("ts/{number}.ts"), 0..of_ts[0].len(), &of_ts));
        Ok(())
    }

    /// Has everybody fetch until it is enough, or the time is over.
    pub(super) async fn fetch(self: &Arc<Hall>) {
        while self.listed().segments.is_empty() && !self.over.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut hands = JoinSet::new();
        (0..HANDS[0]).for_each(|number| drop(hands.spawn(hand1(self.clone(), number))));
        (0..HANDS[1]).for_each(|number| drop(hands.spawn(hand2(self.clone(), number))));
        while let Some(done) = hands.join_next().await {
            if let Err(error) = done {
                self.wrong(&format!("somebody who fetches has ended: {error}"));
            }
        }
        self.over.store(true, Ordering::Release);
    }

    /// One segment less to be fetched over that version; `None` when there is none left, or no time.
    fn next(&self, version: usize) -> Option<Noise> {
        let left = &self.left[version];
        let taken =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
        let goes_on = Instant::now() < self.until && !self.over.load(Ordering::Acquire);
        goes_on.then(|| Noise::of(self.seed, taken << 1 | version as u64))
    }

    fn wish(&self, noise: &mut Noise, from: &[Arc<Piece>], viewers: Range<usize>) -> Option<Wish> {
        if from.is_empty() {
            return None;
        }
        let piece = noise.pick(from).clone();
        let viewer = viewers.start + noise.below(viewers.len());
        let mut request = Request::get(self.below(viewer, &piece.below));
        let range = (noise.below(3) == 0).then(|| {
            let start = noise.below(piece.span.len());
            start..start + 1 + noise.below(piece.span.len() - start)
        });
        if let Some(range) = &range {
            request = request.with("Range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        Some(Wish { piece, viewer, range, request })
    }

    /// Counts what came; whether the segment is to be fetched again elsewhere.
    fn judge(&self, wish: &Wish, is_part: bool, answer: Result<Answer, Lost>) -> bool {
        let found = match answer {
            Ok(answer) => check(wish, &answer, &self.watchers),
            Err(lost) => Found::Wrong(format!("no answer: {lost:?}")),
        };
        let words = match found {
            Found::Same => {
                let counter = if is_part { &self.parts } else { &self.segments };
                counter.fetch_add(1, Ordering::Relaxed);
                self.ranges.fetch_add(u64::from(wish.range.is_some()), Ordering::Relaxed);
                return false;
            }
            Found::Gone if !self.is_listed(&wish.piece) => return true,
            Found::Gone => format!("404 for {}, which is listed", wish.piece.below),
            Found::Crossed(words) => {
                self.crossed.fetch_add(1, Ordering::Relaxed);
                words
            }
            Found::Wrong(words) => words,
        };
        self.wrong(&format!("{words}; seed {}: {}", self.seed, wish.request.to_http1().escape_ascii()));
        false
    }

    fn is_listed(&self, piece: &Arc<Piece>) -> bool {
        let listed = self.listed();
        listed.segments.iter().chain(&listed.parts).any(|other| Arc::ptr_eq(other, piece))
    }

    fn wrong(&self, words: &str) {
        if self.faults.fetch_add(1, Ordering::Relaxed) < TOLD {
            eprintln!("error: {words}");
        }
    }
}

/// Compares an answer with what it must be.
fn check(wish: &Wish, answer: &Answer, watchers: &[Watcher]) -> Found {
    let own = wish.piece.of(wish.viewer);
    let span = match (answer.status, &wish.range) {
        (200, None) => 0..own.len(),
        (206, Some(asked)) => {
            let said = range(answer.field("content-range").unwrap_or_default(), own.len());
            if said.as_ref() != Some(asked) {
                return Found::Wrong(format!("range {said:?}, not {asked:?}"));
            }
            asked.clone()
        }
        (404, _) => return Found::Gone,
        (status, _) => return Found::Wrong(format!("status {status}")),
    };
    if own[span.clone()] == answer.body[..] {
        return Found::Same;
    }
    let whose = (0..watchers.len()).find(|viewer| wish.piece.of(*viewer)[span.clone()] == answer.body[..]);
    let whose = whose.map_or("nobody's".to_owned(), |viewer| format!("{}'s", watchers[viewer].name));
    Found::Crossed(format!("{} got {whose} copy of {}", watchers[wish.viewer].name, wish.piece.below))
}

/// Fetches for all viewers over one connection of HTTP/1.1.
async fn hand1(hall: Arc<Hall>, number: usize) {
    let mut line: Option<Line> = None;
    while let Some(mut noise) = hall.next(0) {
        let is_also_part = noise.below(5) == 0;
        for is_part in [false, true] {
            let mut again = !is_part || is_also_part;
            while again {
                let listed = hall.listed();
                let from = if is_part { &listed.parts } else { &listed.segments };
                let Some(wish) = hall.wish(&mut noise, from, 0..hall.watchers.len()) else { break };
                let answer = ask1(&hall, &mut line, number, &wish.request).await;
                again = hall.judge(&wish, is_part, answer);
            }
        }
    }
}

async fn ask1(
    hall: &Hall,
    line: &mut Option<Line>,
    number: usize,
    request: &Request,
) -> Result<Answer, Lost> {
    loop {
        let mut open = match line.take() {
            Some(open) => open,
            None => Line::connect(hall.doors.plain, address(Network::Home, 60 + number)).await?,
        };
        let was_used = open.used;
        match open.ask(&request.to_http1(), false).await {
            Err(Lost::Ended(_)) if was_used => {}
            answer => {
                let answer = answer?;
                if !answer.closes() {
                    *line = Some(open);
                }
                return Ok(answer);
            }
        }
    }
}

/// Fetches for some viewers over one connection of HTTP/2, as much at once.
async fn hand2(hall: Arc<Hall>, number: usize) {
    let first = number * GROUP % hall.watchers.len();
    let viewers = first..hall.watchers.len().min(first + GROUP);
    let mut line: Option<Line2> = None;
    loop {
        let listed = hall.listed();
        let mut asked = JoinSet::new();
        for _ in 0..GROUP {
            let Some(mut noise) = hall.next(1) else { break };
            let Some(wish) = hall.wish(&mut noise, &listed.segments, viewers.clone()) else { break };
            if line.is_none() {
                line = connect2(&hall.doors, address(Network::Home, 120 + number)).await.ok();
            }
            let (line, request) = (line.clone(), wish.request.to_http2());
            asked.spawn(async move {
                let answer = match (line, request) {
                    (Some(line), Some(request)) => ask2(line, request).await,
                    _ => Err(Lost::Ended("cannot connect".to_owned())),
                };
                (wish, answer)
            });
        }
        if asked.is_empty() {
            return;
        }
        while let Some(done) = asked.join_next().await {
            match done {
                Ok((wish, answer)) => {
                    let is_lost = answer.is_err();
                    if hall.judge(&wish, false, answer) {
                        hall.left[1].fetch_add(1, Ordering::Relaxed);
                    }
                    if is_lost {
                        line = None;
                    }
                }
                Err(error) => hall.wrong(&format!("a request has ended: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_viewers_copy_is_noticed_whole_and_in_part() {
        let watchers =
            ["alice", "bob"].map(|name| Watcher { name: name.to_owned(), session: name.to_owned() });
        let copies = [b"common A end", b"common B end"].map(|copy| Arc::from(copy.as_slice()));
        let piece = Arc::new(Piece {
            below: "video/7.1.m4s".to_owned(),
            number: 7,
            span: 0..8,
            copies: Arc::new(copies.to_vec()),
        });
        let wish = |range: Option<Range<usize>>| Wish {
            piece: piece.clone(),
            viewer: 0,
            range,
            request: Request::get("/"),
        };
        let answer = |status, field: &str, body: &[u8]| Answer {
            status,
            fields: vec![("content-range".to_owned(), field.to_owned())],
            body: body.to_vec(),
            more: 0,
        };
        let found = |range, answer: Answer| check(&wish(range), &answer, &watchers);
        assert_eq!(found(None, answer(200, "", b"common A")), Found::Same);
        let crossed = Found::Crossed("alice got bob's copy of video/7.1.m4s".to_owned());
        assert_eq!(found(None, answer(200, "", b"common B")), crossed);
        assert!(matches!(found(None, answer(200, "", b"common ")), Found::Crossed(_)));
        assert_eq!(found(Some(6..8), answer(206, "bytes 6-7/8", b" A")), Found::Same);
        assert_eq!(found(Some(6..8), answer(206, "bytes 6-7/8", b" B")), crossed);
        assert!(matches!(found(Some(6..8), answer(206, "bytes 5-7/8", b" A")), Found::Wrong(_)));
        assert!(matches!(found(Some(6..8), answer(200, "", b"common A")), Found::Wrong(_)));
        assert_eq!(found(None, answer(404, "", b"")), Found::Gone);
    }
}
