//! The task of one stream: media messages in, listed segments out.
//!
//! It alone owns the stream's feed, segmenter and window. For each message: feed → marking → segmenter; for each finished
//! segment: durable record first, then the window that relays see (invariant 3). Whoever reads gets an immutable window.
//! In a pair, the other node makes the same segments: what is listed when is `pair::data`'s rule, and finished segments wait
//! here for it (`twin`). Touches the state store, the blobs and the marking processes; no sockets.

mod copied;
mod parting;
mod reports;
mod sealing;
mod server_keys;
mod twin;

use crate::io::archive::Archive;
use crate::io::key_server::KeyServer;
use crate::io::marking::{Marking, Refusal, Voice};
use crate::io::pair::data::{Begins, Data, LiveState, News, Pairing, Twin, pass};
use crate::io::streams::{Begin, Kick, Kicks, Queued};
use crate::metrics::{Metrics, OfStream};
use ingest_api::window::{Part, Segment};
use ingest_api::{Object, Run, RunId, StreamName, Track};
use media::feed::{Feed, FeedError, Kind};
use media::segment::{OfSegment, Output, Segmenter};
use media::unit::Unit;
use media::window::Window;
use mirror::compare::Chain;
use mirror::{PartDigest, Station};
use releve_state::Blobs;
use releve_state::coordinator::{Coordinator, Encrypt, Error as StateError, Fence};
use releve_watermark::KeyRing;
use ring::rand::{SecureRandom, SystemRandom};
use rtmp::MediaKind;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{error, info, warn};

/// How long a slot waits for its publisher: back within it, the run goes on; later, a new one begins.
pub const GRACE: Duration = Duration::from_secs(30);
/// Longest part in ticks: 0.33 s, what LL-HLS players do well with.
const PART_90K: i64 = 30_000;
/// Longest pause between two tries of the state store.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long the state store may be away before the publisher is closed.
const STATE_AWAY_MAX: Duration = Duration::from_secs(20);

/// What a stream's task works with.
pub struct Context {
    /// The stream.
    pub stream: StreamName,
    /// `EXT-X-TARGETDURATION` of new runs, in seconds.
    pub target_duration_s: u32,
    /// Whether new runs are there as MPEG-TS too.
    pub mpeg_ts: bool,
    /// Runs and segments.
    pub state: Arc<dyn Coordinator>,
    /// Init sections.
    pub blobs: Arc<dyn Blobs>,
    /// The way to the marking processes.
    pub marking: Marking,
    /// Roots of the keys that segments are encrypted by, where this node has them.
    pub content: Option<KeyRing>,
    /// Segments of new runs that share such a key.
    pub key_segments: u32,
    /// Where the keys of streams for DRM systems come from, if from anywhere.
    pub key_server: Option<Arc<KeyServer>>,
    /// Keeps what is published.
    pub archive: Archive,
    /// Counters.
    pub metrics: Metrics,
    /// How long the slot waits for its publisher: `GRACE`.
    pub grace: Duration,
    /// The other node, where there is one.
    pub pair: Option<Data>,
}

/// Runs a stream until its slot is gone.
pub async fn run(
    context: Context,
    window: Window,
    mut begins: mpsc::Receiver<Begin>,
    out: watch::Sender<Arc<Window>>,
) {
    let mut news = context.pair.as_ref().map(Data::news);
    let ceded = context.pair.as_ref().map_or(0, Data::ceded);
    let mut stream = Stream {
        context,
        window,
        out,
        segmenter: None,
        run: RunId([0; 8]),
        whole_run: None,
        epoch: 0,
        follows: false,
        ceded,
        live: None,
        chain: None,
        made: VecDeque::new(),
        told_records: VecDeque::new(),
        leads: true,
        gone_at: None,
        told: BTreeSet::new(),
        lacking: None,
        spare: None,
        counted: None,
        waited_for: None,
        seals: Vec::new(),
        server_keys: None,
    };
    loop {
        tokio::select! {
            biased;
            begin = begins.recv() => match begin {
                Some(begin) => {
                    stream.replaced().await;
                    stream.begin(begin).await;
                }
                None => return stream.replaced().await,
            },
            () = changed(&mut news) => stream.news().await,
            queued = next(&mut stream.live) => stream.queued(queued).await,
        }
    }
}

