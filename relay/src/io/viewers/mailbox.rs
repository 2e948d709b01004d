//! What a worker is told from outside: letters, and a bell that its epoll hears.
//!
//! In: letters of any thread. Out: all of them at once, to the worker. The bell rings once for letters that lie together.

use super::seat::Token;
use crate::node::Reply;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// News for a worker.
pub(super) enum Letter {
    /// The answer to a request that had to wait.
    Answered(Token, Reply),
    /// An HTTP/2 connection has shown a session.
    Proved(Token),
    /// It has come to its end.
    Gone(Token),
    /// A stream has changed: who waits for it looks again.
    Changed,
    /// Somebody may have lost the right to what is being sent to them.
    Look,
    /// Nobody new; answers under way finish.
    Stop,
    /// Everything ends now.
    End,
}

/// A worker's mailbox.
pub(super) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox {
            letters: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Puts a letter in.
    pub(super) fn post(&self, letter: Letter) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter);
        let first = letters.len() == 1;
        drop(letters);
        if first {
            // It fails only when the count is full: then the bell is ringing already.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Takes all letters out, in order, in place of `read`, which gives its room back.
    pub(super) fn take(&self, read: &mut Vec<Letter>) {
        read.clear();
        std::mem::swap(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner), read);
    }

    /// What an epoll listens to, edge-triggered: it is never read, each ring is an edge.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
