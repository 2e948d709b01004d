//! The finding: verdict, evidence and everything needed to work it out again.
//!
//! In: observations with the key versions they stand under, keys, a register. Out: a `Finding`. Pure, but for the scoring's
//! threads. `verify` does the arithmetic again from a finding and opened keys alone.

use crate::archive::segment::gop_hex;
use crate::codeword::{Codebook, WatermarkId};
use crate::keybook::{KINDS, KeyBook, NoKey, commitment};
use crate::position::{GopId, Position, WHOLE};
use crate::score::verdict::LOG10_FP_MAX;
use crate::score::{Basis, Evidence, EvidenceError, Observation, Report, Roll, Tried, Verdict, judge_roll};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Says which layout a finding has, and by which prices it was made (2: half for the decoder of one viewer).
pub const FORMAT: &str = "releve trace 2";
/// A copy that is shorter than this, in seconds, and found nowhere, may still be ours.
const PLACED_S: f64 = 10.0;
/// Between viewers who share an id.
const NAMES: &str = " or ";
/// How far two workings-out may differ: the printed figures have this many digits less one.
const SAME_LOG10: f64 = 1e-6;

/// Viewers by name, with the id their codeword is drawn by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// The rows; a viewer may have several ids.
    pub rows: Vec<(String, WatermarkId)>,
}

impl Register {
    /// Reads a text: a viewer a line, or `VIEWER<TAB>WATERMARK ID` with 16 hex digits.
    ///
    /// # Errors
    /// The number, from 1, of the first line whose id is none.
    pub fn parse(text: &str) -> Result<Register, usize> {
        let row = |(index, line): (usize, &str)| match line.split_once('\t') {
            None => Ok((line.to_owned(), WatermarkId::of_viewer(line))),
            Some((viewer, id)) => match u64::from_str_radix(id, 16) {
                Ok(number) if id.len() == 16 => Ok((viewer.to_owned(), WatermarkId(number))),
                _ => Err(index + 1),
            },
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
        Ok(Register { rows: lines.map(row).collect::<Result<_, _>>()? })
    }

    fn names(&self, id: WatermarkId) -> Vec<&str> {
        self.rows.iter().filter(|(_, other)| *other == id).map(|(viewer, _)| viewer.as_str()).collect()
    }
}

/// One soft symbol, where it is from, and the keys it stands under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// The stream.
    pub stream: String,
    /// Number of the segment that its GOP begins in.
    pub segment: u64,
    /// The GOP.
    #[serde(with = "gop_hex")]
    pub gop: GopId,
    /// The slice.
    pub slice: u16,
    /// When the GOP begins in the copy, in seconds.
    pub at_s: f64,
    /// Fraction of A less one half, shrunk by what was done to the copy.
    pub soft: f64,
    /// Its variance, by the reader's estimate.
    pub variance: f64,
    /// Version of the code key.
    pub code_key: u32,
    /// Version of the bias key.
    pub bias_key: u32,
}

/// A viewer who is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// The account.
    pub viewer: String,
    /// log10 of the probability that all of this names anybody innocent; everything tried is paid for.
    pub log10_fp: f64,
    /// log10 of the probability that one given innocent viewer scores this in one test.
    pub log10_p: f64,
    /// What the codeword is drawn by, 16 hex digits.
    pub watermark_id: String,
    /// `alone`, `beside` those named before, or `pair`.
    pub basis: String,
    /// The model of collusion that showed it; no finding about how they did it.
    pub decoder: String,
}

/// What the price was worked out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// Viewers in the register.
    pub viewers: u64,
    /// Readings scored: one for each pair of key versions in the copy, another where whole segments were read too, and one for
    /// each version that an edge may have chosen by.
    pub readings: u64,
    /// Which look at this copy.
    pub look: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `identified`, `insufficient` or `not-ours`.
    pub verdict: String,
    /// Who, the surest first.
    pub viewers: Vec<Named>,
    /// Length of the copy.
    pub seconds: f64,
    /// Positions read.
    pub symbols: usize,
    /// About so much more would be enough; null when that is not known.
    pub needed_seconds: Option<f64>,
    /// One sentence why.
    pub reason: String,
    /// `FORMAT`.
    pub format: String,
    /// What was tried.
    pub paid: Paid,
    /// Of each key that codewords were drawn by: kind, version, commitment.
    pub keys: Vec<(String, u32, String)>,
    /// Name and SHA-256 of what was read: the clip, the register.
    pub inputs: Vec<(String, String)>,
    /// Where the copy's parts are from, in words.
    pub places: Vec<String>,
    /// Each symbol.
    pub evidence: Vec<Read>,
}

/// Why there is no finding.
#[derive(Debug, Error)]
pub enum FindError {
    /// A key that a GOP record names is missing.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The readings are not evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A finding that is not what its own numbers give.
    #[error("the report does not hold: {0}")]
    Differs(String),
}

/// A register and keys, made ready for judging a copy again and again: codewords are drawn once.
pub struct Suspects<'a> {
    register: &'a Register,
    keys: &'a KeyBook,
    ids: Vec<WatermarkId>,
    /// By the versions of code and bias key.
    rolls: BTreeMap<(u32, u32), Roll>,
    threads: usize,
}

