//! A plain HTTP/1.1 client: it sends exactly what it is told and reads one answer.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    /// The same from an address of the loopback network.
    pub async fn from(source: [u8; 4], address: SocketAddr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Client { stream: socket.connect(address).await.unwrap(), read: Vec::new() }
    }

    pub async fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }

    /// `headers` are whole lines.
    pub async fn ask(&mut self, method: &str, target: &str, headers: &str) -> Answer {
        let request = format!("{method} {target} HTTP/1.1\r\nhost: relay\r\n{headers}\r\n");
        self.send(request.as_bytes()).await;
        self.answer(method == "HEAD").await.expect("the relay closed without an answer")
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer; `None` when the connection ends before one is whole.
    pub async fn answer(&mut self, without_body: bool) -> Option<Answer> {
        timeout(Duration::from_secs(15), self.read_answer(without_body)).await.expect("no answer within 15 s")
    }

    async fn read_answer(&mut self, without_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !without_body && status != 204 && status != 304 {
            let len: usize =
                answer.header("content-length").expect("every answer has a length").parse().unwrap();
            while self.read.len() < len {
                self.more().await?;
            }
            answer.body = self.read.drain(..len).collect();
        }
        Some(answer)
    }

    async fn more(&mut self) -> Option<()> {
        let mut chunk = vec![0; 65536];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                self.read.extend_from_slice(&chunk[..count]);
                Some(())
            }
        }
    }
}
