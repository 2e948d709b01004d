//! A publisher's view of the core on a real socket: accepts every publish and prints what comes.
//!
//! `cargo run -p rtmp --example dump [address [file]]`, then for example
//! `ffmpeg -re -f lavfi -i testsrc2 -c:v libx264 -f flv rtmp://127.0.0.1:PORT/live/key`.
//! With `file`, the bytes of the first connection are written there. Port 0: the system chooses.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rtmp::{Config, Event, MediaKind, Session};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let listener = TcpListener::bind(args.next().as_deref().unwrap_or("127.0.0.1:0"))?;
    let mut record = args.next().map(File::create).transpose()?;
    println!("rtmp://{}/live/key", listener.local_addr()?);
    for socket in listener.incoming() {
        let (socket, record) = (socket?, record.take());
        std::thread::spawn(move || {
            if let Err(failure) = serve(socket, record) {
                println!("ended: {failure}");
            }
        });
    }
    Ok(())
}

fn serve(mut socket: TcpStream, mut record: Option<File>) -> Result<(), Failure> {
    let begin = Instant::now();
    let now = || begin.elapsed().as_millis() as u64;
    let mut random = [0; 1528];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let mut session = Session::new(Config::default(), now(), random);
    let (mut counts, mut buffer) = ([0u64; 3], vec![0; 64 * 1024]);
    loop {
        let wait = session.poll_timeout().map(|at| at.saturating_sub(now()).max(1));
        socket.set_read_timeout(wait.map(Duration::from_millis))?;
        let result = match socket.read(&mut buffer) {
            Ok(0) => return end(counts),
            Ok(len) => {
                if let Some(file) = &mut record {
                    file.write_all(&buffer[..len])?;
                }
                session.handle_input(now(), &buffer[..len])
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => session.handle_timeout(now()),
            // ffmpeg closes without reading our last status, which its system turns into a reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return end(counts),
            Err(error) => return Err(error.into()),
        };
        while let Some(event) = session.poll_event() {
            match event {
                Event::Publish { .. } => {
                    println!("{event:?}");
                    session.accept_publish();
                }
                Event::Media(message) => {
                    let index = match message.kind {
                        MediaKind::Audio => 0,
                        MediaKind::Video => 1,
                        MediaKind::Data => 2,
                    };
                    if counts[index] < 3 {
                        println!("{message:?}");
                    }
                    counts[index] += 1;
                }
                other => println!("{other:?}"),
            }
        }
        while let Some(bytes) = session.poll_transmit() {
            socket.write_all(&bytes)?;
        }
        result?;
    }
}

fn end([audio, video, data]: [u64; 3]) -> Result<(), Failure> {
    println!("end of stream: {audio} audio, {video} video, {data} data messages");
    Ok(())
}
