//! An address: taken once, defended, given up once; and without rights nothing at all.

use crate::support::{allowed, example, skip};
use crate::{MOMENT, PATIENCE, pair};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};
use takeover::address::{Announcer, Announcing, Interface, Ownership};
use takeover::rights::Right;

#[test]
fn an_address_is_taken_once_and_given_up_once() {
    if !allowed(&[Right::NetworkAdministration]) {
        return;
    }
    let (a, _b) = pair();
    a.enter(|| {
        for ip in ["10.77.0.100", "fd77::100"] {
            let ip: IpAddr = ip.parse().unwrap();
            let usable = || TcpListener::bind(SocketAddr::new(ip, 0)).is_ok();
            let ownership = Ownership::prepare(ip, &Interface::named("eth0").unwrap()).unwrap();
            assert!(!usable());
            assert!(ownership.take().unwrap());
            assert!(!ownership.take().unwrap(), "taken twice is no error and no news");
            assert!(usable());
            assert!(ownership.give_up().unwrap());
            assert!(!ownership.give_up().unwrap());
            assert!(!usable());
        }
        assert!(matches!(Interface::named("none"), Err(takeover::address::Error::NoInterface { .. })));
    });
}

#[test]
fn a_foreign_claim_is_seen_and_answered() {
    if !allowed(&[Right::NetworkAdministration, Right::RawPackets]) {
        return;
    }
    let (a, b) = pair();
    for ip in ["10.77.0.100", "fd77::100"] {
        let announcing = || {
            let announcer =
                Announcer::prepare(ip.parse().unwrap(), &Interface::named("eth0").unwrap()).unwrap();
            Announcing::prepare(announcer).unwrap()
        };
        let (ours, theirs) = (a.enter(announcing), b.enter(announcing));
        ours.begin().unwrap();
        std::thread::sleep(MOMENT);
        assert_eq!(ours.claims().0, 0, "our own announcements are no claims");
        assert_eq!(theirs.claims().0, 0, "while the address is another's, claims are right");
        theirs.begin().unwrap();
        let until = Instant::now() + PATIENCE;
        while (ours.claims().0 == 0 || theirs.claims().0 == 0) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (count, last) = ours.claims();
        assert!(count > 0, "{ip}: the other host's claim was not seen");
        assert_eq!(last.unwrap().ip, ip.parse::<IpAddr>().unwrap());
        assert!(theirs.claims().0 > 0, "{ip}: the claim was not answered");
        theirs.cease();
        std::thread::sleep(MOMENT);
        let settled = ours.claims().0;
        std::thread::sleep(MOMENT);
        assert_eq!(ours.claims().0, settled, "{ip}: nothing is announced after the end");
    }
}

#[test]
fn nothing_works_by_accident_without_rights() {
    // Only meaningful for root, who can give rights up: a child without capabilities must be told what is missing.
    let probe = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--reuid=65534", "--clear-groups"])
        .arg(example("rights"))
        .output();
    let Ok(output) = probe else {
        skip("setpriv (util-linux) is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        skip(&format!("rights cannot be given up here: {}", String::from_utf8_lossy(&output.stderr)));
        return;
    }
    for word in ["CAP_NET_ADMIN", "CAP_NET_RAW", "TCP_REPAIR", "NFQUEUE"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(said.lines().filter(|line| line.contains(": no (")).count(), 6, "{said}");
}
