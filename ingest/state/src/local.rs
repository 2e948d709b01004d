//! Blobs in a folder: one file a blob, written under another name first, so that it is there whole or not at all.
//!
//! In: names that `is_blob_name` lets pass, and bytes. Out: the same. Touches its folder only, which several processes may
//! share. The folder is flat: the `/` of a name is written `+`, which no name holds, so that `a` and `a/b` can both be there
//! as in an object store.

use crate::blobs::{Blobs, check_blob_name, is_blob_name};
use crate::coordinator::Error;
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::spawn_blocking;

/// Begins the names of files that are being written; no blob name begins with a dot.
const UNFINISHED: &str = ".unfinished-";
/// How often a write is begun: again only when another process stores or sweeps the same name at that very moment.
const TRIES: usize = 8;
/// Numbers the files that this process writes.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// A folder of blobs.
#[derive(Clone, Debug)]
pub struct Local {
    root: PathBuf,
    /// Free bytes that `append` leaves on the disk.
    reserve: u64,
}

impl Local {
    /// Opens a folder, making it where it is missing; what a crash left unfinished is removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Local, Error> {
        let root = root.into();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.and_then(|()| sweep(&root)).map_err(|error| at(&root, &error))?;
        Ok(Local { root, reserve: 0 })
    }

    /// The same folder, whose growing blobs leave so many bytes free on the disk: what shares the disk needs them more.
    pub fn leaving_free(self, reserve: u64) -> Local {
        Local { reserve, ..self }
    }

    /// The blob's file; `None` for what is no blob name, which never becomes part of a path.
    fn path(&self, name: &str) -> Option<PathBuf> {
        is_blob_name(name).then(|| self.root.join(name.replace('/', "+")))
    }
}

#[async_trait]
impl Blobs for Local {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let Some(path) = self.path(name) else { return check_blob_name(name) };
        let (root, name) = (self.root.clone(), name.to_owned());
        blocking(move || {
            for _ in 0..TRIES {
                match read(&path)? {
                    Some(there) if there == bytes => return sync(&root).map_err(|error| at(&root, &error)),
                    Some(_) => return Err(Error::Conflict(format!("blob {name} exists with other bytes"))),
                    None if store(&root, &path, &bytes).map_err(|error| at(&path, &error))? => return Ok(()),
                    None => {}
                }
            }
            Err(Error::Store(format!("{}: others store and delete it all the time", path.display())))
        })
        .await
    }

    async fn append(&self, name: &str, at_byte: u64, bytes: Bytes) -> Result<(), Error> {
        let Some(path) = self.path(name) else { return check_blob_name(name) };
        let (root, name, reserve) = (self.root.clone(), name.to_owned(), self.reserve);
        blocking(move || {
            let disk = rustix::fs::statvfs(&root).map_err(|error| at(&root, &error.into()))?;
            if disk.f_bavail.saturating_mul(disk.f_frsize) < reserve.saturating_add(bytes.len() as u64) {
                return Err(Error::Store(format!(
                    "{}: less than {reserve} bytes would stay free",
                    root.display()
                )));
            }
            extend(&root, &path, at_byte, &bytes)
                .map_err(|error| at(&path, &error))?
                .then_some(())
                .ok_or_else(|| Error::Conflict(format!("blob {name} is shorter than {at_byte} bytes")))
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let Some(path) = self.path(name) else { return Ok(None) };
        blocking(move || Ok(read(&path)?.map(Bytes::from))).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        blocking(move || {
            let entries = fs::read_dir(&root).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let entries = entries.map_err(|error| at(&root, &error))?;
            let names =
                entries.iter().filter_map(|entry| Some(entry.file_name().to_str()?.replace('+', "/")));
            let mut names: Vec<_> =
                names.filter(|name| name.starts_with(&prefix) && is_blob_name(name)).collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(path) = self.path(name) else { return Ok(()) };
        let root = self.root.clone();
        blocking(move || match fs::remove_file(&path).and_then(|()| sync(&root)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&path, &error)),
            _ => Ok(()),
        })
        .await
    }
}

/// Writes a blob that is not there. `false`: another process was faster, or swept the file between its making and its lock.
///
/// A process may be killed between any two steps: the name appears with the link, whole and synced. A link, not a rename:
/// it never replaces what somebody else has just stored.
fn store(root: &Path, path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let unfinished = root.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
    let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        other => other?,
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    let linked = (&file)
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&unfinished, path));
    // Whatever happened, the unfinished name is of no use any more; what cannot be removed is swept later.
    let _ = fs::remove_file(&unfinished);
    match linked {
        Ok(()) => sync(root).map(|()| true),
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes behind the first `at_byte` bytes of a file and cuts it there before; `false` if it is shorter.
fn extend(root: &Path, path: &Path, at_byte: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(at_byte == 0).truncate(false).mode(0o600).open(path);
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let len = file.metadata()?.len();
    if len < at_byte {
        return Ok(false);
    }
    if len > at_byte {
        file.set_len(at_byte)?;
    }
    file.seek(SeekFrom::Start(at_byte))?;
    file.write_all(bytes)?;
    file.sync_data()?;
    if at_byte == 0 {
        sync(root)?;
    }
    Ok(true)
}

/// Removes unfinished files that nobody holds locked: their writers are dead.
fn sweep(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
            continue;
        }
        let swept = File::open(entry.path()).and_then(|file| match file.try_lock() {
            Ok(()) => fs::remove_file(entry.path()),
            Err(_) => Ok(()),
        });
        match swept {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, &error)),
    }
}

