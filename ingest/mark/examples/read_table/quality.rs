//! What the mark costs to look at: the broadcaster's stream beside A everywhere and a viewer's mixture of A and B.
//!
//! VMAF is against the pictures before the broadcaster's coder, so that the mark's part is what is lost beside the
//! broadcaster's own stream; VMAF "beside unmarked" and PSNR (luma) are of a viewer's copy against that stream. Popping is
//! what changes from the last picture of a GOP to the next IDR: the mean energy of that step, in squared levels, beside
//! what the broadcaster's stream has there.

use super::{Archive, Asked, host, marked, pictures, run};
use releve_watermark::{Codebook, Key, Symbol, WatermarkId};
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Prints a Markdown table, a row a clip.
pub(super) fn print(folder: &Path, vmaf: &str, asked: &Asked) {
    println!(
        "| Clip | VMAF unmarked | A less | a viewer's less | VMAF beside unmarked | worst picture | PSNR, dB | worst picture | step at IDRs, unmarked | a viewer's |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for clip in &asked.clips {
        let name = Path::new(clip).file_stem().unwrap().to_string_lossy().into_owned();
        let archive = marked(&host(folder, clip, asked), asked);
        let source = folder.join("source.mkv");
        run(pictures(clip, asked).args(["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0"]).arg(&source));
        write(folder, &archive);
        let scores = |file: &str| vmaf_of(vmaf, folder, &folder.join(file), &source);
        let (plain, a, mix) = (scores("host.h264"), scores("a.h264"), scores("mix.h264"));
        let beside = vmaf_of(vmaf, folder, &folder.join("mix.h264"), &folder.join("host.h264"));
        // Of the pictures beside the unmarked stream: against the source, VMAF gives single pictures 100 that are no better.
        let worst = beside.iter().copied().fold(f64::MAX, f64::min);
        let less = |scores: &[f64]| mean(&plain) - mean(scores);
        let seen = Seen::of(folder, asked);
        println!(
            "| {name}, {}p | {:.1} | {:.2} | {:.2} | {:.1} | {worst:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            asked.height,
            mean(&plain),
            less(&a),
            less(&mix),
            mean(&beside),
            psnr(mean(&seen.errors)),
            psnr(seen.errors.iter().copied().fold(0.0, f64::max)),
            mean(&seen.steps.0),
            mean(&seen.steps.1),
        );
    }
}

/// The two marked streams.
fn write(folder: &Path, archive: &Archive) {
    let book = Codebook::new(&Key::new(1, [0x11; 32]), &Key::new(1, [0x22; 32]));
    let all = 0..archive.gops.len();
    std::fs::write(folder.join("a.h264"), archive.bytes(all, |_, _| Symbol::A)).unwrap();
    let viewer = WatermarkId::of_viewer("a viewer");
    std::fs::write(folder.join("mix.h264"), archive.copy_of(&book, viewer)).unwrap();
}

/// VMAF of each picture.
fn vmaf_of(ffmpeg: &str, folder: &Path, film: &Path, source: &Path) -> Vec<f64> {
    let log = folder.join("vmaf.csv");
    let graph = format!(
        "[0:v]settb=1/30,setpts=N[x];[1:v]settb=1/30,setpts=N[y];[x][y]libvmaf=n_threads=2:log_fmt=csv:log_path={}",
        log.display()
    );
    let mut command = Command::new(ffmpeg);
    command
        .args(["-nostdin", "-hide_banner", "-v", "error", "-f", "h264", "-framerate", "30", "-i"])
        .arg(film);
    run(command.arg("-i").arg(source).args(["-lavfi", &graph, "-f", "null", "-"]));
    let text = std::fs::read_to_string(log).unwrap();
    let mut lines = text.lines();
    let column = lines.next().unwrap().split(',').position(|name| name == "vmaf").unwrap();
    lines.map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
}

/// What a viewer's copy shows beside the broadcaster's stream.
struct Seen {
    /// Mean squared error of each picture.
    errors: Vec<f64>,
    /// Energy of the step at each IDR but the first: unmarked, and the viewer's.
    steps: (Vec<f64>, Vec<f64>),
}

impl Seen {
    fn of(folder: &Path, asked: &Asked) -> Seen {
        let samples = asked.width() * asked.height;
        let mut films = ["host.h264", "mix.h264"].map(|file| Lumas::open(&folder.join(file), samples));
        let mut before: Option<[Vec<u8>; 2]> = None;
        let mut seen = Seen { errors: vec![], steps: (vec![], vec![]) };
        let gop = (asked.gop_s * super::RATE) as usize;
        for index in 0.. {
            let [Some(plain), Some(mix)] = films.each_mut().map(Lumas::next) else { break };
            seen.errors.push(energy(&plain, &mix));
            if let Some([plain_before, mix_before]) = before.filter(|_| index % gop == 0) {
                seen.steps.0.push(energy(&plain_before, &plain));
                seen.steps.1.push(energy(&mix_before, &mix));
            }
            before = Some([plain, mix]);
        }
        assert_eq!(seen.errors.len(), (asked.seconds * super::RATE) as usize, "pictures are missing");
        seen
    }
}

/// Luma as coded, picture by picture.
struct Lumas {
    child: Child,
    pictures: ChildStdout,
    samples: usize,
}

impl Lumas {
    fn open(film: &Path, samples: usize) -> Lumas {
        let mut command = super::ffmpeg();
        command.args(["-f", "h264", "-i"]).arg(film);
        command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let pictures = child.stdout.take().unwrap();
        Lumas { child, pictures, samples }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut picture = vec![0; self.samples * 3 / 2];
        self.pictures.read_exact(&mut picture).ok()?;
        picture.truncate(self.samples);
        Some(picture)
    }
}

impl Drop for Lumas {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn energy(one: &[u8], other: &[u8]) -> f64 {
    let square = |(one, other): (&u8, &u8)| u64::from(one.abs_diff(*other)).pow(2);
    one.iter().zip(other).map(square).sum::<u64>() as f64 / one.len() as f64
}

fn psnr(error: f64) -> f64 {
    10.0 * (255.0 * 255.0 / error).log10()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
