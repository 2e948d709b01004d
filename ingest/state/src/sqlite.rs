//! Shared state of one machine in an SQLite file: coordinator and ledger.
//!
//! In: calls of any task. Out: answers, given when what they changed is on disk (WAL, `synchronous=FULL`). `thread` commits
//! many calls with one sync, `file` opens, `rows` turns rows into values. Several processes may use the file at once;
//! `watermark/docs/records.md` describes its tables. Touches that file and its `-wal` and `-shm`.

mod directory;
mod file;
mod rows;
mod seats;
mod thread;

use self::rows::{change, count, damaged, execute, integer, json, natural, record, records, rows};
use self::rows::{store, watermark_of, watermark_text};
use self::thread::Thread;
use crate::coordinator::{Coordinator, Error, Fence, NodeRecord, Revocation, StreamRecord};
use crate::coordinator::{FORGET_MAX, check_adopted, check_next, check_number, check_run};
use crate::directory::DirectoryEntry;
use crate::ledger::{Ledger, SessionRecord, check_session};
use async_trait::async_trait;
use ingest_api::window::Segment;
use ingest_api::{Run, StreamName};
use releve_watermark::WatermarkId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;

/// A state file. Clones share its threads, which end with the last of them.
#[derive(Clone, Debug)]
pub struct Sqlite {
    writes: Thread,
    reads: Thread,
}

impl Sqlite {
    /// Opens a state file, making it where it is missing, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be opened, is another program's, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Sqlite, Error> {
        let (writer, reader) = file::open(path)?;
        Ok(Sqlite { writes: Thread::committing(writer)?, reads: Thread::reading(reader)? })
    }
}

