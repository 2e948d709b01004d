//! Two nodes on loopback, a hand that drives their data halves, and a cable that stands for the kernel's move of a connection.

use crate::common::{Lab, soon, stream};
use failover::{Epoch, Gate};
use ingest_api::Snapshot;
use ingest_api::origin::Route;
use ingest_api::window::Segment;
use mirror::Role;
use releve_ingest::config::pair::Protect;
use releve_ingest::io::node::Node;
use releve_ingest::io::pair::data::{Config, Start};
use releve_ingest::io::pair::orders::{Egress, Order, Report, Resumed, Socket};
use releve_ingest::io::pair::pulse::Pulse;
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::MarkPolicy;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Less than `soon` waits, so that the words on it are better.
const ALIKE_MAX: Duration = Duration::from_secs(25);

/// One node, and the hand that drives its data half.
pub(crate) struct Side {
    pub(crate) lab: Lab,
    pub(crate) node: Node,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) reports: mpsc::UnboundedReceiver<Report>,
}

impl Side {
    pub(crate) async fn new(
        lab: Lab,
        number: u16,
        protect: Protect,
        listen: SocketAddr,
        dial: SocketAddr,
    ) -> Side {
        Side::with(lab, number, protect, listen, dial, None).await
    }

    pub(crate) async fn with(
        lab: Lab,
        number: u16,
        protect: Protect,
        listen: SocketAddr,
        dial: SocketAddr,
        egress: Option<Arc<dyn Egress>>,
    ) -> Side {
        Side::sharing(lab, number, protect, (listen, dial), egress, Vec::new()).await
    }

    /// The same, where only what comes to these addresses has a twin.
    async fn sharing(
        lab: Lab,
        number: u16,
        protect: Protect,
        (listen, dial): (SocketAddr, SocketAddr),
        egress: Option<Arc<dyn Egress>>,
        addresses: Vec<IpAddr>,
    ) -> Side {
        let (orders, takes) = mpsc::unbounded_channel();
        let (said, reports) = mpsc::unbounded_channel();
        let start = Start {
            config: Config {
                protect,
                cluster: 7,
                node: number,
                listen,
                dial,
                addresses,
                keys: lab.cluster.clone(),
            },
            orders: takes,
            reports: Arc::new(move |report| drop(said.send(report))),
            egress,
            pulse: Arc::new(Pulse::default()),
        };
        let node = lab.paired(GRACE, Some(start)).await;
        Side { lab, node, orders, reports }
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    /// The next report that is wanted; others pass.
    pub(crate) async fn hears<T>(&mut self, wanted: impl Fn(Report) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = wanted(self.reports.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        soon(search).await
    }

    /// The bytes of everything that a snapshot lists: inits and objects, and what is made of them.
    pub(crate) async fn bytes(&self, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for segment in &snapshot.segments {
            if let Some(of) = segment.mpeg_ts() {
                let route = Route::MpegTs { stream: stream(), number: segment.number, of };
                let (status, muxed) = self.lab.ask(self.node.origin, route).await.unwrap();
                assert_eq!(status, 200);
                all.push(muxed);
            }
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

/// Stands between a publisher and its node, and for the kernels of both: what was not acknowledged is sent again to the node
/// that has the connection next.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    pub(crate) sent: Arc<Mutex<Vec<u8>>>,
    pub(crate) heard: Arc<Mutex<u64>>,
    pub(crate) next: mpsc::UnboundedSender<(TcpStream, u64)>,
}

impl Cable {
    pub(crate) async fn to(node: &Node) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, heard) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<u64>>::default());
        let (next, mut nexts) = mpsc::unbounded_channel::<(TcpStream, u64)>();
        let first = TcpStream::connect(node.rtmp).await.unwrap();
        let (log, count) = (sent.clone(), heard.clone());
        tokio::spawn(async move {
            let (mut publisher, _) = listener.accept().await.unwrap();
            let mut node = Some(first);
            let (mut up, mut down) = (vec![0; 9_000], vec![0; 9_000]);
            loop {
                tokio::select! {
                    biased;
                    Some((mut socket, from)) = nexts.recv() => {
                        let again = log.lock().unwrap()[from as usize..].to_vec();
                        socket.write_all(&again).await.unwrap();
                        node = Some(socket);
                    }
                    read = publisher.read(&mut up) => {
                        let read = read.unwrap_or(0);
                        log.lock().unwrap().extend_from_slice(&up[..read]);
                        let Some(node) = &mut node else { continue };
                        match read {
                            0 => {
                                node.shutdown().await.unwrap();
                                // Its last words.
                                let mut rest = Vec::new();
                                let _ = node.read_to_end(&mut rest).await;
                                let _ = publisher.write_all(&rest).await;
                                return;
                            }
                            read => drop(node.write_all(&up[..read]).await),
                        }
                    }
                    read = async { node.as_mut().unwrap().read(&mut down).await }, if node.is_some() => {
                        match read {
                            Ok(read @ 1..) => {
                                *count.lock().unwrap() += read as u64;
                                publisher.write_all(&down[..read]).await.unwrap();
                            }
                            // A dead node says nothing.
                            _ => node = None,
                        }
                    }
                }
            }
        });
        Cable { address, sent, heard, next }
    }

    /// The publisher's connection goes on at a node that has so much of it. What is given back is that node's end.
    pub(crate) async fn moves(&self, received: u64) -> std::net::TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        self.next.send((far, received)).unwrap();
        near.into_std().unwrap()
    }
}

