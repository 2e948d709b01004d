//! The task of one connection that has a twin: the same parse, whether the bytes come from a socket or from the holder.
//!
//! In: [`Turn`]s, in the order in which things happened. Out: media for the stream's task, answers for the publisher. It has
//! no socket: `pump` has it while the connection is live here, and it may come and go between two bytes.
//!
//! ```text
//!  Own:      bytes of a pump, or none for a moment (detached, or not resumed yet): decides, answers, speaks to the twin
//!  Mirrored: bytes of the link: follows the holder's decisions; what it would say is kept, in case the holder could not
//! ```

mod answer;
mod state;

use super::strand::Decisions;
use super::tap::Tap;
use super::word::{Lead, LineState, Second};
use crate::io::admission::Pass;
use crate::io::rtmp::{Door, End, RECONNECT_MAX};
use crate::io::streams::{Claim, Kick};
use crate::merge::is_idr;
use crate::slot::Push;
use answer::BUSY_PAUSE;
use bytes::{Buf, Bytes, BytesMut};
use rtmp::{Event, Session, Stage, StreamKeyText};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tracing::debug;

/// How long a connection that never became live may wait for its socket.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// How long the stream's task has for the last segment of a publisher that left.
const LAST_SEGMENT_MAX: Duration = Duration::from_secs(5);
/// A stream that shows no IDR picture for this long is given to a standby that joins as it is.
const NO_IDR_MAX: Duration = Duration::from_secs(10);
/// Output kept in case the holder could not say it: it says at most a handshake and some answers before its words are here.
const KEPT_OUTPUT_MAX: usize = 64 << 10;

/// Why a socket is of no more use.
#[derive(Debug)]
pub(super) enum Gone {
    /// The publisher closed.
    Left,
    /// It sent or took nothing for too long.
    Silent,
    /// The socket failed.
    Socket(std::io::Error),
}

/// What happens to a connection.
#[derive(Debug)]
pub(super) enum Turn {
    /// Bytes of the publisher; they count against the room until they are parsed.
    Input(Bytes, Option<OwnedSemaphorePermit>),
    /// The holder lets it publish, and says how it marks.
    Published(Box<Lead>, Decisions),
    /// The holder lets it publish beside another connection of its publisher.
    Joins,
    /// From here on its publisher has this further connection, which may say something once this was read. The holder has
    /// made its claim, and waits for the end of what is given with it; at the standby it is made here.
    Shares(Second, Option<oneshot::Sender<()>>),
    /// Where it stands at the holder.
    State(Box<LineState>, Decisions),
    /// The publisher has ended, by the holder's word.
    End,
    /// The connection is over, by the holder's word.
    Closed,
    /// A standby waits for a snapshot.
    Awaited,
    /// This node decides from now on.
    Own,
    /// The other node decides from now on.
    Follow,
    /// A pump has its socket.
    Live(SocketAddr, Option<Pass>),
    /// It has none now.
    Away,
    /// Its socket is read no more; all input came before.
    Hushed,
    /// Its socket is of no more use.
    Gone(Gone),
    /// It could not be made live: it has left.
    Over,
    /// It lives elsewhere: end it without a trace.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Mirrored,
    Away,
    Live,
}

/// The holder's answer to a publish.
enum Leave {
    /// It begins, or replaces another one.
    Leads(Box<Lead>, Decisions),
    /// It is a further connection of a publisher.
    Joins,
}

/// How the task ends.
enum Fate {
    /// The connection is over, here or at the holder.
    Over(End),
    /// It lives elsewhere.
    Forgotten,
}

impl From<End> for Fate {
    fn from(end: End) -> Fate {
        Fate::Over(end)
    }
}

