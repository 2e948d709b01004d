//! Which encoding of the picture each GOP of a copy shows, and what is read of that one.
//!
//! In: placed spans, the copy, the archive with its further encodings. Out: observations span by span, of each GOP once. Pure.
//!
//! Encodings of one picture have the same symbols at the same positions, and marks that differ: each has slices and compression of
//! its own, and small ones another grid of cells. So the copy is read against each, and of a GOP that reading is kept of the
//! encoding whose mark the copy shows. A player changes over now and then, not at every GOP: a change must pay.
//!
//! The choice rests on the copy and the archive alone. No viewer's symbols are in it, so there is nothing to pay for.

use super::frame::{Clip, EARLY_S, PictureError, References};
use super::time::Span;
use super::{read, shown};
use crate::position::GopId;
use crate::score::Observation;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What another encoding than the last GOP's must show more, in variances a reading: where marks are clear, one GOP of it is
/// enough, where they are faint several.
const CHANGE: f64 = 2.0;

/// What one encoding gives of a span, by the archive's GOPs.
type OfSpan = BTreeMap<usize, Vec<Observation>>;

/// Reads the copy against each encoding. `done` hears which part of the work is done, and where in the copy it is.
pub(super) fn read(
    archive: &dyn References,
    clip: &dyn Clip,
    spans: &[Span],
    done: &mut dyn FnMut(f64, f64),
) -> Result<Vec<Vec<Observation>>, PictureError> {
    let encodings: Vec<&dyn References> = std::iter::once(archive).chain(archive.beside()).collect();
    let mut of_spans: Vec<Vec<OfSpan>> = vec![Vec::new(); spans.len()];
    for (index, encoding) in encodings.iter().enumerate() {
        of_spans.iter_mut().for_each(|of_span| of_span.push(OfSpan::new()));
        let places = places(archive, *encoding);
        let mut seen_until = |time_s: f64| done(index as f64 / encodings.len() as f64, time_s);
        read::read(*encoding, clip, spans, &mut seen_until, &mut |span, seen| {
            let place = places.get(&seen.position.gop).copied().unwrap_or_default();
            of_spans[span][index].entry(place).or_default().push(seen);
        })?;
    }
    Ok(of_spans.into_iter().map(chosen).collect())
}

/// In which of the archive's GOPs each of an encoding's begins: a further one may have more of them.
fn places(archive: &dyn References, encoding: &dyn References) -> HashMap<GopId, usize> {
    let gops = archive.gops();
    let place = |start_s: f64| gops.partition_point(|gop| gop.start_s <= start_s + EARLY_S).saturating_sub(1);
    encoding.gops().iter().map(|gop| (gop.id, place(gop.start_s))).collect()
}

/// The way through the encodings that shows most, changes paid; of each GOP the readings on it. Where it has none, those of the
/// encoding that shows most there.
fn chosen(mut of_encodings: Vec<OfSpan>) -> Vec<Observation> {
    let places: BTreeSet<usize> = of_encodings.iter().flat_map(|of| of.keys().copied()).collect();
    let shown: Vec<Vec<f64>> = places
        .iter()
        .map(|place| of_encodings.iter().map(|of| of.get(place).map_or(0.0, |seen| shown(seen))).collect())
        .collect();
    let mut best = vec![0.0; of_encodings.len()];
    // Of each GOP: from which encoding the best way to each comes.
    let mut from: Vec<Vec<usize>> = Vec::new();
    for shown in &shown {
        let top = most(&best);
        let way = |own: usize| if best[top] - CHANGE > best[own] { top } else { own };
        let ways: Vec<usize> = (0..best.len()).map(way).collect();
        let cost = |own: usize| if ways[own] == own { 0.0 } else { CHANGE };
        best = (0..best.len()).map(|own| best[ways[own]] - cost(own) + shown[own]).collect();
        from.push(ways);
    }
    let mut own = most(&best);
    let mut path = vec![0; from.len()];
    for (at, ways) in from.iter().enumerate().rev() {
        path[at] = own;
        own = ways[own];
    }
    let mut observations = Vec::new();
    for ((place, shown), own) in places.iter().zip(&shown).zip(path) {
        let own = if of_encodings[own].contains_key(place) { own } else { most(shown) };
        observations.extend(of_encodings[own].remove(place).unwrap_or_default());
    }
    observations
}

/// The first of the largest.
fn most(of: &[f64]) -> usize {
    let larger = |best: usize, at: usize| if of[at] > of[best] { at } else { best };
    (0..of.len()).reduce(larger).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    /// Eight readings of each GOP, of so many variances each: the number tells the encoding.
    fn of_encoding(number: usize, shown: &[f64]) -> OfSpan {
        let seen = |place: usize, shown: f64| {
            let observation = |slice| Observation {
                position: Position { gop: GopId([place as u8; 16]), slice },
                soft: shown.sqrt(),
                variance: 1.0,
                at_s: number as f64,
            };
            (place, (0..8).map(observation).collect())
        };
        let some = shown.iter().enumerate().filter(|(_, shown)| **shown >= 0.0);
        some.map(|(place, shown)| seen(place, *shown)).collect()
    }

    fn path(shown: &[&[f64]]) -> String {
        let of_encodings =
            shown.iter().enumerate().map(|(number, shown)| of_encoding(number, shown)).collect();
        let observations = chosen(of_encodings);
        let gops = observations.chunk_by(|one, next| one.position.gop == next.position.gop);
        gops.map(|gop| {
            assert_eq!(gop.len(), 8, "each once");
            format!("{}", gop[0].at_s)
        })
        .collect()
    }

    #[test]
    fn each_gop_is_read_once_where_its_mark_is() {
        let [clear, faint, none] = [9.0, 2.5, 1.2];
        assert_eq!(path(&[&[clear; 4], &[faint; 4]]), "0000");
        assert_eq!(path(&[&[faint; 4], &[clear; 4]]), "1111");
        assert_eq!(path(&[&[clear, clear, none, none], &[none, none, clear, clear]]), "0011");
        assert_eq!(path(&[&[clear, none, clear], &[none, clear, none], &[none; 3]]), "010", "a clear one");
        assert_eq!(
            path(&[&[faint, none, faint, none], &[none, faint, none, faint]]),
            "0000",
            "no change pays"
        );
        assert_eq!(path(&[&[none; 4], &[none; 4]]), "0000");
        assert_eq!(path(&[&[faint, faint, -1.0], &[clear, -1.0, none]]), "101", "holes");
        assert_eq!(path(&[]), "");
    }
}
