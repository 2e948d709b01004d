//! One stream's way through a normaliser, where it needs one.
//!
//! In: units of the feed. Out: the same, or those of a stream that is coded anew; or why it cannot go on, which ends the
//! publisher: it begins anew with an IDR picture, the only place where anything can begin. Touches one worker process a
//! stream, and the clock. In a pair the holder says which streams are coded anew, and the books of the pair are touched.
//! `ingest/docs/normalise.md`.

use crate::io::marking::Voice;
use crate::metrics::{Metrics, OfStream};
use ingest_api::StreamName;
use mark::normalise::coder::{Coder, CoderError};
use mark::normalise::{Do, Normaliser, Saved, Step};
use mark::{Misfit, PoolConfig};
use media::unit::Unit;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest GOP that is made, in seconds.
const GOP_MAX_S: u32 = 2;
/// How long a stream is not normalised after the machine was too slow for it, or `FAILURES_MAX`.
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// Workers that a stream may end one after the other.
const FAILURES_MAX: u32 = 3;

/// What streams share: where workers come from, and how many there may be.
#[derive(Clone)]
pub struct Normalisers {
    worker: PoolConfig,
    room: Arc<Semaphore>,
    gop_90k: u32,
}

impl Normalisers {
    /// As many streams as the machine has processors: each takes most of one (a 1080p30 one).
    pub fn new(program: PathBuf, segment_seconds: u32) -> Normalisers {
        let room = std::thread::available_parallelism().map_or(1, usize::from);
        Normalisers {
            worker: PoolConfig::new(program, &["mark-worker"]),
            room: Arc::new(Semaphore::new(room)),
            gop_90k: segment_seconds.clamp(1, GOP_MAX_S) * 90_000,
        }
    }
}

/// A stream that cannot be normalised any longer.
#[derive(Debug, Error)]
#[error("{why}{next}")]
pub struct Ended {
    #[source]
    why: CoderError,
    next: &'static str,
}

/// A stream's worker.
struct Working {
    coder: Coder,
    /// None of a stream that the pair's holder had room for, and this node has not.
    _room: Option<OwnedSemaphorePermit>,
}

/// One stream's normaliser.
pub struct Normalising {
    stream: StreamName,
    metrics: Metrics,
    shared: Normalisers,
    flow: Normaliser,
    coder: Option<Working>,
    /// What a coder has to do first, where the stream was coded on another node.
    before: Vec<Step>,
    left_alone: Option<Instant>,
    failures: u32,
    reports: Vec<(&'static str, String)>,
}

impl Normalising {
    /// For a stream that has sent nothing yet.
    pub fn new(stream: StreamName, shared: Normalisers, metrics: Metrics) -> Normalising {
        let flow = Normaliser::new(shared.gop_90k);
        Normalising {
            stream,
            metrics,
            shared,
            flow,
            coder: None,
            before: vec![],
            left_alone: None,
            failures: 0,
            reports: vec![],
        }
    }

    /// A new publisher.
    pub fn restart(&mut self) {
        self.flow = Normaliser::new(self.shared.gop_90k);
        self.coder = None;
        self.before.clear();
    }

    /// Where the stream stands, if another node can begin there.
    pub fn save(&self) -> Option<Saved> {
        if self.before.is_empty() { self.flow.save() } else { None }
    }

    /// Whether `apply` of this unit gives it back at once, as it is.
    pub fn passes(&self, unit: &Unit) -> bool {
        self.before.is_empty() && self.flow.passes(unit)
    }

    /// Whether the stream is coded anew.
    pub fn is_coding(&self) -> bool {
        self.flow.is_coding()
    }

    /// Goes on where another node's was saved.
    ///
    /// # Errors
    /// When nothing here decodes the stream.
    pub fn restore(&mut self, saved: Saved) -> Result<(), Misfit> {
        self.restart();
        (self.flow, self.before) = Normaliser::restore(saved)?;
        Ok(())
    }

    /// What happened since the last call: a word for the metric and a sentence for the log.
    pub fn take_reports(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.reports)
    }

