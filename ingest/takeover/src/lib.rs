//! Moves live TCP connections and their address from one host to another. The relief shift that nobody notices.
//!
//! This package is the only one that touches the kernel's takeover machinery. `unsafe` code is in `sys` alone, one call
//! a function; everything public is safe. It decides nothing: who is holder and when is `failover`'s business.
//!
//! | module | what it is |
//! |---|---|
//! | [`socket`] | freeze, dump, restore one connection (TCP_REPAIR) |
//! | [`hold`] | no packet leaves before the standby has what it promises (NFQUEUE) |
//! | [`address`] | take, announce, give up the virtual address (netlink, ARP, NA, exec hook) |
//! | [`guardian`] | a parent that removes the address when the node dies |
//! | [`heir`] | the dead node's sockets close at once, its memory a moment later |
//! | [`realtime`], [`wait`], [`rights`] | punctual threads; waiting for several things at once; what is allowed here, in an operator's words |
//!
//! # Planned: handover
//!
//! ```text
//!          holder A                                          standby B
//!   1  Frozen::freeze      peer's segments are discarded
//!   2  Frozen::drain       read what had arrived
//!   3  Frozen::dump        repair mode, TcpState ──── state ───►  Quiet::restore    (transparent, mute)      4
//!   5  Announcing::cease, Ownership::give_up   nobody owns the address
//!   6  Dumped::depart      POINT OF NO RETURN   ───── go ──────►  Ownership::take                            7
//!                                                                 Quiet::go_live    (probe, then the tail)   8
//!                                                                 Announcing::begin                          9
//!  10  Departed::close  ◄───────────────────────────── done ────  (in repair mode: no FIN, no RST)
//! ```
//!
//! Why in this order:
//!
//! - *1 before 2 and 3*: a socket that still hears would acknowledge bytes after its state was taken down; they would be
//!   lost. The filter drops them unanswered, and the peer sends them again, to B.
//! - *2 before 3*: less to carry. Bytes that arrive in spite of it (a segment already past the filter) are seen by the
//!   dump, which repeats until nothing moves, and by the last check in `depart`.
//! - *3 before 5*: until the address is gone everything can be undone ([`socket::Dumped::thaw`]).
//! - *4 before 7*: a segment that finds the address on B but no connection is answered with a reset by B's kernel, and
//!   the connection is dead. So the socket is there first, bound transparently to an address that is still elsewhere.
//! - *5 before 6 before 7*: two owners answer each other's packets. A is off the address before B is told to go.
//! - *8 before 9*: whoever the announcement brings is to find the connection live. The probe that repair mode ends with
//!   reaches the peer anyway, and the peer's answer starts the stream without waiting for its timer.
//! - *unsent bytes after 8*: what is put back in repair mode counts as sent; the peer would wait for it for ever.
//! - *10 in repair mode*: an ordinary close would say FIN or RST for a connection that lives elsewhere. By then the
//!   address is gone as well, so even a killed A says nothing.
//!
//! # Unplanned: crash, power loss
//!
//! ```text
//!  holder A                                                  standby B
//!   hold::Rule, hold::Hold      every packet waits           receives every byte before A may acknowledge it
//!   SYN-ACK waits ── Event::Opened ── ends, numbers ──────►  knows the connection     ─► Hold::admit
//!   peek(stream) ──────────────────── Baseline ───────────►
//!   reads n bytes ─────────────────── bytes ──────────────►  Progress::received += n  ─► Hold::confirm
//!   writes m bytes ────────────────── bytes ──────────────►  Progress::sent           ─► Hold::confirm
//!   ✝                                                        reads the link empty, closes it (fence)
//!   (guardian gives the address up;                          Baseline::resume ─► Quiet::restore
//!    the rule without listener drops all)                    Ownership::take ─► Quiet::go_live ─► Announcing::begin
//! ```
//!
//! Everything A acknowledged is on B, so B continues at the last byte it has; what came after is still in the peer's
//! send buffer and comes again. A host that only *seemed* dead can acknowledge nothing without B and harms nobody.
//! Output is replicated before it is written: else the peer could acknowledge bytes that B does not know of.
//!
//! For whoever wires it:
//!
//! - *Rule, then address.* An address without its rule speaks unheld. On the way back: address away, then rule.
//! - *Hold, then rule*, else the kernel drops until the hold listens (safe, but slow).
//! - *The replication link is the last descriptor to be opened*, after every packet socket: the kernel closes the
//!   descriptors of a dead process newest first, and a packet socket takes it 5 to 15 ms. Measured: the standby saw the
//!   end of the link after 10 ms with the link first and after 0.4 ms with the link last.
//! - *Do not open or close an [`address::Announcer`] during a takeover*, for the same reason: [`address::Announcing`] is
//!   made once and told to begin and cease.
//! - *After a handover in protected mode* the new holder admits each connection with its old base and confirms what the
//!   new standby has; the old holder forgets it ([`hold::Hold::forget`]), which drops what still waited there.
//! - *Before a host that was killed becomes standby again* it destroys the orphans of its former connections
//!   ([`socket::destroy_orphan`]), with the rule installed.
//!
//! # Limits
//!
//! Only established connections move: half-closed ones finish where they are. Not carried over: ECN, MD5/AO keys,
//! congestion window (B starts with ten segments), options of the program such as no-delay. Linux only; x86-64 and
//! arm64.

pub mod address;
pub mod guardian;
pub mod heir;
pub mod hold;
pub mod realtime;
pub mod rights;
pub mod socket;

mod error;
mod sys;

pub use error::SystemError;
pub use sys::wait;
