//! The yardstick for relays: Debian's nginx with the same live stream as plain files, on loopback in a folder of its own.
//!
//! In: a viewer's playlist. Out: nginx, and a thread that writes what the playlist names beside it, as it comes.

use super::load::Habit;
use crate::child::Child;
use crate::http;
use anyhow::{Context, Result, ensure};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the playlist is looked at: a sixth of a part's length.
const POLL: Duration = Duration::from_millis(50);
/// Segments or parts that are written before anybody is served.
const AHEAD: usize = 3;

/// nginx with a worker a core, as its authors advise for many viewers of few files.
pub struct Files {
    /// The master; its workers are its children.
    pub child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    copying: Option<JoinHandle<Result<()>>>,
    _folder: tempfile::TempDir,
}

impl Files {
    /// Starts it with the stream whose video playlist this is, for viewers of this habit. What it has is `video.m3u8`,
    /// whatever the query.
    ///
    /// # Errors
    /// When nginx is not installed or does not listen, or the stream does not come.
    pub fn start(playlist: &str, habit: Habit) -> Result<Files> {
        let folder = tempfile::Builder::new().prefix("releve-files-").tempdir()?;
        let dir = folder.path();
        std::fs::create_dir_all(dir.join("root/video"))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        // Its cache of open files looks again after a second at the earliest: a part's playlist would be an old one.
        let fresh = match habit {
            Habit::Parts => "location = /video.m3u8 { open_file_cache off; }",
            Habit::Paced | Habit::Reload => "",
        };
        let config = format!(
            "{user}\nworker_processes auto;\nworker_rlimit_nofile {files};\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
             events {{ worker_connections {connections}; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000000;\n\
             open_file_cache max=1000 inactive=20s; open_file_cache_valid 1s;\n\
             types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}\n\
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen {address} reuseport backlog=4096; root {dir}/root; {fresh} }} }}\n",
            dir = dir.display(),
            files = super::load::raise_descriptor_limit(),
            connections = super::load::raise_descriptor_limit().saturating_sub(100),
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).arg("-p").arg(dir).arg("-c").arg(&file);
        let mut child = Child::start("nginx", &mut command, &dir.join("nginx.log"))?;
        crate::wait_for("nginx", Duration::from_secs(10), || {
            child.check_alive()?;
            TcpStream::connect(address).map(drop).context("not yet")
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (root, playlist, stopping) = (dir.join("root"), playlist.to_owned(), stop.clone());
        let copying = std::thread::spawn(move || copy(&playlist, habit, &root, &stopping));
        let files = Files { child, address, stop, copying: Some(copying), _folder: folder };
        crate::wait_for("copy of the stream", Duration::from_secs(20), || {
            ensure!(http::get(&format!("http://{address}/video.m3u8"))?.status == 200);
            Ok(())
        })?;
        Ok(files)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end, or the stream could not be copied to the end.
    pub fn stop(mut self) -> Result<()> {
        self.end_copy()?;
        self.child.stop().map(drop)
    }

    fn end_copy(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let Some(copying) = self.copying.take() else { return Ok(()) };
        copying.join().map_err(|_| anyhow::anyhow!("the copying thread has panicked"))?
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.end_copy(); // a benchmark that fails says why elsewhere
    }
}

/// What viewers of this habit take of what a playlist names.
fn named(playlist: &str, habit: Habit) -> Vec<&str> {
    let parts = playlist.lines().filter_map(|line| line.strip_prefix("#EXT-X-PART:")?.split('"').nth(1));
    match habit {
        Habit::Parts => parts.collect(),
        Habit::Paced | Habit::Reload => playlist.lines().filter(|line| line.ends_with(".m4s")).collect(),
    }
}

/// Writes segments, then the playlist that names them, so that nobody finds a name without its file.
fn copy(playlist: &str, habit: Habit, root: &Path, stop: &AtomicBool) -> Result<()> {
    let mut before = String::new();
    while !stop.load(Ordering::Acquire) {
        let text = http::get(playlist)?.ok()?.text()?.to_owned();
        if text != before {
            let names = named(&text, habit);
            for name in names.iter().rev().take(if before.is_empty() { AHEAD } else { names.len() }) {
                let file = root.join(name);
                if !file.exists() {
                    std::fs::write(file, http::get(&http::join(playlist, name)?)?.ok()?.body)?;
                }
            }
            let beside = root.join("video.m3u8.part");
            std::fs::write(&beside, &text)?;
            std::fs::rename(beside, root.join("video.m3u8"))?;
            before = text;
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
