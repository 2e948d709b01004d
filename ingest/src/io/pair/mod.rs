//! Two nodes that share an address: what one was sent, the other has.
//!
//! `control` decides, `operate` is the operator's hand on it; `data` carries; `orders` is the line between the two halves.
//! `outline` is a connection as the books keep it, `pulse` is how control sees that data lives, `onward` brings a publisher that
//! came to one node's own address to the shared one.

pub mod control;
pub mod data;
pub mod onward;
pub mod operate;
pub mod orders;
pub mod outline;
pub mod pulse;

use crate::config::{Config, pair::Pair};
use crate::state_dir::{KeyKind, StateDir};
use anyhow::{Context, Result};
use control::{Control, Kernel};

/// Starts the control half, and gives what the data half is to be started with.
///
/// # Errors
/// Names what could not be read or opened.
pub fn start(config: &Config, pair: &Pair) -> Result<(Control, data::Start)> {
    let dir = StateDir::at(&config.dir);
    let keys = dir.keys(KeyKind::Cluster)?;
    let kernel = Kernel::Full { port: config.rtmp_listen.port() };
    let (control, line) = control::start(pair, &config.name, dir.root(), keys.clone(), kernel)
        .context("cannot start the pair's control half")?;
    let config = data::Config {
        protect: control.board.protect(),
        cluster: pair.cluster,
        node: pair.node,
        listen: pair.link_listen,
        dial: pair.link_peer,
        addresses: pair.addresses.iter().map(|address| address.ip).collect(),
        keys,
    };
    let start = data::Start {
        config,
        orders: line.orders,
        reports: line.reports,
        egress: line.egress,
        pulse: line.pulse,
    };
    Ok((control, start))
}