/// A holder and its standby.
pub(crate) struct Pair {
    pub(crate) holder: Side,
    pub(crate) standby: Side,
    pub(crate) epoch: Epoch,
}

pub(crate) fn survivors(report: Report) -> Option<Option<Vec<mirror::Survived>>> {
    match report {
        Report::Survived(survived) => Some(survived),
        _ => None,
    }
}

pub(crate) fn detached(report: Report) -> Option<Vec<Socket>> {
    match report {
        Report::Detached(sockets) => Some(sockets),
        _ => None,
    }
}

/// Below the ports that the kernel gives to those who ask for any: nobody takes it meanwhile.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mut free = std::iter::repeat_with(|| {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 97;
        SocketAddr::from(([127, 0, 0, 1], 20_000 + (number % 12_000) as u16))
    });
    free.find(|address| std::net::TcpListener::bind(address).is_ok()).unwrap()
}

impl Pair {
    /// Two nodes with a folder each; the holder is alone.
    pub(crate) async fn alone(mark: MarkPolicy, protect: Protect) -> Pair {
        let first = Lab::new(mark).await;
        let second = first.twin().await;
        let (a, b) = (free_address(), free_address());
        Pair::of((first, a, b), (second, b, a), protect).await
    }

    /// Two nodes, each with where it listens and where it dials; the first one holds, alone.
    pub(crate) async fn of(
        first: (Lab, SocketAddr, SocketAddr),
        second: (Lab, SocketAddr, SocketAddr),
        protect: Protect,
    ) -> Pair {
        let holder = Side::new(first.0, 1, protect, first.1, first.2).await;
        let standby = Side::new(second.0, 2, protect, second.1, second.2).await;
        Pair::between(holder, standby).await
    }

    pub(crate) async fn between(holder: Side, standby: Side) -> Pair {
        holder.order(Order::OpenLink(Role::Holder, 1));
        holder.order(Order::Gate(Gate::Alone(1)));
        let holds = async {
            while !holder.node.pair_status().unwrap().holder {
                tokio::task::yield_now().await;
            }
        };
        soon(holds).await;
        Pair { holder, standby, epoch: 1 }
    }

