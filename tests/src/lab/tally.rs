//! What each run cost: everything that is counted, from the moment at which it began to the next one's.
//!
//! In: counts at moments, and what viewers miss by the date of its media. Out: the same figures in each run, whatever the
//! scenario; their sums are the scenario's. Pure but for the clock's reading.

use super::audience::Verdict;
use super::capture::Sums;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: u64 = 86_400_000;

/// What had been counted when a run began; the last moment is when all was over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Milliseconds of the day, as playlists date their segments.
    pub day_ms: u64,
    /// The publishers' wire.
    pub wire: Sums,
    /// Rules of playlists that were broken before viewers' eyes.
    pub broken_rules: usize,
}

impl Moment {
    /// Now.
    pub fn now(wire: Sums, broken_rules: usize) -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { day_ms: (since.as_millis() % u128::from(DAY_MS)) as u64, wire, broken_rules }
    }

    /// Whether it is not later than a date, which is at most half a day away.
    fn is_before(&self, day_ms: u64) -> bool {
        (day_ms + DAY_MS - self.day_ms) % DAY_MS < DAY_MS / 2
    }
}

/// Writes into each run what was counted between its moment and the next, and whether that is nothing.
///
/// A loss belongs to the run in which its media was made; what viewers saw broken, to the run in which they saw it. A run that
/// says itself `ok` (a control) keeps its word; one with an `error` is never good.
pub fn fill(runs: &mut [Value], moments: &[Moment], verdict: &Verdict) {
    let place = |day_ms: u64| {
        moments.iter().skip(1).take(runs.len().saturating_sub(1)).filter(|one| one.is_before(day_ms)).count()
    };
    let mut lost = vec![0; runs.len()];
    let mut differing = vec![0_u64; runs.len()];
    for (day_ms, bytes) in &verdict.lost {
        lost[place(*day_ms)] += bytes;
    }
    for day_ms in &verdict.differing {
        differing[place(*day_ms)] += 1;
    }
    for (number, run) in runs.iter_mut().enumerate() {
        let (from, to) = (&moments[number], &moments[number + 1]);
        let wire = to.wire - from.wire;
        for (name, value) in wire.json().as_object().into_iter().flatten() {
            run[name] = value.clone();
        }
        let own = |name: &str| run[name].as_u64().unwrap_or(0);
        let (lost, differing) =
            (own("bytes_lost") + lost[number] as u64, own("hash_mismatches") + differing[number]);
        run["bytes_lost"] = json!(lost);
        run["hash_mismatches"] = json!(differing);
        run["sequence_errors"] = json!(to.broken_rules - from.broken_rules);
        let counted = ["bytes_lost", "hash_mismatches", "sequence_errors", "reconnects", "syn", "rst", "fin"];
        let nothing = counted.iter().all(|name| run[name] == 0) && run["error"].is_null();
        if run["ok"].is_null() {
            run["ok"] = json!(nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(day_ms: u64, rst: u64, broken_rules: usize) -> Moment {
        Moment { day_ms, wire: Sums { rst, ..Sums::default() }, broken_rules }
    }

    #[test]
    fn each_run_gets_its_own() {
        let mut runs =
            vec![json!({}), json!({}), json!({"error": "no"}), json!({"ok": true, "bytes_lost": 5})];
        let day = [DAY_MS - 500, DAY_MS - 100, 300, 700, 1100];
        let moments: Vec<Moment> =
            day.iter().zip([0, 0, 1, 1, 4]).map(|(day, rst)| moment(*day, rst, 0)).collect();
        let verdict = Verdict {
            lost: vec![(DAY_MS - 900, 10), (DAY_MS - 400, 1), (10, 100), (5000, 7)],
            differing: vec![300],
            ..Verdict::default()
        };
        fill(&mut runs, &moments, &verdict);
        let figures = |name: &str| runs.iter().map(|run| run[name].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(figures("bytes_lost"), [11, 100, 0, 12]);
        assert_eq!(figures("rst"), [0, 1, 0, 3]);
        assert_eq!(figures("hash_mismatches"), [0, 0, 1, 0]);
        let ok: Vec<bool> = runs.iter().map(|run| run["ok"] == true).collect();
        assert_eq!(ok, [false, false, false, true], "a control keeps its own word");
    }

    #[test]
    fn a_run_without_any_is_good() {
        let mut runs = vec![json!({"blackout_ms": 1.0})];
        fill(&mut runs, &[moment(0, 2, 3), moment(9, 2, 3)], &Verdict::default());
        assert_eq!(runs[0]["ok"], true);
        for name in ["bytes_lost", "reconnects", "syn", "rst", "fin", "sequence_errors", "hash_mismatches"] {
            assert_eq!(runs[0][name], 0, "{name}");
        }
    }
}
