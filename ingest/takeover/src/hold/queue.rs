//! The kernel's packet queue (NFQUEUE) as a netlink socket.
//!
//! In: verdicts. Out: packets, cut to their headers. Written by hand because waiting for packets and confirmations at
//! once needs the descriptor. linux/netfilter/nfnetlink_queue.h.

use super::error::Error;
use super::ledger::Verdict;
use crate::error::{Purpose, SystemError};
use crate::sys::netlink::{ACK, Attributes, Messages, Netlink, REQUEST, Written, message};
use crate::sys::option;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// `NFNL_SUBSYS_QUEUE << 8`.
const QUEUE: u16 = 3 << 8;
const PACKET: u16 = QUEUE;
const VERDICT: u16 = QUEUE | 1;
const CONFIGURE: u16 = QUEUE | 2;
/// `NETLINK_NO_ENOBUFS`: a full socket drops packets instead of reporting an error.
const NO_ENOBUFS: i32 = 5;
/// IPv6 header, some extensions, the longest TCP header.
const COPY_RANGE: u32 = 160;
/// Bytes of packet news the socket may hold.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// One kernel queue. Dropped, the kernel drops all packets in it and every later one, until someone listens again.
#[derive(Debug)]
pub(super) struct Queue {
    link: Netlink,
    number: u16,
}

/// Verdicts on their way to the kernel.
#[derive(Debug, Default)]
pub(super) struct Outgoing(Vec<u8>);

impl Queue {
    /// Listens on queue `number`, of at most `length` packets.
    pub(super) fn bind(number: u16, length: u32) -> Result<Self, Error> {
        let link = Netlink::open(libc::NETLINK_NETFILTER).to("open the packet queue (nfnetlink_queue)")?;
        let queue = Self { link, number };
        // NFQNL_CFG_CMD_BIND
        let bind = queue.configure(Written::default().bytes(1, &[1, 0, 0, 0]));
        match bind {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => {
                return Err(Error::QueueTaken { queue: number });
            }
            // The kernel answers EPERM both to a stranger's queue and to missing rights; we had the rights to get here.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && is_listed(number) => {
                return Err(Error::QueueTaken { queue: number });
            }
            other => other.to("listen on the packet queue (NFQUEUE)")?,
        }
        let mut copy = COPY_RANGE.to_be_bytes().to_vec();
        copy.push(2); // NFQNL_COPY_PACKET
        queue.configure(Written::default().bytes(2, &copy)).to("set what the packet queue copies")?;
        queue.configure(Written::default().number(3, length)).to("set the packet queue's length")?;
        // NFQA_CFG_MASK, NFQA_CFG_FLAGS: NFQA_CFG_F_FAIL_OPEN is off, whoever used this number before.
        queue
            .configure(Written::default().number(4, 1).number(5, 0))
            .to("forbid the packet queue to fail open")?;
        let socket = queue.link.socket();
        option::set_int(socket, libc::SOL_NETLINK, NO_ENOBUFS, 1).to("quiet a full packet queue")?;
        option::set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)
            .to("enlarge the packet queue's buffer")?;
        Ok(queue)
    }

    fn configure(&self, attributes: Written) -> io::Result<()> {
        self.link.transact(&message(CONFIGURE, REQUEST | ACK, 1, &family(self.number), &attributes))
    }

    /// Shows each waiting packet: (its number in the queue, its bytes).
    pub(super) fn receive(&self, mut packet: impl FnMut(u32, &[u8])) -> Result<(), SystemError> {
        /// Packets at once, so that confirmations get their turn under a flood.
        const BATCH: usize = 256;
        let mut buffer = [0; 4096];
        for _ in 0..BATCH {
            let Some(datagram) = self.link.receive(&mut buffer).to("read the packet queue")? else { break };
            for (kind, body) in Messages(datagram) {
                if kind == PACKET {
                    show(body, &mut packet);
                }
            }
        }
        Ok(())
    }

    /// Notes a verdict; [`send`](Self::send) carries it out.
    pub(super) fn judge(&self, id: u32, verdict: Verdict, outgoing: &mut Outgoing) {
        let code = u32::from(verdict == Verdict::Leave); // NF_DROP 0, NF_ACCEPT 1
        let value = [code.to_be_bytes(), id.to_be_bytes()].concat();
        let attributes = Written::default().bytes(2, &value);
        outgoing.0.extend(message(VERDICT, REQUEST, 0, &family(self.number), &attributes));
    }

    /// Sends all verdicts in one call. A packet that may leave is on the wire when this returns.
    pub(super) fn send(&self, outgoing: &mut Outgoing) -> Result<(), SystemError> {
        if outgoing.0.is_empty() {
            return Ok(());
        }
        let sent = self.link.send(&outgoing.0).to("send verdicts to the packet queue");
        outgoing.0.clear();
        sent
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// `struct nfgenmsg`: family, version, the queue's number.
fn family(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [libc::AF_UNSPEC as u8, 0, high, low]
}

fn show(body: &[u8], packet: &mut impl FnMut(u32, &[u8])) {
    let mut id = None;
    let mut payload: &[u8] = &[];
    for (kind, value) in Attributes(body.get(4..).unwrap_or_default()) {
        match kind {
            1 => id = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            10 => payload = value,
            _ => {}
        }
    }
    if let Some(id) = id {
        packet(id, payload);
    }
}

/// Whether someone listens on this queue, as /proc tells.
fn is_listed(number: u16) -> bool {
    let list = std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue").unwrap_or_default();
    list.lines().any(|line| line.split_whitespace().next() == Some(&number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_message_gives_its_number_and_bytes() {
        let attributes = Written::default().bytes(1, &[0, 0, 0, 9, 8, 0, 3]).bytes(10, &[1, 2, 3]);
        let bytes = message(PACKET, 0, 0, &family(5), &attributes);
        let (_, body) = Messages(&bytes).next().unwrap();
        let mut seen = Vec::new();
        show(body, &mut |id, payload| seen.push((id, payload.to_vec())));
        show(&[], &mut |_, _| panic!("no attributes, no packet"));
        assert_eq!(seen, [(9, vec![1, 2, 3])]);
    }
}
