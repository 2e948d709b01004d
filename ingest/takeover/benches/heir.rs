//! What an heir is worth: from kill -9 of a process with 256 MiB to the end of its connection at the other side, with one and
//! without, by turns. `cargo bench --workspace --bench heir`

#[path = "../examples/mortal.rs"]
mod mortal;

use std::io::Read;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: &str = "256";
const ROUNDS: usize = 20;

fn main() {
    if std::env::args().any(|arg| arg == "mortal") {
        mortal::main();
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with.push(death_ms("heir"));
        without.push(death_ms("alone"));
    }
    let (with, without) = (median(&mut with), median(&mut without));
    println!(
        "heir: the link ends {with:.2} ms after the signal, without one {without:.2} ms, ratio {:.3}",
        with / without
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn death_ms(way: &str) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number").to_string();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["mortal", &address, MIB, way])
        .spawn()
        .expect("a process");
    let (mut link, _) = listener.accept().expect("its connection");
    link.read_exact(&mut [0; 4]).expect("its word");
    std::thread::sleep(Duration::from_millis(100));
    let struck = Instant::now();
    child.kill().expect("a process that lives");
    // Its end is an end of file or a reset.
    let _ = link.read(&mut [0; 1]);
    let took = struck.elapsed();
    child.wait().expect("its status");
    took.as_secs_f64() * 1000.0
}
