//! The programs of the lab: two ingest nodes, three relays, publishers; started, asked, ended.

use super::net::{Net, VIP};
use super::slow::Slow;
use crate::child::Child;
use crate::cluster::program;
use crate::{feed, http, wait_for};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long nodes may take to find each other.
const PAIR: Duration = Duration::from_secs(20);
/// The names of both ingest nodes' namespaces; node numbers are one more than the place here.
pub const HOSTS: [&str; 2] = ["a", "b"];

/// Everything that runs.
pub struct Rig {
    /// Ingest nodes, by place; `None` while one is down.
    pub nodes: [Option<Child>; 2],
    relays: Vec<Child>,
    /// The network; last, so that it goes after the programs.
    pub net: Net,
    folder: tempfile::TempDir,
    /// Names and keys of the streams; the first is ffmpeg's.
    pub streams: Vec<(String, String)>,
    /// The slow way between the nodes, where there is one.
    pub slow: Option<Slow>,
}

/// What a rig is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Of both nodes.
    pub protect: &'a str,
    /// Publishers.
    pub streams: usize,
    /// What the nodes tell each other on the link comes so much later.
    pub lag: Option<Duration>,
    /// Whether nothing may be published without marks; else nothing is marked.
    pub marked: bool,
    /// Whether the nodes code anew what cannot be marked.
    pub normalise: bool,
}

impl Rig {
    /// Builds the network and starts all programs but the nodes.
    ///
    /// # Errors
    /// Missing rights or programs.
    pub fn prepare(prefix: &str, wish: &Wish) -> Result<Rig> {
        let net = Net::build(prefix)?;
        let folder = tempfile::Builder::new().prefix("releve-lab-").tempdir()?;
        let dir = |name: &str| folder.path().join(name);
        let first = dir("a");
        run(Command::new(program("relevectl")?).arg("--dir").arg(&first).arg("init"))?;
        let mark = if wish.marked { "require" } else { "off" };
        let mut streams = Vec::new();
        for number in 0..wish.streams {
            let name = if number == 0 { "demo".to_owned() } else { format!("steady-{number}") };
            let mut add = Command::new(program("relevectl")?);
            let key = run(add.arg("--dir").arg(&first).args(["stream", "add", &name, "--mark", mark]))?;
            streams.push((name, key.trim().to_owned()));
        }
        for other in ["b", "r"] {
            run(Command::new("cp").arg("-a").arg(&first).arg(dir(other)))?;
        }
        for (place, host) in HOSTS.into_iter().enumerate() {
            fs::write(dir(&format!("{host}.toml")), config(place, &dir(host), wish))?;
        }
        let slow = wish.lag.map(Slow::start).transpose()?;
        let mut rig = Rig { nodes: [None, None], relays: Vec::new(), net, folder, streams, slow };
        for (number, origins) in [(1, "\"http://10.77.0.1:8090\""), (2, "\"http://10.77.0.2:8090\"")] {
            rig.relay(number, origins)?;
        }
        rig.relay(3, "\"http://10.77.0.1:8090\", \"http://10.77.0.2:8090\"")?;
        Ok(rig)
    }

    /// Starts the nodes, and waits until they are a pair.
    ///
    /// # Errors
    /// When they do not become one.
    pub fn pair_up(&mut self) -> Result<usize> {
        self.begin(0)?;
        self.begin(1)?;
        self.await_pair()
    }

