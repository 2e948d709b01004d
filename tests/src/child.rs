//! A program that a test started: its log, its end.
//!
//! In: a command. Out: a `Child` that is ended by its own id when it is dropped, also when the test panics.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to end by itself once told to.
const GRACE: Duration = Duration::from_secs(15);

/// A running program; its output goes to a file.
pub struct Child {
    name: String,
    log: PathBuf,
    process: std::process::Child,
}

impl Child {
    /// Starts a program without input, its output and errors appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Child> {
        let file =
            File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let errors = file.try_clone()?;
        let process = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Child { name: name.to_owned(), log: log.to_owned(), process })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// `Some` once it has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// An error with the end of its log if it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("{} has ended ({status}):\n{}", self.name, tail.join("\n"));
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {at_most:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id())?;
        kill_process(Pid::from_raw(id).context("a process id is not 0")?, signal)?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait(GRACE)
    }

    /// Ends it at once, as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }

    /// Resident memory of the process, without its children, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn rss_kib(&self) -> Result<u64> {
        rss_kib(self.id())
    }

    /// The same with the processes it has started and that still run.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn family_rss_kib(&self) -> Result<u64> {
        family(self.id())?.into_iter().map(rss_kib).sum()
    }

    /// Processor time of the process and all its threads, and of the processes it has started and that still run.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> Result<Duration> {
        family(self.id())?.into_iter().map(cpu).sum()
    }

    /// The ids of the processes it has started and that still run, and of theirs.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn children(&self) -> Result<Vec<u32>> {
        Ok(family(self.id())?.split_off(1))
    }
}

/// A process and all that descend from it, itself first.
///
/// # Errors
/// When the process is gone.
pub fn family(id: u32) -> Result<Vec<u32>> {
    let mut all = vec![id];
    for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let children = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            all.extend(family(child.parse()?).unwrap_or_default()); // one that has just ended has none
        }
    }
    Ok(all)
}

fn rss_kib(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let Some(line) = status.lines().find(|line| line.starts_with("VmRSS:")) else { return Ok(0) }; // a zombie
    Ok(line.split_whitespace().nth(1).context("no figure in VmRSS")?.parse()?)
}

/// Time on the processor, from `/proc/ID/task/*/schedstat`.
fn cpu(id: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let Ok(stat) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue }; // a thread that just ended
        sum += Duration::from_nanos(stat.split_whitespace().next().context("empty schedstat")?.parse()?);
    }
    Ok(sum)
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
