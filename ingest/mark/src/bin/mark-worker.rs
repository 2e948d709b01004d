//! A marker's child process on its own: what `releve-ingest mark-worker` runs, for tests and for looking at the sandbox.
//!
//! `mark-worker` serves jobs; `mark-worker --probe` enters the sandbox, tries what must be refused and prints a line each.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("--probe") {
        return mark::worker::main();
    }
    for wall in mark::sandbox::enter() {
        println!("missing {wall}");
    }
    for (what, refused) in mark::sandbox::probe() {
        println!("{} {what}", if refused { "refused" } else { "allowed" });
    }
    ExitCode::SUCCESS
}
