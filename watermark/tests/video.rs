//! Films through ffmpeg: sizes, times, rates, and what is said of a file that is none.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use releve_watermark::detect::Frame;
use releve_watermark::video::{Frames, Source, VideoError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two seconds of 25 pictures, 320 × 180, in a format that can be read from any place. `None` without ffmpeg, unless it is
/// required.
fn film(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("film.ts");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2"])
        .args(["-c:v", "mpeg2video", "-q:v", "3", "-muxdelay", "0", "-output_ts_offset", "5"])
        .arg(&path)
        .output();
    match made {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            assert!(
                std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none_or(|value| value != "1"),
                "ffmpeg: {error}"
            );
            eprintln!("skipped: ffmpeg is not installed");
            return None;
        }
    }
    Some(path)
}

fn read(source: Source, fps: Option<f64>) -> Result<Vec<Frame>, VideoError> {
    Frames::open(source, 64, 36, fps)?.collect()
}

#[test]
fn a_film_is_its_pictures_with_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = film(folder.path()) else { return };
    let frames = read(Source::file(&path), None).unwrap();
    assert_eq!(frames.len(), 50);
    for pair in frames.windows(2) {
        assert!(
            (pair[1].time_s - pair[0].time_s - 0.04).abs() < 0.001,
            "{} {}",
            pair[0].time_s,
            pair[1].time_s
        );
    }
    assert!(frames.iter().all(|frame| (frame.width, frame.height, frame.luma.len()) == (64, 36, 64 * 36)));
    assert!(frames[0].luma.iter().max() > Some(&150) && frames[0].luma != frames[49].luma);
    assert_eq!(read(Source::file(&path), Some(10.0)).unwrap().len(), 20);

    let bytes = || Box::new(io::Cursor::new(std::fs::read(&path).unwrap()));
    for format in [None, Some(("mpegts", None))] {
        assert_eq!(read(Source::Bytes { bytes: bytes(), format }, None).unwrap(), frames);
    }
}

#[test]
fn what_is_no_film_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = film(folder.path()) else { return };
    let path = folder.path().join("-junk");
    std::fs::write(&path, [7; 5_000]).unwrap();
    let said = read(Source::file(&path), None).unwrap_err().to_string();
    assert!(said.contains("-junk") && said.len() > 40, "{said}");
    let said = read(Source::file(folder.path().join("missing")), None).unwrap_err().to_string();
    assert!(said.contains("No such file"), "{said}");
    assert!(matches!(Frames::open(Source::file(&path), 0, 36, None), Err(VideoError::Asked { .. })));
    assert!(matches!(
        Frames::open(Source::file(&path), 64, 36, Some(f64::NAN)),
        Err(VideoError::Asked { .. })
    ));
}

/// A playlist that names a server: nobody is called.
#[test]
fn a_file_cannot_make_ffmpeg_call_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = film(folder.path()) else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/film.ts", listener.local_addr().unwrap());
    let path = folder.path().join("film.m3u8");
    std::fs::write(&path, format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n"))
        .unwrap();
    assert!(read(Source::file(&path), None).map_or(true, |frames| frames.is_empty()));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was called");
}

/// A film without end.
struct Again {
    film: Vec<u8>,
    at: usize,
}

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.film.len() - self.at);
        buffer[..len].copy_from_slice(&self.film[self.at..self.at + len]);
        self.at = (self.at + len) % self.film.len();
        Ok(len)
    }
}

#[test]
fn a_reader_that_goes_ends_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = film(folder.path()) else { return };
    let bytes = Box::new(Again { film: std::fs::read(path).unwrap(), at: 0 });
    let mut frames =
        Frames::open(Source::Bytes { bytes, format: Some(("mpegts", None)) }, 64, 36, None).unwrap();
    assert!(frames.nth(100).unwrap().is_ok());
    drop(frames); // Would wait for ever for a child that goes on.
}
