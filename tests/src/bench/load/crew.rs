//! The processes of the load generator: a table of open files has fewer places than a load may have viewers.
//!
//! In: a load. Out: a process a core (`bench crew`), each with every so-manieth viewer. The first line that one reads is its
//! part as JSON, then a line comes with each new stage; the one line that it prints is its outcome, as JSON.

use super::{Load, OVER, Outcome, Stage, raise_descriptor_limit, thread};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What one process is told first.
#[derive(Serialize, Deserialize)]
struct Part {
    load: Load,
    /// Its first viewer, and how far it is from one to the next.
    first: usize,
    step: usize,
}

/// All of them.
pub(super) struct Crew(Vec<Member>);

struct Member {
    process: Child,
    /// Closed, it means the same as the last stage.
    tell: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Crew {
    pub(super) fn start(load: &Load) -> Result<Crew> {
        let step = std::thread::available_parallelism().map_or(1, usize::from);
        let mut crew = Crew(Vec::new());
        for first in 0..step {
            let mut command = Command::new(std::env::current_exe()?);
            let mut process = command
                .arg("crew")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("bench crew")?;
            let tell = process.stdin.take();
            let said = BufReader::new(process.stdout.take().context("its output is a pipe")?);
            crew.0.push(Member { process, tell, said });
            crew.0[first].say(&serde_json::to_string(&Part { load: load.clone(), first, step })?)?;
        }
        Ok(crew)
    }

    /// A stage begins.
    pub(super) fn tell(&mut self, stage: u8) -> Result<()> {
        self.0.iter_mut().try_for_each(|member| member.say(&stage.to_string()))
    }

    /// What all of them found, once they have been told that it is over.
    pub(super) fn outcome(mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for member in &mut self.0 {
            let mut line = String::new();
            member.said.read_line(&mut line)?;
            ensure!(!line.is_empty(), "a process of the load generator ended without an outcome");
            outcome.add(serde_json::from_str(&line)?);
        }
        Ok(outcome)
    }
}

impl Member {
    fn say(&mut self, line: &str) -> Result<()> {
        let tell = self.tell.as_mut().context("it is told until it is over")?;
        writeln!(tell, "{line}").context("a process of the load generator has ended")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.tell.take());
        let _ = self.process.kill(); // it has ended already where all went well
        let _ = self.process.wait();
    }
}

/// Such a process: does its part as its standard input says, and prints what it found.
///
/// # Errors
/// When it is not told what to do, or cannot do it.
pub fn work() -> Result<()> {
    raise_descriptor_limit();
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let part: Part = serde_json::from_str(&lines.next().context("no part on the standard input")??)?;
    let begin = Instant::now();
    let begun = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let stage = Arc::new(Stage::default());
    let told = stage.clone();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            told.0.store(line.parse().unwrap_or(OVER), Ordering::Release);
        }
        told.0.store(OVER, Ordering::Release);
    });
    let mut outcome = thread::run(&part.load, &stage, part.first..part.load.viewers, part.step, begin)?;
    for (_, at) in &mut outcome.reloads {
        *at += u64::try_from(begun.as_micros())?;
    }
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
