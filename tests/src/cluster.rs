//! One ingest and some relays on this machine, in a folder of their own.
//!
//! In: how many relays. Out: a running `Cluster`; its operator's commands as methods. It is stopped and its folder removed
//! when it is dropped.

use crate::child::Child;
use crate::{http, wait_for};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a node may take to listen.
const START: Duration = Duration::from_secs(20);

/// What a stream's marking is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing is published unmarked.
    Require,
    /// What cannot be marked passes.
    Prefer,
    /// Nothing is marked.
    Off,
}

/// A running node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// The program.
    pub child: Child,
    /// Where it listens, by the words of its ready file.
    pub ports: Vec<(String, SocketAddr)>,
}

impl Node {
    /// The address it listens on for that.
    ///
    /// # Errors
    /// When its ready file names none.
    pub fn port(&self, what: &str) -> Result<SocketAddr> {
        let found = self.ports.iter().find(|(name, _)| name == what);
        Ok(found.with_context(|| format!("{} has no port {what}", self.name))?.1)
    }

    /// What its `/metrics` says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(http::get(&format!("http://{}/metrics", self.port("admin")?))?.ok()?.text()?.to_owned())
    }

    /// The sum of those lines of it.
    ///
    /// # Errors
    /// As `metrics`; or a line without a figure.
    pub fn sum(&self, of: impl Fn(&str) -> bool) -> Result<f64> {
        let metrics = self.metrics()?;
        let figure = |line: &str| line.rsplit(' ').next().and_then(|figure| figure.parse::<f64>().ok());
        let figures = metrics.lines().filter(|line| of(line)).map(|line| figure(line).context("a figure"));
        figures.sum::<Result<f64>>().map(|sum| sum + 0.0) // of no line it is -0
    }
}

/// Everything that runs.
pub struct Cluster {
    folder: tempfile::TempDir,
    /// The ingest.
    pub ingest: Node,
    /// The relays.
    pub relays: Vec<Node>,
}

impl Cluster {
    /// Starts one ingest and so many relays.
    ///
    /// # Errors
    /// When a program is missing or does not listen in time.
    pub fn start(relays: usize) -> Result<Cluster> {
        Cluster::start_with(relays, "", &[])
    }