impl<'a> Suspects<'a> {
    /// Everybody in the register; `threads` share the scoring, which does not depend on them.
    pub fn new(register: &'a Register, keys: &'a KeyBook, threads: usize) -> Suspects<'a> {
        let ids: BTreeSet<WatermarkId> = register.rows.iter().map(|(_, id)| *id).collect();
        Suspects { register, keys, ids: ids.into_iter().collect(), rolls: BTreeMap::new(), threads }
    }

    /// How many viewers are in the register.
    pub fn viewers(&self) -> u64 {
        self.register.rows.len() as u64
    }
}

/// Scores the register. `seconds` is the copy's length, `look` which look at it this is, counted from 1, `places` says where
/// its parts were found.
///
/// # Errors
/// When a key is missing or the readings cannot be.
pub fn find(
    reads: Vec<Read>,
    seconds: f64,
    look: u32,
    places: Vec<String>,
    suspects: &mut Suspects<'_>,
) -> Result<Finding, FindError> {
    let groups = groups(&reads);
    let paid = Paid { viewers: suspects.ids.len() as u64, readings: groups.len().max(1) as u64, look };
    let mut reports = Vec::new();
    let mut named_keys = Vec::new();
    for (&(code, bias, _), of_group) in &groups {
        let pair = suspects.keys.keys(code, bias)?;
        for (kind, key) in KINDS.iter().zip([pair.0, pair.1]) {
            named_keys.push(((*kind).to_owned(), key.version, commitment(kind, key)));
        }
        let roll = suspects.rolls.entry((code, bias));
        let roll = roll.or_insert_with(|| Roll::new(&Codebook::new(pair.0, pair.1), &suspects.ids));
        reports.push(judged(of_group, seconds, roll, paid, suspects.threads)?);
    }
    named_keys.sort();
    named_keys.dedup();
    let mut viewers = named(&reports);
    viewers.iter_mut().for_each(|named| {
        let id = u64::from_str_radix(&named.watermark_id, 16).map(WatermarkId);
        named.viewer = id.map(|id| suspects.register.names(id).join(NAMES)).unwrap_or_default();
    });
    let needed = |report: &Report| match report.verdict {
        Verdict::Insufficient { needed_s } => needed_s,
        _ => None,
    };
    let absent = reports.iter().all(|report| report.verdict == Verdict::NotOurs);
    let (verdict, reason) = if !viewers.is_empty() {
        ("identified", "the copy carries these viewers' symbols")
    } else if !reports.is_empty() && absent {
        ("not-ours", "the copy shows archived pictures, but no mark of this code in them")
    } else if reports.is_empty() && places.is_empty() && seconds >= PLACED_S {
        ("not-ours", "no part of the copy was found in the archive")
    } else if reports.is_empty() {
        ("insufficient", "no symbol could be read")
    } else {
        ("insufficient", "what could be read fits too many viewers, or nobody registered")
    };
    let needed_seconds = if verdict == "insufficient" {
        reports.iter().filter_map(needed).min_by(f64::total_cmp)
    } else {
        None
    };
    Ok(Finding {
        verdict: verdict.to_owned(),
        viewers,
        seconds,
        symbols: reports.iter().map(|report| report.positions).sum(),
        needed_seconds,
        reason: reason.to_owned(),
        format: FORMAT.to_owned(),
        paid,
        keys: named_keys,
        inputs: Vec::new(),
        places,
        evidence: reads,
    })
}

