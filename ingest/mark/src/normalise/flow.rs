//! Which pictures are coded anew, and when they are decoded: the parent's side, without I/O.
//!
//! In: units of one publisher in order, and what came of each step. Out: units to pass on and steps to have done, in order.
//! Pure. Whoever drives it does every step, in order, and gives back what came of it before the next `push`.
//!
//! **What fits** is known when the second IDR picture comes, or does not come. Until then everything is held: it goes out
//! at once then, and a segment needs that long anyway. A stream that fitted and then does not is coded from its next IDR
//! picture on; that changes its configuration, once. A stream that is coded stays so.
//!
//! **Times.** Presentation times are kept. Our pictures are decoded in the order they are shown, so the n-th has the n-th
//! decode time: of n pictures shown none is shown before the n-th was sent, therefore no picture is shown before it is
//! decoded. Sound is not touched, so picture and sound stay as far apart as they were.
//!
//! **A twin on another node** can begin where there is nothing that a decoder knows alone: before anything is coded, and right
//! behind the first picture of an IDR period (`save`).

mod saved;

pub use saved::Saved;

use super::rate::Rate;
use super::sets::{self, Untrue};
use super::source::Source;
use super::{Coded, Step};
use bytes::Bytes;
use media::config::ConfigError;
use media::unit::{AccessUnit, Piece, Unit, VideoConfig};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;

/// The longest GOP that fits, in ticks: 2 s and what rounding does to it.
pub const GOP_LONGEST_90K: i64 = 220_000;
/// Bytes held until it is known whether a stream fits: 2.4 s at 100 Mb/s.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Units held: 2.4 s of 300 pictures and 200 audio frames a second.
const HELD_UNITS_MAX: usize = 2_048;

/// What is to be done with a unit, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// It goes on as it is.
    Pass(Unit),
    /// The worker has something to do; what comes of it goes to `coded`.
    Code(Step),
}

/// Why a stream cannot be coded on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The worker gave something else than asked for.
    #[error(transparent)]
    Untrue(#[from] Untrue),
    /// A picture that was not asked for.
    #[error("the encoder gave a picture that was not asked for")]
    Unasked,
    /// Our own configuration cannot be read.
    #[error("the normalised stream's configuration: {0}")]
    Config(#[from] ConfigError),
    /// A composition offset that no container can say.
    #[error("a picture is shown too far from its decode time")]
    Far,
}

/// One publisher's stream.
#[derive(Debug)]
pub struct Normaliser {
    gop_90k: u32,
    /// The publisher's stream, where it can be decoded.
    source: Option<Arc<Source>>,
    state: State,
    /// Steps that were given and not yet answered.
    asked: VecDeque<Asked>,
    /// The IDR period that goes on, counted.
    period: u64,
    /// Decode times that no picture has yet, and presentation times that did not come back: each with its period.
    decode_90k: VecDeque<(u64, i64)>,
    shown_90k: Vec<(u64, i64)>,
    /// The last that came back.
    rate: Option<Rate>,
    /// Our configuration that is out.
    avcc: Bytes,
    /// What came behind the first picture, before that came out: sound without a picture would be a stream of its own.
    early: VecDeque<Unit>,
    /// The period's first picture, while it is the only one.
    first: Option<First>,
}

/// How a period begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct First {
    /// What the period before it left.
    rate: Rate,
    pts_90k: i64,
    access_unit: Bytes,
}

#[derive(Debug)]
enum State {
    /// It fits, as far as is known.
    Passing { idr_90k: Option<i64>, long: bool },
    /// Held until it is known whether it fits.
    Watching { held: VecDeque<Unit>, bytes: usize, idr_90k: Option<i64> },
    /// It is coded anew; a period has begun.
    Coding { begun: bool },
}

/// A step that was given.
#[derive(Debug)]
struct Asked {
    source: Arc<Source>,
    /// The period that it ends.
    ends: Option<u64>,
    /// It begins a period.
    begins: bool,
}

impl Normaliser {
    /// For a publisher that has sent nothing yet; GOPs are to last `gop_90k`.
    pub fn new(gop_90k: u32) -> Normaliser {
        Normaliser {
            gop_90k,
            source: None,
            state: State::Passing { idr_90k: None, long: false },
            asked: VecDeque::new(),
            period: 0,
            decode_90k: VecDeque::new(),
            shown_90k: Vec::new(),
            rate: None,
            avcc: Bytes::new(),
            early: VecDeque::new(),
            first: None,
        }
    }

