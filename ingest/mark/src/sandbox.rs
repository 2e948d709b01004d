//! The walls of the worker process: what it can no longer do once a publisher's bytes arrive.
//!
//! In: a process with one thread and three open descriptors. Out: the same with the threads it needs and limits that it
//! cannot take back, and a list of those that this kernel refused. Linux: setrlimit(2), unshare(2), prctl(2), seccomp(2).
//!
//! | wall | against |
//! |---|---|
//! | address space 1 GiB | a picture that eats the node's memory |
//! | CPU seconds, renewed for each job | a picture that never ends, should the pool be gone |
//! | no further descriptor, no file bytes, no core, no process | use of the node by whoever took the decoder over |
//! | own, empty network namespace | the same |
//! | no new privileges, not traceable by its like | the same |
//! | system calls: memory, reading and writing what is open, clocks, exit; all others fail with EPERM | the same |

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{UnshareFlags, set_no_new_privs};
use rustix::time::{ClockId, clock_gettime};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};
use std::collections::BTreeMap;

/// Address space of a worker. A 4096 × 2304 picture with 16 reference frames takes about half.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;
/// Descriptors: input, output, errors.
const DESCRIPTORS: u64 = 3;
/// CPU time of one job; the pool's deadline is shorter, this one holds without it.
const JOB_CPU_S: u64 = 10;
/// `PROT_EXEC`: memory that code could be put in is refused.
const PROT_EXEC: u64 = libc::PROT_EXEC as u64;

/// A wall that this kernel or container refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which one.
    pub wall: &'static str,
    /// What the system said.
    pub reason: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.wall, self.reason)
    }
}

/// Puts up every wall it can, and returns the missing ones. Call it once, before the first job, from the only thread. What
/// `threads` starts is behind the same walls: namespaces are left before, because only a lone thread may leave them all, and
/// the rest holds for the process, or is laid on all of its threads.
#[must_use = "a missing wall must be told to the operator"]
pub fn enter<T>(threads: impl FnOnce() -> T) -> (T, Vec<Missing>) {
    let mut missing = Vec::new();
    let mut put = |wall, result: Result<(), String>| {
        if let Err(reason) = result {
            missing.push(Missing { wall, reason });
        }
    };
    put("network namespace", leave_network());
    let started = threads();
    put("address space limit", limit(Resource::As, ADDRESS_SPACE_BYTES));
    put("core file limit", limit(Resource::Core, 0));
    put("file size limit", limit(Resource::Fsize, 0));
    put("process limit", limit(Resource::Nproc, 0));
    put("CPU limit", renew_cpu());
    put("descriptor limit", limit(Resource::Nofile, DESCRIPTORS));
    put("not traceable", set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(said));
    put("no new privileges", set_no_new_privs(true).map_err(said));
    put("system call filter", filter());
    (started, missing)
}

/// Gives the process CPU time for one more job.
///
/// # Errors
/// What the system said.
pub fn renew_cpu() -> Result<(), String> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let soft = u64::try_from(used).unwrap_or(0) + JOB_CPU_S;
    setrlimit(Resource::Cpu, Rlimit { current: Some(soft), maximum: None }).map_err(said)
}

/// What a worker must not be able to do, tried; for tests. Each is named with whether it was refused.
pub fn probe() -> Vec<(&'static str, bool)> {
    let mut memory = Vec::<u8>::new();
    vec![
        ("udp socket", std::net::UdpSocket::bind("127.0.0.1:0").is_err()),
        ("tcp connection", std::net::TcpStream::connect("127.0.0.1:1").is_err_and(|error| refused(&error))),
        ("unix socket", std::os::unix::net::UnixStream::pair().is_err()),
        ("read a file", std::fs::File::open("/etc/passwd").is_err()),
        ("list a folder", std::fs::read_dir("/").is_err()),
        ("write a file", std::fs::File::create("/tmp/releve-probe").is_err()),
        ("run a program", std::process::Command::new("/bin/true").status().is_err()),
        ("start a thread", std::thread::Builder::new().spawn(|| ()).is_err()),
        ("4 GiB of memory", memory.try_reserve_exact(4 << 30).is_err()),
        ("64 MiB of memory", memory.try_reserve_exact(64 << 20).is_err()),
    ]
}

/// A wall's refusal, not a peer's.
fn refused(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

fn said(error: rustix::io::Errno) -> String {
    error.to_string()
}

fn limit(resource: Resource, value: u64) -> Result<(), String> {
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }).map_err(said)
}

/// An empty network namespace: at once for root, by way of a user namespace for others.
fn leave_network() -> Result<(), String> {
    unshare(UnshareFlags::NEWNET)
        .or_else(|_| unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET))
        .map_err(said)
}

/// Deprecated for what `UnshareFlags::FILES` may do, which is never asked for here.
#[expect(
    deprecated,
    reason = "the replacement is unsafe only because of UnshareFlags::FILES, which is not used"
)]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

fn filter() -> Result<(), String> {
    let always = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_munmap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigaction,
        libc::SYS_prlimit64,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = always.into_iter().map(|call| (call, vec![])).collect();
    let not_executable = || {
        let condition =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(PROT_EXEC), 0);
        condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(|error| error.to_string())
    };
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![not_executable()?]);
    }
    rules.insert(libc::SYS_mremap, vec![]);
    let architecture = std::env::consts::ARCH.try_into().map_err(|_| "unknown architecture".to_owned())?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        architecture,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}
