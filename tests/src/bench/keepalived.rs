//! The yardstick for takeovers: Debian's keepalived (VRRP) in front of nginx with its RTMP module, on two hosts of the lab.
//!
//! In: the interval of adverts, an event. Out: how long new connections went unanswered, when the publisher was back, how
//! many connections it took. As kind to it as can be: ffmpeg is started again the moment it ends, the standby is well, and
//! each event has a fresh pair. Namespaces and programs are gone when it returns.

use crate::child::Child;
use crate::lab::net::{Net, VIP};
use crate::{feed, http, wait_for};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Where Debian keeps the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const HOSTS: [&str; 2] = ["a", "b"];
/// Says which host answers.
const WHO: u16 = 1936;
/// Says what publishers have sent.
const STAT: u16 = 1937;
/// A try to connect; the next follows at once.
const TRY: Duration = Duration::from_millis(20);
/// After this nobody comes back.
const GIVE_UP: Duration = Duration::from_secs(20);

/// What happens to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its keepalived is told to end: it says goodbye.
    Planned,
    /// All its programs are killed.
    Kill,
    /// Both its wires are cut, and its programs killed.
    Power,
}

/// What came of it, milliseconds since the event.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    /// The first new connection that the other host answered.
    pub new_connection_ms: f64,
    /// The publisher's first byte in the other host's RTMP server.
    pub publisher_ms: f64,
    /// Whether the connection it had has ended.
    pub lost: u64,
}

/// A program with processes of its own, which it would leave behind.
struct Family(Child);

impl Family {
    fn ids(&self) -> Result<Vec<u32>> {
        Ok([vec![self.0.id()], self.0.children()?].concat())
    }

    fn kill(&self) -> Result<()> {
        for id in self.ids()? {
            let id = Pid::from_raw(i32::try_from(id)?).context("a process id is not 0")?;
            let _ = kill_process(id, Signal::KILL); // a parent's end may have been its own
        }
        Ok(())
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.kill(); // it may have ended, and then they have too
    }
}

/// One event on a pair of its own. `advert` is seconds, as keepalived is told.
///
/// # Errors
/// When a program is missing, or nobody comes back.
pub fn one(prefix: &str, advert: &str, event: Event) -> Result<Came> {
    ensure!(Path::new(MODULE).is_file(), "nginx-rtmp is not installed; scripts/setup.sh bench installs it");
    let folder = tempfile::Builder::new().prefix("releve-vrrp-").tempdir()?;
    let net = Net::build(prefix)?;
    let mut programs: Vec<[Family; 2]> = Vec::new();
    for (place, host) in HOSTS.into_iter().enumerate() {
        let nginx = Family(nginx(&net, host, folder.path())?);
        programs.push([nginx, Family(vrrp(&net, place, advert, folder.path())?)]);
        wait_for("nginx", Duration::from_secs(10), || who(format!("10.77.0.{}", place + 1)))?;
    }
    wait_for("master", Duration::from_secs(15), || {
        ensure!(net.has_vip("a")? && !net.has_vip("b")?, "{}", programs[0][1].0.log());
        ensure!(who(VIP.to_owned())? == "a", "somebody else answers");
        Ok(())
    })?;
    // The other one has heard some adverts by then.
    std::thread::sleep(Duration::from_secs_f64(advert.parse::<f64>()? * 2.0 + 0.5));
    let (over, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        publish(scope, folder.path(), &over, &connections)?;
        let came = measure(&net, &programs, event, &connections);
        over.store(true, Ordering::Relaxed);
        came
    })
}

fn measure(net: &Net, programs: &[[Family; 2]], event: Event, connections: &AtomicU64) -> Result<Came> {
    wait_for("publisher", Duration::from_secs(10), || {
        ensure!(received("a")? > 50_000, "nothing has arrived");
        Ok(())
    })?;
    ensure!(connections.load(Ordering::Relaxed) == 1, "the publisher has come back before anything happened");
    let at = Instant::now();
    match event {
        Event::Planned => programs[0][1].0.signal(Signal::TERM)?,
        Event::Kill | Event::Power => {
            if event == Event::Power {
                net.inside("a", "link set eth0 down")?;
                net.inside("a", "link set eth1 down")?;
            }
            programs[0].iter().try_for_each(Family::kill)?;
        }
    }
    let ms = || at.elapsed().as_secs_f64() * 1e3;
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            wait_for("publisher at the other host", GIVE_UP, || {
                ensure!(received("b")? > 0, "nothing yet");
                Ok(ms())
            })
        });
        let new_connection_ms = loop {
            if who(VIP.to_owned()).is_ok_and(|host| host == "b") {
                break ms();
            }
            ensure!(at.elapsed() < GIVE_UP, "no answer within {GIVE_UP:?}");
            std::thread::sleep(Duration::from_millis(1));
        };
        let publisher_ms = publisher.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        Ok(Came { new_connection_ms, publisher_ms, lost: u64::from(connections.load(Ordering::Relaxed) > 1) })
    })
}

