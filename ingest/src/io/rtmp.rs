//! RTMP connections: sockets around `rtmp::Session`.
//!
//! In: a listener. Out: media messages into the claimed slot. One task a connection; it reads, feeds the session, carries
//! out what the session wants and waits when its stream's queue is full. A broken peer ends its own connection only.

mod gather;

pub(crate) use gather::Socket;

use crate::io::admission::{Admission, Pass};
use crate::io::pair::data::Data;
use crate::io::pair::onward::pass_on;
use crate::io::streams::{Claim, ClaimError, Kick, Streams};
use crate::log::Gate;
use crate::metrics::{Because, Metrics};
use crate::slot::Push;
use gather::Gather;
use ring::rand::{SecureRandom, SystemRandom};
use rtmp::{Event, FourCc, Reject, Session};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

/// A publisher that sends nothing for this long is gone; encoders send audio or video many times a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A peer that does not take our few bytes for this long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// A publisher that was asked to connect anew has this long to come to an end: a long GOP, within the time that a node takes
/// to stop.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(3);
/// A wrong key costs this long, so that guessing is slow: 64 connections an address make 64 guesses a second at the most.
const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);
/// One read: 20 ms of 25 Mb/s.
const READ_BYTES: usize = 64 << 10;
/// One read of a peer that has not published: a handshake fits.
const STRANGER_READ_BYTES: usize = 8 << 10;

/// Everything a connection may use.
#[derive(Clone)]
pub struct Door {
    /// The streams of this node.
    pub streams: Arc<Streams>,
    /// Places for strangers.
    pub admission: Admission,
    /// Counters.
    pub metrics: Metrics,
    /// Lets one line about refused peers a second pass.
    pub gate: Arc<Gate>,
    /// The other node, where there is one.
    pub pair: Option<Data>,
}

/// Accepts publishers until told to stop.
pub async fn listen(listener: TcpListener, door: Door, stop: watch::Receiver<bool>) {
    accept(&listener, &door, stop, |socket, peer, pass| door.open(socket, peer, pass)).await;
}