pub(super) struct Line {
    tap: Tap,
    door: Door,
    session: Session,
    /// The session's time when this task began.
    zero: Duration,
    start: Instant,
    peer: SocketAddr,
    turns: mpsc::UnboundedReceiver<Turn>,
    place: Place,
    pass: Option<Pass>,
    claim: Option<Claim>,
    /// Ends when the stream's task has made the publisher's last segment.
    done: Option<watch::Receiver<()>>,
    /// The key of a publish that is not answered.
    asked: Option<(StreamKeyText, Push)>,
    busy_since: Option<Instant>,
    answers: VecDeque<Leave>,
    /// Messages that the stream had already when this node was given the connection.
    skip: u64,
    /// Input parsed, and output given by the session, bytes.
    read: u64,
    said: u64,
    /// The end of the output, while nobody says it.
    unsaid: BytesMut,
    awaited_since: Option<Instant>,
    published: bool,
    ended: bool,
    broken: bool,
}

impl Line {
    /// A connection that begins at this node.
    pub(super) fn fresh(
        tap: Tap,
        door: Door,
        session: Session,
        peer: SocketAddr,
        turns: mpsc::UnboundedReceiver<Turn>,
    ) -> Line {
        Line {
            tap,
            door,
            session,
            zero: Duration::ZERO,
            start: Instant::now(),
            peer,
            turns,
            place: Place::Away,
            pass: None,
            claim: None,
            done: None,
            asked: None,
            busy_since: None,
            answers: VecDeque::new(),
            skip: 0,
            read: 0,
            said: 0,
            unsaid: BytesMut::new(),
            awaited_since: None,
            published: false,
            ended: false,
            broken: false,
        }
    }

    /// One that the holder has; its state comes first.
    pub(super) fn mirrored(tap: Tap, door: Door, turns: mpsc::UnboundedReceiver<Turn>) -> Line {
        let session = Session::new(rtmp::Config::default(), 0, [0; 1528]);
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        Line { place: Place::Mirrored, ..Line::fresh(tap, door, session, nobody, turns) }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        match self.serve().await {
            Fate::Forgotten => {
                if let Some(claim) = self.claim.take() {
                    claim.moved();
                }
            }
            Fate::Over(end) if self.place == Place::Mirrored => {
                if let End::Protocol(error) = end {
                    debug!(connection = %self.tap.connection, %error, "a mirrored connection ended");
                }
            }
            Fate::Over(end) => self.close(end).await,
        }
        self.turns.close();
        if let Some(strand) = self.tap.strand() {
            strand.over(self.tap.connection);
        }
        self.tap.data.forget(self.tap.connection);
    }

    /// Our word, the last segment, the end in the books: in this order.
    async fn close(&mut self, end: End) {
        if let End::Kicked(kick) = end {
            self.part(kick).await;
            self.hear_out().await;
            self.session.close(kick.words().0);
        }
        self.leave();
        // Who does not take it does not get it.
        let _ = self.write();
        self.tap.data.finish(self.tap.connection);
        if let Some(mut done) = self.done.take() {
            let _ = timeout(LAST_SEGMENT_MAX, done.changed()).await;
        }
        self.tap.close();
        self.door.ended(self.peer, end, self.published);
    }

    /// Asks a publisher that understands it to connect anew, and takes what it sends until it does.
    async fn part(&mut self, kick: Kick) {
        let live = self.place == Place::Live && kick.wants_reconnect();
        if !live || !self.session.request_reconnect(kick.words().0) || self.write().is_err() {
            return;
        }
        let end = tokio::time::Instant::now() + RECONNECT_MAX;
        while let Ok(Some(turn)) = timeout_at(end, self.turns.recv()).await {
            if self.turn(turn).await.is_err() {
                return;
            }
        }
    }

