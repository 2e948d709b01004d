//! What players are told of a key that a DRM key server gave: lines of playlists, as it wrote them.
//!
//! In: lines of the server's answer, in the ingest; the same in a snapshot, in the relay. Out: whether they are nothing but
//! what they should be. Pure.

use crate::content_key::KeyId;
use serde::{Deserialize, Serialize};

/// Bytes of a line: a header of PlayReady with some licence URLs is about 2,000.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Lines of a key: as many systems, and some to spare.
pub const LINES_MAX: usize = 8;

const KEY: &str = "#EXT-X-KEY:";
const SESSION_KEY: &str = "#EXT-X-SESSION-KEY:";

/// The lines that go with a key (RFC 8216 §4.3.2.4, §4.3.4.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Whose they are.
    pub kid: KeyId,
    /// `EXT-X-KEY` lines of media playlists, one a system at least.
    pub media: Vec<String>,
    /// `EXT-X-SESSION-KEY` lines of the multivariant playlist.
    pub session: Vec<String>,
}

impl Signals {
    /// Whether these are lines of keys and nothing else: whatever stands here is written into playlists of every viewer.
    pub fn well_formed(&self) -> bool {
        let bounded = |lines: &[String]| lines.len() <= LINES_MAX;
        !self.media.is_empty()
            && bounded(&self.media)
            && bounded(&self.session)
            && self.media.iter().all(|line| is_line(KEY, line))
            && self.session.iter().all(|line| is_line(SESSION_KEY, line))
    }
}

/// One line of this tag for samples that are encrypted by `cbcs`: that is what `SAMPLE-AES` is in fragmented MP4
/// (RFC 8216bis §4.4.4.4).
fn is_line(tag: &str, line: &str) -> bool {
    let Some(list) = line.strip_prefix(tag) else { return false };
    let method = list.split(',').any(|attribute| attribute == "METHOD=SAMPLE-AES");
    method && list.contains("URI=\"") && line.len() <= LINE_BYTES_MAX && !line.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_keys_come_into_playlists() {
        let key = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://1\",KEYFORMAT=\"com.apple.streamingkeydelivery\"";
        let session = key.replace("KEY:", "SESSION-KEY:");
        let signals = |media: &[&str], session: &[&str]| {
            let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
            Signals { kid: KeyId([1; 16]), media: lines(media), session: lines(session) }.well_formed()
        };
        assert!(signals(&[key, key], &[&session]) && signals(&[key], &[]));
        assert!(!signals(&[], &[&session]), "nothing says where the key is");
        assert!(!signals(&[key; 9], &[]));
        for bad in [
            "#EXT-X-KEY:METHOD=NONE",
            "#EXT-X-KEY:METHOD=AES-128,URI=\"a\"",
            "#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"a\"",
            "#EXT-X-KEY:METHOD=SAMPLE-AES",
            "#EXTINF:2,",
            "METHOD=SAMPLE-AES,URI=\"a\"",
            &session,
            &format!("{key}\nhttps://elsewhere.example.org/1.m4s"),
            &format!("{key}\r"),
            &format!("{key}{}", "x".repeat(LINE_BYTES_MAX)),
        ] {
            assert!(!signals(&[bad], &[]) && !signals(&[key, bad], &[]), "{bad}");
            assert!(*bad == session || !signals(&[key], &[bad]), "{bad}");
        }
    }
}
