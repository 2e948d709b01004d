//! Streams whose keys a DRM key server gives: what viewers are told, what opens the segments, and what is done without an
//! answer.

use crate::common::speke::{self, AUTHORIZATION, SYSTEMS, Speke};
use crate::common::{Encoder, Lab, get, seconds, soon, stream};
use ingest_api::content_key::{ContentKey, KeyId, OF_KEY_SERVER};
use ingest_api::origin::Route;
use ingest_api::{Object, Snapshot, Track, playlist};
use media::cbcs::Seal;
use releve_ingest::io::node::Node;
use releve_ingest::state_dir::{KeyKind, StateDir};
use releve_state::coordinator::{Coordinator, Encrypt, MarkPolicy};
use releve_watermark::archive::Archive;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(30);
/// Segments of a second that share a key.
const EVERY: u64 = 3;

async fn lab(speke: &Speke) -> (Lab, Node) {
    let lab = Lab::new(MarkPolicy::Require).await;
    let mut record = lab.state.stream(&stream()).await.unwrap().unwrap();
    record.encrypt = Encrypt::Drm;
    lab.state.update_stream(record).await.unwrap();
    let header = StateDir::at(lab.folder.path()).drm_header();
    std::fs::write(&header, format!("Authorization: {AUTHORIZATION}\n")).unwrap();
    std::fs::set_permissions(&header, std::fs::Permissions::from_mode(0o600)).unwrap();
    let node = lab.node_with(GRACE, &format!("key_segments = {EVERY}\n{}", speke.configured())).await;
    (lab, node)
}

/// The key id of a period, as the node draws it.
fn kid(lab: &Lab, period: u64) -> KeyId {
    let roots = StateDir::at(lab.folder.path()).keys(KeyKind::Content).unwrap();
    ContentKey::of_segment(roots.current(), &stream(), period * EVERY, EVERY as u32).kid
}

fn kids(snapshot: &Snapshot) -> Vec<(u64, KeyId)> {
    let key = |segment: &ingest_api::window::Segment| segment.key.expect("nothing is published in the clear");
    assert!(snapshot.segments.iter().all(|segment| key(segment).content_key == OF_KEY_SERVER));
    snapshot.segments.iter().map(|segment| (segment.number, key(segment).kid)).collect()
}

/// Sends second after second, each once the one before is listed, until a key is in use.
async fn sends_until(
    lab: &Lab,
    node: &Node,
    encoder: &mut Encoder,
    sent: &mut u32,
    wanted: impl Fn(KeyId) -> bool,
) {
    for _ in 0..40 {
        encoder.send(&seconds(*sent..*sent + 1)).await;
        *sent += 1;
        // The newest one is complete when the next begins.
        if *sent < 2 {
            continue;
        }
        let number = u64::from(*sent) - 2;
        let snapshot =
            lab.window(node, |s| s.segments.last().is_some_and(|last| last.number >= number)).await;
        if wanted(kids(&snapshot).last().unwrap().1) {
            return;
        }
        // The answer of the key server may be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the key never came");
}

async fn late(node: &Node) -> Option<String> {
    let (_, _, body) = get(node.admin, "/metrics", "").await.unwrap();
    let text = String::from_utf8(body).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("releve_ingest_drm_key_late_segments{stream=\"demo\"} "));
    line.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_servers_keys_open_the_segments_and_its_lines_are_in_the_playlists() {
    let speke = Speke::start().await;
    let (lab, node) = lab(&speke).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    let mut sent = 0;
    let (first, second) = (kid(&lab, 0), kid(&lab, 1));
    sends_until(&lab, &node, &mut encoder, &mut sent, |kid| kid == second).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert!(speke.given().starts_with(&[0, 1]), "one period ahead: {:?}", speke.given());
    let used = kids(&snapshot);
    for (number, kid) in &used[..EVERY as usize] {
        assert_eq!(*kid, first, "{number}");
    }
    let lines = |tag: &str, kid: KeyId| SYSTEMS.map(|(system, _)| speke::line(tag, system, &kid.to_string()));
    let said = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("KEY")).map(str::to_owned).collect()
    };
    for track in [Track::Video, Track::AUDIO] {
        let text = playlist::media(&snapshot, track).unwrap();
        assert_eq!(said(&text)[..6], [lines("KEY", first), lines("KEY", second)].concat(), "{text}");
    }
    let newest = used.last().unwrap().1;
    assert_eq!(said(&playlist::index(&snapshot).unwrap()), lines("SESSION-KEY", newest));
    let mut published = Vec::new();
    for segment in &snapshot.segments {
        let track = segment.tracks.iter().find(|entry| entry.track == Track::Video).unwrap();
        let route = Route::Segment { stream: stream(), track: Track::Video, number: segment.number };
        let bytes = lab.ask(node.origin, route).await.unwrap().1;
        let init = Route::Init { stream: stream(), init: track.init.clone() };
        let init = Object::decode(lab.ask(node.origin, init).await.unwrap().1.into()).unwrap().a;
        published.push((segment.number, segment.key.unwrap().kid, init, bytes));
    }
    soon(node.stop()).await;
    speke.content();
    let archive = Archive::open(&lab.folder.path().join("archive")).unwrap();
    let (mut clear_file, mut file, mut checked) = (Vec::new(), Vec::new(), 0);
    for (number, kid, init, bytes) in published {
        let hex = kid.to_string();
        for (system, boxed) in SYSTEMS {
            let pssh = speke::pssh(system, &hex);
            let there = init.windows(pssh.len()).any(|bytes| bytes == pssh);
            assert_eq!(there, boxed, "{system} in the init section of {number}");
        }
        let entry = archive.entries().iter().find(|entry| entry.record.number == number).unwrap();
        let clear = archive.object(entry).unwrap();
        let roots = StateDir::at(lab.folder.path()).keys(KeyKind::Content).unwrap();
        let ours = ContentKey::of_id(roots.current(), &stream(), kid);
        let pssh = SYSTEMS.iter().filter(|(_, boxed)| *boxed).map(|(system, _)| speke::pssh(system, &hex));
        let key = ours.clone().of_server(speke::key(&hex), None, pssh.collect::<Vec<_>>().concat());
        let seal = Seal::new(Track::Video, archive.init(entry).unwrap(), &key).unwrap();
        assert_eq!(seal.init(), &init);
        assert_eq!(seal.seal(&clear).unwrap().0.encode(), bytes, "{number}");
        assert_ne!(ours.secret(), key.secret(), "no key of ours");
        checked += 1;
        if kid == first {
            if file.is_empty() {
                clear_file.extend_from_slice(archive.init(entry).unwrap());
                file.extend_from_slice(&init);
            }
            clear_file.extend_from_slice(&clear.a);
            file.extend_from_slice(&Object::decode(bytes.into()).unwrap().a);
        }
    }
    assert!(checked > EVERY);
    let key: String = speke::key(&first.to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
    let clear = pictures(&lab, "clear.mp4", &clear_file, None);
    assert!(!clear.is_empty());
    assert_eq!(pictures(&lab, "encrypted.mp4", &file, Some(&key)), clear, "a decryptor that is not ours");
}

