//! A second hand: a thread that codes the lower half of a picture while the worker's own codes the upper.
//!
//! In: two things to do. Out: what both gave. Touches one thread, started once, because the worker may start none once its
//! walls stand (`sandbox`). What is done by which hand, and when, is in no byte of the result.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;

type Task = Box<dyn FnOnce() + Send>;

/// A thread that waits for something to do; it ends when this is dropped.
#[derive(Debug)]
pub struct Hand(SyncSender<Task>);

impl Hand {
    /// Starts the thread and waits until it is there.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Hand> {
        let (tasks, given) = sync_channel::<Task>(1);
        Builder::new()
            .name("second hand".to_owned())
            .spawn(move || given.into_iter().for_each(|task| task()))?;
        let hand = Hand(tasks);
        hand.both(|| (), || ());
        Ok(hand)
    }

    /// Does one thing here and the other there, and waits for both. A panic there ends the process: whoever asked is told by
    /// that, as of one here.
    pub fn both<A, B: Send + 'static>(
        &self,
        here: impl FnOnce() -> A,
        there: impl FnOnce() -> B + Send + 'static,
    ) -> (A, B) {
        let (done, back) = sync_channel(1);
        let task = Box::new(move || {
            let _ = done.send(there()); // nobody waits for it if this end panicked
        });
        let given = self.0.send(task);
        let here = given.map(|()| here());
        match (here, back.recv()) {
            (Ok(here), Ok(there)) => (here, there),
            _ => std::process::abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn both_are_done_at_once() {
        let hand = Hand::start().unwrap();
        for round in 0..100 {
            // Either waits for the other: done in turn, this would never end.
            let here = Arc::new(Barrier::new(2));
            let there = Arc::clone(&here);
            let given = hand.both(
                || {
                    here.wait();
                    round
                },
                move || {
                    there.wait();
                    round + 1
                },
            );
            assert_eq!(given, (round, round + 1));
        }
    }
}
