//! Findings: who is named, and that a report holds for the keys it names and for no others, unaltered.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use releve_watermark::keybook::KeyBook;
use releve_watermark::trace::finding::rounded;
use releve_watermark::trace::{Finding, Read, Register, Suspects, find, page, verify, whole};
use releve_watermark::{GopId, Key, Position, Symbol, WatermarkId};

fn key(version: u32, secret: u8) -> Key {
    Key::new(version, [secret; 32])
}

fn keys() -> KeyBook {
    KeyBook::new(vec![key(2, 0x22), key(1, 0x11)], vec![key(2, 0x44), key(1, 0x33)])
}

fn register(viewers: usize) -> Register {
    Register::parse(&(0..viewers).map(|number| format!("viewer-{number}\n")).collect::<String>()).unwrap()
}

/// A clean reading of one viewer's copy: `gops` GOPs a second apart, the first of them under version 1, the rest under 2.
fn reads(viewer: &str, gops: u64, first: u64) -> Vec<Read> {
    let id = WatermarkId::of_viewer(viewer);
    let mut reads = Vec::new();
    for number in 0..gops {
        let version = if number < first { 1 } else { 2 };
        let gop = GopId::derive("demo", &[1; 8], number as i64 * 90_000);
        let book = keys().codebook(version, version).unwrap();
        for (slice, symbol) in (0..).zip(book.symbols(id, gop, 8)) {
            let noise = ((number * 8 + u64::from(slice)) * 7919 % 100) as f64 / 1_000.0 - 0.05;
            let soft = rounded(if symbol == Symbol::A { 0.3 } else { -0.3 } + noise);
            let (stream, at_s) = ("demo <1>".to_owned(), number as f64);
            let keys = (version, version);
            reads.push(Read {
                stream,
                segment: number,
                gop,
                slice,
                at_s,
                soft,
                variance: 0.01,
                code_key: keys.0,
                bias_key: keys.1,
            });
        }
    }
    reads
}

fn found(reads: Vec<Read>, viewers: usize) -> Finding {
    let seconds = reads.iter().fold(0.0, |most: f64, read| most.max(read.at_s)) + 1.0;
    let (register, keys) = (register(viewers), keys());
    find(reads, seconds, 1, vec!["all of it".to_owned()], &mut Suspects::new(&register, &keys, 1)).unwrap()
}

#[test]
fn the_viewer_is_named_and_the_report_holds_as_page_and_as_json() {
    let finding = found(reads("viewer-7", 20, 0), 500);
    assert_eq!((finding.verdict.as_str(), finding.viewers.len(), finding.symbols), ("identified", 1, 160));
    assert_eq!(finding.viewers[0].viewer, "viewer-7");
    assert!(finding.viewers[0].log10_fp < -6.0 && finding.needed_seconds.is_none());
    let page_text = page::page(&finding);
    assert!(page_text.contains("viewer-7") && page_text.contains("demo &lt;1&gt;"));
    assert_eq!(page_text.matches("</script>").count(), 1, "no text of the finding ends the element");
    for text in [page_text, serde_json::to_string(&finding).unwrap()] {
        let read = page::finding_in(&text).unwrap();
        assert_eq!(read, finding);
        let opened = KeyBook::new(vec![key(2, 0x22)], vec![key(2, 0x44)]);
        let said = verify(&read, &opened, None).unwrap();
        assert!(said.iter().any(|line| line.starts_with("viewer-7: log10_fp")), "{said:?}");
    }
}

#[test]
fn an_altered_report_and_another_key_do_not_hold() {
    let finding = found(reads("viewer-7", 20, 0), 500);
    let holds = |change: &dyn Fn(&mut Finding)| {
        let mut altered = finding.clone();
        change(&mut altered);
        verify(&altered, &keys(), None).map_err(|error| error.to_string())
    };
    assert!(holds(&|_| {}).is_ok());
    assert!(holds(&|f| f.viewers[0].log10_fp -= 1.0).unwrap_err().contains("log10_fp is"));
    assert!(holds(&|f| f.paid.viewers = 5).is_err());
    assert!(holds(&|f| f.evidence[3].soft = -f.evidence[3].soft).is_err());
    assert!(
        holds(&|f| f.viewers[0].watermark_id = format!("{:016x}", WatermarkId::of_viewer("viewer-8").0))
            .is_err()
    );
    let renamed = |f: &mut Finding| f.viewers[0].viewer = "viewer-8".to_owned();
    assert!(holds(&renamed).unwrap_err().contains("is not known to be viewer-8's"));
    let mut altered = finding.clone();
    renamed(&mut altered);
    let own_ids = Register { rows: vec![("viewer-8".to_owned(), WatermarkId::of_viewer("viewer-7"))] };
    assert!(verify(&altered, &keys(), Some(&own_ids)).is_ok());
    assert!(holds(&|f| f.viewers.clear()).unwrap_err().contains("verdict"));
    assert!(holds(&|f| f.paid.readings = 0).unwrap_err().contains("more was tried"));
    let other = KeyBook::new(vec![key(2, 0x55)], vec![key(2, 0x44)]);
    assert!(verify(&finding, &other, None).unwrap_err().to_string().contains("code key 2 is not the one"));
}

