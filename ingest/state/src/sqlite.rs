//! Shared state of one machine in an SQLite file: coordinator and ledger.
//!
//! One thread owns the connection. It takes all calls that wait, runs each in a savepoint of one transaction, commits
//! (WAL, `synchronous=FULL`: on disk) and only then answers: many callers share one sync, and a failed call undoes nothing
//! of its neighbours. Several processes may use the file; `watermark/docs/records.md` describes its tables.

use crate::coordinator::{Coordinator, Error, NodeRecord, Revocation, StreamRecord, check_next, check_run};
use crate::ledger::{Ledger, SessionRecord};
use async_trait::async_trait;
use ingest_api::window::Segment;
use ingest_api::{Run, StreamName};
use releve_watermark::WatermarkId;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The layout this program writes, in `user_version`.
const LAYOUT: i64 = 1;
/// Calls that may wait; a full queue makes callers wait.
const QUEUE: usize = 1024;
/// Calls in one transaction.
const BATCH: usize = 256;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE streams (name TEXT PRIMARY KEY, key_id TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;
CREATE TABLE epochs (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;
CREATE TABLE runs (stream TEXT NOT NULL, run TEXT NOT NULL, first_number INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (stream, first_number)) STRICT;
CREATE TABLE segments (stream TEXT NOT NULL, number INTEGER NOT NULL, run TEXT NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (stream, number)) STRICT;
CREATE TABLE gops (stream TEXT NOT NULL, segment INTEGER NOT NULL, idx INTEGER NOT NULL, gop_id TEXT NOT NULL,
  start_90k INTEGER NOT NULL, marking TEXT NOT NULL, slices INTEGER NOT NULL, pattern_key INTEGER NOT NULL,
  code_key INTEGER NOT NULL, PRIMARY KEY (stream, segment, idx)) STRICT;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, session TEXT NOT NULL, viewer TEXT NOT NULL, watermark_id TEXT NOT NULL,
  stream TEXT NOT NULL, code_key INTEGER NOT NULL, admitted_unix_s INTEGER NOT NULL, relay TEXT NOT NULL) STRICT;
CREATE INDEX sessions_of ON sessions (viewer);
CREATE TABLE viewers (viewer TEXT PRIMARY KEY, watermark_id TEXT NOT NULL) STRICT;
CREATE TABLE revocations (id INTEGER PRIMARY KEY, viewer TEXT NOT NULL, at_unix_s INTEGER NOT NULL) STRICT;
CREATE TABLE nodes (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
";

/// Answers its caller once the transaction has ended: with its own result, or with why the commit failed.
type Answer = Box<dyn FnOnce(Option<Error>) + Send>;

struct Call {
    writes: bool,
    run: Box<dyn FnOnce(&Connection) -> (bool, Answer) + Send>,
}

/// A state file. Clones share its thread.
#[derive(Clone, Debug)]
pub struct Sqlite {
    calls: mpsc::Sender<Call>,
}

impl Sqlite {
    /// Opens a state file, making it where it is missing, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Sqlite, Error> {
        let made = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map_err(|error| Error::Store(format!("{}: {error}", path.display())))?;
        let connection = Connection::open(path).map_err(store)?;
        connection.busy_timeout(BUSY).map_err(store)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(store)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(store)?;
        lay_out(&connection)?;
        let (calls, waiting) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || serve(connection, waiting))
            .map_err(|error| Error::Store(error.to_string()))?;
        Ok(Sqlite { calls })
    }

    async fn call<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let gone = || Error::Store("the state thread has ended".to_owned());
        let (sender, receiver) = oneshot::channel();
        let run = Box::new(move |connection: &Connection| {
            let result = work(connection);
            let keep = result.is_ok();
            let answer: Answer = Box::new(move |failed| {
                // A caller that went away needs no answer.
                let _ = sender.send(failed.map_or(result, Err));
            });
            (keep, answer)
        });
        self.calls.send(Call { writes, run }).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(false, work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(true, work).await
    }
}

fn lay_out(connection: &Connection) -> Result<(), Error> {
    // Immediate: of two processes that open a new file at once, the second waits and finds it laid out.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(store)?;
    let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(store)?;
    match layout {
        0 => {
            connection.execute_batch(TABLES).map_err(store)?;
            connection.pragma_update(None, "user_version", LAYOUT).map_err(store)?;
        }
        LAYOUT => {}
        newer => {
            let _ = connection.execute_batch("ROLLBACK");
            return Err(Error::Store(format!("the state file has layout {newer}, this program knows {LAYOUT}; run the newer program")));
        }
    }
    connection.execute_batch("COMMIT").map_err(store)
}

