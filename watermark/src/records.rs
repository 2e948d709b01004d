//! What the tracer reads of a one-machine state folder: the GOPs of a segment, the keys, who was admitted.
//!
//! In: `DIR/state.db` and `DIR/keys/{code,bias}.{key,history}`, while other programs may write to the former. Out: values, or an error
//! that says what is missing and where. Touches those files only, and changes none. `docs/records.md` describes the tables.

pub use crate::archive::GopRecord;

use crate::codeword::{Codebook, WatermarkId};
use crate::key::{Key, KeyFileError, KeyRing, parse_history};
use crate::keybook::{KeyBook, NoKey};
use crate::position::GopId;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The layout of `state.db` that this reads, in its `user_version`; those before it, without bias keys, too.
pub const LAYOUT: i64 = 5;
/// How long to wait for another program that has the file to itself for a moment.
const BUSY: Duration = Duration::from_secs(5);

/// A state folder, open for reading.
pub struct Records {
    path: PathBuf,
    db: Connection,
    layout: i64,
    keys: KeyBook,
}

/// What is missing in a state folder, or wrong with it.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// A file is not there or cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A key file's text is wrong.
    #[error("{path}: {error}", path = .path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        error: KeyFileError,
    },
    /// SQLite cannot read the state file.
    #[error("{path}: {error}", path = .path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// Another version of the programs wrote the state file.
    #[error("{path} has layout {layout}, this program reads {LAYOUT}; use the version that wrote it", path = .path.display())]
    Layout {
        /// Which.
        path: PathBuf,
        /// What it has; 0 in files of other programs.
        layout: i64,
    },
    /// A row holds what no program of ours writes.
    #[error("{path}: GOP {index} of segment {number} of `{stream}` is damaged: {what}", path = .path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// Of which stream.
        stream: String,
        /// Of which segment.
        number: u64,
        /// Counted from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing was ever recorded under that name.
    #[error("{path} knows no stream `{stream}`; `relevectl stream list` shows what there is", path = .path.display())]
    NoStream {
        /// The state file.
        path: PathBuf,
        /// The name.
        stream: String,
    },
    /// The stream has never been published.
    #[error("no segment of `{stream}` is recorded in {path} yet", path = .path.display())]
    NoSegments {
        /// The state file.
        path: PathBuf,
        /// The stream.
        stream: String,
    },
    /// The number was not used.
    #[error("`{stream}` has no segment {number}; {path} holds numbers {first} to {last}", path = .path.display())]
    NoSegment {
        /// The state file.
        path: PathBuf,
        /// The stream.
        stream: String,
        /// The number asked for.
        number: u64,
        /// The lowest number there is.
        first: i64,
        /// The highest.
        last: i64,
    },
    /// A GOP was marked under keys that are no longer in the key files.
    #[error("{path}: {error}", path = .path.display())]
    NoKey {
        /// The folder of keys.
        path: PathBuf,
        /// Which.
        error: NoKey,
    },
}

