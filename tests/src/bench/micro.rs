//! Throughput of single rooms, from their own benchmarks (`cargo bench`, which prints divan's tables).
//!
//! In: a package, its benchmark, a function and its argument. Out: the median in GB/s.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs one benchmark and gives the median throughput of `function` with `argument`, in GB/s.
///
/// # Errors
/// When it cannot be run or prints no such row.
pub fn gb_per_s(package: &str, bench: &str, function: &str, argument: &str) -> Result<f64> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root()).args(["bench", "--quiet", "--locked", "-p", package, "--bench", bench]);
    let out = cargo.args(["--", function]).output()?;
    ensure!(out.status.success(), "cargo bench -p {package}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout)?;
    of_table(&text, function, argument)
        .with_context(|| format!("{package}/{function}/{argument} in:\n{text}"))
}

/// The row of a function and its argument is followed by one with throughputs: fastest, slowest, median, mean.
fn of_table(text: &str, function: &str, argument: &str) -> Result<f64> {
    let mut lines = text.lines().skip_while(|line| !named(line, function)).skip(1);
    lines.by_ref().find(|line| named(line, argument)).context("no row of that argument")?;
    let figures = lines.next().context("no row of throughputs")?;
    let mut columns = figures.split('│').map(str::trim).filter(|column| column.ends_with("B/s"));
    let median = columns.nth(2).context("no median")?;
    let (figure, unit) = median.split_once(' ').context("a figure and its unit")?;
    let scale = match unit {
        "GB/s" => 1.0,
        "MB/s" => 1e-3,
        "KB/s" => 1e-6,
        other => anyhow::bail!("a unit that is not expected: {other}"),
    };
    Ok(figure.parse::<f64>()? * scale)
}

fn named(line: &str, name: &str) -> bool {
    line.split_whitespace().find(|word| !word.chars().all(|c| "│├╰─".contains(c))) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "parse            fastest       │ slowest       │ median        │ mean          │ samples │ iters\n\
        ├─ chunks                      │               │               │               │         │\n\
        │  ├─ 128        4.1 ms        │ 9.6 ms        │ 4.6 ms        │ 4.7 ms        │ 100     │ 100\n\
        │  │             1.4 GB/s      │ 627 MB/s      │ 1.303 GB/s    │ 1.2 GB/s      │         │\n\
        │  ╰─ 4096       1 ms          │ 2 ms          │ 1 ms          │ 1 ms          │ 100     │ 100\n\
        │                5 GB/s        │ 3 GB/s        │ 912.5 MB/s    │ 4 GB/s        │         │\n";

    #[test]
    fn divans_table_reads() {
        assert_eq!(of_table(TABLE, "chunks", "128").unwrap(), 1.303);
        assert_eq!(of_table(TABLE, "chunks", "4096").unwrap(), 0.9125);
        assert!(of_table(TABLE, "session", "128").is_err());
    }
}
