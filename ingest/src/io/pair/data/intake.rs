//! Where publishers' sockets are read: a thread of its own, so that input is on its way to the standby whatever else this
//! node does.
//!
//! In: the tasks of sockets (`pump`). Out: their work, on one thread, punctual while it has little to do. Nothing that parses,
//! hashes or waits for a disk runs here. Touches nothing itself.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use takeover::realtime::WhileIdle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// As the packet hold's: below the heartbeats.
const PRIORITY: u8 = 40;
/// How often it looks whether it is busy.
const LOOK: Duration = Duration::from_millis(100);

/// The thread; it ends with this, and whatever runs on it.
#[derive(Debug)]
pub(super) struct Intake {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Intake {
    /// Begins.
    ///
    /// # Errors
    /// No thread, or no descriptor, to be had.
    pub(super) fn start() -> io::Result<Intake> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let watch = async {
                let mut realtime = WhileIdle::fifo(PRIORITY);
                loop {
                    sleep(LOOK).await;
                    realtime.look();
                }
            };
            // Stopped either way.
            runtime.block_on(async {
                tokio::select! {
                    stopped = stopped => drop(stopped),
                    never = watch => never,
                }
            });
        };
        let thread = std::thread::Builder::new().name("pair-intake".into()).spawn(run)?;
        Ok(Intake { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where its tasks are started, and the sockets that they read.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
