//! A node that comes back: how it dials, and that it has what the other one listed without it.

use super::*;
use mirror::{Frame, Identity, Link};
use std::time::Instant;

/// A holder that proves who it is and then ends the link, again and again: how often it is dialled.
async fn ends_every_link(listener: TcpListener, lab: &Lab, until: Instant) -> usize {
    let mut dialled = 0;
    while let Ok(Ok((socket, _))) = tokio::time::timeout_at(until.into(), listener.accept()).await {
        dialled += 1;
        let identity = Identity { cluster: 7, node: 1, role: Role::Holder, epoch: 1 };
        // A dial that was given up in between ends by itself.
        let _ = proves(socket, Link::new(identity, lab.cluster.clone(), [dialled as u8; 32])).await;
    }
    dialled
}

async fn proves(mut socket: TcpStream, mut link: Link) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while !matches!(link.poll_frame().unwrap(), Some(Frame::Ping)) {
        while let Some(bytes) = link.poll_transmit() {
            socket.write_all(&bytes).await?;
        }
        match socket.read(&mut buffer).await? {
            0 => return Ok(()),
            count => link.handle_bytes(&buffer[..count]),
        }
    }
    while let Some(bytes) = link.poll_transmit() {
        socket.write_all(&bytes).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_ends_every_link_is_not_dialled_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = listener.local_addr().unwrap();
    let lab = Lab::new(MarkPolicy::Off).await;
    let cluster = lab.twin().await;
    let mut side = Side::new(lab, 2, Protect::Commit, free_address(), dial).await;
    side.order(Order::OpenLink(Role::Standby, 1));
    let until = Instant::now() + Duration::from_secs(1);
    // What the election does about each link that ends.
    let Side { orders, reports, .. } = &mut side;
    let election = async {
        let mut up = false;
        while let Some(report) = reports.recv().await {
            up |= matches!(report, Report::LinkUp);
            if matches!(report, Report::LinkDown) && std::mem::take(&mut up) {
                orders.send(Order::CloseLink).unwrap();
                orders.send(Order::OpenLink(Role::Standby, 1)).unwrap();
            }
        }
    };
    let dialled = tokio::select! {
        dialled = ends_every_link(listener, &cluster, until) => dialled,
        () = election => unreachable!(),
    };
    assert!((2..=8).contains(&dialled), "dialled {dialled} times in a second");
    soon(side.node.stop()).await;
}

