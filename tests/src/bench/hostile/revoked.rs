//! Revocations, one by one: how long after the operator's command a viewer still gets bytes, and those who have a reload waiting.
//!
//! In: how many. Out: times, and what went wrong. Each viewer has a blocking reload waiting at the relay on one connection, always,
//! over either version of HTTP, and fetches on another one. The clock begins before the command is started.

use super::attack::in_cookie;
use super::line::{Doors, Line, Line2, ask2, connect2};
use super::noise::Noise;
use super::raid::address;
use super::stage::{Minter, Pass, STREAMS, revoke};
use super::wire::{Answer, Lost, Network, Request};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

/// Viewers who are there at once.
const WAVE: usize = 100;
/// Within this time all of a wave are revoked, one after the other.
const SPREAD_MS: usize = 2_000;
/// The longest a viewer of a wave is looked at.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the other connection asks.
const EVERY: Duration = Duration::from_millis(100);
/// What an answer that was under way may come later than a refusal on the other connection.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// The longest a revoked viewer may get bytes.
pub(super) const BOUND: Duration = Duration::from_secs(5);
/// The fewest of all who must have had a reload waiting.
const WAITING_MIN: f64 = 0.5;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// From the command's start to the last byte of anything of the stream; 0 where none came.
    pub(super) last_byte_ms: Vec<f64>,
    /// To the refusal of the reload that waited.
    pub(super) refused_ms: Vec<f64>,
    /// How many had a reload waiting.
    pub(super) waiting: usize,
    pub(super) faults: u64,
}

/// When something of the stream came last, what was refused, and when that was asked.
#[derive(Clone, Copy)]
struct End {
    last: Instant,
    asked: Instant,
    refused: Instant,
}

/// Revokes so many viewers.
pub(super) async fn revocations(
    doors: &Doors,
    minter: &Minter,
    dir: &Path,
    seed: u64,
    total: usize,
    until: Instant,
) -> Times {
    let mut times = Times::default();
    let fault = |words: String, times: &mut Times| {
        times.faults += 1;
        if times.faults <= 10 {
            eprintln!("error: {words}");
        }
    };
    for first in (0..total).step_by(WAVE) {
        if Instant::now() >= until {
            fault(format!("no time left to revoke from viewer {first} on"), &mut times);
            break;
        }
        let mut wave = JoinSet::new();
        for number in first..total.min(first + WAVE) {
            let (doors, minter, dir) = (doors.clone(), minter.clone(), dir.to_owned());
            let after = Duration::from_millis(Noise::of(seed, number as u64).below(SPREAD_MS) as u64);
            wave.spawn(async move {
                let name = format!("revoked-{number}");
                let seen = timeout(PATIENCE, one(doors, minter, dir, name.clone(), number, after)).await;
                match seen {
                    Ok(seen) => seen.with_context(|| name),
                    Err(_) => Err(anyhow::anyhow!("{name}: still watching after {PATIENCE:?}")),
                }
            });
        }
        while let Some(seen) = wave.join_next().await {
            match seen {
                Ok(Ok(seen)) => {
                    seen.faults.into_iter().for_each(|words| fault(words, &mut times));
                    times.last_byte_ms.push(seen.last_byte.as_secs_f64() * 1e3);
                    times.refused_ms.push(seen.refused.as_secs_f64() * 1e3);
                    times.waiting += usize::from(seen.was_waiting);
                }
                Ok(Err(error)) => fault(format!("{error:#}"), &mut times),
                Err(error) => fault(format!("a viewer has ended: {error}"), &mut times),
            }
        }
    }
    if (times.waiting as f64) < total as f64 * WAITING_MIN {
        let words = format!("only {} of {total} had a reload waiting", times.waiting);
        fault(words, &mut times);
    }
    times
}

struct Seen {
    last_byte: Duration,
    refused: Duration,
    was_waiting: bool,
    faults: Vec<String>,
}

