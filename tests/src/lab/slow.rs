//! A slow wire for the link between the nodes: a TCP proxy on the publishers' host that passes everything on so much later.
//!
//! In: a delay. Out: an address for each node, by which the other one reaches its link; what is on its way can be thrown away,
//! as a cut wire does. The kernel's own delay (netem) is not in every kernel.

use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What may be on its way, pieces: more is not said in such a time.
const READ_BYTES: usize = 64 << 10;

/// The proxies. Threads of connections end with these.
pub struct Slow {
    /// How often the wire was cut: connections of before pass nothing on.
    cuts: Arc<AtomicU64>,
    /// Nobody is let in any more.
    over: Arc<AtomicBool>,
}

impl Slow {
    /// Where the link of the node with that number is reached.
    pub fn to(node: usize) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 9], 7400 + node as u16))
    }

    /// Starts both proxies.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn start(delay: Duration) -> Result<Slow> {
        let slow = Slow { cuts: Arc::default(), over: Arc::default() };
        for node in 1..=2_usize {
            let listener = TcpListener::bind(Slow::to(node))?;
            let (cuts, over) = (slow.cuts.clone(), slow.over.clone());
            std::thread::spawn(move || {
                for near in listener.incoming().flatten() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let target = SocketAddr::from(([10, 77, 0, node as u8], 7400));
                    // A node that is down is dialled again.
                    let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
                        continue;
                    };
                    let _ = pass(&near, &far, delay, &cuts);
                    let _ = pass(&far, &near, delay, &cuts);
                }
            });
        }
        Ok(slow)
    }

    /// Cuts the wire: what is on its way is lost, and what still comes on these connections. New ones pass.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for node in 1..=2 {
            // So that it looks.
            let _ = TcpStream::connect_timeout(&Slow::to(node), Duration::from_secs(1));
        }
    }
}

/// Passes one way on. The end comes as late as the bytes; after a cut it does not come at all.
fn pass(from: &TcpStream, to: &TcpStream, delay: Duration, cuts: &Arc<AtomicU64>) -> Result<()> {
    let (mut from, to) = (from.try_clone()?, to.try_clone()?);
    to.set_nodelay(true)?;
    let (pieces, arrive) = channel();
    let cuts = cuts.clone();
    std::thread::spawn(move || late(to, &arrive, delay, &cuts));
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if pieces.send((Instant::now(), buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    Ok(())
}

fn late(mut to: TcpStream, arrive: &Receiver<(Instant, Vec<u8>)>, delay: Duration, cuts: &AtomicU64) {
    let begun = cuts.load(Ordering::SeqCst);
    for (at, piece) in arrive {
        std::thread::sleep((at + delay).saturating_duration_since(Instant::now()));
        // A cut wire says nothing, not even that it is cut.
        if cuts.load(Ordering::SeqCst) == begun && to.write_all(&piece).is_err() {
            return;
        }
    }
    std::thread::sleep(delay);
    if cuts.load(Ordering::SeqCst) == begun {
        let _ = to.shutdown(Shutdown::Write); // its reader may have gone
    }
}
