//! Two control halves and three witnesses on loopback, with real threads and datagrams: they agree who holds, hand over, and
//! go on alone only with a grant. The data half is a stand-in that links and mirrors nothing; no right is needed.
#![allow(clippy::unwrap_used)]

use failover::rule::Broken;
use failover::vote::Ask;
use failover::witness::{Action, Record, Witness};
use failover::{ClusterId, WitnessId};
use http_body_util::BodyExt;
use ingest_api::node_auth::sign_request;
use mirror::Role;
use releve_ingest::config::Config;
use releve_ingest::config::pair::{BeatPath, Pair, WitnessAt};
use releve_ingest::io::admin::Admin;
use releve_ingest::io::pair::control::{self, Control, Kernel};
use releve_ingest::io::pair::operate::Operate;
use releve_ingest::io::pair::orders::{Order, Report};
use releve_ingest::io::streams::Streams;
use releve_ingest::metrics::Metrics;
use releve_ingest::state_dir::{KeyKind, StateDir};
use releve_listen::http;
use releve_state::memory::Memory;
use releve_state::sqlite::Sqlite;
use releve_watermark::{Key, KeyRing};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

fn keys() -> KeyRing {
    KeyRing::of(Key::new(1, [7; 32]))
}

/// A witness without a disk: ends when told.
fn witness(id: u16, stop: Arc<AtomicBool>) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let at = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut witness = Witness::new(WitnessId(id), Record::default(), Broken::default());
        let mut buffer = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            witness.handle_ask(&Ask::open(&keys(), ClusterId(1), &buffer[..length]).unwrap());
            while let Some(action) = witness.poll_action() {
                if let Action::Answer(answer) = action {
                    socket.send_to(&answer.seal(&keys(), ClusterId(1)), from).unwrap();
                }
            }
        }
    });
    (at, thread)
}

type Tell = Arc<dyn Fn(Report) + Send + Sync>;

/// The link between the stand-ins: which end each keeps, and its way to its control half.
#[derive(Default)]
struct Wire {
    ends: [Option<(Role, u64)>; 2],
    up: bool,
    tell: [Option<Tell>; 2],
}

impl Wire {
    fn say(&self, to: usize, report: Report) {
        if let Some(tell) = &self.tell[to] {
            tell(report);
        }
    }

    fn open(&mut self, me: usize, role: Role, epoch: u64) {
        self.ends[me] = Some((role, epoch));
        self.up = false;
        let [Some((one, e)), Some((two, f))] = self.ends else { return };
        if e == f && one != two {
            self.up = true;
            (0..2).for_each(|to| self.say(to, Report::LinkUp));
            self.say(usize::from(one == Role::Holder), Report::InStep(e));
        }
    }

    fn close(&mut self, me: usize) {
        self.ends[me] = None;
        self.say(me, Report::LinkDown);
        if std::mem::take(&mut self.up) {
            self.say(1 - me, Report::LinkDown);
        }
    }
}

struct Node {
    control: Option<Arc<Control>>,
    stop: Arc<AtomicBool>,
    data: Option<JoinHandle<()>>,
}

