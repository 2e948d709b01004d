//! The attacks, carried out: many hands, each with connections of its own over both versions of HTTP, each answer judged.
//!
//! In: how many, the seed, what there is. Out: what was found. Which attack has which number, and over which version it goes,
//! follows from the seed alone; a fault is told with the whole request.

use super::attack::{Attack, Expects, attack};
use super::line::{BOUND, Doors, Line, Line2, ask2, connect2};
use super::scene::Scene;
use super::stage::{Cast, now_unix_s};
use super::verdict::{Fault, judge};
use super::wire::{Answer, Lost, Network};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Attacks that one hand takes at a time, over HTTP/2 all at once.
const BLOCK: u64 = 16;
/// Hands that speak HTTP/1.1, and HTTP/2. Of five blocks two go over the latter.
const HANDS: [usize; 2] = [24, 4];
/// Faults that are told; all are counted.
const TOLD: u64 = 20;
/// Connections that get nowhere.
const STUCK: usize = 64;

/// What all hands share.
pub(super) struct Field {
    pub(super) doors: Doors,
    pub(super) cast: Arc<Cast>,
    pub(super) scene: RwLock<Arc<Scene>>,
    /// Bodies that everybody may have.
    pub(super) public: Vec<Vec<u8>>,
    pub(super) seed: u64,
    pub(super) total: u64,
    pub(super) until: Instant,
    /// The next block of each version.
    pub(super) next: [AtomicU64; 2],
    pub(super) told: AtomicU64,
    pub(super) tally: Mutex<Tally>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Attacks, by version.
    pub(super) attacks: [u64; 2],
    /// Requests that do no harm by design, besides.
    pub(super) harmless: u64,
    pub(super) unauthorised: u64,
    pub(super) unauthorised_bytes: u64,
    pub(super) server_errors: u64,
    pub(super) wrong: u64,
    pub(super) hung: u64,
    /// By trick and by what it was tried on.
    pub(super) tricks: HashMap<&'static str, u64>,
    pub(super) kinds: HashMap<&'static str, u64>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        for (ours, theirs) in self.attacks.iter_mut().zip(other.attacks) {
            *ours += theirs;
        }
        self.harmless += other.harmless;
        self.unauthorised += other.unauthorised;
        self.unauthorised_bytes += other.unauthorised_bytes;
        self.server_errors += other.server_errors;
        self.wrong += other.wrong;
        self.hung += other.hung;
        other.tricks.into_iter().for_each(|(name, count)| *self.tricks.entry(name).or_default() += count);
        other.kinds.into_iter().for_each(|(name, count)| *self.kinds.entry(name).or_default() += count);
    }

    pub(super) fn faults(&self) -> u64 {
        self.unauthorised + self.server_errors + self.wrong + self.hung
    }
}

impl Field {
    /// Carries them all out, or as many as there is time for.
    pub(super) async fn raid(self: &Arc<Field>) {
        let mut hands = JoinSet::new();
        for (version, count) in HANDS.into_iter().enumerate() {
            for number in 0..count {
                let hand = Hand::new(self.clone(), version, number);
                hands.spawn(hand.work());
            }
        }
        while let Some(done) = hands.join_next().await {
            if let Err(error) = done {
                self.tell(Fault::Hung, &format!("a hand has ended: {error}"));
                self.tally.lock().unwrap_or_else(PoisonError::into_inner).hung += 1;
            }
        }
    }

    /// The numbers of the next block of a version.
    fn block(&self, version: usize) -> Option<std::ops::Range<u64>> {
        let at = self.next[version].fetch_add(1, Ordering::Relaxed);
        let block = if version == 0 { at / 3 * 5 + 2 + at % 3 } else { at / 2 * 5 + at % 2 };
        let first = block * BLOCK;
        (first < self.total && Instant::now() < self.until).then(|| first..self.total.min(first + BLOCK))
    }

    fn attack(&self, index: u64) -> Attack {
        let scene = self.scene.read().unwrap_or_else(PoisonError::into_inner).clone();
        attack(self.seed, index, &scene, &self.cast, now_unix_s())
    }

