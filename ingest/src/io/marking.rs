//! One stream's way through the marking processes.
//!
//! In: units of the feed. Out: the same units, IDR pictures with their GOP record and, where it worked, as pairs of
//! slices; nothing else is changed. What does not fit or fails passes or stays out as the stream's policy says, and is
//! reported. Touches the pool of marking processes.

use crate::io::normalising::{Ended, Normalisers, Normalising};
use crate::io::pair::data::Strand;
use crate::metrics::{Metrics, OfStream};
use bytes::{Bytes, BytesMut};
use ingest_api::window::{Gop, Marking as Outcome};
use ingest_api::{RunId, StreamName};
use mark::{Marked, Misfit, Plan, Pool, PoolConfig, PoolError};
use media::unit::{AccessUnit, Piece, Unit, VideoConfig};
use releve_state::coordinator::MarkPolicy;
use releve_watermark::embed::{PatternSeed, STRENGTH_DEFAULT};
use releve_watermark::{GopId, Key};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use tokio::sync::mpsc;

/// No more than two IDR pictures are marked within this time, in ticks: 0.5 s. A stream of nothing but IDR pictures would
/// keep the marking processes from everybody else; one that comes soon after another, at a cut, does not.
const TWO_90K: i64 = 45_000;
/// After this many pictures in a row that ended their worker, no more are tried until the stream's next configuration.
const WORKERS_LOST_MAX: u32 = 3;

/// What the ingest needs of the watermark's keys.
#[derive(Clone)]
pub struct Keys {
    /// Draws the patterns.
    pub pattern: Key,
    /// Version of the code key that relays draw symbols with; the key itself stays with them.
    pub code_version: u32,
    /// Version of the bias key that relays draw them against.
    pub bias_version: u32,
}

/// Why a publisher cannot go on.
#[derive(Debug, Error)]
pub enum Refusal {
    /// A stream that must be marked cannot be.
    #[error("the stream requires marks: {0}; set it to `--mark prefer` to publish it unmarked")]
    Misfit(#[from] Misfit),
    /// A stream that was normalised cannot be any longer.
    #[error(transparent)]
    Normalise(#[from] Ended),
}

/// Who decides how marking ended for a GOP, where two nodes make the same segments.
#[derive(Debug)]
pub enum Voice {
    /// This node, for itself.
    Own,
    /// The holder of the pair; the other node adopts what it says.
    Paired(Strand, mpsc::UnboundedReceiver<Gop>),
}

impl Voice {
    /// The record that counts, and its slices where it is marked, given what this node made of the GOP. `true` when the
    /// holder marked it, this node could not, and the holder's slices did not come: then its own record stays.
    async fn decide(&mut self, ours: Gop, pieces: Option<Vec<Piece>>) -> (Gop, Option<Vec<Piece>>, bool) {
        let Voice::Paired(strand, decisions) = self else { return (ours, pieces, false) };
        if let Some(pieces) = &pieces {
            strand.marked(ours.start_90k, pieces);
        }
        match strand.agree(&ours, decisions).await {
            Some(theirs) if theirs.marking == Outcome::Marked && pieces.is_none() => {
                match strand.slices(theirs.start_90k).await {
                    Some(pieces) => (theirs, Some(pieces), false),
                    None => (ours, None, true),
                }
            }
            Some(theirs) if theirs.marking != Outcome::Marked => (theirs, None, false),
            _ => (ours, pieces, false),
        }
    }
}

/// What a twin of this stream's marking on another node starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    policy: MarkPolicy,
    config: Option<VideoConfig>,
    planned: bool,
    taken: Vec<u32>,
    plan_again: bool,
    gop_bytes: u64,
    marked_90k: [Option<i64>; 2],
}

/// The pool of marking processes: `releve-ingest`, started as `mark-worker`.
pub fn pool(program: PathBuf, workers: usize) -> Pool {
    Pool::new(PoolConfig { workers, ..PoolConfig::new(program, &["mark-worker"]) })
}

/// One stream's marking.
pub struct Marking {
    stream: StreamName,
    policy: MarkPolicy,
    keys: Keys,
    pool: Arc<Pool>,
    metrics: Metrics,
    config: Option<Arc<VideoConfig>>,
    /// How to mark the current configuration; `None` while it cannot be.
    plan: Option<Plan>,
    /// PPS ids the stream was seen to use besides those of its configuration.
    taken: Vec<u32>,
    /// The next IDR starts a new plan.
    plan_again: bool,
    /// Video bytes since the last IDR, that one included.
    gop_bytes: u64,
    /// Starts of the last GOPs that were given to the pool, the newer one first.
    marked_90k: [Option<i64>; 2],
    /// Pictures in a row that ended their worker.
    workers_lost: u32,
    /// Where streams are normalised.
    normalising: Option<Normalising>,
    reports: Vec<(&'static str, String)>,
}

impl Marking {
    /// Marking of a stream that has sent nothing yet.
    pub fn new(
        stream: StreamName,
        keys: Keys,
        pool: Arc<Pool>,
        normalisers: Option<Normalisers>,
        metrics: Metrics,
    ) -> Marking {
        let normalising = normalisers.map(|shared| Normalising::new(stream.clone(), shared, metrics.clone()));
        Marking {
            normalising,
            stream,
            policy: MarkPolicy::default(),
            keys,
            pool,
            metrics,
            config: None,
            plan: None,
            taken: Vec::new(),
            plan_again: false,
            gop_bytes: 0,
            marked_90k: [None; 2],
            workers_lost: 0,
            reports: Vec::new(),
        }
    }