/// Waits until more may be listed; for ever where nobody else is asked.
async fn changed(news: &mut Option<watch::Receiver<News>>) {
    let told = match news {
        Some(news) => news.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending().await
    }
}

async fn next(live: &mut Option<Live>) -> Option<Queued> {
    match live {
        Some(live) => live.media.recv().await,
        None => std::future::pending().await,
    }
}

/// A publisher that holds the slot.
struct Live {
    feed: Feed,
    media: mpsc::Receiver<Queued>,
    kick: Kicks,
    moved: Arc<AtomicBool>,
    voice: Voice,
    /// Where it has a twin.
    twin: Option<Twin>,
}

/// A part that is not listed yet.
struct MadePart {
    digest: PartDigest,
    part: Part,
    object: Object,
    of: OfSegment,
}

/// What is not listed yet, in order.
enum Waiting {
    Part(Box<MadePart>),
    Segment(Box<Made>),
}

impl Waiting {
    fn number(&self) -> u64 {
        match self {
            Waiting::Part(part) => part.digest.number,
            Waiting::Segment(made) => made.record.number,
        }
    }
}

/// A finished segment that is not listed yet.
struct Made {
    record: Segment,
    objects: Vec<(Track, Object)>,
    /// The encodings of its picture before encryption, where they are others.
    clear: Vec<(Track, Object)>,
    /// The other node makes it too.
    compared: bool,
}

struct Stream {
    context: Context,
    window: Window,
    out: watch::Sender<Arc<Window>>,
    /// `None` before the first publisher and after a record that contradicts ours.
    segmenter: Option<Segmenter>,
    /// The segmenter's run.
    run: RunId,
    /// The same, whole.
    whole_run: Option<Run>,
    /// The fencing term under which the segmenter was made.
    epoch: u64,
    /// The other node held the stream under `epoch`: it is raised before anything is recorded on our own account.
    follows: bool,
    /// How often this node had given its publishers up when the stream last heard of it.
    ceded: u64,
    live: Option<Live>,
    /// What the open segment is made of, for the comparison with the other node.
    chain: Option<Chain>,
    made: VecDeque<Waiting>,
    /// What was told of the newest segments; told again when this node takes over.
    told_records: VecDeque<Segment>,
    /// This node has spoken as holder since it followed.
    leads: bool,
    gone_at: Option<Instant>,
    /// Kinds of reports that this publisher has had a log line for.
    told: BTreeSet<&'static str>,
    /// The segment that the other node lists and is being copied.
    lacking: Option<u64>,
    /// What was listed here before it began anew behind what the other node listed.
    spare: Option<Window>,
    /// The highest number of the holder's that is recorded here while this node makes nothing of the stream.
    counted: Option<u64>,
    /// Since when a standby waits for an instant at which the stream can be given to it.
    waited_for: Option<Instant>,
    /// What encrypts the present segments.
    seals: Vec<sealing::SealOf>,
    /// The keys of the present run, where a key server gives them.
    server_keys: Option<server_keys::ServerKeys>,
}

