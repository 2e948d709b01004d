//! The publish state machine: what each command does at each stage (table in [`Stage`]).
//!
//! In: the AMF0 payload of one command message. Out: replies, events, a new stage, or an error.
//! Adobe RTMP 1.0, section 7.2.

use super::Session;
use crate::amf::Value;
use crate::command::{self, Command, Connect, What};
use crate::{Error, Event, PublishKind, Stage, StreamKeyText, limits};

impl Session {
    pub(super) fn command(&mut self, stream_id: u32, payload: &[u8]) -> Result<(), Error> {
        let command = command::parse(payload);
        let command = command.inspect_err(|error| self.tell_unreadable(stream_id, error))?;
        let Some(Command { name, transaction, what }) = command else { return Ok(()) };
        let order = Error::CommandOrder { command: name, stage: self.stage };
        if (self.stage == Stage::AwaitingConnect) != matches!(what, What::Connect(_)) {
            return Err(order);
        }
        match what {
            What::Connect(connect) => self.connect(transaction, connect),
            What::ReleaseStream | What::FcPublish => {
                self.replies.result(transaction, &[Value::Null, Value::Undefined]);
            }
            What::GetStreamLength => {
                self.replies.result(transaction, &[Value::Null, Value::Number(0.0)]);
            }
            What::CreateStream if self.stage == Stage::Publishing => return Err(order),
            What::CreateStream => self.create_stream(transaction)?,
            What::Publish { name, kind } => {
                if self.stage != Stage::StreamCreated {
                    let code = "NetStream.Publish.BadName";
                    self.replies.status(stream_id, "error", code, &order.to_string());
                    return Err(order);
                }
                self.publish(stream_id, name, kind)?;
            }
            What::FcUnpublish | What::CloseStream => {
                self.unpublish();
                self.replies.result(transaction, &[Value::Null, Value::Undefined]);
            }
            What::DeleteStream { stream_id } => self.delete_stream(stream_id),
            What::Play => {
                let description = "This port takes publishers only.";
                self.replies.status(stream_id, "error", "NetStream.Play.Failed", description);
            }
        }
        Ok(())
    }

    /// A last word to a peer whose command cannot be read. Our errors repeat nothing of it.
    fn tell_unreadable(&mut self, stream_id: u32, error: &Error) {
        let description = error.to_string();
        match self.stage {
            // The transaction id of `connect` is always 1 (section 7.2.1.1).
            Stage::AwaitingConnect => self.replies.connect_rejected(1.0, &description),
            _ => self.replies.status(stream_id, "error", "NetStream.Publish.BadName", &description),
        }
    }

    fn connect(&mut self, transaction: f64, connect: Connect) {
        let Connect { app, tc_url, flash_ver, fourcc_list, caps_ex } = connect;
        self.caps_ex = caps_ex;
        self.replies.connected(&self.config, transaction, &fourcc_list, caps_ex);
        self.stage = Stage::Connected;
        self.app.clone_from(&app);
        self.events.push_back(Event::Connect { app, tc_url, flash_ver, fourcc_list, caps_ex });
    }

    fn create_stream(&mut self, transaction: f64) -> Result<(), Error> {
        let max = limits::CREATED_STREAMS_MAX;
        if self.streams_created >= max {
            return Err(Error::CreatedStreams { max });
        }
        self.streams_created += 1;
        self.streams |= 1 << self.streams_created;
        self.stage = Stage::StreamCreated;
        let id = Value::Number(f64::from(self.streams_created));
        self.replies.result(transaction, &[Value::Null, id]);
        Ok(())
    }

    fn publish(&mut self, stream_id: u32, name: StreamKeyText, kind: PublishKind) -> Result<(), Error> {
        let max = limits::REJECTS_MAX;
        if self.rejects >= max {
            let error = Error::Rejects { max };
            self.replies.status(stream_id, "error", "NetStream.Publish.BadName", &error.to_string());
            return Err(error);
        }
        self.publish_stream = stream_id;
        self.stage = Stage::Deciding;
        self.events.push_back(Event::Publish { app: self.app.clone(), name, kind });
        Ok(())
    }

    fn delete_stream(&mut self, stream_id: u32) {
        self.streams &= !1u32.checked_shl(stream_id).unwrap_or(0);
        if stream_id == self.publish_stream {
            self.unpublish();
        }
        if self.stage == Stage::StreamCreated && self.streams == 0 {
            self.stage = Stage::Connected;
        }
    }

    fn unpublish(&mut self) {
        if self.stage == Stage::Publishing {
            let code = "NetStream.Unpublish.Success";
            self.replies.status(self.publish_stream, "status", code, "Publishing ended.");
            self.events.push_back(Event::Unpublish);
            self.leave_publish();
        }
    }
}