/// Works a finding out again from its own readings and opened keys: each named viewer is scored alone, at the price that the
/// register's size, which the finding states, asks. A name and its id belong together by the id's own derivation, or, where
/// an operator gave ids of another kind, by the register.
///
/// # Errors
/// Says what does not hold; a key that is not the committed one too.
pub fn verify(
    finding: &Finding,
    keys: &KeyBook,
    register: Option<&Register>,
) -> Result<Vec<String>, FindError> {
    let differs = |why: String| Err(FindError::Differs(why));
    if finding.format != FORMAT {
        return differs(format!("it is of format `{}`, this program reads `{FORMAT}`", finding.format));
    }
    let mut said = Vec::new();
    let groups = groups(&finding.evidence);
    if finding.paid.readings < groups.len() as u64 || finding.paid.viewers < finding.viewers.len() as u64 {
        return differs("more was tried than it says".to_owned());
    }
    let astray =
        |read: &&Read| read.way() == Way::Chosen && read.position() != Position::chosen(read.segment);
    if let Some(read) = finding.evidence.iter().find(astray) {
        return differs(format!(
            "segment {} does not stand at the bit of the pattern that it is read at",
            read.segment
        ));
    }
    let mut committed = finding.keys.clone();
    for &(code, bias, _) in groups.keys() {
        let pair = keys.keys(code, bias)?;
        for (kind, key) in KINDS.iter().zip([pair.0, pair.1]) {
            let own = ((*kind).to_owned(), key.version, commitment(kind, key));
            if !finding.keys.contains(&own) {
                return differs(format!("{kind} key {} is not the one that was committed to", key.version));
            }
            committed.retain(|other| *other != own);
            said.push(format!("{kind} key {} opens commitment {}", key.version, own.2));
        }
    }
    if let Some((kind, version, _)) = committed.first() {
        return differs(format!("{kind} key {version} is named but nothing stands under it"));
    }
    let ids: Result<Vec<_>, _> = finding
        .viewers
        .iter()
        .map(|named| u64::from_str_radix(&named.watermark_id, 16).map(WatermarkId))
        .collect();
    let Ok(ids) = ids else { return differs("a watermark id is none".to_owned()) };
    for (named, &id) in finding.viewers.iter().zip(&ids) {
        let registered = register.is_some_and(|register| register.names(id).join(NAMES) == named.viewer);
        if WatermarkId::of_viewer(&named.viewer) != id && !registered {
            return differs(format!(
                "id {} is not known to be {}'s; pass the register",
                named.watermark_id, named.viewer
            ));
        }
    }
    let mut reports = Vec::new();
    for ((code, bias, _), of_group) in &groups {
        let mut roll = Roll::new(&keys.codebook(*code, *bias)?, &ids);
        reports.push(judged(of_group, finding.seconds, &mut roll, finding.paid, 1)?);
    }
    let again = named(&reports);
    for named in &finding.viewers {
        let same = again.iter().find(|other| other.watermark_id == named.watermark_id);
        match same {
            Some(other) if (other.log10_fp - named.log10_fp).abs() <= SAME_LOG10 => {
                said.push(format!("{}: log10_fp {:.3}, as reported", named.viewer, other.log10_fp));
            }
            Some(other) => {
                let (theirs, ours) = (named.log10_fp, other.log10_fp);
                return differs(format!("{}: log10_fp is {ours:.3}, not {theirs:.3}", named.viewer));
            }
            None => return differs(format!("the readings do not name {}", named.viewer)),
        }
    }
    let identified = finding.verdict == "identified";
    if identified == finding.viewers.is_empty() || finding.viewers.iter().any(|v| v.log10_fp > LOG10_FP_MAX) {
        return differs(format!("verdict `{}` with {} viewers", finding.verdict, finding.viewers.len()));
    }
    Ok(said)
}

/// To millionths: a number whose decimal text is read back as exactly itself.
pub fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// By the versions of code and bias key, and how the copy is read.
type Groups<'a> = BTreeMap<(u32, u32, Way), Vec<&'a Read>>;

/// Whose choice the symbols of a copy are taken to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// A relay's, slice by slice.
    Slices,
    /// A viewer's playlist's, segment by segment.
    Whole,
    /// An edge's, by a pattern.
    Chosen,
}

impl Read {
    fn position(&self) -> Position {
        Position { gop: self.gop, slice: self.slice }
    }

    fn way(&self) -> Way {
        match self.slice {
            _ if self.position().is_of_pattern() => Way::Chosen,
            WHOLE => Way::Whole,
            _ => Way::Slices,
        }
    }
}

/// What is scored together. A symbol of a whole segment is made of those of its slices: all stand for what the copy shows,
/// and are ways to read it, each paid for.
fn groups(reads: &[Read]) -> Groups<'_> {
    let mut groups = Groups::new();
    for read in reads {
        groups.entry((read.code_key, read.bias_key, read.way())).or_default().push(read);
    }
    groups
}

fn judged(
    reads: &[&Read],
    seconds: f64,
    roll: &mut Roll,
    paid: Paid,
    threads: usize,
) -> Result<Report, FindError> {
    let seen = |read: &&Read| Observation {
        position: read.position(),
        soft: read.soft,
        variance: read.variance,
        at_s: read.at_s,
    };
    let evidence = Evidence::new(reads.iter().map(seen), seconds)?;
    let tried = Tried { viewers: paid.viewers, alignments: paid.readings, look: paid.look };
    Ok(judge_roll(roll, &evidence, tried, threads))
}

/// Everybody named in any part, each at the surest.
fn named(reports: &[Report]) -> Vec<Named> {
    let mut best = BTreeMap::<WatermarkId, Named>::new();
    for report in reports {
        let Verdict::Identified { viewers } = &report.verdict else { continue };
        for accused in viewers {
            let named = Named {
                viewer: String::new(),
                log10_fp: accused.log10_fp,
                log10_p: accused.log10_p,
                watermark_id: format!("{:016x}", accused.id.0),
                basis: match accused.basis {
                    Basis::Alone => "alone",
                    Basis::Beside => "beside",
                    Basis::Pair => "pair",
                }
                .to_owned(),
                decoder: format!("{:?}", accused.decoder),
            };
            match best.get(&accused.id) {
                Some(before) if before.log10_fp <= named.log10_fp => {}
                _ => drop(best.insert(accused.id, named)),
            }
        }
    }
    let mut viewers: Vec<Named> = best.into_values().collect();
    viewers.sort_by(|x, y| x.log10_fp.total_cmp(&y.log10_fp));
    viewers
}
