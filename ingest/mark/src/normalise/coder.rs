//! The parent's side of one normalised stream: its worker process and how far it is behind.
//!
//! In: steps. Out: what came of them, or why no more will. Touches: a child process and its pipes, the clock. A worker that
//! dies, hangs or cannot go on ends the coder; the publisher then begins anew, since nothing but an IDR picture can be
//! begun with.

use super::{Coded, Fault, Step};
use crate::child::{Worker, WorkerError};
use crate::pool::PoolConfig;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, timeout};

/// How much later than the stream a coder may come to be: it works on pictures for longer than they are shown. Beyond this
/// the machine is too slow for the stream. Viewers' players hold about so much.
pub const BEHIND_MAX: Duration = Duration::from_secs(4);
/// After so much of a stream a fault is not the stream's nature.
const SETTLED: Duration = Duration::from_secs(60);
/// Time for one step: what a decoder held back, coded at the largest size.
const STEP_DEADLINE: Duration = Duration::from_secs(5);
/// The longest step from picture to picture that counts as work for, in ticks: a publisher that paused has not given us
/// more to do.
const SHOWN_STEP_MAX_90K: i64 = 90_000;

/// Why a stream cannot be coded on.
#[derive(Debug, Error)]
pub enum CoderError {
    /// The worker is gone, late, or talks nonsense.
    #[error("the normalising process failed: {0}")]
    Worker(#[from] WorkerError),
    /// The stream does not decode or cannot be coded.
    #[error("the stream cannot be normalised: {0}")]
    Refused(String),
    /// `BEHIND_MAX`.
    #[error("this machine is too slow to normalise the stream: {} s behind after {} s of it", .behind.as_secs(), .after.as_secs())]
    Slow {
        /// How far behind.
        behind: Duration,
        /// How much of the stream was coded till then.
        after: Duration,
    },
}

/// One stream's worker.
pub struct Coder {
    worker: Worker,
    next_id: u64,
    lag: Lag,
}

impl Coder {
    /// Starts a worker.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(config: &PoolConfig) -> Result<Coder, CoderError> {
        let (worker, _) = Worker::start(config).await?;
        Ok(Coder { worker, next_id: 0, lag: Lag::default() })
    }

    /// Has one step done.
    ///
    /// # Errors
    /// Any: the coder is of no use afterwards.
    pub async fn step(&mut self, step: &Step) -> Result<Coded, CoderError> {
        let id = self.next_id;
        self.next_id += 1;
        let began = Instant::now();
        let stepped = timeout(STEP_DEADLINE, self.worker.step(id, step)).await;
        let coded =
            stepped.unwrap_or(Err(WorkerError::Deadline(STEP_DEADLINE)))?.map_err(CoderError::Refused)?;
        let shown_90k = match step {
            Step::Picture { pts_90k, .. } => Some(*pts_90k),
            Step::Begin { .. } | Step::End => None,
        };
        self.lag.worked(began.elapsed(), shown_90k)?;
        Ok(coded)
    }

    /// How far it is behind.
    pub fn behind(&self) -> Duration {
        self.lag.behind
    }

    /// Whether it has worked for a while without a fault.
    pub fn is_settled(&self) -> bool {
        self.lag.shown >= SETTLED
    }

    /// Its process, for tests.
    pub fn pid(&self) -> Option<u32> {
        self.worker.pid()
    }
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coder")
            .field("next_id", &self.next_id)
            .field("lag", &self.lag)
            .finish_non_exhaustive()
    }
}

/// Work against the time it is for.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    behind: Duration,
    shown: Duration,
    latest_90k: Option<i64>,
}

impl Lag {
    fn worked(&mut self, took: Duration, shown_90k: Option<i64>) -> Result<(), CoderError> {
        let mut shown = Duration::ZERO;
        if let Some(now) = shown_90k {
            // Pictures come in decoding order: only what is later than all before is more of the stream.
            let step = now - *self.latest_90k.get_or_insert(now);
            if step > 0 {
                self.latest_90k = Some(now);
                shown = Duration::from_micros(step.min(SHOWN_STEP_MAX_90K) as u64 * 100 / 9);
            }
        }
        self.shown += shown;
        self.behind = (self.behind + took).saturating_sub(shown);
        if self.behind > BEHIND_MAX {
            return Err(CoderError::Slow { behind: self.behind, after: self.shown });
        }
        Ok(())
    }
}

impl From<Fault> for CoderError {
    fn from(fault: Fault) -> CoderError {
        CoderError::Worker(fault.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds behind after a second of pictures, each worked on for so long.
    fn after(took_ms: u64, pictures: i64) -> Result<u128, CoderError> {
        let mut lag = Lag::default();
        for picture in 0..pictures {
            lag.worked(Duration::from_millis(took_ms), Some(picture * 3_000))?;
        }
        Ok(lag.behind.as_millis())
    }

    #[test]
    fn a_coder_is_behind_by_what_it_takes_longer() {
        assert!(after(20, 3_000).unwrap() <= 20, "two thirds of the time");
        assert!((250..350).contains(&after(43, 31).unwrap()));
        assert!(matches!(after(43, 3_000), Err(CoderError::Slow { .. })));
    }

    #[test]
    fn a_publisher_that_pauses_gives_no_time() {
        let mut lag = Lag::default();
        lag.worked(Duration::ZERO, Some(0)).unwrap();
        lag.worked(Duration::from_secs(3), Some(3_000)).unwrap();
        lag.worked(Duration::ZERO, Some(900_000)).unwrap();
        assert!(lag.behind > Duration::from_millis(1_900), "{:?}", lag.behind);
        lag.worked(Duration::ZERO, Some(800_000)).unwrap();
        lag.worked(Duration::ZERO, Some(900_000)).unwrap();
        assert!(lag.behind > Duration::from_millis(1_900), "shown twice: {:?}", lag.behind);
    }
}
