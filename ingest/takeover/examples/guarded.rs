//! Runs a command under a guardian: `guarded INTERFACE ADDRESS COMMAND [ARGUMENT …]`.
//!
//! When the command ends, however it ends, the address is removed from the interface.

use std::process::{Command, ExitCode};
use takeover::address::{Interface, Ownership};
use takeover::guardian;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, address, program, rest @ ..] = &arguments[..] else {
        eprintln!("usage: guarded INTERFACE ADDRESS COMMAND [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    let outcome = (|| -> Result<_, Box<dyn std::error::Error>> {
        let ownership = Ownership::prepare(address.parse()?, &Interface::named(interface)?)?;
        Ok(guardian::watch(Command::new(program).args(rest), &[ownership])?)
    })();
    match outcome {
        Ok(ended) => {
            println!("ended {} removed={} took_us={}", ended.status, ended.removed, ended.took.as_micros());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("guarded: {error}");
            ExitCode::FAILURE
        }
    }
}
