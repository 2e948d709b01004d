//! Keeps what is published for the tracer, and prunes what is older than the retention time.
//!
//! In: committed segments, encoding by encoding of the picture, offered by the streams' tasks; they never wait here. Out: logs as `releve_watermark::archive`
//! describes them, in blobs. A segment that cannot be kept (a full queue, a full disk) is left out, loudly: publishing goes
//! on. Touches the archive's blobs and old records of the state store.

use crate::config::Config;
use crate::log::Gate;
use crate::metrics::{Metrics, OfStream, OfStreamAnd};
use crate::state_dir::StateDir;
use anyhow::{Context as _, Result};
use ingest_api::window::Segment;
use ingest_api::{Object, StreamName, Track};
use media::window::Window;
use releve_state::Blobs;
use releve_state::coordinator::{Coordinator, Error, FORGET_MAX};
use releve_state::local::Local;
use releve_watermark::archive::log::{LOG_MS, walk};
use releve_watermark::archive::{Chain, Log, LogName};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

/// Segments that may wait to be written …
const QUEUE: usize = 256;
/// … and their bytes: some ten seconds of twenty streams at 5 Mb/s.
const QUEUE_BYTES_MAX: usize = 128 << 20;
/// Free space that the archive leaves to the state store on the same disk, in bytes.
const RESERVE: u64 = 1 << 30;
/// How often old logs and records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Records are kept at least this long, in hours, also without an archive.
const RECORD_HOURS_MIN: u32 = 24;

/// The way to the archive; clones share it.
#[derive(Clone)]
pub struct Archive {
    queue: Option<mpsc::Sender<Kept>>,
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
    gate: Arc<Gate>,
}

/// An encoding of a segment's picture on its way.
struct Kept {
    stream: StreamName,
    track: Track,
    record: Segment,
    init_name: String,
    init: Object,
    object: Object,
}

/// The task that writes.
pub struct Writer {
    queue: mpsc::Receiver<Kept>,
    waiting: Arc<AtomicUsize>,
    blobs: Arc<dyn Blobs>,
    logs: HashMap<StreamName, Log>,
    metrics: Metrics,
    gate: Arc<Gate>,
}

/// Opens the archive of a state folder; no writer where nothing is to be kept.
///
/// # Errors
/// When the folder cannot be made.
pub fn start(config: &Config, dir: &StateDir, metrics: Metrics) -> Result<(Archive, Option<Writer>)> {
    if config.archive_hours == 0 {
        info!("nothing is archived (archive_hours = 0): leaks of what is published now cannot be traced");
        return Ok((Archive::none(metrics), None));
    }
    let path = dir.archive();
    let blobs = Local::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let (archive, writer) = Archive::over(Arc::new(blobs.leaving_free(RESERVE)), metrics);
    Ok((archive, Some(writer)))
}

impl Archive {
    /// Keeps nothing.
    pub fn none(metrics: Metrics) -> Archive {
        Archive { queue: None, waiting: Arc::default(), metrics, gate: Arc::default() }
    }

    /// Over these blobs.
    pub fn over(blobs: Arc<dyn Blobs>, metrics: Metrics) -> (Archive, Writer) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (waiting, gate) = (Arc::<AtomicUsize>::default(), Arc::<Gate>::default());
        let archive = Archive {
            queue: Some(sender),
            waiting: waiting.clone(),
            metrics: metrics.clone(),
            gate: gate.clone(),
        };
        (archive, Writer { queue, waiting, blobs, logs: HashMap::new(), metrics, gate })
    }

    /// Hands over a committed segment with an encoding of its picture as it was before encryption; returns at once. One without
    /// marks is not kept: no copy of it says whose it was.
    pub fn offer(
        &self,
        stream: &StreamName,
        window: &Window,
        record: &Segment,
        (track, object): (Track, &Object),
    ) {
        let Some(queue) = &self.queue else { return };
        let entry = record.tracks.iter().find(|entry| entry.track == track);
        let Some(entry) = entry.filter(|_| !object.pairs.is_empty()) else { return };
        let init_name = entry.clear.as_ref().map_or(&entry.init, |clear| &clear.init);
        let Some(init) = window.init(init_name) else { return self.dropped(stream, "no-init", "") };
        let bytes = weight(object);
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) > QUEUE_BYTES_MAX {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return self.dropped(stream, "slow", "the disk does not keep up");
        }
        let kept = Kept {
            stream: stream.clone(),
            track,
            record: record.clone(),
            init_name: init_name.clone(),
            init: init.clone(),
            object: object.clone(),
        };
        if queue.try_send(kept).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped(stream, "slow", "the disk does not keep up");
        }
    }

    fn dropped(&self, stream: &StreamName, kind: &'static str, why: &str) {
        dropped(&self.metrics, &self.gate, stream, kind, why);
    }
}

