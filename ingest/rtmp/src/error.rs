//! Why a session ended. Every variant is the peer's doing; a broken promise of ours would be an
//! assertion. No variant carries text from the wire, so none can carry a stream key.

use crate::Stage;
use crate::amf::AmfError;

/// The peer broke a rule or a limit. The session is dead; a last status may wait in
/// [`poll_transmit`](crate::Session::poll_transmit). `at` counts bytes from the first of the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first byte begins an HTTP request.
    #[error("an HTTP request came to the RTMP port: point the player or browser at the HTTP port")]
    Http,
    /// The first byte begins a TLS ClientHello.
    #[error(
        "a TLS ClientHello came to the plain RTMP port: use rtmp:// here, or the RTMPS port for rtmps://"
    )]
    Tls,
    /// C0 names another version than 3 (6 and 8 are encrypted RTMPE).
    #[error("C0 asks for RTMP version {version}; only version 3 is spoken here")]
    Version {
        /// The byte received.
        version: u8,
    },
    /// Handshake, connect and publish took too long, or no new publish followed an ended one.
    #[error("no publish within {limit_ms} ms: the peer stopped {stage}")]
    PublishDeadline {
        /// How far the peer came.
        stage: Stage,
        /// [`Config::publish_deadline_ms`](crate::Config).
        limit_ms: u64,
    },
    /// A chunk of type 1, 2 or 3 on a chunk stream that has no header to inherit from.
    #[error(
        "chunk type {fmt} on chunk stream {csid} at byte {at}, but that stream has no header yet: begin with type 0"
    )]
    NoHeader {
        /// Chunk stream id.
        csid: u32,
        /// Chunk type, 1 to 3.
        fmt: u8,
        /// Byte offset of the chunk.
        at: u64,
    },
    /// A chunk of type 0, 1 or 2 where a message is not finished.
    #[error(
        "a new message header (type {fmt}) at byte {at} on chunk stream {csid}, whose message is not finished"
    )]
    HeaderInsideMessage {
        /// Chunk stream id.
        csid: u32,
        /// Chunk type, 0 to 2.
        fmt: u8,
        /// Byte offset of the chunk.
        at: u64,
    },
    /// More chunk stream ids than [`limits::CHUNK_STREAMS_MAX`](crate::limits::CHUNK_STREAMS_MAX).
    #[error("chunk stream {csid} at byte {at} is one more than the {max} a connection may use")]
    ChunkStreams {
        /// Chunk stream id.
        csid: u32,
        /// The limit.
        max: usize,
        /// Byte offset of the chunk.
        at: u64,
    },
    /// More unfinished messages than [`limits::PARTIAL_MESSAGES_MAX`](crate::limits::PARTIAL_MESSAGES_MAX).
    #[error("chunk stream {csid} begins a message at byte {at} while {max} others are not finished")]
    PartialMessages {
        /// Chunk stream id.
        csid: u32,
        /// The limit.
        max: usize,
        /// Byte offset of the chunk.
        at: u64,
    },
    /// A message announced to be longer than its type may be.
    #[error("a message of type {kind} at byte {at} announces {len} bytes; at most {max} are taken")]
    MessageLength {
        /// Message type id.
        kind: u8,
        /// Announced length in bytes.
        len: u32,
        /// The limit of this type.
        max: u32,
        /// Byte offset of the chunk.
        at: u64,
    },
    /// Unfinished messages (at their announced length) and held bytes exceed the budget.
    #[error(
        "the connection would hold {needed} bytes at byte {at}, over its budget of {budget}: finish messages before beginning others"
    )]
    Budget {
        /// Bytes that would be held.
        needed: u64,
        /// [`Config::budget`](crate::Config).
        budget: u32,
        /// Byte offset.
        at: u64,
    },
    /// Far more headers than payload ([`limits::WORK_CHUNK`](crate::limits::WORK_CHUNK)).
    #[error(
        "too many tiny chunks or control messages for their payload, stopped at byte {at}: use a larger chunk size"
    )]
    ChunkWork {
        /// Byte offset.
        at: u64,
    },
    /// Set Chunk Size with 0 or with the top bit set (section 5.4.1).
    #[error("Set Chunk Size announces {size:#x}; allowed are 1 to 0x7fffffff")]
    ChunkSize {
        /// The number received.
        size: u32,
    },
    /// Window Acknowledgement Size 0.
    #[error("Window Acknowledgement Size announces 0; it must be at least 1")]
    WindowZero,
    /// A protocol or user control message that is too short for its type.
    #[error("control message of type {kind} has {len} bytes, it needs {need}")]
    ControlShort {
        /// Message type id.
        kind: u8,
        /// Bytes received.
        len: usize,
        /// Bytes needed.
        need: usize,
    },
    /// An AMF0 value in a command cannot be read.
    #[error("command message: {0}")]
    Amf(#[from] AmfError),
    /// A transaction id that is not a finite number.
    #[error("{command} has a transaction id that is not a finite number")]
    Transaction {
        /// The command.
        command: &'static str,
    },
    /// A command without an argument it needs, or with one of another type.
    #[error("{command} lacks {what}")]
    CommandArgument {
        /// The command.
        command: &'static str,
        /// The argument.
        what: &'static str,
    },
    /// A name longer than its limit.
    #[error("{what} has {len} bytes; at most {max} are taken")]
    NameLength {
        /// Which name.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A command that is not allowed at this stage.
    #[error("{command} is not allowed {stage}")]
    CommandOrder {
        /// The command.
        command: &'static str,
        /// Where the session stands.
        stage: Stage,
    },
    /// More `createStream` than [`limits::CREATED_STREAMS_MAX`](crate::limits::CREATED_STREAMS_MAX).
    #[error("createStream called more than {max} times")]
    CreatedStreams {
        /// The limit.
        max: u32,
    },
    /// More refused `publish` than [`limits::REJECTS_MAX`](crate::limits::REJECTS_MAX).
    #[error("publish refused {max} times on one connection")]
    Rejects {
        /// The limit.
        max: u8,
    },
    /// Audio, video or data outside an accepted publish.
    #[error(
        "a media message (type {kind}) before byte {at}, outside an accepted publish: publish and wait for the answer first"
    )]
    MediaWithoutPublish {
        /// Message type id.
        kind: u8,
        /// Byte offset: of the chunk that begins the message, or behind the one that ends it.
        at: u64,
    },
    /// An aggregate message whose parts do not fit it.
    #[error("aggregate message is broken at its byte {offset}")]
    Aggregate {
        /// Offset in the message.
        offset: usize,
    },
    /// The session was closed or failed earlier; nothing more is read.
    #[error("the session is closed")]
    Closed,
}

