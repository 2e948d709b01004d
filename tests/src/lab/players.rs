//! Real players on one playlist, each with the clock of what it has shown.
//!
//! In: a player's name, a playlist URL with a token. Out: how far it has come and when it said so, and its complaints.
//! Starts the players as an ordinary user would, with their own defaults; ends them by their own ids when dropped.

use crate::child::family;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// ffmpeg (5.1 and 9.0 were seen; hls.c, `update_init_section`) tells init sections apart by their address in memory and so reads the same one
/// again after each reload of any live playlist with `EXT-X-MAP`, its own muxer's too.
pub const FFMPEG_RELOADS: &str = "Found duplicated MOOV Atom. Skipped it";
/// What VLC 3 warns of in every fragmented MP4: sample tables are empty because samples are in fragments, and the first AAC
/// frame holds the encoder's priming.
pub const VLC_FRAGMENTS: [&str; 3] = ["no chunk defined", "STTS table of 0 entries", "decoded zero sample"];
/// VLC's own thread came late to a picture that was there in time: the machine was busy. Of a stream that is late it says
/// "buffering" and "ES_OUT_SET_(GROUP_)PCR is called too late".
pub const VLC_LATE: &str = "picture is too late to be displayed";
/// What VLC says of its own surroundings.
pub const VLC_SURROUNDINGS: [&str; 8] =
    ["dbus", "globalhotkeys", "interface", "lua", "VLC media player", "Running vlc", "main libvlc", "dummy"];
/// What GStreamer shall complain about: the stream, not the plugins that it finds on this machine.
pub const GST_CATEGORIES: &str =
    "*:1,adaptivedemux*:2,hls*:2,qtdemux:2,*parse*:2,libav:2,*decoder:2,*dec:2,nvcodec:1,nvdec:1";
/// Debian's user without rights: VLC refuses root.
const NOBODY: u32 = 65534;
/// Pictures in a second of all feeds.
const RATE: f64 = 30.0;

/// The players that are known, in the order in which they are tried.
pub const ALL: [&str; 9] =
    ["hls.js", "shaka", "video.js", "chromium", "ffmpeg", "streamlink", "mpv", "gstreamer", "vlc"];

/// One player at work.
pub struct Player {
    /// Which.
    pub name: String,
    processes: Vec<Child>,
    notes: Arc<Mutex<Notes>>,
    _home: tempfile::TempDir,
}

#[derive(Default)]
struct Notes {
    /// When it said how much it has shown, in seconds.
    shown: Vec<(Instant, f64)>,
    complaints: Vec<(Instant, String)>,
}

/// What one player went through in some time.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Longest time in which nothing new was shown.
    pub standstill: Duration,
    /// How much was shown.
    pub played: Duration,
    /// What it said.
    pub complaints: Vec<String>,
}

