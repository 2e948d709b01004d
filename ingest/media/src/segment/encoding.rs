//! Further encodings of the picture: their configurations, and their pictures until a part takes them.
//!
//! In: configurations and pictures. Out: which encodings a segment has, and the pictures of its parts. Pure.
//!
//! An encoding is cut where the picture is and never cuts anything. Players switch at the beginning of a segment, so it is in a
//! segment only if it begins there as the picture does: with an IDR picture of the same decode time, marked if that one is, or,
//! where a segment begins with no IDR picture, as a piece of what went before. Which it is, is known once the first part ends.
//! Otherwise it is left out of that segment, and reported.

use super::lane::{Lane, Prepared};
use super::open::{OpenPart, Picture, begins_marked, pieces};
use super::report::{DropCause, Output, Report};
use super::{HOLE_90K, PART_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_SAMPLES_MAX, TICKS_MAX, UNIT_BYTES_MAX};
use crate::container::cmaf::Sample;
use crate::container::pieces::Pieces;
use crate::unit::{AccessUnit, VideoConfig};
use ingest_api::object::PAIRS_MAX;
use ingest_api::track::ENCODINGS_MAX;
use ingest_api::window::{Gop, TICKS_PER_SECOND};
use ingest_api::{Encoding, Track};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A picture that no part has taken yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    picture: Picture,
    /// Of which configuration.
    generation: u64,
    /// The GOP that begins with it, where it is marked.
    gop: Option<Gop>,
    payload: Pieces,
}

/// One further encoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Beside {
    config: Option<Prepared<VideoConfig>>,
    /// Counts configurations.
    generation: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Decode time of the last picture that was taken in, and its distance to the one before.
    last_90k: Option<i64>,
    step_90k: i64,
    /// What refers to earlier pictures has them.
    has_idr: bool,
}

/// All that there may be, by their places in `Encoding::ALL`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Encodings([Beside; ENCODINGS_MAX]);

/// One of them in a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EncodingLane {
    pub(super) encoding: Encoding,
    pub(super) lane: Lane<VideoConfig>,
    /// Which pictures are this segment's.
    generation: u64,
    /// Its marked GOPs that start in the segment.
    pub(super) gops: Vec<Gop>,
    /// Nothing more of it fits into the segment.
    ended: bool,
}

impl Encodings {
    fn of_mut(&mut self, encoding: Encoding) -> &mut Beside {
        &mut self.0[encoding.index()]
    }

    /// Whether this is the configuration already.
    pub(super) fn has(&self, encoding: Encoding, config: &VideoConfig) -> bool {
        self.0[encoding.index()].config.as_ref().is_some_and(|now| *now.config == *config)
    }

    /// Another configuration, or none that goes on.
    pub(super) fn configure(&mut self, encoding: Encoding, config: Option<Prepared<VideoConfig>>) {
        let beside = self.of_mut(encoding);
        beside.config = config;
        beside.generation += 1;
        beside.has_idr = false;
    }

    /// Takes a picture in. `part_90k` is where the open part starts: what lies before it is late.
    pub(super) fn push(
        &mut self,
        encoding: Encoding,
        unit: AccessUnit,
        (number, part_90k): (u64, Option<i64>),
        out: &mut Vec<Output>,
    ) {
        let beside = self.of_mut(encoding);
        let (dts_90k, len) = (unit.dts_90k, unit.len());
        let late = part_90k.is_some_and(|start| dts_90k < start)
            || beside.last_90k.is_some_and(|last| dts_90k <= last);
        let full = beside.waiting.len() >= SEGMENT_SAMPLES_MAX || beside.bytes + len > PART_BYTES_MAX;
        let refused = if beside.config.is_none() {
            Some(DropCause::NoConfig)
        } else if !(0..=TICKS_MAX).contains(&dts_90k) {
            Some(DropCause::Time)
        } else if len == 0 || len > UNIT_BYTES_MAX {
            Some(DropCause::Size)
        } else if !unit.idr && !beside.has_idr {
            Some(DropCause::WaitsForIdr)
        } else if late {
            Some(DropCause::Late)
        } else if full {
            beside.forget();
            Some(DropCause::Queue)
        } else {
            None
        };
        if let Some(why) = refused {
            beside.has_idr = false;
            let track = Track::Encoding(encoding);
            return out.push(Output::Report(Report::Dropped { track, time_90k: dts_90k, why }));
        }
        if let Some(last) = beside.last_90k {
            let step = dts_90k - last;
            beside.step_90k = if step <= TICKS_PER_SECOND { step } else { beside.step_90k };
        }
        (beside.last_90k, beside.has_idr) = (Some(dts_90k), true);
        let (composition_90k, idr, marked) = (unit.composition_90k, unit.idr, begins_marked(&unit));
        let gop = unit.gop.clone().filter(|_| marked);
        let mut payload = Pieces::default();
        pieces(unit, number, &mut payload, out);
        let size = payload.len() as u32; // at most UNIT_BYTES_MAX
        beside.bytes += payload.len();
        let picture = Picture { dts_90k, composition_90k, size, idr, marked };
        beside.waiting.push_back(Waiting { picture, generation: beside.generation, gop, payload });
    }

