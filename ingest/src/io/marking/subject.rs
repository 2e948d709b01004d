//! One encoding of the picture as marking sees it: its configuration, how to mark it, and how that went lately.
//!
//! In: configurations and pictures of it. Out: what is published of a configuration, jobs for the marking processes. Pure.

use super::{TWO_90K, WORKERS_LOST_MAX};
use bytes::Bytes;
use mark::{Job, Misfit, Plan};
use media::unit::VideoConfig;
use releve_watermark::embed::{PatternSeed, STRENGTH_DEFAULT};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a twin on another node starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedSubject {
    config: Option<VideoConfig>,
    planned: bool,
    taken: Vec<u32>,
    plan_again: bool,
    gop_bytes: u64,
    marked_90k: [Option<i64>; 2],
    goes_on: bool,
}

/// One encoding.
#[derive(Default)]
pub(super) struct Subject {
    config: Option<Arc<VideoConfig>>,
    /// How to mark the current configuration; `None` while it cannot be.
    plan: Option<Plan>,
    /// PPS ids the stream was seen to use besides those of its configuration.
    taken: Vec<u32>,
    /// The next IDR starts a new plan.
    plan_again: bool,
    /// Bytes since the last IDR, that one included.
    gop_bytes: u64,
    /// Starts of the last GOPs that were given to the pool, the newer one first.
    marked_90k: [Option<i64>; 2],
    /// Pictures in a row that ended their worker.
    workers_lost: u32,
    /// Of a further encoding: its present GOP is marked, and goes on.
    pub(super) goes_on: bool,
}

impl Subject {
    /// The whole state, but for the health of this node's workers.
    pub(super) fn save(&self) -> SavedSubject {
        SavedSubject {
            config: self.config.as_deref().cloned(),
            planned: self.plan.is_some(),
            taken: self.taken.clone(),
            plan_again: self.plan_again,
            gop_bytes: self.gop_bytes,
            marked_90k: self.marked_90k,
            goes_on: self.goes_on,
        }
    }

    /// Goes on where another node's was saved.
    pub(super) fn restore(saved: SavedSubject) -> Subject {
        let plan = match &saved.config {
            Some(config) if saved.planned => Plan::of_config(config, &saved.taken).ok(),
            _ => None,
        };
        Subject {
            plan,
            config: saved.config.map(Arc::new),
            taken: saved.taken,
            plan_again: saved.plan_again,
            gop_bytes: saved.gop_bytes,
            marked_90k: saved.marked_90k,
            workers_lost: 0,
            goes_on: saved.goes_on,
        }
    }

    /// Whether its pictures can be marked now.
    pub(super) fn is_planned(&self) -> bool {
        self.plan.is_some()
    }

    /// The publisher's configuration: what is published of it, and why it cannot be marked if it cannot.
    pub(super) fn configured(
        &mut self,
        config: Arc<VideoConfig>,
        marks: bool,
    ) -> (Arc<VideoConfig>, Option<Misfit>) {
        self.taken.clear();
        self.plan_again = false;
        self.goes_on = false;
        self.plan(config, marks)
    }

    /// Plans for a configuration; the one that is published names our own PPS beside the stream's.
    fn plan(&mut self, config: Arc<VideoConfig>, marks: bool) -> (Arc<VideoConfig>, Option<Misfit>) {
        self.config = Some(config.clone());
        self.plan = None;
        self.workers_lost = 0;
        if !marks {
            return (config, None);
        }
        match Plan::of_config(&config, &self.taken) {
            Ok(plan) => {
                let published = VideoConfig { record: plan.avcc().clone(), ..(*config).clone() };
                self.plan = Some(plan);
                (Arc::new(published), None)
            }
            Err(misfit) => (config, Some(misfit)),
        }
    }

    /// Looks at a picture before it goes on: from here on it may be that nothing can be marked, and why.
    pub(super) fn misfit(&mut self, bytes: &[u8]) -> Option<Misfit> {
        let misfit = self.plan.as_ref()?.admits(bytes).err()?;
        self.plan = None;
        if let Misfit::OwnPpsTaken(id) = misfit {
            self.taken.push(id);
            self.plan_again = true;
            return None;
        }
        Some(misfit)
    }

    /// At an IDR picture: the configuration once more, where another plan is needed. Until then no picture refers to our PPS, so
    /// nothing is wrong.
    pub(super) fn again(&mut self, marks: bool) -> Option<(Arc<VideoConfig>, Option<Misfit>)> {
        let config = self.config.clone().filter(|_| std::mem::take(&mut self.plan_again))?;
        Some(self.plan(config, marks))
    }

    /// Counts a picture's bytes; gives those of the GOP that an IDR picture ends.
    pub(super) fn saw(&mut self, idr: bool, bytes: usize) -> u64 {
        let before = if idr { std::mem::take(&mut self.gop_bytes) } else { 0 };
        self.gop_bytes += bytes as u64;
        before
    }

    /// What the marking processes are to do with an IDR picture.
    ///
    /// # Errors
    /// Says why nothing.
    pub(super) fn job(
        &mut self,
        bytes: Bytes,
        seed: PatternSeed,
        start_90k: i64,
        previous_gop_bytes: u64,
    ) -> Result<Job, String> {
        let plan = self.plan.as_ref().ok_or("the configuration cannot be marked")?;
        if self.marked_90k[1].is_some_and(|before| start_90k - before < TWO_90K) {
            return Err("it is the third IDR within half a second".to_owned());
        }
        self.marked_90k = [Some(start_90k), self.marked_90k[0]];
        if self.workers_lost >= WORKERS_LOST_MAX {
            return Err("its pictures end the marking process".to_owned());
        }
        Ok(plan.job(bytes, seed, previous_gop_bytes, STRENGTH_DEFAULT))
    }

    /// How that went.
    pub(super) fn ended(&mut self, worker_lost: bool) {
        self.workers_lost = if worker_lost { self.workers_lost + 1 } else { 0 };
    }
}
