//! What one connection may cost: every bound of this package that is not a field of
//! [`Config`](crate::Config), by name and with its reason.
//!
//! Pure constants. The unit is in the comment when it is not in the name.

/// Longest command, shared-object or unknown message, in bytes. `connect` of real encoders has a
/// few hundred.
pub const COMMAND_LEN_MAX: u32 = 64 * 1024;

/// Longest data message (`onMetaData`, timed text), in bytes.
pub const DATA_LEN_MAX: u32 = 256 * 1024;

/// Longest protocol control or user control message, in bytes; the longest defined one has 10.
pub const CONTROL_LEN_MAX: u32 = 64;

/// Messages begun and not finished at the same time on one connection. Encoders interleave two or
/// three.
pub const PARTIAL_MESSAGES_MAX: usize = 16;

/// Chunk stream ids one connection may use; each keeps a header to inherit from. Encoders use four
/// to six of the 65,597 that exist.
pub const CHUNK_STREAMS_MAX: usize = 64;

/// Chunk size before the first Set Chunk Size, in bytes (section 5.4.1).
pub const CHUNK_SIZE_INITIAL: u32 = 128;

/// Larger announced chunk sizes mean this one: no message is longer (section 5.4.1).
pub const CHUNK_SIZE_MAX: u32 = 0x00FF_FFFF;

/// Smallest distance of two acknowledgements, in bytes; a peer that asks for more frequent ones
/// gets these. Keeps an acknowledgement (16 bytes) far below what it acknowledges.
pub const ACK_WINDOW_MIN: u32 = 4096;

/// Work is counted in units: a chunk header costs this many …
pub const WORK_CHUNK: i64 = 64;
/// … a message that the session itself must read (control, command) costs this many more …
pub const WORK_MESSAGE: i64 = 4096;
/// … a payload byte earns one, a millisecond earns this many (4 chunks) …
pub const WORK_PER_MS: i64 = 4 * WORK_CHUNK;
/// … and this many can be saved up: 16,384 chunks. So chunks of 64 bytes or more never run out,
/// and smaller ones are limited to 4,000 a second after the first burst.
pub const WORK_SAVED_MAX: i64 = 16_384 * WORK_CHUNK;

/// Nesting of AMF0 objects and arrays.
pub const AMF_DEPTH_MAX: usize = 16;

/// AMF0 values in one command, nested ones counted.
pub const AMF_NODES_MAX: usize = 1024;

/// Longest `app`, `flashVer` and AMF0 property name, in bytes.
pub const NAME_LEN_MAX: usize = 128;

/// Longest `tcUrl`, in bytes. It carries the key of some encoders, so it is as long as a key.
pub const TC_URL_LEN_MAX: usize = 1024;

/// Longest stream key text with its query, in bytes.
pub const KEY_LEN_MAX: usize = 1024;

/// FourCCs read from `connect`; the rest of a longer list is ignored.
pub const FOURCC_MAX: usize = 32;

/// `createStream` calls on one connection.
pub const CREATED_STREAMS_MAX: u32 = 16;

/// `publish` commands on one connection that the shell may refuse before the session ends.
pub const REJECTS_MAX: u8 = 3;

/// Bit of `capsEx`: the peer understands `NetConnection.Connect.ReconnectRequest`.
pub(crate) const CAPS_EX_RECONNECT: u32 = 1;
/// Bit of `capsEx`: several tracks in one publish. Further tracks of audio go on; those of video are left out.
pub(crate) const CAPS_EX_MULTITRACK: u32 = 2;