#[test]
fn a_copy_over_a_key_change_is_scored_in_parts_and_pays_for_both() {
    let finding = found(reads("viewer-7", 30, 15), 500);
    assert_eq!(finding.viewers[0].viewer, "viewer-7");
    assert_eq!((finding.paid.readings, finding.keys.len(), finding.symbols), (2, 4, 240));
    assert!(verify(&finding, &keys(), None).is_ok());
    let alone = found(reads("viewer-7", 15, 15), 500);
    let price = finding.viewers[0].log10_fp - alone.viewers[0].log10_fp;
    assert!(price <= 0.31, "the surer part counts, at twice the price: {price}");
}

#[test]
fn looks_at_a_growing_copy_say_what_fresh_ones_would() {
    let (register, keys) = (register(3_000), keys());
    let mut suspects = Suspects::new(&register, &keys, 2);
    for (look, seconds) in [(1, 4.0), (2, 9.0), (3, 14.0)] {
        let so_far: Vec<Read> =
            reads("viewer-7", 14, 6).into_iter().filter(|read| read.at_s < seconds).collect();
        let again = find(so_far.clone(), seconds, look, vec![], &mut suspects).unwrap();
        let fresh = find(so_far, seconds, look, vec![], &mut Suspects::new(&register, &keys, 1)).unwrap();
        assert_eq!(again, fresh, "{seconds} s");
        assert!(seconds == 9.0 || (again.verdict == "identified") == (seconds > 9.0), "{seconds} s");
    }
}

#[test]
fn nobody_is_named_who_is_not_registered_and_nothing_found_is_said_so() {
    let stranger = found(reads("somebody", 20, 0), 500);
    assert_eq!((stranger.verdict.as_str(), stranger.viewers.len()), ("insufficient", 0));
    let (register, keys) = (register(5), keys());
    let mut suspects = Suspects::new(&register, &keys, 1);
    let mut none = |seconds: f64| find(vec![], seconds, 1, vec![], &mut suspects).unwrap().verdict;
    assert_eq!((none(30.0), none(3.0)), ("not-ours".to_owned(), "insufficient".to_owned()));
    let unknown = KeyBook::new(vec![key(1, 0x11)], vec![key(1, 0x33)]);
    let mut suspects = Suspects::new(&register, &unknown, 1);
    let error = find(reads("viewer-7", 5, 0), 5.0, 1, vec![], &mut suspects).unwrap_err();
    assert!(error.to_string().contains("code key 2"), "{error}");
}

#[test]
fn a_register_has_names_or_names_with_ids() {
    let register = Register::parse("alice\n\nbob\t00000000000000ff\n# carol\n").unwrap();
    let ids: Vec<_> = register.rows.iter().map(|(viewer, id)| (viewer.as_str(), *id)).collect();
    let plain = |viewer| (viewer, WatermarkId::of_viewer(viewer));
    assert_eq!(ids, [plain("alice"), ("bob", WatermarkId(255)), plain("# carol")]);
    assert_eq!(Register::parse("alice\nbob\tff\n"), Err(2));
}

