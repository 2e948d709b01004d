//! A process that is there to be killed: `mortal ADDRESS MIB heir|alone`. It locks so much memory, appoints an heir or not,
//! dials the address, says the heir's process number (0: none) as four bytes, and waits.

use std::io::Write;
use std::net::TcpStream;

pub(crate) fn main() {
    let mut args = std::env::args().skip_while(|arg| arg.parse::<std::net::SocketAddr>().is_err());
    let (Some(address), Some(mib), Some(way)) = (args.next(), args.next(), args.next()) else {
        eprintln!("mortal ADDRESS MIB heir|alone");
        std::process::exit(2);
    };
    let mib: usize = mib.parse().expect("a number of MiB");
    let heir = if way == "heir" { takeover::heir::appoint().expect("an heir") } else { 0 };
    let memory = vec![1_u8; mib << 20];
    // Without the right to it the memory is there all the same.
    let _ = takeover::realtime::lock_memory();
    let mut link = TcpStream::connect(address).expect("somebody who listens");
    link.write_all(&heir.to_be_bytes()).expect("somebody who reads");
    // A node has other threads, which die as well.
    for _ in 0..6 {
        std::thread::spawn(std::thread::park);
    }
    loop {
        std::thread::park();
        std::hint::black_box(&memory);
    }
}
