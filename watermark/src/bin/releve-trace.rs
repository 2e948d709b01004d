//! `releve-trace`: whose copy a leak is, and on which evidence.
//!
//! In: a command line. Out: an answer on stdout, notes on stderr, and how it ended: 0 done, or a viewer is named; 1 something
//! is missing or wrong, said on stderr; 2 the command line is wrong; 3 not enough evidence; 4 not our mark. Changes nothing.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use releve_watermark::command::codeword::{self, codeword};
use releve_watermark::command::identify::{self, identify};
use releve_watermark::command::inspect::{self, inspect};
use releve_watermark::command::verify::{self, verify_report};
use std::process::ExitCode;

/// Says which viewer a marked stream was made for, and what it was made of.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the viewer whose copy a clip is; of several clips the highest exit counts. Exit 0 named, 3 not enough evidence, 4 not ours.
    Identify(identify::Identify),
    /// Where a clip is from and which symbols it shows.
    Inspect(inspect::Inspect),
    /// Do a report's arithmetic again from opened keys.
    VerifyReport(verify::VerifyReport),
    /// The symbols a viewer must have received in a segment.
    Codeword(codeword::Asked),
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Identify(asked) => identify(asked),
        Command::Inspect(asked) => inspect(asked),
        Command::VerifyReport(asked) => verify_report(asked),
        Command::Codeword(asked) => codeword(asked),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("releve-trace: {error:#}");
            ExitCode::FAILURE
        }
    }
}
