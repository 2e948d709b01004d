//! The exec hook: a program that moves the address where the network belongs to somebody else.
//!
//! In: the program with its arguments, and the occasion. Out: success, or why not, with what the program printed.
//!
//! # Contract
//!
//! - Started without a shell, with exactly the arguments configured, in its own process group, standard input empty.
//! - Environment: only what is configured, `PATH` of this process, and
//!   `RELEVE_ACTION` (`acquire` or `release`), `RELEVE_ADDRESS` (the virtual address), `RELEVE_INTERFACE`,
//!   `RELEVE_NODE` (this node's name), `RELEVE_EPOCH` (decimal; grows with every takeover).
//! - Exit status 0 means: the network delivers the address here (`acquire`), or need not any more (`release`). Anything
//!   else means: not done. Asking again for what is already so must succeed.
//! - A cloud's API calls may arrive late: refuse an epoch lower than one already carried out.
//! - After the timeout the whole group is killed (SIGKILL) and the hook counts as failed. Processes it leaves behind
//!   are killed when it ends, too.
//! - Standard output and error are kept up to 64 KiB each, for the log; the rest is discarded.

use crate::error::{Purpose, SystemError};
use crate::sys::process;
use crate::sys::wait::readable;
use std::ffi::OsString;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes kept of each output.
const PRINTED_MAX: usize = 64 << 10;

/// A configured hook program.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Variables it gets in addition, credentials for example.
    pub environment: Vec<(OsString, OsString)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the hook shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bring the address here.
    Acquire,
    /// It is not ours any more.
    Release,
}

/// Why the hook runs.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// What to do.
    pub action: Action,
    /// The virtual address.
    pub ip: IpAddr,
    /// The interface it belongs on.
    pub interface: String,
    /// This node.
    pub node: String,
    /// The epoch that this takeover begins.
    pub epoch: u64,
}

/// What a hook printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// On standard output.
    pub output: String,
    /// On standard error.
    pub error: String,
}

/// Why a hook did not do its work.
#[derive(Debug, Error)]
pub enum HookError {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// No program is configured.
    #[error("the address hook has no program: set its argv")]
    NoProgram,
    /// It ended with another status than 0.
    #[error("the address hook {program:?} failed with {status}; it said: {}", printed.error.trim())]
    Failed {
        /// The program.
        program: OsString,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        printed: Printed,
    },
    /// It was killed after its time.
    #[error("the address hook {program:?} did not end within {timeout:?} and was killed; it said: {}", printed.error.trim())]
    TimedOut {
        /// The program.
        program: OsString,
        /// Its time.
        timeout: Duration,
        /// What it printed.
        printed: Printed,
    },
}

impl Hook {
    /// Runs the hook and waits for its end, at most for its timeout.
    ///
    /// # Errors
    /// It could not start, failed, or took too long.
    pub fn run(&self, occasion: &Occasion) -> Result<Printed, HookError> {
        let (program, arguments) = self.argv.split_first().ok_or(HookError::NoProgram)?;
        let action = match occasion.action {
            Action::Acquire => "acquire",
            Action::Release => "release",
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("RELEVE_ACTION", action)
            .env("RELEVE_ADDRESS", occasion.ip.to_string())
            .env("RELEVE_INTERFACE", &occasion.interface)
            .env("RELEVE_NODE", &occasion.node)
            .env("RELEVE_EPOCH", occasion.epoch.to_string())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Reaped(command.spawn().to("start the address hook")?);
        let (in_time, printed) = attend(&mut child.0, self.timeout)?;
        // Before the child is reaped its number is still its own, and so is its group's.
        process::kill_group(child.0.id()).to("end what the address hook left behind")?;
        let status = child.0.wait().to("reap the address hook")?;
        match (in_time, status.success()) {
            (true, true) => Ok(printed),
            (true, false) => Err(HookError::Failed { program: program.clone(), status, printed }),
            (false, _) => {
                Err(HookError::TimedOut { program: program.clone(), timeout: self.timeout, printed })
            }
        }
    }
}

/// A child that is killed and reaped on every way out.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = process::kill_group(self.0.id());
            let _ = self.0.wait();
        }
    }
}

