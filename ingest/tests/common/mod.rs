//! A node on loopback, an encoder that says what ffmpeg said, and a relay's eye: what the tests of this folder share.
//!
//! Media is the capture of a real ffmpeg publish (one second, one GOP), said again as often as a test needs it, faster than
//! real time. Tests wait for what the node lists or says.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod secure;
pub mod speke;

use bytes::BytesMut;
use ingest_api::node_auth::{self, ANSWER_HEADER, AUTH_HEADER};
use ingest_api::origin::Route;
use ingest_api::window::{Segment, Sha256};
use ingest_api::{Snapshot, StreamName};
use releve_ingest::config::Config;
use releve_ingest::io::node::{self, Node, Settings};
use releve_ingest::io::pair::data::Start;
use releve_ingest::io::publish::GRACE;
use releve_ingest::state_dir::{KeyKind, StateDir};
use releve_state::coordinator::{Coordinator, Encrypt, MarkPolicy, StreamRecord};
use releve_state::sqlite::Sqlite;
use releve_state::{KeyHash, StreamKey};
use releve_watermark::KeyRing;
use rtmp::amf::Value;
use rtmp::chunk::{Writer, kind};
use rtmp::{Event, MediaKind, Message, Session};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A publish of ffmpeg 5.1: 96 × 64 H.264 at 10 frames a second and AAC, one second.
const FFMPEG: &[u8] = include_bytes!("../../rtmp/tests/captures/ffmpeg-5.1.bin");
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn stream() -> StreamName {
    "demo".parse().unwrap()
}

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it never came")
}

fn marker() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_releve-ingest"))
}

/// A state folder with one stream.
pub struct Lab {
    pub folder: TempDir,
    pub state: Sqlite,
    pub key: String,
    pub cluster: KeyRing,
    /// The program that marks.
    pub marker: PathBuf,
    /// Further lines of its nodes' configuration.
    pub more: &'static str,
}

impl Lab {
    pub async fn new(mark: MarkPolicy) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path());
        dir.init().unwrap();
        let state = Sqlite::open(&dir.database()).unwrap();
        let (key, record) = new_key(mark);
        state.add_stream(record).await.unwrap();
        Lab { cluster: dir.keys(KeyKind::Cluster).unwrap(), folder, state, key, marker: marker(), more: "" }
    }

    /// Its stream is encrypted from now on.
    pub async fn encrypted(self) -> Lab {
        let mut record = self.state.stream(&stream()).await.unwrap().unwrap();
        record.encrypt = Encrypt::Cbcs;
        self.state.update_stream(record).await.unwrap();
        self
    }

    /// The folder of the other node of a pair: its own records, the same keys.
    pub async fn twin(&self) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path());
        dir.init().unwrap();
        for file in std::fs::read_dir(self.folder.path().join("keys")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join("keys").join(file.file_name())).unwrap();
        }
        let state = Sqlite::open(&dir.database()).unwrap();
        Lab {
            cluster: self.cluster.clone(),
            folder,
            state,
            key: self.key.clone(),
            marker: marker(),
            more: self.more,
        }
    }

    /// A node on this folder; several may run.
    pub async fn node(&self, grace: Duration) -> Node {
        self.start(grace, "", None).await
    }

    /// The same with the data half of a pair, listing parts as they come.
    pub async fn paired(&self, grace: Duration, pair: Option<Start>) -> Node {
        self.start(grace, "low_latency = true\nkey_segments = 2\n", pair).await
    }

    /// The same, with more lines in its configuration.
    pub async fn node_with(&self, grace: Duration, more: &str) -> Node {
        self.start(grace, more, None).await
    }

    async fn start(&self, grace: Duration, more: &str, pair: Option<Start>) -> Node {
        let dir = self.folder.path().display();
        let listen = "\"127.0.0.1:0\"";
        // One that shares an address has others of its own, for publishers through TLS too.
        let shares = pair.as_ref().is_some_and(|pair| !pair.config.addresses.is_empty());
        let publishers = if shares { "\"0.0.0.0:0\"" } else { listen };
        let secure = if shares { secure::listening("0.0.0.0:0", self.folder.path()) } else { String::new() };
        let text = format!(
            "name = \"ingest\"\ndir = \"{dir}\"\nsegment_seconds = 1\n\
             rtmp_listen = {publishers}\norigin_listen = {listen}\nadmin_listen = {listen}\n{more}{}{secure}",
            self.more
        );
        let config = Config::parse(&text, []).unwrap();
        let marker = self.marker.clone();
        let certificate_look = Duration::from_millis(30);
        let settings = Settings { grace, certificate_look, marker, pair, control: None };
        node::start_with(config, settings).await.unwrap()
    }

    /// A relay's signed request: status and body, or `None` where the node listens no more. The answer's signature holds.
    pub async fn ask(&self, origin: SocketAddr, route: Route) -> Option<(u16, Vec<u8>)> {
        let path = route.to_path();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (auth, mac) = node_auth::sign_request(&self.cluster, "GET", &path, now, [7; 16]);
        let (status, head, body) = get(origin, &path, &format!("{AUTH_HEADER}: {auth}\r\n")).await?;
        let signed = head.lines().find_map(|line| line.strip_prefix(&format!("{ANSWER_HEADER}: "))).unwrap();
        node_auth::verify_answer(&self.cluster, &mac, status, &body, signed).unwrap();
        Some((status, body))
    }

    /// The first snapshot that is as wanted.
    pub async fn window(&self, node: &Node, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        self.followed(node.origin, None, wanted).await
    }

    /// The first snapshot behind version `after` that is as wanted, of a node that may be about to stop.
    pub async fn followed(
        &self,
        origin: SocketAddr,
        mut after: Option<u64>,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        let search = async {
            loop {
                let route = Route::Window { stream: stream(), after, wait_ms: 5_000 };
                let (status, body) = self.ask(origin, route).await.expect("the node still listens");
                // A standby knows a stream once it was told of it.
                if status == 204 || (status == 404 && after.is_none()) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                assert_eq!(status, 200);
                let snapshot: Snapshot = serde_json::from_slice(&body).unwrap();
                if wanted(&snapshot) {
                    return snapshot;
                }
                after = Some(snapshot.version);
            }
        };
        soon(search).await
    }

    /// What is listed once so many segments are.
    pub async fn listed(&self, node: &Node, segments: usize) -> Snapshot {
        self.window(node, |snapshot| snapshot.segments.len() >= segments).await
    }

    /// What is listed once the publisher has left.
    pub async fn ended(&self, node: &Node) -> Snapshot {
        self.window(node, |snapshot| !snapshot.live && !snapshot.segments.is_empty()).await
    }
}

