//! Workers that die, hang, babble or lie: the pool goes on, and the sandbox refuses what it must.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use codec::{Entropy, GopEncoder, IntraConfig, IntraEncoder, Picture};
use common::{Stream, seed};
use mark::h264::nal;
use mark::normalise::coder::{Coder, CoderError};
use mark::normalise::{Rate, Session, Step};
use mark::{Job, Plan, Pool, PoolConfig, PoolError, mark};
use media::unit::VideoCoding;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Arc;
use std::time::Duration;

const WORKER: &str = env!("CARGO_BIN_EXE_mark-worker");

/// An IDR that openh264 has coded itself: these tests need no ffmpeg.
fn stream() -> Stream {
    let (width, height) = (192, 160);
    let samples = (0..width * height * 3 / 2).map(|i| (40 + ((i % width * 5) ^ (i / width * 3)) % 150) as u8);
    let picture = Picture::new(width, height, samples.collect()).unwrap();
    let config = IntraConfig { width, height, slices: 2, entropy: Entropy::Cabac };
    Stream::of_annexb(&IntraEncoder::new(config.whole(), 24).unwrap().encode(&picture).unwrap())
}

fn job(gop: usize) -> Job {
    let stream = stream();
    Plan::of(&stream.avcc(4)).unwrap().job(stream.units[0].bytes(4), seed(gop), 0, 35)
}