/// Sends second after second until the standby has joined; gives the next one.
async fn joins(pair: &mut Pair, encoder: &mut Encoder, mut second: u32) -> u32 {
    let joining = pair.join();
    tokio::pin!(joining);
    loop {
        encoder.send(&seconds(second..second + 1)).await;
        second += 1;
        tokio::select! {
            () = &mut joining => return second,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_in_step_has_what_its_holder_listed_alone() {
    for mark in [MarkPolicy::Off, MarkPolicy::Require] {
        let mut pair = Pair::alone(mark, Protect::Commit).await;
        let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
        encoder.send(&seconds(0..4)).await;
        pair.holder.lab.listed(&pair.holder.node, 3).await;
        let second = joins(&mut pair, &mut encoder, 4).await;
        // Without another look at the holder: it may be dead by now.
        let standby = pair.standby.lab.window(&pair.standby.node, |now| !now.segments.is_empty()).await;
        assert_eq!(standby.segments[0].number, 0, "it begins where the holder's list begins");
        let copied = standby.segments.len();
        assert_eq!(pair.alike(0, copied).await, standby.segments);
        encoder.send(&seconds(second..second + 2)).await;
        encoder.leaves().await;
        let segments = pair.alike(0, second as usize + 2).await;
        let recorded = pair.standby.lab.state.last_segment(&stream()).await.unwrap();
        assert_eq!(recorded.as_ref(), segments.last());
        let facts = pair.standby.node.pair_status().unwrap();
        assert_eq!(facts.copying, 0);
        assert!(facts.streams.values().all(|facts| facts.differing == 0), "{facts:?}");
        pair.stop().await;
    }
}

/// A standby joins a stream that is on the air, and keys change before and after that: both list the same encrypted bytes.
#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_encrypt_alike() {
    let first = Lab::new(MarkPolicy::Require).await.encrypted().await;
    let second = first.twin().await;
    let (a, b) = (free_address(), free_address());
    let mut pair = Pair::of((first, a, b), (second, b, a), Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..4)).await;
    pair.holder.lab.listed(&pair.holder.node, 3).await;
    let second = joins(&mut pair, &mut encoder, 4).await;
    encoder.send(&seconds(second..second + 2)).await;
    encoder.leaves().await;
    let segments = pair.alike(0, second as usize + 2).await;
    let keys: Vec<_> = segments.iter().map(|segment| segment.key.unwrap().kid).collect();
    let periods: Vec<_> = keys.chunks(2).map(|period| period[0]).collect();
    assert!(keys.chunks(2).all(|period| period.iter().all(|kid| *kid == period[0])), "{keys:?}");
    assert!(periods.iter().enumerate().all(|(at, kid)| !periods[..at].contains(kid)), "{keys:?}");
    assert!(segments.iter().all(|segment| segment.discontinuity == 0 && !segment.has_mpeg_ts));
    assert!(segments.iter().flat_map(|one| &one.gops).all(|gop| gop.marking == Marking::Marked));
    let facts = pair.standby.node.pair_status().unwrap();
    assert!(facts.streams.values().all(|facts| facts.differing == 0), "{facts:?}");
    pair.stop().await;
}

/// A standby that cannot encrypt makes nothing of the stream, and the holder does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_without_the_content_key_holds_nothing_up() {
    let first = Lab::new(MarkPolicy::Off).await.encrypted().await;
    let second = first.twin().await;
    std::fs::remove_file(second.folder.path().join("keys/content.key")).unwrap();
    let (a, b) = (free_address(), free_address());
    let mut pair = Pair::of((first, a, b), (second, b, a), Protect::Commit).await;
    pair.join().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..4)).await;
    encoder.leaves().await;
    let listed = pair.holder.lab.listed(&pair.holder.node, 4).await;
    assert!(listed.segments.iter().all(|segment| segment.key.is_some()));
    let standby = pair.standby.lab.window(&pair.standby.node, |_| true).await;
    assert!(standby.segments.is_empty(), "nothing goes out in the clear");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_at_a_standby_that_was_away_while_a_publisher_came_and_went() {
    let first = Lab::new(MarkPolicy::Off).await;
    let second = first.twin().await;
    let record = first.state.stream(&stream()).await.unwrap().unwrap();
    second.state.add_stream(record).await.unwrap();
    let (a, b) = (free_address(), free_address());
    let mut pair = Pair::of((first, a, b), (second, b, a), Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..4)).await;
    encoder.leaves().await;
    let listed = pair.holder.lab.ended(&pair.holder.node).await;
    assert_eq!(listed.segments.len(), 4);
    pair.join().await;
    let Pair { holder, mut standby, .. } = pair;
    standby.order(Order::CloseLink);
    standby.hears(|report| matches!(report, Report::LinkDown).then_some(())).await;
    soon(holder.node.stop()).await;
    standby.order(Order::TakeOver);
    assert_eq!(standby.hears(survivors).await, Some(Vec::new()), "there was no connection");
    standby.order(Order::Resume(Vec::new()));
    standby.order(Order::Gate(Gate::Alone(2)));
    let serves = async {
        while !standby.node.pair_status().unwrap().holder {
            tokio::task::yield_now().await;
        }
    };
    soon(serves).await;
    let mut back = Encoder::accepted(&standby.node, &standby.lab.key).await;
    back.send(&seconds(4..6)).await;
    back.leaves().await;
    let snapshot = standby.lab.window(&standby.node, |now| !now.live && now.segments.len() >= 2).await;
    let facts: Vec<_> = snapshot.segments.iter().map(|s| (s.number, s.run, s.discontinuity)).collect();
    assert_eq!(facts, (0..6).map(|number| (number, listed.segments[0].run, 0)).collect::<Vec<_>>());
    assert_eq!(snapshot.segments[..4], listed.segments, "what was listed stays as it was");
    assert!(snapshot.epoch > listed.epoch, "whoever held the stream before is fenced");
    soon(standby.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_link_the_standby_has_the_whole_list_again() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..3)).await;
    pair.alike(0, 2).await;
    // The link is cut, and the holder granted to go on alone.
    for side in [&pair.holder, &pair.standby] {
        side.order(Order::Gate(Gate::Held));
        side.order(Order::CloseLink);
    }
    pair.standby.order(Order::Forget);
    pair.epoch = 2;
    pair.holder.order(Order::OpenLink(Role::Holder, 2));
    pair.holder.order(Order::Gate(Gate::Alone(2)));
    encoder.send(&seconds(3..6)).await;
    pair.holder.lab.listed(&pair.holder.node, 5).await;
    let second = joins(&mut pair, &mut encoder, 6).await;
    encoder.leaves().await;
    let segments = pair.alike(0, second as usize).await;
    assert_eq!(hashes(&segments), alone(&seconds(0..second)).await, "not a byte is missing");
    pair.stop().await;
}