/// A hash of each picture, as ffmpeg decodes a file without a word.
fn pictures(lab: &Lab, name: &str, file: &[u8], key: Option<&str>) -> Vec<String> {
    let path = lab.folder.path().join(name);
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-err_detect", "explode"]);
    // In order: ffmpeg 5.1 mixes the maps of fragments up when it looks ahead.
    if let Some(key) = key {
        command.args(["-fflags", "ignidx", "-decryption_key", key]);
    }
    command.arg("-i").arg(&path).args(["-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{name}: ffmpeg said {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_the_old_key_goes_on_and_the_next_follows_when_it_comes() {
    let speke = Speke::start().await;
    let (lab, node) = lab(&speke).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    // The first key is here once something is listed; the next one, too, or soon.
    encoder.send(&seconds(0..2)).await;
    let first = kids(&lab.listed(&node, 1).await)[0].1;
    assert_eq!(first, kid(&lab, 0));
    let mut sent = 2;
    sends_until(&lab, &node, &mut encoder, &mut sent, |kid| kid != first).await;
    speke.away(true);
    // Whatever was asked for before it went away may have come; what is after that has not.
    let newest = *speke.given().iter().max().unwrap();
    let old = kid(&lab, newest);
    let last = (newest + 3) * EVERY;
    while u64::from(sent) <= last + 1 {
        encoder.send(&seconds(sent..sent + 1)).await;
        sent += 1;
        let number = u64::from(sent) - 2;
        lab.window(&node, |s| s.segments.last().is_some_and(|last| last.number >= number)).await;
        if number < newest * EVERY {
            // What it has answered is on its way.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let snapshot = lab.window(&node, |s| s.segments.last().is_some_and(|s| s.number >= last)).await;
    let used = kids(&snapshot);
    let due = (newest + 1) * EVERY;
    let after: Vec<_> = used.iter().filter(|(number, _)| *number >= due).collect();
    assert!(after.len() as u64 > 2 * EVERY && after.iter().all(|(_, kid)| *kid == old), "{newest} {used:?}");
    soon(async {
        while speke.refused() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let segments: u64 = late(&node).await.unwrap().parse().unwrap();
    assert!(segments > 2 * EVERY, "{segments} segments late");
    // It is back.
    speke.away(false);
    sends_until(&lab, &node, &mut encoder, &mut sent, |kid| kid != old).await;
    let snapshot = lab.listed(&node, 1).await;
    let (number, used) = *kids(&snapshot).last().unwrap();
    assert!(speke.given().iter().any(|period| kid(&lab, *period) == used && *period <= number / EVERY));
    assert!(snapshot.signals(used).is_some() && snapshot.signals(old).is_some(), "both are told");
    speke.content();
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_first_key_nothing_begins() {
    let speke = Speke::start().await;
    speke.away(true);
    let (lab, node) = lab(&speke).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..3)).await;
    encoder.hears("the server has no key for this stream at the moment").await;
    encoder.closed().await;
    assert_eq!(speke.refused(), 1);
    assert_eq!(lab.state.last_segment(&stream()).await.unwrap(), None);
    // An encoder that comes back is served as soon as there is one.
    speke.away(false);
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..3)).await;
    let snapshot = lab.listed(&node, 1).await;
    assert_eq!(kids(&snapshot)[0].1, kid(&lab, kids(&snapshot)[0].0 / EVERY));
    speke.content();
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_key_server_publishes_nothing_of_such_a_stream() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let mut record = lab.state.stream(&stream()).await.unwrap().unwrap();
    record.encrypt = Encrypt::Drm;
    lab.state.update_stream(record).await.unwrap();
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..3)).await;
    encoder.closed().await;
    assert_eq!(lab.state.last_segment(&stream()).await.unwrap(), None);
    soon(node.stop()).await;
}
