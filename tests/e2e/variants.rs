//! Two viewers of the same seconds: the same lengths everywhere, other IDR slices only, and those as the tracer says.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tests::mp4::{self, nal_type, nals};
use tests::{Cluster, Mark, Publisher, Recording, Viewer, decode, feed, http};

const VIEWERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A sample as the parts before, between and after its IDR slices: part 0 is what comes before the first slice, part i + 1
/// slice i with everything up to the next.
fn by_slice(sample: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut parts = vec![Vec::new()];
    for nal in nals(sample)? {
        if nal_type(nal) == 5 {
            parts.push(Vec::new());
        }
        let part = parts.last_mut().context("there is always a part")?;
        part.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        part.extend_from_slice(nal);
    }
    Ok(parts)
}

/// What viewers' recordings were seen to have.
pub(crate) struct Seen {
    /// Segments that all have.
    pub(crate) segments: usize,
    /// IDR slices in them, …
    pub(crate) slices: usize,
    /// … those that somebody has as A, …
    pub(crate) of_a: usize,
    /// … and those that are not the same for all.
    pub(crate) differing: usize,
}

/// Compares the segments that all recordings have with what the tracer says each viewer got: other bytes in IDR slices of
/// another symbol, and nowhere else.
pub(crate) fn as_the_codeword_says(
    cluster: &Cluster,
    names: &[&str],
    recordings: &[Recording],
) -> Result<Seen> {
    let (mut slices, mut of_a, mut differing) = (0, 0, 0);
    let everybodys: Vec<u64> = recordings[0]
        .segments
        .keys()
        .copied()
        .filter(|number| recordings.iter().all(|recording| recording.segments.contains_key(number)))
        .collect();
    let segments = everybodys.len();
    for number in everybodys {
        let first = &recordings[0].segments[&number];
        let mut words = Vec::new();
        for (name, recording) in names.iter().zip(recordings) {
            ensure!(
                recording.segments[&number].len() == first.len(),
                "segment {number} has another length for {name}"
            );
            ensure!(recording.init == recordings[0].init, "the init sections differ");
            let word = cluster.codeword("demo", name, number)?;
            ensure!(word["viewer"] == **name && word["segment"] == number, "{word}");
            words.push(word["symbols"].as_str().context("symbols are text")?.to_owned());
        }
        // Every viewer's samples, cut at the IDR slices; what is common first, then slice by slice.
        let mut cut = Vec::new();
        for recording in recordings {
            let fragments = mp4::fragments(&recording.segments[&number])?;
            let samples: Vec<_> = fragments.into_iter().flat_map(|fragment| fragment.samples).collect();
            cut.push(samples.iter().map(|sample| by_slice(&sample.data)).collect::<Result<Vec<_>>>()?);
        }
        let mut at = 0;
        for sample in 0..cut[0].len() {
            for part in 0..cut[0][sample].len() {
                let mut seen: BTreeMap<char, &[u8]> = BTreeMap::new();
                for (viewer, parts) in cut.iter().enumerate() {
                    let bytes = parts[sample].get(part).context("another number of slices")?.as_slice();
                    let symbol = match part {
                        0 => 'c',
                        _ => words[viewer].chars().nth(at).context("fewer symbols than slices")?,
                    };
                    let same = *seen.entry(symbol).or_insert(bytes) == bytes;
                    ensure!(
                        same,
                        "segment {number}, slice {at}: {} got other bytes than the symbol {symbol} says",
                        names[viewer]
                    );
                }
                if part > 0 {
                    at += 1;
                    slices += 1;
                    of_a += usize::from(seen.contains_key(&'A'));
                    if let (Some(a), Some(b)) = (seen.get(&'A'), seen.get(&'B')) {
                        ensure!(a != b, "segment {number}, slice {at}: A and B are the same bytes");
                        ensure!(
                            a.len() == b.len(),
                            "segment {number}, slice {at}: A and B have other lengths"
                        );
                        differing += 1;
                    }
                }
            }
        }
        ensure!(at == words[0].len(), "{at} slices, but {} symbols", words[0].len());
    }
    Ok(Seen { segments, slices, of_a, differing })
}

