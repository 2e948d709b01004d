//! One stream's way through the marking processes.
//!
//! In: units of the feed. Out: the same units, IDR pictures with their GOP record and, where it worked, as pairs of
//! slices; nothing else is changed. What does not fit or fails passes or stays out as the stream's policy says, and is
//! reported. Touches the pool of marking processes.
//!
//! A further encoding of the picture goes out marked or not at all (`further`): nobody is given a way around the marks.

mod further;
mod subject;
mod voice;

pub use voice::Voice;

use crate::io::normalising::{Ended, Normalisers, Normalising};
use crate::metrics::{Metrics, OfStream};
use bytes::{Bytes, BytesMut};
use ingest_api::track::ENCODINGS_MAX;
use ingest_api::window::{Gop, Marking as Outcome};
use ingest_api::{RunId, StreamName, Track};
use mark::normalise;
use mark::{Marked, Misfit, Pool, PoolConfig, PoolError};
use media::unit::{AccessUnit, Piece, Unit};
use releve_state::coordinator::MarkPolicy;
use releve_watermark::embed::PatternSeed;
use releve_watermark::{GopId, Key};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use subject::{SavedSubject, Subject};
use thiserror::Error;

/// No more than two IDR pictures are marked within this time, in ticks: 0.5 s. A stream of nothing but IDR pictures would
/// keep the marking processes from everybody else; one that comes soon after another, at a cut, does not.
const TWO_90K: i64 = 45_000;
/// After this many pictures in a row that ended their worker, no more are tried until the stream's next configuration.
const WORKERS_LOST_MAX: u32 = 3;
/// The picture, and its further encodings by their ids.
const SUBJECTS: usize = 1 + ENCODINGS_MAX;

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

/// What a twin of this stream's marking on another node starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    policy: MarkPolicy,
    subjects: [SavedSubject; SUBJECTS],
    /// Where streams are normalised.
    normaliser: Option<normalise::Saved>,
}