    /// A new publisher, under the stream's policy of now: nothing of the last one decides about its pictures.
    pub fn restart(&mut self, policy: MarkPolicy) {
        self.policy = policy;
        self.config = None;
        self.plan = None;
        self.taken.clear();
        self.plan_again = false;
        self.gop_bytes = 0;
        self.marked_90k = [None; 2];
        self.workers_lost = 0;
        if let Some(normalising) = &mut self.normalising {
            normalising.restart();
        }
    }

    /// The same for another connection of the publisher, under the policy of before.
    pub fn again(&mut self) {
        self.restart(self.policy);
    }

    /// The whole state, but for the health of this node's workers.
    pub fn save(&self) -> Saved {
        Saved {
            policy: self.policy,
            config: self.config.as_deref().cloned(),
            planned: self.plan.is_some(),
            taken: self.taken.clone(),
            plan_again: self.plan_again,
            gop_bytes: self.gop_bytes,
            marked_90k: self.marked_90k,
        }
    }

    /// Goes on where another node's was saved.
    pub fn restore(&mut self, saved: Saved) {
        self.restart(saved.policy);
        self.plan = match &saved.config {
            Some(config) if saved.planned => Plan::of_config(config, &saved.taken).ok(),
            _ => None,
        };
        self.config = saved.config.map(Arc::new);
        self.taken = saved.taken;
        self.plan_again = saved.plan_again;
        self.gop_bytes = saved.gop_bytes;
        self.marked_90k = saved.marked_90k;
    }

    /// What happened since the last call: a word for the metric and a sentence for the log.
    pub fn take_reports(&mut self) -> Vec<(&'static str, String)> {
        let mut reports = std::mem::take(&mut self.reports);
        reports.extend(self.normalising.iter_mut().flat_map(Normalising::take_reports));
        reports
    }

    /// Takes one unit and gives what goes on: usually itself.
    ///
    /// # Errors
    /// When the stream requires marks and its configuration cannot be marked, or when it was normalised and cannot be any
    /// longer.
    pub async fn apply(&mut self, unit: Unit, run: RunId, voice: &mut Voice) -> Result<Vec<Unit>, Refusal> {
        let further = matches!(unit, Unit::EncodingConfig(..) | Unit::Encoding(..));
        if further && self.policy != MarkPolicy::Off {
            // Whoever looked at it would leave no trace.
            let text =
                "further encodings of the picture are not marked: of a stream that is, they are left out";
            self.reports.push(("further-tracks", text.to_owned()));
            return Ok(Vec::new());
        }
        let units = match &mut self.normalising {
            Some(normalising) if self.policy != MarkPolicy::Off => normalising.apply(unit).await?,
            _ => vec![unit],
        };
        let mut out = Vec::with_capacity(units.len() + 1);
        for unit in units {
            self.mark_unit(unit, run, voice, &mut out).await?;
        }
        Ok(out)
    }

    /// The publisher has left: gives what a normaliser still held.
    pub async fn end(&mut self, run: RunId, voice: &mut Voice) -> Vec<Unit> {
        let Some(normalising) = &mut self.normalising else { return Vec::new() };
        let mut out = Vec::new();
        for unit in normalising.end().await {
            if let Err(refusal) = self.mark_unit(unit, run, voice, &mut out).await {
                self.reports.push(("unmarkable", refusal.to_string()));
                break;
            }
        }
        out
    }

    async fn mark_unit(
        &mut self,
        unit: Unit,
        run: RunId,
        voice: &mut Voice,
        out: &mut Vec<Unit>,
    ) -> Result<(), Refusal> {
        match unit {
            Unit::VideoConfig(config) => {
                self.taken.clear();
                self.plan_again = false;
                out.push(self.configure(config)?);
            }
            Unit::Video(picture) => out.extend(self.picture(picture, run, voice).await?),
            other => out.push(other),
        }
        Ok(())
    }

    /// Plans for a configuration; the one that is published names our own PPS beside the stream's.
    fn configure(&mut self, config: Arc<VideoConfig>) -> Result<Unit, Refusal> {
        self.config = Some(config.clone());
        self.plan = None;
        self.workers_lost = 0;
        if self.policy == MarkPolicy::Off {
            return Ok(Unit::VideoConfig(config));
        }
        match Plan::of_config(&config, &self.taken) {
            Ok(plan) => {
                let published = VideoConfig { record: plan.avcc().clone(), ..(*config).clone() };
                self.plan = Some(plan);
                Ok(Unit::VideoConfig(Arc::new(published)))
            }
            Err(misfit) => {
                self.misfit(misfit)?;
                Ok(Unit::VideoConfig(config))
            }
        }
    }

