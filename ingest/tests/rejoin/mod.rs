//! A node that comes back: how it dials.

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
