//! A marker's child process on its own: what `releve-ingest mark-worker` runs, for tests and for looking at the sandbox.
//!
//! `mark-worker` serves jobs; `mark-worker --probe` enters the sandbox, tries what must be refused and prints a line each.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("--probe") {
        return mark::worker::main();
    }
    let (hand, missing) = mark::sandbox::enter(mark::hand::Hand::start);
    for wall in missing {
        println!("missing {wall}");
    }
    let Ok(hand) = hand else {
        eprintln!("mark-worker: the system gives it no second thread");
        return ExitCode::FAILURE;
    };
    let say = |of: &str, tried: Vec<(&str, bool)>| {
        for (what, refused) in tried {
            println!("{} {what}{of}", if refused { "refused" } else { "allowed" });
        }
    };
    let ((), there) = hand.both(|| (), mark::sandbox::probe);
    say("", mark::sandbox::probe());
    say(", second hand", there);
    ExitCode::SUCCESS
}