#[async_trait]
impl Coordinator for Sqlite {
    async fn add_stream(&self, stream: StreamRecord) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                let taken = "SELECT count(*) FROM streams WHERE name = ?1";
                if count(db, taken, [stream.name.as_str()])? > 0 {
                    return Err(Error::Exists(format!("stream `{}`", stream.name)));
                }
                key_id_free(db, &stream)?;
                let sql = "INSERT INTO streams (name, key_id, record) VALUES (?1, ?2, ?3)";
                execute(db, sql, params![stream.name.as_str(), stream.key_id, json(&stream)?])?;
                directory::changed(db, &stream.name)
            })
            .await
    }

    async fn update_stream(&self, stream: StreamRecord) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                key_id_free(db, &stream)?;
                let sql = "UPDATE streams SET key_id = ?2, record = ?3 WHERE name = ?1";
                let changed = change(db, sql, params![stream.name.as_str(), stream.key_id, json(&stream)?])?;
                if changed == 0 {
                    return Err(Error::NotFound(format!("stream `{}`", stream.name)));
                }
                directory::changed(db, &stream.name)
            })
            .await
    }

    async fn remove_stream(&self, name: &StreamName) -> Result<(), Error> {
        let name = name.clone();
        self.writes
            .call(move |db| {
                let changed = change(db, "DELETE FROM streams WHERE name = ?1", [name.as_str()])?;
                if changed == 0 {
                    return Err(Error::NotFound(format!("stream `{name}`")));
                }
                directory::changed(db, &name)
            })
            .await
    }

    async fn streams(&self) -> Result<Vec<StreamRecord>, Error> {
        self.reads.call(|db| records(db, "SELECT record FROM streams ORDER BY name", [])).await
    }

    async fn stream(&self, name: &StreamName) -> Result<Option<StreamRecord>, Error> {
        let name = name.clone();
        self.reads
            .call(move |db| record(db, "SELECT record FROM streams WHERE name = ?1", [name.as_str()]))
            .await
    }

    async fn stream_by_key_id(&self, key_id: &str) -> Result<Option<StreamRecord>, Error> {
        let key_id = key_id.to_owned();
        self.reads.call(move |db| record(db, "SELECT record FROM streams WHERE key_id = ?1", [key_id])).await
    }

    async fn directory(&self) -> Result<Vec<DirectoryEntry>, Error> {
        self.reads.call(directory::all).await
    }

    async fn merge_directory(&self, entries: Vec<DirectoryEntry>) -> Result<Vec<StreamName>, Error> {
        self.writes.call(move |db| directory::merge(db, entries)).await
    }

    async fn epoch(&self, stream: &StreamName) -> Result<u64, Error> {
        let stream = stream.clone();
        self.reads.call(move |db| epoch(db, &stream)).await
    }

    async fn advance_epoch(&self, stream: &StreamName, from: u64) -> Result<u64, Error> {
        let stream = stream.clone();
        self.writes.call(move |db| {
            let now = epoch(db, &stream)?;
            if now != from {
                return Err(Error::Stale(now));
            }
            let sql = "INSERT INTO epochs (stream, epoch) VALUES (?1, ?2) ON CONFLICT (stream) DO UPDATE SET epoch = ?2";
            execute(db, sql, params![stream.as_str(), integer(from + 1)])?;
            Ok(from + 1)
        })
        .await
    }

    async fn begin_run(&self, run: &Run) -> Result<(), Error> {
        let run = run.clone();
        self.writes
            .call(move |db| {
                let stream = &run.stream;
                let known = run_of_id(db, &run)?;
                let (latest, last) = (latest_run(db, stream)?, last_segment(db, stream)?);
                if !check_run(&run, known.as_ref(), latest.as_ref(), last.as_ref())? {
                    return Ok(());
                }
                let sql = "INSERT INTO runs (stream, run, first_number, record) VALUES (?1, ?2, ?3, ?4)";
                let first = integer(run.first_number);
                execute(db, sql, params![stream.as_str(), run.id.to_string(), first, json(&run)?])
            })
            .await
    }

    async fn latest_run(&self, stream: &StreamName) -> Result<Option<Run>, Error> {
        let stream = stream.clone();
        self.reads.call(move |db| latest_run(db, &stream)).await
    }

    async fn commit_segment(
        &self,
        stream: &StreamName,
        segment: &Segment,
        fence: Fence,
        now_unix_ms: i64,
    ) -> Result<(), Error> {
        let (stream, segment) = (stream.clone(), segment.clone());
        self.writes
            .call(move |db| {
                fence.check(epoch(db, &stream)?)?;
                let known = segment_at(db, &stream, segment.number)?;
                let (last, run) = (last_segment(db, &stream)?, latest_run(db, &stream)?);
                if check_next(&segment, known.as_ref(), last.as_ref(), run.as_ref())? {
                    insert_segment(db, &stream, &segment, now_unix_ms)?;
                }
                Ok(())
            })
            .await
    }

    async fn adopt_segment(
        &self,
        stream: &StreamName,
        segment: &Segment,
        now_unix_ms: i64,
    ) -> Result<(), Error> {
        let (stream, segment) = (stream.clone(), segment.clone());
        self.writes
            .call(move |db| {
                let (last, run) = (last_segment(db, &stream)?, latest_run(db, &stream)?);
                if check_adopted(&segment, last.as_ref(), run.as_ref())? {
                    insert_segment(db, &stream, &segment, now_unix_ms)?;
                }
                Ok(())
            })
            .await
    }

    async fn last_segment(&self, stream: &StreamName) -> Result<Option<Segment>, Error> {
        let stream = stream.clone();
        self.reads.call(move |db| last_segment(db, &stream)).await
    }

    async fn last_commit_unix_ms(&self, stream: &StreamName) -> Result<Option<i64>, Error> {
        let stream = stream.clone();
        let sql = "SELECT committed_unix_ms FROM segments WHERE stream = ?1 ORDER BY number DESC LIMIT 1";
        self.reads.call(move |db| Ok(rows(db, sql, [stream.as_str()], |row| row.get(0))?.pop())).await
    }

    async fn segment(&self, stream: &StreamName, number: u64) -> Result<Option<Segment>, Error> {
        let stream = stream.clone();
        self.reads.call(move |db| segment_at(db, &stream, number)).await
    }

    async fn forget_segments(&self, stream: &StreamName, before_unix_ms: i64) -> Result<usize, Error> {
        let stream = stream.clone();
        self.writes
            .call(move |db| {
                let sql = "SELECT number, json_extract(record, '$.date_unix_ms') FROM segments
                           WHERE stream = ?1 AND number < (SELECT max(number) FROM segments WHERE stream = ?1)
                           ORDER BY number LIMIT ?2";
                let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
                let oldest: Vec<(i64, i64)> =
                    rows(db, sql, params![stream.as_str(), FORGET_MAX as i64], row)?;
                let old: Vec<i64> = oldest
                    .into_iter()
                    .take_while(|&(_, date)| date < before_unix_ms)
                    .map(|(number, _)| number)
                    .collect();
                if let Some(last) = old.last() {
                    execute(
                        db,
                        "DELETE FROM gops WHERE stream = ?1 AND segment <= ?2",
                        params![stream.as_str(), last],
                    )?;
                    execute(
                        db,
                        "DELETE FROM segments WHERE stream = ?1 AND number <= ?2",
                        params![stream.as_str(), last],
                    )?;
                }
                Ok(old.len())
            })
            .await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                check_number("the time of a revocation", revocation.at_unix_s)?;
                let sql = "INSERT INTO revocations (viewer, at_unix_s) VALUES (?1, ?2)";
                execute(db, sql, params![revocation.viewer, integer(revocation.at_unix_s)])
            })
            .await
    }

    async fn revocations(&self, cursor: u64) -> Result<(Vec<Revocation>, u64), Error> {
        self.reads
            .call(move |db| {
                let sql = "SELECT viewer, at_unix_s, id FROM revocations WHERE id > ?1 ORDER BY id";
                let row = |row: &Row<'_>| {
                    let revocation = Revocation { viewer: row.get(0)?, at_unix_s: natural(row.get(1)?) };
                    Ok((revocation, natural(row.get(2)?)))
                };
                let rows: Vec<(Revocation, u64)> = rows(db, sql, [integer(cursor)], row)?;
                let end = rows.last().map_or(cursor, |(_, id)| *id);
                Ok((rows.into_iter().map(|(revocation, _)| revocation).collect(), end))
            })
            .await
    }

    async fn announce(&self, node: NodeRecord) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                let sql = "INSERT OR REPLACE INTO nodes (name, record) VALUES (?1, ?2)";
                execute(db, sql, params![node.name, json(&node)?])
            })
            .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.reads.call(|db| records(db, "SELECT record FROM nodes ORDER BY name", [])).await
    }
}

