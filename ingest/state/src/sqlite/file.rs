//! Opening a state file: its mode, its journal, its layout.
//!
//! In: a path. Out: connections to a file that has this program's tables. Several processes may open a new file at once.

use super::rows::store;
use crate::coordinator::Error;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The layout this program writes, in `user_version`.
const LAYOUT: i64 = 5;
/// Says whose file it is, in `application_id`: "RELV".
const APPLICATION: i64 = 0x5245_4c56;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// Pause between two tries to turn the journal to WAL, which SQLite's own waiting does not cover.
const JOURNAL_RETRY: Duration = Duration::from_millis(5);

/// Described in `watermark/docs/records.md`; `releve-trace` reads them.
const TABLES: &str = "
CREATE TABLE streams (name TEXT PRIMARY KEY, key_id TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;
CREATE TABLE epochs (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, run TEXT NOT NULL,
  first_number INTEGER NOT NULL, record TEXT NOT NULL, UNIQUE (stream, run)) STRICT;
CREATE INDEX runs_of ON runs (stream, id);
CREATE TABLE segments (stream TEXT NOT NULL, number INTEGER NOT NULL, run TEXT NOT NULL, record TEXT NOT NULL,
  committed_unix_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (stream, number)) STRICT;
CREATE TABLE gops (stream TEXT NOT NULL, segment INTEGER NOT NULL, idx INTEGER NOT NULL, gop_id TEXT NOT NULL,
  start_90k INTEGER NOT NULL, marking TEXT NOT NULL, slices INTEGER NOT NULL, pattern_key INTEGER NOT NULL,
  code_key INTEGER NOT NULL, bias_key INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (stream, segment, idx))
  STRICT, WITHOUT ROWID;
CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL UNIQUE, viewer TEXT NOT NULL,
  watermark_id TEXT NOT NULL, stream TEXT NOT NULL, code_key INTEGER NOT NULL, admitted_unix_s INTEGER NOT NULL,
  relay TEXT NOT NULL) STRICT;
CREATE INDEX sessions_of ON sessions (viewer, admitted_unix_s, id);
CREATE TABLE viewers (viewer TEXT NOT NULL, watermark_id TEXT NOT NULL, PRIMARY KEY (viewer, watermark_id))
  STRICT, WITHOUT ROWID;
CREATE TABLE revocations (id INTEGER PRIMARY KEY AUTOINCREMENT, viewer TEXT NOT NULL, at_unix_s INTEGER NOT NULL) STRICT;
CREATE TABLE nodes (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
";

/// Came with layout 3.
const SEATS: &str = "
CREATE TABLE seats (session TEXT PRIMARY KEY, viewer TEXT NOT NULL, taken_unix_s INTEGER NOT NULL,
  seen_unix_s INTEGER NOT NULL, until_unix_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX seats_of ON seats (viewer);
CREATE TABLE ended_sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL UNIQUE,
  until_unix_s INTEGER NOT NULL) STRICT;
CREATE INDEX ended_until ON ended_sessions (until_unix_s);
";

/// Came with layout 5. Streams of before count as never changed: any change is newer.
const CHANGES: &str = "
CREATE TABLE changes (stream TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO changes SELECT name, 0 FROM streams;
";

/// What layout 1 lacks.
const FROM_LAYOUT_1: &str = "ALTER TABLE gops ADD COLUMN bias_key INTEGER NOT NULL DEFAULT 0";
/// What layouts before 4 lack. Their segments count as committed when their media ended.
const BEFORE_LAYOUT_4: &str = "
ALTER TABLE segments ADD COLUMN committed_unix_ms INTEGER NOT NULL DEFAULT 0;
UPDATE segments SET committed_unix_ms =
  json_extract(record, '$.date_unix_ms') + json_extract(record, '$.duration_90k') / 90;
";

/// The connection that writes, and the one that reads.
pub(super) fn open(path: &Path) -> Result<(Connection, Connection), Error> {
    make(path).map_err(|error| Error::Store(format!("{}: {error}", path.display())))?;
    let writer = connect(path)?;
    lay_out(&writer, path)?;
    let reader = connect(path)?;
    reader.pragma_update(None, "query_only", true).map_err(store)?;
    Ok((writer, reader))
}

/// Makes the file with mode 0600; SQLite gives its `-wal` and `-shm` files the same.
fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(store)?;
    connection.busy_timeout(BUSY).map_err(store)?;
    let give_up = Instant::now() + BUSY;
    let journal = loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Err(error) if busy(&error) && Instant::now() < give_up => std::thread::sleep(JOURNAL_RETRY),
            other => break other.map_err(store)?,
        }
    };
    if journal != "wal" {
        return Err(Error::Store(
            "this file system has no shared memory for SQLite's WAL; use a local disk".to_owned(),
        ));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(store)?;
    Ok(connection)
}

