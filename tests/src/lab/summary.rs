//! Figures of many runs, and how late this machine is by itself.
//!
//! In: runs. Out: for each of their figures count, median, 99th percentile and maximum; of a thread that asks to be woken each
//! millisecond, how late it was. Percentiles are the nearest rank: one of the figures that were measured.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is counted from runs: every figure whose name ends so.
const SUFFIX: &str = "_ms";
const TICK: Duration = Duration::from_millis(1);

/// Percentiles of all figures in milliseconds of these runs; figures of objects by "name.name".
pub fn of(runs: &[Value]) -> Value {
    let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for run in runs {
        for (name, value) in run.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with(SUFFIX))
        {
            match value {
                Value::Object(inner) => {
                    for (step, value) in inner {
                        figures.entry(format!("{name}.{step}")).or_default().extend(value.as_f64());
                    }
                }
                other => figures.entry(name.clone()).or_default().extend(other.as_f64()),
            }
        }
    }
    let named = figures.into_iter().filter_map(|(name, figures)| Some((name, percentiles(figures)?)));
    Value::Object(named.collect::<Map<String, Value>>())
}

/// Adds up the lines of many batches: one line for each scenario.
///
/// # Errors
/// A line that is not the lab's.
pub fn sum(text: &str) -> Result<Vec<Value>> {
    let mut batches: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let batch: Value = serde_json::from_str(line).context("a line of the lab")?;
        batches.entry(batch["scenario"].as_str().context("a scenario")?.to_owned()).or_default().push(batch);
    }
    let line = |(scenario, batches): (String, Vec<Value>)| {
        let mut runs = Vec::new();
        let mut line = json!({"scenario": scenario, "batches": batches.len()});
        for name in ["syn", "rst", "fin", "bytes_lost", "units_compared", "retransmissions"] {
            let whole = batches.iter().filter_map(|batch| batch["whole"][name].as_u64());
            line[name] = json!(whole.sum::<u64>());
        }
        for batch in &batches {
            runs.extend_from_slice(batch["runs"].as_array().map_or(&[][..], Vec::as_slice));
        }
        line["ok"] = json!(batches.iter().all(|batch| batch["ok"] == true));
        line["failed"] = json!(batches.iter().filter(|batch| batch["ok"] != true).count());
        line["count"] = json!(runs.len());
        line["summary"] = of(&runs);
        line
    };
    Ok(batches.into_iter().map(line).collect())
}

fn percentiles(mut figures: Vec<f64>) -> Option<Value> {
    figures.sort_by(f64::total_cmp);
    let rank = |percent: usize| figures.get((figures.len() * percent).div_ceil(100).saturating_sub(1));
    Some(json!({"n": figures.len(), "p50": rank(50)?, "p99": rank(99)?, "max": figures.last()?}))
}

/// A thread that wants to be woken each millisecond, without any priority.
pub struct Jitter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Jitter {
    /// Begins.
    pub fn start() -> Jitter {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut late = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                let due = Instant::now() + TICK;
                std::thread::sleep(TICK);
                late.push((due.elapsed().as_secs_f64() * 1e6).round() / 1e3);
            }
            late
        });
        Jitter { stop, thread }
    }

    /// How late it was.
    pub fn end(self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().and_then(percentiles).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let runs: Vec<Value> = (1..=200).map(|n| json!({"a_ms": n, "b": n, "s_ms": {"x": n * 2}})).collect();
        let expected = |by: i64| json!({"n": 200, "p50": (100 * by) as f64, "p99": (198 * by) as f64, "max": (200 * by) as f64});
        assert_eq!(of(&runs), json!({"a_ms": expected(1), "s_ms.x": expected(2)}));
        assert_eq!(of(&[json!({"a_ms": 7.5})])["a_ms"], json!({"n": 1, "p50": 7.5, "p99": 7.5, "max": 7.5}));
        assert_eq!(of(&[]), json!({}));
    }

    #[test]
    fn batches_add_up_and_a_failed_one_is_seen() {
        let batch = |ok: bool, a: u64| {
            let whole = json!({"syn": 0, "rst": 1, "bytes_lost": 2});
            json!({"scenario": "kill", "ok": ok, "runs": [{"a_ms": a}, {"a_ms": a + 1}], "whole": whole})
                .to_string()
        };
        let sums = sum(&[batch(true, 1), batch(false, 5)].join("\n")).unwrap();
        assert_eq!(
            (&sums[0]["ok"], &sums[0]["count"], &sums[0]["failed"]),
            (&json!(false), &json!(4), &json!(1))
        );
        assert_eq!((&sums[0]["rst"], &sums[0]["bytes_lost"]), (&json!(2), &json!(4)));
        assert_eq!(sums[0]["summary"]["a_ms"]["max"], json!(6.0));
        assert!(sum("{}").is_err());
    }
}
