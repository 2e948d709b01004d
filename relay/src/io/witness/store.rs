//! What a witness has granted, on the disk, in one write.
//!
//! In: a record. Out: the record durable when `keep` returns; after a restart the newest that was. Everybody who lost a peer
//! waits for this write, so it is one: the file has two places a page apart, of which the older is overwritten and synced, and
//! nothing grows or is renamed. A write that tears leaves the other place, and was not answered yet. Touches one file.
//!
//! ```text
//! serial N                            a place; the file STATE.witness-ID beside the state database has two
//! highest EPOCH
//! lock EPOCH NODE INCARNATION
//! before EPOCH NODE INCARNATION
//! sha256 HEX                          of the lines above; then line ends up to a page
//! ```

use super::WitnessError;
use failover::vote::Lock;
use failover::witness::Record;
use ring::digest::{SHA256, digest};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a place: a page, so that writing one touches no block of the other.
const PLACE: usize = 4096;

/// The file, open.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    /// Of the newest durable record; its parity names the place.
    serial: u64,
}

impl Store {
    /// Opens the file, or makes it, and gives what is durable; none the very first time.
    pub(super) fn open(path: &Path) -> Result<(Store, Record), WitnessError> {
        let wrong = |why: String| WitnessError::Record { path: path.to_owned(), why };
        let failed = |error: io::Error| wrong(error.to_string());
        let (serial, record) = match fs::read(path) {
            Ok(bytes) => newest(&bytes).ok_or_else(|| wrong("this is no witness's record".to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, Record::default()),
            Err(error) => return Err(failed(error)),
        };
        let file = begin(path, serial, &record).map_err(failed)?;
        Ok((Store { file, serial: serial + 1 }, record))
    }

    /// Keeps a record; durable when this returns. After an error the next one takes the same place: the other is the newest
    /// that was answered.
    pub(super) fn keep(&mut self, record: &Record) -> io::Result<()> {
        let serial = self.serial + 1;
        self.file.write_all_at(&place(serial, record), offset(serial))?;
        self.file.sync_data()?;
        self.serial = serial;
        Ok(())
    }
}

#[cfg(test)]
impl Store {
    /// Writes into another file from here on; gives the one before.
    pub(super) fn exchange(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}

fn offset(serial: u64) -> u64 {
    (serial % 2) * PLACE as u64
}

/// The whole file with both places, whole or not at all under its name.
fn begin(path: &Path, serial: u64, record: &Record) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut bytes = vec![0; 2 * PLACE];
    for serial in [serial, serial + 1] {
        let at = offset(serial) as usize;
        bytes[at..at + PLACE].copy_from_slice(&place(serial, record));
    }
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    OpenOptions::new().write(true).open(path)
}

fn place(serial: u64, record: &Record) -> Vec<u8> {
    let words = |lock: &Lock| format!("{} {} {}", lock.epoch, lock.node, lock.incarnation);
    let (lock, before) = (words(&record.lock), words(&record.before));
    let text = format!("serial {serial}\nhighest {}\nlock {lock}\nbefore {before}\n", record.highest);
    let mut bytes = format!("{text}sha256 {}\n", hex(&text)).into_bytes();
    bytes.resize(PLACE, b'\n');
    bytes
}

fn hex(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The newest whole place of a file, or its only record in the form of one record a file.
fn newest(bytes: &[u8]) -> Option<(u64, Record)> {
    let places = bytes.chunks(PLACE).filter_map(|place| {
        let (text, rest) = std::str::from_utf8(place).ok()?.split_once("sha256 ")?;
        let (serial, record) = text.strip_prefix("serial ")?.split_once('\n')?;
        (rest.trim_end() == hex(text)).then_some(())?;
        Some((serial.parse().ok()?, parse(record)?))
    });
    let alone = || std::str::from_utf8(bytes).ok().and_then(parse).map(|record| (0, record));
    places.max_by_key(|(serial, _)| *serial).or_else(alone)
}

fn parse(text: &str) -> Option<Record> {
    let mut lines = text.lines();
    let highest = lines.next()?.strip_prefix("highest ")?.parse().ok()?;
    let mut lock = |name: &str| {
        let mut words = lines.next()?.strip_prefix(name)?.split(' ');
        let lock = Lock {
            epoch: words.next()?.parse().ok()?,
            node: words.next()?.parse().ok()?,
            incarnation: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(lock)
    };
    let (lock, before) = (lock("lock ")?, lock("before ")?);
    (text.ends_with('\n') && lines.next().is_none()).then_some(Record { highest, lock, before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64) -> Record {
        let lock = |epoch| Lock { epoch, node: 2, incarnation: 1_763_000_000 };
        Record { highest: epoch + 1, lock: lock(epoch), before: lock(epoch - 1) }
    }

    #[test]
    fn the_newest_record_comes_back_and_a_torn_one_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let (mut store, first) = Store::open(&path).unwrap();
        assert_eq!(first, Record::default());
        for epoch in 1..6 {
            store.keep(&record(epoch)).unwrap();
            assert_eq!(Store::open(&path).unwrap().1, record(epoch));
            // `open` has made another file: go on in that one.
            store = Store::open(&path).unwrap().0;
        }
        store.keep(&record(6)).unwrap();
        store.keep(&record(7)).unwrap();
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * PLACE);
        let at = offset(store.serial) as usize;
        for torn in 0..200 {
            let mut bytes = whole.clone();
            bytes[at + torn] ^= 1;
            let (_, found) = newest(&bytes).unwrap();
            // Behind the record's own lines nothing is read but line ends.
            assert!(found == record(6) || (found == record(7) && whole[at + torn] == b'\n'), "at {torn}");
            // Half of an older text over half of a newer one.
            bytes = whole.clone();
            bytes.copy_within(PLACE - at..PLACE - at + torn.max(1), at);
            assert!(newest(&bytes).is_some_and(|(_, found)| found == record(6) || found == record(7)));
        }
    }

    #[test]
    fn a_place_that_failed_is_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let (mut store, _) = Store::open(&path).unwrap();
        store.keep(&record(3)).unwrap();
        let writable = store.exchange(File::open(&path).unwrap());
        store.keep(&record(4)).unwrap_err();
        store.exchange(writable);
        store.keep(&record(5)).unwrap();
        let bytes = fs::read(&path).unwrap();
        let other = PLACE - offset(store.serial) as usize;
        assert_eq!(newest(&bytes).unwrap().1, record(5));
        assert_eq!(newest(&bytes[other..other + PLACE]).unwrap().1, record(3));
    }

    #[test]
    fn the_record_of_an_earlier_version_is_read_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        fs::write(&path, "highest 12\nlock 11 2 7\nbefore 9 1 6\n").unwrap();
        let lock = |epoch, node, incarnation| Lock { epoch, node, incarnation };
        let old = Record { highest: 12, lock: lock(11, 2, 7), before: lock(9, 1, 6) };
        assert_eq!(Store::open(&path).unwrap().1, old);
        assert_eq!(Store::open(&path).unwrap().1, old);
        fs::write(&path, "highest x\n").unwrap();
        assert!(Store::open(&path).unwrap_err().to_string().contains("witness_id"));
    }
}