#[test]
fn a_wrong_command_line_and_a_missing_file_end_differently() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ends = |arguments: &[&str]| {
        let mut trace = std::process::Command::new(env!("CARGO_BIN_EXE_releve-trace"));
        let out = trace.env_remove("RELEVE_DIR").args(arguments).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(ends(&["identify"]).0, Some(2));
    assert_eq!(ends(&["identify", "--clip", "x", "--archive", "y"]).0, Some(2), "no keys and no register");
    let (keys, register, archive) = (path("keys"), path("register"), path("archive"));
    std::fs::write(&keys, format!("code {}bias {}", key(1, 1).to_line(), key(1, 2).to_line())).unwrap();
    std::fs::write(&register, "alice\n").unwrap();
    std::fs::create_dir(&archive).unwrap();
    let asked = ["identify", "--keys", &keys, "--register", &register, "--archive", &archive, "--clip"];
    let (code, said) = ends(&[&asked[..], &[&path("nothing.mp4")]].concat());
    assert!(code == Some(1) && said.contains("nothing.mp4"), "{said}");
    let (code, said) = ends(&[&asked[..], &[&register]].concat());
    assert!(code == Some(1) && said.contains("nothing is archived"), "{said}");
    let report = path("report.html");
    for more in [&[&register, "--clip", &register][..], &["-"]] {
        let (code, said) = ends(&[&asked[..], more, &["--report", &report]].concat());
        assert!(code == Some(1) && said.contains("--report is of one clip"), "{said}");
    }
    assert!(!std::path::Path::new(&report).exists(), "a report of one of several clips");
    std::fs::write(&keys, "code 1 00\n").unwrap();
    let (code, said) = ends(&[&asked[..], &[&register]].concat());
    assert!(code == Some(1) && said.contains("line 1") && !said.contains("00\n"), "{said}");
    assert_eq!(ends(&["verify-report", "--report", &register, "--keys", &keys]).0, Some(1));
}

/// What a CDN keeps: two GOPs a segment, all slices of both as one symbol. Read slice by slice it names nobody.
fn cdn_reads(viewer: &str, segments: u64) -> (Vec<Read>, impl Fn(&Read) -> Option<GopId>) {
    let id = WatermarkId::of_viewer(viewer);
    let first = |read: &Read| Some(GopId::derive("demo", &[1; 8], (read.segment * 180_000) as i64));
    let mut reads = reads(viewer, 2 * segments, 0);
    for (index, read) in reads.iter_mut().enumerate() {
        read.segment = index as u64 / 16;
        let position = Position::whole(first(read).unwrap());
        let symbol = keys().codebook(2, 2).unwrap().symbol(id, position);
        // As a poor copy shows it: one slice of eight the wrong way.
        let noise = (index as u64 * 7919 % 100) as f64 / 100.0 - 0.5;
        read.soft = rounded(if symbol == Symbol::A { 0.2 } else { -0.2 } + 0.5 * noise);
        read.variance = 0.02;
    }
    (reads, first)
}

#[test]
fn a_copy_of_whole_segments_is_traced_and_both_readings_are_paid_for() {
    let (slices, first) = cdn_reads("viewer-7", 60);
    let blind = found(slices.clone(), 500);
    assert!(blind.viewers.is_empty(), "{:?}", blind.viewers);
    let mut both = slices.clone();
    both.extend(whole(&slices, &first));
    assert_eq!(both.len(), slices.len() + 60);
    let finding = found(both, 500);
    assert_eq!((finding.verdict.as_str(), finding.viewers.len()), ("identified", 1), "{}", finding.reason);
    assert_eq!((finding.viewers[0].viewer.as_str(), finding.paid.readings), ("viewer-7", 2));
    verify(&finding, &keys(), None).unwrap();
    let mut cheaper = finding.clone();
    cheaper.paid.readings = 1;
    assert!(verify(&cheaper, &keys(), None).is_err(), "two readings at the price of one");
    // Nobody who is innocent is named by it, and who had eight symbols a GOP still is.
    let (slices, first) = cdn_reads("somebody", 60);
    let innocent = found([slices.clone(), whole(&slices, &first)].concat(), 500);
    assert!(innocent.viewers.is_empty(), "{:?}", innocent.viewers);
    let slices = reads("viewer-7", 20, 0);
    let mixed = found([slices.clone(), whole(&slices, |read| Some(read.gop))].concat(), 500);
    assert_eq!(mixed.viewers[0].viewer, "viewer-7");
}

#[test]
fn slices_are_added_up_to_one_symbol_a_segment() {
    let (mut slices, first) = cdn_reads("viewer-7", 1);
    slices.truncate(2);
    (slices[0].soft, slices[0].variance, slices[0].at_s) = (0.4, 0.01, 2.0);
    (slices[1].soft, slices[1].variance, slices[1].at_s) = (0.1, 0.02, 1.0);
    let one = whole(&slices, &first);
    assert_eq!((one.len(), one[0].slice, one[0].soft, one[0].at_s), (1, 255, 0.3, 1.0));
    assert!((one[0].variance - 0.02 / 3.0).abs() < 1e-6);
    assert_eq!(whole(&one, &first), []);
    assert_eq!(whole(&slices, |_| None), []);
}
