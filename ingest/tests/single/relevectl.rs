//! `relevectl` as a shell meets it: somebody reads only the first line, or something is wrong.

use crate::common::Lab;
use releve_state::coordinator::MarkPolicy;
use std::process::{Command, Output, Stdio};

fn relevectl(lab: &Lab, arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relevectl"));
    command.arg("--dir").arg(lab.folder.path()).args(arguments).env("RUST_BACKTRACE", "1");
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[tokio::test]
async fn who_reads_no_further_is_no_fault() {
    let lab = Lab::new(MarkPolicy::Off).await;
    for arguments in [&["stream", "list"][..], &["stream", "list", "--json"], &["status"], &["key", "list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = relevectl(&lab, arguments, writer.into());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let output = relevectl(&lab, &["stream", "encrypt", "elsewhere", "cbcs"], Stdio::null());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "relevectl: there is no stream `elsewhere`\n");
}