    /// The standby joins, and the two become a pair.
    pub(crate) async fn join(&mut self) {
        let epoch = self.epoch;
        self.standby.order(Order::OpenLink(Role::Standby, epoch));
        self.standby.hears(|report| matches!(report, Report::InStep(of) if of == epoch).then_some(())).await;
        self.holder.order(Order::TellPaired(epoch));
        self.holder.hears(|report| matches!(report, Report::Paired(of) if of == epoch).then_some(())).await;
        self.standby.hears(|report| matches!(report, Report::Paired(of) if of == epoch).then_some(())).await;
        self.holder.order(Order::Gate(Gate::Confirmed(epoch)));
    }

    pub(crate) async fn new(mark: MarkPolicy, protect: Protect) -> Pair {
        let mut pair = Pair::alone(mark, protect).await;
        pair.join().await;
        pair
    }

    /// Two nodes that share an address and have others of their own; not a pair yet.
    pub(crate) async fn sharing(address: IpAddr) -> Pair {
        let first = Lab::new(MarkPolicy::Off).await;
        let second = first.twin().await;
        let (a, b) = (free_address(), free_address());
        let side = |lab, number, link| Side::sharing(lab, number, Protect::Commit, link, None, vec![address]);
        let (holder, standby) = (side(first, 1, (a, b)).await, side(second, 2, (b, a)).await);
        Pair::between(holder, standby).await
    }

    /// How the two stand, for whoever wonders.
    fn facts(&self) -> String {
        let of = |side: &Side| side.node.pair_status().unwrap();
        format!("holder {:#?}, standby {:#?}", of(&self.holder), of(&self.standby))
    }

    /// Both list the same, byte for byte, from segment `first` on and at least so many.
    pub(crate) async fn alike(&self, first: u64, count: usize) -> Vec<Segment> {
        let enough = |snapshot: &Snapshot| {
            let from = snapshot.segments.iter().filter(|segment| segment.number >= first);
            from.count() >= count
        };
        let mut found = Vec::new();
        for side in [&self.holder, &self.standby] {
            let listed = timeout(ALIKE_MAX, side.lab.window(&side.node, enough)).await;
            let Ok(mut snapshot) = listed else {
                let now = side.lab.window(&side.node, |_| true).await;
                let numbers: Vec<_> = now.segments.iter().map(|segment| segment.number).collect();
                let which = if std::ptr::eq(side, &self.holder) { "holder" } else { "standby" };
                panic!("the {which} lists {numbers:?}, live: {}, not {count}: {}", now.live, self.facts());
            };
            snapshot.segments.retain(|segment| (first..first + count as u64).contains(&segment.number));
            assert_eq!(snapshot.segments.len(), count);
            let bytes = side.bytes(&snapshot).await;
            found.push((snapshot.segments, snapshot.target_duration_s, bytes));
        }
        self.epochs_in_order().await;
        let standby = found.pop().unwrap();
        let holder = found.pop().unwrap();
        assert!(holder == standby, "the two list different things:\n{:#?}\n{:#?}", holder.0, standby.0);
        holder.0
    }

