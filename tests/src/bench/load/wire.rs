//! A viewer's connection, plain or through TLS.
//!
//! In: a socket that is being connected, and what is asked. Out: what comes, given to the answer that waits for it. What
//! nobody looks at is thrown away in the kernel (`MSG_TRUNC`), of TLS record by record.

use super::answer::Answer;
use super::tls::{self, BESIDE_BYTES, HEADER_BYTES, Records, Shaking};
use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::ClientConfig;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

/// A connection.
pub(super) struct Wire {
    socket: TcpStream,
    layer: Layer,
}

enum Layer {
    Plain,
    Shaking(Box<Shaking>),
    Sealed(Box<Sealed>),
    /// Between two of them, or after a handshake that failed.
    Lost,
}

struct Sealed {
    records: Records,
    /// The beginning of a record.
    record: Vec<u8>,
    /// Of a record that is passed over: bytes that are still to come, and how many of the answer's it holds.
    passing: Option<(usize, usize)>,
}

/// What a look at the socket gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nothing yet.
    Nothing,
    /// Something: there may be more.
    Bytes,
    /// The server has closed.
    End,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Result<Wire> {
        let shaking = tls.map(Shaking::new).transpose()?;
        let layer = shaking.map_or(Layer::Plain, |shaking| Layer::Shaking(Box::new(shaking)));
        Ok(Wire { socket, layer })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The socket can be written to or read from: whether the viewer can ask now.
    pub(super) fn opens(&mut self) -> Result<bool> {
        let Layer::Shaking(shaking) = &mut self.layer else { return Ok(true) };
        if !shaking.go_on(&mut self.socket)? {
            return Ok(false);
        }
        if let Layer::Shaking(shaking) = std::mem::replace(&mut self.layer, Layer::Lost) {
            let (record, passing) = (Vec::new(), None);
            self.layer = Layer::Sealed(Box::new(Sealed { records: shaking.records()?, record, passing }));
        }
        Ok(true)
    }

    /// Sends a request; it must fit into the socket at once.
    pub(super) fn ask(&mut self, request: &[u8]) -> Result<()> {
        let count = match &mut self.layer {
            Layer::Plain => self.socket.write(request)? == request.len(),
            Layer::Sealed(sealed) => {
                let record = sealed.records.seal(request)?;
                self.socket.write(&record)? == record.len()
            }
            Layer::Shaking(_) | Layer::Lost => bail!("it is not open"),
        };
        ensure!(count, "a request was cut");
        Ok(())
    }

    /// Takes what has come, once; `scratch` is where it may lie.
    pub(super) fn take(&mut self, answer: &mut Option<Answer>, scratch: &mut [u8]) -> Result<Came> {
        match &mut self.layer {
            Layer::Plain => plain(&self.socket, answer, scratch),
            Layer::Sealed(sealed) => sealed.take(&self.socket, answer, scratch),
            // `opens` reads what comes.
            Layer::Shaking(_) => Ok(Came::Nothing),
            Layer::Lost => bail!("it is not open"),
        }
    }
}

/// The most that is looked at at once.
const READ_BYTES: usize = 16 << 10;

fn plain(socket: &TcpStream, answer: &mut Option<Answer>, scratch: &mut [u8]) -> Result<Came> {
    let to_drop = answer.as_ref().map_or(0, Answer::to_drop);
    let got = if to_drop > 0 {
        drop_some(socket, scratch, to_drop)?
    } else {
        read_some(socket, &mut scratch[..READ_BYTES])?
    };
    match (got, answer) {
        (Got::Nothing, _) => return Ok(Came::Nothing),
        (Got::End, _) => return Ok(Came::End),
        (Got::Bytes(count), Some(answer)) if to_drop > 0 => answer.dropped(count),
        (Got::Bytes(count), Some(answer)) => answer.take(&scratch[..count])?,
        (Got::Bytes(count), None) => bail!("{count} bytes that nobody asked for"),
    }
    Ok(Came::Bytes)
}

impl Sealed {
    fn take(&mut self, socket: &TcpStream, answer: &mut Option<Answer>, scratch: &mut [u8]) -> Result<Came> {
        if let Some((left, plain)) = self.passing {
            let count = match drop_some(socket, scratch, left)? {
                Got::Nothing => return Ok(Came::Nothing),
                Got::End => return Ok(Came::End),
                Got::Bytes(count) => count,
            };
            self.passing = (count < left).then_some((left - count, plain));
            if self.passing.is_none() {
                answer.as_mut().context("whose record it is")?.dropped(plain);
            }
            return Ok(Came::Bytes);
        }
        let whole = match self.record.get(..HEADER_BYTES) {
            Some(header) => HEADER_BYTES + tls::length(header)?,
            None => HEADER_BYTES,
        };
        let want = whole - self.record.len();
        match read_some(socket, &mut scratch[..want])? {
            Got::Nothing => return Ok(Came::Nothing),
            Got::End => return Ok(Came::End),
            Got::Bytes(count) => self.record.extend_from_slice(&scratch[..count]),
        }
        if self.record.len() < whole {
            return Ok(Came::Bytes);
        }
        if whole > HEADER_BYTES {
            let data = self.records.open(&mut self.record)?;
            match answer {
                Some(answer) => answer.take(data)?,
                None => ensure!(data.is_empty(), "{} bytes that nobody asked for", data.len()),
            }
            self.record.clear();
        } else if let to_drop @ 1.. = answer.as_ref().map_or(0, Answer::to_drop) {
            let length = tls::length(&self.record)?;
            let plain = length - BESIDE_BYTES;
            ensure!(plain <= to_drop, "a record goes {} bytes beyond its answer", plain - to_drop);
            self.records.skip()?;
            self.record.clear();
            self.passing = Some((length, plain));
        }
        Ok(Came::Bytes)
    }
}

enum Got {
    Nothing,
    Bytes(usize),
    End,
}

fn read_some(socket: &TcpStream, into: &mut [u8]) -> Result<Got> {
    got(rustix::net::recv(socket, into, RecvFlags::DONTWAIT).map(|(_, count)| count))
}

/// So many bytes at most, unseen.
fn drop_some(socket: &TcpStream, scratch: &mut [u8], most: usize) -> Result<Got> {
    let most = most.min(scratch.len());
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    got(rustix::net::recv(socket, &mut scratch[..most], flags).map(|(_, count)| count))
}

fn got(count: rustix::io::Result<usize>) -> Result<Got> {
    match count {
        Ok(0) => Ok(Got::End),
        Ok(count) => Ok(Got::Bytes(count)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(Got::Nothing),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Use;
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_plain_answer_is_taken_or_thrown_away() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut wire = Wire::new(socket, None).unwrap();
        assert!(wire.opens().unwrap());
        let mut scratch = vec![0; 1 << 16];
        for usage in [Use::Keep, Use::Hash, Use::Count] {
            wire.ask(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let body = vec![7; 100_000];
            server
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
                .unwrap();
            server.write_all(&body).unwrap();
            let mut answer = Some(Answer::new(usage));
            while !answer.as_ref().unwrap().is_whole() {
                assert_ne!(wire.take(&mut answer, &mut scratch).unwrap(), Came::End);
            }
            assert_eq!(answer.unwrap().body_len, 100_000);
        }
        server.write_all(b"?").unwrap();
        let came = std::iter::repeat_with(|| wire.take(&mut None, &mut scratch))
            .find(|came| !matches!(came, Ok(Came::Nothing)));
        assert!(came.unwrap().is_err(), "nobody asked");
        drop(server);
    }
}