    fn tell(&self, fault: Fault, words: &str) {
        if self.told.fetch_add(1, Ordering::Relaxed) < TOLD {
            eprintln!("error: {fault:?}: {words}");
        }
    }
}

/// One who attacks.
struct Hand {
    field: Arc<Field>,
    version: usize,
    number: usize,
    /// Connections it has made.
    made: usize,
    /// Open ones, by where they come from.
    lines: [Option<Line>; 2],
    lines2: [Option<Line2>; 2],
    tally: Tally,
}

impl Hand {
    fn new(field: Arc<Field>, version: usize, number: usize) -> Hand {
        let (lines, lines2) = ([None, None], [None, None]);
        Hand { field, version, number, made: 0, lines, lines2, tally: Tally::default() }
    }

    async fn work(mut self) {
        while let Some(block) = self.field.block(self.version) {
            let attacks: Vec<(u64, Attack)> = block.map(|index| (index, self.field.attack(index))).collect();
            if self.version == 0 {
                for (index, attack) in &attacks {
                    let answer = self.over1(attack).await;
                    self.judge(0, *index, attack, answer);
                }
            } else {
                self.over2(&attacks).await;
            }
        }
        self.field.tally.lock().unwrap_or_else(PoisonError::into_inner).add(self.tally);
    }

    fn address(&mut self, from: Network) -> Ipv4Addr {
        self.made += 1;
        address(from, self.version * 1000 + self.number * 31 + self.made)
    }

    /// Asks over HTTP/1.1; a second time only where the relay may have ended the connection before it was asked.
    async fn over1(&mut self, attack: &Attack) -> Result<Answer, Lost> {
        let request = &attack.request;
        let (bytes, place) = (request.to_http1(), request.from as usize);
        loop {
            let mut line = match self.lines[place].take() {
                Some(line) => line,
                None => {
                    let from = self.address(request.from);
                    Line::connect(self.field.doors.plain, from).await?
                }
            };
            let was_used = line.used;
            let mut answer = match line.ask(&bytes, request.is_head()).await {
                Err(Lost::Ended(_)) if was_used => continue,
                answer => answer?,
            };
            if answer.closes() {
                answer.more = line.rest().await?;
            } else if request.raw.is_some() {
                return Err(Lost::Strange(format!("status {}, and the connection goes on", answer.status)));
            } else {
                self.lines[place] = Some(line);
            }
            return Ok(answer);
        }
    }

    /// Asks for a whole block over HTTP/2 at once, and for what HTTP/2 cannot say over HTTP/1.1.
    async fn over2(&mut self, attacks: &[(u64, Attack)]) {
        let (mut asked, mut again) = (JoinSet::new(), Vec::new());
        for (at, (index, attack)) in attacks.iter().enumerate() {
            match attack.request.to_http2() {
                None => {
                    let answer = self.over1(attack).await;
                    self.judge(0, *index, attack, answer);
                }
                Some(request) => match self.line2(attack.request.from).await {
                    Ok(line) => drop(asked.spawn(async move { (at, ask2(line, request).await) })),
                    Err(lost) => self.judge(1, *index, attack, Err(lost)),
                },
            }
        }
        while let Some(done) = asked.join_next().await {
            match done {
                Ok((at, Err(Lost::Ended(_)))) => again.push(at),
                Ok((at, answer)) => self.judge(1, attacks[at].0, &attacks[at].1, answer),
                Err(error) => {
                    self.tally.hung += 1;
                    self.field.tell(Fault::Hung, &format!("a request has ended: {error}"));
                }
            }
        }
        // Another request of the connection may have ended it: each by itself.
        for at in again {
            let (index, attack) = &attacks[at];
            self.lines2 = [None, None];
            let answer = match (self.line2(attack.request.from).await, attack.request.to_http2()) {
                (Ok(line), Some(request)) => ask2(line, request).await,
                (Err(lost), _) => Err(lost),
                (Ok(_), None) => continue, // it was said before
            };
            self.judge(1, *index, attack, answer);
        }
    }

