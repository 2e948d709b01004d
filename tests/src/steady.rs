//! A broadcaster of our own: one RTMP connection whose bytes leave evenly, some every millisecond, as behind a constant uplink.
//!
//! ffmpeg sends a message, then nothing for up to a picture's time: what a takeover takes is then hidden in its pauses. In: a
//! feed, an address, a stream key. Out: a live connection with the same access units over and over, timestamps going on.
//! Written apart from the programs on purpose (Adobe RTMP 1.0): chunks of 64 KiB, plain handshake, five commands.

use crate::feed;
use crate::flv::Feed;
use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often bytes are offered.
const TICK: Duration = Duration::from_millis(1);
/// A server that takes or says nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(15);
const CHUNK: usize = 64 << 10;
const HANDSHAKE: usize = 1536;
/// Timestamps from here on have another form, which this publisher does not write: 4.6 hours.
const TIMESTAMP_MAX: u64 = 0x00ff_ffff;

/// Kinds of messages.
const SET_CHUNK_SIZE: u8 = 1;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const COMMAND: u8 = 20;

/// A running push. It ends with a FIN when it is dropped.
pub struct Steady {
    /// Its own port: which connection this is on the wire.
    pub port: u16,
    socket: TcpStream,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// One round of the feed as bytes of the wire.
pub struct Reel {
    /// All messages, one after the other.
    pub bytes: Vec<u8>,
    /// Where messages begin, and their time within the round, milliseconds.
    stamps: Vec<(usize, u32)>,
    /// How long the round is.
    pub length_ms: u64,
}

impl Steady {
    /// Connects from a port of the system's choice, and publishes.
    ///
    /// # Errors
    /// When the feed is missing, or the server does not let it publish.
    pub fn start(name: &str, to: SocketAddr, key: &str) -> Result<Steady> {
        Steady::over(connect(to, 0)?, name, key)
    }

    /// Publishes over a connection that is there already.
    ///
    /// # Errors
    /// When the feed is missing, or the server does not let it publish.
    pub fn over(mut socket: TcpStream, name: &str, key: &str) -> Result<Steady> {
        let feed = Feed::parse(&std::fs::read(feed::path(name)?)?)?;
        let to = socket.peer_addr()?;
        begin(&mut socket, to, key, &feed).context("cannot publish")?;
        Steady::begun(socket, &feed)
    }

    /// Goes on over a connection that publishes already (`begin`).
    ///
    /// # Errors
    /// A feed that is not whole seconds long.
    pub fn begun(socket: TcpStream, feed: &Feed) -> Result<Steady> {
        let port = socket.local_addr()?.port();
        let mut reel = Reel::of(feed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, mut pushed, mut answers) = (stop.clone(), socket.try_clone()?, socket.try_clone()?);
        // Acknowledgements are of no interest; unread they would fill the window.
        std::thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
        let thread = std::thread::spawn(move || push(&mut pushed, &mut reel, &stopping));
        Ok(Steady { port, socket, stop, thread: Some(thread) })
    }

    /// An error when the connection has ended.
    ///
    /// # Errors
    /// With what the socket said.
    pub fn check_alive(&mut self) -> Result<()> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            match self.thread.take().map(JoinHandle::join) {
                Some(Ok(Err(error))) => return Err(error.context("the steady publisher's connection ended")),
                _ => bail!("the steady publisher has ended"),
            }
        }
        Ok(())
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.socket.shutdown(Shutdown::Both); // it may have ended
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // told by `check_alive`
        }
    }
}