/// The thread: batches until every handle is gone.
fn serve(connection: Connection, mut waiting: mpsc::Receiver<Call>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let writes = batch.iter().any(|call| call.writes);
        let begun = if writes { connection.execute_batch("BEGIN IMMEDIATE").map_err(store) } else { Ok(()) };
        let mut answers = Vec::with_capacity(batch.len());
        for call in batch.drain(..) {
            let savepoint = begun.is_ok() && call.writes;
            if savepoint {
                let _ = connection.execute_batch("SAVEPOINT call");
            }
            let (keep, answer) = (call.run)(&connection);
            if savepoint {
                let _ = connection.execute_batch(if keep { "RELEASE call" } else { "ROLLBACK TO call; RELEASE call" });
            }
            answers.push((call.writes, answer));
        }
        let ended = match (&begun, writes) {
            (Err(error), _) => Err(error.clone()),
            (Ok(()), true) => connection.execute_batch("COMMIT").map_err(store),
            (Ok(()), false) => Ok(()),
        };
        if ended.is_err() && !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        for (wrote, answer) in answers {
            answer(if wrote { ended.clone().err() } else { None });
        }
    }
}

#[async_trait]
impl Coordinator for Sqlite {
    async fn add_stream(&self, stream: StreamRecord) -> Result<(), Error> {
        self.write(move |db| {
            let taken = "SELECT count(*) FROM streams WHERE name = ?1";
            if count(db, taken, [stream.name.as_str()])? > 0 {
                return Err(Error::Exists(format!("stream `{}`", stream.name)));
            }
            key_id_free(db, &stream)?;
            let sql = "INSERT INTO streams (name, key_id, record) VALUES (?1, ?2, ?3)";
            execute(db, sql, params![stream.name.as_str(), stream.key_id, json(&stream)?])
        })
        .await
    }

    async fn update_stream(&self, stream: StreamRecord) -> Result<(), Error> {
        self.write(move |db| {
            key_id_free(db, &stream)?;
            let sql = "UPDATE streams SET key_id = ?2, record = ?3 WHERE name = ?1";
            let changed = db.execute(sql, params![stream.name.as_str(), stream.key_id, json(&stream)?]).map_err(store)?;
            if changed == 0 { Err(Error::NotFound(format!("stream `{}`", stream.name))) } else { Ok(()) }
        })
        .await
    }

    async fn remove_stream(&self, name: &StreamName) -> Result<(), Error> {
        let name = name.clone();
        self.write(move |db| {
            let changed = db.execute("DELETE FROM streams WHERE name = ?1", [name.as_str()]).map_err(store)?;
            if changed == 0 { Err(Error::NotFound(format!("stream `{name}`"))) } else { Ok(()) }
        })
        .await
    }

    async fn streams(&self) -> Result<Vec<StreamRecord>, Error> {
        self.read(|db| records(db, "SELECT record FROM streams ORDER BY name", [])).await
    }

    async fn stream(&self, name: &StreamName) -> Result<Option<StreamRecord>, Error> {
        let name = name.clone();
        self.read(move |db| record(db, "SELECT record FROM streams WHERE name = ?1", [name.as_str()])).await
    }

    async fn stream_by_key_id(&self, key_id: &str) -> Result<Option<StreamRecord>, Error> {
        let key_id = key_id.to_owned();
        self.read(move |db| record(db, "SELECT record FROM streams WHERE key_id = ?1", [key_id])).await
    }

    async fn epoch(&self, stream: &StreamName) -> Result<u64, Error> {
        let stream = stream.clone();
        self.read(move |db| epoch(db, &stream)).await
    }

    async fn advance_epoch(&self, stream: &StreamName, from: u64) -> Result<u64, Error> {
        let stream = stream.clone();
        self.write(move |db| {
            let now = epoch(db, &stream)?;
            if now != from {
                return Err(Error::Stale(now));
            }
            let sql = "INSERT INTO epochs (stream, epoch) VALUES (?1, ?2) ON CONFLICT (stream) DO UPDATE SET epoch = ?2";
            execute(db, sql, params![stream.as_str(), integer(from + 1)?])?;
            Ok(from + 1)
        })
        .await
    }

