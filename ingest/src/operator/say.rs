//! What an operator reads on standard output, line by line.
//!
//! In: text. Touches standard output; ends the program where nobody reads it any further, as `| head -1` does: that is no
//! fault, and what was to be done is done by then.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// Writes a line to standard output.
pub fn line(text: Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            eprintln!("standard output takes nothing: {error}");
            exit(1)
        }
    }
}

/// `println!` for operators' programs.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::operator::say::line(format_args!($($text)*)) };
}
