//! The yardstick for relays: Debian's nginx with the same live stream as plain files, on loopback in a folder of its own.
//!
//! In: a viewer's playlist. Out: nginx, and a thread that writes what the playlist names beside it, as it comes. It checks
//! nothing, or every request's signature, as operators without a relay do (`secure_link`); through TLS it checks nothing.

use super::load::Habit;
use crate::certificate::{certificate, key};
use crate::child::Child;
use crate::http;
use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the playlist is looked at: a sixth of a part's length.
const POLL: Duration = Duration::from_millis(50);
/// Segments or parts that are written before anybody is served.
const AHEAD: usize = 3;

/// What nginx signs with.
const SECRET: &str = "not a secret: a benchmark's";
/// The end of what it signs, in Unix seconds: long after the run.
const EXPIRES: &str = "4102444800";

/// What nginx looks at before it gives a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Nothing,
    /// The signature that each path begins with.
    Signature,
    /// Nothing; it seals what it gives.
    Tls,
}

/// nginx with a worker a core, as its authors advise for many viewers of few files.
pub struct Files {
    /// The master; its workers are its children.
    pub child: Child,
    /// Where it serves its viewers.
    pub address: SocketAddr,
    /// Below which paths: one an account.
    pub below: Vec<String>,
    stop: Arc<AtomicBool>,
    copying: Option<JoinHandle<Result<()>>>,
    _folder: tempfile::TempDir,
}

impl Files {
    /// Starts it with the stream whose video playlist this is, for viewers of this habit, of so many accounts where it can
    /// tell them apart. What it has is `video.m3u8`, whatever the query.
    ///
    /// # Errors
    /// When nginx is not installed or does not listen, or the stream does not come.
    pub fn start(playlist: &str, habit: Habit, check: Check, accounts: usize) -> Result<Files> {
        let folder = tempfile::Builder::new().prefix("releve-files-").tempdir()?;
        let dir = folder.path();
        std::fs::create_dir_all(dir.join("root/video"))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        // Its cache of open files looks again after a second at the earliest: a part's playlist would be an old one.
        let fresh = match habit {
            Habit::Parts => "location = /video.m3u8 { open_file_cache off; }",
            Habit::Paced | Habit::Reload | Habit::Idle | Habit::Playlists | Habit::Segments => "",
        };
        let (serves, below) = match check {
            Check::Nothing | Check::Tls => {
                (format!("root {}/root; {fresh}", dir.display()), vec!["/".to_owned()])
            }
            Check::Signature => {
                let below = (0..accounts).map(|account| signed(&format!("account-{account}")));
                (guarded(&dir.join("root")), below.collect::<Result<_>>()?)
            }
        };
        let secure = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let tls = if check == Check::Tls {
            format!(
                "listen {secure} ssl reuseport backlog=4096; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
                certificate().display(),
                key().display()
            )
        } else {
            String::new()
        };
        let config = format!(
            "{user}\nworker_processes auto;\nworker_rlimit_nofile {files};\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
             events {{ worker_connections {connections}; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000000;\n\
             open_file_cache max=1000 inactive=20s; open_file_cache_valid 1s;\n\
             types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}\n\
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen {address} reuseport backlog=4096; {tls} {serves} }} }}\n",
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
        let serves = if check == Check::Tls { secure } else { address };
        let files = Files { child, address: serves, below, stop, copying: Some(copying), _folder: folder };
        let status = |below: &str| -> Result<u16> {
            Ok(http::get(&format!("http://{address}{below}video.m3u8"))?.status)
        };
        crate::wait_for("copy of the stream", Duration::from_secs(20), || {
            ensure!(status(&files.below[0])? == 200);
            Ok(())
        })?;
        if check == Check::Signature {
            let other = files.below[0].replacen("account-0", "account-1", 1);
            ensure!(
                status(&other)? == 403 && status("/")? == 404,
                "nginx gives files without a good signature"
            );
        }
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

/// A server's lines that give what lies in a folder below good signatures: of the time it ends and whose it is.
fn guarded(root: &Path) -> String {
    format!(
        "location ~ \"^/s/(?<sum>[^/]+)/(?<until>[0-9]+)/(?<who>[^/]+)/(?<file>.+)$\" {{ \
         secure_link $sum,$until; secure_link_md5 \"$secure_link_expires $who {SECRET}\"; \
         if ($secure_link != \"1\") {{ return 403; }} alias {root}/$file; }} location / {{ return 404; }}",
        root = root.display()
    )
}

/// The path that nginx lets this account in below.
fn signed(account: &str) -> Result<String> {
    let mut md5 =
        Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("md5sum")?;
    let text = format!("{EXPIRES} {account} {SECRET}");
    md5.stdin.take().context("its input is a pipe")?.write_all(text.as_bytes())?;
    let out = md5.wait_with_output()?;
    ensure!(out.status.success(), "md5sum: {}", out.status);
    let hex = String::from_utf8(out.stdout)?;
    let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2).unwrap_or("-"), 16);
    let sum: Vec<u8> = (0..16).map(byte).collect::<Result<_, _>>()?;
    Ok(format!("/s/{}/{EXPIRES}/{account}/", BASE64_URL_SAFE_NO_PAD.encode(sum)))
}

/// What viewers of this habit take of what a playlist names.
fn named(playlist: &str, habit: Habit) -> Vec<&str> {
    let parts = playlist.lines().filter_map(|line| line.strip_prefix("#EXT-X-PART:")?.split('"').nth(1));
    match habit {
        Habit::Parts => parts.collect(),
        Habit::Paced | Habit::Reload | Habit::Idle | Habit::Playlists | Habit::Segments => {
            playlist.lines().filter(|line| line.ends_with(".m4s")).collect()
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As `echo -n "4102444800 account-0 not a secret: a benchmark's" | openssl md5 -binary | base64` has it, by nginx's rules.
    #[test]
    fn a_path_is_signed_as_nginx_reads_it() {
        assert_eq!(signed("account-0").unwrap(), "/s/kM9QBQ0gGJCXxZsnLEJTeQ/4102444800/account-0/");
    }
}