    async fn begin_run(&self, run: &Run) -> Result<(), Error> {
        let run = run.clone();
        self.write(move |db| {
            check_run(&run, latest_run(db, &run.stream)?.as_ref(), last_segment(db, &run.stream)?.as_ref())?;
            // A run that never had a segment gives its place to the next one.
            let sql = "INSERT OR REPLACE INTO runs (stream, run, first_number, record) VALUES (?1, ?2, ?3, ?4)";
            execute(db, sql, params![run.stream.as_str(), run.id.to_string(), integer(run.first_number)?, json(&run)?])
        })
        .await
    }

    async fn latest_run(&self, stream: &StreamName) -> Result<Option<Run>, Error> {
        let stream = stream.clone();
        self.read(move |db| latest_run(db, &stream)).await
    }

    async fn commit_segment(&self, stream: &StreamName, segment: &Segment) -> Result<(), Error> {
        let (stream, segment) = (stream.clone(), segment.clone());
        self.write(move |db| {
            let known = segment_at(db, &stream, segment.number)?;
            let (last, run) = (last_segment(db, &stream)?, latest_run(db, &stream)?);
            if check_next(&segment, known.as_ref(), last.as_ref(), run.as_ref())? {
                insert_segment(db, &stream, &segment)?;
            }
            Ok(())
        })
        .await
    }

    async fn last_segment(&self, stream: &StreamName) -> Result<Option<Segment>, Error> {
        let stream = stream.clone();
        self.read(move |db| last_segment(db, &stream)).await
    }

    async fn segment(&self, stream: &StreamName, number: u64) -> Result<Option<Segment>, Error> {
        let stream = stream.clone();
        self.read(move |db| segment_at(db, &stream, number)).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.write(move |db| {
            let sql = "INSERT INTO revocations (viewer, at_unix_s) VALUES (?1, ?2)";
            execute(db, sql, params![revocation.viewer, integer(revocation.at_unix_s)?])
        })
        .await
    }