    /// Whether `push` of this unit would ask for room.
    pub fn needs_room(&self, unit: &Unit) -> bool {
        match (&self.state, unit) {
            (State::Watching { idr_90k, .. }, Unit::Video(picture)) => {
                self.never_fits() || is_long(*idr_90k, picture)
            }
            (State::Passing { idr_90k, long }, Unit::Video(picture)) => {
                self.source.is_some() && (*long || is_long(*idr_90k, picture))
            }
            _ => false,
        }
    }

    /// Whether `push` of this unit gives it back at once, as it is.
    pub fn passes(&self, unit: &Unit) -> bool {
        matches!(self.state, State::Passing { .. }) && !self.needs_room(unit)
    }

    /// Whether pictures are coded anew.
    pub fn is_coding(&self) -> bool {
        matches!(self.state, State::Coding { .. })
    }

    /// Takes one unit. Without `room` nothing new is coded: a stream that does not fit passes then, until its next
    /// configuration.
    pub fn push(&mut self, unit: Unit, room: bool) -> Vec<Do> {
        let mut out = Vec::new();
        match (unit, &mut self.state) {
            (Unit::VideoConfig(config), _) => self.config(config, &mut out),
            (unit, State::Watching { .. }) => self.watch(unit, room, &mut out),
            (Unit::Video(picture), State::Passing { idr_90k, long }) if self.source.is_some() => {
                *long |= is_long(*idr_90k, &picture);
                if *long && !room {
                    self.source = None;
                    out.push(Do::Pass(Unit::Video(picture)));
                } else if picture.idr && *long {
                    self.state = State::Coding { begun: false };
                    self.code(picture, 0, &mut out);
                } else {
                    if picture.idr {
                        *idr_90k = Some(picture.dts_90k);
                    }
                    out.push(Do::Pass(Unit::Video(picture)));
                }
            }
            (Unit::Video(picture), State::Coding { .. }) => self.code(picture, 0, &mut out),
            (unit, State::Coding { .. }) => self.pass(unit, &mut out),
            (unit, _) => out.push(Do::Pass(unit)),
        }
        out
    }

    /// The publisher has left: what is held goes out.
    pub fn end(&mut self) -> Vec<Do> {
        let mut out = Vec::new();
        self.settle(&mut out);
        self.source = None;
        self.state = State::Passing { idr_90k: None, long: false };
        self.first = None;
        out
    }

    /// What came of the oldest step.
    ///
    /// # Errors
    /// When it is not what was asked for; nothing more is to be expected of this stream then.
    pub fn coded(&mut self, coded: Coded) -> Result<Vec<Unit>, Fault> {
        let asked = self.asked.pop_front().ok_or(Fault::Unasked)?;
        self.rate = Some(coded.rate);
        if let Some(first) = self.first.as_mut().filter(|_| asked.begins) {
            first.rate = coded.rate;
        }
        let mut out = Vec::new();
        for (pts_90k, annexb) in coded.pictures {
            let (period, dts_90k) = self.decode_90k.pop_front().ok_or(Fault::Unasked)?;
            let shown = self.shown_90k.iter().position(|shown| *shown == (period, pts_90k));
            self.shown_90k.swap_remove(shown.ok_or(Fault::Unasked)?);
            let picture = sets::read(&asked.source, &annexb)?;
            let idr = picture.avcc.is_some();
            if let Some(avcc) = picture.avcc.filter(|avcc| *avcc != self.avcc) {
                out.push(Unit::VideoConfig(Arc::new(VideoConfig::of_avcc(avcc.clone())?)));
                self.avcc = avcc;
            }
            let composition_90k = i32::try_from(pts_90k - dts_90k).map_err(|_| Fault::Far)?;
            let pieces = vec![Piece::Common(picture.access_unit)];
            out.push(Unit::Video(AccessUnit { dts_90k, composition_90k, idr, gop: None, pieces }));
        }
        if !self.avcc.is_empty() {
            out.extend(self.early.drain(..));
        }
        if let Some(ended) = asked.ends {
            // Those of a picture that the decoder swallowed.
            self.decode_90k.retain(|(period, _)| *period > ended);
            self.shown_90k.retain(|(period, _)| *period > ended);
        }
        Ok(out)
    }

