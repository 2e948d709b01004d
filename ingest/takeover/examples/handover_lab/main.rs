//! The lab: a publisher, two hosts and a switch in network namespaces of their own, and takeovers between the hosts.
//!
//! ```text
//!   client ──┐                       handover_lab handover [count]     planned, ping-pong on one connection
//!            ├── switch              handover_lab kill | power         crash with the packet hold
//!   host A ──┤                       handover_lab zombie               the holder sleeps and wakes as holder
//!   host B ──┘   A ── private ── B   handover_lab control              a crash without the hold: must break
//!                                    handover_lab calm                 nothing happens; what the hold costs
//!                                    options: --v6 --no-options --loss --trials=N
//! ```
//!
//! Both directions carry pseudo-random bytes whose SHA-256 are compared; the client counts SYN, FIN and RST on its
//! wire. Namespaces are anonymous and vanish with the processes. Needs root and `ip` (iproute2). Exit status: 0 as
//! expected, 1 not, 77 skipped for lack of rights.

#![allow(clippy::unwrap_used, reason = "a lab that cannot go on stops with the place where it stood")]

mod client;
mod handover;
mod lab;
mod netns;
mod pair;
mod stage;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |at: Option<&String>, default| at.and_then(|text| text.parse().ok()).unwrap_or(default);
    let v6 = has("--v6");
    match arguments.first().map_or("", String::as_str) {
        "role-node" => handover::node(&arguments[1], v6),
        "role-holder" => pair::holder(v6, has("--hold"), has("--lag")),
        "role-guardian" => pair::guardian(v6, &arguments),
        "role-standby" => pair::standby(v6),
        "role-client" => client::run(v6),
        scenario => {
            let trials = arguments.iter().find_map(|argument| argument.strip_prefix("--trials="));
            let options = lab::Options {
                v6,
                bare: has("--no-options"),
                loss: has("--loss"),
                count: number(arguments.get(1), 24),
                trials: trials.and_then(|text| text.parse().ok()).unwrap_or(1),
            };
            return lab::run(scenario, options);
        }
    }
    ExitCode::SUCCESS
}