/// How often something was reported of the stream.
pub async fn reported(node: &Node, kind: &str) -> u64 {
    let (.., page) = get(node.admin, "/metrics", "").await.unwrap();
    let page = String::from_utf8(page).unwrap();
    let counter = format!("reports_total{{stream=\"demo\",kind=\"{kind}\"}} ");
    let count = page.lines().find_map(|line| line.split_once(&counter)?.1.parse().ok());
    count.unwrap_or_else(|| panic!("no {kind} in {page}"))
}

/// A stream's key and record.
pub fn new_key(mark: MarkPolicy) -> (String, StreamRecord) {
    let key = StreamKey::generate().unwrap();
    let record = StreamRecord {
        name: stream(),
        key_id: key.id().to_owned(),
        key_hash: KeyHash::of(&key),
        mark,
        encrypt: Encrypt::None,
    };
    (key.expose().to_owned(), record)
}

/// One request on a connection of its own: status, head, body.
pub async fn get(address: SocketAddr, path: &str, headers: &str) -> Option<(u16, String, Vec<u8>)> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head, answer[end + 4..].to_vec()))
}

/// What a node makes of these messages alone, in one publish: hashes of every track.
pub async fn alone(messages: &[Message]) -> Vec<Sha256> {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(messages).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    soon(node.stop()).await;
    hashes(&snapshot.segments)
}

/// Of every track, in order.
pub fn hashes(segments: &[Segment]) -> Vec<Sha256> {
    segments.iter().flat_map(|segment| segment.tracks.iter().map(|track| track.sha256)).collect()
}

/// The media messages of the capture.
pub fn capture() -> Vec<Message> {
    let mut session = Session::new(rtmp::Config::default(), 0, [0; 1528]);
    session.handle_input(0, FFMPEG).unwrap();
    let mut messages = Vec::new();
    loop {
        match session.poll_event() {
            Some(Event::Publish { .. }) => {
                session.accept_publish();
                session.handle_timeout(0).unwrap();
            }
            Some(Event::Media(message)) => messages.push(message),
            Some(_) => {}
            None => return messages,
        }
    }
}

