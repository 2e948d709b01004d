//! Worker processes and the jobs they do: started, watched, killed and started again.
//!
//! In: jobs. Out: marked pictures, or an error within two deadlines. Touches: child processes and their pipes, the
//! clock. A worker that dies, hangs, or says what cannot be true is killed; its job is tried once more in a fresh one,
//! then fails. A worker that cannot even be started is not tried again for a while, so a broken installation costs
//! nothing. Dropping the pool, or a call to `mark`, kills what it was using.

use crate::child::Worker;
pub use crate::child::WorkerError;
use crate::host::Host;
use crate::job::{Coded, Job, MarkError, Marked, assemble};
use crate::plan::Plan;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// Times a job is given to a worker.
const ATTEMPTS: u32 = 2;
/// First pause after a worker that did not start; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause after workers that did not start.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How a pool runs its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Absolute path of the program whose process calls `worker::main`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Workers at most, which is jobs at a time; at least 1.
    pub workers: usize,
    /// Time for one attempt at a job, and for waiting for a free worker.
    pub deadline: Duration,
}

impl PoolConfig {
    /// One worker, 2 s a job.
    pub fn new(program: impl Into<PathBuf>, arguments: &[&str]) -> PoolConfig {
        PoolConfig {
            program: program.into(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            workers: 1,
            deadline: Duration::from_secs(2),
        }
    }
}

/// Why a picture was not marked; it goes out as it came, or not at all.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The picture or stream cannot be marked.
    #[error(transparent)]
    Job(#[from] MarkError),
    /// The worker could not mark it, and will not another time.
    #[error("the picture was not marked: {0}")]
    Refused(String),
    /// Two workers failed at it.
    #[error("two mark workers failed at the picture, the second: {0}")]
    Worker(#[source] WorkerError),
    /// No worker starts.
    #[error("the mark worker {program} does not start: {source}")]
    Start {
        /// Path of the program.
        program: PathBuf,
        /// What happened.
        #[source]
        source: WorkerError,
    },
    /// No worker started a moment ago, and it is too early to try again.
    #[error("no mark worker started a moment ago; trying again soon")]
    Pausing,
    /// All workers were at work for the whole deadline.
    #[error("all mark workers are busy")]
    Busy,
}

/// What a pool has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Jobs taken.
    pub jobs: u64,
    /// Jobs that ended with an error.
    pub failures: u64,
    /// Workers killed or found dead.
    pub restarts: u64,
    /// Microseconds that workers were at work (wall clock).
    pub busy_us: u64,
}

/// A bounded set of worker processes.
pub struct Pool {
    config: PoolConfig,
    free: Semaphore,
    /// Workers without a job. Held for a push or pop only.
    idle: Mutex<Vec<Worker>>,
    /// Held for a look or a change only.
    start: Mutex<StartState>,
    next_id: AtomicU64,
    jobs: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
    busy_us: AtomicU64,
}

#[derive(Default)]
struct StartState {
    failures: u32,
    not_before: Option<Instant>,
    missing: String,
}

impl Pool {
    /// A pool without workers yet; they start with the first jobs, or with `start`.
    pub fn new(config: PoolConfig) -> Pool {
        let zero = || AtomicU64::new(0);
        Pool {
            free: Semaphore::new(config.workers.max(1)),
            config,
            idle: Mutex::default(),
            start: Mutex::default(),
            next_id: zero(),
            jobs: zero(),
            failures: zero(),
            restarts: zero(),
            busy_us: zero(),
        }
    }

    /// Starts one worker ahead of the first job and returns the walls its sandbox lacks, one a line, empty when all
    /// stand: for the log, the status and readiness.
    ///
    /// # Errors
    /// When no worker starts.
    pub async fn start(&self) -> Result<String, PoolError> {
        let worker = self.worker().await?;
        locked(&self.idle).push(worker);
        Ok(locked(&self.start).missing.clone())
    }

    /// Marks one IDR.
    ///
    /// # Errors
    /// Any: the stream's policy then decides about the picture. Takes at most three deadlines: one for a free worker,
    /// two for attempts.
    pub async fn mark(&self, job: Job) -> Result<Marked, PoolError> {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let result = self.try_mark(&job).await;
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// What it has done so far.
    pub fn counts(&self) -> PoolCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolCounts {
            jobs: count(&self.jobs),
            failures: count(&self.failures),
            restarts: count(&self.restarts),
            busy_us: count(&self.busy_us),
        }
    }

    /// Process ids of the workers without a job.
    pub fn idle_pids(&self) -> Vec<u32> {
        locked(&self.idle).iter().filter_map(|worker| worker.pid()).collect()
    }

    async fn try_mark(&self, job: &Job) -> Result<Marked, PoolError> {
        // What needs no decoder is refused here, with its own words.
        let plan = Plan::of_job(job).map_err(MarkError::from)?;
        Host::read(&plan, &job.access_unit).map_err(MarkError::from)?;
        let permit = timeout(self.config.deadline, self.free.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(PoolError::Busy) };
        let mut attempt = 1;
        loop {
            let idle = locked(&self.idle).pop();
            let mut worker = match idle {
                Some(worker) => worker,
                None => self.worker().await?,
            };
            let began = Instant::now();
            let outcome = self.attempt(&mut worker, &plan, job).await;
            let busy = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.busy_us.fetch_add(busy, Ordering::Relaxed);
            match outcome {
                Ok(result) => {
                    locked(&self.idle).push(worker);
                    return result;
                }
                Err(error) => {
                    tracing::warn!(pid = worker.pid(), attempt, %error, "mark worker failed");
                    self.restarts.fetch_add(1, Ordering::Relaxed);
                    worker.end().await;
                    if attempt == ATTEMPTS {
                        return Err(PoolError::Worker(error));
                    }
                    attempt += 1;
                }
            }
        }
    }

    /// One job in one worker. The outer error means that the worker must go.
    async fn attempt(
        &self,
        worker: &mut Worker,
        plan: &Plan,
        job: &Job,
    ) -> Result<Result<Marked, PoolError>, WorkerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let deadline = self.config.deadline;
        let reply =
            timeout(deadline, worker.run(id, job)).await.map_err(|_| WorkerError::Deadline(deadline))??;
        match reply {
            Ok(coded) => self.assembled(plan, job, coded).map(Ok),
            Err(reason) => Ok(Err(PoolError::Refused(reason))),
        }
    }

    fn assembled(&self, plan: &Plan, job: &Job, coded: Coded) -> Result<Marked, WorkerError> {
        assemble(plan, &job.access_unit, coded).map_err(WorkerError::Untrue)
    }

    /// A new worker, unless the last ones did not start.
    async fn worker(&self) -> Result<Worker, PoolError> {
        if locked(&self.start).not_before.is_some_and(|time| Instant::now() < time) {
            return Err(PoolError::Pausing);
        }
        let started = Worker::start(&self.config).await;
        let mut state = locked(&self.start);
        match started {
            Ok((worker, missing)) => {
                if !missing.is_empty() && missing != state.missing {
                    tracing::warn!(missing = missing.trim_end(), "the mark worker's sandbox is incomplete");
                }
                *state = StartState { missing, ..StartState::default() };
                Ok(worker)
            }
            Err(source) => {
                let pause = PAUSE_FIRST.saturating_mul(1 << state.failures.min(10)).min(PAUSE_MAX);
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + pause);
                Err(PoolError::Start { program: self.config.program.clone(), source })
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.config)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// Nothing panics while it holds one of these, and each holds plain values.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
