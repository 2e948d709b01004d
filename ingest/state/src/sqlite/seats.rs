//! Seats and ended sessions in SQLite.

use super::Sqlite;
use super::rows::{change, count, damaged, execute, integer, natural, rows, watermark_text};
use crate::coordinator::{Error, check_number};
use crate::seats::{EndedSession, Held, Seat, SeatLimit, Seats, settle};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

#[async_trait]
impl Seats for Sqlite {
    async fn take_seat(&self, seat: Seat, limit: SeatLimit) -> Result<bool, Error> {
        self.writes.call(move |db| take(db, &seat, limit)).await
    }

    async fn keep_seats(&self, seats: Vec<Seat>, limit: SeatLimit) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                for seat in seats {
                    // Nearly all of them sit where they sat.
                    let sql = "UPDATE seats SET seen_unix_s = max(seen_unix_s, ?2) WHERE session = ?1";
                    let session = hex::encode(seat.session);
                    if change(db, sql, params![session, integer(seat.seen_unix_s)])? == 1 {
                        continue;
                    }
                    let sql = "SELECT count(*) FROM ended_sessions WHERE session = ?1";
                    if count(db, sql, [&session])? == 0 && !take(db, &seat, limit)? {
                        end(db, &EndedSession { session: seat.session, until_unix_s: seat.until_unix_s })?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn end_session(&self, ended: EndedSession, now_unix_s: u64) -> Result<(), Error> {
        self.writes
            .call(move |db| {
                check_number("the end of a session", ended.until_unix_s)?;
                execute(db, "DELETE FROM ended_sessions WHERE until_unix_s < ?1", [integer(now_unix_s)])?;
                end(db, &ended)
            })
            .await
    }

    async fn ended_sessions(&self, cursor: u64) -> Result<(Vec<EndedSession>, u64), Error> {
        self.reads
            .call(move |db| {
                let sql = "SELECT session, until_unix_s, id FROM ended_sessions WHERE id > ?1 ORDER BY id";
                let row = |row: &Row<'_>| Ok((row.get(0)?, natural(row.get(1)?), natural(row.get(2)?)));
                let rows: Vec<(String, u64, u64)> = rows(db, sql, [integer(cursor)], row)?;
                let end = rows.last().map_or(cursor, |(_, _, id)| *id);
                let ended = rows.into_iter().map(|(session, until_unix_s, _)| {
                    Ok(EndedSession { session: id_of(&session)?, until_unix_s })
                });
                Ok((ended.collect::<Result<_, Error>>()?, end))
            })
            .await
    }
}

/// Settles one seat; what must end is ended.
fn take(db: &Connection, seat: &Seat, limit: SeatLimit) -> Result<bool, Error> {
    check_number("the time of a seat", seat.seen_unix_s.max(seat.until_unix_s))?;
    let viewer = watermark_text(seat.viewer);
    let sql = "SELECT session, taken_unix_s, seen_unix_s, until_unix_s FROM seats WHERE viewer = ?1";
    let row =
        |row: &Row<'_>| Ok((row.get(0)?, natural(row.get(1)?), natural(row.get(2)?), natural(row.get(3)?)));
    let held: Vec<(String, u64, u64, u64)> = rows(db, sql, [&viewer], row)?;
    let held = held.into_iter().map(|(session, taken_unix_s, seen_unix_s, until_unix_s)| {
        Ok(Held { session: id_of(&session)?, taken_unix_s, seen_unix_s, until_unix_s })
    });
    let settled = settle(&held.collect::<Result<Vec<_>, Error>>()?, seat, limit);
    for session in &settled.idle {
        execute(db, "DELETE FROM seats WHERE session = ?1", [hex::encode(session)])?;
    }
    settled.ended.iter().try_for_each(|ended| end(db, ended))?;
    if settled.seated {
        let sql = "INSERT INTO seats (session, viewer, taken_unix_s, seen_unix_s, until_unix_s)
                   VALUES (?1, ?2, ?3, ?3, ?4)
                   ON CONFLICT (session) DO UPDATE SET seen_unix_s = max(seen_unix_s, excluded.seen_unix_s)";
        let (seen, until) = (integer(seat.seen_unix_s), integer(seat.until_unix_s));
        execute(db, sql, params![hex::encode(seat.session), viewer, seen, until])?;
    }
    Ok(settled.seated)
}

fn end(db: &Connection, ended: &EndedSession) -> Result<(), Error> {
    let session = hex::encode(ended.session);
    execute(db, "DELETE FROM seats WHERE session = ?1", [&session])?;
    let sql = "INSERT OR IGNORE INTO ended_sessions (session, until_unix_s) VALUES (?1, ?2)";
    execute(db, sql, params![session, integer(ended.until_unix_s)])
}

fn id_of(text: &str) -> Result<[u8; 16], Error> {
    let mut id = [0; 16];
    hex::decode_to_slice(text, &mut id).map_err(damaged)?;
    Ok(id)
}
