//! What the other node says on the link, heard at once whatever else this node does.
//!
//! In: bytes of the link. Out: as holder, packets that may leave now; as standby, steps for the engine, confirmed as soon as
//! they are here; a ring for the engine. Every acknowledgement to a publisher waits for its way to the standby and back, so a
//! thread of its own hears, punctual while it has little to do: the runtime's threads parse and hash, a millisecond at a time.
//! Touches the link's socket, under the books' lock.

use super::books::{Books, Data};
use mirror::{Role, Step};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use takeover::hold::Confirmed;
use takeover::realtime::WhileIdle;
use takeover::wait::{Way, ready};
use tracing::{error, warn};

/// As the packet hold's: below the heartbeats.
const PRIORITY: u8 = 40;
/// One read.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Input that the engine has not carried out, bytes: a second of 500 Mb/s. With more the link is not read, and publishers wait
/// at the holder.
const DUE_MAX: usize = 64 << 20;

/// What was heard and is not carried out yet.
#[derive(Debug, Default)]
pub(super) struct Ear {
    due: VecDeque<Step>,
    due_bytes: usize,
    /// As holder: the standby confirmed something.
    pub(super) confirmed: bool,
    /// As holder: whatever is confirmed now, the engine waits for.
    pub(super) awaited: bool,
    /// The link has ended, and why. What is due comes before.
    ended: Option<String>,
    /// A step could not be carried out: no later one counts.
    failed: bool,
    /// The link is not read, because so much is due.
    waits: bool,
    stop: bool,
}

impl Ear {
    /// As standby: the next step. With this it is the caller's.
    pub(super) fn next(&mut self) -> Option<Step> {
        if self.failed {
            return None;
        }
        let step = self.due.pop_front()?;
        self.due_bytes -= length(&step);
        Some(step)
    }

    /// Whatever was confirmed was carried out.
    pub(super) fn is_carried_out(&self) -> bool {
        self.due.is_empty() && !self.failed
    }

    /// A step could not be carried out.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Why the link has ended, once.
    pub(super) fn take_end(&mut self) -> Option<String> {
        self.ended.take()
    }

    /// The thread waited for this: all is carried out.
    pub(super) fn take_waits(&mut self) -> bool {
        std::mem::take(&mut self.waits)
    }

    /// Nothing that was heard counts any more.
    pub(super) fn forget(&mut self) {
        *self = Ear { stop: self.stop, ..Ear::default() };
    }

    fn is_full(&self) -> bool {
        self.due_bytes >= DUE_MAX
    }
}

fn length(step: &Step) -> usize {
    match step {
        Step::Input { bytes, .. } | Step::Note { bytes, .. } => bytes.len(),
        Step::Snapshot { state, .. } => state.len(),
        _ => 0,
    }
}

/// The thread that hears; it ends with this.
#[derive(Debug)]
pub(super) struct Hearing {
    data: Data,
    thread: Option<JoinHandle<()>>,
}

