//! The lab's hand: builds the network, starts the programs, breaks things, compares.

use crate::netns::Namespace;
use crate::stage::{Fields, Network, PATIENCE, Program, Sink, value};
use crate::wire::{DOWN, UP, expected_hash, now};
use std::collections::HashMap;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use takeover::rights::{self, Right};

#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) v6: bool,
    /// The client offers no SACK, no timestamps, no window scaling.
    pub(crate) bare: bool,
    /// Three of a hundred packets are lost, each way.
    pub(crate) loss: bool,
    pub(crate) count: u32,
    pub(crate) trials: u32,
}

type Outcome = Result<(), String>;

pub(crate) fn run(scenario: &str, options: Options) -> ExitCode {
    let missing: Vec<String> = rights::probe()
        .into_iter()
        .filter(|finding| !matches!(finding.right, Right::RealTime | Right::LockedMemory))
        .filter(|finding| finding.missing.is_some())
        .map(|finding| finding.to_string())
        .collect();
    let reason = missing.first().cloned().or_else(|| {
        let found = Command::new("ip").arg("-V").output().is_ok();
        let probe = Namespace::new().err().map(|error| format!("no network namespaces: {error}"));
        let tool = !options.loss || Command::new("nft").arg("-v").output().is_ok();
        match (found, tool) {
            (true, true) => probe,
            (false, _) => Some("`ip` (iproute2) is not installed".into()),
            _ => Some("`nft` (nftables) is not installed, which makes the lossy line".into()),
        }
    });
    if let Some(reason) = reason {
        println!("SKIP: {reason}");
        return ExitCode::from(77);
    }
    let running = Arc::new(AtomicBool::new(true));
    let jitter = std::thread::spawn({
        let running = Arc::clone(&running);
        move || baseline(&running)
    });
    let outcome = match scenario {
        "handover" => handover(options),
        "calm" => calm(options),
        "kill" | "power" | "zombie" | "control" => crash(scenario, options),
        other => Err(format!("no scenario {other:?}: handover, calm, kill, power, zombie or control")),
    };
    running.store(false, Ordering::Release);
    row("scheduler: 1 ms sleeps late by", jitter.join().expect("the baseline thread"));
    match outcome {
        Ok(()) => {
            println!("PASS {scenario}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAIL {scenario}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// How late this machine wakes an ordinary thread: the yardstick for every time below. Microseconds.
fn baseline(running: &AtomicBool) -> Vec<u64> {
    let pause = Duration::from_millis(1);
    let mut late = Vec::new();
    while running.load(Ordering::Acquire) && late.len() < 1_000_000 {
        let start = Instant::now();
        std::thread::sleep(pause);
        late.push(start.elapsed().saturating_sub(pause).as_micros() as u64);
    }
    late
}

fn row(what: &str, mut microseconds: Vec<u64>) {
    microseconds.sort_unstable();
    let Some(last) = microseconds.len().checked_sub(1) else { return };
    let at = |per_mille: usize| microseconds[last * per_mille / 1000] as f64 / 1000.0;
    println!(
        "{what:<42} n={:<6} min {:.2}  p50 {:.2}  p90 {:.2}  p99 {:.2}  max {:.2} ms",
        last + 1,
        at(0),
        at(500),
        at(900),
        at(990),
        at(1000)
    );
}

/// What must hold whatever happened between the client's first and last byte.
fn verify(report: &Fields, sink: &Sink, hosts: u64) -> Outcome {
    let (length, hash) = sink.hash();
    let sent = value(report, "sent");
    let text = |name: &str| report.get(name).map_or("", String::as_str).to_string();
    println!(
        "client: sent {sent} bytes, got {}, {} hosts, {} changes of host, SYN {}, RST {}, early FIN {}, error {}, longest send {} ms",
        text("received"),
        text("hosts"),
        text("changes"),
        text("syn"),
        text("reset"),
        text("fin_early"),
        text("error"),
        text("longest_block_ms")
    );
    println!("SHA-256 sent     {}\nSHA-256 received {hash}", text("sent_hash"));
    let checks = [
        (text("error") == "none", "the client had an error"),
        (length == sent && hash == text("sent_hash"), "the hosts received other bytes than the client sent"),
        (hash == expected_hash(UP, sent), "the client did not send its stream"),
        (text("intact") == "true", "the client received other bytes than the server's stream"),
        (value(report, "received") == crate::wire::owed(sent), "the client did not receive the whole answer"),
        (value(report, "syn") == 1, "there was not exactly one SYN"),
        (value(report, "reset") == 0, "there was a RST"),
        (value(report, "fin_early") == 0, "the server said FIN first"),
        (value(report, "hosts") == hosts, "the segments did not come from as many hosts as they should"),
    ];
    debug_assert_ne!(UP, DOWN);
    checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why.into()))
}

fn handover(options: Options) -> Outcome {
    let network = Network::build(options);
    let sink = Sink::new();
    let family = if options.v6 { "--v6" } else { "--v4" };
    let a = Program::start("a", &network.a, &["role-node", "a", family], sink.path());
    let b = Program::start("b", &network.b, &["role-node", "b", family], sink.path());
    a.expect("ready", PATIENCE)?;
    b.expect("ready", PATIENCE)?;
    let mut client = Program::start("client", &network.client, &["role-client", family], sink.path());
    client.expect("connected", PATIENCE)?;
    network.spoil(options);
    std::thread::sleep(Duration::from_millis(200));
    let mut hosts = [a, b];
    let mut figures: HashMap<&str, Vec<u64>> = HashMap::new();
    let mut queues = [0; 3];
    for turn in 0..options.count {
        let [from, to] = &mut hosts;
        from.tell("handover");
        let live = to.expect("live", PATIENCE)?;
        let gone = from.expect("gone", PATIENCE)?;
        for (name, fields) in [
            ("blackout_us", &live),
            ("restore_us", &live),
            ("go_us", &live),
            ("dump_us", &gone),
            ("leave_us", &gone),
        ] {
            figures.entry(name).or_default().push(value(fields, name));
        }
        for (count, name) in queues.iter_mut().zip(["unread", "in_flight", "unsent"]) {
            *count += u32::from(value(&live, name) > 0);
        }
        hosts.swap(0, 1);
        // Not in step with the client's 2 ms.
        std::thread::sleep(Duration::from_micros(30_000 + 7_919 * u64::from(turn % 11)));
    }
    client.tell("stop");
    let report = client.expect("report", PATIENCE)?;
    println!("{} handovers on one connection", options.count);
    for (name, what) in [
        ("blackout_us", "freeze -> live on the peer (blackout)"),
        ("dump_us", "  old host: freeze, dump, send"),
        ("leave_us", "  old host: address away, go"),
        ("restore_us", "  new host: restore (overlaps)"),
        ("go_us", "  new host: go -> live"),
    ] {
        row(what, figures.remove(name).unwrap_or_default());
    }
    println!("handovers with bytes unread {}, in flight {}, unsent {}", queues[0], queues[1], queues[2]);
    if options.loss {
        let lost = network.lost();
        println!("the line lost {lost} packets");
        if lost == 0 {
            return Err("the lossy line lost nothing: it proves nothing".into());
        }
    }
    verify(&report, &sink, 2)
}

fn crash(scenario: &str, options: Options) -> Outcome {
    let mut figures: [Vec<u64>; 4] = Default::default();
    let mut broken = 0;
    for trial in 0..options.trials {
        let outcome = crash_once(scenario, options, trial, &mut figures);
        match (&outcome, scenario) {
            (Err(why), "control") => {
                println!("without the hold: {why}");
                broken += 1;
            }
            (Ok(()), "control") => println!("without the hold: nothing was lost, by luck"),
            _ => outcome?,
        }
    }
    let names = ["crash -> detected", "detected -> live", "crash -> live", "crash -> first new byte"];
    for (name, figures) in names.into_iter().zip(figures) {
        row(name, figures);
    }
    if scenario == "control" && broken < options.trials {
        return Err(format!(
            "only {broken} of {} connections broke without the hold: it proves nothing",
            options.trials
        ));
    }
    Ok(())
}

/// How long a zombie sleeps.
const ZOMBIE_PAUSE: Duration = Duration::from_millis(300);

/// Nothing breaks: the standby has every byte all the same, and the figures say what the hold costs.
fn calm(options: Options) -> Outcome {
    let network = Network::build(options);
    let sink = Sink::new();
    let family = if options.v6 { "--v6" } else { "--v4" };
    let holder = Program::start("holder", &network.a, &["role-holder", family, "--hold"], "");
    let mut standby = Program::start("standby", &network.b, &["role-standby", family], sink.path());
    holder.expect("ready", PATIENCE)?;
    standby.expect("ready", PATIENCE)?;
    let mut client = Program::start("client", &network.client, &["role-client", family], "");
    client.expect("connected", PATIENCE)?;
    network.spoil(options);
    std::thread::sleep(Duration::from_secs(2));
    client.tell("stop");
    let report = client.expect("report", PATIENCE)?;
    let end = holder.expect("end", PATIENCE)?;
    println!(
        "{} packets left, each held {} us on average, {} us at most",
        end["packets"], end["waited_us"], end["waited_max_us"]
    );
    standby.tell("end");
    standby.expect("end", PATIENCE)?;
    verify(&report, &sink, 1)
}

fn crash_once(scenario: &str, options: Options, trial: u32, figures: &mut [Vec<u64>; 4]) -> Outcome {
    let network = Network::build(options);
    let sink = Sink::new();
    let family = if options.v6 { "--v6" } else { "--v4" };
    let mode: &[&str] = if scenario == "control" { &["--lag"] } else { &["--hold"] };
    let arguments = [&["role-guardian", family], mode].concat();
    let holder = Program::start("holder", &network.a, &arguments, "");
    let standby = Program::start("standby", &network.b, &["role-standby", family], sink.path());
    let ready = holder.expect("ready", PATIENCE)?;
    standby.expect("ready", PATIENCE)?;
    if trial == 0 {
        println!("packets are queued by {}, table owned: {}", ready["target"], ready["owned"]);
    }
    let mut client = Program::start("client", &network.client, &["role-client", family], "");
    client.expect("connected", PATIENCE)?;
    network.spoil(options);
    std::thread::sleep(Duration::from_micros(400_000 + 13_331 * u64::from(trial)));
    let crashed = now();
    let signal = |number: i32| {
        let pid = value(&ready, "pid") as i32;
        assert!(pid > 1, "the holder said its number");
        // SAFETY: plain numbers; the process is the holder, whose guardian does not reap it before it dies.
        assert_eq!(unsafe { libc::kill(pid, number) }, 0);
    };
    match scenario {
        "power" => {
            network.switch.ip("link set pa down", None);
            network.a.ip("link set hb0 down", None);
        }
        // All of the node pauses, heartbeat included, and wakes believing that it is the holder.
        "zombie" => {
            signal(libc::SIGSTOP);
            std::thread::sleep(ZOMBIE_PAUSE);
            signal(libc::SIGCONT);
        }
        _ => signal(libc::SIGKILL),
    }
    if scenario != "power" {
        let ended = holder.expect("guardian", PATIENCE)?;
        println!("guardian: {} address removed, {} us after it woke", ended["removed"], ended["took_us"]);
        if value(&ended, "removed") != 1 {
            return Err("the guardian did not remove the address".into());
        }
    }
    let live = standby.expect("live", PATIENCE)?;
    std::thread::sleep(Duration::from_millis(700));
    client.tell("stop");
    let report = client.expect("report", PATIENCE * 2)?;
    let first = standby.expect("first", Duration::from_millis(500));
    let since = |at: u64| at.saturating_sub(crashed) / 1000;
    let detected = value(&live, "detected");
    figures[0].push(since(detected));
    figures[1].push(value(&live, "takeover_us"));
    figures[2].push(since(value(&live, "at")));
    if let Ok(first) = first {
        figures[3].push(since(value(&first, "at")));
    }
    if options.loss {
        let lost = network.lost();
        println!("the line lost {lost} packets");
        if lost == 0 {
            return Err("the lossy line lost nothing: it proves nothing".into());
        }
    }
    verify(&report, &sink, 2)
}
