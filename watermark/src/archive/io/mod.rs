//! Reading folders of archive logs, also while ingests write to them.
//!
//! In: paths. Out: an index of what is there, and objects whose seals hold; or what is missing or damaged and where. Touches
//! those folders only, and changes nothing. Opening reads the records, not the pictures: a day of a stream opens in seconds.

use super::log::{self, Head, LogName};
use super::record::{Chain, HEAD_BYTES, Kind, RecordError, RecordHead};
use super::segment::SegmentRecord;
use crate::object::Object;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// What is missing in an archive, or wrong with it.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// A file or the folder cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A record that was whole when the archive was opened no longer is, or never was.
    #[error("{path}, segment {number}: {error}", path = .path.display())]
    Segment {
        /// The log.
        path: PathBuf,
        /// The segment's number.
        number: u64,
        /// What does not hold.
        error: RecordError,
    },
    /// The object is another than the one that was published.
    #[error("{path}, segment {number}: the object's hash is not the recorded one", path = .path.display())]
    Hash {
        /// The log.
        path: PathBuf,
        /// The segment's number.
        number: u64,
    },
}

/// An archive, opened for reading.
#[derive(Debug)]
pub struct Archive {
    logs: Vec<LogFile>,
    entries: Vec<Entry>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    inits: BTreeMap<String, Bytes>,
}

/// One archived segment of one encoding of the picture.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stream's public name.
    pub stream: Arc<str>,
    /// Which encoding of its picture: `video` is the first, `video2` to `video5` are further ones.
    pub track: Arc<str>,
    /// What its record says of that.
    pub record: SegmentRecord,
    place: Place,
    /// Where it is too: other nodes' logs.
    others: Vec<Place>,
}

/// A segment's record in a log.
#[derive(Clone, Debug)]
struct Place {
    log: usize,
    at: u64,
    head: RecordHead,
    before: Chain,
}

impl Entry {
    fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.place).chain(&self.others)
    }
}

impl Archive {
    /// Opens a folder. What a crash tore, at the end of a log, is left out, and noted.
    ///
    /// # Errors
    /// When the folder or a log cannot be read. Damage is no error here: see `notes`.
    pub fn open(dir: &Path) -> Result<Archive, ArchiveError> {
        Archive::open_all(&[dir])
    }

    /// Opens the folders of several nodes as one archive: what one of them lacks, another may have.
    ///
    /// # Errors
    /// When a folder or a log cannot be read.
    pub fn open_all(dirs: &[impl AsRef<Path>]) -> Result<Archive, ArchiveError> {
        let mut archive = Archive { logs: Vec::new(), entries: Vec::new(), notes: Vec::new() };
        dirs.iter().try_for_each(|dir| archive.take(dir.as_ref()))?;
        archive.entries.sort_by(|x, y| {
            let key = |entry: &Entry| (entry.record.date_unix_ms, entry.record.number);
            let track = || x.track.cmp(&y.track);
            x.stream.cmp(&y.stream).then_with(|| key(x).cmp(&key(y))).then_with(track)
        });
        // Both nodes of a pair may have archived a segment.
        archive.entries.dedup_by(|x, y| {
            let segment = |entry: &Entry| (entry.record.run.clone(), entry.record.number);
            let same = (&x.stream, &x.track, segment(x)) == (&y.stream, &y.track, segment(y));
            if same {
                y.others.push(x.place.clone());
                y.others.append(&mut x.others);
            }
            same
        });
        Ok(archive)
    }

    /// Takes a folder's logs into the index.
    fn take(&mut self, dir: &Path) -> Result<(), ArchiveError> {
        let at = |error| ArchiveError::File { path: dir.to_owned(), error };
        let mut names: Vec<(LogName, PathBuf)> = Vec::new();
        for entry in fs::read_dir(dir).map_err(at)? {
            let path = entry.map_err(at)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(LogName::parse);
            names.extend(name.map(|name| (name, path)));
        }
        names.sort();
        // The seal at the end of the log before, of the same run.
        let mut last: Option<(String, Chain)> = None;
        for (name, path) in names {
            let indexed = self.index(&path, last.as_ref().filter(|(run, _)| *run == name.run));
            match indexed {
                Ok(end) => last = Some((name.run, end)),
                // Pruned between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ArchiveError::File { path, error }),
            }
        }
        Ok(())
    }

    /// Every segment, by stream, then by date; of one segment the picture first, then its further encodings.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sentences about torn ends and broken chains.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The init section that a segment's pictures need.
    pub fn init(&self, entry: &Entry) -> Option<&Bytes> {
        let name = entry.record.init()?;
        entry.places().find_map(|place| self.logs[place.log].inits.get(name))
    }

    /// A segment's object, of the first node whose seal and recorded hash hold.
    ///
    /// # Errors
    /// What is wrong with the first one when they hold nowhere, or no file can be read.
    pub fn object(&self, entry: &Entry) -> Result<Object, ArchiveError> {
        let first = self.object_at(entry, &entry.place);
        let other =
            |_: &ArchiveError| entry.others.iter().find_map(|place| self.object_at(entry, place).ok());
        match first.as_ref().err().and_then(other) {
            Some(object) => Ok(object),
            None => first,
        }
    }

