//! Snapshot bytes: a forward-only writer and reader of fixed-width big-endian fields.
//!
//! The layout is the order in which `save` and `load` of each part name their fields; `VERSION`
//! changes with it. A snapshot holds whatever the session holds, so it may contain a stream key:
//! send it only where the key may go. Reading trusts nothing: lengths are checked against the
//! bytes that are there, and every part checks its own invariants.

use bytes::Bytes;

use crate::{Event, FourCc, MediaKind, Message, PublishKind, RestoreError, StreamKeyText, limits};

pub(crate) const MAGIC: &[u8; 4] = b"RTMS";
pub(crate) const VERSION: u8 = 2;

pub(crate) struct Save(pub(crate) Vec<u8>);

impl Save {
    pub(crate) fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    pub(crate) fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn fourccs(&mut self, list: &[FourCc]) {
        self.u64(list.len() as u64);
        for fourcc in list {
            self.0.extend_from_slice(&fourcc.0);
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Connect { app, tc_url, flash_ver, fourcc_list, caps_ex } => {
                self.u8(0);
                self.bytes(app.as_bytes());
                self.bytes(tc_url.as_bytes());
                self.bytes(flash_ver.as_bytes());
                self.fourccs(fourcc_list);
                self.u32(*caps_ex);
            }
            Event::Publish { app, name, kind } => {
                self.u8(1);
                self.bytes(app.as_bytes());
                self.bytes(name.expose().as_bytes());
                self.u8(*kind as u8);
            }
            Event::Media(message) => {
                self.u8(2);
                self.u8(message.kind as u8);
                self.u32(message.timestamp);
                self.bytes(&message.payload);
            }
            Event::Unpublish => self.u8(3),
        }
    }
}

pub(crate) struct Load<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Load<'a> {
    pub(crate) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RestoreError> {
        let end = self.at.checked_add(len);
        let part = end.and_then(|end| self.all.get(self.at..end));
        let part = part.ok_or(RestoreError::Length { at: self.at })?;
        self.at += len;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        Ok(self.take(N)?.try_into().expect("take gives exactly N bytes"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RestoreError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, RestoreError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RestoreError::Invalid { what }),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RestoreError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RestoreError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn count(&mut self) -> Result<usize, RestoreError> {
        let at = self.at;
        usize::try_from(self.u64()?).map_err(|_| RestoreError::Length { at })
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RestoreError> {
        let len = self.count()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self, max: usize, what: &'static str) -> Result<String, RestoreError> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= max => Ok(text.to_owned()),
            _ => Err(RestoreError::Invalid { what }),
        }
    }

    pub(crate) fn fourccs(&mut self) -> Result<Vec<FourCc>, RestoreError> {
        let count = self.count()?;
        if count > limits::FOURCC_MAX {
            return Err(RestoreError::Invalid { what: "FourCC list" });
        }
        (0..count).map(|_| Ok(FourCc(self.array()?))).collect()
    }

    pub(crate) fn event(&mut self) -> Result<Event, RestoreError> {
        Ok(match self.u8()? {
            0 => Event::Connect {
                app: self.text(limits::NAME_LEN_MAX, "app")?,
                tc_url: self.text(limits::TC_URL_LEN_MAX, "tcUrl")?,
                flash_ver: self.text(limits::NAME_LEN_MAX, "flashVer")?,
                fourcc_list: self.fourccs()?,
                caps_ex: self.u32()?,
            },
            1 => Event::Publish {
                app: self.text(limits::NAME_LEN_MAX, "app")?,
                name: StreamKeyText::new(self.text(limits::KEY_LEN_MAX, "stream key")?),
                kind: match self.u8()? {
                    0 => PublishKind::Live,
                    1 => PublishKind::Record,
                    2 => PublishKind::Append,
                    _ => return Err(RestoreError::Invalid { what: "publish kind" }),
                },
            },
            2 => Event::Media(Message {
                kind: match self.u8()? {
                    8 => MediaKind::Audio,
                    9 => MediaKind::Video,
                    18 => MediaKind::Data,
                    _ => return Err(RestoreError::Invalid { what: "media kind" }),
                },
                timestamp: self.u32()?,
                payload: Bytes::copy_from_slice(self.bytes()?),
            }),
            3 => Event::Unpublish,
            _ => return Err(RestoreError::Invalid { what: "event" }),
        })
    }

    /// All bytes must have been read.
    pub(crate) fn end(self) -> Result<(), RestoreError> {
        if self.at == self.all.len() { Ok(()) } else { Err(RestoreError::Length { at: self.at }) }
    }
}