#[async_trait]
impl Ledger for Sqlite {
    async fn record_session(&self, record: SessionRecord) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                let session = hex::encode(record.session);
                let known = sessions(db, "session", &session)?.pop();
                if !check_session(&record, known.as_ref())? {
                    return Ok(());
                }
                let id = watermark_text(record.watermark_id);
                let sql = "INSERT OR IGNORE INTO viewers (viewer, watermark_id) VALUES (?1, ?2)";
                execute(db, sql, params![record.viewer, id])?;
                let sql = "INSERT INTO sessions (session, viewer, watermark_id, stream, code_key, admitted_unix_s, relay)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                let (stream, at) = (record.stream.as_str(), integer(record.admitted_unix_s));
                execute(db, sql, params![session, record.viewer, id, stream, record.code_key, at, record.relay])
            })
            .await
    }

    async fn session(&self, session: [u8; 16]) -> Result<Option<SessionRecord>, Error> {
        self.reads.call(move |db| Ok(sessions(db, "session", &hex::encode(session))?.pop())).await
    }

    async fn sessions_of(&self, viewer: &str) -> Result<Vec<SessionRecord>, Error> {
        let viewer = viewer.to_owned();
        self.reads.call(move |db| sessions(db, "viewer", &viewer)).await
    }

    async fn register(&self) -> Result<Vec<(String, WatermarkId)>, Error> {
        self.reads
            .call(|db| {
                let sql = "SELECT viewer, watermark_id FROM viewers ORDER BY viewer, watermark_id";
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
    let found: Option<i64> =
        db.query_row(sql, [stream.as_str()], |row| row.get(0)).optional().map_err(store)?;
    Ok(found.map_or(0, natural))
}

fn latest_run(db: &Connection, stream: &StreamName) -> Result<Option<Run>, Error> {
    record(db, "SELECT record FROM runs WHERE stream = ?1 ORDER BY id DESC LIMIT 1", [stream.as_str()])
}

fn run_of_id(db: &Connection, run: &Run) -> Result<Option<Run>, Error> {
    let sql = "SELECT record FROM runs WHERE stream = ?1 AND run = ?2";
    record(db, sql, [run.stream.as_str(), run.id.to_string().as_str()])
}

fn last_segment(db: &Connection, stream: &StreamName) -> Result<Option<Segment>, Error> {
    record(
        db,
        "SELECT record FROM segments WHERE stream = ?1 ORDER BY number DESC LIMIT 1",
        [stream.as_str()],
    )
}

fn segment_at(db: &Connection, stream: &StreamName, number: u64) -> Result<Option<Segment>, Error> {
    let sql = "SELECT record FROM segments WHERE stream = ?1 AND number = ?2";
    record(db, sql, params![stream.as_str(), integer(number)])
}

fn insert_segment(
    db: &Connection,
    stream: &StreamName,
    segment: &Segment,
    now_unix_ms: i64,
) -> Result<(), Error> {
    let number = integer(segment.number);
    let sql =
        "INSERT INTO segments (stream, number, run, record, committed_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (run, record) = (segment.run.to_string(), json(segment)?);
    execute(db, sql, params![stream.as_str(), number, run, record, now_unix_ms])?;
    for (index, gop) in (0i64..).zip(&segment.gops) {
        let marking = serde_json::to_value(gop.marking).map_err(damaged)?;
        let sql = "INSERT INTO gops (stream, segment, idx, gop_id, start_90k, marking, slices, pattern_key, code_key, bias_key)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let id = hex::encode(gop.id.0);
        let marking = marking.as_str().unwrap_or_default();
        let keys = (gop.pattern_key, gop.code_key, gop.bias_key);
        execute(
            db,
            sql,
            params![
                stream.as_str(),
                number,
                index,
                id,
                gop.start_90k,
                marking,
                gop.slices,
                keys.0,
                keys.1,
                keys.2
            ],
        )?;
    }
    Ok(())
}

/// The sessions whose `column` is this text, oldest first.
fn sessions(db: &Connection, column: &'static str, value: &str) -> Result<Vec<SessionRecord>, Error> {
    let sql = format!(
        "SELECT session, viewer, watermark_id, stream, code_key, admitted_unix_s, relay FROM sessions
         WHERE {column} = ?1 ORDER BY admitted_unix_s, id"
    );
    let row = |row: &Row<'_>| {
        let texts: (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok((texts, row.get(1)?, row.get(4)?, natural(row.get(5)?), row.get(6)?))
    };
    let rows: Vec<(_, String, u32, u64, String)> = rows(db, &sql, [value], row)?;
    rows.into_iter()
        .map(|((session_text, id, stream), viewer, code_key, admitted_unix_s, relay)| {
            let mut session = [0; 16];
            hex::decode_to_slice(session_text, &mut session).map_err(damaged)?;
            let (watermark_id, stream) = (watermark_of(&id)?, stream.parse().map_err(damaged)?);
            Ok(SessionRecord { session, viewer, watermark_id, stream, code_key, admitted_unix_s, relay })
        })
        .collect()
}
