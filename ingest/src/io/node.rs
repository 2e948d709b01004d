//! An ingest node, put together: opens the state, starts every task, stops them in order.
//!
//! In: a `Config`. Out: a running `Node` with the addresses it listens on. This is the one place that knows all rooms.

use crate::config::{Config, Normalise};
use crate::io::admin::Admin;
use crate::io::admission::Admission;
use crate::io::archive;
use crate::io::key_server::KeyServer;
use crate::io::marking::{Keys, Marking, pool};
use crate::io::normalising::Normalisers;
use crate::io::origin::Origin;
use crate::io::pair::control::Control;
use crate::io::pair::operate::Operate;
use crate::io::pair::{self, data};
use crate::io::publish::{self, Context};
use crate::io::rtmp::{self, Door};
use crate::io::rtmps::{self, Secure};
use crate::io::streams::{Begin, Streams};
use crate::io::vacancy::{is_in_use, once_free};
use crate::log::Gate;
use crate::metrics::Metrics;
use crate::state_dir::{KeyKind, StateDir, StateDirError};
use anyhow::{Context as _, Result};
use ingest_api::StreamName;
use media::window::Window;
use releve_listen::http;
use releve_state::Blobs;
use releve_state::coordinator::{Coordinator, NodeRecord, NodeRole, StreamRecord};
use releve_state::local::Local;
use releve_state::sqlite::Sqlite;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How often stream records are read again, and the node shows a sign of life: a new key works at once (it is looked up),
/// an ended one within this.
const REFRESH: Duration = Duration::from_secs(2);
/// How long streams have to record their last segment when the node stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long relays have to fetch the last segments before the origin closes: they ask as soon as one is listed.
const LINGER: Duration = Duration::from_secs(1);
/// Segments kept after they left the playlist, for players that are behind.
const KEPT_EXTRA: usize = 6;

/// Connections of relays at once, each of which keeps a few dozen; of operators the same.
const CONNECTIONS_MAX: usize = 1024;

/// What no configuration says; tests do.
#[derive(Debug)]
pub struct Settings {
    /// How long a slot waits for its publisher.
    pub grace: Duration,
    /// How often the files of the publishers' certificate are looked at.
    pub certificate_look: Duration,
    /// The program whose `mark-worker` marks: this one.
    pub marker: PathBuf,
    /// The other node: orders, and where reports go.
    pub pair: Option<data::Start>,
    /// The pair's control half, running.
    pub control: Option<Arc<Control>>,
}

impl Settings {
    /// Those of the program.
    ///
    /// # Errors
    /// When this program's own path is unknown.
    pub fn of_program() -> Result<Settings> {
        let marker = std::env::current_exe().context("this program's own path is unknown")?;
        Ok(Settings {
            grace: publish::GRACE,
            certificate_look: rtmps::LOOK,
            marker,
            pair: None,
            control: None,
        })
    }
}

/// A running ingest node.
pub struct Node {
    /// Where publishers connect.
    pub rtmp: SocketAddr,
    /// Where publishers connect through TLS, if anywhere.
    pub rtmps: Option<SocketAddr>,
    /// Where relays fetch.
    pub origin: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    streams: Arc<Streams>,
    pair: Option<data::Data>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    publishing: Arc<Mutex<JoinSet<()>>>,
    control: Option<Arc<Control>>,
}

/// Starts a node; every listener is ready when this returns.
///
/// # Errors
/// Names what could not be read, opened or bound.
pub async fn start(config: Config) -> Result<Node> {
    let mut settings = Settings::of_program()?;
    if let Some(pair) = &config.pair {
        let (control, data) = pair::start(&config, pair)?;
        (settings.control, settings.pair) = (Some(Arc::new(control)), Some(data));
    }
    start_with(config, settings).await
}

/// Starts a node with settings of the caller.
///
/// # Errors
/// As `start`.
///
/// The future is a box, so that all it leads to is compiled once, here, and not in each program and test that starts a node.
pub fn start_with(config: Config, settings: Settings) -> Pin<Box<dyn Future<Output = Result<Node>> + Send>> {
    Box::pin(started(config, settings))
}

