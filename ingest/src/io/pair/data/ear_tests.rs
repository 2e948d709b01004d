//! Heard by the thread alone: there is no engine here.

use super::super::Config;
use super::super::books::Entry;
use super::super::copy::Copies;
use super::super::link::{Proven, prove};
use super::super::mouth::Mouth;
use super::*;
use crate::config::pair::Protect;
use crate::io::pair::orders::Egress;
use crate::io::pair::pulse::Pulse;
use crate::metrics::Metrics;
use bytes::Bytes;
use mirror::{ConnectionId, Holder, Identity, Link, Standby};
use releve_watermark::{Key, KeyRing};
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use takeover::hold::{Base, Flow};
use takeover::wait::Bell;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

const CONNECTION: ConnectionId = ConnectionId(1);
const MOST: Duration = Duration::from_secs(20);

/// The packet hold: how much input of the connection it was told of.
struct Told(Mutex<Sender<u64>>);

impl Egress for Told {
    fn admit(&self, _: Flow, _: Base) {}
    fn confirm(&self, news: &[(Flow, Base, Confirmed)]) {
        news.iter().for_each(|(_, _, has)| self.0.lock().unwrap().send(has.received).unwrap());
    }
    fn finish(&self, _: Flow, _: Base) {}
    fn forget(&self, _: Flow) {}
}

fn keys() -> KeyRing {
    KeyRing::of(Key::new(1, [1; 32]))
}

/// A node's books at one end of a proven link, its thread hearing; the link of the other end; what the hold is told.
async fn node(role: Role) -> (Hearing, Arc<TcpStream>, (TcpStream, Link), Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let other = if role == Role::Holder { Role::Standby } else { Role::Holder };
    let end = |stream, role| async move {
        let identity = Identity { cluster: 1, node: role as u16, role, epoch: 1 };
        let Proven { stream, link } = prove(stream, identity, keys()).await.unwrap();
        (stream.into_std().unwrap(), link)
    };
    let (here, there) = tokio::join!(
        async { end(tokio::net::TcpStream::connect(address).await.unwrap(), role).await },
        async { end(listener.accept().await.unwrap().0, other).await }
    );
    there.0.set_nonblocking(false).unwrap();
    let config = Config {
        protect: Protect::Commit,
        cluster: 1,
        node: 1,
        listen: address,
        dial: address,
        addresses: Vec::new(),
        keys: keys(),
    };
    let (told, heard) = channel();
    let egress = Some(Arc::new(Told(Mutex::new(told))) as Arc<dyn Egress>);
    let (arrivals, _) = mpsc::unbounded_channel();
    let bell = Bell::new().unwrap();
    let data = Data::new(
        config,
        Arc::<Pulse>::default(),
        Metrics::new().0,
        egress,
        bell,
        tokio::runtime::Handle::current(),
        arrivals,
    );
    let stream = Arc::new(here.0);
    let mut books = data.books();
    let mut entry = Entry::new(mpsc::unbounded_channel().0, Arc::new(Semaphore::new(1)));
    entry.flow = Some(Flow { local: address, peer: address });
    entry.base = Some(Base { received: 0, sent: 0 });
    books.entries.insert(CONNECTION, entry);
    (books.mouth, books.copies) = (Mouth::of(role, &stream), Copies::default());
    match role {
        Role::Holder => {
            books.holder.attach(here.1);
            books.holder.open(CONNECTION, Bytes::from_static(b"outline")).unwrap();
            books.holder.tell_paired().unwrap();
            books.speak().unwrap();
        }
        Role::Standby => books.standby = Some(Standby::new(here.1)),
    }
    drop(books);
    (Hearing::start(&data).unwrap(), stream, there, heard)
}