    /// Once all publishers have left: everything that both list, byte for byte the same; at least so much at the holder.
    pub(crate) async fn ended(&self, least: usize) -> Vec<Segment> {
        let calm = async {
            let mut before = None;
            loop {
                let holder = self.holder.lab.window(&self.holder.node, |now| !now.live).await.segments;
                let standby = self.standby.lab.window(&self.standby.node, |now| !now.live).await.segments;
                let last = |of: &[Segment]| of.last().map(|last| last.number);
                if last(&holder) == last(&standby) && last(&holder) == before && holder.len() >= least {
                    let first = standby[0].number;
                    return holder.into_iter().filter(|segment| segment.number >= first).collect::<Vec<_>>();
                }
                before = last(&holder);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let segments = soon(calm).await;
        assert_eq!(self.alike(segments[0].number, segments.len()).await, segments);
        segments
    }

    /// No standby's fencing term is above the holder's for long: relays would refuse the holder.
    pub(crate) async fn epochs_in_order(&self) {
        let same = async {
            loop {
                let holder = self.holder.lab.listed(&self.holder.node, 1).await.epoch;
                let standby = self.standby.lab.listed(&self.standby.node, 1).await.epoch;
                if holder >= standby {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(same).await;
    }

    /// The holder has died: the standby holds, and its publishers' connections go on there, in the order in which they began.
    pub(crate) async fn crash(&mut self, cables: &[&Cable]) {
        let standby = &mut self.standby;
        standby.order(Order::CloseLink);
        standby.hears(|report| matches!(report, Report::LinkDown).then_some(())).await;
        standby.order(Order::TakeOver);
        let survived = standby.hears(survivors).await.expect("it was paired");
        assert_eq!(survived.len(), cables.len());
        let mut resumed = Vec::new();
        for (survivor, cable) in survived.iter().zip(cables) {
            assert!(survivor.received <= cable.sent.lock().unwrap().len() as u64);
            assert_eq!(survivor.sent_from + survivor.sent.len() as u64, *cable.heard.lock().unwrap());
            let stream = cable.moves(survivor.received).await;
            resumed.push(Resumed { connection: survivor.connection, stream, tcp: "outline".into() });
        }
        standby.order(Order::Resume(resumed));
        self.epoch += 1;
        standby.order(Order::Gate(Gate::Alone(self.epoch)));
    }

    /// A planned handover: the socket itself stands for the connection that the kernels move.
    pub(crate) async fn hand_over(&mut self) {
        let sockets = self.detach().await;
        self.give(sockets).await;
    }

    /// Its first half: the holder's sockets.
    pub(crate) async fn detach(&mut self) -> Vec<Socket> {
        self.holder.order(Order::Gate(Gate::Held));
        self.holder.order(Order::Detach);
        self.holder.hears(detached).await
    }

    /// Its second half: they live at the standby, which holds now.
    pub(crate) async fn give(&mut self, sockets: Vec<Socket>) {
        let mut resumed = Vec::new();
        for Socket { connection, stream, .. } in sockets {
            // What had arrived and was not read yet.
            let mut late = vec![0; 1 << 20];
            let count = std::io::Read::read(&mut &stream, &mut late).unwrap_or(0);
            self.holder.order(Order::Drained(connection, late[..count].to_vec().into()));
            self.holder.order(Order::Describe(connection, "described".into()));
            let described =
                |report| matches!(report, Report::Described(of) if of == connection).then_some(());
            self.holder.hears(described).await;
            resumed.push(Resumed { connection, stream, tcp: "outline".into() });
        }
        self.holder.order(Order::Departed);
        self.standby.order(Order::TakeOver);
        let survived = self.standby.hears(survivors).await.expect("it was paired");
        assert_eq!(survived.len(), resumed.len());
        assert!(survived.iter().all(|survivor| survivor.tcp == "described"));
        self.standby.order(Order::Resume(resumed));
        self.epoch += 1;
        self.standby.order(Order::Gate(Gate::Confirmed(self.epoch)));
        self.standby.order(Order::OpenLink(Role::Holder, self.epoch));
        std::mem::swap(&mut self.holder, &mut self.standby);
    }

    pub(crate) async fn stop(self) {
        tokio::join!(soon(self.holder.node.stop()), soon(self.standby.node.stop()));
    }
}

/// Waits until what the publishers said so far was read by the holder, and what was said to them has arrived.
pub(crate) async fn settled(pair: &Pair, cables: &[&Cable]) {
    let calm = async {
        let mut last = Vec::new();
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let of = |cable: &&Cable| (cable.sent.lock().unwrap().len(), *cable.heard.lock().unwrap());
            let now: Vec<_> = cables.iter().map(of).collect();
            let status = pair.holder.node.pair_status().unwrap();
            if now == last && status.unconfirmed == 0 {
                return;
            }
            last = now;
        }
    };
    soon(calm).await;
}