fn dropped(metrics: &Metrics, gate: &Gate, stream: &StreamName, kind: &'static str, why: &str) {
    let of = OfStreamAnd { stream: stream.to_string(), kind };
    metrics.archive_dropped.get_or_create(&of).inc();
    if let Some(held_back) = gate.pass() {
        error!(%stream, kind, held_back, "a segment is not archived, a leak of it cannot be traced: {why}");
    }
}

fn weight(object: &Object) -> usize {
    object.len() + object.pairs.iter().map(|pair| pair.b.len()).sum::<usize>()
}

impl Writer {
    /// Writes until told to stop, then what still waits.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let kept = tokio::select! {
                biased;
                kept = self.queue.recv() => kept,
                () = async { drop(stop.wait_for(|stop| *stop).await) } => {
                    self.queue.close();
                    self.queue.recv().await
                }
            };
            let Some(kept) = kept else { return };
            self.waiting.fetch_sub(weight(&kept.object), Ordering::Relaxed);
            match self.write(&kept).await {
                Ok(bytes) => {
                    let of = OfStream { stream: kept.stream.to_string() };
                    self.metrics.archive_bytes.get_or_create(&of).inc_by(bytes);
                }
                Err(error) => {
                    dropped(&self.metrics, &self.gate, &kept.stream, "unwritten", &error.to_string());
                }
            }
        }
    }

    async fn write(&mut self, kept: &Kept) -> Result<u64, Error> {
        let run = kept.record.run.to_string();
        let date = kept.record.date_unix_ms;
        let (mut log, after) = match self.logs.remove(&kept.stream) {
            Some(log) if log.takes(&run, date) => (log, Chain::START),
            Some(log) if log.name.run == run => (Log::new(&run, date), log.chain),
            _ => (Log::new(&run, date), last_seal(&self.blobs, &run).await?),
        };
        let record = serde_json::to_vec(&kept.record).map_err(|error| Error::Store(error.to_string()))?;
        let init = (kept.init_name.as_str(), &kept.init.a[..]);
        let of = (kept.stream.as_str(), kept.track.as_str());
        let append = log.segment(of, after, &record, init, &kept.object);
        let append = append.ok_or_else(|| Error::Conflict("the segment is too large".to_owned()))?;
        let bytes = append.bytes.len() as u64;
        let written = self.blobs.append(&log.name.text(), log.len, append.bytes.clone()).await;
        if written.is_ok() {
            log.sealed(append);
        }
        // After a failure too: what was half written is cut by the next.
        if log.len > 0 {
            self.logs.insert(kept.stream.clone(), log);
        }
        written.map(|()| bytes)
    }
}

/// The last seal of a run that went on in another process; what it tore is said.
async fn last_seal(blobs: &Arc<dyn Blobs>, run: &str) -> Result<Chain, Error> {
    let names = blobs.list(&format!("{run}/")).await?;
    let Some(name) = names.into_iter().rfind(|name| LogName::parse(name).is_some()) else {
        return Ok(Chain::START);
    };
    let Some(log) = blobs.get(&name).await? else { return Ok(Chain::START) };
    let ended = spawn_blocking(move || (walk(&log, |_, _| {}), log.len())).await;
    let ((chain, end), len) = ended.map_err(|error| Error::Store(error.to_string()))?;
    if end < len {
        warn!(name, end, len, "the archive's last log has a torn end; readers leave it out");
    }
    Ok(chain)
}

/// Prunes until told to stop: logs older than the retention time, and the state store's records of segments.
pub async fn prune(hours: u32, dir: StateDir, state: Arc<dyn Coordinator>, mut stop: watch::Receiver<bool>) {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let before = |hours: u32| now - i64::from(hours) * 3_600_000;
        let logs = async {
            let blobs = Local::open(dir.archive())?;
            prune_logs(&blobs, before(hours)).await
        };
        // Without an archive, an old one is left to its owner.
        if hours > 0
            && let Err(error) = logs.await
        {
            warn!(%error, "old archive logs are not pruned");
        }
        if let Err(error) = prune_records(&state, before(hours.max(RECORD_HOURS_MIN))).await {
            warn!(%error, "old segment records are not pruned");
        }
        tokio::select! {
            () = sleep(PRUNE_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Deletes logs whose last segment is older than this date; gives how many.
///
/// # Errors
/// Those of the blobs.
pub async fn prune_logs(blobs: &dyn Blobs, before_unix_ms: i64) -> Result<usize, Error> {
    let mut deleted = 0;
    for name in blobs.list("").await? {
        let Some(log) = LogName::parse(&name) else { continue };
        let ends = (log.begins_unix_ms / LOG_MS + 1) * LOG_MS;
        if ends < before_unix_ms {
            blobs.delete(&name).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

async fn prune_records(state: &Arc<dyn Coordinator>, before_unix_ms: i64) -> Result<(), Error> {
    for stream in state.streams().await? {
        while state.forget_segments(&stream.name, before_unix_ms).await? == FORGET_MAX {}
    }
    Ok(())
}