/// A connection from this port; 0 for any.
///
/// # Errors
/// The port is taken, or nobody answers.
pub fn connect(to: SocketAddr, port: u16) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if port != 0 {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new([0, 0, 0, 0].into(), port).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Handshake, commands, codec configurations.
///
/// # Errors
/// When the server does not let it publish.
pub fn begin(socket: &mut TcpStream, to: SocketAddr, key: &str, feed: &Feed) -> Result<()> {
    (0..STEPS).try_for_each(|number| step(socket, to, key, feed, number))
}

/// Steps of `begin`: hello, its answer, commands, their answer, codec configurations.
pub const STEPS: usize = 5;

/// One step of `begin`, the first being 0.
///
/// # Errors
/// When the server does not let it publish.
pub fn step(socket: &mut TcpStream, to: SocketAddr, key: &str, feed: &Feed, step: usize) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut out = Vec::new();
    match step {
        0 => {
            let mut hello = vec![0; 1 + HANDSHAKE];
            hello[0] = 3;
            socket.write_all(&hello)?;
        }
        1 => {
            let mut answer = vec![0; 1 + 2 * HANDSHAKE];
            socket.read_exact(&mut answer)?;
            ensure!(answer[0] == 3, "the server speaks version {}", answer[0]);
            socket.write_all(&answer[1..=HANDSHAKE])?;
        }
        2 => {
            // Still in chunks of the size before: it is four bytes.
            message(&mut out, 2, SET_CHUNK_SIZE, 0, 0, &(CHUNK as u32).to_be_bytes());
            let url = format!("rtmp://{to}/live");
            let object = [&[3][..], &property("app", "live"), &property("tcUrl", &url), &[0, 0, 9]].concat();
            message(&mut out, 3, COMMAND, 0, 0, &[text("connect"), number(1.0), object].concat());
            message(&mut out, 3, COMMAND, 0, 0, &[text("createStream"), number(2.0), vec![5]].concat());
            let publish = [text("publish"), number(3.0), vec![5], text(key), text("live")].concat();
            message(&mut out, 4, COMMAND, 1, 0, &publish);
            socket.write_all(&out)?;
        }
        3 => {
            let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
            let says = |heard: &[u8], word: &[u8]| heard.windows(word.len()).any(|window| window == word);
            while !says(&heard, b"NetStream.Publish.Start") {
                let count = socket.read(&mut buffer).context("no answer to publish")?;
                ensure!(count > 0 && !says(&heard, b"NetStream.Publish.BadName"), "the server refuses");
                heard.extend_from_slice(&buffer[..count]);
            }
        }
        _ => {
            let video = video_head(feed, 0, true, 0);
            message(&mut out, 6, VIDEO, 1, 0, &[&video[..], &feed.avcc].concat());
            if !feed.smaller_avcc.is_empty() {
                message(&mut out, 6, VIDEO, 1, 0, &smaller(true, 0, &feed.smaller_avcc));
            }
            message(&mut out, 5, AUDIO, 1, 0, &[&audio_head(feed, 0)[..], &feed.asc].concat());
            if !feed.second_asc.is_empty() {
                message(&mut out, 5, AUDIO, 1, 0, &second(0, &feed.second_asc));
            }
            socket.write_all(&out)?;
        }
    }
    socket.set_read_timeout(None)?;
    Ok(())
}

impl Reel {
    /// The feed's messages, not dated yet.
    ///
    /// # Errors
    /// A feed that is not whole seconds long.
    pub fn of(feed: &Feed) -> Result<Reel> {
        let mut messages = Vec::new();
        for unit in &feed.video {
            let head = video_head(feed, 1, unit.key, unit.cts_ms);
            messages.push((unit.dts_ms, 6, VIDEO, [&head[..], &unit.data].concat()));
        }
        for unit in &feed.smaller {
            let timed = [&unit.cts_ms.to_be_bytes()[1..], &unit.data].concat();
            messages.push((unit.dts_ms, 6, VIDEO, smaller(unit.key, 1, &timed)));
        }
        for unit in &feed.audio {
            messages.push((unit.dts_ms, 5, AUDIO, [&audio_head(feed, 1)[..], &unit.data].concat()));
        }
        for unit in &feed.second {
            messages.push((unit.dts_ms, 5, AUDIO, second(1, &unit.data)));
        }
        messages.sort_by_key(|(dts_ms, ..)| *dts_ms);
        let (mut bytes, mut stamps) = (Vec::new(), Vec::new());
        for (dts_ms, chunks, kind, body) in &messages {
            stamps.push((bytes.len(), *dts_ms));
            message(&mut bytes, *chunks, *kind, 1, *dts_ms, body);
        }
        // 30 pictures a second, and whole seconds (`feed`).
        let length_ms = feed.video.len() as u64 * 1000 / 30;
        ensure!(length_ms > 0 && length_ms.is_multiple_of(1000), "a feed of {length_ms} ms");
        Ok(Reel { bytes, stamps, length_ms })
    }

