//! The two threads behind a state file: one commits, one reads.
//!
//! In: calls, boxed work on a connection. Out: each caller's answer. The committing thread takes all calls that wait, runs
//! each in a savepoint of one transaction, commits, and only then answers: many callers share one sync, and a failed call
//! undoes nothing of its neighbours. The reading thread sees what is committed and never waits for a sync. Touches the
//! connections it is given.

use super::rows::store;
use crate::coordinator::Error;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait; a full queue makes callers wait.
const QUEUE: usize = 1024;
/// Calls in one transaction: bounds how long other processes that write are kept waiting.
const BATCH: usize = 256;

/// Work on the connection, or, where there is no transaction to do it in, why not. Gives whether its changes stay.
type Call = Box<dyn FnOnce(Result<&Connection, Error>) -> (bool, Answer) + Send>;
/// Answers the caller once the transaction has ended: with the call's own result, or with why the commit failed.
type Answer = Box<dyn FnOnce(Option<Error>) + Send>;

/// The way to a thread; it ends when every clone is gone and its queue is empty.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    calls: mpsc::Sender<Call>,
}

impl Thread {
    /// A thread that commits what is called.
    pub(super) fn committing(connection: Connection) -> Result<Thread, Error> {
        Thread::start("state-commit", move |waiting| commit_all(&connection, waiting))
    }

    /// A thread whose calls only read.
    pub(super) fn reading(connection: Connection) -> Result<Thread, Error> {
        Thread::start("state-read", move |mut waiting| {
            while let Some(call) = waiting.blocking_recv() {
                call(Ok(&connection)).1(None);
            }
        })
    }

    fn start(name: &str, serve: impl FnOnce(mpsc::Receiver<Call>) + Send + 'static) -> Result<Thread, Error> {
        let (calls, waiting) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || serve(waiting)).map_err(|error| Error::Store(format!("no thread: {error}")))?;
        Ok(Thread { calls })
    }

    /// Has work done and waits for its answer. If the caller goes away, the work may be done all the same.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = || Error::Store("its thread has ended".to_owned());
        let (sender, receiver) = oneshot::channel();
        let call: Call = Box::new(move |connection| {
            let result = connection.and_then(work);
            let stays = result.is_ok();
            let answer: Answer = Box::new(move |failed| {
                let answer = match (result, failed) {
                    // A call that failed in the store itself knows the reason best.
                    (Err(Error::Store(why)), _) => Err(Error::Store(why)),
                    (_, Some(error)) => Err(error),
                    (result, None) => result,
                };
                // A caller that went away needs no answer.
                let _ = sender.send(answer);
            });
            (stays, answer)
        });
        self.calls.send(call).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?
    }
}

fn commit_all(connection: &Connection, mut waiting: mpsc::Receiver<Call>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut transaction = run(connection, "BEGIN IMMEDIATE");
        let answers: Vec<Answer> =
            batch.drain(..).map(|call| in_savepoint(connection, &mut transaction, call)).collect();
        let failed = transaction.and_then(|()| run(connection, "COMMIT")).err();
        if !connection.is_autocommit() {
            // Nothing of it was answered yet; if even this fails, the next BEGIN says so.
            let _ = run(connection, "ROLLBACK");
        }
        answers.into_iter().for_each(|answer| answer(failed.clone()));
    }
}

/// Runs one call. Once the transaction is lost (SQLite undoes it by itself when the disk is full) nothing more runs in it.
fn in_savepoint(connection: &Connection, transaction: &mut Result<(), Error>, call: Call) -> Answer {
    if transaction.is_ok() {
        *transaction = run(connection, "SAVEPOINT call");
    }
    if let Err(error) = transaction {
        return call(Err(error.clone())).1;
    }
    let (stays, answer) = call(Ok(connection));
    *transaction = match (connection.is_autocommit(), stays) {
        (true, _) => Err(Error::Store("the write failed together with others".to_owned())),
        (false, true) => run(connection, "RELEASE call"),
        (false, false) => run(connection, "ROLLBACK TO call; RELEASE call"),
    };
    answer
}

fn run(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.execute_batch(sql).map_err(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::rows::{count, execute, integer};

    fn counting() -> (tempfile::TempDir, Thread) {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER)").unwrap();
        (folder, Thread::committing(connection).unwrap())
    }

    #[tokio::test]
    async fn a_call_that_fails_leaves_nothing_of_what_it_did() {
        let (_folder, thread) = counting();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..50 {
            let thread = thread.clone();
            calls.spawn(async move {
                let insert = move |db: &Connection| {
                    execute(db, "INSERT INTO t VALUES (?1)", [integer(number)])?;
                    if number % 2 == 0 { Err(Error::Stale(number)) } else { Ok(()) }
                };
                thread.call(insert).await == if number % 2 == 0 { Err(Error::Stale(number)) } else { Ok(()) }
            });
        }
        assert!(calls.join_all().await.iter().all(|own| *own), "each gets its own answer");
        assert_eq!(thread.call(|db| count(db, "SELECT sum(n) FROM t", [])).await, Ok(25 * 25));
    }

    /// Eleven calls in one batch, one of them ending the transaction as a full disk does: none may say it was done, and
    /// the next batch goes on as ever.
    #[tokio::test]
    async fn a_lost_transaction_fails_all_of_its_calls_and_only_those() {
        let (_folder, thread) = counting();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (entered, inside) = oneshot::channel();
        let first = thread.clone();
        let first = tokio::spawn(async move {
            let wait = move |_: &Connection| {
                entered.send(()).unwrap();
                released.recv().map_err(|error| Error::Store(error.to_string()))
            };
            first.call(wait).await
        });
        // The thread is inside the first call's batch while the others gather in the queue.
        inside.await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..11 {
            let thread = thread.clone();
            calls.spawn(async move {
                let insert = move |db: &Connection| match number {
                    5 => execute(db, "ROLLBACK", []).and(Err(Error::Store("disk full".to_owned()))),
                    _ => execute(db, "INSERT INTO t VALUES (?1)", [number]),
                };
                thread.call(insert).await
            });
        }
        while thread.calls.capacity() > QUEUE - 11 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Store(_)))), "{answers:?}");
        assert!(answers.contains(&Err(Error::Store("disk full".to_owned()))));
        thread.call(|db| execute(db, "INSERT INTO t VALUES (100)", [])).await.unwrap();
        assert_eq!(thread.call(|db| count(db, "SELECT sum(n) FROM t", [])).await, Ok(100));
    }
}