    fn config(&mut self, config: Arc<VideoConfig>, out: &mut Vec<Do>) {
        self.settle(out);
        match Source::of(&config) {
            Ok(source) => {
                self.source = Some(Arc::new(source));
                if !self.is_coding() {
                    let held = VecDeque::from([Unit::VideoConfig(config)]);
                    self.state = State::Watching { held, bytes: 0, idr_90k: None };
                }
            }
            // The marker says why; there is nothing here that could decode it either.
            Err(_) => {
                self.source = None;
                self.state = State::Passing { idr_90k: None, long: false };
                out.push(Do::Pass(Unit::VideoConfig(config)));
            }
        }
    }

    /// Ends what is begun: held units pass, a period ends.
    fn settle(&mut self, out: &mut Vec<Do>) {
        match &mut self.state {
            State::Passing { .. } => {}
            State::Watching { held, .. } => out.extend(held.drain(..).map(Do::Pass)),
            State::Coding { begun } => {
                self.first = None;
                if std::mem::take(begun) {
                    self.ask(Step::End, Some(self.period), out);
                }
            }
        }
    }

    /// Whether the stream must be coded anew to be marked, however short its GOPs are.
    pub fn never_fits(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.never_fits())
    }

    fn watch(&mut self, unit: Unit, room: bool, out: &mut Vec<Do>) {
        let never_fits = self.never_fits();
        let State::Watching { held, bytes, idr_90k } = &mut self.state else { return };
        let (mut fits, mut long) = (false, false);
        match &unit {
            Unit::Video(picture) => {
                long = never_fits || is_long(*idr_90k, picture);
                fits = picture.idr && idr_90k.is_some();
                if picture.idr && !long {
                    *idr_90k = Some(picture.dts_90k);
                }
                *bytes += picture.len();
            }
            Unit::Audio(frame) => *bytes += frame.data.len(),
            Unit::Encoding(_, picture) => *bytes += picture.len(),
            Unit::VideoConfig(_) | Unit::AudioConfig(..) | Unit::EncodingConfig(..) => {}
        }
        held.push_back(unit);
        let full = *bytes > HELD_BYTES_MAX || held.len() > HELD_UNITS_MAX;
        if long && room {
            // A stream that is coded at once has shown no more than a picture.
            let held_bytes = if never_fits { 0 } else { *bytes as u64 };
            let gop_bytes = held_bytes.saturating_mul(self.gop_90k.into()) / GOP_LONGEST_90K as u64;
            let held = std::mem::take(held);
            self.state = State::Coding { begun: false };
            for unit in held {
                match unit {
                    Unit::Video(picture) => self.code(picture, gop_bytes, out),
                    // Ours comes with the first picture.
                    Unit::VideoConfig(_) => {}
                    other => self.pass(other, out),
                }
            }
        } else if fits || long || full {
            out.extend(held.drain(..).map(Do::Pass));
            let idr_90k = *idr_90k;
            if long {
                self.source = None;
            }
            self.state = State::Passing { idr_90k, long: false };
        }
    }

    /// Sound beside a stream that is coded. What a decoder holds back bounds how much waits; so does this.
    fn pass(&mut self, unit: Unit, out: &mut Vec<Do>) {
        if self.avcc.is_empty() && self.early.len() < HELD_UNITS_MAX {
            self.early.push_back(unit);
        } else {
            out.push(Do::Pass(unit));
        }
    }

    /// `gop_bytes`: bytes of a GOP's time, 0 where unknown.
    fn code(&mut self, picture: AccessUnit, gop_bytes: u64, out: &mut Vec<Do>) {
        let (State::Coding { begun }, Some(source)) = (&mut self.state, &self.source) else { return };
        // The feed gives pictures in one piece.
        let [Piece::Common(access_unit)] = &picture.pieces[..] else { return };
        let access_unit = access_unit.clone();
        let pts_90k = picture.dts_90k + i64::from(picture.composition_90k);
        if picture.idr && (!*begun || source.is_closed(&access_unit)) {
            let rate = self.rate.unwrap_or_else(|| {
                let qp = source.first_qp(&access_unit);
                // Where nothing was held, the IDR picture is a tenth of a GOP, as for the marker.
                let known = if gop_bytes == 0 { access_unit.len() as u64 * 10 } else { gop_bytes };
                Rate::first(qp, source.worth(known))
            });
            let ends = std::mem::replace(begun, true).then_some(self.period);
            self.period += 1;
            let (coding, record) = (source.coding, source.record.clone());
            self.ask(Step::Begin { coding, record, gop_90k: self.gop_90k, rate }, ends, out);
            let (pts_90k, access_unit) = (pts_90k, access_unit.clone());
            self.first = Some(First { rate, pts_90k, access_unit });
        } else if !*begun {
            return;
        } else {
            self.first = None;
        }
        self.decode_90k.push_back((self.period, picture.dts_90k));
        self.shown_90k.push((self.period, pts_90k));
        self.ask(Step::Picture { pts_90k, access_unit }, None, out);
    }

    fn ask(&mut self, step: Step, ends: Option<u64>, out: &mut Vec<Do>) {
        let Some(source) = self.source.clone() else { return };
        let begins = matches!(step, Step::Begin { .. });
        self.asked.push_back(Asked { source, ends, begins });
        out.push(Do::Code(step));
    }
}