    async fn revocations(&self, cursor: u64) -> Result<(Vec<Revocation>, u64), Error> {
        self.read(move |db| {
            let sql = "SELECT viewer, at_unix_s, id FROM revocations WHERE id > ?1 ORDER BY id";
            let row = |row: &Row<'_>| {
                let revocation = Revocation { viewer: row.get(0)?, at_unix_s: natural(row.get(1)?) };
                Ok((revocation, natural(row.get(2)?)))
            };
            let rows: Vec<(Revocation, u64)> = rows(db, sql, [integer(cursor)?], row)?;
            let end = rows.last().map_or(cursor, |(_, id)| *id);
            Ok((rows.into_iter().map(|(revocation, _)| revocation).collect(), end))
        })
        .await
    }

    async fn announce(&self, node: NodeRecord) -> Result<(), Error> {
        self.write(move |db| {
            let sql = "INSERT OR REPLACE INTO nodes (name, record) VALUES (?1, ?2)";
            execute(db, sql, params![node.name, json(&node)?])
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.read(|db| records(db, "SELECT record FROM nodes ORDER BY name", [])).await
    }
}

#[async_trait]
impl Ledger for Sqlite {
    async fn record_session(&self, record: SessionRecord) -> Result<(), Error> {
        self.write(move |db| {
            let id = watermark_text(record.watermark_id);
            let sql = "INSERT OR IGNORE INTO viewers (viewer, watermark_id) VALUES (?1, ?2)";
            execute(db, sql, params![record.viewer, id])?;
            let sql = "INSERT INTO sessions (session, viewer, watermark_id, stream, code_key, admitted_unix_s, relay)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let session = hex::encode(record.session);
            let (stream, at) = (record.stream.as_str(), integer(record.admitted_unix_s)?);
            execute(db, sql, params![session, record.viewer, id, stream, record.code_key, at, record.relay])
        })
        .await
    }

    async fn sessions_of(&self, viewer: &str) -> Result<Vec<SessionRecord>, Error> {
        let viewer = viewer.to_owned();
        self.read(move |db| {
            let sql = "SELECT session, watermark_id, stream, code_key, admitted_unix_s, relay FROM sessions
                       WHERE viewer = ?1 ORDER BY id";
            let row = |row: &Row<'_>| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, natural(row.get(4)?), row.get(5)?))
            };
            let rows: Vec<(String, String, String, u32, u64, String)> = rows(db, sql, [&viewer], row)?;
            rows.into_iter()
                .map(|(session_text, id, stream, code_key, admitted_unix_s, relay)| {
                    let mut session = [0; 16];
                    hex::decode_to_slice(session_text, &mut session).map_err(damaged)?;
                    let (watermark_id, stream) = (watermark_of(&id)?, stream.parse().map_err(damaged)?);
                    let viewer = viewer.clone();
                    Ok(SessionRecord { session, viewer, watermark_id, stream, code_key, admitted_unix_s, relay })
                })
                .collect()
        })
        .await
    }

    async fn register(&self) -> Result<Vec<(String, WatermarkId)>, Error> {
        self.read(|db| {
            let sql = "SELECT viewer, watermark_id FROM viewers ORDER BY viewer";
            let rows: Vec<(String, String)> = rows(db, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.into_iter().map(|(viewer, id)| Ok((viewer, watermark_of(&id)?))).collect()
        })
        .await
    }
}

fn key_id_free(db: &Connection, stream: &StreamRecord) -> Result<(), Error> {
    let sql = "SELECT count(*) FROM streams WHERE key_id = ?1 AND name <> ?2";
    match count(db, sql, [stream.key_id.as_str(), stream.name.as_str()])? {
        0 => Ok(()),
        _ => Err(Error::Exists("the key id".to_owned())),
    }
}

fn epoch(db: &Connection, stream: &StreamName) -> Result<u64, Error> {
    let sql = "SELECT epoch FROM epochs WHERE stream = ?1";
    let found: Option<i64> = db.query_row(sql, [stream.as_str()], |row| row.get(0)).optional().map_err(store)?;
    Ok(found.map_or(0, natural))
}

fn latest_run(db: &Connection, stream: &StreamName) -> Result<Option<Run>, Error> {
    record(db, "SELECT record FROM runs WHERE stream = ?1 ORDER BY first_number DESC LIMIT 1", [stream.as_str()])
}

fn last_segment(db: &Connection, stream: &StreamName) -> Result<Option<Segment>, Error> {
    record(db, "SELECT record FROM segments WHERE stream = ?1 ORDER BY number DESC LIMIT 1", [stream.as_str()])
}

fn segment_at(db: &Connection, stream: &StreamName, number: u64) -> Result<Option<Segment>, Error> {
    let sql = "SELECT record FROM segments WHERE stream = ?1 AND number = ?2";
    record(db, sql, params![stream.as_str(), integer(number)?])
}

fn insert_segment(db: &Connection, stream: &StreamName, segment: &Segment) -> Result<(), Error> {
    let number = integer(segment.number)?;
    let sql = "INSERT INTO segments (stream, number, run, record) VALUES (?1, ?2, ?3, ?4)";
    execute(db, sql, params![stream.as_str(), number, segment.run.to_string(), json(segment)?])?;
    for (index, gop) in (0i64..).zip(&segment.gops) {
        let marking = serde_json::to_value(gop.marking).map_err(damaged)?;
        let sql = "INSERT INTO gops (stream, segment, idx, gop_id, start_90k, marking, slices, pattern_key, code_key)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let id = hex::encode(gop.id.0);
        let marking = marking.as_str().unwrap_or_default();
        let keys = (gop.pattern_key, gop.code_key);
        execute(db, sql, params![stream.as_str(), number, index, id, gop.start_90k, marking, gop.slices, keys.0, keys.1])?;
    }
    Ok(())
}

fn execute(db: &Connection, sql: &str, params: impl Params) -> Result<(), Error> {
    db.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map(|_| ()).map_err(store)
}

fn count(db: &Connection, sql: &str, params: impl Params) -> Result<i64, Error> {
    db.query_row(sql, params, |row| row.get(0)).map_err(store)
}

fn rows<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Error> {
    let mut statement = db.prepare_cached(sql).map_err(store)?;
    let rows = statement.query_map(params, row).map_err(store)?;
    rows.collect::<Result<_, _>>().map_err(store)
}

fn records<T: DeserializeOwned>(db: &Connection, sql: &str, params: impl Params) -> Result<Vec<T>, Error> {
    let texts: Vec<String> = rows(db, sql, params, |row| row.get(0))?;
    texts.iter().map(|text| serde_json::from_str(text).map_err(damaged)).collect()
}

fn record<T: DeserializeOwned>(db: &Connection, sql: &str, params: impl Params) -> Result<Option<T>, Error> {
    Ok(records(db, sql, params)?.pop())
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(damaged)
}

fn watermark_text(id: WatermarkId) -> String {
    format!("{:016x}", id.0)
}

fn watermark_of(text: &str) -> Result<WatermarkId, Error> {
    u64::from_str_radix(text, 16).map(WatermarkId).map_err(damaged)
}

/// SQLite's integers are signed; nothing here comes near the edge, and what does is refused.
fn integer(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(damaged)
}

fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn store(error: rusqlite::Error) -> Error {
    Error::Store(error.to_string())
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Store(format!("a record is damaged: {error}"))
}