impl Stream {
    async fn begin(&mut self, begin: Begin) {
        self.told.clear();
        let (mut lead, mut voice, mut twin) = (None, Voice::Own, None);
        match begin.pairing {
            None => {}
            Some(Pairing {
                twin: other, decisions, begin: Begins::Holder { record, lead: answer }, ..
            }) => {
                lead = Some((*record, answer));
                voice = Voice::Paired(other.strand.clone(), decisions);
                twin = Some(other);
            }
            Some(Pairing { twin, decisions, begin: Begins::Follower(lead), .. }) => {
                if self.follow(&lead).await {
                    let voice = Voice::Paired(twin.strand.clone(), decisions);
                    let (media, kick, moved, twin) = (begin.media, begin.kick, begin.moved, Some(twin));
                    let feed = Feed::new(self.segmenter.as_ref().map_or(0, Segmenter::next_tick));
                    self.context.marking.restart(lead.record.mark);
                    self.enter(Live { feed, media, kick, moved, voice, twin }, lead.live.as_ref());
                }
                return;
            }
        }
        let late = self.gone_at.is_some_and(|at| at.elapsed() > self.context.grace);
        if late {
            self.segmenter = None;
        }
        if self.segmenter.is_none() {
            match self.open_run(late, begin.encrypt).await {
                Ok((run, epoch, segmenter)) => {
                    if let Err(why) = self.ask_key(&run, segmenter.next_number()).await {
                        error!(stream = %self.context.stream, why, "no key to begin with, publisher closed");
                        begin.kick.send(Kick::NoKey);
                        return;
                    }
                    self.run = run.id;
                    self.epoch = epoch;
                    self.window.set_epoch(epoch);
                    self.window.begin(&run, segmenter.next_number());
                    self.follows = false;
                    self.whole_run = Some(run);
                    self.segmenter = Some(segmenter);
                }
                Err(error) => {
                    error!(stream = %self.context.stream, %error, "no run can begin, publisher closed");
                    begin.kick.send(Kick::NoState);
                    return;
                }
            }
        }
        let start = self.segmenter.as_ref().map_or(0, Segmenter::next_tick);
        self.context.marking.restart(begin.mark);
        if let (Some((record, answer)), Some(twin)) = (lead, &twin)
            && let Some(lead) = self.lead(record, twin).await
        {
            // Whoever asked has gone: then its messages end soon.
            let _ = answer.send(lead);
        }
        let (media, kick, moved) = (begin.media, begin.kick, begin.moved);
        self.enter(Live { feed: Feed::new(start), media, kick, moved, voice, twin }, None);
    }

    /// A publisher is here; one that has published elsewhere goes on from there.
    fn enter(&mut self, mut live: Live, state: Option<&LiveState>) {
        self.chain = live.twin.is_some().then(Chain::default);
        if let Some(state) = state {
            match Feed::restore(&state.feed) {
                Ok(feed) => live.feed = feed,
                Err(error) => return self.give_up(&error.to_string()),
            }
            if let Err(error) = self.context.marking.restore(state.marking.clone()) {
                return self.give_up(&error.to_string());
            }
        }
        (self.gone_at, self.waited_for) = (None, None);
        self.live = Some(live);
        self.window.set_live(true);
        self.publish();
    }

    /// The publisher's connection gave something, or has ended.
    async fn queued(&mut self, queued: Option<Queued>) {
        let moved = self.live.as_ref().is_some_and(|live| live.moved.load(Ordering::Relaxed));
        match queued {
            _ if moved => self.forget(),
            Some(Queued::Media(message, _room)) => self.take(message).await,
            Some(Queued::Moment(moment)) => self.moment(*moment).await,
            Some(Queued::Anew) => self.anew().await,
            None => self.gone().await,
        }
    }