    /// The encodings of a segment whose first picture is this, where it has one. `had` says whether the segment before had one
    /// with this init section.
    pub(super) fn choose(
        &mut self,
        number: u64,
        first: Option<Picture>,
        had: impl Fn(Encoding, &str) -> bool,
        out: &mut Vec<Output>,
    ) -> Vec<EncodingLane> {
        let mut lanes = Vec::new();
        for encoding in Encoding::ALL {
            let beside = self.of_mut(encoding);
            let Some(prepared) = beside.config.clone() else { continue };
            let begins = match first.filter(|first| first.idr) {
                Some(first) => {
                    while beside.waiting.front().is_some_and(|next| next.picture.dts_90k < first.dts_90k) {
                        beside.take();
                    }
                    beside.waiting.front().is_some_and(|next| {
                        let Waiting { picture, generation, .. } = next;
                        // Beside marked pictures an unmarked one would be a way around them.
                        let alike = (picture.dts_90k, picture.marked) == (first.dts_90k, first.marked);
                        picture.idr && alike && *generation == beside.generation
                    })
                }
                None => had(encoding, &prepared.name),
            };
            if begins {
                let generation = beside.generation;
                let (lane, gops) = (Lane::new(prepared), Vec::new());
                lanes.push(EncodingLane { encoding, lane, generation, gops, ended: false });
            } else {
                let track = Track::Encoding(encoding);
                out.push(Output::Report(Report::NotAligned { track, number }));
            }
        }
        lanes
    }

    /// Drops what a part that ends here would have had of those that are not in its segment.
    pub(super) fn drop_before(&mut self, end_90k: i64, lanes: &[EncodingLane]) {
        for encoding in Encoding::ALL {
            if lanes.iter().all(|lane| lane.encoding != encoding) {
                let beside = self.of_mut(encoding);
                while beside.waiting.front().is_some_and(|next| next.picture.dts_90k < end_90k) {
                    beside.take();
                }
            }
        }
    }

    /// The publisher left, and took its configurations along.
    pub(super) fn publisher_left(&mut self) {
        for beside in &mut self.0 {
            let generation = beside.generation;
            *beside = Beside { generation, ..Beside::default() };
        }
    }

    /// What `restore` relies on.
    pub(super) fn is_sane(&self) -> bool {
        let in_range = |tick: i64| (0..=TICKS_MAX).contains(&tick);
        self.0.iter().all(|beside| {
            let pictures = beside.waiting.iter().map(|waiting| waiting.picture.dts_90k);
            let bytes: usize = beside.waiting.iter().map(|waiting| waiting.payload.len()).sum();
            bytes == beside.bytes
                && beside.generation < u64::MAX >> 1
                && (0..=TICKS_PER_SECOND).contains(&beside.step_90k)
                && beside.last_90k.is_none_or(in_range)
                && pictures.clone().all(in_range)
                && pictures.is_sorted_by(|a, b| a < b)
                && beside.waiting.back().map(|last| last.picture.dts_90k) <= beside.last_90k
                && beside.waiting.len() <= SEGMENT_SAMPLES_MAX
                && beside.waiting.iter().all(|waiting| {
                    waiting.payload.is_sane() && waiting.payload.len() == waiting.picture.size as usize
                })
        })
    }
}

impl Beside {
    fn take(&mut self) -> Option<Waiting> {
        let taken = self.waiting.pop_front()?;
        self.bytes -= taken.payload.len();
        Some(taken)
    }

    fn forget(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }

    /// The pictures of a part that ends here.
    fn part(&mut self, lane: &mut EncodingLane, end_90k: i64, out: &mut Vec<Output>) -> OpenPart {
        let mut part = OpenPart::default();
        while self.waiting.front().is_some_and(|next| next.picture.dts_90k < end_90k) {
            let Some(Waiting { picture, generation, gop, payload }) = self.take() else { break };
            let of = &lane.lane;
            let large = of.pieces.len() + part.video.len() + payload.len() > SEGMENT_BYTES_MAX
                || of.pieces.pairs() + part.video.pairs() + payload.pairs() > PAIRS_MAX
                || of.samples + part.pictures.len() >= SEGMENT_SAMPLES_MAX;
            // One code key an object.
            let keys = [&of.pieces, &part.video, &payload].map(Pieces::code_key);
            let key = keys.into_iter().find(|key| *key != 0).unwrap_or(0);
            lane.ended |= keys.into_iter().any(|other| other != 0 && other != key);
            let why = match generation == lane.generation && !lane.ended {
                true if large => DropCause::Size,
                true => {
                    part.video.append(&payload);
                    part.pictures.push(picture);
                    lane.gops.extend(gop);
                    continue;
                }
                false => DropCause::OtherConfig,
            };
            let track = Track::Encoding(lane.encoding);
            out.push(Output::Report(Report::Dropped { track, time_90k: picture.dts_90k, why }));
        }
        part
    }

    /// Where the last picture of such a part ends: where the next one begins, if that is known; else with the part, but for an
    /// encoding of fewer pictures a second, of which the next one comes later.
    fn end_90k(&self, part: &OpenPart, end_90k: i64) -> i64 {
        let Some(last) = part.pictures.last() else { return end_90k };
        let next = self.waiting.front().map(|next| next.picture.dts_90k);
        if let Some(next) = next.filter(|next| next - last.dts_90k <= HOLE_90K) {
            return next;
        }
        let usual = last.dts_90k + self.step_90k;
        if usual > end_90k + self.step_90k / 4 { usual } else { end_90k }
    }
}

impl EncodingLane {
    /// Takes the pictures of a part that ends here: its samples and their bytes.
    pub(super) fn take(
        &mut self,
        encodings: &mut Encodings,
        end_90k: i64,
        out: &mut Vec<Output>,
    ) -> (OpenPart, Vec<Sample>) {
        let beside = encodings.of_mut(self.encoding);
        let part = beside.part(self, end_90k, out);
        let samples = part.picture_samples(beside.end_90k(&part, end_90k));
        (part, samples)
    }
}
