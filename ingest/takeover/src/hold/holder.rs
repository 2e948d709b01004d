//! The hold at work: one thread between the kernel's queue and the ledger.
//!
//! In: [`Hold::admit`], [`Hold::confirm`] and friends from any thread, packets from the kernel. Out: verdicts to the
//! kernel, events to the owner's function. The thread waits for packets and for words of the owner at once, so a
//! confirmation frees its packets within a wake-up.

use super::error::Error;
use super::flow::{Base, Confirmed, Flow};
use super::ledger::{Counts, Event, Ledger, Limits, Passage};
use super::queue::Queue;
use super::segment::Segment;
use super::waits::Waits;
use crate::error::{Purpose, SystemError};
use crate::realtime;
use crate::sys::wait::{Bell, readable};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a hold works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of the kernel's queue; the rule must name the same.
    pub queue: u16,
    /// Most packets the kernel keeps; it drops the rest.
    pub queue_length: u32,
    /// Bounds of the ledger.
    pub limits: Limits,
    /// FIFO priority of the thread, if it may have one.
    pub priority: Option<u8>,
}

impl Settings {
    /// The usual bounds on a queue.
    pub fn new(queue: u16) -> Self {
        let limits = Limits::default();
        Self { queue, queue_length: limits.packets as u32, limits, priority: None }
    }
}

enum Word {
    Admit(Flow, Base),
    Confirm(Flow, Base, Confirmed),
    Finish(Flow, Base),
    Forget(Flow),
    Solo(bool),
    StrangersMayReset(bool),
    Obey(Box<dyn Fn() -> Passage + Send>),
}

#[derive(Default)]
struct Desk {
    words: Vec<Word>,
    /// Rounds that the thread has ended, verdicts sent.
    rounds: u64,
    counts: Counts,
    waits: Waits,
    stop: bool,
    broken: Option<SystemError>,
}

struct Shared {
    desk: Mutex<Desk>,
    bell: Bell,
    /// Rung after each round, for whoever waits in `settle`.
    round: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // The desk holds plain values, whole after every statement: a panic elsewhere does not spoil it.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, word: Word) {
        self.desk().words.push(word);
        self.bell.ring();
    }
}

