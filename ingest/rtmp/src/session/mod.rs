//! One publisher's session: from the first byte to the last media message.
//!
//! In: bytes, `now`, and the shell's answer to each publish. Out: bytes to send, [`Event`]s, the
//! next deadline. Pure: no sockets, no clock. Stages and what each allows: [`Stage`].
//!
//! The same bytes at the same times give the same output however they are cut into calls, and a
//! session restored from a snapshot goes on as the original would.

mod commands;
mod save;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::chunk::{Limits, Raw, Reader, kind};
use crate::control::{self, Control};
use crate::handshake::{Handshake, PACKET_LEN};
use crate::media::{self, Aggregate};
use crate::reply::Replies;
use crate::{Config, Error, Event, MediaKind, Message, Millis, Reject, Stage, limits};

/// Bytes a client sends before its first chunk: C0, C1, C2.
const HANDSHAKE_LEN: u64 = 1 + 2 * PACKET_LEN as u64;
/// Longest reason told to a peer, in bytes.
const REASON_LEN_MAX: usize = 256;
/// A drained event queue that grew beyond this many places is given back.
const EVENTS_KEPT: usize = 256;

/// The server's side of one RTMP connection that publishes.
///
/// Feed it with [`Session::handle_input`] and [`Session::handle_timeout`]; after each call that
/// changes it, drain [`Session::poll_transmit`] and [`Session::poll_event`] until both give `None`.
/// Answer each [`Event::Publish`] with [`Session::accept_publish`] or [`Session::reject_publish`].
pub struct Session {
    config: Config,
    stage: Stage,
    /// `Some` exactly in [`Stage::Handshake`].
    handshake: Option<Handshake>,
    reader: Reader,
    replies: Replies,
    events: VecDeque<Event>,
    /// What came behind a `publish` that is not answered yet; not read so far.
    held: Vec<u8>,
    now: Millis,
    /// Counts while the stage has a deadline.
    deadline: Millis,
    bytes_received: u64,
    ack_window: u32,
    /// Position at which the next acknowledgement is due; always beyond what is read.
    ack_next: u64,
    app: String,
    /// Bit n is set while message stream n exists.
    streams: u32,
    streams_created: u32,
    /// Message stream of the publish that is being decided or running.
    publish_stream: u32,
    rejects: u8,
    /// Enhanced RTMP capability bits that the peer named in `connect`.
    caps_ex: u32,
    /// Another session decides what time and work allow; not part of a snapshot.
    follows: bool,
}

impl Session {
    /// A session whose connection was accepted at `now`. `random` fills S1 and must be fresh; it is
    /// no secret.
    pub fn new(config: Config, now: Millis, random: [u8; 1528]) -> Session {
        let config = config.clamped();
        Session {
            stage: Stage::Handshake,
            handshake: Some(Handshake::new(random)),
            reader: new_reader(&config, now),
            replies: Replies::default(),
            events: VecDeque::new(),
            held: Vec::new(),
            now,
            deadline: now.saturating_add(config.publish_deadline_ms),
            bytes_received: 0,
            ack_window: config.window_ack_size,
            ack_next: u64::from(config.window_ack_size),
            app: String::new(),
            streams: 0,
            streams_created: 0,
            publish_stream: 0,
            rejects: 0,
            caps_ex: 0,
            follows: false,
            config,
        }
    }

    /// Takes bytes as they arrive. After `Err` the session is dead: drain `poll_transmit` (a last
    /// status may be in it) and `poll_event`, then close the connection.
    pub fn handle_input(&mut self, now: Millis, bytes: &[u8]) -> Result<(), Error> {
        self.bytes_received = self.bytes_received.saturating_add(bytes.len() as u64);
        self.pass_time(now)?;
        let read = self.read_held().and_then(|()| self.read(bytes));
        read.inspect_err(|_| self.end())
    }