impl Node {
    fn start(me: usize, pair: &Pair, folder: &std::path::Path, wire: Arc<Mutex<Wire>>) -> Node {
        let (control, mut line) = control::start(pair, "n", folder, keys(), Kernel::None).unwrap();
        wire.lock().unwrap().tell[me] = Some(line.reports.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let data = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                line.pulse.turn();
                let Ok(order) = line.orders.try_recv() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let mut wire = wire.lock().unwrap();
                match order {
                    Order::OpenLink(role, epoch) => wire.open(me, role, epoch),
                    Order::CloseLink => wire.close(me),
                    Order::TellPaired(epoch) => wire.say(1 - me, Report::Paired(epoch)),
                    Order::TakeOver => wire.say(me, Report::Survived(Some(Vec::new()))),
                    Order::Detach | Order::StepDown => wire.say(me, Report::Detached(Vec::new())),
                    _ => {}
                }
            }
            let mut wire = wire.lock().unwrap();
            wire.tell[me] = None;
            wire.close(me);
        });
        Node { control: Some(Arc::new(control)), stop, data: Some(data) }
    }

    fn state(&self) -> String {
        let status = self.control.as_ref().unwrap().board.status();
        status["state"].as_str().unwrap_or("none").to_owned()
    }

    fn epoch(&self) -> u64 {
        self.control.as_ref().unwrap().board.status()["epoch"].as_u64().unwrap()
    }

    fn die(&mut self) {
        // An admin listener may have it too.
        if let Some(control) = self.control.take() {
            control.stop();
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(data) = self.data.take() {
            data.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.die();
    }
}

struct Lab {
    nodes: [Node; 2],
    witnesses: Vec<(Arc<AtomicBool>, Option<JoinHandle<()>>)>,
    folder: tempfile::TempDir,
    pairs: [Pair; 2],
    wire: Arc<Mutex<Wire>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (stop, thread) in &mut self.witnesses {
            stop.store(true, Ordering::Relaxed);
            thread.take().unwrap().join().unwrap();
        }
    }
}

impl Lab {
    fn start() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let mut witnesses = Vec::new();
        let mut at = Vec::new();
        for id in 1..=3 {
            let stop = Arc::new(AtomicBool::new(false));
            let (address, thread) = witness(id, stop.clone());
            witnesses.push((stop, Some(thread)));
            at.push(WitnessAt { id, address });
        }
        // Ports that were free a moment ago: two paths, both ends.
        let free: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let ends: Vec<SocketAddr> = free.iter().map(|socket| socket.local_addr().unwrap()).collect();
        drop(free);
        let text = "name = \"n\"\ndir = \"unused\"\n[pair]\nprotect = \"handover\"\nnode = 1\npeer = 2\n\
            link_listen = \"127.0.0.1:1\"\nlink_peer = \"127.0.0.1:1\"\n\
            paths = [{ local = \"127.0.0.1:1\", peer = \"127.0.0.1:2\" }]\n\
            witnesses = [{ id = 1, address = \"127.0.0.1:3\" }]\n\
            addresses = [{ ip = \"192.0.2.7\", interface = \"none\" }]\n\
            dead_min_ms = 200\ndead_max_ms = 1500\n";
        let pair = |me: usize| Pair {
            node: me as u16 + 1,
            peer: 2 - me as u16,
            paths: (0..2)
                .map(|path| BeatPath { local: ends[path * 2 + me], peer: ends[path * 2 + 1 - me] })
                .collect(),
            witnesses: at.clone(),
            ..Config::parse(text, []).unwrap().pair.unwrap()
        };
        let wire = Arc::new(Mutex::new(Wire::default()));
        let pairs = [pair(0), pair(1)];
        let nodes = [0, 1].map(|me| Node::start(me, &pairs[me], folder.path(), wire.clone()));
        Lab { nodes, witnesses, folder, pairs, wire }
    }

    /// A node's next life.
    fn start_again(&mut self, me: usize) {
        self.nodes[me] = Node::start(me, &self.pairs[me], self.folder.path(), self.wire.clone());
    }

    fn soon(&self, what: &str, holds: impl Fn(&Lab) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            let states: Vec<_> =
                self.nodes.iter().filter(|node| node.control.is_some()).map(Node::state).collect();
            assert!(started.elapsed() < Duration::from_secs(30), "never: {what}: {states:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn holder(&self) -> usize {
        usize::from(self.nodes[1].state() == "paired")
    }
}