    /// Goes on with the newest run if it ended within the grace time, else begins one.
    async fn open_run(&self, late: bool, encrypt: Encrypt) -> Result<(Run, u64, Segmenter), StateError> {
        let Context { stream, state, target_duration_s, .. } = &self.context;
        let encryption = self.context.encryption(encrypt)?;
        // Its packets are not encrypted.
        let mpeg_ts = self.context.mpeg_ts && encryption.is_none();
        let now_unix_ms = unix_ms();
        // Whoever held the stream before, in another process perhaps, is fenced from here on.
        let epoch = state.advance_epoch(stream, state.epoch(stream).await?).await?;
        let (last, latest) = (state.last_segment(stream).await?, state.latest_run(stream).await?);
        if let (Some(last), Some(run), false) = (&last, &latest, late) {
            // Not the date of its media: that falls behind the clock by every pause the slot has waited through.
            let committed_unix_ms = state.last_commit_unix_ms(stream).await?.unwrap_or(i64::MIN);
            let within_grace =
                now_unix_ms.saturating_sub(committed_unix_ms) < self.context.grace.as_millis() as i64;
            let as_configured = (run.target_duration_s, run.mpeg_ts, run.encryption)
                == (*target_duration_s, mpeg_ts, encryption);
            if last.run == run.id && within_grace && as_configured {
                info!(%stream, run = %run.id, number = last.number + 1, "run goes on");
                let segmenter = Segmenter::resume(run.clone(), last);
                return Ok((run.clone(), epoch, segmenter));
            }
        }
        let mut id = [0; 8];
        SystemRandom::new().fill(&mut id).map_err(|_| StateError::Store("no random bytes".to_owned()))?;
        let run = Run {
            id: RunId(id),
            stream: stream.clone(),
            anchor_unix_ms: now_unix_ms,
            // Numbers before a run that has made nothing here may be used at the other node.
            first_number: last
                .as_ref()
                .map_or(0, |last| last.number + 1)
                .max(latest.as_ref().map_or(0, |run| run.first_number)),
            first_discontinuity: last
                .as_ref()
                .map_or(0, |last| last.discontinuity + 1)
                .max(latest.as_ref().map_or(0, |run| run.first_discontinuity)),
            target_duration_s: *target_duration_s,
            part_90k: PART_90K,
            mpeg_ts,
            encryption,
        };
        state.begin_run(&run).await?;
        info!(%stream, run = %run.id, number = run.first_number, "run begins");
        Ok((run.clone(), epoch, Segmenter::begin(run)))
    }

    async fn take(&mut self, message: rtmp::Message) {
        let of = OfStream { stream: self.context.stream.to_string() };
        self.context.metrics.media_bytes.get_or_create(&of).inc_by(message.payload.len() as u64);
        let Some(live) = &mut self.live else { return };
        pass::message(&mut self.chain, &message);
        let kind = match message.kind {
            MediaKind::Audio => Kind::Audio,
            MediaKind::Video => Kind::Video,
            MediaKind::Data => Kind::Data,
        };
        let units = match live.feed.push(kind, message.timestamp, message.payload) {
            Ok(units) => units,
            Err(error) => return self.bad_media(error).await,
        };
        let notes = live.feed.take_notes();
        notes.into_iter().for_each(|note| self.note(note));
        for unit in units {
            self.ahead(&unit).await;
            let Some(run) = self.segmenter.as_ref().map(|_| self.run) else { return };
            let Some(live) = &mut self.live else { return };
            pass::unit(&mut self.chain, Station::Units, &unit);
            match self.context.marking.apply(unit, run, &mut live.voice).await {
                Ok(units) => {
                    for unit in units {
                        self.segment(unit).await;
                    }
                }
                Err(refusal) => return self.refuse(refusal).await,
            }
        }
        for (word, text) in self.context.marking.take_reports() {
            self.report(word, &text);
        }
    }

    /// What an IDR picture ends does not wait until that picture is marked. One that a normaliser takes is not the next to come.
    async fn ahead(&mut self, unit: &Unit) {
        let (Unit::Video(picture), Some(segmenter)) = (unit, &mut self.segmenter) else { return };
        if !self.context.marking.passes(unit) {
            return;
        }
        let outputs = segmenter.announce(picture);
        self.carry_out(outputs).await;
    }

    async fn segment(&mut self, unit: Unit) {
        pass::unit(&mut self.chain, Station::Marked, &unit);
        let Some(segmenter) = &mut self.segmenter else { return };
        let outputs = segmenter.push(unit);
        self.carry_out(outputs).await;
    }