    /// The folder of states, configurations and logs.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn relay(&mut self, number: u16, origins: &str) -> Result<()> {
        let dir = self.dir().join("r");
        let text = format!(
            "name = \"relay-{number}\"\nlisten = \"10.77.0.11:{}\"\nadmin_listen = \"10.77.0.11:{}\"\norigins = [{origins}]\n\
             keys_dir = {:?}\nstate = {:?}\nwitness_listen = \"10.77.0.11:{}\"\nwitness_id = {number}\n",
            8080 + number,
            9080 + number,
            dir.join("keys"),
            dir.join("state.db"),
            7400 + number,
        );
        let file = self.dir().join(format!("relay-{number}.toml"));
        fs::write(&file, text)?;
        let mut command = self.net.command("r", &program("releve-relay")?);
        let log = self.dir().join(format!("relay-{number}.log"));
        self.relays.push(Child::start(&format!("relay-{number}"), command.arg("--config").arg(&file), &log)?);
        Ok(())
    }

    /// Starts an ingest node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(&mut self, place: usize) -> Result<()> {
        let name = HOSTS[place];
        let mut command = self.net.command(name, &program("releve-ingest")?);
        command.arg("--config").arg(self.dir().join(format!("{name}.toml")));
        if let Ok(filter) = std::env::var("RELEVE_LAB_LOG") {
            command.env("RUST_LOG", filter);
        }
        let log = self.dir().join(format!("{name}.log"));
        self.nodes[place] = Some(Child::start(name, &mut command, &log)?);
        Ok(())
    }

    /// Plugs a host that was struck in again, and starts its node anew; as a supervisor would, not before the former life has
    /// ended, which takes a busy machine a while.
    ///
    /// # Errors
    /// When that does not end, or it cannot be started.
    pub fn restart(&mut self, place: usize) -> Result<()> {
        wait_for("end of the former life", PAIR, || {
            let running = self.net.running(HOSTS[place], "releve-ingest")?;
            ensure!(running == 0, "{running} of its processes still run");
            Ok(())
        })?;
        if let Some(mut node) = self.nodes[place].take() {
            node.kill();
        }
        self.net.inside(HOSTS[place], "link set eth0 up")?;
        self.net.inside(HOSTS[place], "link set eth1 up")?;
        self.begin(place)
    }

    /// Where a node's operators look.
    pub fn admin(place: usize) -> String {
        format!("http://10.77.0.{}:8091", place + 1)
    }

    /// The pair's part of a node's status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, place: usize) -> Result<Value> {
        let text = http::get(&format!("{}/status", Rig::admin(place)))?.ok()?;
        let status: Value = serde_json::from_slice(&text.body)?;
        Ok(status["pair"].clone())
    }

    /// The streams of a node's status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn streams_of(&self, place: usize) -> Result<Value> {
        let text = http::get(&format!("{}/status", Rig::admin(place)))?.ok()?;
        let status: Value = serde_json::from_slice(&text.body)?;
        Ok(status["streams"].clone())
    }

    /// Publishers' connections that a node's kernel knows, open or half open.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn sockets(&self, place: usize) -> Result<usize> {
        /// The port, as the kernel writes it, and states that are none of a connection: listens, waits a minute for late packets.
        const PORT: &str = ":078F";
        const OTHERS: [&str; 2] = ["0A", "06"];
        let node = self.nodes[place].as_ref().context("no such node")?;
        let mut count = 0;
        for file in ["tcp", "tcp6"] {
            let table = fs::read_to_string(format!("/proc/{}/net/{file}", node.id()))?;
            let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
            count += rows
                .filter(|row| row.len() > 3 && row[1].ends_with(PORT) && !OTHERS.contains(&row[3]))
                .count();
        }
        Ok(count)
    }

    /// A metric of a node that has no labels.
    ///
    /// # Errors
    /// When it does not answer, or has none of that name.
    pub fn metric(&self, place: usize, name: &str) -> Result<u64> {
        let answer = http::get(&format!("{}/metrics", Rig::admin(place)))?.ok()?;
        let found = answer.text()?.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        found.with_context(|| format!("no metric {name}"))
    }

    fn state(&self, place: usize) -> String {
        let status = self.status(place).unwrap_or_default();
        status["state"].as_str().unwrap_or("silent").to_owned()
    }

    /// Waits until one holds and the other stands by; gives the holder's place.
    ///
    /// # Errors
    /// With both states when they do not in time.
    pub fn await_pair(&mut self) -> Result<usize> {
        let nodes = &mut self.nodes;
        for node in nodes.iter_mut().flatten() {
            node.check_alive()?;
        }
        wait_for("pair", PAIR, || {
            let states = [self.state(0), self.state(1)];
            match [states[0].as_str(), states[1].as_str()] {
                ["paired", "standby"] => Ok(0),
                ["standby", "paired"] => Ok(1),
                _ => bail!("a is {}, b is {}", states[0], states[1]),
            }
        })
        .with_context(|| self.logs())
    }

    /// Waits until a node is in this state.
    ///
    /// # Errors
    /// With its state when it is not in time.
    pub fn await_state(&self, place: usize, wanted: &[&str], at_most: Duration) -> Result<()> {
        wait_for("state", at_most, || {
            let state = self.state(place);
            ensure!(wanted.contains(&state.as_str()), "{} is {state}, not {wanted:?}", HOSTS[place]);
            Ok(())
        })
    }

    /// An operator's command on a node's state folder; gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctl(&self, folder: &str, arguments: &[&str]) -> Result<String> {
        run(Command::new(program("relevectl")?).arg("--dir").arg(self.dir().join(folder)).args(arguments))
    }

    /// Playlist URLs of a stream on the three relays.
    ///
    /// # Errors
    /// When a relay has not announced itself in time.
    pub fn urls(&self, stream: &str) -> Result<Vec<String>> {
        self.urls_of(stream, "lab")
    }

    /// The same for a viewer.
    ///
    /// # Errors
    /// When a relay has not announced itself in time.
    pub fn urls_of(&self, stream: &str, viewer: &str) -> Result<Vec<String>> {
        wait_for("URLs", PAIR, || {
            let mint = ["token", "mint", "--stream", stream, "--viewer", viewer, "--ttl", "7200"];
            let mut urls: Vec<String> = self.ctl("r", &mint)?.lines().map(str::to_owned).collect();
            ensure!(urls.len() == 3, "{} relays", urls.len());
            urls.sort();
            Ok(urls)
        })
    }

    /// Where publishers connect to.
    ///
    /// # Errors
    /// Never, in fact: the address is a constant.
    pub fn address() -> Result<SocketAddr> {
        Ok(SocketAddr::new(VIP.parse()?, 1935))
    }

    /// Real ffmpeg, pushing to the moving address.
    ///
    /// # Errors
    /// When the feed or ffmpeg is missing.
    pub fn publish(&self, feed: &str) -> Result<Child> {
        let (_, key) = self.streams.first().context("a stream for ffmpeg")?;
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-hide_banner", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]);
        ffmpeg.arg(feed::path(feed)?).args(["-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize"]);
        ffmpeg.arg(format!("rtmp://{VIP}/live/{key}"));
        Child::start("ffmpeg", &mut ffmpeg, &self.dir().join("ffmpeg.log"))
    }

    /// Kills a node's own process, not its guardian; gives the moment.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill(&mut self, place: usize) -> Result<Instant> {
        let node = self.nodes[place].as_ref().context("no such node")?;
        let id = *node.children()?.first().context("the guardian has no child")?;
        let id = rustix::process::Pid::from_raw(i32::try_from(id)?).context("a process id is not 0")?;
        let at = Instant::now();
        rustix::process::kill_process(id, rustix::process::Signal::KILL)?;
        Ok(at)
    }

    /// Sends a signal to a node's whole tree.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, place: usize, signal: rustix::process::Signal) -> Result<()> {
        let node = self.nodes[place].as_ref().context("no such node")?;
        // The guardian last, or its end would tell the node to leave in good order.
        for id in node.children()?.into_iter().chain([node.id()]) {
            let id = rustix::process::Pid::from_raw(i32::try_from(id)?).context("a process id is not 0")?;
            rustix::process::kill_process(id, signal)?;
        }
        Ok(())
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let end = |child: &Child, name: &str| {
            let log = child.log();
            let lines: Vec<&str> = log.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        let nodes = self.nodes.iter().zip(HOSTS).filter_map(|(node, name)| Some(end(node.as_ref()?, name)));
        nodes.collect()
    }

    /// Keeps the folder, to be read afterwards.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // While its addresses are there.
        drop(self.slow.take());
        for place in 0..2 {
            // Guardian and node together, or the node would try to leave in good order.
            let _ = self.signal(place, rustix::process::Signal::KILL);
        }
    }
}

