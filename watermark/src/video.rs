//! Any video file as grey pictures: one `ffmpeg` process decodes, scales and reports times.
//!
//! In: a path, or bytes that another part writes (an archived GOP). Out: `Frame`s in the order shown, at the size asked
//! for. Touches one child process and its pipes; reads up to 8 MB of pictures ahead, however long the film is, so that
//! ffmpeg works on while the last pictures are looked at.
//!
//! The file may be hostile: ffmpeg may open files and pipes only (a playlist cannot make it call anybody), pictures are
//! limited in size, and the child is ended when the reader goes. It must be on `PATH`; none of its libraries is linked.

use crate::detect::Frame;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use thiserror::Error;

/// Most samples of a picture that is decoded.
const PIXELS_MAX: &str = "67108864";

/// Bytes of pictures that are read ahead …
const AHEAD_BYTES: usize = 8 << 20;
/// … in so many pictures at most.
const AHEAD_PICTURES: usize = 256;

/// How the filter that reports times begins its lines.
const TIME_LABEL: &str = "pts_time:";

/// Where the film comes from.
pub enum Source {
    /// A file of any format that ffmpeg knows.
    File(PathBuf),
    /// Bytes as they come, through standard input.
    Bytes {
        /// Read to its end by a thread.
        bytes: Box<dyn Read + Send>,
        /// ffmpeg's name of the format and, for a bare H.264 stream, which has no times, its pictures a second;
        /// `None` to let it find out.
        format: Option<(&'static str, Option<f64>)>,
    },
}

impl Source {
    /// A file.
    pub fn file(path: impl AsRef<Path>) -> Source {
        Source::File(path.as_ref().to_owned())
    }
}

/// Why there are no more pictures.
#[derive(Debug, Error)]
pub enum VideoError {
    /// No such program.
    #[error("ffmpeg is not installed, or not on PATH")]
    NoFfmpeg,
    /// It could not be started or read from.
    #[error("ffmpeg: {0}")]
    Io(#[from] io::Error),
    /// It gave up.
    #[error("ffmpeg cannot read {what}: {said}")]
    Ffmpeg {
        /// The file, or "the pictures given".
        what: String,
        /// Its last line.
        said: String,
    },
    /// A size or rate that no film has.
    #[error("{width} x {height} pictures at {fps:?} a second cannot be asked for")]
    Asked {
        /// Width asked for.
        width: usize,
        /// Height asked for.
        height: usize,
        /// Rate asked for.
        fps: Option<f64>,
    },
}

/// The pictures of a film, in the order shown.
pub struct Frames {
    child: Child,
    /// Their samples; `None` when the last one was read.
    pictures: Option<Receiver<io::Result<Vec<u8>>>>,
    times: Receiver<f64>,
    listener: Option<JoinHandle<String>>,
    what: String,
    width: usize,
    height: usize,
}

impl Frames {
    /// Starts decoding. Pictures are scaled to the size asked for, whatever their shape; with `fps` they are dropped and
    /// doubled to that rate, without it they come as they are.
    ///
    /// # Errors
    /// When ffmpeg cannot be started. What is wrong with the file is said by the first picture.
    pub fn open(source: Source, width: usize, height: usize, fps: Option<f64>) -> Result<Frames, VideoError> {
        let sizes = 1..=4096;
        let rate = fps.is_none_or(|fps| fps > 0.0 && fps <= 1000.0);
        if !sizes.contains(&width) || !sizes.contains(&height) || !rate {
            return Err(VideoError::Asked { width, height, fps });
        }
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-hide_banner", "-v", "error", "-protocol_whitelist", "file,pipe"]);
        ffmpeg.args(["-max_pixels", PIXELS_MAX]);
        let (what, bytes) = match source {
            Source::File(path) => {
                let mut url = std::ffi::OsString::from("file:");
                url.push(&path);
                ffmpeg.arg("-i").arg(url);
                (path.display().to_string(), None)
            }
            Source::Bytes { bytes, format } => {
                if let Some((format, fps)) = format {
                    ffmpeg.args(["-f", format]);
                    fps.map(|fps| ffmpeg.args(["-framerate", &fps.to_string()]));
                }
                ffmpeg.args(["-i", "pipe:0"]);
                ("the pictures given".to_owned(), Some(bytes))
            }
        };
        // Any key makes the second filter print a line with the picture's time.
        let fps = fps.map(|fps| format!("fps={fps},")).unwrap_or_default();
        let filters = format!(
            "{fps}scale={width}:{height}:flags=area,format=gray,metadata=mode=add:key=k:value=1,\
             metadata=mode=print:direct=1:file=pipe\\\\:2"
        );
        ffmpeg.args(["-map", "0:v:0", "-vf", &filters, "-copyts", "-fps_mode", "passthrough"]);
        ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]);
        ffmpeg.stdin(if bytes.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = ffmpeg.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound { VideoError::NoFfmpeg } else { error.into() }
        })?;
        if let (Some(mut stdin), Some(mut bytes)) = (child.stdin.take(), bytes) {
            // Ends by itself: with the bytes, or when ffmpeg has gone and the pipe is closed.
            std::thread::spawn(move || io::copy(&mut bytes, &mut stdin).and_then(|_| stdin.flush()));
        }
        let (sender, times) = mpsc::channel();
        let listener = child.stderr.take().map(|stderr| std::thread::spawn(move || listen(stderr, &sender)));
        let pictures = child.stdout.take().map(|stdout| ahead(stdout, width * height));
        Ok(Frames { child, pictures, times, listener, what, width, height })
    }

    /// The next picture; `None` at the end of a film that was read well.
    fn read(&mut self) -> Result<Option<Frame>, VideoError> {
        let Some(pictures) = &self.pictures else { return Ok(None) };
        let Ok(luma) = pictures.recv() else { return self.end().map(|()| None) };
        let luma = luma?;
        let time_s = self.times.recv().map_err(|_| self.failed("it gave no time".to_owned()))?;
        Ok(Some(Frame { time_s, width: self.width, height: self.height, luma }))
    }

    /// What ffmpeg had to say when it was through.
    fn end(&mut self) -> Result<(), VideoError> {
        self.pictures = None;
        let said = self.listener.take().and_then(|listener| listener.join().ok()).unwrap_or_default();
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(self.failed(said)) }
    }

    fn failed(&self, said: String) -> VideoError {
        VideoError::Ffmpeg { what: self.what.clone(), said }
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, VideoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read();
        if next.is_err() {
            self.pictures = None;
        }
        next.transpose()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.pictures = None;
        // Both fail only where the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads pictures of so many samples until there are no more, or nobody wants them.
fn ahead(mut stdout: ChildStdout, samples: usize) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, pictures) = mpsc::sync_channel((AHEAD_BYTES / samples).clamp(1, AHEAD_PICTURES));
    std::thread::spawn(move || {
        loop {
            let mut luma = vec![0; samples];
            let read = stdout.read_exact(&mut luma);
            if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
                return;
            }
            let failed = read.is_err();
            if sender.send(read.map(|()| luma)).is_err() || failed {
                return;
            }
        }
    });
    pictures
}

/// Sends the times on, and returns the last line that was something else.
fn listen(stderr: ChildStderr, times: &mpsc::Sender<f64>) -> String {
    let mut last = "it said nothing".to_owned();
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while lines.by_ref().take(4096).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        let time = text.strip_prefix("frame:").and_then(|rest| rest.split_once(TIME_LABEL));
        if let Some((_, time)) = time {
            // A film without times counts as all at once; nothing aligns with it.
            let _ = times.send(time.trim().parse().unwrap_or(0.0));
        } else if !text.is_empty() && text != "k=1" {
            last = text.to_owned();
        }
        line.clear();
    }
    last
}