    /// The messages in order, each with its time within the round, in milliseconds.
    pub fn messages(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let ends = self.stamps.iter().skip(1).map(|(at, _)| *at).chain([self.bytes.len()]);
        self.stamps.iter().zip(ends).map(|((at, within_ms), end)| (*within_ms, &self.bytes[*at..end]))
    }

    /// Dates all messages for this round.
    ///
    /// # Errors
    /// Rounds later than timestamps are written.
    pub fn date(&mut self, round: u64) -> Result<()> {
        for (at, within_ms) in &self.stamps {
            let time = round * self.length_ms + u64::from(*within_ms);
            ensure!(time < TIMESTAMP_MAX, "the steady publisher ends here, by its own limit");
            self.bytes[at + 1..at + 4].copy_from_slice(&(time as u32).to_be_bytes()[1..]);
        }
        Ok(())
    }
}

fn push(socket: &mut TcpStream, reel: &mut Reel, stop: &AtomicBool) -> Result<()> {
    let (length, started) = (reel.bytes.len() as u64, Instant::now());
    let (mut sent, mut tick) = (0_u64, 0_u32);
    while !stop.load(Ordering::Relaxed) {
        let due = started.elapsed().as_micros() as u64 * length / (reel.length_ms * 1000);
        while sent < due {
            let at = sent % length;
            if at == 0 {
                reel.date(sent / length)?;
            }
            let end = length.min(at + due - sent);
            socket.write_all(&reel.bytes[at as usize..end as usize])?;
            sent += end - at;
        }
        tick += 1;
        std::thread::sleep((started + TICK * tick).saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// What comes before a configuration record (0) or a picture (1): as in FLV 10.1, or Enhanced RTMP v2 for another codec, whose pictures
/// come in the order in which they are shown.
fn video_head(feed: &Feed, packet: u8, key: bool, cts_ms: i32) -> Vec<u8> {
    let frame = if key { 0x10 } else { 0x20 };
    match feed.video_fourcc {
        None => [&[frame | 7, packet][..], &cts_ms.to_be_bytes()[1..]].concat(),
        Some(fourcc) => [&[0x80 | frame | if packet == 0 { 0 } else { 3 }][..], &fourcc].concat(),
    }
}

/// The same for sound.
fn audio_head(feed: &Feed, packet: u8) -> Vec<u8> {
    match feed.audio_fourcc {
        None => vec![0xaf, packet],
        Some(fourcc) => [&[0x90 | packet][..], &fourcc].concat(),
    }
}

/// What a message has of a second audio track: its configuration (0) or a frame (1). Enhanced RTMP v2, "Multitrack": one
/// track, by its id.
fn second(packet: u8, data: &[u8]) -> Vec<u8> {
    [&[0x95, packet][..], b"mp4a\x01", data].concat()
}

/// The same of a second encoding of the picture.
fn smaller(key: bool, packet: u8, data: &[u8]) -> Vec<u8> {
    [&[if key { 0x96 } else { 0xa6 }, packet][..], b"avc1\x01", data].concat()
}

/// A message in chunks: the first with all of its header, the others with none.
fn message(out: &mut Vec<u8>, chunks: u8, kind: u8, stream: u32, time_ms: u32, body: &[u8]) {
    out.push(chunks);
    out.extend_from_slice(&time_ms.to_be_bytes()[1..]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream.to_le_bytes());
    for (number, chunk) in body.chunks(CHUNK).enumerate() {
        if number > 0 {
            out.push(0xc0 | chunks);
        }
        out.extend_from_slice(chunk);
    }
}

fn text(text: &str) -> Vec<u8> {
    [&[2][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn number(number: f64) -> Vec<u8> {
    [&[0][..], &number.to_be_bytes()].concat()
}

fn property(name: &str, value: &str) -> Vec<u8> {
    [&(name.len() as u16).to_be_bytes()[..], name.as_bytes(), &text(value)].concat()
}
