//! The hold at work: the ledger between the kernel's queue and its owner.
//!
//! In: [`Hold::admit`], [`Hold::confirm`] and friends from any thread, packets from the kernel. Out: verdicts to the
//! kernel, events to the owner's function. A thread waits for packets and for nothing else: whoever brings the news that a
//! packet may leave lets it go himself, which saves the packet the waking of that thread.

use super::error::Error;
use super::flow::{Base, Confirmed, Flow};
use super::ledger::{Counts, Event, Ledger, Limits, Passage};
use super::queue::{Outgoing, Queue};
use super::segment::Segment;
use super::waits::Waits;
use crate::error::{Purpose, SystemError};
use crate::realtime;
use crate::sys::wait::{Bell, readable};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

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

/// Who may speak, asked in every round.
type Obeyed = Box<dyn Fn() -> Passage + Send>;

struct Desk {
    ledger: Ledger<(u32, Instant)>,
    obeyed: Option<Obeyed>,
    outgoing: Outgoing,
    waits: Waits,
    stop: bool,
    broken: Option<SystemError>,
}

struct Shared {
    queue: Queue,
    desk: Mutex<Desk>,
    /// Ends the thread's waiting.
    bell: Bell,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // The desk holds plain values, whole after every statement: a panic elsewhere does not spoil it.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries something out and whatever follows from it; when this returns, packets that may leave have left.
    fn round<T>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        let mut desk = self.desk();
        // First: a confirmation frees nothing while this host may have been overtaken.
        if let Some(passage) = desk.obeyed.as_ref().map(|obeyed| obeyed()) {
            desk.ledger.set_passage(passage);
        }
        let done = act(&mut desk);
        if desk.broken.is_none()
            && let Err(error) = self.judge(&mut desk)
        {
            desk.broken = Some(error);
            self.bell.ring();
        }
        done
    }

    fn judge(&self, desk: &mut Desk) -> Result<(), SystemError> {
        while let Some(((id, since), verdict)) = desk.ledger.poll_verdict() {
            self.queue.judge(id, verdict, &mut desk.outgoing);
            desk.waits.note(since.elapsed());
        }
        self.queue.send(&mut desk.outgoing)
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
    /// Listens on the queue and starts the thread. `on_event` runs on that thread, and nothing of the hold goes on before it
    /// returns: hand the event on, and do not call the hold. Start the hold first, then install the rule.
    ///
    /// # Errors
    /// The queue cannot be had.
    pub fn start(settings: Settings, on_event: impl FnMut(Event) + Send + 'static) -> Result<Self, Error> {
        let queue = Queue::bind(settings.queue, settings.queue_length)?;
        let bell = Bell::new().to("make the hold's bell (eventfd)")?;
        let desk = Desk {
            ledger: Ledger::new(settings.limits),
            obeyed: None,
            outgoing: Outgoing::default(),
            waits: Waits::default(),
            stop: false,
            broken: None,
        };
        let shared = Arc::new(Shared { queue, desk: Mutex::new(desk), bell });
        let for_thread = Arc::clone(&shared);
        let run = move || {
            if let Some(priority) = settings.priority {
                // Without the right to it the thread works as well, only less punctually; `rights` reports that.
                let _ = realtime::fifo(priority);
            }
            if let Err(error) = work(&for_thread, on_event) {
                for_thread.desk().broken.get_or_insert(error);
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
        self.shared.round(|desk| desk.ledger.admit(flow, base));
    }

    /// As [`Ledger::confirm`], of several connections at once.
    pub fn confirm(&self, news: &[(Flow, Base, Confirmed)]) {
        self.shared.round(|desk| {
            for (flow, base, confirmed) in news {
                desk.ledger.confirm(*flow, *base, *confirmed);
            }
        });
    }

    /// As [`Ledger::finish`].
    pub fn finish(&self, flow: Flow, base: Base) {
        self.shared.round(|desk| desk.ledger.finish(flow, base));
    }

    /// As [`Ledger::forget`].
    pub fn forget(&self, flow: Flow) {
        self.shared.round(|desk| desk.ledger.forget(flow));
    }

    /// As [`Ledger::set_solo`].
    pub fn set_solo(&self, solo: bool) {
        self.shared.round(|desk| desk.ledger.set_solo(solo));
    }

    /// As [`Ledger::strangers_may_reset`].
    pub fn strangers_may_reset(&self, may: bool) {
        self.shared.round(|desk| desk.ledger.strangers_may_reset(may));
    }

    /// Asks this function in every round who may speak, instead of being told by [`set_solo`](Self::set_solo). It must not
    /// block, and not call the hold. [`look`](Self::look) when its answer changes.
    pub fn obey(&self, passage: impl Fn() -> Passage + Send + 'static) {
        self.shared.round(|desk| {
            desk.ledger.set_passage(passage());
            desk.obeyed = Some(Box::new(passage));
        });
    }

    /// Asks at once who may speak: when this returns, the answer is in force.
    pub fn look(&self) {
        self.shared.round(|_| ());
    }

    /// Figures.
    pub fn counts(&self) -> Counts {
        self.shared.desk().ledger.counts()
    }

    /// How long packets waited here, from their first sight to their verdict.
    pub fn waits(&self) -> Waits {
        self.shared.desk().waits
    }

    /// Why the hold has ended by itself. Nothing leaves the address since then: say so loudly.
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

/// The thread: packets into the ledger.
fn work(shared: &Shared, mut on_event: impl FnMut(Event)) -> Result<(), SystemError> {
    loop {
        readable([Some(shared.queue.as_fd()), Some(shared.bell.as_fd())], None).to("wait for packets")?;
        let arrived = Instant::now();
        let going = shared.round(|desk| {
            if desk.stop || desk.broken.is_some() {
                return Ok(false);
            }
            let Desk { ledger, .. } = desk;
            shared.queue.receive(|id, packet| ledger.offer(Segment::parse(packet), (id, arrived)))?;
            // Before any packet leaves: whoever accepts a connection finds the word on its handshake there.
            while let Some(event) = desk.ledger.poll_event() {
                on_event(event);
            }
            Ok(true)
        })?;
        if !going {
            return Ok(());
        }
    }
}