fn pool(program: &str, arguments: &[&str]) -> Pool {
    Pool::new(PoolConfig { deadline: Duration::from_secs(10), ..PoolConfig::new(program, arguments) })
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_worker_marks_as_this_process_does() {
    let pool = pool(WORKER, &[]);
    let missing = pool.start().await.unwrap();
    eprintln!("missing walls: {missing:?}");
    for gop in 0..3 {
        assert_eq!(pool.mark(job(gop)).await.unwrap(), mark(&job(gop)).unwrap());
    }
    let counts = pool.counts();
    assert_eq!((counts.jobs, counts.failures, counts.restarts), (3, 0, 0));
    assert!(counts.busy_us > 0);
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_costs_nothing() {
    let pool = Arc::new(pool(WORKER, &[]));
    pool.mark(job(0)).await.unwrap();
    let [pid] = pool.idle_pids()[..] else { panic!("one worker waits") };
    // Stopped, it takes the job and stays in it until it is killed.
    signal(pid, Signal::STOP);
    let at_work = tokio::spawn({
        let pool = pool.clone();
        async move { pool.mark(job(1)).await }
    });
    while !pool.idle_pids().is_empty() {
        tokio::task::yield_now().await;
    }
    signal(pid, Signal::KILL);
    assert_eq!(at_work.await.unwrap().unwrap(), mark(&job(1)).unwrap());
    assert_eq!(pool.mark(job(2)).await.unwrap(), mark(&job(2)).unwrap());
    let counts = pool.counts();
    assert_eq!((counts.jobs, counts.failures, counts.restarts), (3, 0, 1));
    assert_ne!(pool.idle_pids(), [pid]);
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_at_the_deadline() {
    let pool = Pool::new(PoolConfig { deadline: Duration::from_millis(700), ..PoolConfig::new(WORKER, &[]) });
    pool.mark(job(0)).await.unwrap();
    let [pid] = pool.idle_pids()[..] else { panic!("one worker waits") };
    signal(pid, Signal::STOP);
    // The second attempt, in a fresh worker, works.
    assert_eq!(pool.mark(job(1)).await.unwrap(), mark(&job(1)).unwrap());
    assert_eq!(pool.counts().restarts, 1);
    assert!(kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::CONT).is_err(), "it is gone");
}

/// The hello of a real worker, then whatever the shell prints.
fn impostor(prints: &str) -> Pool {
    let script = format!(r"printf 'RLM\002\000\000\000\000\000'; {prints}");
    Pool::new(PoolConfig { deadline: Duration::from_secs(1), ..PoolConfig::new("/bin/sh", &["-c", &script]) })
}

#[tokio::test]
async fn nonsense_lies_and_silence_fail_after_two_workers() {
    for (prints, expected) in [
        ("head -c 1000 /dev/zero", "nonsense"),
        ("exit 0", "gone"),
        ("sleep 60", "no answer within"),
        // An answer to job 9.
        (
            r"printf 'RLM\002\003\000\000\000\011\000\000\000\000\000\000\000\011x'; sleep 60",
            "answered job 9",
        ),
        // A second hello.
        (r"printf 'RLM\002\000\000\000\000\000'; sleep 60", "nonsense"),
        // A body that never ends.
        (r"printf 'RLM\002\002\377\000\000\000'; sleep 60", "nonsense"),
    ] {
        let pool = impostor(prints);
        let error = pool.mark(job(0)).await.unwrap_err();
        assert!(matches!(error, PoolError::Worker(_)), "{prints}: {error:?}");
        assert!(error.to_string().contains(expected), "{prints}: {error}");
        assert_eq!((pool.counts().failures, pool.counts().restarts), (1, 2), "{prints}");
    }
}

/// Coded, job 0, QP 20, no slices; then job 1.
#[tokio::test]
async fn a_picture_without_its_slices_is_a_lie() {
    let frame = |id: u8| {
        format!(r"printf 'RLM\002\002\000\000\000\014\000\000\000\000\000\000\000\{id:03o}\024\001\000\000';")
    };
    let pool = impostor(&format!("{} sleep 60", frame(0)));
    let error = pool.mark(job(0)).await.unwrap_err().to_string();
    assert!(
        error.contains("answered job 0, asked was 1"),
        "the first worker lied, the second answered late: {error}"
    );
    assert_eq!(pool.counts().restarts, 2);
}

#[tokio::test]
async fn a_program_that_does_not_start_is_given_a_rest() {
    let pool = pool("/nonexistent/mark-worker", &[]);
    let error = pool.mark(job(0)).await.unwrap_err();
    assert!(matches!(error, PoolError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("/nonexistent/mark-worker does not start"), "{error}");
    assert!(matches!(pool.mark(job(0)).await, Err(PoolError::Pausing)));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(matches!(pool.mark(job(0)).await, Err(PoolError::Start { .. })), "and tried again");
}

#[tokio::test]
async fn a_picture_that_does_not_decode_is_refused_and_the_worker_stays() {
    let pool = pool(WORKER, &[]);
    pool.start().await.unwrap();
    let workers = pool.idle_pids();
    let mut broken = stream();
    broken.units[0].nals[1].truncate(40);
    let bad = Job { access_unit: broken.units[0].bytes(4), ..job(0) };
    let error = pool.mark(bad).await.unwrap_err();
    assert!(matches!(error, PoolError::Refused(_)), "{error:?}");
    let empty = Job { access_unit: vec![].into(), ..job(0) };
    assert!(matches!(pool.mark(empty).await, Err(PoolError::Job(_))), "no worker is asked");
    pool.mark(job(0)).await.unwrap();
    assert_eq!((pool.idle_pids(), pool.counts().restarts), (workers, 0));
}

#[tokio::test]
async fn dropping_a_call_or_the_pool_kills_the_worker() {
    let pool = pool(WORKER, &[]);
    pool.mark(job(0)).await.unwrap();
    let [pid] = pool.idle_pids()[..] else { panic!("one worker waits") };
    signal(pid, Signal::STOP);
    assert!(tokio::time::timeout(Duration::from_millis(100), pool.mark(job(1))).await.is_err());
    gone(pid).await;
    pool.mark(job(2)).await.unwrap();
    let [pid] = pool.idle_pids()[..] else { panic!("one worker waits") };
    drop(pool);
    gone(pid).await;
}

/// Dead: no process, or one that only waits to be reaped.
async fn gone(pid: u32) {
    for _ in 0..500 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} lives on");
}

/// Flipped bits, cuts and swaps in 2,000 pictures: errors or marks, and the pool's own process is well.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_damaged_pictures() {
    let pool = Pool::new(PoolConfig {
        workers: 2,
        deadline: Duration::from_secs(10),
        ..PoolConfig::new(WORKER, &[])
    });
    let stream = stream();
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let (mut marked, mut refused, mut failed) = (0, 0, 0);
    for number in 0..2_000 {
        let mut unit = stream.units[0].clone();
        for _ in 0..=random(6) {
            let slice = random(unit.nals.len());
            let bytes = &mut unit.nals[slice];
            let near = if random(3) == 0 { bytes.len().min(12) } else { bytes.len() };
            let at = random(near);
            bytes[at] ^= 1 << random(8);
        }
        if random(5) == 0 {
            let last = unit.nals.last_mut().unwrap();
            let keep = 1 + random(last.len());
            last.truncate(keep);
        }
        let mut bytes = unit.bytes(4).to_vec();
        if random(10) == 0 {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        let job = plan.job(bytes.into(), seed(number), 0, 35);
        match pool.mark(job.clone()).await {
            Ok(result) => {
                assert_eq!(
                    result,
                    mark(&job).unwrap(),
                    "picture {number} is damaged, but the same for everyone"
                );
                marked += 1;
            }
            Err(PoolError::Job(_) | PoolError::Refused(_)) => refused += 1,
            Err(PoolError::Worker(error)) => {
                eprintln!("picture {number} brought two workers down: {error}");
                failed += 1;
            }
            Err(other) => panic!("picture {number}: {other}"),
        }
    }
    eprintln!("{marked} marked, {refused} refused, {failed} brought workers down, {:?}", pool.counts());
    assert!(marked > 0 && refused > 500);
    assert_eq!(pool.mark(job(0)).await.unwrap(), mark(&job(0)).unwrap());
}

/// 4096 × 2304 with 16 reference frames, which the decoder makes room for.
#[tokio::test]
async fn the_largest_picture_fits_the_worker() {
    let (width, height) = (4096, 2304);
    let samples = (0..width * height * 3 / 2).map(|i| (60 + ((i % width / 9) ^ (i / width / 5)) % 90) as u8);
    let picture = Picture::new(width, height, samples.collect()).unwrap();
    let config = IntraConfig { width, height, slices: 1, entropy: Entropy::Cabac };
    let mut stream =
        Stream::of_annexb(&IntraEncoder::new(config.whole(), 30).unwrap().encode(&picture).unwrap());
    stream.sps = with_16_references(&stream.sps);
    let pool = pool(WORKER, &[]);
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let marked = pool.mark(plan.job(stream.units[0].bytes(4), seed(0), 0, 35)).await.unwrap();
    assert_eq!((marked.slices, pool.counts().restarts), (8, 0));
}

fn with_16_references(sps: &[u8]) -> Vec<u8> {
    use mark::h264::bits::{BitReader, BitWriter, stop_bit};
    let payload = nal::unescape(sps);
    let mut read = BitReader::new("SPS", &payload);
    read.bits(32).unwrap();
    // id, chroma format, two depths; then two flags; frame number bits, picture order type 2.
    (0..4).for_each(|_| assert!(read.ue(99, "before the flags").is_ok()));
    read.bits(2).unwrap();
    read.ue(12, "log2_max_frame_num").unwrap();
    assert_eq!(read.ue(2, "pic_order_cnt_type"), Ok(2));
    let mut write = BitWriter::default();
    write.copy(&payload, 0, read.position());
    read.ue(16, "max_num_ref_frames").unwrap();
    write.ue(16);
    write.copy(&payload, read.position(), stop_bit(&payload).unwrap());
    write.trailing();
    nal::escape(&write.into_bytes())
}

#[test]
fn the_sandbox_refuses_files_sockets_programs_and_memory() {
    let output = std::process::Command::new(WORKER).arg("--probe").env_clear().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for what in [
        "udp socket",
        "tcp connection",
        "unix socket",
        "read a file",
        "list a folder",
        "write a file",
        "run a program",
        "start a thread",
        "4 GiB of memory",
    ] {
        for of in ["", ", second hand"] {
            assert!(text.contains(&format!("refused {what}{of}\n")), "{what}{of} in {text}");
        }
    }
    assert!(text.contains("allowed 64 MiB of memory"), "{text}");
    assert!(!text.contains("missing system call filter"), "{text}");
}

#[test]
fn a_worker_ends_with_its_input_and_refuses_strangers() {
    use std::io::Write;
    let run = |input: &[u8]| {
        let mut command = std::process::Command::new(WORKER);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait().unwrap()
    };
    assert!(run(b"").success());
    assert_eq!(run(b"GET / HTTP/1.1\r\n\r\n").code(), Some(1));
}

/// Ten pictures in one GOP, to be coded in two.
fn steps() -> Vec<Step> {
    let (width, height) = (192, 160);
    let mut encoder = GopEncoder::new(width, height, 24).unwrap();
    let coded = (0..10).map(|at| {
        let samples = (0..width * height * 3 / 2)
            .map(|i| (40 + (((i + at) % width * 5) ^ (i / width * 3)) % 150) as u8);
        encoder.encode(&Picture::new(width, height, samples.collect()).unwrap(), 24, at == 0).unwrap()
    });
    let stream = Stream::of_annexb(&coded.collect::<Vec<_>>().concat());
    let begin = Step::Begin {
        coding: VideoCoding::H264,
        record: stream.avcc(4),
        gop_90k: 15_000,
        rate: Rate::first(24, 9_000),
    };
    let picture = |(at, unit): (usize, &common::AccessUnit)| Step::Picture {
        pts_90k: at as i64 * 3_000,
        access_unit: unit.bytes(4),
    };
    [begin].into_iter().chain(stream.units.iter().enumerate().map(picture)).chain([Step::End]).collect()
}

#[tokio::test]
async fn a_worker_codes_a_stream_as_this_process_does() {
    let mut coder = Coder::start(&PoolConfig::new(WORKER, &[])).await.unwrap();
    let (mut session, mut pictures) = (Session::default(), 0);
    for step in steps() {
        let ours = session.step(step.clone()).unwrap();
        pictures += ours.pictures.len();
        assert_eq!(coder.step(&step).await.unwrap(), ours);
    }
    assert_eq!(pictures, 10);
}

#[tokio::test]
async fn a_stream_ends_with_its_worker_and_with_what_does_not_decode() {
    let steps = steps();
    let mut coder = Coder::start(&PoolConfig::new(WORKER, &[])).await.unwrap();
    for step in &steps[..4] {
        coder.step(step).await.unwrap();
    }
    signal(coder.pid().unwrap(), Signal::KILL);
    assert!(matches!(coder.step(&steps[4]).await, Err(CoderError::Worker(_))));

    let mut coder = Coder::start(&PoolConfig::new(WORKER, &[])).await.unwrap();
    coder.step(&steps[0]).await.unwrap();
    // A picture that refers to one that never came.
    assert!(matches!(coder.step(&steps[3]).await, Err(CoderError::Refused(_))));
    assert!(matches!(coder.step(&steps[4]).await, Err(CoderError::Refused(_))), "nothing goes on after it");
    coder.step(&steps[0]).await.unwrap();
    coder.step(&steps[1]).await.unwrap();
}