fn busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

fn lay_out(connection: &Connection, path: &Path) -> Result<(), Error> {
    // Immediate: of two processes that open a new file at once, the second waits and finds it laid out.
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate);
    let transaction = transaction.map_err(store)?;
    let number = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(store);
    let (application, layout) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let empty = number("SELECT count(*) FROM sqlite_schema")? == 0;
    match (application, layout) {
        (APPLICATION, LAYOUT) => return Ok(()),
        (0, 0) if empty => transaction.execute_batch(&[TABLES, SEATS, CHANGES].concat()).map_err(store)?,
        (APPLICATION, 1) => {
            let steps = [FROM_LAYOUT_1, ";", SEATS, BEFORE_LAYOUT_4, CHANGES].concat();
            transaction.execute_batch(&steps).map_err(store)?;
        }
        (APPLICATION, 2) => {
            transaction.execute_batch(&[SEATS, BEFORE_LAYOUT_4, CHANGES].concat()).map_err(store)?;
        }
        (APPLICATION, 3) => {
            transaction.execute_batch(&[BEFORE_LAYOUT_4, CHANGES].concat()).map_err(store)?;
        }
        (APPLICATION, 4) => transaction.execute_batch(CHANGES).map_err(store)?,
        (APPLICATION, layout) => {
            return Err(Error::Store(format!(
                "{} has layout {layout}, this program knows {LAYOUT}; use the program that wrote it, or a newer one",
                path.display()
            )));
        }
        _ => return Err(Error::Store(format!("{} is a database of another program", path.display()))),
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(store)?;
    transaction.pragma_update(None, "user_version", LAYOUT).map_err(store)?;
    transaction.commit().map_err(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(path: &Path) -> String {
        open(path).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_newer_file_and_a_foreign_one_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let (writer, _) = open(&path).unwrap();
        writer.pragma_update(None, "user_version", 7).unwrap();
        assert!(refusal(&path).contains("has layout 7, this program knows 5"), "{}", refusal(&path));

        let path = folder.path().join("foreign.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE streams (mine)").unwrap();
        assert!(refusal(&path).contains("another program"));
        let path = folder.path().join("text.db");
        std::fs::write(
            &path,
            "not a database, and longer than the hundred bytes of its header would be: ".repeat(9),
        )
        .unwrap();
        assert!(refusal(&path).contains("not a database"), "{}", refusal(&path));
    }

    #[test]
    fn a_file_of_layout_1_is_taken_over_with_its_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let old = Connection::open(&path).unwrap();
        let tables = TABLES.replace("bias_key INTEGER NOT NULL DEFAULT 0, ", "");
        let tables = tables.replace("committed_unix_ms INTEGER NOT NULL DEFAULT 0, ", "");
        old.execute_batch(&tables).unwrap();
        let record = r#"{"date_unix_ms": 1000, "duration_90k": 180000}"#;
        old.execute("INSERT INTO segments VALUES ('demo', 7, '00', ?1)", [record]).unwrap();
        old.execute_batch("INSERT INTO streams VALUES ('demo', 'one', '{}')").unwrap();
        old.execute_batch("INSERT INTO gops VALUES ('demo', 7, 0, '00', 0, 'marked', 8, 1, 2)").unwrap();
        old.pragma_update(None, "application_id", APPLICATION).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        for _ in 0..2 {
            let (writer, _) = open(&path).unwrap();
            let keys = "SELECT code_key, bias_key FROM gops WHERE segment = 7";
            let row = writer.query_row(keys, [], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?)));
            assert_eq!(row, Ok((2, 0)));
            assert_eq!(writer.execute("DELETE FROM seats", []), Ok(0), "layout 3 is there too");
            let revision = writer.query_row("SELECT revision FROM changes", [], |row| row.get::<_, i64>(0));
            assert_eq!(revision, Ok(0), "layout 5: the stream is listed, and never changed");
            let commit = "SELECT committed_unix_ms FROM segments WHERE number = 7";
            let commit = writer.query_row(commit, [], |row| row.get::<_, i64>(0));
            assert_eq!(commit, Ok(3_000), "when its media ended");
        }
    }

    #[test]
    fn only_the_owner_reads_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _reader) = open(&folder.path().join("state.db")).unwrap();
        writer.execute_batch("INSERT INTO epochs VALUES ('demo', 1)").unwrap();
        let mut files = 0;
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
            files += 1;
        }
        assert_eq!(files, 3, "state.db, its -wal and its -shm");
    }

    #[test]
    fn eight_may_open_a_new_file_at_once() {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.db");
            std::thread::scope(|scope| {
                let opening: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&path).map(drop))).collect();
                opening.into_iter().for_each(|open| open.join().unwrap().unwrap());
            });
        }
    }
}
