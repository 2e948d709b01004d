//! A publisher whose sequence numbers pass 2^32 soon after its begin, so that takeovers meet the wrap.
//!
//! A kernel begins a connection at a number that depends on both ends, by a secret, and rises by one each 64 ns. So the number
//! that a port begins with is seen once and known from then on: of many ports the one that comes first is taken, at the moment
//! at which it begins a little before 2^32. In: the capture. Out: a steady publisher, and events around its wrap.

use super::capture::Capture;
use super::events::{self, Stage};
use super::rig::Rig;
use crate::steady::{self, Steady};
use crate::wait_for;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use socket2::SockRef;
use std::time::{Duration, Instant};

/// Nanoseconds for which a beginning stays the same (Linux, `seq_scale`).
const NS_A_NUMBER: u64 = 64;
/// So far before 2^32 it begins: some twelve seconds of the feed, as long as viewers take to come in, and a few events.
const AHEAD: u32 = 9 << 20;
/// As good as hit: some 60 ms.
const NEAR: u32 = 1 << 20;
/// Before this event the wrap is awaited, until it is some 250 ms away.
const ON_THE_BRINK: usize = 3;
const BRINK: u32 = 192 << 10;
/// Ports that are tried; the first then comes within some seconds.
const PORTS: usize = 48;
/// A wait that is not worth it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Connects at the right moment.
///
/// # Errors
/// When no port comes in time, or the kernel counts in another way.
pub fn start(capture: &Capture, feed: &str, key: &str) -> Result<Steady> {
    let (to, goal) = (Rig::address()?, 0_u32.wrapping_sub(AHEAD));
    let mut best: Option<(Instant, u16)> = None;
    for _ in 0..PORTS {
        let socket = steady::connect(to, 0)?;
        let (at, port) = (Instant::now(), socket.local_addr()?.port());
        let begun = wait_for("a SYN", Duration::from_secs(1), || {
            let (seen, begun) = capture.newest()?;
            ensure!(seen == port, "port {seen}, not {port}");
            Ok(begun)
        })?;
        // Ended with a reset, or the port could not be used again.
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        drop(socket);
        let wait = Duration::from_nanos(u64::from(goal.wrapping_sub(begun)) * NS_A_NUMBER);
        let due = at + wait;
        if due > Instant::now() + Duration::from_millis(300) && best.is_none_or(|(other, _)| due < other) {
            best = Some((due, port));
        }
    }
    let Some((due, port)) = best else { anyhow::bail!("no port of {PORTS} comes") };
    let left = due.saturating_duration_since(Instant::now());
    ensure!(left < WAIT_MAX, "the first of {PORTS} ports comes in {left:?}");
    std::thread::sleep(left);
    let socket = steady::connect(to, port)?;
    let publisher = Steady::over(socket, feed, key)?;
    let (seen, begun) = capture.newest()?;
    let off = begun.wrapping_sub(goal).wrapping_add(NEAR);
    ensure!(seen == port && off < 2 * NEAR, "port {seen} began at {begun}, not near {goal}");
    Ok(publisher)
}

/// A handover; the last time a kill. Says how far behind the wrap its acknowledgements were.
///
/// # Errors
/// As a handover or a kill.
pub fn one(stage: &mut Stage, number: usize) -> Result<Value> {
    let behind = |stage: &Stage| -> i64 {
        let port = stage.steady.first().map_or(0, |one| one.port);
        i64::from(stage.capture.acknowledged(port).unwrap_or(0) as i32)
    };
    if number == ON_THE_BRINK {
        wait_for("wrap", WAIT_MAX, || {
            let behind = behind(stage);
            ensure!(behind > -i64::from(BRINK), "{behind} bytes behind");
            Ok(())
        })?;
    }
    let mut run = if number % 6 == 5 { events::kill(stage)? } else { events::hand_over(stage)? };
    run["behind_wrap"] = json!(behind(stage));
    Ok(run)
}