/// Makes the folder's names durable.
fn sync(root: &Path) -> io::Result<()> {
    File::open(root)?.sync_all()
}

fn at(path: &Path, error: &io::Error) -> Error {
    Error::Store(format!("{}: {error}", path.display()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Store(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_crash_left_is_ignored_and_then_swept_but_a_live_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Local::open(folder.path()).unwrap();
        blobs.put("init/a", Bytes::from_static(b"whole")).await.unwrap();
        let (torn, live) = (folder.path().join(".unfinished-1-0"), folder.path().join(".unfinished-1-1"));
        fs::write(&torn, b"wh").unwrap();
        let writing = File::create_new(&live).unwrap();
        writing.try_lock().unwrap();
        assert_eq!(blobs.list("").await, Ok(vec!["init/a".to_owned()]));

        let blobs = Local::open(folder.path()).unwrap();
        assert!(!torn.exists() && live.exists());
        assert_eq!(blobs.get("init/a").await, Ok(Some(Bytes::from_static(b"whole"))));
        drop(writing);
        Local::open(folder.path()).unwrap();
        assert!(!live.exists());
    }

    #[tokio::test]
    async fn a_growing_blob_leaves_room_on_the_disk_and_what_stood_behind_its_end_goes() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Local::open(folder.path()).unwrap();
        blobs.append("log", 0, Bytes::from_static(b"whole")).await.unwrap();
        let torn = OpenOptions::new().append(true).open(folder.path().join("log"));
        torn.unwrap().write_all(b" half a rec").unwrap();
        blobs.append("log", 5, Bytes::from_static(b", too")).await.unwrap();
        let full = blobs.clone().leaving_free(u64::MAX).append("log", 10, Bytes::from_static(b"!")).await;
        assert!(matches!(full, Err(Error::Store(why)) if why.contains("would stay free")));
        assert_eq!(blobs.get("log").await, Ok(Some(Bytes::from_static(b"whole, too"))));
    }

    #[tokio::test]
    async fn no_text_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), b"s").unwrap();
        let blobs = Local::open(folder.path().join("blobs")).unwrap();
        for name in
            ["../secret", "..", "a/../../secret", "/etc/passwd", ".unfinished-1-0", "..+secret", "a+b", ""]
        {
            assert_eq!(blobs.get(name).await, Ok(None), "{name}");
            assert!(matches!(blobs.put(name, Bytes::new()).await, Err(Error::Conflict(_))), "{name}");
            assert_eq!(blobs.delete(name).await, Ok(()), "{name}");
        }
        assert!(folder.path().join("secret").exists());
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
    }
}