/// Whether the GOP that began there is too long when this picture comes.
fn is_long(idr_90k: Option<i64>, picture: &AccessUnit) -> bool {
    idr_90k.is_some_and(|idr| picture.dts_90k - idr > GOP_LONGEST_90K)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::record;
    use ingest_api::AudioTrack;
    use media::unit::AudioFrame;

    const PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
    const GOP_90K: u32 = 180_000;

    fn config() -> Unit {
        let avcc = record(&[&crate::h264::sps::tests::HIGH_1080], &[&PPS], 4);
        Unit::VideoConfig(Arc::new(VideoConfig::of_avcc(avcc).unwrap()))
    }

    fn picture(number: i64, idr: bool) -> Unit {
        let pieces = vec![Piece::Common(Bytes::from_static(&[0, 0, 0, 1, 0x65]))];
        let dts_90k = number * 3_000;
        Unit::Video(AccessUnit { dts_90k, composition_90k: 6_000, idr, gop: None, pieces })
    }

    fn sound(number: i64) -> Unit {
        Unit::Audio(AudioFrame {
            track: AudioTrack::FIRST,
            time_90k: number * 3_000,
            data: Bytes::from_static(&[1]),
        })
    }

    /// A stream of 30 pictures a second, sound beside each, IDR pictures at these.
    fn stream(pictures: i64, idr: &[i64]) -> Vec<Unit> {
        let both = |number| [picture(number, idr.contains(&number)), sound(number)];
        std::iter::once(config()).chain((0..pictures).flat_map(both)).collect()
    }

    fn passed(todo: &[Do]) -> Vec<Unit> {
        let unit = |one: &Do| match one {
            Do::Pass(unit) => Some(unit.clone()),
            Do::Code(_) => None,
        };
        todo.iter().filter_map(unit).collect()
    }

    /// The steps, shortly: when a period begins, how many pictures it has, whether it is ended.
    fn steps(todo: &[Do]) -> String {
        let mut out = String::new();
        for one in todo {
            match one {
                Do::Pass(_) => {}
                Do::Code(Step::Begin { .. }) => out.push('B'),
                Do::Code(Step::Picture { .. }) => out.push('p'),
                Do::Code(Step::End) => out.push('E'),
            }
        }
        out
    }

    #[test]
    fn what_fits_goes_out_as_it_came_once_that_is_known() {
        let (mut normaliser, units) = (Normaliser::new(GOP_90K), stream(200, &[0, 60, 120, 180]));
        let mut out = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            out.extend(normaliser.push(unit.clone(), true));
            // The configuration and 60 pictures with their sound come first.
            assert_eq!(out.len(), if at < 121 { 0 } else { at + 1 });
        }
        assert_eq!(passed(&out), units);
        assert!(!normaliser.is_coding() && normaliser.end().is_empty());
    }

    #[test]
    fn a_publisher_that_leaves_early_loses_nothing() {
        let (mut normaliser, units) = (Normaliser::new(GOP_90K), stream(20, &[0]));
        let held: Vec<Do> = units.iter().flat_map(|unit| normaliser.push(unit.clone(), true)).collect();
        assert_eq!((held.len(), passed(&normaliser.end())), (0, units));
    }

    #[test]
    fn what_does_not_fit_is_coded_from_its_first_picture_on() {
        let (mut normaliser, units) = (Normaliser::new(GOP_90K), stream(200, &[0, 150]));
        let mut out: Vec<Do> = units.iter().flat_map(|unit| normaliser.push(unit.clone(), true)).collect();
        out.extend(normaliser.end());
        assert_eq!(steps(&out), ["B", &"p".repeat(150), "B", &"p".repeat(50), "E"].concat());
        // Sound waits for the first picture.
        assert_eq!(passed(&out), []);
        let gray = codec::Picture::new(1920, 1088, vec![128; 1920 * 1088 * 3 / 2]).unwrap();
        let idr = codec::GopEncoder::new(1920, 1088, 30).unwrap().encode(&gray, 30, true).unwrap();
        let coded = |pictures| Coded { pictures, rate: Rate::first(20, 1) };
        assert_eq!(normaliser.coded(coded(vec![])), Ok(vec![]));
        let came = normaliser.coded(coded(vec![(6_000, idr.into())])).unwrap();
        assert!(matches!(came[..2], [Unit::VideoConfig(_), Unit::Video(_)]));
        let sounds: Vec<Unit> = units.iter().filter(|unit| matches!(unit, Unit::Audio(_))).cloned().collect();
        assert_eq!(came[2..], sounds);
    }

    #[test]
    fn a_gop_that_becomes_long_is_coded_from_the_next_idr_picture_on() {
        let (mut normaliser, units) = (Normaliser::new(GOP_90K), stream(400, &[0, 60, 120, 250]));
        let out: Vec<Do> = units.iter().flat_map(|unit| normaliser.push(unit.clone(), true)).collect();
        assert_eq!(steps(&out), ["B", &"p".repeat(150)].concat());
        assert_eq!(passed(&out), units[..501], "what came before the IDR picture");
    }

    #[test]
    fn without_room_everything_passes() {
        for idr in [&[0][..], &[0, 60, 250]] {
            let (mut normaliser, units) = (Normaliser::new(GOP_90K), stream(300, idr));
            let asked: Vec<bool> = units
                .iter()
                .map(|unit| {
                    let asked = normaliser.needs_room(unit);
                    passed(&normaliser.push(unit.clone(), false));
                    asked
                })
                .collect();
            assert_eq!(asked.iter().filter(|asked| **asked).count(), 1, "asked for once");
            let mut normaliser = Normaliser::new(GOP_90K);
            let out: Vec<Do> = units.iter().flat_map(|unit| normaliser.push(unit.clone(), false)).collect();
            assert_eq!(passed(&out), units);
            // Room that comes later is for the next configuration.
            assert_eq!(steps(&normaliser.push(picture(300, true), true)), "");
        }
    }

    #[test]
    fn pictures_that_were_not_asked_for_are_a_fault() {
        let mut normaliser = Normaliser::new(GOP_90K);
        let rate = Rate::first(20, 1);
        let coded = |pictures| Coded { pictures, rate };
        assert_eq!(normaliser.coded(coded(vec![])), Err(Fault::Unasked));
        stream(100, &[0]).into_iter().for_each(|unit| drop(normaliser.push(unit, true)));
        assert_eq!(normaliser.coded(coded(vec![])), Ok(vec![]));
        let slice = Bytes::from_static(&[0, 0, 1, 0x41, 0x9a, 3]);
        assert_eq!(normaliser.coded(coded(vec![(6_001, slice.clone())])), Err(Fault::Unasked));
        let units = normaliser.coded(coded(vec![(9_000, slice)])).unwrap();
        let expected = Bytes::from_static(&[0, 0, 0, 3, 0x41, 0x9a, 3]);
        let pieces = vec![Piece::Common(expected)];
        let (dts_90k, composition_90k) = (3_000, 6_000);
        assert_eq!(
            units,
            [Unit::Video(AccessUnit { dts_90k, composition_90k, idr: false, gop: None, pieces })]
        );
        let two = Bytes::from_static(&[0, 0, 1, 0x41, 0x9a, 3, 0, 0, 1, 0x41, 0x9a, 3]);
        assert_eq!(normaliser.coded(coded(vec![(12_000, two)])), Err(Fault::Untrue(Untrue::Units)));
    }
}