    fn misfit(&mut self, misfit: Misfit) -> Result<(), Refusal> {
        if self.policy == MarkPolicy::Require {
            return Err(Refusal::Misfit(misfit));
        }
        self.reports.push(("unmarkable", format!("the stream goes out unmarked: {misfit}")));
        Ok(())
    }

    async fn picture(
        &mut self,
        mut picture: AccessUnit,
        run: RunId,
        voice: &mut Voice,
    ) -> Result<Vec<Unit>, Refusal> {
        let mut out = Vec::with_capacity(2);
        let bytes = joined(&picture.pieces);
        if let Some(plan) = &self.plan
            && let Err(misfit) = plan.admits(&bytes)
        {
            self.plan = None;
            match misfit {
                Misfit::OwnPpsTaken(id) => {
                    self.taken.push(id);
                    self.plan_again = true;
                }
                misfit => self.misfit(misfit)?,
            }
        }
        // A new configuration starts with an IDR; until then no picture refers to our PPS, so nothing is wrong.
        if picture.idr
            && std::mem::take(&mut self.plan_again)
            && let Some(config) = self.config.clone()
        {
            out.push(self.configure(config)?);
        }
        let size = bytes.len() as u64;
        if !picture.idr {
            self.gop_bytes += size;
            out.push(Unit::Video(picture));
            return Ok(out);
        }
        let previous_gop_bytes = std::mem::replace(&mut self.gop_bytes, size);
        let gop = GopId::derive(self.stream.as_str(), &run.0, picture.dts_90k);
        let mut record = Gop {
            id: gop,
            start_90k: picture.dts_90k,
            marking: Outcome::Unmarked,
            slices: 0,
            pattern_key: 0,
            code_key: 0,
            bias_key: 0,
        };
        let mut marked = None;
        if self.policy != MarkPolicy::Off {
            match self.mark(bytes, gop, picture.dts_90k, previous_gop_bytes).await {
                Ok(done) => {
                    record.marking = Outcome::Marked;
                    record.slices = done.slices;
                    record.pattern_key = self.keys.pattern.version;
                    record.code_key = self.keys.code_version;
                    record.bias_key = self.keys.bias_version;
                    marked = Some(done.pieces);
                }
                Err(why) if self.policy == MarkPolicy::Require => {
                    // The segmenter keeps its record and none of its bytes.
                    record.marking = Outcome::Withheld;
                    self.reports.push(("withheld", format!("a GOP was not marked and is withheld: {why}")));
                }
                Err(why) => self.reports.push(("unmarked", format!("a GOP goes out unmarked: {why}"))),
            }
        }
        if self.policy != MarkPolicy::Off {
            let lacks;
            (record, marked, lacks) = voice.decide(record, marked).await;
            if lacks {
                let text =
                    "the holder marked a GOP and this node neither could nor was given it: they differ";
                self.reports.push(("slices-missing", text.to_owned()));
            }
        }
        if let Some(pieces) = marked {
            picture.pieces = pieces;
        }
        picture.gop = Some(record);
        out.push(Unit::Video(picture));
        Ok(out)
    }

    /// Has one IDR marked, or says why not.
    async fn mark(
        &mut self,
        bytes: Bytes,
        gop: GopId,
        start_90k: i64,
        previous_gop_bytes: u64,
    ) -> Result<Marked, String> {
        let plan = self.plan.as_ref().ok_or("the configuration cannot be marked")?;
        if self.marked_90k[1].is_some_and(|before| start_90k - before < TWO_90K) {
            return Err("it is the third IDR within half a second".to_owned());
        }
        self.marked_90k = [Some(start_90k), self.marked_90k[0]];
        if self.workers_lost >= WORKERS_LOST_MAX {
            return Err("its pictures end the marking process".to_owned());
        }
        let seed = PatternSeed::derive(&self.keys.pattern, gop);
        let job = plan.job(bytes, seed, previous_gop_bytes, STRENGTH_DEFAULT);
        let started = Instant::now();
        let result = self.pool.mark(job).await;
        self.metrics.mark_restarts.set(i64::try_from(self.pool.counts().restarts).unwrap_or(i64::MAX));
        let lost = matches!(result, Err(PoolError::Worker(_)));
        self.workers_lost = if lost { self.workers_lost + 1 } else { 0 };
        let marked = result.map_err(|error| error.to_string())?;
        self.metrics.mark_seconds.observe(started.elapsed().as_secs_f64());
        let of = OfStream { stream: self.stream.to_string() };
        self.metrics.mark_qp.get_or_create(&of).set(i64::from(marked.qp));
        Ok(marked)
    }
}

/// A unit's bytes in one piece; the feed gives them so, and nothing is copied then.
fn joined(pieces: &[Piece]) -> Bytes {
    match pieces {
        [Piece::Common(bytes)] => bytes.clone(),
        pieces => {
            let mut all = BytesMut::new();
            for piece in pieces {
                match piece {
                    Piece::Common(bytes) | Piece::Pair { a: bytes, .. } => all.extend_from_slice(bytes),
                }
            }
            all.freeze()
        }
    }
}