#[test]
fn two_nodes_pair_hand_over_and_the_survivor_goes_on_alone_by_grant() {
    let mut lab = Lab::start();
    let paired = |lab: &Lab| {
        let states = [lab.nodes[0].state(), lab.nodes[1].state()];
        states.contains(&"paired".into()) && states.contains(&"standby".into())
    };
    lab.soon("a pair", paired);
    let first = lab.holder();
    let epoch = lab.nodes[first].epoch();
    let gave = lab.nodes[first].control.as_ref().unwrap().hand_over().unwrap();
    assert_eq!((gave.what, gave.planned, gave.epoch), ("gave", true, epoch + 1));
    lab.soon("the other holds", |lab| {
        lab.nodes[1 - first].state() == "paired" && lab.nodes[first].state() == "standby"
    });
    // The standby has no pair to hand over with.
    let refused = lab.nodes[first].control.as_ref().unwrap().hand_over().unwrap_err();
    assert!(refused.to_string().contains("only a holder"), "{refused}");
    // The handover's link is up again: nothing was taken for a loss.
    std::thread::sleep(Duration::from_millis(700));
    assert!(paired(&lab));

    let epoch = lab.nodes[first].epoch();
    lab.nodes[1 - first].die();
    lab.soon("alone", |lab| lab.nodes[first].state() == "solo");
    assert!(lab.nodes[first].epoch() > epoch);
    assert!(lab.nodes[first].control.as_ref().unwrap().gate_epoch() > epoch);
}

#[test]
fn without_a_majority_of_witnesses_nobody_goes_on_alone() {
    let mut lab = Lab::start();
    lab.soon("a pair", |lab| lab.nodes.iter().any(|node| node.state() == "standby"));
    for (stop, _) in &lab.witnesses[..2] {
        stop.store(true, Ordering::Relaxed);
    }
    std::thread::sleep(Duration::from_millis(60));
    let holder = lab.holder();
    lab.nodes[holder].die();
    // Holds for three seconds, then gives the address up; and its gate never opens.
    lab.soon("fault", |lab| {
        assert_eq!(lab.nodes[1 - holder].control.as_ref().unwrap().gate_epoch(), 0);
        lab.nodes[1 - holder].state() == "fault"
    });
    let unready = lab.nodes[1 - holder].control.as_ref().unwrap().board.unready().unwrap();
    assert!(unready.contains("not granted"), "{unready}");
}

/// Commands count once, signed, and stand in the audit file.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_signed_count_once_and_are_noted() {
    let lab = Lab::start();
    lab.soon("a pair", |lab| lab.nodes.iter().any(|node| node.state() == "standby"));
    let audit = lab.folder.path().join("audit.jsonl");
    let holder = lab.nodes[lab.holder()].control.clone().unwrap();
    let standby = lab.nodes[1 - lab.holder()].control.clone().unwrap();
    let operate = |control| Arc::new(Operate::new(control, &lab.pairs[0], keys(), audit.clone()));
    let (at_holder, at_standby) = (operate(holder), operate(standby));
    let sign = |path: &str, nonce| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        sign_request(&keys(), "POST", path, now, [nonce; 16]).0
    };
    let ask = async |to: &Arc<Operate>, path: &str, header: String| {
        let answer = to.clone().answer(path.to_owned(), header).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let path = "/pair/failover";
    assert_eq!(ask(&at_holder, path, String::new()).await.0, 403);
    assert_eq!(ask(&at_holder, path, sign("/pair/force", 1)).await.0, 403, "signed for another command");
    assert!(!audit.exists(), "nothing was done");

    let dry = "/pair/failover?to=2&dry_run=1";
    let refused = ask(&at_standby, path, sign(path, 2)).await;
    assert!(refused.0 == 409 && refused.1.contains("only a holder with a standby"), "{refused:?}");
    let stranger = ask(&at_holder, "/pair/failover?to=9", sign("/pair/failover?to=9", 3)).await;
    assert!(stranger.0 == 409 && stranger.1.contains("none of this pair"), "{stranger:?}");
    assert_eq!(ask(&at_holder, dry, sign(dry, 4)).await.0, 200);
    assert!(!audit.exists(), "nothing was done");

    let once = sign(path, 5);
    let done = ask(&at_holder, path, once.clone()).await;
    assert!(done.0 == 200 && done.1.contains("\"gave\""), "{done:?}");
    assert_eq!(ask(&at_holder, path, once).await.0, 403, "the same request twice");
    let noted = std::fs::read_to_string(&audit).unwrap();
    assert_eq!(noted.lines().count(), 2, "before and after: {noted}");
    assert!(noted.lines().all(|line| line.contains("failover")), "{noted}");
}

