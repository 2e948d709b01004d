//! Snapshot and restore of a whole session. Layout: the order of the fields below, see
//! [`crate::snapshot`].
//!
//! In: a session, or bytes of a snapshot. Out: the other. Pure.

use super::{HANDSHAKE_LEN, Session, reader_limits};
use crate::chunk::Reader;
use crate::handshake::Handshake;
use crate::reply::Replies;
use crate::snapshot::{Load, MAGIC, Save, VERSION};
use crate::{Config, RestoreError, Stage, limits};

impl Session {
    /// The complete state, undrained output included, as bytes with a version. They may contain a
    /// stream key.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Save(MAGIC.to_vec());
        out.u8(VERSION);
        self.config.save(&mut out);
        out.u8(self.stage as u8);
        out.u64(self.now);
        out.u64(self.deadline);
        out.u64(self.bytes_received);
        out.u32(self.ack_window);
        out.u64(self.ack_next);
        out.bytes(self.app.as_bytes());
        out.u32(self.streams);
        out.u32(self.streams_created);
        out.u32(self.publish_stream);
        out.u8(self.rejects);
        out.u32(self.caps_ex);
        out.bytes(&self.held);
        self.replies.save(&mut out);
        out.u64(self.events.len() as u64);
        self.events.iter().for_each(|event| out.event(event));
        self.reader.save(&mut out);
        out.u8(u8::from(self.handshake.is_some()));
        if let Some(handshake) = &self.handshake {
            handshake.save(&mut out);
        }
        out.0
    }

    /// The session of which [`Session::snapshot`] gave `bytes`. Any other bytes are an error, or a
    /// session that keeps every limit; never a panic.
    pub fn restore(bytes: &[u8]) -> Result<Session, RestoreError> {
        let mut from = Load::new(bytes);
        if from.take(MAGIC.len()) != Ok(MAGIC) {
            return Err(RestoreError::Magic);
        }
        let version = from.u8()?;
        if version != VERSION {
            return Err(RestoreError::Version { version, ours: VERSION });
        }
        let invalid = |what| RestoreError::Invalid { what };
        let config = Config::load(&mut from)?;
        let stage = Stage::from_u8(from.u8()?).ok_or(invalid("stage"))?;
        let (now, deadline, bytes_received) = (from.u64()?, from.u64()?, from.u64()?);
        let (ack_window, ack_next) = (from.u32()?, from.u64()?);
        let app = from.text(limits::NAME_LEN_MAX, "app")?;
        let (streams, streams_created, publish_stream) = (from.u32()?, from.u32()?, from.u32()?);
        let rejects = from.u8()?;
        let caps_ex = from.u32()?;
        let held = from.bytes()?.to_vec();
        let replies = Replies::load(&mut from)?;
        let count = from.count()?;
        let events = (0..count).map(|_| from.event()).collect::<Result<_, _>>()?;
        let mut reader = Reader::load(&mut from, reader_limits(&config))?;
        reader.allow_media(stage == Stage::Publishing);
        let handshake = if from.flag("handshake")? { Some(Handshake::load(&mut from)?) } else { None };
        from.end()?;

        if streams_created > limits::CREATED_STREAMS_MAX
            || streams & 1 != 0
            || streams >= 2 << streams_created
        {
            return Err(invalid("message streams"));
        }
        if ack_window < limits::ACK_WINDOW_MIN
            || ack_next <= reader.position()
            || reader.position() < HANDSHAKE_LEN
        {
            return Err(invalid("acknowledgement"));
        }
        if held.len() as u64 + reader.charged() > u64::from(config.budget) {
            return Err(invalid("held bytes"));
        }
        let fits = match stage {
            Stage::Handshake => handshake.is_some() && held.is_empty(),
            _ => handshake.is_none(),
        };
        if !fits {
            return Err(invalid("handshake"));
        }
        Ok(Session {
            config,
            stage,
            handshake,
            reader,
            replies,
            events,
            held,
            now,
            deadline,
            bytes_received,
            ack_window,
            ack_next,
            app,
            streams,
            streams_created,
            publish_stream,
            rejects,
            caps_ex,
            follows: false,
        })
    }
}
