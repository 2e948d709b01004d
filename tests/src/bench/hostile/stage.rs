//! What the attacks go against: an ingest with two live, marked streams, one of them encrypted, a relay with every way in
//! switched on, and the credentials that attackers play with.

use super::forged;
use super::line::{Doors, trust};
use crate::cluster::program;
use crate::{Cluster, Publisher, certificate, feed, http, wait_for};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The streams: the name of one begins like that of the other. The second is encrypted.
pub(super) const STREAMS: [&str; 2] = ["a", "ab"];
/// Where the CDN would be.
pub(super) const CDN: &str = "https://cdn.example";
/// The length of the window, and what programs take to start.
const LIVE: Duration = Duration::from_secs(40);
/// How long a token's or session's short life is, in seconds.
const SHORT_S: u64 = 2;

/// What somebody has for a stream.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// The token they came in with.
    pub(super) token: String,
    /// The session it led to.
    pub(super) session: String,
}

/// The passes for one stream.
#[derive(Clone, Debug)]
pub(super) struct Passes {
    /// The attacker's own, good.
    pub(super) own: Pass,
    /// Another viewer's, good.
    pub(super) victim: Pass,
    /// Those whose time is over.
    pub(super) expired: Pass,
    /// Those of a viewer who is revoked.
    pub(super) revoked: Pass,
}

/// What attackers have in their hands.
pub(super) struct Cast {
    /// By stream.
    pub(super) passes: [Passes; 2],
    /// The keys of CDN and edge: a bearer each.
    pub(super) cdn: String,
    pub(super) edge: String,
    /// The shared secret of the key set.
    pub(super) secret: [u8; 32],
    /// Where tokens say that keys are.
    pub(super) decoy: String,
}

/// Everything that runs.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) cast: Arc<Cast>,
    pub(super) doors: Doors,
    /// Nobody is to come here.
    decoy: TcpListener,
    mint: String,
    _publishers: Vec<Publisher>,
    _files: tempfile::TempDir,
}

impl Stage {
    /// Starts it all, and waits until both streams can be watched.
    pub(super) fn start() -> Result<Stage> {
        let files = tempfile::Builder::new().prefix("releve-hostile-").tempdir()?;
        let (secret, dir) = ([0xc4; 32], files.path());
        let [listen, certificate, key] = certificate::relay_env(dir)?;
        private(&dir.join("keys.json"), forged::key_set(&secret).as_bytes())?;
        let key_set = dir.join("keys.json");
        let env = [
            (listen.0, listen.1.as_str()),
            (certificate.0, certificate.1.as_str()),
            (key.0, key.1.as_str()),
            ("RELEVE_RELAY_HTTP2", "true"),
            ("RELEVE_RELAY_JWT_KEYS", key_set.to_str().context("a path is text")?),
            ("RELEVE_RELAY_SESSION_BOUND_TO", "ip"),
            ("RELEVE_RELAY_CDN_URL", CDN),
            ("RELEVE_RELAY_CDN_OVERFLOW", "60000"),
        ];
        let cluster = Cluster::start_with(1, "", &env)?;
        let relay = &cluster.relays[0];
        let (cdn, edge) = ("c".repeat(64), "e".repeat(64));
        let keys = cluster.dir().join("keys");
        private(&keys.join("cdn.key"), format!("1 {cdn}\n").as_bytes())?;
        private(&keys.join("edge.key"), format!("1 {edge}\n").as_bytes())?;
        relay.child.signal(Signal::HUP)?;
        let doors = Doors { plain: relay.port("listen")?, tls: relay.port("tls_listen")?, trust: trust()? };

        let mut publishers = Vec::new();
        for (stream, encrypt) in STREAMS.into_iter().zip(["none", "cbcs"]) {
            let add = ["stream", "add", stream, "--mark", "require", "--encrypt", encrypt];
            let key = cluster.ctl(&add)?;
            let url = cluster.publish_url(key.trim_end())?;
            publishers.push(Publisher::looped(feed::QUARTER, &url, cluster.dir())?);
        }
        let mint = std::fs::read_to_string(keys.join("mint.key"))?;
        let mint = mint.split_whitespace().nth(1).context("a key in mint.key")?.to_owned();
        let decoy = TcpListener::bind("127.0.0.1:0")?;
        decoy.set_nonblocking(true)?;
        let minter = Minter { admin: relay.port("admin")?.to_string(), bearer: mint.clone() };
        for stream in STREAMS {
            let first = minter.enter(&doors, stream, "first", 600, None)?;
            let index = format!("http://{}/v/{}/index.m3u8", doors.plain, first.session);
            wait_for("live stream", LIVE, || http::get(&index)?.ok())?;
        }
        wait_for("edge key in force", Duration::from_secs(10), || {
            let url = format!("http://{}/edge/{}/index.m3u8", doors.plain, STREAMS[0]);
            let bearer = format!("Bearer {edge}");
            let status = http::request("GET", &url, &[("Authorization", bearer.as_str())])?.status;
            ensure!(status == 200, "status {status}");
            Ok(())
        })?;
        let until = now_unix_s() + SHORT_S;
        let passes = |stream| -> Result<Passes> {
            let pass = |viewer: &str, ttl, until| minter.enter(&doors, stream, viewer, ttl, until);
            Ok(Passes {
                own: pass("mallory", 3600, None)?,
                victim: pass("victor", 3600, None)?,
                expired: pass("earl", SHORT_S, Some(until))?,
                revoked: pass("rita", 3600, None)?,
            })
        };
        let passes = [passes(STREAMS[0])?, passes(STREAMS[1])?];
        cluster.revoke("rita")?;
        let decoy_address = decoy.local_addr()?.to_string();
        let stage = Stage {
            cluster,
            cast: Arc::new(Cast { passes, cdn, edge, secret, decoy: decoy_address }),
            doors,
            decoy,
            mint,
            _publishers: publishers,
            _files: files,
        };
        wait_for("end of what is to be over", Duration::from_secs(10), || {
            for passes in &stage.cast.passes {
                for pass in [&passes.expired, &passes.revoked] {
                    let url = format!("http://{}/v/{}/video.m3u8", stage.doors.plain, pass.session);
                    let status = http::get(&url)?.status;
                    ensure!(status == 403, "status {status}");
                }
            }
            Ok(())
        })?;
        Ok(stage)
    }