    /// The same with more lines in the ingest's configuration and more environment for all.
    ///
    /// # Errors
    /// When a program is missing or does not listen in time.
    pub fn start_with(relays: usize, ingest_toml: &str, env: &[(&str, &str)]) -> Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("releve-").tempdir()?;
        let dir = folder.path();
        run(Command::new(program("relevectl")?).arg("--dir").arg(dir).arg("init"))?;
        let any = "127.0.0.1:0";
        let config = format!(
            "name = \"ingest-1\"\ndir = {dir:?}\nrtmp_listen = \"{any}\"\norigin_listen = \"{any}\"\nadmin_listen = \"{any}\"\n{ingest_toml}\n"
        );
        let ingest = start("ingest-1", "releve-ingest", dir, &config, env)?;
        let origin = ingest.port("origin")?;
        let mut started = Vec::new();
        for number in 1..=relays {
            let config = format!(
                "name = \"relay-{number}\"\nlisten = \"{any}\"\nadmin_listen = \"{any}\"\norigins = [\"http://{origin}\"]\nkeys_dir = {:?}\nstate = {:?}\n",
                dir.join("keys"),
                dir.join("state.db"),
            );
            started.push(start(&format!("relay-{number}"), "releve-relay", dir, &config, env)?);
        }
        Ok(Cluster { folder, ingest, relays: started })
    }

    /// The state folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a stream and gives its key.
    ///
    /// # Errors
    /// When the operator's command fails or says more than the key.
    pub fn add_stream(&self, name: &str, mark: Mark) -> Result<String> {
        let mark = format!("{mark:?}").to_lowercase();
        let out = self.ctl(&["stream", "add", name, "--mark", &mark])?;
        let key = out.strip_suffix('\n').context("no line end after the key")?;
        ensure!(!key.is_empty() && !key.contains(char::is_whitespace), "more than a key: {out:?}");
        Ok(key.to_owned())
    }

    /// The RTMP URL that a key publishes to.
    ///
    /// # Errors
    /// When the ingest has no such port.
    pub fn publish_url(&self, key: &str) -> Result<String> {
        Ok(format!("rtmp://{}/live/{key}", self.ingest.port("rtmp")?))
    }

    /// Fresh playlist URLs, one a relay, in the relays' order; with TLS where a relay has it.
    ///
    /// # Errors
    /// When not every relay has one.
    pub fn mint(&self, stream: &str, viewer: &str, ttl_s: u64) -> Result<Vec<String>> {
        wait_for("URL for every relay", START, || {
            let ttl = ttl_s.to_string();
            let out = self.ctl(&["token", "mint", "--stream", stream, "--viewer", viewer, "--ttl", &ttl])?;
            let mut urls = Vec::new();
            for relay in &self.relays {
                let base = match relay.port("tls_listen") {
                    Ok(tls) => format!("https://{tls}/"),
                    Err(_) => format!("http://{}/", relay.port("listen")?),
                };
                let url = out.lines().find(|line| line.starts_with(&base));
                urls.push(url.with_context(|| format!("no URL of {base} in {out:?}"))?.to_owned());
            }
            ensure!(out.lines().count() == urls.len(), "more than one line a relay: {out:?}");
            Ok(urls)
        })
    }

    /// Ends a viewer.
    ///
    /// # Errors
    /// When the operator's command fails.
    pub fn revoke(&self, viewer: &str) -> Result<()> {
        self.ctl(&["viewer", "revoke", viewer]).map(drop)
    }

    /// What the tracer says this viewer must have received.
    ///
    /// # Errors
    /// When it fails or does not print one JSON object.
    pub fn codeword(&self, stream: &str, viewer: &str, segment: u64) -> Result<Value> {
        let mut trace = Command::new(program("releve-trace")?);
        trace.arg("codeword").arg("--dir").arg(self.dir()).args(["--stream", stream, "--viewer", viewer]);
        let out = run(trace.args(["--segment", &segment.to_string(), "--json"]))?;
        Ok(serde_json::from_str(&out)?)
    }

    /// Whose copy the tracer says a clip is: its exit code and what it printed.
    ///
    /// # Errors
    /// When it fails or does not print one JSON object.
    pub fn identify(&self, clip: &Path, more: &[&str]) -> Result<(i32, Value)> {
        let (code, mut found) = self.identify_each(&[clip], more)?;
        Ok((code, found.remove(0)))
    }

    /// The same of several clips in one call.
    ///
    /// # Errors
    /// When it fails or does not print one JSON object a clip.
    pub fn identify_each(&self, clips: &[&Path], more: &[&str]) -> Result<(i32, Vec<Value>)> {
        let mut trace = Command::new(program("releve-trace")?);
        trace.arg("identify").arg("--dir").arg(self.dir()).arg("--json").args(more);
        trace.args(clips.iter().flat_map(|clip| [Path::new("--clip"), clip]));
        let out = trace.output()?;
        let code = out.status.code().context("the tracer was ended")?;
        ensure!([0, 3, 4].contains(&code), "{trace:?} ({code}): {}", String::from_utf8_lossy(&out.stderr));
        let found = out.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let found: Vec<_> = found.map(serde_json::from_slice).collect::<Result<_, _>>()?;
        ensure!(found.len() == clips.len(), "{} answers for {} clips", found.len(), clips.len());
        Ok((code, found))
    }

    /// The exit code of the tracer's own check of a report.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn verify_report(&self, report: &Path, keys: &Path) -> Result<i32> {
        let mut trace = Command::new(program("releve-trace")?);
        let out = trace.arg("verify-report").arg("--report").arg(report).arg("--keys").arg(keys).output()?;
        out.status.code().context("the tracer was ended")
    }

    /// An operator's command; gives what it printed.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new(program("relevectl")?).arg("--dir").arg(self.dir()).args(arguments))
    }

    /// Ends the ingest as a crash would and starts it again, on the same ports.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash_and_restart_ingest(&mut self) -> Result<()> {
        self.ingest.child.kill();
        let file = self.dir().join("ingest-1.toml");
        let mut config = std::fs::read_to_string(&file)?;
        for (what, address) in &self.ingest.ports {
            config = config.replace(
                &format!("{what}_listen = \"127.0.0.1:0\""),
                &format!("{what}_listen = \"{address}\""),
            );
        }
        self.ingest = start("ingest-1", "releve-ingest", self.dir(), &config, &[])?;
        Ok(())
    }

    /// Everything that all programs have said.
    pub fn logs(&self) -> String {
        let nodes = std::iter::once(&self.ingest).chain(&self.relays);
        nodes.map(|node| node.child.log()).collect()
    }

    /// An error when a program has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        let mut nodes = std::iter::once(&mut self.ingest).chain(&mut self.relays);
        nodes.try_for_each(|node| node.child.check_alive())
    }
}

fn start(name: &str, what: &str, dir: &Path, config: &str, env: &[(&str, &str)]) -> Result<Node> {
    let (file, ready) = (dir.join(format!("{name}.toml")), dir.join(format!("{name}.ready.json")));
    std::fs::write(&file, config)?;
    if ready.exists() {
        std::fs::remove_file(&ready)?;
    }
    let mut command = Command::new(program(what)?);
    command.arg("--config").arg(&file).arg("--ready-file").arg(&ready).envs(env.iter().copied());
    let mut child = Child::start(name, &mut command, &dir.join(format!("{name}.log")))?;
    let json: Value = wait_for(&format!("ready file of {name}"), START, || {
        child.check_alive()?;
        Ok(serde_json::from_slice(&std::fs::read(&ready)?)?)
    })?;
    let ports = json.as_object().context("a ready file is an object")?.iter();
    let ports = ports
        .map(|(what, address)| Ok((what.clone(), address.as_str().context("an address is text")?.parse()?)));
    Ok(Node { name: name.to_owned(), child, ports: ports.collect::<Result<_>>()? })
}

/// Where a program of ours is: in `RELEVE_BIN_DIR`, else beside this test, in the folder of its profile.
pub fn program(name: &str) -> Result<PathBuf> {
    let beside = || -> Option<PathBuf> { Some(std::env::current_exe().ok()?.parent()?.parent()?.to_owned()) };
    let folder = match std::env::var_os("RELEVE_BIN_DIR") {
        Some(folder) => crate::root().join(folder),
        None => beside().context("where this test is")?,
    };
    let file = folder.join(name);
    ensure!(
        file.is_file(),
        "{} is not built: cargo build -p releve-ingest -p releve-relay -p releve-watermark",
        file.display()
    );
    Ok(file)
}

fn run(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(out.status.success(), "{command:?} ({}): {}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}
