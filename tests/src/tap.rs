//! A wire tap: a relay on loopback that passes every byte on and keeps a copy of both directions.
//!
//! In: where to pass connections on to. Out: an address to connect to, and what went through it. It serves one connection.

use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The most that is kept of one direction.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A tapped connection.
pub struct Tap {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
    received: Arc<Mutex<Vec<u8>>>,
    worker: Option<JoinHandle<()>>,
}

impl Tap {
    /// Waits for one connection and passes it on to `target`.
    ///
    /// # Errors
    /// When the system gives no port.
    pub fn to(target: SocketAddr) -> Result<Tap> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sent, received) = (Arc::default(), Arc::default());
        let (to, back) = (Arc::clone(&sent), Arc::clone(&received));
        let worker = std::thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else { return };
            let Ok(server) = TcpStream::connect(target) else { return };
            let (Ok(client_in), Ok(server_in)) = (client.try_clone(), server.try_clone()) else { return };
            let answers = std::thread::spawn(move || pass(server_in, client, &back));
            pass(client_in, server, &to);
            let _ = answers.join(); // it does not panic; its copy stands either way
        });
        Ok(Tap { address, sent, received, worker: Some(worker) })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the client has sent so far.
    pub fn sent(&self) -> Vec<u8> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the server has answered so far.
    pub fn received(&self) -> Vec<u8> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the connection's end.
    ///
    /// # Errors
    /// When it was waited for before.
    pub fn finish(&mut self) -> Result<()> {
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(())) => Ok(()),
            _ => bail!("the tap has ended before"),
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, copy: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        if copy.len() + count <= KEPT_BYTES_MAX {
            copy.extend_from_slice(&buffer[..count]);
        }
        drop(copy);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // the other side may be gone
}