    /// Makes tokens.
    pub(super) fn minter(&self) -> Result<Minter> {
        Ok(Minter { admin: self.cluster.relays[0].port("admin")?.to_string(), bearer: self.mint.clone() })
    }

    /// Whether somebody went where tokens said that keys are.
    pub(super) fn was_led_astray(&self) -> bool {
        self.decoy.accept().is_ok()
    }
}

/// The relay's own way to tokens.
#[derive(Clone)]
pub(super) struct Minter {
    admin: String,
    bearer: String,
}

impl Minter {
    pub(super) fn token(&self, stream: &str, viewer: &str, ttl: u64, until: Option<u64>) -> Result<String> {
        let mut wish = json!({"stream": stream, "viewer": viewer, "ttl_s": ttl});
        if let Some(until) = until {
            wish["watch_until"] = json!(until);
        }
        let authorization = format!("Bearer {}", self.bearer);
        let url = format!("http://{}/api/v1/tokens", self.admin);
        let answer =
            http::post(&url, &[("Authorization", authorization.as_str())], wish.to_string().as_bytes())?;
        ensure!(answer.status == 201, "status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        let said: Value = serde_json::from_slice(&answer.body)?;
        Ok(said["token"].as_str().context("no token")?.to_owned())
    }

    /// Has somebody come in.
    pub(super) fn enter(
        &self,
        doors: &Doors,
        stream: &str,
        viewer: &str,
        ttl: u64,
        until: Option<u64>,
    ) -> Result<Pass> {
        let token = self.token(stream, viewer, ttl, until)?;
        let answer = http::get(&entry(doors, stream, &token))?;
        ensure!(answer.status == 302, "status {} for {viewer} who comes in", answer.status);
        let session = answer.header("location").and_then(session_of).context("no session")?;
        Ok(Pass { token, session: session.to_owned() })
    }
}

/// The way in.
pub(super) fn entry(doors: &Doors, stream: &str, token: &str) -> String {
    format!("http://{}/live/{stream}/index.m3u8?token={token}", doors.plain)
}

/// The session of `/v/SESSION/…`.
pub(super) fn session_of(location: &str) -> Option<&str> {
    location.strip_prefix("/v/")?.split('/').next()
}

/// The operator's own way to end a viewer; it may take a while.
pub(super) fn revoke(dir: &Path, viewer: &str) -> Result<()> {
    let mut command = Command::new(program("relevectl")?);
    let out = command.arg("--dir").arg(dir).args(["viewer", "revoke", viewer]).output()?;
    ensure!(out.status.success(), "viewer revoke: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn private(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes)?;
    Ok(std::fs::set_permissions(file, Permissions::from_mode(0o600))?)
}

pub(super) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
