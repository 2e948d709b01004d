//! Anonymous network namespaces: they live as long as somebody holds them and need no names and no clean-up.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

pub(crate) struct Namespace(File);

impl Namespace {
    /// A new, empty namespace.
    pub(crate) fn new() -> std::io::Result<Self> {
        let made = std::thread::spawn(|| {
            // SAFETY: a plain flag; only this thread moves, and it ends here.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        });
        made.join().expect("the thread does not panic").map(Self)
    }

    /// Runs a function on a thread inside the namespace; processes it starts are inside too.
    pub(crate) fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the descriptor is open and names a network namespace; only this thread moves.
                let moved = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(moved, 0, "setns: {}", std::io::Error::last_os_error());
                inside()
            });
            thread.join().expect("the thread inside the namespace")
        })
    }

    /// Runs `ip` inside; `{other}` in the words stands for the other namespace.
    pub(crate) fn ip(&self, words: &str, other: Option<&Self>) {
        let path = other.map(|other| format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd()));
        let words = words.replace("{other}", path.as_deref().unwrap_or_default());
        let output: Output = self
            .enter(|| Command::new("ip").args(words.split_whitespace()).output())
            .expect("ip (iproute2) starts");
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets a sysctl inside, such as `ipv4/tcp_sack`.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.enter(|| std::fs::write(format!("/proc/sys/net/{name}"), value)).expect("the sysctl exists");
    }
}
