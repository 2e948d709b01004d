//! Processes beside a node that outlive it by a moment: the guardian of its address, its heir.

use crate::support::{allowed, example};
use crate::{MOMENT, PATIENCE, pair};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;
use takeover::address::{Interface, Ownership};
use takeover::rights::Right;

#[test]
fn the_guardian_hands_signals_on_and_removes_the_address() {
    if !allowed(&[Right::NetworkAdministration]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        let interface = Interface::named("eth0").unwrap();
        for ip in ["10.77.0.100", "fd77::100"] {
            let ownership = Ownership::prepare(ip.parse().unwrap(), &interface).unwrap();
            ownership.take().unwrap();
            let mut guardian = Command::new(example("guarded"))
                .args(["eth0", ip, "/bin/sh", "-c", "echo up; exec sleep 1000"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = guardian.stdout.take().unwrap();
            output.read_exact(&mut [0; 3]).unwrap();
            let pid = i32::try_from(guardian.id()).unwrap();
            // SAFETY: plain numbers; the guardian is our child and not reaped.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
            let mut said = String::new();
            output.read_to_string(&mut said).unwrap();
            assert!(said.contains("removed=1"), "{said}");
            assert!(said.contains(&format!("signal: {}", libc::SIGTERM)), "{said}");
            let status = guardian.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (Some(0), None));
            assert!(!ownership.give_up().unwrap());
            println!("{ip}: {said}");
        }
    });
}

#[test]
fn an_heir_has_nothing_of_its_process_open_hears_nothing_and_ends_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// Dies with the test.
    struct Mortal(std::process::Child);
    impl Drop for Mortal {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let asked = [&listener.local_addr().unwrap().to_string(), "16", "heir"];
    let mut mortal = Mortal(Command::new(example("mortal")).args(asked).spawn().unwrap());
    let (mut link, _) = listener.accept().unwrap();
    let mut number = [0; 4];
    link.read_exact(&mut number).unwrap();
    let heir = format!("/proc/{}", u32::from_be_bytes(number));
    let open = || {
        std::fs::read_dir(format!("{heir}/fd")).unwrap().map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
    };
    let since = Instant::now();
    while open().collect::<Vec<_>>() != [Some("anon_inode:[pidfd]".into())] {
        assert!(since.elapsed() < PATIENCE, "the heir has open: {:?}", open().collect::<Vec<_>>());
        std::thread::sleep(MOMENT);
    }
    let status = std::fs::read_to_string(format!("{heir}/status")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(line("Name:"), "releve-heir");
    assert_eq!(line("PPid:"), mortal.0.id().to_string());
    // Every signal but the two that nobody can block, and the two that glibc keeps for threads.
    let deaf = u64::from_str_radix(line("SigBlk:"), 16).unwrap();
    assert_eq!(deaf | 1 << 8 | 1 << 18 | 3 << 31, u64::MAX, "{status}");
    // What the node allocates after it is its memory, too.
    assert!(line("VmRSS:").trim_end_matches(" kB").parse::<u64>().unwrap() > 16 << 10, "{status}");
    mortal.0.kill().unwrap();
    assert!(matches!(link.read(&mut [0; 1]), Ok(0) | Err(_)), "the connection ends with its process");
    mortal.0.wait().unwrap();
    let since = Instant::now();
    // Dead, or waiting to be reaped by whoever adopted it.
    while std::fs::read_to_string(format!("{heir}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(since.elapsed() < PATIENCE, "the heir lives on");
        std::thread::sleep(MOMENT);
    }
}
