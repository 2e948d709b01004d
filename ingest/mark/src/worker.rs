//! The child process: reads jobs and steps from its standard input, writes replies to its standard output.
//!
//! In: frames (`wire`). Out: frames, and a line on standard error for each wall that is missing. Touches nothing else,
//! and cannot (`sandbox`). Ends when its input ends. It serves one job at a time; a panic or a crash ends the process
//! and the pool starts another.

use crate::hand::Hand;
use crate::normalise::Session;
use crate::wire::{self, HEADER_BYTES, Kind};
use crate::{job, sandbox};
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Body of the process. Call it first thing, with no other thread running.
pub fn main() -> ExitCode {
    let (hand, missing) = sandbox::enter(Hand::start);
    let hand = match hand {
        Ok(hand) => hand,
        Err(error) => {
            eprintln!("mark worker: the system gives it no second thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut text = String::new();
    for wall in &missing {
        eprintln!("mark worker: no {wall}");
        text.push_str(&format!("{wall}\n"));
    }
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock(), &text, &hand) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mark worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves jobs until the input ends at a frame's edge.
///
/// # Errors
/// When the input is no frame or ends inside one, or the output is gone.
pub fn serve(input: &mut impl Read, output: &mut impl Write, missing: &str, hand: &Hand) -> io::Result<()> {
    output.write_all(&wire::hello(missing))?;
    output.flush()?;
    let mut header = [0; HEADER_BYTES];
    let mut session = Session::default();
    loop {
        if input.read(&mut header[..1])? == 0 {
            return Ok(());
        }
        input.read_exact(&mut header[1..])?;
        let (kind, length) = wire::read_header(&header).map_err(io::Error::other)?;
        if !matches!(kind, Kind::Job | Kind::Step) {
            return Err(io::Error::other(wire::WireError::Kind(kind as u8)));
        }
        let mut body = Vec::with_capacity(length);
        if input.take(length as u64).read_to_end(&mut body)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Without it the last renewal goes on counting: the pool's deadline is shorter anyway.
        let _ = sandbox::renew_cpu();
        let answer = if kind == Kind::Step {
            let (id, step) = wire::read_step(&body).map_err(io::Error::other)?;
            wire::stepped(id, &session.step(step).map_err(|error| error.to_string()))
        } else {
            let (id, work) = wire::read_job(&body).map_err(io::Error::other)?;
            wire::reply(id, &job::code(&work, hand).map_err(|error| error.to_string()))
        };
        output.write_all(&answer)?;
        output.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_that_is_no_job_ends_it() {
        let (mut output, hand) = (Vec::new(), Hand::start().unwrap());
        assert!(serve(&mut &b""[..], &mut output, "one wall", &hand).is_ok());
        assert_eq!(output, wire::hello("one wall"));
        assert!(serve(&mut &b"GET / HTTP/1.1\r\n\r\n"[..], &mut Vec::new(), "", &hand).is_err());
        assert!(serve(&mut &b"RLM"[..], &mut Vec::new(), "", &hand).is_err());
        assert!(serve(&mut &wire::hello("me too")[..], &mut Vec::new(), "", &hand).is_err());
    }
}