async fn started(config: Config, settings: Settings) -> Result<Node> {
    let dir = StateDir::at(&config.dir);
    let keys = marking_keys(&dir)?;
    let cluster = dir.keys(KeyKind::Cluster)?;
    let content = match dir.keys(KeyKind::Content) {
        Ok(keys) => Some(keys),
        Err(StateDirError::NoKey(_)) => None, // it is asked for by streams that are encrypted
        Err(error) => return Err(error.into()),
    };
    let key_server = config.drm.as_ref().map(|drm| KeyServer::new(drm, &dir)).transpose();
    let key_server = key_server.context("the DRM key server of `[drm]`")?.map(Arc::new);
    let cluster_keys = cluster.clone();
    let database = dir.database();
    let state: Arc<dyn Coordinator> =
        Arc::new(Sqlite::open(&database).with_context(|| format!("cannot open {}", database.display()))?);
    let blobs: Arc<dyn Blobs> =
        Arc::new(Local::open(dir.blobs()).with_context(|| format!("cannot open {}", dir.blobs().display()))?);
    let (metrics, mut registry) = Metrics::new();
    let (archive, archiving) = archive::start(&config, &dir, metrics.clone())?;
    let normalisers = (config.normalise == Normalise::Auto)
        .then(|| Normalisers::new(settings.marker.clone(), config.segment_seconds));
    let pool = Arc::new(pool(settings.marker, config.mark_workers));
    // A node that cannot mark still takes streams whose policy lets them pass: loudly.
    match pool.start().await {
        Ok(missing) => missing.lines().for_each(|wall| warn!("the marking process runs without {wall}")),
        Err(error) => warn!(%error, "nothing can be marked"),
    }

    let rtmp_listener = bind(config.rtmp_listen)?;
    let secure = match config.rtmps() {
        Some((address, files)) => {
            let secure = Secure::read(files, settings.certificate_look, &metrics)?;
            Some((bind(address)?, secure))
        }
        None => None,
    };
    let rtmps_at = secure.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
    let origin_listener = bind(config.origin_listen)?;
    let admin_listener = bind(config.admin_listen)?;
    let (rtmp_at, origin_at, admin_at) =
        (rtmp_listener.local_addr()?, origin_listener.local_addr()?, admin_listener.local_addr()?);

    let pair = settings.pair.map(|start| data::prepare(start, metrics.clone())).transpose()?;
    let twin = pair.as_ref().map(data::Prepared::data);
    let publishing = Arc::new(Mutex::new(JoinSet::new()));
    let spawn = {
        let (config, state, blobs, metrics) = (config.clone(), state.clone(), blobs.clone(), metrics.clone());
        let (publishing, pair) = (publishing.clone(), twin.clone());
        move |record: &StreamRecord, begins: mpsc::Receiver<Begin>| {
            let window = new_window(&record.name, &config);
            let (out, published) = watch::channel(Arc::new(window.clone()));
            let context = Context {
                stream: record.name.clone(),
                target_duration_s: config.segment_seconds,
                mpeg_ts: config.mpeg_ts,
                content: content.clone(),
                key_segments: config.key_segments,
                key_server: key_server.clone(),
                state: state.clone(),
                blobs: blobs.clone(),
                marking: Marking::new(
                    record.name.clone(),
                    keys.clone(),
                    pool.clone(),
                    normalisers.clone(),
                    metrics.clone(),
                ),
                archive: archive.clone(),
                metrics: metrics.clone(),
                grace: settings.grace,
                pair: pair.clone(),
            };
            let mut tasks = publishing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            tasks.spawn(publish::run(context, window, begins, out));
            published
        }
    };
    let streams = Arc::new(Streams::new(state.clone(), metrics.clone(), Box::new(spawn)));
    streams.refresh().await.context("cannot read the streams")?;

    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let door = Door {
        streams: streams.clone(),
        admission: Admission::default(),
        metrics: metrics.clone(),
        gate: Arc::default(),
        pair: twin.clone(),
    };
    if let Some(pair) = pair {
        tasks.spawn(until(pair.run(door.clone()), stopping.clone()));
    }
    if let Some((listener, secure)) = secure {
        tasks.spawn(rtmps::listen(listener, rtmp_at.port(), secure, door.clone(), stopping.clone()));
    }
    tasks.spawn(rtmp::listen(rtmp_listener, door, stopping.clone()));
    let origin = Arc::new(Origin {
        node: config.name.clone(),
        cluster,
        streams: streams.clone(),
        blobs,
        metrics,
        muxing: Arc::new(Semaphore::new(1)),
        gate: Gate::default(),
        stop: stopping.clone(),
    });
    let stopped = until(std::future::pending(), stopping.clone());
    tasks.spawn(http::serve(origin_listener, CONNECTIONS_MAX, stopped, move |request| {
        origin.clone().answer(request)
    }));
    let recording = Arc::new(AtomicBool::new(true));
    let pair = settings.control.clone().zip(config.pair.as_ref()).map(|(control, pair)| {
        control.board.register(&mut registry);
        Arc::new(Operate::new(control, pair, cluster_keys, dir.audit()))
    });
    let admin = Arc::new(Admin {
        node: config.name.clone(),
        registry,
        streams: streams.clone(),
        state: state.clone(),
        recording: recording.clone(),
        pair,
    });
    let stopped = until(std::future::pending(), stopping.clone());
    tasks.spawn(http::serve(admin_listener, CONNECTIONS_MAX, stopped, move |request| {
        admin.clone().answer(request)
    }));
    let record = NodeRecord {
        name: config.name.clone(),
        role: NodeRole::Ingest,
        url: config.origin_url.clone().unwrap_or_else(|| format!("http://{origin_at}")),
        admin_url: format!("http://{admin_at}"),
        seen_unix_ms: 0,
    };
    if let Some(writer) = archiving {
        tasks.spawn(writer.run(stopping.clone()));
    }
    tasks.spawn(archive::prune(config.archive_hours, dir, state.clone(), stopping.clone()));
    tasks.spawn(keep_fresh(streams.clone(), state, record, recording, stopping));
    info!(name = config.name, rtmp = %rtmp_at, rtmps = rtmps_at.map(tracing::field::display), origin = %origin_at, admin = %admin_at, "ingest node ready");
    Ok(Node {
        rtmp: rtmp_at,
        rtmps: rtmps_at,
        origin: origin_at,
        admin: admin_at,
        streams,
        pair: twin,
        stop,
        tasks,
        publishing,
        control: settings.control,
    })
}