/// One viewer, from coming in to being thrown out.
async fn one(
    doors: Doors,
    minter: Minter,
    dir: PathBuf,
    name: String,
    number: usize,
    after: Duration,
) -> Result<Seen> {
    let (entered, viewer) = (doors.clone(), name.clone());
    let pass = spawn_blocking(move || minter.enter(&entered, STREAMS[0], &viewer, 3600, None)).await??;
    let mut waiting = Caller::of(&doors, number, number % 2 == 1);
    let mut asking = Caller::of(&doors, number + 100, false);
    let below = format!("/v/{}/video.m3u8", pass.session);
    let mut newest = waiting.newest(&below).await?;
    let reloads = tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            // The one after the next: it waits for two to four seconds.
            let asked = Instant::now();
            match waiting.ask(&format!("{below}?_HLS_msn={}", newest + 2)).await? {
                Some(answer) => (last, newest) = (Instant::now(), newest_of(&answer)?),
                None => return anyhow::Ok(End { last, asked, refused: Instant::now() }),
            }
        }
    });
    let session = pass.session.clone();
    let fetches = tokio::spawn(async move {
        let mut last = Instant::now();
        for turn in 0_u64.. {
            let asked = Instant::now();
            let path = match turn % 3 {
                0 => format!("/v/{session}/video.m3u8"),
                1 => format!("/v/{session}/video/{newest}.m4s"),
                _ => format!("/v/{session}/audio.m3u8"),
            };
            match asking.ask(&path).await? {
                // What has left the window says nothing of the viewer.
                Some(answer) if answer.status == 200 => last = Instant::now(),
                Some(_) => {
                    newest = asking.newest(&format!("/v/{session}/video.m3u8")).await.unwrap_or(newest)
                }
                None => return anyhow::Ok(End { last, asked, refused: Instant::now() }),
            }
            sleep(EVERY).await;
        }
        bail!("asked for ever")
    });
    sleep(after).await;
    let revoked = Instant::now();
    let (who, folder) = (name.clone(), dir);
    spawn_blocking(move || revoke(&folder, &who)).await??;
    let (reload, fetch) = (reloads.await??, fetches.await??);
    let last_byte = reload.last.max(fetch.last).saturating_duration_since(revoked);
    let mut faults = Vec::new();
    if last_byte > BOUND {
        faults.push(format!("{name} got bytes {last_byte:?} after being revoked"));
    }
    // Both were asked of one relay: once it knows, it knows.
    for (one, other, what) in [(reload, fetch, "a reload that waited"), (fetch, reload, "a request")] {
        let late = one.last.saturating_duration_since(other.refused);
        if late > UNDER_WAY {
            faults.push(format!("{what} of {name} was answered {late:?} after the other one was refused"));
        }
    }
    nothing_opens(&doors, number, &pass).await?;
    Ok(Seen {
        last_byte,
        refused: reload.refused.saturating_duration_since(revoked),
        was_waiting: reload.asked < revoked && reload.refused > revoked,
        faults,
    })
}

/// Neither session nor token opens anything any more, however they are carried.
async fn nothing_opens(doors: &Doors, number: usize, pass: &Pass) -> Result<()> {
    let mut caller = Caller::of(doors, number, false);
    for request in [
        Request::get(format!("/v/{}/index.m3u8", pass.session)),
        Request::get(format!("/q/video.m3u8?s={}", pass.session)),
        in_cookie(STREAMS[0], "audio.m3u8", &pass.session),
        Request::get(format!("/live/{}/index.m3u8?token={}", STREAMS[0], pass.token)),
        Request::get(format!("/watch/{}?token={}", STREAMS[0], pass.token)),
    ] {
        let answer = caller.say(&request).await.map_err(|lost| anyhow::anyhow!("{lost:?}"))?;
        ensure!(answer.status == 403, "status {} for {} once revoked", answer.status, request.target);
    }
    Ok(())
}

/// One connection at a time, over one version of HTTP.
struct Caller {
    doors: Doors,
    number: usize,
    line: Option<Line>,
    /// Whether it speaks HTTP/2, and over which connection.
    second: bool,
    line2: Option<Line2>,
}

impl Caller {
    fn of(doors: &Doors, number: usize, second: bool) -> Caller {
        Caller { doors: doors.clone(), number, line: None, second, line2: None }
    }

    async fn say(&mut self, request: &Request) -> Result<Answer, Lost> {
        let from = address(Network::Home, self.number);
        if let (true, Some(said)) = (self.second, request.to_http2()) {
            let line = match self.line2.take() {
                Some(line) => line,
                None => connect2(&self.doors, from).await?,
            };
            let answer = ask2(line.clone(), said).await?;
            self.line2 = Some(line);
            return Ok(answer);
        }
        let mut line = match self.line.take() {
            Some(line) => line,
            None => Line::connect(self.doors.plain, from).await?,
        };
        let answer = line.ask(&request.to_http1(), false).await?;
        if !answer.closes() {
            self.line = Some(line);
        }
        Ok(answer)
    }

    /// Asks; `None` where the viewer is refused. Who is thrown out while something is under way finds the connection ended.
    async fn ask(&mut self, path: &str) -> Result<Option<Answer>> {
        match self.say(&Request::get(path)).await {
            Ok(answer) if matches!(answer.status, 200 | 404) => Ok(Some(answer)),
            Ok(answer) if answer.status == 403 => Ok(None),
            Ok(answer) => bail!("status {} for {path}", answer.status),
            Err(Lost::Ended(_)) => Ok(None),
            Err(lost) => bail!("{lost:?} for {path}"),
        }
    }

    /// The newest segment of a playlist.
    async fn newest(&mut self, path: &str) -> Result<u64> {
        newest_of(&self.ask(path).await?.context("refused before anybody was revoked")?)
    }
}

fn newest_of(answer: &Answer) -> Result<u64> {
    let text = std::str::from_utf8(&answer.body)?;
    let number = |line: &str| line.strip_prefix("video/")?.strip_suffix(".m4s")?.parse().ok();
    text.lines().rev().find_map(number).context("no segment in a playlist")
}