/// What a player needs that this machine lacks.
pub fn missing(name: &str) -> Option<String> {
    let needs: &[&str] = match name {
        "ffmpeg" => &["ffmpeg"],
        "streamlink" => &["streamlink", "ffmpeg"],
        "mpv" => &["mpv"],
        "gstreamer" => &["gst-launch-1.0"],
        "vlc" => &["cvlc", "setpriv"],
        _ => &["node", "chromium"],
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &&&str| !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    needs.iter().find(there).map(|tool| format!("{tool} is not installed"))
}

impl Player {
    /// Starts it.
    ///
    /// # Errors
    /// An unknown name, or a program that cannot be started.
    pub fn start(name: &str, url: &str) -> Result<Player> {
        Player::with(name, url, None)
    }

    /// Starts a web player on a session's playlist that tells the relay of itself, and every so many seconds how it is.
    ///
    /// # Errors
    /// An unknown name, or a program that cannot be started.
    pub fn telling(name: &str, url: &str, every_s: u32) -> Result<Player> {
        Player::with(name, url, Some(every_s))
    }

    fn with(name: &str, url: &str, every_s: Option<u32>) -> Result<Player> {
        ensure!(ALL.contains(&name), "{name:?} is none of {ALL:?}");
        let home = tempfile::Builder::new().prefix("releve-player-").tempdir()?;
        let notes: Arc<Mutex<Notes>> = Arc::default();
        let mut processes = Vec::new();
        let mut command = match name {
            "ffmpeg" => ffmpeg(url),
            "streamlink" => {
                let mut streamlink = Command::new("streamlink");
                streamlink.args(["--loglevel", "warning", "--stdout", url, "best"]);
                let mut source = isolated(&mut streamlink, home.path().into())
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .context("streamlink")?;
                listen(name, source.stderr.take(), &notes);
                let stream = source.stdout.take().context("streamlink's output")?;
                processes.push(source);
                let mut judge = ffmpeg("pipe:0");
                judge.stdin(stream);
                judge
            }
            "mpv" => {
                let mut mpv = Command::new("mpv");
                mpv.args(["--no-config", "--vo=null", "--ao=null", "--input-terminal=no"]);
                mpv.args(["--msg-level=all=warn,statusline=status", "--term-status-msg=shown ${=time-pos}"])
                    .arg(url);
                mpv
            }
            "gstreamer" => {
                let mut gst = Command::new("gst-launch-1.0");
                gst.args(["-v", "uridecodebin3", &format!("uri={url}"), "name=d", "d.", "!", "queue", "!"]);
                gst.args([
                    "videoconvert",
                    "!",
                    "fpsdisplaysink",
                    "video-sink=fakesink",
                    "text-overlay=false",
                ]);
                gst.args([
                    "fps-update-interval=200",
                    "d.",
                    "!",
                    "queue",
                    "!",
                    "audioconvert",
                    "!",
                    "fakeaudiosink",
                ]);
                gst.env("GST_DEBUG", GST_CATEGORIES).env("GST_DEBUG_NO_COLOR", "1");
                gst
            }
            "vlc" => vlc(url, home.path().into())?,
            _ => {
                let mut node = Command::new("node");
                node.arg(crate::root().join("tests/browser/players.mjs")).args([name, url]);
                node.args(every_s.map(|seconds| seconds.to_string()));
                node
            }
        };
        let command = isolated(&mut command, home.path().into());
        if name != "streamlink" {
            command.stdin(Stdio::piped());
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context(name.to_owned())?;
        listen(name, child.stdout.take(), &notes);
        listen(name, child.stderr.take(), &notes);
        if name == "vlc" {
            ask(child.stdin.take().context("VLC's input")?);
        }
        processes.push(child);
        Ok(Player { name: name.to_owned(), processes, notes, _home: home })
    }

    /// Seconds shown so far.
    pub fn shown(&self) -> f64 {
        let notes = self.notes();
        let (first, last) = (notes.shown.first(), notes.shown.last());
        first.zip(last).map_or(0.0, |((_, first), (_, last))| last - first)
    }

    /// What happened from a moment until now.
    pub fn watched(&self, since: Instant) -> Watched {
        let (notes, now) = (self.notes(), Instant::now());
        let before = notes.shown.iter().rfind(|(at, _)| *at <= since).copied();
        let (mut last_at, mut last) = before.unwrap_or((since, 0.0));
        let (first, mut standstill) = (last, Duration::ZERO);
        for (at, shown) in notes.shown.iter().filter(|(at, _)| *at > since) {
            standstill = standstill.max(at.duration_since(last_at));
            if *shown > last {
                (last_at, last) = (*at, *shown);
            }
        }
        standstill = standstill.max(now.duration_since(last_at));
        let complaints = notes.complaints.iter().filter(|(at, _)| *at > since);
        Watched {
            standstill,
            played: Duration::from_secs_f64((last - first).max(0.0)),
            complaints: complaints.map(|(_, words)| words.clone()).collect(),
        }
    }

    /// Everything it complained of so far.
    pub fn complaints(&self) -> Vec<String> {
        self.notes().complaints.iter().map(|(_, words)| words.clone()).collect()
    }

    /// An error when it has ended by itself.
    ///
    /// # Errors
    /// With how it ended.
    pub fn check_alive(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                anyhow::bail!("{} has ended by itself ({status})", self.name);
            }
        }
        Ok(())
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // In good order where they have children and folders of their own; then for certain.
        let mut all = Vec::new();
        for process in &self.processes {
            all.extend(family(process.id()).unwrap_or_default());
        }
        for process in &mut self.processes {
            drop(process.stdin.take());
            signal(process.id(), Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(5);
        for process in &mut self.processes {
            while Instant::now() < end && matches!(process.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill(); // it may have ended
            let _ = process.wait();
        }
        // What they started and did not end: still ours by its working folder.
        for id in all {
            if std::fs::read_link(format!("/proc/{id}/cwd"))
                .is_ok_and(|folder| folder.starts_with(self._home.path()))
            {
                signal(id, Signal::KILL);
            }
        }
    }
}

fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal); // it may have ended
    }
}

/// In a folder of its own, in a process group of its own.
fn isolated(command: &mut Command, home: PathBuf) -> &mut Command {
    command.env("HOME", &home).current_dir(home).process_group(0)
}