/// What a file holds: time in milliseconds, length and payload of each message; the configuration is the first.
fn kept(kind: MediaKind, mut rest: &'static [u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().unwrap());
        let (payload, after) = after.split_at(number(4) as usize);
        let payload = bytes::Bytes::from_static(payload);
        messages.push(Message { kind, timestamp: number(0), payload });
        rest = after;
    }
    messages
}

/// The same second with other pictures: HEVC of libx265 in ffmpeg 5.1 with B-frames, in Enhanced RTMP as encoders say it.
pub fn hevc_seconds(of: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages = kept(MediaKind::Video, include_bytes!("hevc.messages"));
    messages.extend(capture().into_iter().filter(|message| message.kind == MediaKind::Audio));
    messages.sort_by_key(|message| message.timestamp);
    again(&messages, of)
}

/// The same second with other sound: Opus.
pub fn opus_seconds(of: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages = kept(MediaKind::Audio, include_bytes!("opus.messages"));
    messages.extend(capture().into_iter().filter(|message| message.kind == MediaKind::Video));
    messages.sort_by_key(|message| message.timestamp);
    again(&messages, of)
}

/// The same audio message as one of another track (Enhanced RTMP v2, "Multitrack").
pub fn of_track(id: u8, message: &Message) -> Message {
    let payload = match &message.payload[..] {
        [0xaf, packet, rest @ ..] => [&[0x95, *packet][..], b"mp4a", &[id], rest].concat(),
        [head, a, b, c, d, rest @ ..] => [&[0x95, head & 0x0f, *a, *b, *c, *d, id][..], rest].concat(),
        other => panic!("no audio message: {other:?}"),
    };
    Message { payload: payload.into(), ..message.clone() }
}

/// The same video message as one of a further encoding (Enhanced RTMP v2, "Multitrack").
pub fn of_encoding(id: u8, message: &Message) -> Message {
    let payload = match &message.payload[..] {
        // Of the old form only pictures have a composition time in the new one.
        [head @ (0x17 | 0x27), packet, time @ ..] => {
            let rest = if *packet == 1 { time } else { &time[3..] };
            [&[0x80 | head & 0xf0 | 6, *packet][..], b"avc1", &[id], rest].concat()
        }
        [head, a, b, c, d, rest @ ..] => {
            [&[head & 0xf0 | 6, head & 0x0f, *a, *b, *c, *d, id][..], rest].concat()
        }
        other => panic!("no video message: {other:?}"),
    };
    Message { payload: payload.into(), ..message.clone() }
}

/// The same second with further encodings: HEVC, AV1, the same pictures once more, and once more but a picture too late.
pub fn encodings_seconds(of: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages = capture();
    let pictures = messages.iter().filter(|message| message.kind == MediaKind::Video);
    let pictures: Vec<Message> = pictures.cloned().collect();
    let same = pictures.iter().map(|message| of_encoding(3, message));
    let late = pictures
        .iter()
        .map(|message| Message { timestamp: message.timestamp + 100, ..of_encoding(4, message) });
    for (id, other) in [(1, &include_bytes!("hevc.messages")[..]), (2, include_bytes!("av1.messages"))] {
        messages.extend(kept(MediaKind::Video, other).iter().map(|message| of_encoding(id, message)));
    }
    messages.extend(same.chain(late));
    messages.sort_by_key(|message| message.timestamp);
    again(&messages, of)
}

/// The same second with two further audio tracks: one of Opus, and with the same sound once more.
pub fn several_seconds(of: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages = capture();
    let first = messages.iter().filter(|message| message.kind == MediaKind::Audio);
    let third: Vec<Message> = first.map(|message| of_track(2, message)).collect();
    let second = kept(MediaKind::Audio, include_bytes!("opus.messages"));
    messages.extend(second.iter().map(|message| of_track(1, message)));
    messages.extend(third);
    messages.sort_by_key(|message| message.timestamp);
    again(&messages, of)
}

/// A second of AV1 of libaom beside Opus of libopus, both in ffmpeg 5.1.
pub fn av1_seconds(of: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages = kept(MediaKind::Video, include_bytes!("av1.messages"));
    messages.extend(kept(MediaKind::Audio, include_bytes!("opus.messages")));
    messages.sort_by_key(|message| message.timestamp);
    again(&messages, of)
}

/// Some seconds of it: each begins with an IDR picture, the codec configurations are in front.
pub fn seconds(of: std::ops::Range<u32>) -> Vec<Message> {
    again(&capture(), of)
}

fn again(capture: &[Message], of: std::ops::Range<u32>) -> Vec<Message> {
    of.flat_map(|second| {
        capture.iter().map(move |message| Message {
            timestamp: (message.timestamp + second * 1_000).min(second * 1_000 + 999),
            ..message.clone()
        })
    })
    .collect()
}

