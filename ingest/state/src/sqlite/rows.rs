//! Rows to values and back.
//!
//! In: a connection, SQL, parameters. Out: values, or `Error::Store` with SQLite's reason.

use crate::coordinator::Error;
use releve_watermark::WatermarkId;
use rusqlite::{Connection, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Does a statement; gives how many rows it changed.
pub(super) fn change(db: &Connection, sql: &str, params: impl Params) -> Result<usize, Error> {
    db.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store)
}

/// Does a statement.
pub(super) fn execute(db: &Connection, sql: &str, params: impl Params) -> Result<(), Error> {
    change(db, sql, params).map(drop)
}

/// The one number a query gives.
pub(super) fn count(db: &Connection, sql: &str, params: impl Params) -> Result<i64, Error> {
    let mut statement = db.prepare_cached(sql).map_err(store)?;
    statement.query_row(params, |row| row.get(0)).map_err(store)
}

/// All rows of a query.
pub(super) fn rows<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Error> {
    let mut statement = db.prepare_cached(sql).map_err(store)?;
    let rows = statement.query_map(params, row).map_err(store)?;
    rows.collect::<Result<_, _>>().map_err(store)
}

/// The values in a query's only column, which is JSON.
pub(super) fn records<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Vec<T>, Error> {
    let texts: Vec<String> = rows(db, sql, params, |row| row.get(0))?;
    texts.iter().map(|text| serde_json::from_str(text).map_err(damaged)).collect()
}

/// The value in a query's only row and column, which is JSON.
pub(super) fn record<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<T>, Error> {
    Ok(records(db, sql, params)?.pop())
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(damaged)
}

/// A watermark id as 16 hex digits.
pub(super) fn watermark_text(id: WatermarkId) -> String {
    format!("{:016x}", id.0)
}

/// The watermark id that 16 hex digits stand for.
pub(super) fn watermark_of(text: &str) -> Result<WatermarkId, Error> {
    u64::from_str_radix(text, 16).map(WatermarkId).map_err(damaged)
}

/// SQLite's integers are signed. What is written was checked before; what is asked for beyond the edge is not there, as
/// nothing is at the edge.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number that was written with `integer`.
pub(super) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// SQLite's own failure.
pub(super) fn store(error: rusqlite::Error) -> Error {
    Error::Store(error.to_string())
}

/// A row that holds what nobody wrote.
pub(super) fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Store(format!("a record is damaged: {error}"))
}