/// ffmpeg as a player: it shows pictures at their own pace.
fn ffmpeg(input: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-re", "-i", input, "-map", "0:v", "-map", "0:a", "-f", "null"]);
    command.args(["-progress", "pipe:1", "-stats_period", "0.2", "-"]);
    command
}

fn vlc(url: &str, home: PathBuf) -> Result<Command> {
    let mut command = Command::new("cvlc");
    if rustix::process::geteuid().is_root() {
        chown(&home, Some(NOBODY), Some(NOBODY))?;
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cvlc"]);
    }
    command.args([
        "--no-color",
        "--verbose=1",
        "--vout=dummy",
        "--aout=dummy",
        "--no-media-library",
        "--no-dbus",
    ]);
    command.args(["--no-lua", "--ignore-config", "--intf=oldrc", "--rc-fake-tty", url]);
    Ok(command)
}

/// VLC does not say by itself how many pictures it has shown.
fn ask(mut input: std::process::ChildStdin) {
    std::thread::spawn(move || {
        while input.write_all(b"stats\n").is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

/// Notes what a player says, until it ends.
fn listen(name: &str, stream: Option<impl Read + Send + 'static>, notes: &Arc<Mutex<Notes>>) {
    let (Some(stream), name, notes) = (stream, name.to_owned(), notes.clone()) else { return };
    std::thread::spawn(move || {
        let (mut stream, mut line, mut buffer) = (BufReader::new(stream), Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            for byte in &buffer[..count] {
                if !matches!(byte, b'\n' | b'\r') {
                    line.push(*byte);
                    continue;
                }
                let words = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(shown) = shown(&name, &words) {
                    notes.shown.push((Instant::now(), shown));
                } else if is_complaint(&name, &words) {
                    notes.complaints.push((Instant::now(), words));
                }
            }
        }
    });
}

/// Seconds of pictures that were shown, if the line says so.
fn shown(player: &str, line: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let pictures = |text: &str| number(text).map(|count| count / RATE);
    match player {
        "ffmpeg" | "streamlink" => pictures(line.strip_prefix("frame=")?),
        "mpv" => number(line.split("shown ").nth(1)?),
        "gstreamer" => pictures(line.split("rendered: ").nth(1)?.split(',').next()?),
        "vlc" => pictures(
            line.split("frames displayed").nth(1)?.trim_start_matches([' ', ':']).trim_end_matches(" |"),
        ),
        _ => number(line.strip_prefix("at ")?.split(' ').next()?),
    }
}

/// Whether a line is one that a faultless stream does not cause.
fn is_complaint(player: &str, line: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    match player {
        "ffmpeg" | "streamlink" => {
            (line.starts_with('[') || line.contains("rror")) && !line.contains(FFMPEG_RELOADS)
        }
        "gstreamer" => has(&[" WARN ", " ERROR ", "ERROR:"]),
        "vlc" => {
            has(&["error", "warning"])
                && !has(&["(no error)"])
                && !has(&VLC_SURROUNDINGS)
                && !has(&VLC_FRAGMENTS)
                && !has(&[VLC_LATE])
        }
        // What it prints besides its status line is of level warning and above; "[K" clears the line.
        "mpv" => !line.contains(FFMPEG_RELOADS) && !line.replace("\u{1b}[K", "").trim().is_empty(),
        _ => !line.is_empty() && line != "ended" && !line.starts_with("at "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_players_have_shown_is_read() {
        assert_eq!(shown("ffmpeg", "frame=60"), Some(2.0));
        assert_eq!(shown("ffmpeg", "fps=30"), None);
        assert_eq!(shown("mpv", "\u{1b}[Kshown 3.5"), Some(3.5));
        assert_eq!(
            shown("gstreamer", "x: last-message = rendered: 90, dropped: 0, current: 30.0"),
            Some(3.0)
        );
        assert_eq!(shown("vlc", "| frames displayed :    120"), Some(4.0));
        assert_eq!(shown("hls.js", "at 1.250 37"), Some(1.25));
    }

    #[test]
    fn complaints_are_told_from_words() {
        assert!(is_complaint("hls.js", "said networkError manifestLoadError"));
        assert!(!is_complaint("hls.js", "at 1.250 37"));
        assert!(is_complaint("ffmpeg", "[hls @ 0x1] Failed to open segment 7"));
        assert!(!is_complaint("ffmpeg", "[mov,mp4 @ 0x1] Found duplicated MOOV Atom. Skipped it"));
        assert!(!is_complaint("ffmpeg", "progress=continue"));
    }
}