fn until(mut seen: impl FnMut() -> bool) {
    let start = Instant::now();
    while !seen() {
        assert!(start.elapsed() < MOST, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn what_the_standby_has_may_leave_though_the_runtime_stands_still() {
    let (hearing, _stream, (mut wire, link), told) = node(Role::Holder).await;
    let standby = std::thread::spawn(move || {
        let (mut standby, mut buffer) = (Standby::new(link), [0; 4096]);
        loop {
            while standby.poll_step().is_some() {}
            while let Some(bytes) = standby.poll_transmit() {
                wire.write_all(&bytes).unwrap();
            }
            match wire.read(&mut buffer) {
                Ok(count @ 1..) => standby.handle_bytes(&buffer[..count]).unwrap(),
                _ => return,
            }
        }
    });
    let data = hearing.data.clone();
    for frame in 1..100 {
        let mut books = data.books();
        books.holder.input(CONNECTION, Bytes::from_static(b"frame")).unwrap();
        books.speak().unwrap();
        drop(books);
        while told.recv_timeout(MOST).unwrap() < frame * 5 {}
    }
    assert!(data.books().ear.confirmed && data.books().ear.take_end().is_none());
    data.books().mouth.stream().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    until(|| data.books().ear.take_end().is_some());
    assert!(data.books().mouth.stream().is_none(), "nobody hears a link that has ended");
    standby.join().unwrap();
}

#[tokio::test]
async fn nonsense_ends_the_link() {
    let (hearing, _stream, (mut wire, _), told) = node(Role::Holder).await;
    wire.write_all(&[0x55; 64]).unwrap();
    until(|| hearing.data.books().ear.take_end().is_some());
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_standby_confirms_what_it_has_though_its_engine_is_late_and_reads_no_more_than_it_may_keep() {
    const PIECE: usize = 64 << 10;
    let (hearing, _stream, (mut wire, link), _) = node(Role::Standby).await;
    let data = hearing.data.clone();
    let mut holder = Holder::default();
    holder.attach(link);
    holder.open(CONNECTION, Bytes::from_static(b"outline")).unwrap();
    holder.tell_paired().unwrap();
    let mut listening = wire.try_clone().unwrap();
    let (said, frames) = channel::<Vec<u8>>();
    let hearing_standby = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = listening.read(&mut buffer) {
            said.send(buffer[..count].to_vec()).unwrap();
        }
    });
    let pieces = 2 * DUE_MAX / PIECE;
    let mut writing = Vec::new();
    while let Some(bytes) = holder.poll_transmit() {
        wire.write_all(&bytes).unwrap();
    }
    let confirmed = |holder: &mut Holder, wanted: u64| {
        while holder.confirmed_input(CONNECTION).unwrap_or(0) < wanted {
            holder.handle_bytes(&frames.recv_timeout(MOST).unwrap()).unwrap();
        }
    };
    confirmed(&mut holder, 0);
    // Nobody carries anything out, and yet all of this is confirmed.
    let mut sent = 0;
    for _ in 0..pieces / 4 {
        holder.input(CONNECTION, Bytes::from(vec![7; PIECE])).unwrap();
        sent += PIECE as u64;
        while let Some(bytes) = holder.poll_transmit() {
            wire.write_all(&bytes).unwrap();
        }
        confirmed(&mut holder, sent);
    }
    assert!(!data.books().ear.is_carried_out());
    // Twice what it may keep.
    let more = std::thread::spawn(move || {
        for _ in pieces / 4..pieces {
            while !holder.may_read(CONNECTION) {
                holder.handle_bytes(&frames.recv_timeout(MOST).unwrap()).unwrap();
            }
            holder.input(CONNECTION, Bytes::from(vec![7; PIECE])).unwrap();
            while let Some(bytes) = holder.poll_transmit() {
                writing.clear();
                writing.extend_from_slice(&bytes);
                wire.write_all(&writing).unwrap();
            }
        }
        let all = (pieces * PIECE) as u64;
        while holder.confirmed_input(CONNECTION).unwrap() < all {
            holder.handle_bytes(&frames.recv_timeout(MOST).unwrap()).unwrap();
        }
        wire.shutdown(std::net::Shutdown::Both).unwrap();
    });
    until(|| data.books().ear.waits);
    assert!(data.books().ear.due_bytes <= DUE_MAX + READ_BYTES);
    let mut carried = 0;
    let start = Instant::now();
    // As the engine does: until nothing is due, and then the thread that waited for that is told.
    loop {
        assert!(start.elapsed() < MOST, "{carried} bytes came");
        let step = data.books().ear.next();
        match step {
            Some(Step::Input { bytes, .. }) => carried += bytes.len(),
            Some(_) => {}
            None => {
                if data.books().ear.take_waits() {
                    data.0.listen.ring();
                }
                if carried == pieces * PIECE {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
    more.join().unwrap();
    until(|| data.books().ear.take_end().is_some());
    assert!(data.books().ear.is_carried_out());
    hearing_standby.join().unwrap();
}

#[test]
fn after_a_step_that_could_not_be_carried_out_no_later_one_is() {
    let mut ear = Ear::default();
    let step = || Step::Closed(CONNECTION);
    ear.due.extend([step(), step()]);
    assert_eq!(ear.next(), Some(step()));
    ear.fail();
    assert_eq!((ear.next(), ear.is_carried_out()), (None, false));
    ear.forget();
    assert!(ear.is_carried_out());
}