#[test]
fn viewers_differ_in_idr_slices_only_as_the_codeword_says() -> Result<()> {
    let cluster = Cluster::start(2)?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let mut viewers = Vec::new();
    for (index, name) in VIEWERS.iter().enumerate() {
        let url = cluster.mint("demo", name, 600)?.remove(index % 2);
        viewers.push(Viewer::enter_when_live(&url, Duration::from_secs(20))?);
    }
    std::thread::scope(|scope| {
        let all: Vec<_> =
            viewers.iter_mut().map(|viewer| scope.spawn(|| viewer.follow(Duration::from_secs(20)))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a viewer panicked"))?)
    })?;
    let mut recordings: Vec<Recording> = Vec::new();
    for viewer in &mut viewers {
        viewer.verdict()?;
        recordings.push(viewer.recording(0)?);
    }

    let seen = as_the_codeword_says(&cluster, &VIEWERS, &recordings)?;
    ensure!(seen.segments >= 9, "{} segments that all have in 20 s", seen.segments);
    ensure!(seen.slices >= 72, "{} slices carry symbols in 9 segments", seen.slices);
    ensure!(
        seen.differing * 2 > seen.slices && seen.of_a > 0,
        "only {} of {} slices differ among four viewers",
        seen.differing,
        seen.slices
    );

    as_mpeg_ts(&cluster, &viewers, &recordings)?;
    for (name, recording) in VIEWERS.iter().zip(&recordings) {
        let file = recording.save(cluster.dir(), &format!("{name}.mp4"))?;
        decode::silently(&file)?;
    }
    Ok(())
}

/// The newest segment as MPEG-TS: as long for everyone, and for each viewer the pictures of their own recording.
fn as_mpeg_ts(cluster: &Cluster, viewers: &[Viewer], recordings: &[Recording]) -> Result<()> {
    let newest = |recording: &Recording| recording.segments.keys().next_back().copied();
    let number = recordings.iter().filter_map(newest).min().context("a segment")?;
    let (mut lengths, mut looks, mut words) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for ((name, viewer), recording) in VIEWERS.iter().zip(viewers).zip(recordings) {
        let url = http::join(&viewer.index_url, &format!("ts/{number}.ts"))?;
        let answer = http::get(&url)?.ok()?;
        ensure!(answer.header("content-type") == Some("video/mp2t"), "{:?}", answer.header("content-type"));
        let muxed = cluster.dir().join(format!("{name}-{number}.ts"));
        std::fs::write(&muxed, &answer.body)?;
        let own = BTreeMap::from([(number, recording.segments[&number].clone())]);
        let own = Recording { segments: own, ..recording.clone() };
        let fragmented = own.save(cluster.dir(), &format!("{name}-{number}.mp4"))?;
        decode::silently(&muxed)?;
        let pictures = decode::pictures(&muxed)?;
        ensure!(pictures == decode::pictures(&fragmented)?, "{name} gets other pictures as MPEG-TS");
        words.insert(cluster.codeword("demo", name, number)?["symbols"].to_string());
        lengths.insert(answer.body.len());
        looks.insert(pictures);
    }
    ensure!(lengths.len() == 1, "segment {number} as MPEG-TS has lengths {lengths:?}");
    // Eight symbols may be the same for two of them.
    ensure!(looks.len() == words.len(), "{} different copies for {words:?}", looks.len());
    Ok(())
}

#[test]
fn a_viewer_gets_the_same_bytes_on_every_relay() -> Result<()> {
    let cluster = Cluster::start(2)?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let urls = cluster.mint("demo", "alice", 600)?;
    let mut one = Viewer::enter_when_live(&urls[0], Duration::from_secs(20))?;
    let mut two = Viewer::enter_when_live(&urls[1], Duration::from_secs(20))?;
    one.follow_until(4, Duration::from_secs(20))?;
    two.follow_until(4, Duration::from_secs(20))?;
    let (one, two) = (one.recording(0)?, two.recording(0)?);
    let mut common = 0;
    for (number, bytes) in &one.segments {
        let Some(other) = two.segments.get(number) else { continue };
        ensure!(bytes == other, "segment {number} depends on the relay");
        common += 1;
    }
    ensure!(common >= 3, "{common} segments that both relays gave");
    Ok(())
}
