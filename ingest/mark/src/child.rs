//! One worker process: started with an empty environment, asked, killed.
//!
//! In: frames (`wire`). Out: frames, or what went wrong with it. Touches: a child process, its pipes, the clock. What a worker
//! writes to standard error is logged, so many lines of it.

use crate::job::{Job, MarkError};
use crate::normalise::{Coded, Fault, Step};
use crate::pool::PoolConfig;
use crate::wire::{self, HEADER_BYTES, Kind, Reply, WireError};
use rustix::pipe::fcntl_setpipe_size;
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a new worker may take to say that it is ready.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// A worker keeps the memory of one picture for the next: asking the kernel for it anew each time took a sixth of its time.
/// Both of its threads have theirs from one heap, because a second one would take address space that its wall counts.
const KEEP_MEMORY: &str =
    "glibc.malloc.mmap_threshold=67108864:glibc.malloc.trim_threshold=134217728:glibc.malloc.arena_max=1";
/// A pipe that takes a picture at once, where one of the usual 64 KiB would have both ends wait for each other several times;
/// the most that Linux gives whoever is not root.
const PIPE_BYTES: usize = 1 << 20;
/// Lines of a worker's standard error that are logged.
const LOG_LINES_MAX: usize = 50;
/// Bytes of such a line that are logged.
const LOG_LINE_BYTES_MAX: u64 = 300;

/// What went wrong with one worker.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// Its pipes: usually it died.
    #[error("it is gone: {0}")]
    Gone(#[from] std::io::Error),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// It wrote something that is no answer.
    #[error("it answered nonsense: {0}")]
    Nonsense(#[from] WireError),
    /// It answered another job.
    #[error("it answered job {answered}, asked was {asked}")]
    OtherJob {
        /// The id in its answer.
        answered: u64,
        /// The id asked for.
        asked: u64,
    },
    /// Its slices are not slices of the picture.
    #[error("it lied: {0}")]
    Untrue(#[source] MarkError),
    /// Its pictures are not pictures of the stream.
    #[error("it lied: {0}")]
    Fault(#[from] Fault),
}

/// A worker process and its pipes; dropped, it is killed.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Worker {
    /// Starts a process with an empty environment and waits until it says that its walls stand.
    ///
    /// # Errors
    /// When it does not within its deadline.
    pub(crate) async fn start(config: &PoolConfig) -> Result<(Worker, String), WorkerError> {
        let started = timeout(START_DEADLINE, Worker::launch(config)).await;
        started.unwrap_or(Err(WorkerError::Deadline(START_DEADLINE)))
    }

    async fn launch(config: &PoolConfig) -> Result<(Worker, String), WorkerError> {
        let mut command = Command::new(&config.program);
        command.args(&config.arguments).env_clear().env("GLIBC_TUNABLES", KEEP_MEMORY);
        command.current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(std::io::Error::other("no pipes").into());
        };
        // Smaller ones only cost time: a kernel that gives no larger ones is none that marks no picture.
        let _ = fcntl_setpipe_size(&input, PIPE_BYTES);
        let _ = fcntl_setpipe_size(&output, PIPE_BYTES);
        tokio::spawn(log(child.id(), errors));
        let mut worker = Worker { child, input, output };
        match worker.frame().await? {
            (Kind::Hello, body) => Ok((worker, wire::read_hello(&body))),
            (kind, _) => Err(WireError::Kind(kind as u8).into()),
        }
    }

    /// Has one job done.
    pub(crate) async fn run(&mut self, id: u64, job: &Job) -> Result<Reply, WorkerError> {
        let (kind, body) = self.ask(&wire::job(id, job)).await?;
        let (answered, reply) = wire::read_reply(kind, &body)?;
        if answered == id { Ok(reply) } else { Err(WorkerError::OtherJob { answered, asked: id }) }
    }

    /// Has one step done.
    pub(crate) async fn step(&mut self, id: u64, step: &Step) -> Result<Result<Coded, String>, WorkerError> {
        let (kind, body) = self.ask(&wire::step(id, step)).await?;
        let (answered, reply) = wire::read_stepped(kind, &body)?;
        if answered == id { Ok(reply) } else { Err(WorkerError::OtherJob { answered, asked: id }) }
    }

    /// Its process id while it lives.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn ask(&mut self, frame: &[u8]) -> Result<(Kind, Vec<u8>), WorkerError> {
        self.input.write_all(frame).await?;
        self.input.flush().await?;
        self.frame().await
    }

    async fn frame(&mut self) -> Result<(Kind, Vec<u8>), WorkerError> {
        let mut header = [0; HEADER_BYTES];
        self.output.read_exact(&mut header).await?;
        let (kind, length) = wire::read_header(&header)?;
        let mut body = Vec::with_capacity(length.min(PIPE_BYTES));
        let read = (&mut self.output).take(length as u64).read_to_end(&mut body).await?;
        if read < length {
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
        } else {
            Ok((kind, body))
        }
    }

    /// Kills it and takes its exit status, so that nothing is left of it.
    pub(crate) async fn end(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "a mark worker could not be killed");
        }
    }
}

/// Logs the first lines a worker writes to standard error, and reads on.
async fn log(pid: Option<u32>, errors: ChildStderr) {
    let mut errors = BufReader::new(errors);
    for _ in 0..LOG_LINES_MAX {
        let mut line = Vec::new();
        match (&mut errors).take(LOG_LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => tracing::warn!(pid, line = %String::from_utf8_lossy(&line).trim_end(), "mark worker"),
        }
    }
    // The rest is read so that it does not block, and forgotten.
    let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
}
