//! The directory of streams, with how often it changed.
//!
//! In: changes of streams, another node's entries. Out: this node's. Touches `streams` and `changes`.

use super::rows::{change, execute, integer, json, natural, records, rows, store};
use crate::coordinator::{Error, StreamRecord};
use crate::directory::DirectoryEntry;
use ingest_api::StreamName;
use rusqlite::{Connection, OptionalExtension, params};

/// The stream was added, changed or removed.
pub(super) fn changed(db: &Connection, name: &StreamName) -> Result<(), Error> {
    let sql = "INSERT INTO changes (stream, revision) SELECT ?1, coalesce(max(revision), 0) + 1 FROM changes
        WHERE true ON CONFLICT (stream) DO UPDATE SET revision = excluded.revision";
    execute(db, sql, [name.as_str()])
}

/// Every name there is or was, by name.
pub(super) fn all(db: &Connection) -> Result<Vec<DirectoryEntry>, Error> {
    let sql = "SELECT stream, revision FROM changes ORDER BY stream";
    let changes: Vec<(String, i64)> = rows(db, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let streams: Vec<StreamRecord> = records(db, "SELECT record FROM streams ORDER BY name", [])?;
    let mut streams = streams.into_iter().peekable();
    let entry = |(name, revision): (String, i64)| {
        let name: StreamName = name.parse().map_err(super::damaged)?;
        let record = streams.next_if(|record| record.name == name);
        Ok(DirectoryEntry { name, revision: natural(revision), record })
    };
    changes.into_iter().map(entry).collect()
}

/// Takes over what replaces this node's; gives the names.
pub(super) fn merge(db: &Connection, entries: Vec<DirectoryEntry>) -> Result<Vec<StreamName>, Error> {
    let mut changed = Vec::new();
    for entry in entries.into_iter().filter(DirectoryEntry::is_sound) {
        let ours = one(db, &entry.name)?;
        if ours.is_some_and(|ours| !entry.replaces(&ours)) {
            continue;
        }
        let name = entry.name.as_str();
        match &entry.record {
            Some(record) => {
                if super::key_id_free(db, record).is_err() {
                    continue;
                }
                let sql = "INSERT INTO streams (name, key_id, record) VALUES (?1, ?2, ?3)
                    ON CONFLICT (name) DO UPDATE SET key_id = excluded.key_id, record = excluded.record";
                execute(db, sql, params![name, record.key_id, json(record)?])?;
            }
            None => drop(change(db, "DELETE FROM streams WHERE name = ?1", [name])?),
        }
        let sql = "INSERT INTO changes (stream, revision) VALUES (?1, ?2)
            ON CONFLICT (stream) DO UPDATE SET revision = excluded.revision";
        execute(db, sql, params![name, integer(entry.revision)])?;
        changed.push(entry.name);
    }
    Ok(changed)
}

fn one(db: &Connection, name: &StreamName) -> Result<Option<DirectoryEntry>, Error> {
    let sql = "SELECT revision FROM changes WHERE stream = ?1";
    let revision: Option<i64> =
        db.query_row(sql, [name.as_str()], |row| row.get(0)).optional().map_err(store)?;
    let Some(revision) = revision else { return Ok(None) };
    let record = super::record(db, "SELECT record FROM streams WHERE name = ?1", [name.as_str()])?;
    Ok(Some(DirectoryEntry { name: name.clone(), revision: natural(revision), record }))
}