/// Who answers a new connection to this address.
fn who(ip: String) -> Result<String> {
    let mut socket = TcpStream::connect_timeout(&SocketAddr::new(ip.parse()?, WHO), TRY)?;
    socket.set_read_timeout(Some(TRY))?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    answer.lines().last().map(str::to_owned).context("an empty answer")
}

/// Bytes that publishers have sent to a host, by its own count.
fn received(host: &str) -> Result<u64> {
    let number = if host == "a" { 1 } else { 2 };
    let text = http::get(&format!("http://10.77.0.{number}:{STAT}/stat"))?.ok()?.text()?.to_owned();
    let count = text.split("<bytes_in>").nth(1).and_then(|rest| rest.split('<').next());
    Ok(count.context("no count")?.parse()?)
}

fn nginx(net: &Net, host: &str, folder: &Path) -> Result<Child> {
    let dir = folder.join(host);
    std::fs::create_dir_all(&dir)?;
    let text = format!(
        "load_module {MODULE};\nuser root;\nworker_processes 1;\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         rtmp {{ server {{ listen 1935; chunk_size 4096; access_log off; application live {{ live on; }} }} }}\n\
         http {{ access_log off; client_body_temp_path {dir}/body; default_type text/plain;\n\
         server {{ listen {WHO}; return 200 \"{host}\\n\"; }}\n\
         server {{ listen {STAT}; location /stat {{ rtmp_stat all; }} }} }}\n",
        dir = dir.display(),
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = net.command(host, &tool("nginx")?);
    command.arg("-p").arg(&dir).arg("-c").arg(&file);
    Child::start("nginx", &mut command, &dir.join("nginx.log"))
}

fn vrrp(net: &Net, place: usize, advert: &str, folder: &Path) -> Result<Child> {
    let (dir, host) = (folder.join(HOSTS[place]), HOSTS[place]);
    let (state, priority) = [("MASTER", 150), ("BACKUP", 100)][place];
    let text = format!(
        "global_defs {{\n router_id {host}\n vrrp_version 3\n}}\n\
         vrrp_instance one {{\n state {state}\n interface eth0\n virtual_router_id 51\n priority {priority}\n advert_int {advert}\n\
         virtual_ipaddress {{\n {VIP}/32\n }}\n}}\n"
    );
    let file = dir.join("keepalived.conf");
    std::fs::write(&file, text)?;
    let mut command = net.command(host, &tool("keepalived")?);
    command.args(["--dont-fork", "--log-console", "--dump-conf", "--vrrp"]).arg("--use-file").arg(&file);
    command.arg("--pid").arg(dir.join("keepalived.pid")).arg("--vrrp_pid").arg(dir.join("vrrp.pid"));
    Child::start("keepalived", &mut command, &dir.join("keepalived.log"))
}

fn tool(name: &str) -> Result<std::path::PathBuf> {
    let found = ["/usr/sbin", "/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
    let found = found.into_iter().find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed; scripts/setup.sh bench installs it"))
}

/// ffmpeg, pushed again as soon as it ends, until it is over.
fn publish<'scope>(
    scope: &'scope Scope<'scope, '_>,
    folder: &Path,
    over: &'scope AtomicBool,
    connections: &'scope AtomicU64,
) -> Result<()> {
    let (feed, log) = (feed::path(feed::HD)?, folder.join("ffmpeg.log"));
    scope.spawn(move || -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-nostdin", "-hide_banner", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]);
            ffmpeg.arg(&feed).args(["-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize"]);
            let mut child = Child::start("ffmpeg", ffmpeg.arg(format!("rtmp://{VIP}/live/demo")), &log)?;
            connections.fetch_add(1, Ordering::Relaxed);
            while !over.load(Ordering::Relaxed) && child.ended()?.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    });
    Ok(())
}
