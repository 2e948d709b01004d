//! Marks one IDR: decode, pattern, code as A and B, splice, level.
//!
//! In: a `Job`, which is plain bytes and numbers. Out: `Coded` slices (made where the codec may run) and then `Marked`
//! pieces (put together where the stream's bytes are trusted to be the stream's). The same job gives the same bytes on
//! every machine: integers only, a fresh codec for each picture, and two hands (`hand`) that know nothing of each other.

use crate::bands::{self, Bands, Maker, Source};
use crate::h264::nal::{self, Units, kind};
use crate::h264::{IdrHeader, Pps};
use crate::hand::Hand;
use crate::host::{Host, HostError};
use crate::pad::TooLong;
use crate::plan::{Misfit, Plan};
use crate::rate;
use crate::splice::{self, SpliceError};
use bytes::Bytes;
use codec::{DecodeError, Decoder, EncodeError, PictureError};
use media::unit::Piece;
use releve_watermark::embed::{EmbedError, PatternSeed};
use thiserror::Error;

/// One IDR to mark, with everything that decides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The publisher's configuration record.
    pub avcc: Bytes,
    /// Id of our own PPS (`Plan::own_pps_id`).
    pub own_pps_id: u32,
    /// Slices to make (`Plan::slices`).
    pub slices: u16,
    /// The IDR access unit, length-prefixed, as it came in.
    pub access_unit: Bytes,
    /// What the pattern is drawn from; derived outside, so the worker never holds the pattern key.
    pub seed: PatternSeed,
    /// Bytes of all access units of the GOP before, as they came in; 0 for the first GOP of a run.
    pub previous_gop_bytes: u64,
    /// Strength of the pattern in 1/100 luma levels.
    pub strength: u16,
}

/// The slices of a marked IDR, not yet between the bytes they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// A and B of each slice from the top: length-prefixed, equally long, filler included.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// The QP they were coded with.
    pub qp: u8,
    /// Times A was coded until it was small enough: 1 to 4.
    pub attempts: u8,
}

/// A marked IDR access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its bytes, in order: common ones as they came in, and a pair for each slice.
    pub pieces: Vec<Piece>,
    /// How many pairs there are.
    pub slices: u16,
    /// The QP they were coded with.
    pub qp: u8,
    /// Times A was coded until it was small enough: 1 to 4.
    pub attempts: u8,
}