impl Records {
    /// Opens a state folder.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn open(dir: &Path) -> Result<Records, RecordsError> {
        let keys = KeyBook::new(keys(dir, "code")?, keys(dir, "bias")?);
        let path = dir.join("state.db");
        // SQLite would say no more than "unable to open".
        std::fs::File::open(&path).map_err(|error| RecordsError::File { path: path.clone(), error })?;
        let (db, layout) =
            open_database(&path).map_err(|error| RecordsError::Database { path: path.clone(), error })?;
        if !(1..=LAYOUT).contains(&layout) {
            return Err(RecordsError::Layout { path, layout });
        }
        Ok(Records { path, db, layout, keys })
    }

    /// The keys, with those that were used up.
    pub fn keys(&self) -> &KeyBook {
        &self.keys
    }

    /// The codebook that relays used for a GOP.
    ///
    /// # Errors
    /// When a key that its record names is not in the key files.
    pub fn codebook(&self, gop: &GopRecord) -> Result<Codebook, RecordsError> {
        let path = self.path.with_file_name("keys");
        self.keys.codebook(gop.code_key, gop.bias_key).map_err(|error| RecordsError::NoKey { path, error })
    }

    /// Every viewer ever admitted with their watermark id, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn register(&self) -> Result<Vec<(String, WatermarkId)>, RecordsError> {
        read_register(&self.db).map_err(|error| self.database(error))
    }

    /// The GOPs that start in a segment, in order.
    ///
    /// # Errors
    /// When the stream or the segment is not recorded.
    pub fn gops(&self, stream: &str, number: u64) -> Result<Vec<GopRecord>, RecordsError> {
        self.check_segment(stream, number)?;
        let bias_key = if self.layout == 1 { "0" } else { "bias_key" };
        let sql = format!(
            "SELECT gop_id, start_90k, marking, slices, pattern_key, code_key, {bias_key} FROM gops
             WHERE stream = ?1 AND segment = ?2 ORDER BY idx"
        );
        let mut query = self.db.prepare(&sql).map_err(|error| self.database(error))?;
        let rows = query.query_map(params![stream, number as i64], |row| {
            let id: String = row.get(0)?;
            let gop = GopRecord {
                gop: GopId([0; 16]),
                start_90k: row.get(1)?,
                marking: row.get(2)?,
                slices: row.get(3)?,
                pattern_key: row.get(4)?,
                code_key: row.get(5)?,
                bias_key: row.get(6)?,
            };
            Ok((id, gop))
        });
        let rows = rows.map_err(|error| self.database(error))?;
        rows.enumerate()
            .map(|(index, row)| {
                let damaged = |what: String| {
                    let (path, stream) = (self.path.clone(), stream.to_owned());
                    RecordsError::Damaged { path, stream, number, index, what }
                };
                let (id, mut gop) = row.map_err(|error| damaged(error.to_string()))?;
                hex::decode_to_slice(&id, &mut gop.gop.0)
                    .map_err(|error| damaged(format!("its id: {error}")))?;
                Ok(gop)
            })
            .collect()
    }

    /// The watermark ids a viewer was admitted with: none if never.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn watermark_ids(&self, viewer: &str) -> Result<Vec<WatermarkId>, RecordsError> {
        let ids = || -> rusqlite::Result<Vec<_>> {
            let mut query = self
                .db
                .prepare("SELECT watermark_id FROM viewers WHERE viewer = ?1 ORDER BY watermark_id")?;
            let ids = query.query_map([viewer], |row| id_of(row.get(0)?))?;
            ids.collect()
        };
        ids().map_err(|error| self.database(error))
    }

    /// Whether there is such a segment, or what there is instead.
    fn check_segment(&self, stream: &str, number: u64) -> Result<(), RecordsError> {
        let (path, name) = (self.path.clone(), stream.to_owned());
        let one =
            |sql: &str, number: i64| self.db.query_row(sql, params![stream, number], |_| Ok(())).optional();
        let segment = "SELECT 1 FROM segments WHERE stream = ?1 AND number = ?2";
        let found = i64::try_from(number).map_or(Ok(None), |number| one(segment, number));
        if found.map_err(|error| self.database(error))?.is_some() {
            return Ok(());
        }
        let ends = self.db.query_row(
            "SELECT min(number), max(number) FROM segments WHERE stream = ?1",
            [stream],
            |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?)),
        );
        if let Some((first, last)) = ends.map_err(|error| self.database(error))? {
            return Err(RecordsError::NoSegment { path, stream: name, number, first, last });
        }
        let known = self
            .db
            .query_row("SELECT count(*) FROM streams WHERE name = ?1", [stream], |row| row.get::<_, i64>(0));
        match known.map_err(|error| self.database(error))? {
            0 => Err(RecordsError::NoStream { path, stream: name }),
            _ => Err(RecordsError::NoSegments { path, stream: name }),
        }
    }

    fn database(&self, error: rusqlite::Error) -> RecordsError {
        RecordsError::Database { path: self.path.clone(), error }
    }
}

fn open_database(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY)?;
    let layout = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((db, layout))
}

/// The live keys of a kind, the current one first, and those that were used up.
fn keys(dir: &Path, kind: &str) -> Result<Vec<Key>, RecordsError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| RecordsError::File { path: path.to_owned(), error })
    };
    let (live, used) =
        (dir.join("keys").join(format!("{kind}.key")), dir.join("keys").join(format!("{kind}.history")));
    let text = read(&live)?;
    let ring = KeyRing::parse(&text).map_err(|error| RecordsError::Key { path: live, error })?;
    let mut keys: Vec<Key> = ring.iter().cloned().collect();
    if used.exists() {
        let history =
            parse_history(&read(&used)?).map_err(|error| RecordsError::Key { path: used, error })?;
        keys.extend(history);
    }
    Ok(keys)
}

/// The register in a state file, also one that stands alone.
///
/// # Errors
/// When it cannot be read.
pub fn register_of(path: &Path) -> Result<Vec<(String, WatermarkId)>, RecordsError> {
    let failed = |error| RecordsError::Database { path: path.to_owned(), error };
    let (db, _) = open_database(path).map_err(failed)?;
    read_register(&db).map_err(failed)
}

fn read_register(db: &Connection) -> rusqlite::Result<Vec<(String, WatermarkId)>> {
    let mut query = db.prepare("SELECT viewer, watermark_id FROM viewers ORDER BY viewer, watermark_id")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, id_of(row.get(1)?)?)))?;
    rows.collect()
}

fn id_of(text: String) -> rusqlite::Result<WatermarkId> {
    let id = u64::from_str_radix(&text, 16);
    id.map(WatermarkId).map_err(|_| rusqlite::Error::InvalidColumnType(0, text, rusqlite::types::Type::Text))
}