    async fn line2(&mut self, from: Network) -> Result<Line2, Lost> {
        if let Some(line) = &self.lines2[from as usize] {
            return Ok(line.clone());
        }
        let address = self.address(from);
        let line = connect2(&self.field.doors, address).await?;
        self.lines2[from as usize] = Some(line.clone());
        Ok(line)
    }

    fn judge(&mut self, version: usize, index: u64, attack: &Attack, answer: Result<Answer, Lost>) {
        match attack.expects {
            Expects::Refusal(_) => self.tally.attacks[version] += 1,
            Expects::Harmless(..) => self.tally.harmless += 1,
        }
        *self.tally.tricks.entry(attack.name).or_default() += 1;
        *self.tally.kinds.entry(attack.on).or_default() += 1;
        let found = match &answer {
            Ok(answer) => judge(attack, answer, &self.field.public),
            Err(Lost::Hung) => Some((Fault::Hung, format!("nothing within {BOUND:?}"))),
            Err(lost) => Some((Fault::Wrong, format!("no answer: {lost:?}"))),
        };
        let Some((fault, words)) = found else { return };
        match fault {
            Fault::Unauthorised(bytes) => {
                self.tally.unauthorised += 1;
                self.tally.unauthorised_bytes += bytes as u64;
            }
            Fault::ServerError => self.tally.server_errors += 1,
            Fault::Wrong => self.tally.wrong += 1,
            Fault::Hung => self.tally.hung += 1,
        }
        let Attack { name, on, request, expects } = attack;
        let expected = match expects {
            Expects::Refusal(statuses) | Expects::Harmless(statuses, _) => statuses,
        };
        self.field.tell(
            fault,
            &format!(
                "{words}; expected {expected:?} for {name:?} on {on:?}, request {index} of seed {}, from {:?} over HTTP/{}: {}",
                self.field.seed,
                request.from,
                if version == 0 { "1.1" } else { "2" },
                request.to_http1().escape_ascii()
            ),
        );
    }
}

/// One of the addresses of a network.
pub(super) fn address(from: Network, number: usize) -> Ipv4Addr {
    let low = 2 + (number % 250) as u8;
    match from {
        Network::Home => Ipv4Addr::new(127, 0, 0, low),
        Network::Abroad => Ipv4Addr::new(127, 2, (number / 250 % 250) as u8, low),
    }
}

/// How long connections last that get nowhere: silent ones, half requests, a byte a second, in the clear and before a handshake.
/// Gives the longest, and how many were open after `BOUND`.
pub(super) async fn stuck(doors: &Doors) -> (Duration, u64) {
    let mut all = JoinSet::new();
    for number in 0..STUCK {
        let door = if number % 8 < 6 { doors.plain } else { doors.tls };
        let (begin, drips): (&[u8], bool) = match number % 8 {
            0 => (b"", false),
            1 => (b"GET /v/", false),
            2 => (b"GET /v/x/index.m3u8 HTTP/1.1\r\nHost: a\r\n", false),
            3 => (b"G", true),
            4 => (b"GET /v/x/index.m3u8 HTTP/1.1\r\nX: ", true),
            5 => (b"\r\n", true),
            6 => (b"", false),
            _ => (&[0x16, 3, 1, 2, 0, 1], false),
        };
        all.spawn(async move {
            let mut line = Line::connect(door, address(Network::Abroad, 5_000 + number)).await?;
            let began = Instant::now();
            line.send(begin).await;
            while began.elapsed() < BOUND {
                if let Ok(Ok(_)) = timeout(Duration::from_secs(1), line.rest()).await {
                    return Ok(began.elapsed());
                }
                if drips {
                    line.send(b"x").await;
                }
            }
            Err(Lost::Hung)
        });
    }
    let (mut longest, mut open) = (Duration::ZERO, 0);
    for ended in all.join_all().await {
        match ended {
            Ok(time) => longest = longest.max(time),
            Err(lost) => {
                eprintln!("error: a connection that gets nowhere: {lost:?}");
                open += 1;
            }
        }
    }
    (longest, open)
}
