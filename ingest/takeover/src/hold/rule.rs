//! The rule that sends an address's packets into the queue: an nftables table of our own, written over netlink.
//!
//! In: addresses, port, queue number. Out: a [`Rule`] that stays until it is removed, also when the process dies: a
//! rule without a listener drops, which is what keeps FIN and RST of a killed process inside. On Linux 6.9 and later
//! the table is owned and persistent, so `nft flush ruleset` of somebody else does not touch it; on older kernels look
//! at [`Rule::is_installed`] now and then. linux/netfilter/nf_tables.h.
//!
//! ```text
//! table ip NAME { chain egress { type filter hook output priority 300;
//!     meta l4proto tcp  ip saddr ADDRESS  tcp sport PORT  queue num QUEUE        (no bypass, ever)
//! } }
//! ```
//!
//! Kernels without `CONFIG_NFT_QUEUE` get the xtables target NFQUEUE inside the same table (`CONFIG_NFT_COMPAT`).

use super::error::Error;
use crate::error::{Purpose, SystemError};
use crate::sys::netlink::{ACK, APPEND, Attributes, CREATE, EXCLUSIVE, Netlink, REQUEST, Written, message};
use std::io;
use std::net::IpAddr;

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = NFTABLES << 8;
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const GET_CHAIN: u16 = NFTABLES << 8 | 4;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`.
const OWNED_AND_PERSISTENT: u32 = 2 | 4;
const CHAIN: &str = "egress";
/// Behind every filter, so that what others drop never waits here.
const PRIORITY: u32 = 300;
/// `NF_INET_LOCAL_OUT`.
const HOOK_OUTPUT: u32 = 3;
const FAMILIES: [u8; 2] = [libc::NFPROTO_IPV4 as u8, libc::NFPROTO_IPV6 as u8];

/// How the kernel queues packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The nftables expression `queue`.
    Queue,
    /// The xtables target NFQUEUE, through the compatibility layer.
    Compatible,
}

/// An installed rule. It outlives this value and the process; [`remove`](Self::remove) ends it.
#[derive(Debug)]
pub struct Rule {
    /// Keeps the table ours where tables can be owned.
    link: Netlink,
    name: String,
    families: Vec<u8>,
    target: Target,
    owned: bool,
}

/// Which target this kernel has; finds out with a dry run that changes nothing.
///
/// # Errors
/// [`Error::NoTarget`], or missing rights.
pub fn supported_target() -> Result<Target, Error> {
    let link = open()?;
    let name = format!("probe_{}", std::process::id());
    let address = [IpAddr::from([192, 0, 2, 1])];
    let mut answer = Err(Error::NoTarget);
    for target in [Target::Queue, Target::Compatible] {
        let messages = creation(&name, &address, 1, 0, target, 0);
        // Without its end the kernel checks a batch and throws it away.
        match link.transact(&batch(&messages, false)) {
            Ok(()) => return Ok(target),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(error).to("look for the queue target (nf_tables)").map_err(Error::from);
            }
            Err(_) => answer = Err(Error::NoTarget),
        }
    }
    answer
}

impl Rule {
    /// Installs the rule in table `name`, replacing in one step whatever that table held (what a killed predecessor
    /// left, for example). Start the hold first: packets queued without a listener are dropped.
    ///
    /// # Errors
    /// Missing rights, no target, or a table of that name that another process owns.
    pub fn install(name: &str, addresses: &[IpAddr], port: u16, queue: u16) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::NoAddress);
        }
        let target = supported_target()?;
        let link = open()?;
        let families: Vec<u8> = FAMILIES
            .into_iter()
            .filter(|family| addresses.iter().any(|ip| family_of(*ip) == *family))
            .collect();
        let what = "install the hold rule (nf_tables)";
        // Remove what is there and create, all in one transaction; each table may or may not exist.
        let existing: Vec<u8> = FAMILIES
            .into_iter()
            .filter(|family| chain_use(&link, *family, name).is_ok_and(|n| n.is_some()))
            .collect();
        let attempt = |flags: u32| {
            let mut messages: Vec<Vec<u8>> =
                existing.iter().map(|family| table_message(DELETE_TABLE, 0, *family, name, 0)).collect();
            messages.extend(creation(name, addresses, port, queue, target, flags));
            link.transact(&batch(&messages, true))
        };
        let owned = match attempt(OWNED_AND_PERSISTENT) {
            Ok(()) => true,
            // Kernels before 6.9 do not know the flags.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
                attempt(0).to(what)?;
                false
            }
            Err(error) => return Err(error).to(what).map_err(Error::from),
        };
        Ok(Self { link, name: name.into(), families, target, owned })
    }

    /// How packets are queued.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether the kernel keeps others from changing the table.
    pub fn is_owned(&self) -> bool {
        self.owned
    }

    /// Whether the rule is still there. `false` means unprotected: say so loudly.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub fn is_installed(&self) -> Result<bool, SystemError> {
        for family in &self.families {
            let rules =
                chain_use(&self.link, *family, &self.name).to("look after the hold rule (nf_tables)")?;
            if rules.is_none_or(|rules| rules == 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the table. From here on packets leave unheld.
    ///
    /// # Errors
    /// The kernel refused; the rule is then still there.
    pub fn remove(self) -> Result<(), Error> {
        let messages: Vec<Vec<u8>> = self
            .families
            .iter()
            .map(|family| table_message(DELETE_TABLE, 0, *family, &self.name, 0))
            .collect();
        match self.link.transact(&batch(&messages, true)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other.to("remove the hold rule (nf_tables)").map_err(Error::from),
        }
    }
}

fn open() -> Result<Netlink, SystemError> {
    Netlink::open(libc::NETLINK_NETFILTER).to("open nf_tables (netlink)")
}

fn family_of(ip: IpAddr) -> u8 {
    FAMILIES[usize::from(ip.is_ipv6())]
}

/// How many rules our chain has; `None` when there is no such chain.
fn chain_use(link: &Netlink, family: u8, name: &str) -> io::Result<Option<u32>> {
    let attributes = Written::default().text(1, name).text(3, CHAIN);
    let mut rules = None;
    let asked =
        link.ask(&message(GET_CHAIN, REQUEST | ACK, 1, &[family, 0, 0, 0], &attributes), |kind, body| {
            if kind == NEW_CHAIN {
                let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                rules = Attributes(body.get(4..).unwrap_or_default())
                    .find(|(kind, _)| *kind == 6)
                    .and_then(|(_, v)| number(v));
            }
        });
    match asked {
        Ok(()) => Ok(rules),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Messages that create the tables, chains and rules.
fn creation(
    name: &str,
    addresses: &[IpAddr],
    port: u16,
    queue: u16,
    target: Target,
    flags: u32,
) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for family in FAMILIES {
        let mut own = addresses.iter().filter(|ip| family_of(**ip) == family).peekable();
        if own.peek().is_none() {
            continue;
        }
        messages.push(table_message(NEW_TABLE, CREATE | EXCLUSIVE, family, name, flags));
        let hook = Written::default().number(1, HOOK_OUTPUT).number(2, PRIORITY);
        let chain = Written::default().text(1, name).text(3, CHAIN).nested(4, hook).text(7, "filter");
        messages.push(message(NEW_CHAIN, REQUEST | ACK | CREATE | EXCLUSIVE, 1, &[family, 0, 0, 0], &chain));
        for address in own {
            let rule = Written::default()
                .text(1, name)
                .text(2, CHAIN)
                .nested(4, expressions(*address, port, queue, target));
            messages.push(message(NEW_RULE, REQUEST | ACK | CREATE | APPEND, 1, &[family, 0, 0, 0], &rule));
        }
    }
    messages
}

fn table_message(kind: u16, extra: u16, family: u8, name: &str, flags: u32) -> Vec<u8> {
    let mut attributes = Written::default().text(1, name);
    if flags != 0 {
        attributes = attributes.number(2, flags);
    }
    message(kind, REQUEST | ACK | extra, 1, &[family, 0, 0, 0], &attributes)
}

fn expressions(address: IpAddr, port: u16, queue: u16, target: Target) -> Written {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    const L4PROTO: u32 = 16;
    let (offset, source) = match address {
        IpAddr::V4(ip) => (12, ip.octets().to_vec()),
        IpAddr::V6(ip) => (8, ip.octets().to_vec()),
    };
    let load = |base: u32, offset: u32, length: usize| {
        Written::default().number(1, 1).number(2, base).number(3, offset).number(4, length as u32)
    };
    let equal = |value: &[u8]| {
        Written::default().number(1, 1).number(2, 0).nested(3, Written::default().bytes(1, value))
    };
    let element = |list: Written, name: &str, data: Written| {
        list.nested(1, Written::default().text(1, name).nested(2, data))
    };
    let list = element(Written::default(), "meta", Written::default().number(1, 1).number(2, L4PROTO));
    let list = element(list, "cmp", equal(&[libc::IPPROTO_TCP as u8]));
    let list = element(list, "payload", load(NETWORK, offset, source.len()));
    let list = element(list, "cmp", equal(&source));
    let list = element(list, "payload", load(TRANSPORT, 0, 2));
    let list = element(list, "cmp", equal(&port.to_be_bytes()));
    match target {
        Target::Queue => {
            let data = Written::default().bytes(1, &queue.to_be_bytes()).bytes(2, &1_u16.to_be_bytes());
            element(list, "queue", data)
        }
        Target::Compatible => {
            // struct xt_NFQ_info_v1, padded to eight bytes.
            let info = [queue.to_ne_bytes(), 1_u16.to_ne_bytes(), [0; 2], [0; 2]].concat();
            element(list, "target", Written::default().text(1, "NFQUEUE").number(2, 1).bytes(3, &info))
        }
    }
}

/// Messages as one transaction; without its end the kernel only checks them.
fn batch(messages: &[Vec<u8>], commit: bool) -> Vec<u8> {
    let [high, low] = NFTABLES.to_be_bytes();
    let mark = |kind| message(kind, REQUEST, 1, &[libc::AF_UNSPEC as u8, 0, high, low], &Written::default());
    let mut bytes = mark(BATCH_BEGIN);
    bytes.extend(messages.concat());
    if commit {
        bytes.extend(mark(BATCH_END));
    }
    bytes
}
