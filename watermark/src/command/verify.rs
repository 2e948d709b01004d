//! `verify-report`: does a report's arithmetic again from its own readings and opened keys.

use super::identify::read_register;
use super::{DONE, FAILED};
use crate::KeyBook;
use crate::trace::{page, verify};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// What is asked.
#[derive(Args)]
pub struct VerifyReport {
    /// The report: HTML, or the JSON of `identify`.
    #[arg(long)]
    report: PathBuf,
    /// File of opened keys, as `relevectl key open` prints it.
    #[arg(long)]
    keys: PathBuf,
    /// The register, where its ids are not made of the viewers' names.
    #[arg(long)]
    register: Option<PathBuf>,
}

/// Says whether it holds; 1 when it does not.
///
/// # Errors
/// When a file cannot be read.
pub fn verify_report(asked: VerifyReport) -> Result<u8> {
    let text = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let finding = page::finding_in(&text(&asked.report)?)
        .with_context(|| format!("{}: no report of this program", asked.report.display()))?;
    let keys = KeyBook::parse(&text(&asked.keys)?).with_context(|| asked.keys.display().to_string())?;
    let register = asked.register.as_deref().map(read_register).transpose()?;
    match verify(&finding, &keys, register.as_ref()) {
        Ok(said) => {
            said.iter().for_each(|line| println!("{line}"));
            println!("holds: {}", finding.verdict);
            Ok(DONE)
        }
        Err(error) => {
            println!("does not hold: {error}");
            Ok(FAILED)
        }
    }
}
