//! Blobs in a folder: one file a blob, written beside its name and renamed, so that it is there whole or not at all.
//!
//! In: names that `is_blob_name` lets pass, and bytes. Out: the same. Touches its folder only.

use crate::blobs::{Blobs, is_blob_name};
use crate::coordinator::Error;
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::spawn_blocking;

/// Ends the names of files that are being written; no blob name may end so, because it holds a capital letter.
const UNFINISHED: &str = ".Unfinished";

/// A folder of blobs.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    next: AtomicU64,
}

impl Local {
    /// Opens a folder, making it where it is missing; what a crash left unfinished is removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Local, Error> {
        let root = root.into();
        fs::create_dir_all(&root).and_then(|()| sweep(&root)).map_err(|error| at(&root, &error))?;
        Ok(Local { root, next: AtomicU64::new(0) })
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        match is_blob_name(name) {
            true => Ok(self.root.join(name)),
            false => Err(Error::Conflict(format!("`{}` is no blob name", name.escape_default()))),
        }
    }
}

#[async_trait]
impl Blobs for Local {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(name)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = name.to_owned();
        blocking(move || {
            match fs::read(&path) {
                Ok(there) if there == bytes => return Ok(()),
                Ok(_) => return Err(Error::Conflict(format!("blob {name} exists with other bytes"))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(&path, &error)),
            }
            write_whole(&path, &bytes, number).map_err(|error| at(&path, &error))
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let path = self.path(name)?;
        blocking(move || match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path, &error)),
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        blocking(move || {
            let mut names = Vec::new();
            walk(&root, &mut |path| {
                let name = path.strip_prefix(&root).ok().and_then(|path| path.to_str());
                names.extend(name.filter(|name| name.starts_with(&prefix) && is_blob_name(name)).map(str::to_owned));
                Ok(())
            })
            .map_err(|error| at(&root, &error))?;
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, &error)),
            _ => Ok(()),
        })
        .await
    }
}

/// A process may be killed between any two of these steps: the name appears with the rename, whole and synced.
fn write_whole(path: &Path, bytes: &[u8], number: u64) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{}-{number}{UNFINISHED}", std::process::id()));
    let mut file = File::create_new(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

fn sweep(root: &Path) -> io::Result<()> {
    walk(root, &mut |path| {
        if path.to_str().is_some_and(|path| path.ends_with(UNFINISHED)) { fs::remove_file(path) } else { Ok(()) }
    })
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), visit)?,
            false => visit(&entry.path())?,
        }
    }
    Ok(())
}

fn at(path: &Path, error: &io::Error) -> Error {
    Error::Store(format!("{}: {error}", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Store(error.to_string())))
}