/// The admin listener of a node that has no streams.
async fn admin(lab: &Lab, me: usize, cluster: KeyRing) -> (String, watch::Sender<bool>) {
    let control = lab.nodes[me].control.clone().unwrap();
    let audit = lab.folder.path().join("audit.jsonl");
    let (metrics, registry) = Metrics::new();
    let state = Arc::new(Memory::default());
    let admin = Arc::new(Admin {
        node: "n".into(),
        registry,
        streams: Arc::new(Streams::new(state.clone(), metrics, Box::new(|_, _| unreachable!("no streams")))),
        state,
        recording: Arc::new(AtomicBool::new(true)),
        pair: Some(Arc::new(Operate::new(control, &lab.pairs[me], cluster, audit))),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, mut stopping) = watch::channel(false);
    let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
    tokio::spawn(http::serve(listener, 8, stopped, move |request| admin.clone().answer(request)));
    (url, stop)
}

/// The program itself, with a state folder of its own: whether it succeeded, and what it said.
async fn failover_force(dir: &std::path::Path, admin: &str) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_relevectl"));
    command.arg("--dir").arg(dir).args(["failover", "--force", "--admin", admin]);
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_start_alone_serves_when_an_operator_vouches_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::at(folder.path());
    dir.init().unwrap();
    drop(Sqlite::open(&dir.database()).unwrap());
    let cluster = dir.keys(KeyKind::Cluster).unwrap();
    let mut lab = Lab::start();
    lab.soon("a pair", |lab| {
        let states = [lab.nodes[0].state(), lab.nodes[1].state()];
        states.contains(&"paired".into()) && states.contains(&"standby".into())
    });
    let holder = lab.holder();
    let (url, stop) = admin(&lab, holder, cluster.clone()).await;
    let (done, said) = failover_force(folder.path(), &url).await;
    assert!(!done && said.contains("no node waits for it"), "a pair that works needs no force: {said}");
    let epoch = lab.nodes[holder].epoch();
    stop.send_replace(true);

    // Both go, and only the former holder comes back: the other one may have acknowledged more, alone.
    lab.nodes.iter_mut().for_each(Node::die);
    lab.start_again(holder);
    let board = |lab: &Lab| lab.nodes[holder].control.as_ref().unwrap().board.status();
    lab.soon("needs force", |lab| board(lab)["needs_force"] == true);
    assert_eq!(lab.nodes[holder].control.as_ref().unwrap().gate_epoch(), 0, "it publishes nothing");
    let (url, _stop) = admin(&lab, holder, cluster.clone()).await;
    let stranger = tempfile::tempdir().unwrap();
    let strange = StateDir::at(stranger.path());
    strange.init().unwrap();
    drop(Sqlite::open(&strange.database()).unwrap());
    let (done, said) = failover_force(stranger.path(), &url).await;
    assert!(!done && said.contains("forbidden"), "signed with another cluster's key: {said}");
    assert!(board(&lab)["needs_force"] == true && !lab.folder.path().join("audit.jsonl").exists());

    let (done, said) = failover_force(folder.path(), &url).await;
    assert!(done && said.contains("forced"), "{said}");
    lab.soon("alone", |lab| lab.nodes[holder].state() == "solo");
    let control = lab.nodes[holder].control.as_ref().unwrap();
    lab.soon("its gate opens", |_| control.gate_epoch() > epoch);
    assert_eq!(board(&lab)["needs_force"], false);
    assert!(control.board.unready().is_none());
    let noted = std::fs::read_to_string(lab.folder.path().join("audit.jsonl")).unwrap();
    assert!(noted.lines().count() == 1 && noted.contains("force"), "{noted}");
}