/// Collects what the child prints until it ends or its time is over. `true` when it ended by itself.
fn attend(child: &mut Child, timeout: Duration) -> Result<(bool, Printed), SystemError> {
    let end = process::descriptor_of(child.id()).to("watch the address hook (pidfd)")?;
    let mut output = child.stdout.take();
    let mut error = child.stderr.take();
    let (mut output_bytes, mut error_bytes) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let mut ended = false;
    loop {
        // After its end only what is already in the pipes counts; a grandchild may hold them open for ever.
        let left = if ended { Duration::ZERO } else { timeout.saturating_sub(started.elapsed()) };
        let descriptors = [
            (!ended).then(|| end.as_fd()),
            output.as_ref().map(AsFd::as_fd),
            error.as_ref().map(AsFd::as_fd),
        ];
        let [end_ready, output_ready, error_ready] =
            readable(descriptors, Some(left)).to("wait for the address hook")?;
        if output_ready {
            read_some(&mut output, &mut output_bytes);
        }
        if error_ready {
            read_some(&mut error, &mut error_bytes);
        }
        ended |= end_ready;
        let over = started.elapsed() >= timeout;
        if (ended && !output_ready && !error_ready && !end_ready) || over {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Ok((ended, Printed { output: text(&output_bytes), error: text(&error_bytes) }));
        }
    }
}

/// One read of a pipe that is ready; closes it at its end.
fn read_some(pipe: &mut Option<impl Read>, kept: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    match pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
        Some(Ok(count)) if count > 0 => {
            let room = PRINTED_MAX - kept.len();
            kept.extend(&buffer[..count.min(room)]);
        }
        _ => *pipe = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Duration) -> Hook {
        let argv = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        Hook { argv, environment: vec![("TOKEN".into(), "t0".into())], timeout }
    }

    fn occasion() -> Occasion {
        Occasion {
            action: Action::Acquire,
            ip: "192.0.2.7".parse().unwrap(),
            interface: "eth0".into(),
            node: "a".into(),
            epoch: 7,
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_environment_is_the_contract_and_nothing_else() {
        let printed =
            hook("env | sort | grep -v -e ^PATH -e ^PWD -e ^SHLVL -e ^_= -e ^OLDPWD; echo e >&2", LONG)
                .run(&occasion())
                .unwrap();
        let expected = "RELEVE_ACTION=acquire\nRELEVE_ADDRESS=192.0.2.7\nRELEVE_EPOCH=7\nRELEVE_INTERFACE=eth0\nRELEVE_NODE=a\nTOKEN=t0\n";
        assert_eq!(printed, Printed { output: expected.into(), error: "e\n".into() });
    }

    #[test]
    fn failure_carries_the_status_and_the_words() {
        let error = hook("echo no quota >&2; exit 3", LONG).run(&occasion()).unwrap_err();
        assert!(matches!(&error, HookError::Failed { status, .. } if status.code() == Some(3)));
        assert!(error.to_string().contains("no quota"), "{error}");
        let missing = Hook { argv: vec!["/nonexistent/hook".into()], environment: vec![], timeout: LONG };
        assert!(matches!(missing.run(&occasion()), Err(HookError::System(_))));
        let empty = Hook { argv: vec![], environment: vec![], timeout: LONG };
        assert!(matches!(empty.run(&occasion()), Err(HookError::NoProgram)));
    }

    #[test]
    fn after_its_time_the_whole_group_is_gone() {
        // The background process would hold the pipe open for ever if it survived.
        let error = hook("sleep 1000 & echo $!; sleep 1000", Duration::from_millis(300))
            .run(&occasion())
            .unwrap_err();
        let HookError::TimedOut { printed, .. } = error else { panic!("{error}") };
        let straggler = printed.output.trim();
        assert!(!straggler.is_empty());
        assert!(is_over(straggler), "process {straggler} survived");
    }

    #[test]
    fn a_straggler_neither_delays_success_nor_survives_it() {
        let printed = hook("sleep 1000 & echo $!", LONG).run(&occasion()).unwrap();
        assert!(is_over(printed.output.trim()));
    }

    #[test]
    fn a_flood_of_output_is_cut() {
        let printed = hook("head -c 1000000 /dev/zero; echo done >&2", LONG).run(&occasion()).unwrap();
        assert_eq!(printed.output.len(), PRINTED_MAX);
        assert_eq!(printed.error, "done\n");
    }

    /// Gone, or a zombie that its new parent has not reaped yet. The kill is sent, its effect may take a moment.
    fn is_over(pid: &str) -> bool {
        (0..500).any(|_| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let over = state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"));
            if !over {
                std::thread::sleep(Duration::from_millis(10));
            }
            over
        })
    }
}
