//! Low latency from the encoder to the viewer: parts come every third of a second, each viewer's own, and make up their
//! segments.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::thread;
use std::time::{Duration, Instant};
use tests::{Cluster, Mark, Publisher, Viewer, feed, http};

/// Whole segments each viewer follows.
const SEGMENTS: u64 = 4;

/// What one viewer got.
struct Followed {
    /// Parts by segment and index.
    parts: BTreeMap<(u64, u64), Vec<u8>>,
    /// Whole segments.
    segments: BTreeMap<u64, Vec<u8>>,
    /// How long each reload was held.
    held: Vec<Duration>,
}

/// The numbers in `…/7.3.m4s`.
fn numbers(line: &str) -> Option<(u64, u64)> {
    let name = line.split("URI=\"video/").nth(1)?.split('"').next()?.strip_suffix(".m4s")?;
    let (number, index) = name.split_once('.')?;
    Some((number.parse().ok()?, index.parse().ok()?))
}

/// Follows by blocking reloads alone, as a player at the live edge does.
fn follow(url: &str) -> Result<Followed> {
    let viewer = Viewer::enter_when_live(url, Duration::from_secs(20))?;
    let playlist = viewer.tracks[0].url.clone();
    let mut followed = Followed { parts: BTreeMap::new(), segments: BTreeMap::new(), held: Vec::new() };
    let mut text = http::get(&playlist)?.ok()?.text()?.to_owned();
    ensure!(text.contains("CAN-BLOCK-RELOAD=YES") && text.contains("#EXT-X-PART-INF"), "{text}");
    let first = text.lines().filter_map(numbers).map(|(number, _)| number).max().context("no part")? + 1;
    loop {
        let is_part = |line: &&str| line.starts_with("#EXT-X-PART:");
        let listed: Vec<(u64, u64)> = text.lines().filter(is_part).filter_map(numbers).collect();
        for (number, index) in listed.iter().copied().filter(|(number, _)| *number >= first) {
            if let Entry::Vacant(place) = followed.parts.entry((number, index)) {
                let uri = http::join(&playlist, &format!("video/{number}.{index}.m4s"))?;
                place.insert(http::get(&uri)?.ok().with_context(|| format!("part {number}.{index}"))?.body);
            }
        }
        for number in first..first + SEGMENTS {
            if text.contains(&format!("\nvideo/{number}.m4s\n")) && !followed.segments.contains_key(&number) {
                let uri = http::join(&playlist, &format!("video/{number}.m4s"))?;
                followed.segments.insert(number, http::get(&uri)?.ok()?.body);
            }
        }
        if followed.segments.len() as u64 == SEGMENTS {
            return Ok(followed);
        }
        let (number, index) = listed.last().context("no part listed")?;
        let asked = Instant::now();
        let next = format!("{playlist}?_HLS_msn={number}&_HLS_part={}", index + 1);
        let newer = http::get(&next)?.ok()?.text()?.to_owned();
        ensure!(newer != text, "a reload that is answered brings something new");
        followed.held.push(asked.elapsed());
        text = newer;
    }
}

#[test]
fn parts_come_as_they_are_made_and_are_their_segment() -> Result<()> {
    let cluster = Cluster::start_with(1, "low_latency = true", &[])?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let urls: Vec<String> = ["alice", "bob"]
        .iter()
        .map(|viewer| Ok(cluster.mint("demo", viewer, 600)?.remove(0)))
        .collect::<Result<_>>()?;
    let viewers: Vec<_> = urls.into_iter().map(|url| thread::spawn(move || follow(&url))).collect();
    let mut copies = Vec::new();
    for viewer in viewers {
        let followed = viewer.join().map_err(|_| anyhow::anyhow!("a viewer has panicked"))??;
        for (number, segment) in &followed.segments {
            let parts: Vec<&[u8]> = followed
                .parts
                .range((*number, 0)..(number + 1, 0))
                .map(|(_, part)| part.as_slice())
                .collect();
            ensure!(parts.len() >= 5, "{} parts in 2 s", parts.len());
            ensure!(parts.concat() == *segment, "the parts of {number} are not the segment");
        }
        let mut held = followed.held;
        held.sort_unstable();
        let median = held[held.len() / 2];
        ensure!(median < Duration::from_secs(1), "reloads are held for {median:?}: segments, not parts");
        copies.push(followed.segments);
    }
    let both: Vec<u64> = copies[0].keys().filter(|number| copies[1].contains_key(number)).copied().collect();
    ensure!(both.len() >= 2, "the two saw {both:?} both");
    ensure!(both.iter().any(|number| copies[0][number] != copies[1][number]), "both got the same copy");
    ensure!(both.iter().all(|number| copies[0][number].len() == copies[1][number].len()));
    Ok(())
}