    async fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut new_part = false;
        for output in outputs {
            let sealing::Sealed { output, clear } = match self.sealed(output).await {
                Ok(sealed) => sealed,
                Err(why) => return self.unsealed(&why),
            };
            match output {
                Output::Init { name, object, info, .. } => {
                    let blob = format!("init/{name}");
                    if let Err(error) = self.context.blobs.put(&blob, object.encode()).await {
                        warn!(stream = %self.context.stream, %error, "init section not stored; it is lost with a restart");
                    }
                    self.window.add_init(name, object, info);
                }
                Output::Part { track, number, index, part, object, of, .. } => {
                    match self.tell_part(track, (number, index), &part) {
                        None => {
                            new_part |= self.window.push_part(track, (number, index), part, object, &of);
                        }
                        Some(digest) => {
                            let made = MadePart { digest, part, object, of };
                            self.made.push_back(Waiting::Part(Box::new(made)));
                            self.release().await;
                        }
                    }
                }
                Output::Segment { record, objects } => {
                    let compared = self.tell(&record, &objects);
                    let made = Made { record, objects, clear, compared };
                    self.made.push_back(Waiting::Segment(Box::new(made)));
                    self.release().await;
                    new_part = false;
                }
                Output::Report(report) => self.reported(report),
            }
        }
        if new_part {
            self.publish();
        }
    }

    async fn list(&mut self, made: Made) {
        let Made { record, objects, clear, .. } = made;
        if !self.commit(&record).await {
            return self.made.clear();
        }
        for gop in &record.gops {
            self.count_gop(gop.marking);
        }
        let Context { archive, stream, .. } = &self.context;
        for (track, object) in if clear.is_empty() { &objects } else { &clear } {
            if !track.is_audio() {
                archive.offer(stream, &self.window, &record, (*track, object));
            }
        }
        let of = OfStream { stream: self.context.stream.to_string() };
        self.context.metrics.segments.get_or_create(&of).inc();
        if let Err(error) = self.window.push(record, objects) {
            error!(stream = %self.context.stream, %error, "segment not listed");
        }
        self.publish();
    }

    /// Makes a segment's record durable; while the store is away the publisher waits with us.
    async fn commit(&mut self, segment: &Segment) -> bool {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            match self.record(segment).await {
                Ok(()) => {
                    self.context.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                    return true;
                }
                Err(StateError::Store(why)) if started.elapsed() < STATE_AWAY_MAX => {
                    self.report("state-away", &format!("segment {} waits: {why}", segment.number));
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                Err(error) => {
                    error!(stream = %self.context.stream, number = segment.number, %error, "segment not recorded, publisher closed");
                    self.segmenter = None;
                    self.kick(if let StateError::Stale(_) = error { Kick::Fenced } else { Kick::NoState });
                    return false;
                }
            }
        }
    }

    /// Not under an epoch that has ended: whoever raised it goes on from the last record.
    async fn record(&mut self, segment: &Segment) -> Result<(), StateError> {
        self.raise().await?;
        let fence = if self.follows { Fence::Follows(self.epoch) } else { Fence::Holds(self.epoch) };
        let Context { stream, state, .. } = &self.context;
        state.commit_segment(stream, segment, fence, unix_ms()).await
    }

    /// A picture that is damaged is left out, and the feed waits for the next IDR; a codec that is not spoken here ends
    /// the publisher.
    async fn bad_media(&mut self, error: FeedError) {
        if matches!(error, FeedError::Nal { .. } | FeedError::Large { .. }) {
            return self.report("bad-unit", &error.to_string());
        }
        warn!(stream = %self.context.stream, %error, "publisher closed: bad media");
        self.kick(Kick::BadMedia);
        self.gone().await;
    }

    /// What cannot be encrypted is never published in the clear.
    fn unsealed(&mut self, why: &str) {
        if self.follows {
            return self.give_up(&format!("a segment is not encrypted here: {why}"));
        }
        self.segmenter = None;
        error!(stream = %self.context.stream, why, "a segment is not encrypted, publisher closed");
        self.kick(Kick::BadMedia);
    }

    async fn refuse(&mut self, refusal: Refusal) {
        // The other node's normaliser may be well.
        if self.follows && matches!(refusal, Refusal::Normalise(_)) {
            return self.give_up(&refusal.to_string());
        }
        warn!(stream = %self.context.stream, %refusal, "publisher closed");
        self.kick(Kick::BadMedia);
        self.gone().await;
    }

    fn kick(&self, kick: Kick) {
        if let Some(live) = &self.live {
            live.kick.send(kick);
        }
    }

    fn publish(&self) {
        self.out.send_replace(Arc::new(self.window.clone()));
    }
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
