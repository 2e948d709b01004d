//! Two nodes on loopback that make the same of what one of them is sent. A small driver stands for the control half: it
//! gives the orders that an election would give. No rights are needed: a proxy stands for the kernel's move of a connection.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Encoder, Lab, seconds, soon, stream};
use failover::{Epoch, Gate};
use ingest_api::origin::Route;
use ingest_api::window::Marking;
use ingest_api::{Snapshot, Track};
use mirror::Role;
use releve_ingest::config::pair::Protect;
use releve_ingest::io::node::Node;
use releve_ingest::io::pair::data::{Config, Start};
use releve_ingest::io::pair::orders::{Order, Report};
use releve_ingest::io::pair::pulse::Pulse;
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::{Coordinator, MarkPolicy};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// One node, and the hand that drives its data half.
struct Side {
    lab: Lab,
    node: Node,
    orders: mpsc::UnboundedSender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Side {
    async fn new(lab: Lab, number: u16, protect: Protect, listen: SocketAddr, dial: SocketAddr) -> Side {
        let (orders, takes) = mpsc::unbounded_channel();
        let (said, reports) = mpsc::unbounded_channel();
        let start = Start {
            config: Config {
                protect,
                cluster: 7,
                node: number,
                listen,
                dial,
                addresses: Vec::new(),
                keys: lab.cluster.clone(),
            },
            orders: takes,
            reports: Arc::new(move |report| drop(said.send(report))),
            egress: None,
            pulse: Arc::new(Pulse::default()),
        };
        let node = lab.paired(GRACE, Some(start)).await;
        Side { lab, node, orders, reports }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    /// The next report that is wanted; others pass.
    async fn hears<T>(&mut self, wanted: impl Fn(Report) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = wanted(self.reports.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        soon(search).await
    }

    /// The bytes of everything that a snapshot lists: inits and objects.
    async fn bytes(&self, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for segment in &snapshot.segments {
            for track in &segment.tracks {
                let route = Route::Init { stream: stream(), init: track.init.clone() };
                let (status, init) = self.lab.ask(self.node.origin, route).await.unwrap();
                assert_eq!(status, 200);
                let route = Route::Segment { stream: stream(), track: track.track, number: segment.number };
                let (status, object) = self.lab.ask(self.node.origin, route).await.unwrap();
                assert_eq!(status, 200);
                all.extend([init, object]);
            }
        }
        all
    }
}

/// A holder and its standby.
struct Pair {
    holder: Side,
    standby: Side,
    epoch: Epoch,
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Pair {
    /// Two nodes with a folder each; the holder is alone.
    async fn alone(mark: MarkPolicy, protect: Protect) -> Pair {
        let (a, b) = (free_address(), free_address());
        let first = Lab::new(mark).await;
        let second = first.twin().await;
        let holder = Side::new(first, 1, protect, a, b).await;
        let standby = Side::new(second, 2, protect, b, a).await;
        holder.order(Order::OpenLink(Role::Holder, 1));
        holder.order(Order::Gate(Gate::Alone(1)));
        Pair { holder, standby, epoch: 1 }
    }

    /// The standby joins, and the two become a pair.
    async fn join(&mut self) {
        let epoch = self.epoch;
        self.standby.order(Order::OpenLink(Role::Standby, epoch));
        self.standby.hears(|report| matches!(report, Report::InStep(of) if of == epoch).then_some(())).await;
        self.holder.order(Order::TellPaired(epoch));
        self.holder.hears(|report| matches!(report, Report::Paired(of) if of == epoch).then_some(())).await;
        self.standby.hears(|report| matches!(report, Report::Paired(of) if of == epoch).then_some(())).await;
        self.holder.order(Order::Gate(Gate::Confirmed(epoch)));
    }

    async fn new(mark: MarkPolicy, protect: Protect) -> Pair {
        let mut pair = Pair::alone(mark, protect).await;
        pair.join().await;
        pair
    }

    /// Both list the same, byte for byte, from segment `first` on and at least so many.
    async fn alike(&self, first: u64, count: usize) -> Vec<ingest_api::window::Segment> {
        let enough = |snapshot: &Snapshot| {
            let from = snapshot.segments.iter().filter(|segment| segment.number >= first);
            from.count() >= count
        };
        let mut found = Vec::new();
        for side in [&self.holder, &self.standby] {
            let mut snapshot = side.lab.window(&side.node, enough).await;
            snapshot.segments.retain(|segment| (first..first + count as u64).contains(&segment.number));
            assert_eq!(snapshot.segments.len(), count);
            let bytes = side.bytes(&snapshot).await;
            found.push((snapshot.segments, snapshot.target_duration_s, snapshot.epoch, bytes));
        }
        let standby = found.pop().unwrap();
        let holder = found.pop().unwrap();
        assert!(holder == standby, "the two list different things:\n{:#?}\n{:#?}", holder.0, standby.0);
        holder.0
    }

    async fn stop(self) {
        tokio::join!(soon(self.holder.node.stop()), soon(self.standby.node.stop()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_segments() {
    let pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..5)).await;
    let segments = pair.alike(0, 4).await;
    assert_eq!(
        segments[0].tracks.iter().map(|track| track.track).collect::<Vec<_>>(),
        [Track::Video, Track::Audio]
    );
    encoder.leaves().await;
    pair.alike(0, 5).await;
    let theirs = pair.standby.lab.state.last_segment(&stream()).await.unwrap();
    assert_eq!(theirs, pair.holder.lab.state.last_segment(&stream()).await.unwrap());
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_marks() {
    let pair = Pair::new(MarkPolicy::Require, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..4)).await;
    let segments = pair.alike(0, 3).await;
    assert!(segments.iter().flat_map(|segment| &segment.gops).all(|gop| gop.marking == Marking::Marked));
    encoder.leaves().await;
    pair.stop().await;
}
