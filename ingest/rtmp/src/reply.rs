//! What we say: control messages, command results and statuses.
//!
//! In: what happened. Out: chunks in a buffer that waits for `poll_transmit`. Pure. No text of the
//! peer is repeated, so no key can come back. Adobe RTMP 1.0, sections 5.4, 7.1.7, 7.2.

use bytes::{Bytes, BytesMut};

use crate::amf::Value;
use crate::chunk::{Writer, kind};
use crate::snapshot::{Load, Save};
use crate::{Config, FourCc, RestoreError, control, limits};

/// Chunk stream of protocol control and user control messages.
const CONTROL: u8 = 2;
/// Chunk stream of answers on the connection (message stream 0).
const CONNECTION: u8 = 3;
/// Chunk stream of statuses of a message stream.
const STREAM: u8 = 5;
/// Limit type of Set Peer Bandwidth.
const DYNAMIC: u8 = 2;
const EVENT_STREAM_BEGIN: u16 = 0;

/// Waiting output, and the chunk size it is cut by.
#[derive(Default)]
pub(crate) struct Replies {
    pub(crate) out: BytesMut,
    writer: Writer,
}

impl Replies {
    /// All that waits.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).freeze())
    }

    pub(crate) fn acknowledgement(&mut self, total: u32) {
        self.control(kind::ACKNOWLEDGEMENT, &total.to_be_bytes());
    }

    pub(crate) fn ping_response(&mut self, timestamp: u32) {
        self.control(kind::USER_CONTROL, &control::ping_response(timestamp));
    }

    /// `connect` succeeded. Enhanced RTMP codecs and capabilities are named only if we have them and the peer asked.
    pub(crate) fn connected(&mut self, config: &Config, transaction: f64, asked: &[FourCc], caps_ex: u32) {
        let window = config.window_ack_size.to_be_bytes();
        self.control(kind::WINDOW_ACK_SIZE, &window);
        let bandwidth = [window[0], window[1], window[2], window[3], DYNAMIC];
        self.control(kind::SET_PEER_BANDWIDTH, &bandwidth);
        self.control(kind::SET_CHUNK_SIZE, &config.chunk_size_out.to_be_bytes());
        self.writer.set_chunk_size(config.chunk_size_out);

        let mut properties = vec![
            ("fmsVer".to_owned(), Value::text("FMS/3,5,1,525")),
            ("capabilities".to_owned(), Value::Number(31.0)),
        ];
        let shared = |ours: &&FourCc| asked.contains(ours) || asked.contains(&FourCc::ANY);
        let offer: Vec<Value> = config.fourcc_offer.iter().filter(shared).map(fourcc).collect();
        if !offer.is_empty() {
            properties.push(("fourCcList".to_owned(), Value::StrictArray(offer)));
        }
        let shared = caps_ex & (limits::CAPS_EX_RECONNECT | limits::CAPS_EX_MULTITRACK);
        if shared != 0 {
            properties.push(("capsEx".to_owned(), Value::Number(f64::from(shared))));
        }
        let info = Value::Object(vec![
            ("level".to_owned(), Value::text("status")),
            ("code".to_owned(), Value::text("NetConnection.Connect.Success")),
            ("description".to_owned(), Value::text("Connection succeeded.")),
            ("objectEncoding".to_owned(), Value::Number(0.0)),
        ]);
        self.result(transaction, &[Value::Object(properties), info]);
    }

    /// `connect` is refused.
    pub(crate) fn connect_rejected(&mut self, transaction: f64, description: &str) {
        let info = status("error", "NetConnection.Connect.Rejected", description);
        self.command(CONNECTION, 0, "_error", transaction, &[Value::Null, info]);
    }

    /// The plain answer to a command; nothing if none is wanted.
    pub(crate) fn result(&mut self, transaction: f64, values: &[Value]) {
        if transaction != 0.0 {
            self.command(CONNECTION, 0, "_result", transaction, values);
        }
    }

    /// Publish may begin: Stream Begin and the status.
    pub(crate) fn publish_started(&mut self, stream_id: u32) {
        let mut begin = [0; 6];
        begin[..2].copy_from_slice(&EVENT_STREAM_BEGIN.to_be_bytes());
        begin[2..].copy_from_slice(&stream_id.to_be_bytes());
        self.control(kind::USER_CONTROL, &begin);
        self.status(stream_id, "status", "NetStream.Publish.Start", "Publishing.");
    }

    /// `onStatus` on a message stream (0: the connection).
    pub(crate) fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        let csid = if stream_id == 0 { CONNECTION } else { STREAM };
        let info = status(level, code, description);
        self.command(csid, stream_id, "onStatus", 0.0, &[Value::Null, info]);
    }

    fn command(&mut self, csid: u8, stream_id: u32, name: &str, transaction: f64, values: &[Value]) {
        let mut payload = Vec::with_capacity(256);
        Value::text(name).encode(&mut payload);
        Value::Number(transaction).encode(&mut payload);
        values.iter().for_each(|value| value.encode(&mut payload));
        self.writer.write(&mut self.out, csid, kind::COMMAND, stream_id, 0, &payload);
    }

    fn control(&mut self, kind: u8, payload: &[u8]) {
        self.writer.write(&mut self.out, CONTROL, kind, 0, 0, payload);
    }

    pub(crate) fn save(&self, out: &mut Save) {
        out.bytes(&self.out);
        out.u32(self.writer.chunk_size());
    }

    pub(crate) fn load(from: &mut Load<'_>) -> Result<Self, RestoreError> {
        let mut replies = Self { out: BytesMut::from(from.bytes()?), writer: Writer::default() };
        replies.writer.set_chunk_size(from.u32()?);
        Ok(replies)
    }
}

fn fourcc(fourcc: &FourCc) -> Value {
    let any = *fourcc == FourCc::ANY;
    Value::String(if any { "*".to_owned() } else { fourcc.0.escape_ascii().to_string() })
}

fn status(level: &str, code: &str, description: &str) -> Value {
    Value::Object(vec![
        ("level".to_owned(), Value::text(level)),
        ("code".to_owned(), Value::text(code)),
        ("description".to_owned(), Value::text(description)),
    ])
}