    /// The time of [`Session::poll_timeout`] has come (earlier is harmless). Reads bytes that were
    /// held for an answered publish; gives [`Error::PublishDeadline`] when that time is over.
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), Error> {
        self.pass_time(now)?;
        self.read_held().inspect_err(|_| self.end())
    }

    /// When to call [`Session::handle_timeout`] if nothing arrives before. A moment that is not in
    /// the future means: at once.
    pub fn poll_timeout(&self) -> Option<Millis> {
        match self.stage {
            Stage::Closed | Stage::Deciding => None,
            _ if !self.held.is_empty() => Some(self.now),
            stage => (stage.has_deadline() && !self.follows).then_some(self.deadline),
        }
    }

    /// Bytes to send, in order; `None` when all is given.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.replies.take()
    }

    /// What happened, in order; `None` when all is given.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// Lets the publish of the last [`Event::Publish`] begin: sends Stream Begin and
    /// `NetStream.Publish.Start`. Bytes held meanwhile are read by the next `handle_…` call, for
    /// which `poll_timeout` asks at once. Does nothing if no publish waits for an answer.
    pub fn accept_publish(&mut self) {
        if self.stage == Stage::Deciding {
            self.replies.publish_started(self.publish_stream);
            self.stage = Stage::Publishing;
            self.reader.allow_media(true);
        }
    }

    /// Refuses the publish of the last [`Event::Publish`] with `NetStream.Publish.BadName`. The
    /// peer may try again until the deadline; media it sent already is an error. Does nothing if
    /// no publish waits for an answer.
    pub fn reject_publish(&mut self, reject: Reject) {
        if self.stage == Stage::Deciding {
            let description = match reject {
                Reject::BadName => "No stream takes this key.",
                Reject::InUse => "Another publisher has this stream.",
            };
            self.replies.status(self.publish_stream, "error", "NetStream.Publish.BadName", description);
            self.rejects = self.rejects.saturating_add(1);
            self.leave_publish();
        }
    }

    /// Asks a peer that publishes and has announced that it understands this (`capsEx`, Enhanced RTMP v2) to connect again
    /// to where it is connected now. It goes on sending until its media allows the change, so read on for a while before
    /// `close`. `false`: it was not asked. `reason` is sent: no secrets.
    pub fn request_reconnect(&mut self, reason: &str) -> bool {
        let asks = self.caps_ex & limits::CAPS_EX_RECONNECT != 0
            && matches!(self.stage, Stage::Deciding | Stage::Publishing);
        if asks {
            self.replies.status(0, "status", "NetConnection.Connect.ReconnectRequest", reason);
        }
        asks
    }

    /// Ends the session from our side and tells the peer why, as far as it can understand that at
    /// its stage. Drain `poll_transmit`, then close the connection. `reason` is sent: no secrets.
    pub fn close(&mut self, reason: &str) {
        let end = (0..=REASON_LEN_MAX.min(reason.len())).rev().find(|&at| reason.is_char_boundary(at));
        let reason = &reason[..end.unwrap_or(0)];
        if matches!(self.stage, Stage::Deciding | Stage::Publishing) {
            self.replies.status(self.publish_stream, "status", "NetStream.Unpublish.Success", reason);
        }
        if !matches!(self.stage, Stage::Handshake | Stage::AwaitingConnect | Stage::Closed) {
            self.replies.status(0, "status", "NetConnection.Connect.Closed", reason);
        }
        self.end();
    }

    /// From here on this session is the twin of one on another node that is given the same bytes: those decide, and nothing
    /// is refused for its time or work, since the other one judges that.
    pub fn follow(&mut self) {
        self.follows = true;
    }

    /// The twin has ended and this session serves the peer: time and work count again, with a new deadline where there is
    /// one.
    pub fn lead(&mut self, now: Millis) {
        self.now = self.now.max(now);
        if std::mem::take(&mut self.follows) {
            self.deadline = self.now.saturating_add(self.config.publish_deadline_ms);
        }
    }

    /// The latest time it was told.
    pub fn time(&self) -> Millis {
        self.now
    }

    /// Bytes given to [`Session::handle_input`] so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Where the session stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Bytes of heap this session holds, media in undrained events included. Bounded by the budget
    /// and some kilobytes, if drained.
    pub fn memory(&self) -> usize {
        let event = |event: &Event| match event {
            Event::Media(message) => message.payload.len(),
            _ => limits::KEY_LEN_MAX + limits::TC_URL_LEN_MAX,
        };
        self.handshake.as_ref().map_or(0, Handshake::memory)
            + self.reader.memory()
            + self.replies.out.capacity()
            + self.events.capacity() * size_of::<Event>()
            + self.events.iter().map(event).sum::<usize>()
            + self.held.capacity()
            + self.app.capacity()
    }

    /// No byte is read any more: gives back all that waits for more of them. What is to be sent
    /// and told stays.
    fn end(&mut self) {
        self.stage = Stage::Closed;
        self.handshake = None;
        self.held = Vec::new();
        self.reader = new_reader(&self.config, self.now);
    }

    fn pass_time(&mut self, now: Millis) -> Result<(), Error> {
        if self.stage == Stage::Closed {
            return Err(Error::Closed);
        }
        self.now = self.now.max(now);
        if self.follows {
            self.reader.refill();
        }
        self.reader.pass_time(now);
        if self.stage.has_deadline() && self.now >= self.deadline && !self.follows {
            let (stage, limit_ms) = (self.stage, self.config.publish_deadline_ms);
            self.end();
            return Err(Error::PublishDeadline { stage, limit_ms });
        }
        Ok(())
    }

    fn read_held(&mut self) -> Result<(), Error> {
        if self.stage == Stage::Deciding || self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.read(&held)
    }

    fn read(&mut self, mut input: &[u8]) -> Result<(), Error> {
        if let Some(handshake) = &mut self.handshake {
            if !handshake.read(&mut input, &mut self.replies.out)? {
                return Ok(());
            }
            self.handshake = None;
            self.stage = Stage::AwaitingConnect;
        }
        while !input.is_empty() {
            if self.stage == Stage::Deciding {
                return self.hold(input);
            }
            // What came before an error is acknowledged too, or the cut of the input would show.
            let message = self.reader.next(&mut input);
            self.acknowledge();
            if let Some(message) = message? {
                self.dispatch(message)?;
            }
        }
        Ok(())
    }

    /// Keeps bytes unread until the publish is answered. Memory grows by what came.
    fn hold(&mut self, input: &[u8]) -> Result<(), Error> {
        let (have, needed) = (self.held.len(), self.held.len() + input.len());
        let budget = self.config.budget;
        let total = needed as u64 + self.reader.charged();
        if total > u64::from(budget) {
            return Err(Error::Budget { needed: total, budget, at: self.bytes_received });
        }
        if needed > self.held.capacity() {
            self.held.reserve_exact(needed.max((2 * have).min(budget as usize)) - have);
        }
        self.held.extend_from_slice(input);
        Ok(())
    }

    /// Acknowledges at exact multiples of the window, so the cut of the input does not show. The
    /// number is the total of bytes modulo 2³² (section 5.4.3).
    fn acknowledge(&mut self) {
        while self.reader.position() >= self.ack_next {
            self.replies.acknowledgement(self.ack_next as u32);
            self.ack_next += u64::from(self.ack_window);
        }
    }

    fn dispatch(&mut self, message: Raw) -> Result<(), Error> {
        match message.kind {
            kind::AUDIO | kind::VIDEO | kind::DATA | kind::DATA_AMF3 => self.media(message),
            kind::AGGREGATE => self.aggregate(message),
            _ => {
                self.reader.charge_message()?;
                match message.kind {
                    kind::COMMAND => self.command(message.stream_id, &message.payload),
                    kind::COMMAND_AMF3 => {
                        let payload = media::behind_format_byte(message.payload);
                        self.command(message.stream_id, &payload)
                    }
                    1..=6 => self.control(&message),
                    // Shared objects and types nobody defined.
                    _ => Ok(()),
                }
            }
        }
    }

    fn control(&mut self, message: &Raw) -> Result<(), Error> {
        match control::parse(message.kind, &message.payload)? {
            Control::ChunkSize(size) => self.reader.set_chunk_size(size)?,
            Control::Abort { csid } => self.reader.abort(csid),
            Control::WindowAckSize(size) => {
                self.ack_window = size.max(limits::ACK_WINDOW_MIN);
                self.ack_next = self.reader.position() + u64::from(self.ack_window);
            }
            Control::Ping { timestamp } => self.replies.ping_response(timestamp),
            Control::Nothing => {}
        }
        Ok(())
    }

    /// One media message. Its message stream id is not looked at: a connection has one publish.
    fn media(&mut self, message: Raw) -> Result<(), Error> {
        let Raw { kind, timestamp, payload, .. } = message;
        if self.stage != Stage::Publishing {
            return Err(Error::MediaWithoutPublish { kind, at: self.reader.position() });
        }
        let (kind, payload) = match kind {
            kind::AUDIO => (MediaKind::Audio, Some(payload)),
            kind::VIDEO => (MediaKind::Video, Some(payload)),
            kind::DATA_AMF3 => (MediaKind::Data, media::data_frame(media::behind_format_byte(payload))),
            _ => (MediaKind::Data, media::data_frame(payload)),
        };
        if let Some(payload) = payload {
            self.events.push_back(Event::Media(Message { kind, timestamp, payload }));
        }
        Ok(())
    }

    /// The messages inside an aggregate, each as if it had come alone; other kinds are skipped.
    fn aggregate(&mut self, message: Raw) -> Result<(), Error> {
        let Raw { csid, stream_id, timestamp, payload, .. } = message;
        let mut parts = Aggregate::new(payload, timestamp);
        while let Some(part) = parts.next()? {
            self.reader.charge_part()?;
            let (kind, timestamp, payload) = (part.kind, part.timestamp, part.payload);
            if matches!(kind, kind::AUDIO | kind::VIDEO | kind::DATA) {
                self.media(Raw { csid, kind, stream_id, timestamp, payload })?;
            }
        }
        Ok(())
    }

    /// Back to a connection that may publish again, within the deadline.
    fn leave_publish(&mut self) {
        self.reader.allow_media(false);
        self.stage = if self.streams == 0 { Stage::Connected } else { Stage::StreamCreated };
        self.deadline = self.now.saturating_add(self.config.publish_deadline_ms);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("stage", &self.stage)
            .field("bytes_received", &self.bytes_received)
            .finish_non_exhaustive()
    }
}

fn new_reader(config: &Config, now: Millis) -> Reader {
    let mut reader = Reader::new(reader_limits(config), now, HANDSHAKE_LEN);
    reader.allow_media(false);
    reader
}

fn reader_limits(config: &Config) -> Limits {
    Limits { media_len_max: config.media_len_max, budget: config.budget }
}