/// Why marking cannot go on where another node's stands.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// One of the two nodes normalises, the other does not.
    #[error(
        "`normalise` is not the same in both nodes' configurations: set it alike and start this node again"
    )]
    NotAlike,
    /// One of the two has libavcodec, perhaps.
    #[error("the other node codes the stream anew, and here it does not decode: {0}")]
    Misfit(#[from] Misfit),
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
    /// The picture, and its further encodings by their ids.
    subjects: [Subject; SUBJECTS],
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
            subjects: Default::default(),
            reports: Vec::new(),
        }
    }

    /// A new publisher, under the stream's policy of now: nothing of the last one decides about its pictures.
    pub fn restart(&mut self, policy: MarkPolicy) {
        self.policy = policy;
        self.subjects = Default::default();
        if let Some(normalising) = &mut self.normalising {
            normalising.restart();
        }
    }

    /// The same for another connection of the publisher, under the policy of before.
    pub fn again(&mut self) {
        self.restart(self.policy);
    }

    /// The whole state, but for the health of this node's workers; `None` where a normaliser stands in the middle of what only
    /// its worker knows.
    pub fn save(&self) -> Option<Saved> {
        let normaliser = match &self.normalising {
            Some(normalising) => Some(normalising.save()?),
            None => None,
        };
        let subjects = self.subjects.each_ref().map(Subject::save);
        Some(Saved { policy: self.policy, subjects, normaliser })
    }

    /// Whether `apply` of this unit gives it before anything that comes later, marked perhaps: no normaliser holds it or codes it.
    pub fn passes(&self, unit: &Unit) -> bool {
        self.policy == MarkPolicy::Off || self.normalising.as_ref().is_none_or(|one| one.passes(unit))
    }

    /// Whether a normaliser codes the stream.
    pub fn is_coded_anew(&self) -> bool {
        self.normalising.as_ref().is_some_and(Normalising::is_coding)
    }

    /// Goes on where another node's was saved.
    ///
    /// # Errors
    /// When this node cannot make the same of the stream.
    pub fn restore(&mut self, saved: Saved) -> Result<(), RestoreError> {
        self.restart(saved.policy);
        self.subjects = saved.subjects.map(Subject::restore);
        match (&mut self.normalising, saved.normaliser) {
            (None, None) => Ok(()),
            (Some(normalising), Some(saved)) => Ok(normalising.restore(saved)?),
            _ => Err(RestoreError::NotAlike),
        }
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
        if self.policy != MarkPolicy::Off
            && let Unit::EncodingConfig(..) | Unit::Encoding(..) = unit
        {
            return Ok(self.further(unit, run, voice).await);
        }
        let units = match &mut self.normalising {
            Some(normalising) if self.policy != MarkPolicy::Off => normalising.apply(unit, voice).await?,
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
                let (config, misfit) = self.subjects[0].configured(config, self.marks());
                misfit.map_or(Ok(()), |misfit| self.misfit(misfit))?;
                out.push(Unit::VideoConfig(config));
            }
            Unit::Video(picture) => out.extend(self.picture(picture, run, voice).await?),
            other => out.push(other),
        }
        Ok(())
    }

    fn marks(&self) -> bool {
        self.policy != MarkPolicy::Off
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
        if let Some(misfit) = self.subjects[0].misfit(&bytes) {
            self.misfit(misfit)?;
        }
        let marks = self.marks();
        if picture.idr
            && let Some((config, misfit)) = self.subjects[0].again(marks)
        {
            misfit.map_or(Ok(()), |misfit| self.misfit(misfit))?;
            out.push(Unit::VideoConfig(config));
        }
        let previous_gop_bytes = self.subjects[0].saw(picture.idr, bytes.len());
        if !picture.idr {
            out.push(Unit::Video(picture));
            return Ok(out);
        }
        let mut record = self.unmarked(run, picture.dts_90k);
        let mut marked = None;
        if marks {
            match self.mark(0, bytes, &record, previous_gop_bytes).await {
                Ok(done) => {
                    record = self.marked(record, &done);
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
        if marks {
            (record, marked) = self.decided(voice, Track::Video, record, marked).await;
        }
        if let Some(pieces) = marked {
            picture.pieces = pieces;
        }
        picture.gop = Some(record);
        out.push(Unit::Video(picture));
        Ok(out)
    }

    /// The record of a GOP that begins here, before anything is marked.
    fn unmarked(&self, run: RunId, start_90k: i64) -> Gop {
        Gop {
            id: GopId::derive(self.stream.as_str(), &run.0, start_90k),
            start_90k,
            marking: Outcome::Unmarked,
            slices: 0,
            pattern_key: 0,
            code_key: 0,
            bias_key: 0,
        }
    }

    /// The same of one that is.
    fn marked(&self, gop: Gop, marked: &Marked) -> Gop {
        Gop {
            marking: Outcome::Marked,
            slices: marked.slices,
            pattern_key: self.keys.pattern.version,
            code_key: self.keys.code_version,
            bias_key: self.keys.bias_version,
            ..gop
        }
    }

    /// What counts of a GOP, given what this node made of it.
    async fn decided(
        &mut self,
        voice: &mut Voice,
        track: Track,
        ours: Gop,
        pieces: Option<Vec<Piece>>,
    ) -> (Gop, Option<Vec<Piece>>) {
        let (gop, pieces, lacks) = voice.decide(track, ours, pieces).await;
        if lacks {
            let text = "the holder marked a GOP and this node neither could nor was given it: they differ";
            self.reports.push(("slices-missing", text.to_owned()));
        }
        (gop, pieces)
    }

    /// Has one IDR of a subject marked, or says why not.
    async fn mark(
        &mut self,
        at: usize,
        bytes: Bytes,
        gop: &Gop,
        previous_gop_bytes: u64,
    ) -> Result<Marked, String> {
        let seed = PatternSeed::derive(&self.keys.pattern, gop.id);
        let job = self.subjects[at].job(bytes, seed, gop.start_90k, previous_gop_bytes)?;
        let started = Instant::now();
        let result = self.pool.mark(job).await;
        self.metrics.mark_restarts.set(i64::try_from(self.pool.counts().restarts).unwrap_or(i64::MAX));
        self.subjects[at].ended(matches!(result, Err(PoolError::Worker(_))));
        let marked = result.map_err(|error| error.to_string())?;
        self.metrics.mark_seconds.observe(started.elapsed().as_secs_f64());
        if at == 0 {
            let of = OfStream { stream: self.stream.to_string() };
            self.metrics.mark_qp.get_or_create(&of).set(i64::from(marked.qp));
        }
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