impl Hearing {
    /// Begins.
    ///
    /// # Errors
    /// No thread to be had.
    pub(super) fn start(data: &Data) -> io::Result<Hearing> {
        let heard = data.clone();
        let run = move || {
            if let Err(error) = listen(&heard) {
                error!(%error, "the pair's link is not heard any more");
            }
        };
        let thread = std::thread::Builder::new().name("pair-link".into()).spawn(run)?;
        Ok(Hearing { data: data.clone(), thread: Some(thread) })
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.data.books().ear.stop = true;
        self.data.0.listen.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The thread.
fn listen(data: &Data) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut realtime = WhileIdle::fifo(PRIORITY);
    loop {
        realtime.look();
        let mut books = data.books();
        if books.ear.stop {
            return Ok(());
        }
        books.ear.waits = books.ear.is_full();
        let stream = books.mouth.stream().filter(|_| !books.ear.waits);
        let way = if books.mouth.is_free() { Way::In } else { Way::InOrOut };
        drop(books);
        let link = stream.as_ref().map(|stream| (stream.as_fd(), way));
        let [rung, here] = ready([Some((data.0.listen.as_fd(), Way::In)), link], None)?;
        if rung {
            data.0.listen.hush();
        }
        if let Some(stream) = stream.filter(|_| here) {
            data.hear(&stream, &mut buffer);
            let mut books = data.books();
            books.finish_sentence();
            if books.ear.ended.is_some() {
                // At once: what follows from it does not wait for a tick.
                data.ring();
            }
        }
    }
}

impl Data {
    /// Reads the link once. `false`: there is no more now, or no room for it.
    pub(super) fn hear(&self, stream: &Arc<TcpStream>, buffer: &mut [u8]) -> bool {
        // Bytes are taken in their order, whoever reads them.
        let mut books = self.books();
        if !books.mouth.is_of(stream) || books.ear.is_full() {
            return false;
        }
        match (&**stream).read(buffer) {
            Ok(count @ 1..) => {
                self.take_in(books, &buffer[..count]);
                return true;
            }
            Ok(_) => books.end("it ended".into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            Err(error) => books.end(error.to_string()),
        }
        drop(books);
        self.ring();
        false
    }

    /// Bytes of the link.
    pub(super) fn take_in(&self, mut books: MutexGuard<'_, Books>, bytes: &[u8]) {
        match books.mouth.role() {
            Some(Role::Holder) => self.release(books, bytes),
            Some(Role::Standby) => {
                books.follow(bytes);
                drop(books);
                self.ring();
            }
            None => {}
        }
    }

    /// As holder: packets that may leave for these bytes have left on return.
    fn release(&self, mut guard: MutexGuard<'_, Books>, bytes: &[u8]) {
        let books = &mut *guard;
        if let Err(error) = books.holder.handle_bytes(bytes) {
            warn!(%error, "the pair's link is closed");
            books.end(error.to_string());
        }
        let mut news = Vec::new();
        while let Some((connection, (received, sent))) = books.holder.poll_release() {
            books.ear.confirmed = true;
            let (Some(egress), Some(entry)) = (&self.0.egress, books.entries.get_mut(&connection)) else {
                continue;
            };
            let (Some(flow), Some(base)) = (entry.flow, entry.base) else { continue };
            if !std::mem::replace(&mut entry.admitted, true) {
                egress.admit(flow, base);
            }
            news.push((flow, base, Confirmed { received, sent }));
        }
        // Of a steady pair's confirmations the engine learns with its next tick.
        let ring = books.holder.has_events() || !books.holder.is_paired() || books.ear.awaited;
        drop(guard);
        if let Some(egress) = self.0.egress.as_ref().filter(|_| !news.is_empty()) {
            // Not under the books' lock: packets leave meanwhile. What was confirmed once stays true, so that it matters to
            // nobody whether a later word overtakes this one.
            egress.confirm(&news);
        }
        self.0.room.notify_waiters();
        if ring {
            self.ring();
        }
    }
}

impl Books {
    /// As standby: takes what the holder did, and confirms it.
    fn follow(&mut self, bytes: &[u8]) {
        let Some(standby) = &mut self.standby else { return self.end("there is nobody to follow".into()) };
        let handled = standby.handle_bytes(bytes);
        while let Some(step) = standby.poll_step() {
            self.ear.due_bytes += length(&step);
            self.ear.due.push_back(step);
        }
        // Both nodes must be gone for these to be lost: they are in this one's memory, and a takeover carries them out first.
        self.finish_sentence();
        if let Err(error) = handled {
            warn!(%error, "the pair's link is closed");
            self.end(error.to_string());
        }
    }

    /// Says what there is to say.
    fn finish_sentence(&mut self) {
        if let Err(error) = self.speak() {
            self.end(error.to_string());
        }
    }

    /// The link is of no more use.
    fn end(&mut self, why: String) {
        self.mouth = super::mouth::Mouth::default();
        self.ear.ended.get_or_insert(why);
    }
}

#[cfg(test)]
#[path = "ear_tests.rs"]
mod tests;