/// What marking needs. The bias key is the one that relays take with the code key: of the same version, or else the
/// current one; a node that was not given the file takes the former for granted.
fn marking_keys(dir: &StateDir) -> Result<Keys> {
    let code_version = dir.keys(KeyKind::Code)?.current().version;
    let bias_version = match dir.keys(KeyKind::Bias) {
        Ok(bias) => bias.version(code_version).unwrap_or(bias.current()).version,
        Err(StateDirError::NoKey(_)) => code_version,
        Err(error) => return Err(error.into()),
    };
    Ok(Keys { pattern: dir.keys(KeyKind::Pattern)?.current().clone(), code_version, bias_version })
}

/// Reads what `start` would read, and binds nothing.
///
/// # Errors
/// Names what is missing or wrong.
pub fn check(config: &Config) -> Result<()> {
    let dir = StateDir::at(&config.dir);
    for kind in [KeyKind::Pattern, KeyKind::Code, KeyKind::Cluster] {
        dir.keys(kind)?;
    }
    if let Some((_, files)) = config.rtmps() {
        files.read()?;
    }
    if let Some(drm) = &config.drm {
        KeyServer::new(drm, &dir).context("the DRM key server of `[drm]`")?;
    }
    Ok(())
}

impl Node {
    /// What the pair's data half says of itself; `None` without a pair.
    pub fn pair_status(&self) -> Option<data::Status> {
        self.pair.as_ref().map(data::Data::status)
    }

    /// Closes publishers, records what they sent, and ends every task.
    pub async fn stop(mut self) {
        info!("stopping");
        if let Some(control) = self.control.clone() {
            // A planned end is a planned handover: with a standby in step no publisher notices.
            let gave = spawn_blocking(move || control.hand_over()).await;
            if let Ok(Err(why)) = gave {
                info!(%why, "nobody to hand over to");
            }
        }
        let live = || self.streams.all().iter().any(|(_, slot)| slot.window.borrow().is_live());
        let was_live = live();
        self.streams.close_all();
        // The listeners stay until the last segments are listed, and a moment longer: relays fetch them now.
        let drained = async {
            while live() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(DRAIN_MAX, drained).await.is_err() {
            warn!("a stream did not record its last segment in time");
        }
        if was_live {
            sleep(LINGER).await;
        }
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_MAX, ended).await;
        if let Some(control) = self.control.take() {
            // The address goes with the last words of its publishers said.
            let _ = spawn_blocking(move || control.stop()).await;
        }
        self.publishing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).abort_all();
    }
}

fn new_window(stream: &StreamName, config: &Config) -> Window {
    // Versions of two processes never meet, so that a relay sees a restarted node's window as new.
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64) << 16;
    let listed = config.window_segments;
    let window = Window::new(stream.clone(), config.segment_seconds, listed, listed + KEPT_EXTRA, seed);
    if config.low_latency { window.with_parts() } else { window }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    };
    once_free(is_in_use, bound).with_context(|| format!("cannot listen on {address}"))
}

/// Runs a task until the node stops.
async fn until(task: impl Future<Output = ()>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = task => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Reads stream records again and shows a sign of life, every `REFRESH`; notes whether the store took it.
async fn keep_fresh(
    streams: Arc<Streams>,
    state: Arc<dyn Coordinator>,
    mut record: NodeRecord,
    recording: Arc<AtomicBool>,
    mut stop: watch::Receiver<bool>,
) {
    let gate = Gate::default();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        record.seen_unix_ms = now;
        let fresh = async {
            streams.refresh().await?;
            state.announce(record.clone()).await
        };
        let fresh = fresh.await;
        recording.store(fresh.is_ok(), Ordering::Relaxed);
        if let Err(error) = fresh
            && let Some(held_back) = gate.pass()
        {
            warn!(%error, held_back, "the state store does not answer; streams go on as they are");
        }
        tokio::select! {
            () = sleep(REFRESH) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