fn config(place: usize, dir: &Path, wish: &Wish) -> String {
    let (me, peer, protect) = (place + 1, 2 - place, wish.protect);
    // A slow link goes by way of the publishers' host, where the lab delays it.
    let link = match wish.lag {
        Some(_) => format!("link_listen = \"10.77.0.{me}:7400\"\nlink_peer = \"{}\"\n", Slow::to(2 - place)),
        None => format!("link_listen = \"10.78.0.{me}:7400\"\nlink_peer = \"10.78.0.{peer}:7400\"\n"),
    };
    format!(
        "name = \"{name}\"\ndir = {dir:?}\nnormalise = \"{normalise}\"\norigin_listen = \"10.77.0.{me}:8090\"\nadmin_listen = \"10.77.0.{me}:8091\"\n\
         [pair]\nprotect = \"{protect}\"\nnode = {me}\npeer = {peer}\n{link}\
         peer_admin = \"http://10.77.0.{peer}:8091\"\n\
         paths = [{{ local = \"10.78.0.{me}:7401\", peer = \"10.78.0.{peer}:7401\" }}, \
                  {{ local = \"10.77.0.{me}:7401\", peer = \"10.77.0.{peer}:7401\" }}]\n\
         witnesses = [{{ id = 1, address = \"10.77.0.11:7401\" }}, {{ id = 2, address = \"10.77.0.11:7402\" }}, \
                      {{ id = 3, address = \"10.77.0.11:7403\" }}]\n\
         addresses = [{{ ip = \"{VIP}\", interface = \"eth0\" }}]\n",
        name = HOSTS[place],
        normalise = if wish.normalise { "auto" } else { "off" },
    )
}

fn run(command: &mut Command) -> Result<String> {
    command.env_remove("RUST_BACKTRACE");
    let out = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(
        out.status.success(),
        "{command:?} ({}): {}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8(out.stdout)?)
}