impl Error {
    /// A short constant name for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Version { .. } => "version",
            Self::PublishDeadline { .. } => "publish-deadline",
            Self::NoHeader { .. } => "no-header",
            Self::HeaderInsideMessage { .. } => "header-inside-message",
            Self::ChunkStreams { .. } => "chunk-streams",
            Self::PartialMessages { .. } => "partial-messages",
            Self::MessageLength { .. } => "message-length",
            Self::Budget { .. } => "budget",
            Self::ChunkWork { .. } => "chunk-work",
            Self::ChunkSize { .. } => "chunk-size",
            Self::WindowZero => "window-zero",
            Self::ControlShort { .. } => "control-short",
            Self::Amf(_) => "amf",
            Self::Transaction { .. } => "transaction",
            Self::CommandArgument { .. } => "command-argument",
            Self::NameLength { .. } => "name-length",
            Self::CommandOrder { .. } => "command-order",
            Self::CreatedStreams { .. } => "created-streams",
            Self::Rejects { .. } => "rejects",
            Self::MediaWithoutPublish { .. } => "media-without-publish",
            Self::Aggregate { .. } => "aggregate",
            Self::Closed => "closed",
        }
    }
}

/// A snapshot that [`Session::restore`](crate::Session::restore) cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The bytes do not begin as a snapshot of an RTMP session.
    #[error("not a snapshot of an RTMP session")]
    Magic,
    /// A snapshot written by another version of this package.
    #[error("snapshot has version {version}, this program reads version {ours}")]
    Version {
        /// Version in the snapshot.
        version: u8,
        /// Version we read.
        ours: u8,
    },
    /// The snapshot ends too early, or goes on after its end.
    #[error("snapshot has the wrong length, noticed at byte {at}")]
    Length {
        /// Offset in the snapshot.
        at: usize,
    },
    /// A field holds what no session can hold.
    #[error("snapshot holds an impossible {what}")]
    Invalid {
        /// Which field.
        what: &'static str,
    },
}
