//! What this process may do and this kernel can do, before anything depends on it.
//!
//! In: nothing. Out: one [`Finding`] for each right the takeover uses, and for each missing one what it costs and what
//! to do, in words for an operator. Probing changes nothing that outlives the call.

use crate::hold::supported_target;
use crate::socket::repair_allowed;
use crate::sys::process;
use std::fmt;

/// Something the takeover wants to be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// CAP_NET_ADMIN: addresses, packet rules, repair mode.
    NetworkAdministration,
    /// CAP_NET_RAW: announcements.
    RawPackets,
    /// TCP_REPAIR.
    Repair,
    /// NFQUEUE with a rule of our own.
    PacketHold,
    /// SCHED_FIFO.
    RealTime,
    /// mlockall.
    LockedMemory,
}

/// What was found about one right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which right.
    pub right: Right,
    /// Why it is missing, as far as the kernel says; `None` when it is there.
    pub missing: Option<String>,
}

impl Right {
    const ALL: [Self; 6] = [
        Self::NetworkAdministration,
        Self::RawPackets,
        Self::Repair,
        Self::PacketHold,
        Self::RealTime,
        Self::LockedMemory,
    ];

    /// What is lost without it.
    pub fn without(self) -> &'static str {
        match self {
            Self::NetworkAdministration => {
                "the virtual address cannot move: no takeover at all (except by exec hook)"
            }
            Self::RawPackets => {
                "neighbours are not told about a takeover: they may send to the old host for minutes"
            }
            Self::Repair => "connections cannot move: every takeover disconnects the publishers",
            Self::PacketHold => "a crash disconnects the publishers and may lose what they had just sent",
            Self::RealTime => "a busy machine may look dead: more false takeovers, or slower detection",
            Self::LockedMemory => "a machine short of memory may look dead: more false takeovers",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NetworkAdministration => "give the service CAP_NET_ADMIN (systemd: AmbientCapabilities)",
            Self::RawPackets => "give the service CAP_NET_RAW (systemd: AmbientCapabilities)",
            Self::Repair => "give the service CAP_NET_ADMIN over the network namespace it runs in",
            Self::PacketHold => {
                "give the service CAP_NET_ADMIN, and run a kernel with CONFIG_NFT_QUEUE (or CONFIG_NFT_COMPAT with \
                 CONFIG_NETFILTER_XT_TARGET_NFQUEUE) and CONFIG_NETFILTER_NETLINK_QUEUE"
            }
            Self::RealTime => "give the service CAP_SYS_NICE (systemd: LimitRTPRIO=60)",
            Self::LockedMemory => "give the service CAP_IPC_LOCK (systemd: LimitMEMLOCK=infinity)",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NetworkAdministration => "network administration (CAP_NET_ADMIN)",
            Self::RawPackets => "raw packets (CAP_NET_RAW)",
            Self::Repair => "moving connections (TCP_REPAIR)",
            Self::PacketHold => "holding packets (NFQUEUE)",
            Self::RealTime => "real-time scheduling (SCHED_FIFO)",
            Self::LockedMemory => "locked memory (mlock)",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missing {
            None => write!(out, "{}: yes", self.right),
            Some(why) => {
                write!(
                    out,
                    "{}: no ({why}). Without it {}. To get it, {}.",
                    self.right,
                    self.right.without(),
                    self.right.remedy()
                )
            }
        }
    }
}

/// Looks at every right.
pub fn probe() -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = effective_capabilities(&status).unwrap_or(0);
    Right::ALL.into_iter().map(|right| Finding { right, missing: missing(right, capabilities) }).collect()
}

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK: linux/capability.h.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;

fn missing(right: Right, capabilities: u64) -> Option<String> {
    let capability = |number: u32, name: &str| {
        (capabilities >> number & 1 == 0).then(|| format!("this process does not have {name}"))
    };
    match right {
        Right::NetworkAdministration => capability(NET_ADMIN, "CAP_NET_ADMIN"),
        Right::RawPackets => capability(NET_RAW, "CAP_NET_RAW"),
        Right::Repair => repair_allowed().err().map(|error| error.to_string()),
        Right::PacketHold => supported_target().err().map(|error| error.to_string()),
        Right::RealTime => real_time_refusal(),
        Right::LockedMemory => {
            let unlimited = process::lockable_memory().is_ok_and(|bytes| bytes == u64::MAX);
            if unlimited { None } else { capability(IPC_LOCK, "CAP_IPC_LOCK and may lock only some bytes") }
        }
    }
}

/// Tries on a thread of its own, which ends at once.
fn real_time_refusal() -> Option<String> {
    let attempt = std::thread::spawn(|| crate::realtime::fifo(1));
    match attempt.join() {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the probing thread ended unexpectedly".into()),
    }
}

/// The line `CapEff` of /proc/self/status.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_set() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000003000\n";
        let set = effective_capabilities(status).unwrap();
        assert_eq!(missing(Right::NetworkAdministration, set), None);
        assert_eq!(missing(Right::RawPackets, set), None);
        let why = missing(Right::RawPackets, 0).unwrap();
        let finding = Finding { right: Right::RawPackets, missing: Some(why) }.to_string();
        for words in ["CAP_NET_RAW", "neighbours", "AmbientCapabilities"] {
            assert!(finding.contains(words), "{finding}");
        }
        assert_eq!(effective_capabilities("CapEff:\tzz"), None);
    }

    #[test]
    fn every_right_is_looked_at_and_speaks() {
        let findings = probe();
        assert_eq!(findings.len(), Right::ALL.len());
        assert!(findings.iter().all(|finding| finding.missing.as_deref() != Some("")));
    }
}