/// Accepts connections until told to stop, and lets in as many as there are places.
pub(crate) async fn accept(
    listener: &TcpListener,
    door: &Door,
    mut stop: watch::Receiver<bool>,
    open: impl Fn(TcpStream, SocketAddr, Pass),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((socket, peer)) => match door.admission.enter(peer.ip()) {
                Some(pass) => open(socket, peer, pass),
                None => door.refused(peer, "too-many", "too many connections that do not publish"),
            },
            Err(error) => {
                // Out of descriptors or memory: waiting lets others finish, stopping would end the service.
                door.refused(([0, 0, 0, 0], 0).into(), "accept", &error.to_string());
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Door {
    /// Starts a publisher's task: in a pair the one that has a twin, or that brings it there.
    fn open(&self, socket: TcpStream, peer: SocketAddr, pass: Pass) {
        let _ = socket.set_nodelay(true);
        let local = match (&self.pair, socket.local_addr()) {
            (Some(pair), Ok(local)) if pair.protects(local.ip()) => return pair.arrived(socket, peer, pass),
            (_, Ok(local)) => local,
            // The peer has reset it already.
            (_, Err(_)) => return,
        };
        tokio::spawn(self.clone().serve(socket, local, peer, pass));
    }

    /// Serves a publisher that itself cannot have a twin; in a pair it is passed on to where its bytes have one. `local`: the
    /// address it came to, at the port for plain RTMP.
    pub(crate) async fn serve(self, socket: impl Socket, local: SocketAddr, peer: SocketAddr, pass: Pass) {
        match self.pair.clone() {
            Some(pair) => pass_on(self, pair, socket, local, peer, pass).await,
            None => connection(socket, peer, pass, self).await,
        }
    }

    /// A connection has ended.
    pub(crate) fn ended(&self, peer: SocketAddr, end: End, published: bool) {
        match end {
            End::Left if published => info!(%peer, "publisher left"),
            End::Left => debug!(%peer, "a connection came and went without a publish"),
            End::Protocol(error) => self.refused(peer, error.reason(), &error.to_string()),
            End::Kicked(kick) => self.refused(peer, kick.words().1, kick.words().0),
            End::NoSlot(error) => {
                let reason = match &error {
                    ClaimError::WrongKey => "wrong-key",
                    ClaimError::InUse(_) => "in-use",
                    ClaimError::Busy(_) => "busy",
                    ClaimError::State(_) => "no-state",
                    ClaimError::Stopping => "stopping",
                };
                self.refused(peer, reason, &error.to_string());
            }
            End::Silent => self.refused(peer, "silent", "sent or took nothing for 10 s"),
            End::Socket(error) => self.refused(peer, "socket", &error.to_string()),
        }
    }

    pub(crate) fn refused(&self, peer: SocketAddr, reason: &'static str, words: &str) {
        self.metrics.refused.get_or_create(&Because { reason }).inc();
        if let Some(held_back) = self.gate.pass() {
            warn!(%peer, reason, held_back, "publisher refused: {words}");
        }
    }
}

/// How a publisher's session is set up.
pub(crate) fn settings() -> rtmp::Config {
    let fourcc_offer = [b"avc1", b"hvc1", b"av01", b"mp4a", b"Opus"].map(|name| FourCc(*name)).to_vec();
    rtmp::Config { fourcc_offer, ..rtmp::Config::default() }
}

/// How a connection ended.
pub(crate) enum End {
    /// The peer closed, or stopped publishing and left.
    Left,
    /// The session found something wrong.
    Protocol(rtmp::Error),
    /// The stream closed it.
    Kicked(Kick),
    /// The key opens nothing, or the slot is taken.
    NoSlot(ClaimError),
    /// Nothing came for `SILENCE_MAX`, or it took nothing for `WRITE_MAX`.
    Silent,
    /// The socket failed.
    Socket(std::io::Error),
}

/// Serves a connection to its end.
async fn connection(mut socket: impl Socket, peer: SocketAddr, pass: Pass, door: Door) {
    door.metrics.connections.inc();
    let mut random = [0; 1528];
    let (end, published) = match SystemRandom::new().fill(&mut random) {
        Ok(()) => {
            let start = Instant::now();
            let session = Session::new(settings(), 0, random);
            let (pass, claim) = (Some(pass), None);
            let connection =
                Connection { session, start, peer, pass, claim, ended: false, parting: false, door: &door };
            connection.run(&mut socket).await
        }
        Err(_) => (End::Socket(std::io::Error::other("the system gave no random bytes")), false),
    };
    door.metrics.connections.dec();
    door.ended(peer, end, published);
}

struct Connection<'a> {
    session: Session,
    start: Instant,
    peer: SocketAddr,
    /// Held until the first accepted publish.
    pass: Option<Pass>,
    claim: Option<Claim>,
    /// Its last publish ended in good order.
    ended: bool,
    /// It was asked to connect anew, and goes on until it does.
    parting: bool,
    door: &'a Door,
}

impl Connection<'_> {
    fn now(&self) -> rtmp::Millis {
        self.start.elapsed().as_millis() as rtmp::Millis
    }

    /// Serves it to its end; says too whether it ever published.
    async fn run(mut self, socket: &mut impl Socket) -> (End, bool) {
        let end = match self.steps(socket).await {
            Ok(()) => End::Left,
            Err(end) => end,
        };
        if let End::Kicked(kick) = end {
            self.part(socket, kick).await;
            self.session.close(kick.words().0);
        }
        // The last status may be on its way out; whoever does not take it does not get it.
        let _ = timeout(Duration::from_secs(1), self.transmit(socket)).await;
        let _ = timeout(Duration::from_secs(1), socket.shutdown()).await;
        (end, self.pass.is_none())
    }

    /// Asks a publisher that understands it to connect anew, and takes what it sends until it does.
    async fn part(&mut self, socket: &mut impl Socket, kick: Kick) {
        if !kick.wants_reconnect() || !self.session.request_reconnect(kick.words().0) {
            return;
        }
        self.parting = true;
        let parting = async {
            self.write(socket).await?;
            self.steps(socket).await
        };
        // However it ended, it is closed now.
        let _ = timeout(RECONNECT_MAX, parting).await;
    }

    async fn steps(&mut self, socket: &mut impl Socket) -> Result<(), End> {
        let mut buffer = vec![0; STRANGER_READ_BYTES];
        let mut gather = Gather::new(socket);
        loop {
            let due = self.session.poll_timeout().map_or(SILENCE_MAX, |at| {
                Duration::from_millis(at.saturating_sub(self.now())).min(SILENCE_MAX)
            });
            let read = tokio::select! {
                read = timeout(due, gather.read(socket, &mut buffer)) => read,
                kick = kicked(self.claim.as_mut()), if !self.parting => return Err(End::Kicked(kick)),
            };
            // Who sends nothing from one look to the next is heard of with the next byte.
            let sends = !matches!(read, Ok(Ok(None)));
            match read {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(0))) => return Ok(()),
                Ok(Ok(Some(count))) => {
                    let now = self.now();
                    let fed = self.session.handle_input(now, &buffer[..count]);
                    self.events(socket).await?;
                    fed.map_err(End::Protocol)?;
                }
                // ffmpeg ends a publish and closes without reading our answer: a reset is its goodbye.
                Ok(Err(_)) if self.ended => return Ok(()),
                Ok(Err(error)) => return Err(End::Socket(error)),
                Err(_) if due >= SILENCE_MAX => return Err(End::Silent),
                Err(_) => {
                    let now = self.now();
                    let told = self.session.handle_timeout(now);
                    self.events(socket).await?;
                    told.map_err(End::Protocol)?;
                }
            }
            self.write(socket).await?;
            if self.claim.is_some() && buffer.len() < READ_BYTES {
                buffer.resize(READ_BYTES, 0);
            }
            gather.set(sends && self.claim.is_some(), socket);
        }
    }

    async fn events(&mut self, socket: &mut impl Socket) -> Result<(), End> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Connect { .. } => {}
                Event::Publish { app, name, .. } => {
                    self.publish(socket, name.expose(), Push::of(&app, name.expose())).await?;
                }
                Event::Media(message) => {
                    let Some(claim) = &mut self.claim else { continue };
                    if !claim.send(message).await {
                        return Err(End::Kicked(claim.kicked.borrow().unwrap_or(Kick::Stopping)));
                    }
                }
                Event::Unpublish => {
                    self.claim = None;
                    self.ended = true;
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, socket: &mut impl Socket, key: &str, push: Push) -> Result<(), End> {
        self.claim = None;
        self.ended = false;
        match self.door.streams.claim_for(bare(key), push, self.peer.ip(), |_| None).await {
            Ok((record, claim)) => {
                info!(peer = %self.peer, stream = %record.name, ?push, "publisher accepted");
                self.claim = Some(claim);
                self.pass = None;
                self.session.accept_publish();
                self.write(socket).await
            }
            Err(error) => {
                refuse(&mut self.session, &error).await;
                Err(End::NoSlot(error))
            }
        }
    }

    async fn write(&mut self, socket: &mut impl Socket) -> Result<(), End> {
        match timeout(WRITE_MAX, self.transmit(socket)).await {
            Ok(written) => written.map_err(End::Socket),
            Err(_) => Err(End::Silent),
        }
    }

    async fn transmit(&mut self, socket: &mut impl Socket) -> std::io::Result<()> {
        while let Some(bytes) = self.session.poll_transmit() {
            socket.write_all(&bytes).await?;
        }
        socket.flush().await
    }
}

/// A key may come with a query, as `KEY?x=y`; only the key counts.
pub(crate) fn bare(key: &str) -> &str {
    key.split('?').next().unwrap_or_default()
}

/// Tells a publisher why it gets no slot; who has no key waits for it.
pub(crate) async fn refuse(session: &mut Session, error: &ClaimError) {
    match error {
        ClaimError::WrongKey => {
            sleep(WRONG_KEY_DELAY).await;
            session.reject_publish(Reject::BadName);
        }
        ClaimError::InUse(_) => session.reject_publish(Reject::InUse),
        ClaimError::Busy(_) | ClaimError::State(_) => session.close("the server cannot take a publish now"),
        ClaimError::Stopping => session.close(Kick::Stopping.words().0),
    }
}

/// Waits until the stream wants this connection closed; for ever while there is no claim.
async fn kicked(claim: Option<&mut Claim>) -> Kick {
    match claim {
        None => std::future::pending().await,
        Some(claim) => match claim.kicked.wait_for(Option::is_some).await {
            Ok(kick) => kick.unwrap_or(Kick::Stopping),
            Err(_) => Kick::Stopping,
        },
    }
}