    fn object_at(&self, entry: &Entry, place: &Place) -> Result<Object, ArchiveError> {
        let path = || self.logs[place.log].path.clone();
        let number = entry.record.number;
        let payload = || -> io::Result<Bytes> {
            let mut file = File::open(path())?;
            read_at(&mut file, place.at, place.head.len).map(Bytes::from)
        };
        let payload = payload().map_err(|error| ArchiveError::File { path: path(), error })?;
        let segment = |error| ArchiveError::Segment { path: path(), number, error };
        place.head.verify(place.before, &payload).map_err(segment)?;
        let object_at = log::segment_head(place.head.kind, &payload).map_err(segment)?.1.end;
        let hash = payload.get(object_at..).map(|object| ring::digest::digest(&ring::digest::SHA256, object));
        if hash.map(hex::encode).as_deref() != entry.record.sha256() {
            return Err(ArchiveError::Hash { path: path(), number });
        }
        log::read_object(place.head.kind, &payload).map_err(segment)
    }

    /// Indexes one log; gives its last seal.
    fn index(&mut self, path: &Path, last: Option<&(String, Chain)>) -> io::Result<Chain> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        let (mut at, mut chain, mut torn) = (0u64, Chain::START, None);
        let mut stream: Option<Arc<str>> = None;
        let mut inits = BTreeMap::new();
        let first_entry = self.entries.len();
        while at < end && torn.is_none() {
            let mut bytes = [0; HEAD_BYTES];
            let whole = end - at >= HEAD_BYTES as u64;
            if whole {
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut bytes)?;
            }
            let payload_at = at + HEAD_BYTES as u64;
            let head = match RecordHead::parse(&bytes) {
                Ok(head) if whole && end - payload_at >= head.len as u64 => head,
                Err(RecordError::Kind(_)) => {
                    torn = Some("a record of a later version".to_owned());
                    break;
                }
                _ => {
                    torn = Some("half a record".to_owned());
                    break;
                }
            };
            let next = payload_at + head.len as u64;
            let read =
                self.read(&mut file, payload_at, head, chain, next == end, &mut stream, &mut inits, last);
            match read? {
                Ok(()) => (at, chain) = (next, head.chain),
                Err(why) => torn = Some(why),
            }
        }
        if let Some(why) = torn {
            let here = path.display();
            self.notes.push(format!("{here}: {why} at byte {at} of {end}; what follows is left out"));
        }
        if stream.is_none() {
            self.entries.truncate(first_entry);
        }
        self.logs.push(LogFile { path: path.to_owned(), inits });
        Ok(chain)
    }

    /// Takes one record into the index; small ones are checked here, large ones when they are asked for, except the last of
    /// a log, which a crash may have torn.
    #[allow(clippy::too_many_arguments, reason = "one step of the loop above, cut out for its length")]
    fn read(
        &mut self,
        file: &mut File,
        at: u64,
        head: RecordHead,
        before: Chain,
        is_last: bool,
        stream: &mut Option<Arc<str>>,
        inits: &mut BTreeMap<String, Bytes>,
        last: Option<&(String, Chain)>,
    ) -> io::Result<Result<(), String>> {
        let says = |error: RecordError| error.to_string();
        let is_segment = matches!(head.kind, Kind::Segment | Kind::Encoding);
        if is_last || !is_segment {
            let payload = read_at(file, at, head.len)?;
            if let Err(error) = head.verify(before, &payload) {
                return Ok(Err(says(error)));
            }
            if head.kind == Kind::Head {
                let Head { stream: name, after, .. } = match log::read_head(&payload) {
                    Ok(head) => head,
                    Err(error) => return Ok(Err(says(error))),
                };
                if let Some((_, chain)) = last
                    && after != hex::encode(chain.0)
                {
                    self.notes.push(format!(
                        "`{name}`: the log that begins here does not follow the one before it"
                    ));
                }
                *stream = Some(name.into());
                return Ok(Ok(()));
            }
            if head.kind == Kind::Init {
                return Ok(log::read_init(&payload).map_err(says).map(|(name, bytes)| {
                    inits.insert(name.to_owned(), Bytes::copy_from_slice(bytes));
                }));
            }
        }
        let Some(stream) = stream.clone() else { return Ok(Err("a segment before its head".to_owned())) };
        let first = read_at(file, at, log::SEGMENT_HEAD_MAX.min(head.len))?;
        let (track, json) = match log::segment_head(head.kind, &first) {
            Ok((_, json)) if json.end > head.len => {
                return Ok(Err("a segment without its record".to_owned()));
            }
            Ok(begins) => begins,
            Err(error) => return Ok(Err(says(error))),
        };
        let json = read_at(file, at + json.start as u64, json.len())?;
        Ok(log::read_record(&json, track).map_err(says).map(|record| {
            let log = self.logs.len();
            self.entries.push(Entry {
                stream,
                track: track.into(),
                record,
                place: Place { log, at, head, before },
                others: Vec::new(),
            });
        }))
    }
}

fn read_at(file: &mut File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    // Grows as bytes come: a length that a damaged head claims reserves nothing.
    file.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
