//! Benchmarks of whole programs, each beside a yardstick in the same run.
//!
//! A figure is a median over rounds; ours and the yardstick take turns in every round, so that a noisy machine is noisy for
//! both. The ratio counts, the figures are for the table.

pub mod closed;
pub mod files;
pub mod first;
pub mod flat;
pub mod flock;
pub mod hold;
pub mod hostile;
pub mod https;
pub mod ingest;
pub mod keepalived;
pub mod late;
pub mod load;
pub mod micro;
pub mod nginx;
pub mod relay;
mod show;
pub mod table;
pub mod takeover;
pub mod trace;

use serde_json::{Value, json};

/// What a benchmark found.
#[derive(Debug)]
pub struct Report {
    /// Which one.
    pub name: &'static str,
    /// Our figures, with the unit last in the name.
    pub ours: Vec<(String, f64)>,
    /// The same of somebody else.
    pub yardstick: Vec<(String, f64)>,
    /// Ours by the yardstick's; below 1 is better.
    pub ratio: f64,
    /// What went wrong; figures of a run with errors count for nothing.
    pub errors: u64,
}

impl Report {
    /// One line.
    pub fn to_json(&self) -> Value {
        let side = |figures: &[(String, f64)]| -> Value {
            figures.iter().map(|(name, figure)| (name.clone(), json!(rounded(*figure)))).collect()
        };
        json!({
            "name": self.name,
            "ours": side(&self.ours),
            "yardstick": side(&self.yardstick),
            "ratio": rounded(self.ratio),
            "errors": self.errors,
        })
    }

    /// A Markdown table.
    pub fn print_table(&self) {
        println!("| {} | ours | yardstick |\n| --- | --- | --- |", self.name);
        for (name, figure) in &self.ours {
            let other = self.yardstick.iter().find(|(other, _)| other == name);
            let other = other.map_or(String::new(), |(_, figure)| rounded(*figure).to_string());
            println!("| {name} | {} | {other} |", rounded(*figure));
        }
        let alone =
            self.yardstick.iter().filter(|(name, _)| self.ours.iter().all(|(other, _)| other != name));
        for (name, figure) in alone {
            println!("| {name} | | {} |", rounded(*figure));
        }
    }
}

/// Three decimals are more than any of these figures can carry.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[count / 2],
        count => (figures[count / 2 - 1] + figures[count / 2]) / 2.0,
    }
}