/// Why an IDR was not marked; it then goes out as it came, for every viewer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MarkError {
    /// The stream cannot be marked.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// This picture cannot be marked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It could not be coded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Planes that do not match.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The pattern does not fit.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The encoder gave something else than asked for.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// The stream's length prefixes are too short.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The system gives no second thread.
    #[error("no thread to code with: {0}")]
    Thread(String),
    /// The slices are not what a worker may give.
    #[error("slice {slice} of the marked picture: {what}")]
    Untrue {
        /// Counted from the top, from 0.
        slice: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl Plan {
    /// The job of marking one IDR of this plan's stream.
    pub fn job(&self, access_unit: Bytes, seed: PatternSeed, previous_gop_bytes: u64, strength: u16) -> Job {
        Job {
            avcc: self.host_avcc().clone(),
            own_pps_id: self.own_pps_id(),
            slices: self.slices(),
            access_unit,
            seed,
            previous_gop_bytes,
            strength,
        }
    }

    /// The plan that made a job.
    ///
    /// # Errors
    /// When none did.
    pub fn of_job(job: &Job) -> Result<Plan, Misfit> {
        let lower: Vec<u32> = (0..job.own_pps_id).collect();
        let plan = Plan::avoiding(&job.avcc, &lower)?.with_slices(job.slices);
        if plan.own_pps_id() == job.own_pps_id { Ok(plan) } else { Err(Misfit::OwnPpsTaken(job.own_pps_id)) }
    }
}

/// Marks an IDR in this process: for tests and benchmarks. Live streams go through `Pool`.
///
/// # Errors
/// Any: the picture then goes out as it came.
pub fn mark(job: &Job) -> Result<Marked, MarkError> {
    let plan = Plan::of_job(job)?;
    let hand = Hand::start().map_err(|error| MarkError::Thread(error.to_string()))?;
    assemble(&plan, &job.access_unit, code(job, &hand)?)
}

/// Decodes, embeds, codes twice and splices: the part that runs in the worker process.
///
/// # Errors
/// Any: the picture then goes out as it came.
pub fn code(job: &Job, hand: &Hand) -> Result<Coded, MarkError> {
    let plan = Plan::of_job(job)?;
    let host = Host::read(&plan, &job.access_unit)?;
    let (config, header) = (plan.intra(), host.header.clone());
    let cap = rate::cap(host.slice_bytes() as u64, job.previous_gop_bytes);
    let (mut qp, mut attempts) = (rate::first_qp(host.qp), 1);
    let decode = || Decoder::new()?.decode(&host.annexb(&plan), config.width, config.height);
    let (picture, makers) = hand.both(decode, move || bands::start(config, qp));
    let source = Source { picture: picture?, plan, header, seed: job.seed.clone(), strength: job.strength };
    let mut bands = Bands::new(hand, source, makers?);

    let mut bytes = bands.each(move |maker, source| maker.code_a(source, qp))?;
    while let Some(coarser) = rate::next_qp(qp, bytes.iter().sum(), cap).filter(|_| attempts <= rate::RETRIES)
    {
        qp = coarser;
        attempts += 1;
        bytes = bands.each(move |maker, source| maker.code_a(source, qp))?;
    }
    let pairs = bands.each(Maker::pairs)?.concat();
    Ok(Coded { pairs, qp, attempts })
}

/// Puts coded slices between the stream's own bytes: the part that runs where the stream is. Believes nothing about the
/// slices: each pair must be one slice of this picture at its place, under our own PPS, with filler behind it at most.
///
/// # Errors
/// When they are not.
pub fn assemble(plan: &Plan, access_unit: &Bytes, coded: Coded) -> Result<Marked, MarkError> {
    let host = Host::read(plan, access_unit)?;
    if coded.pairs.len() != usize::from(plan.slices()) {
        return Err(MarkError::Untrue { slice: coded.pairs.len(), what: "not as many slices as asked for" });
    }
    let own = Pps::parse(plan.own_unit()).map_err(Misfit::from)?;
    let mut pieces = Vec::with_capacity(coded.pairs.len() + host.after.len() + 2);
    push_common(&mut pieces, access_unit.slice(host.before.clone()));
    if host.carries_sets {
        // The stream carries its parameter sets in its pictures: so must ours.
        let mut unit = Vec::new();
        if nal::push_prefixed(&mut unit, plan.own_unit(), plan.length_size()) {
            push_common(&mut pieces, unit.into());
        }
    }
    for (slice, (a, b)) in (0u16..).zip(coded.pairs) {
        let untrue = |what| MarkError::Untrue { slice: slice.into(), what };
        if a.len() != b.len() {
            return Err(untrue("variants of different length"));
        }
        let filled = [&a, &b].map(|variant| check(plan, &host, &own, slice, variant).map_err(untrue));
        let [filled_a, filled_b] = filled;
        if filled_a? != filled_b? {
            return Err(untrue("variants with different NAL units"));
        }
        pieces.push(Piece::Pair { a, b, slice });
    }
    for range in &host.after {
        push_common(&mut pieces, access_unit.slice(range.clone()));
    }
    Ok(Marked { pieces, slices: plan.slices(), qp: coded.qp, attempts: coded.attempts })
}

fn push_common(pieces: &mut Vec<Piece>, bytes: Bytes) {
    if !bytes.is_empty() {
        pieces.push(Piece::Common(bytes));
    }
}

/// Whether a variant is a slice of this picture, and whether filler follows it.
fn check(plan: &Plan, host: &Host<'_>, own: &Pps, slice: u16, variant: &[u8]) -> Result<bool, &'static str> {
    let mut units = Units::new(variant, plan.length_size());
    let mut next =
        || units.next().transpose().map(|unit| unit.map(|(_, unit)| unit)).map_err(|_| "damaged lengths");
    let unit = next()?.ok_or("nothing in it")?;
    let header =
        IdrHeader::parse(unit, plan.sps(), own).map_err(|_| "not a slice of an IDR under our PPS")?;
    if (header.picture, header.nal_header) != (host.header.picture, host.header.nal_header) {
        return Err("a slice of another picture");
    }
    if header.first_mb != splice::first_mb(&plan.intra(), slice) {
        return Err("not at its place");
    }
    let filler = next()?;
    if filler.is_some_and(|unit| nal::kind_of(unit) != kind::FILLER) || next()?.is_some() {
        return Err("more than filler behind it");
    }
    if nal::emulates_start_code(unit) || filler.is_some_and(nal::emulates_start_code) {
        return Err("a start code inside");
    }
    Ok(filler.is_some())
}
