//! One answer as its bytes come: the head is read, the body kept, hashed or only counted.
//!
//! In: bytes of one connection. Out: the answer when it is whole. Pure.

use anyhow::{Context, Result, bail, ensure};

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 4096;
/// The longest body that is kept.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What is done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is kept as it is.
    Keep,
    /// It is hashed.
    Hash,
    /// It is counted.
    Count,
}

/// An answer that is coming in.
#[derive(Debug)]
pub(super) struct Answer {
    usage: Use,
    /// The head, then the kept body.
    text: Vec<u8>,
    head_len: Option<usize>,
    pub(super) status: u16,
    pub(super) body_len: usize,
    left: usize,
    /// FNV-1a of what was taken of the body.
    hash: u64,
}

impl Answer {
    pub(super) fn new(usage: Use) -> Answer {
        Answer { usage, text: Vec::new(), head_len: None, status: 0, body_len: 0, left: 0, hash: fnv(&[]) }
    }

    /// How many bytes may be thrown away unseen.
    pub(super) fn to_drop(&self) -> usize {
        if self.usage == Use::Count && self.head_len.is_some() { self.left } else { 0 }
    }

    /// So many were.
    pub(super) fn dropped(&mut self, count: usize) {
        self.left -= count.min(self.left);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.head_len.is_some() && self.left == 0
    }

    /// Takes bytes; one answer's at most, since nothing is asked before it is whole.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.head_len.is_some() {
            return self.body(bytes);
        }
        self.text.extend_from_slice(bytes);
        let Some(at) = self.text.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(self.text.len() <= HEAD_BYTES_MAX, "a head without an end");
            return Ok(());
        };
        let body = self.text.split_off(at + 4);
        let head = std::str::from_utf8(&self.text)?;
        let status =
            head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("no status line")?;
        self.status = status.parse()?;
        self.body_len = match (self.status, self.field("content-length")) {
            (304, _) => 0,
            (_, Some(length)) => length.parse()?,
            (_, None) => bail!("an answer without a length"),
        };
        ensure!(
            self.usage != Use::Keep || self.body_len <= KEPT_BYTES_MAX,
            "a playlist of {}",
            self.body_len
        );
        (self.head_len, self.left) = (Some(self.text.len()), self.body_len);
        self.body(&body)
    }

    fn body(&mut self, bytes: &[u8]) -> Result<()> {
        ensure!(bytes.len() <= self.left, "{} bytes after the answer's end", bytes.len() - self.left);
        self.left -= bytes.len();
        match self.usage {
            Use::Keep => self.text.extend_from_slice(bytes),
            Use::Hash => self.hash = fnv_on(self.hash, bytes),
            Use::Count => {}
        }
        Ok(())
    }

    /// A field of the head; its name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.text[..self.head_len.unwrap_or(self.text.len())]).ok()?;
        head.split("\r\n").find_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// What the body hashes to, unless it was only counted.
    pub(super) fn hash(&self) -> Option<u64> {
        match self.usage {
            Use::Keep => Some(fnv(self.kept())),
            Use::Hash => Some(self.hash),
            Use::Count => None,
        }
    }

    /// The body, if it was kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.text[self.head_len.unwrap_or(self.text.len())..]
    }
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    fnv_on(0xcbf2_9ce4_8422_2325, bytes)
}

fn fnv_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The first and last segment number of a playlist with names like `video/7.m4s`.
pub(super) fn numbers(playlist: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(playlist).ok()?;
    let number = |line: &str| line.strip_prefix("video/")?.strip_suffix(".m4s")?.parse().ok();
    Some((text.lines().find_map(number)?, text.lines().rev().find_map(number)?))
}

/// A part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    number: u64,
    index: u64,
}

impl Part {
    /// Rises from part to part; a segment has fewer than a thousand.
    pub(super) fn id(self) -> u64 {
        self.number * 1000 + self.index
    }

    /// As in `video/7.3.m4s`.
    pub(super) fn name(self) -> String {
        format!("{}.{}", self.number, self.index)
    }
}

/// The last part that a playlist lists.
pub(super) fn newest_part(playlist: &[u8]) -> Option<Part> {
    let text = std::str::from_utf8(playlist).ok()?;
    let part = |line: &str| {
        let uri = line.strip_prefix("#EXT-X-PART:")?.split("URI=\"video/").nth(1)?.split(".m4s\"").next()?;
        let (number, index) = uri.split_once('.')?;
        Some(Part { number: number.parse().ok()?, index: index.parse().ok()? })
    };
    text.lines().rev().find_map(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_however_it_is_cut() {
        let bytes = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..bytes.len() {
            for usage in [Use::Keep, Use::Hash, Use::Count] {
                let mut answer = Answer::new(usage);
                answer.take(&bytes[..cut]).unwrap();
                assert!(!answer.is_whole());
                answer.take(&bytes[cut..]).unwrap();
                assert!(answer.is_whole() && answer.status == 200 && answer.body_len == 5);
                assert_eq!(answer.kept(), if usage == Use::Keep { &b"hello"[..] } else { b"" });
                assert_eq!(answer.hash(), (usage != Use::Count).then_some(0xa430_d846_80aa_bd0b));
            }
        }
        assert!(Answer::new(Use::Count).take(&[&bytes[..], b"x"].concat()).is_err());
        assert!(Answer::new(Use::Count).take(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn numbers_are_those_of_the_window() {
        let text = b"#EXTM3U\n#EXT-X-MAP:URI=\"video/init-a.mp4\"\n#EXTINF:2,\nvideo/7.m4s\n#EXTINF:2,\nvideo/8.m4s\n";
        assert_eq!(numbers(text), Some((7, 8)));
        assert_eq!(numbers(b"#EXTM3U\n"), None);
    }

    #[test]
    fn the_newest_part_is_the_last_that_is_listed_not_the_hint() {
        let text = b"#EXT-X-PART:DURATION=0.33,URI=\"video/8.5.m4s\"\n#EXTINF:2,\nvideo/8.m4s\n\
            #EXT-X-PART:DURATION=0.33,URI=\"video/9.0.m4s\",INDEPENDENT=YES\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/9.1.m4s\"\n";
        let part = newest_part(text).unwrap();
        assert_eq!((part.id(), part.name()), (9_000, "9.0".to_owned()));
        assert_eq!(newest_part(b"#EXTM3U\nvideo/8.m4s\n"), None);
    }
}