    /// A connection that we close was read further than it was parsed, and its twin takes all that was read: so do we.
    async fn hear_out(&mut self) {
        let mut reads = self.tap.data.hush(self.tap.connection);
        loop {
            let turn = match reads {
                true => timeout(LAST_SEGMENT_MAX, self.turns.recv()).await.ok().flatten(),
                false => self.turns.try_recv().ok(),
            };
            match turn {
                None => return,
                Some(Turn::Hushed | Turn::Gone(_)) => reads = false,
                Some(turn @ (Turn::Input(..) | Turn::Shares(..))) => {
                    // A stream that takes nothing more says so again.
                    if self.turn(turn).await.is_err() {
                        return;
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// The publish is over: the twin hears of it behind every byte that was parsed, and behind whoever joined before.
    fn leave(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        // Where another connection of the publisher goes on, so does the stream.
        let last = claim.leave();
        self.done = self.done.take().filter(|_| last);
        if let Some(strand) = self.tap.strand() {
            strand.left(self.tap.connection);
        }
        if self.place != Place::Mirrored {
            self.tap.ended();
        }
    }

    /// The session says that the publish is over. What is mirrored waits for the holder's word: another connection may have
    /// joined this one before the holder had come so far.
    fn parted(&mut self) {
        if self.place != Place::Mirrored {
            self.leave();
        }
    }

    fn now(&self) -> rtmp::Millis {
        (self.zero + self.start.elapsed()).as_millis() as rtmp::Millis
    }

    async fn serve(&mut self) -> Fate {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(fate) => return fate,
            }
        }
    }

    async fn step(&mut self) -> Result<(), Fate> {
        let own = self.place != Place::Mirrored;
        let due = match self.session.poll_timeout().filter(|_| own) {
            _ if own && self.asked.is_some() => BUSY_PAUSE,
            Some(at) => Duration::from_millis(at.saturating_sub(self.now())),
            None => Duration::from_secs(3_600),
        };
        let never_live = self.place == Place::Away && self.read == 0 && !self.published;
        let turn = tokio::select! {
            biased;
            kick = kicked(self.claim.as_mut(), own) => return match own {
                true => Err(End::Kicked(kick).into()),
                false => Err(Fate::Forgotten),
            },
            turn = self.turns.recv() => turn.ok_or(Fate::Forgotten)?,
            () = sleep(due) => {
                let now = self.now();
                let told = self.session.handle_timeout(now);
                self.events().await?;
                return told.map_err(|error| End::Protocol(error).into());
            }
            () = sleep(AWAY_MAX), if never_live => return Err(End::Silent.into()),
        };
        self.turn(turn).await
    }

    async fn turn(&mut self, turn: Turn) -> Result<(), Fate> {
        match turn {
            Turn::Input(bytes, room) => {
                self.read += bytes.len() as u64;
                if !self.broken {
                    let now = self.now();
                    let fed = self.session.handle_input(now, &bytes);
                    drop(room);
                    self.events().await?;
                    self.judge(fed)?;
                }
            }
            Turn::Published(lead, decisions) => {
                self.answers.push_back(Leave::Leads(lead, decisions));
                self.events().await?;
            }
            Turn::Joins => {
                self.answers.push_back(Leave::Joins);
                self.events().await?;
            }
            Turn::Shares(second, admit) => self.shares(second, admit),
            Turn::State(state, decisions) => self.restore(*state, decisions).await?,
            Turn::End => self.leave(),
            Turn::Closed => return Err(End::Left.into()),
            Turn::Awaited => {
                self.awaited_since.get_or_insert_with(Instant::now);
                self.snapshot_now().await;
            }
            Turn::Own => self.own().await?,
            Turn::Follow => {
                self.session.follow();
                self.place = Place::Mirrored;
                if let Some(claim) = &self.claim {
                    claim.set_mirrored(true);
                }
            }
            Turn::Live(peer, pass) => self.live(peer, pass).await?,
            Turn::Hushed => {}
            Turn::Away => self.place = Place::Away,
            Turn::Gone(Gone::Left) | Turn::Over => return Err(End::Left.into()),
            // ffmpeg ends a publish and closes without reading our answer: a reset is its goodbye.
            Turn::Gone(Gone::Socket(_)) if self.ended => return Err(End::Left.into()),
            Turn::Gone(Gone::Socket(error)) => return Err(End::Socket(error).into()),
            Turn::Gone(Gone::Silent) => return Err(End::Silent.into()),
            Turn::Forget => return Err(Fate::Forgotten),
        }
        Ok(())
    }

    /// What a session finds wrong ends its connection; where it follows, the holder's word does.
    fn judge(&mut self, fed: Result<(), rtmp::Error>) -> Result<(), Fate> {
        match fed {
            Err(_) if self.place == Place::Mirrored => {
                self.broken = true;
                Ok(())
            }
            Err(error) => Err(End::Protocol(error).into()),
            Ok(()) => Ok(()),
        }
    }

    /// The connection is this node's: what waits for a decision is decided here.
    async fn own(&mut self) -> Result<(), Fate> {
        if self.place != Place::Mirrored {
            return Ok(());
        }
        self.place = Place::Away;
        let now = self.now();
        self.session.lead(now);
        if let Some(claim) = &self.claim {
            claim.set_mirrored(false);
        }
        if self.ended || self.asked.is_some() {
            // The holder's word on the end of the publish before did not come.
            self.leave();
        }
        if self.broken {
            return Err(End::Left.into());
        }
        self.events().await
    }

    /// A pump has the socket: what nobody has said yet is said now.
    async fn live(&mut self, peer: SocketAddr, pass: Option<Pass>) -> Result<(), Fate> {
        self.peer = peer;
        self.pass = pass.or(self.pass.take());
        self.place = Place::Live;
        let (_, entered) = self.tap.position().unwrap_or((0, self.said));
        let lacking = usize::try_from(self.said.saturating_sub(entered)).unwrap_or(usize::MAX);
        let kept = std::mem::take(&mut self.unsaid).freeze();
        if lacking > 0 && lacking <= kept.len() {
            let tail = kept.slice(kept.len() - lacking..);
            self.tap.write(tail).map_err(|_| End::Silent)?;
        }
        self.events().await
    }

    /// Carries out what the session wants until it wants nothing.
    async fn events(&mut self) -> Result<(), Fate> {
        loop {
            self.write()?;
            if self.session.stage() == Stage::Deciding && self.asked.is_some() {
                if !self.decide().await? {
                    return Ok(());
                }
                continue;
            }
            let Some(event) = self.session.poll_event() else { return Ok(()) };
            match event {
                Event::Connect { .. } => {}
                Event::Publish { app, name, .. } => {
                    self.parted();
                    self.ended = false;
                    let push = Push::of(&app, name.expose());
                    self.asked = Some((name, push));
                }
                Event::Media(message) => self.media(message).await?,
                Event::Unpublish => {
                    self.parted();
                    self.ended = true;
                }
            }
        }
    }

    async fn media(&mut self, message: rtmp::Message) -> Result<(), Fate> {
        let idr = is_idr(&message);
        let Some(claim) = &mut self.claim else { return Ok(()) };
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        if !claim.send(message).await && self.place != Place::Mirrored {
            let kick = claim.kicked.borrow().unwrap_or(Kick::Stopping);
            return Err(End::Kicked(kick).into());
        }
        let late = self.awaited_since.is_some_and(|since| since.elapsed() > NO_IDR_MAX);
        if (idr && self.awaited_since.is_some()) || late {
            self.moment().await;
        }
        Ok(())
    }

    /// What the session says goes to the publisher, or is kept until somebody can say it.
    fn write(&mut self) -> Result<(), Fate> {
        while let Some(bytes) = self.session.poll_transmit() {
            self.said += bytes.len() as u64;
            let live = self.place == Place::Live;
            if live && self.tap.write(bytes.clone()).map_err(|_| End::Silent)? {
                continue;
            }
            self.unsaid.extend_from_slice(&bytes);
            let excess = self.unsaid.len().saturating_sub(KEPT_OUTPUT_MAX);
            self.unsaid.advance(excess);
        }
        Ok(())
    }
}

/// Waits until the stream wants this connection closed, where that is ours to say, or the node stops; for ever while there
/// is no claim.
async fn kicked(claim: Option<&mut Claim>, own: bool) -> Kick {
    match claim {
        None => std::future::pending().await,
        Some(claim) => {
            match claim.kicked.wait_for(|kick| kick.is_some_and(|kick| own || kick == Kick::Stopping)).await {
                Ok(kick) => kick.unwrap_or(Kick::Stopping),
                Err(_) => Kick::Stopping,
            }
        }
    }
}
