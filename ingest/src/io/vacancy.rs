//! Ports and queues that a former life of this node may still have open while it ends.
//!
//! In: what opens something, and which of its errors say that it is taken. Out: the thing, or the last error. Touches
//! nothing but time: the thread sleeps between two tries, at the start, before anybody waits for it.

use std::io;
use std::time::{Duration, Instant};

/// A process that was killed needs some tens of milliseconds to give up what it had, on a busy machine more.
const WAIT_MAX: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// Opens something; while it is taken, again, for some seconds.
///
/// # Errors
/// Those of `open`, the last one when it stayed taken.
pub fn once_free<T, E>(
    is_taken: impl Fn(&E) -> bool,
    mut open: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match open() {
            Err(error) if is_taken(&error) && began.elapsed() < WAIT_MAX => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

/// Whether an address is somebody's.
pub fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn what_is_given_up_soon_is_waited_for() {
        let former = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = former.local_addr().unwrap();
        assert!(is_in_use(&UdpSocket::bind(at).unwrap_err()));
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(former);
        });
        assert!(once_free(is_in_use, || UdpSocket::bind(at)).is_ok());
        ends.join().unwrap();
    }

    #[test]
    fn other_errors_are_told_at_once() {
        let began = Instant::now();
        let error = once_free(is_in_use, || UdpSocket::bind("192.0.2.1:1")).unwrap_err();
        assert!(!is_in_use(&error) && began.elapsed() < WAIT_MAX);
    }
}