/// A working hold. Dropped, nothing is held any more because nothing leaves: the rule still sends packets into the
/// queue, and the kernel drops them. Remove the rule to let the address speak again.
pub struct Hold {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hold").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Hold {
    /// Listens on the queue and starts the thread. `on_event` runs on that thread: hand the event on and return.
    /// Start the hold first, then install the rule.
    ///
    /// # Errors
    /// The queue cannot be had.
    pub fn start(settings: Settings, on_event: impl FnMut(Event) + Send + 'static) -> Result<Self, Error> {
        let queue = Queue::bind(settings.queue, settings.queue_length)?;
        let bell = Bell::new().to("make the hold's bell (eventfd)")?;
        let shared = Arc::new(Shared { desk: Mutex::default(), bell, round: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        let run = move || {
            if let Some(priority) = settings.priority {
                // Without the right to it the thread works as well, only less punctually; `rights` reports that.
                let _ = realtime::fifo(priority);
            }
            if let Err(error) = work(queue, settings.limits, &for_thread, on_event) {
                for_thread.desk().broken = Some(error);
            }
        };
        let thread = std::thread::Builder::new()
            .name("packet-hold".into())
            .spawn(run)
            .to("start the packet hold's thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// As [`Ledger::admit`].
    pub fn admit(&self, flow: Flow, base: Base) {
        self.shared.say(Word::Admit(flow, base));
    }

    /// As [`Ledger::confirm`].
    pub fn confirm(&self, flow: Flow, base: Base, confirmed: Confirmed) {
        self.shared.say(Word::Confirm(flow, base, confirmed));
    }

    /// As [`Ledger::finish`].
    pub fn finish(&self, flow: Flow, base: Base) {
        self.shared.say(Word::Finish(flow, base));
    }

    /// As [`Ledger::forget`].
    pub fn forget(&self, flow: Flow) {
        self.shared.say(Word::Forget(flow));
    }

    /// As [`Ledger::set_solo`].
    pub fn set_solo(&self, solo: bool) {
        self.shared.say(Word::Solo(solo));
    }

    /// As [`Ledger::strangers_may_reset`].
    pub fn strangers_may_reset(&self, may: bool) {
        self.shared.say(Word::StrangersMayReset(may));
    }

    /// Asks this function in every round who may speak, instead of being told by [`set_solo`](Self::set_solo). It must not
    /// block. Ring [`look`](Self::look) when its answer changes.
    pub fn obey(&self, passage: impl Fn() -> Passage + Send + 'static) {
        self.shared.say(Word::Obey(Box::new(passage)));
    }

    /// Begins another round soon.
    pub fn look(&self) {
        self.shared.bell.ring();
    }

    /// Waits until everything said before has taken effect. `false` when that took longer than `limit`.
    pub fn settle(&self, limit: Duration) -> bool {
        let started = Instant::now();
        let mut desk = self.shared.desk();
        // One round may be under way that began before: the second one from here certainly heard it all, and ended.
        let wanted = desk.rounds + 2;
        while desk.rounds < wanted {
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return false;
            }
            self.shared.bell.ring();
            let turn = left.min(Duration::from_millis(1));
            desk = self.shared.round.wait_timeout(desk, turn).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Figures as of the thread's last round.
    pub fn counts(&self) -> Counts {
        self.shared.desk().counts
    }

    /// How long packets waited here, from their first sight to their verdict, as of the thread's last round.
    pub fn waits(&self) -> Waits {
        self.shared.desk().waits
    }

    /// Why the thread has ended by itself. Nothing leaves the address since then: say so loudly.
    pub fn failure(&self) -> Option<String> {
        let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        let reason = self.shared.desk().broken.as_ref().map(ToString::to_string);
        reason.or_else(|| ended.then(|| "the packet hold's thread panicked".into()))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.desk().stop = true;
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn work(
    mut queue: Queue,
    limits: Limits,
    shared: &Shared,
    mut on_event: impl FnMut(Event),
) -> Result<(), SystemError> {
    let (mut ledger, mut waits) = (Ledger::new(limits), Waits::default());
    let mut obeyed: Option<Box<dyn Fn() -> Passage + Send>> = None;
    loop {
        readable([Some(queue.as_fd()), Some(shared.bell.as_fd())], None).to("wait for packets")?;
        shared.bell.hush();
        let words = {
            let mut desk = shared.desk();
            if desk.stop {
                return Ok(());
            }
            std::mem::take(&mut desk.words)
        };
        // Before the words: a confirmation frees nothing while this host may have been overtaken.
        if let Some(passage) = &obeyed {
            ledger.set_passage(passage());
        }
        for word in words {
            match word {
                Word::Admit(flow, base) => ledger.admit(flow, base),
                Word::Confirm(flow, base, confirmed) => {
                    ledger.confirm(flow, base, confirmed);
                }
                Word::Finish(flow, base) => ledger.finish(flow, base),
                Word::Forget(flow) => ledger.forget(flow),
                Word::Solo(solo) => ledger.set_solo(solo),
                Word::StrangersMayReset(may) => ledger.strangers_may_reset(may),
                Word::Obey(passage) => {
                    ledger.set_passage(passage());
                    obeyed = Some(passage);
                }
            }
        }
        let arrived = Instant::now();
        queue.receive(|id, packet| ledger.offer(Segment::parse(packet), (id, arrived)))?;
        while let Some(((id, since), verdict)) = ledger.poll_verdict() {
            queue.judge(id, verdict);
            waits.note(since.elapsed());
        }
        {
            // Before the verdicts, so that nobody sees a packet leave that is not counted.
            let mut desk = shared.desk();
            desk.counts = ledger.counts();
            desk.waits = waits;
        }
        // Before the packets too: whoever accepts a connection finds the word on its handshake there.
        while let Some(event) = ledger.poll_event() {
            on_event(event);
        }
        queue.send()?;
        shared.desk().rounds += 1;
        shared.round.notify_all();
    }
}
