//! The tracer, asked about one leak after another of an event: what it decoded and drew for one serves the next.
//!
//! In: the event's folder, keys, register; paths of clips. Out: what `releve-trace identify` says of each, and the processor
//! time that took. Starts one process, below normal priority, and ends it.

use crate::cluster::program;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What attacks and the tracer yield to recordings.
pub(super) const NICE: [&str; 2] = ["-n", "10"];

/// A running tracer.
pub(super) struct Tracer {
    process: Child,
    clips: ChildStdin,
    answers: BufReader<ChildStdout>,
    spent_s: f64,
}

impl Tracer {
    /// Starts one.
    pub(super) fn start(dir: &Path, keys: &Path, register: &Path) -> Result<Tracer> {
        let mut nice = Command::new("nice");
        nice.args(NICE).arg(program("releve-trace")?).arg("identify").arg("--dir").arg(dir);
        nice.arg("--keys").arg(keys).arg("--register").arg(register).args([
            "--clip",
            "-",
            "--json",
            "--growing",
        ]);
        let mut process = nice.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("nice")?;
        let (clips, answers) = (process.stdin.take(), process.stdout.take());
        let answers = BufReader::new(answers.context("its output")?);
        Ok(Tracer { process, clips: clips.context("its input")?, answers, spent_s: 0.0 })
    }

    /// What it says of a clip, and how many seconds of processor time that took.
    pub(super) fn ask(&mut self, clip: &Path) -> Result<(Value, f64)> {
        writeln!(self.clips, "{}", clip.display())?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer)? > 0, "{}: the tracer gave no answer", clip.display());
        let before_s = std::mem::replace(&mut self.spent_s, cpu_s(self.process.id())?);
        Ok((serde_json::from_str(&answer)?, self.spent_s - before_s))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor time of a process and of those it waited for, in seconds, from `/proc/ID/stat`.
fn cpu_s(id: u32) -> Result<f64> {
    /// What Linux counts for programs in.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold anything; utime is the 12th field after it.
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<f64>());
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_A_SECOND)
}