/// An encoder's connection. What the server says is read all the time.
pub struct Encoder {
    socket: tokio::net::tcp::OwnedWriteHalf,
    said: watch::Receiver<Vec<u8>>,
    reading: JoinHandle<()>,
}

impl Encoder {
    /// Connects and asks to publish; does not wait for the answer.
    pub async fn publish(node: &Node, key: &str) -> Encoder {
        Encoder::publish_at(node.rtmp, key).await
    }

    /// The same at any address.
    pub async fn publish_at(address: SocketAddr, key: &str) -> Encoder {
        Encoder::publish_with(address, key, &[]).await
    }

    /// The same, with more properties in its `connect`.
    pub async fn publish_with(address: SocketAddr, key: &str, more: &[(&str, Value)]) -> Encoder {
        let mut encoder = Encoder::connects(address, more).await;
        encoder.ask(key).await;
        encoder
    }

    /// Connects and has a stream to publish on; does not wait for the answers.
    pub async fn connects(address: SocketAddr, more: &[(&str, Value)]) -> Encoder {
        let (mut read, socket) = TcpStream::connect(address).await.unwrap().into_split();
        let (heard, said) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                heard.send_modify(|said: &mut Vec<u8>| said.extend_from_slice(&buffer[..count]));
            }
        });
        let mut encoder = Encoder { socket, said, reading };
        let mut hello = vec![3];
        hello.resize(1 + 2 * 1536, 0);
        encoder.write(&hello).await;
        let app = [("app", Value::text("live")), ("tcUrl", Value::text("rtmp://node/live"))];
        let app = app.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone()));
        encoder.command(0, "connect", 1.0, &[Value::Object(app.collect())]).await;
        encoder.command(0, "createStream", 2.0, &[Value::Null]).await;
        encoder
    }

    /// Connects and is accepted.
    pub async fn accepted(node: &Node, key: &str) -> Encoder {
        let mut encoder = Encoder::publish(node, key).await;
        encoder.hears("NetStream.Publish.Start").await;
        encoder
    }

    /// Asks to publish, on this connection.
    pub async fn ask(&mut self, key: &str) {
        self.command(1, "publish", 5.0, &[Value::Null, Value::text(key), Value::text("live")]).await;
    }

    /// Ends the publish and keeps the connection.
    pub async fn unpublish(&mut self, key: &str) {
        self.command(0, "FCUnpublish", 6.0, &[Value::Null, Value::text(key)]).await;
    }

    async fn command(&mut self, stream: u32, name: &str, transaction: f64, rest: &[Value]) {
        let mut payload = Vec::new();
        Value::text(name).encode(&mut payload);
        Value::Number(transaction).encode(&mut payload);
        rest.iter().for_each(|value| value.encode(&mut payload));
        self.message(3, kind::COMMAND, stream, 0, &payload).await;
    }

    pub async fn send(&mut self, messages: &[Message]) {
        for message in messages {
            let kind = message.kind as u8;
            self.message(4, kind, 1, message.timestamp, &message.payload).await;
        }
    }

    async fn message(&mut self, csid: u8, kind: u8, stream: u32, timestamp: u32, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        Writer::default().write(&mut bytes, csid, kind, stream, timestamp, payload);
        self.write(&bytes).await;
    }

    /// A peer that has closed is noticed where a test listens.
    async fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Waits until the server has said this.
    pub async fn hears(&mut self, words: &str) {
        let heard = |said: &Vec<u8>| said.windows(words.len()).any(|said| said == words.as_bytes());
        let heard = soon(self.said.wait_for(heard)).await.is_ok();
        let said = String::from_utf8_lossy(&self.said.borrow()).into_owned();
        assert!(heard, "closed without `{words}`: {said:?}");
    }

    /// Whether the server has said this so far.
    pub fn has_heard(&self, words: &str) -> bool {
        self.said.borrow().windows(words.len()).any(|said| said == words.as_bytes())
    }

    /// Waits until the server closes.
    pub async fn closed(self) {
        soon(self.reading).await.unwrap();
    }

    /// Is gone at once, in the middle of whatever it says.
    pub fn dies(self) {
        self.reading.abort();
    }

    /// Says that nothing more comes, and waits until the server has read it all.
    pub async fn leaves(mut self) {
        self.socket.shutdown().await.unwrap();
        soon(self.reading).await.unwrap();
    }
}