    /// Takes one unit and gives what goes on.
    ///
    /// # Errors
    /// When the stream was coded and cannot be any longer.
    pub async fn apply(&mut self, unit: Unit, voice: &mut Voice) -> Result<Vec<Unit>, Ended> {
        self.catch_up().await?;
        let wanted = self.flow.needs_room(&unit) && self.coder.is_none();
        let alone_still = self.left_alone.is_some_and(|until| Instant::now() < until);
        // Taken where it is needed only: who merely looked could keep it from somebody else.
        let permit = match wanted && !alone_still {
            true => self.shared.room.clone().try_acquire_owned().ok(),
            false => None,
        };
        let room = match &unit {
            Unit::Video(picture) if wanted => voice.has_room(picture.dts_90k, permit.is_some()).await,
            _ => self.coder.is_some(),
        };
        let todo = self.flow.push(unit, room);
        let why = if self.flow.never_fits() { "not 8-bit 4:2:0 H.264" } else { "GOPs longer than 2.4 s" };
        if wanted && self.flow.is_coding() {
            let text =
                format!("{why}: the stream is coded anew in closed GOPs, which costs most of a processor");
            self.reports.push(("normalised", text));
        }
        if wanted && !room {
            let text = format!("{why}, and no normaliser for it now: it goes out as it comes");
            self.reports.push(("not-normalised", text));
        }
        if self.coder.is_none() && self.flow.is_coding() {
            self.start(permit).await?;
        }
        self.carry_out(todo).await
    }

    async fn start(&mut self, room: Option<OwnedSemaphorePermit>) -> Result<(), Ended> {
        match Coder::start(&self.shared.worker).await {
            Ok(coder) => self.coder = Some(Working { coder, _room: room }),
            Err(why) => return Err(self.ended(why)),
        }
        Ok(())
    }

    /// Brings a worker to where the other node's was.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        if self.before.is_empty() {
            return Ok(());
        }
        let room = self.shared.room.clone().try_acquire_owned().ok();
        self.start(room).await?;
        let Some(working) = &mut self.coder else { return Ok(()) };
        for step in std::mem::take(&mut self.before) {
            if let Err(why) = working.coder.step(&step).await {
                return Err(self.ended(why));
            }
        }
        Ok(())
    }

    /// The publisher has left: what is still held goes on.
    pub async fn end(&mut self) -> Vec<Unit> {
        let ended = match self.catch_up().await {
            Ok(()) => {
                let todo = self.flow.end();
                self.carry_out(todo).await
            }
            Err(ended) => Err(ended),
        };
        let units = ended.unwrap_or_else(|ended| {
            self.reports.push(("normalise-failed", ended.to_string()));
            Vec::new()
        });
        self.restart();
        units
    }

    async fn carry_out(&mut self, todo: Vec<Do>) -> Result<Vec<Unit>, Ended> {
        let mut out = Vec::with_capacity(todo.len());
        for one in todo {
            let step = match one {
                Do::Pass(unit) => {
                    out.push(unit);
                    continue;
                }
                Do::Code(step) => step,
            };
            let Some(working) = &mut self.coder else { continue };
            let coded = match working.coder.step(&step).await {
                Ok(coded) => self.flow.coded(coded).map_err(CoderError::from),
                Err(error) => Err(error),
            };
            match coded {
                Ok(units) => out.extend(units),
                Err(why) => return Err(self.ended(why)),
            }
        }
        if let Some(Working { coder, .. }) = &self.coder {
            let of = OfStream { stream: self.stream.to_string() };
            let behind = i64::try_from(coder.behind().as_millis()).unwrap_or(i64::MAX);
            self.metrics.normalise_behind.get_or_create(&of).set(behind);
            if coder.is_settled() {
                self.failures = 0;
            }
        }
        Ok(out)
    }

    /// The worker is of no use any longer, nor is what it had begun.
    fn ended(&mut self, why: CoderError) -> Ended {
        self.restart();
        self.failures += 1;
        let give_up = matches!(why, CoderError::Slow { .. }) || self.failures >= FAILURES_MAX;
        if give_up {
            self.failures = 0;
            self.left_alone = Some(Instant::now() + LEFT_ALONE);
        }
        let next = if give_up { "; it goes out as it comes for the next 10 minutes" } else { "" };
        Ended { why, next }
    }
}
