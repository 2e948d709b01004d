//! The yardstick: Debian's nginx with its RTMP module, RTMP to HLS with fragments of 2 s, on loopback in a folder of its own.

use crate::child::Child;
use anyhow::{Context, Result, ensure};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where Debian keeps modules.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// A running nginx.
pub struct Nginx {
    /// The master; its worker is its child.
    pub child: Child,
    /// Where it takes publishers.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it with one worker.
    ///
    /// # Errors
    /// When nginx or its module is not installed, or it does not listen.
    pub fn start() -> Result<Nginx> {
        ensure!(
            Path::new(MODULE).is_file(),
            "nginx-rtmp is not installed; scripts/setup.sh bench installs it"
        );
        let folder = tempfile::Builder::new().prefix("releve-nginx-").tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let dir = folder.path();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "load_module {MODULE};\n{user}\nworker_processes 1;\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             rtmp {{ server {{ listen {address}; chunk_size 4096; access_log off;\n\
             application live {{ live on; hls on; hls_path {dir}/hls; hls_fragment 2s; hls_playlist_length 20s; }} }} }}\n",
            dir = dir.display(),
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
        Ok(Nginx { child, address, folder })
    }

    /// How many streams have a playlist with a fragment in it.
    pub fn playlists(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path().join("hls")).into_iter().flatten().flatten();
        let playlists = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "m3u8"));
        playlists
            .filter(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("#EXTINF")))
            .count()
    }

    /// Ends it as its operator would, so that its worker ends too.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<()> {
        self.child.stop().map(drop)
    }
}
