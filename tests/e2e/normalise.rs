//! A stream of one IDR picture, normalised: viewers get closed GOPs and their own symbols, and a leak names its viewer.

use crate::variants::as_the_codeword_says;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;
use tests::mp4::{self, nal_type, nals};
use tests::{Cluster, Mark, Publisher, Viewer, decode, feed};

/// What both record.
const WATCHED: Duration = Duration::from_secs(30);
/// What a pirate sends on.
const LEAKED_S: &str = "18";

#[test]
fn a_stream_of_one_idr_picture_is_normalised_marked_and_traced() -> Result<()> {
    let cluster = Cluster::start_with(2, "normalise = \"auto\"", &[])?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::once(feed::OPEN, &cluster.publish_url(&key)?, cluster.dir())?;
    let names = ["alice", "bob"];
    let mut viewers = Vec::new();
    for (relay, name) in names.iter().enumerate() {
        let url = cluster.mint("demo", name, 600)?.remove(relay);
        viewers.push(Viewer::enter_when_live(&url, Duration::from_secs(20))?);
    }
    std::thread::scope(|scope| {
        let all: Vec<_> = viewers.iter_mut().map(|viewer| scope.spawn(|| viewer.follow(WATCHED))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a viewer panicked"))?)
    })?;
    let mut recordings = Vec::new();
    for viewer in &mut viewers {
        viewer.verdict()?;
        recordings.push(viewer.recording(0)?);
    }
    let seen = as_the_codeword_says(&cluster, &names, &recordings)?;
    ensure!(
        seen.segments >= 13 && seen.slices == 8 * seen.segments,
        "{} slices in {}",
        seen.slices,
        seen.segments
    );
    ensure!(seen.differing * 4 > seen.slices, "only {} of {} slices differ", seen.differing, seen.slices);
    for (number, bytes) in &recordings[0].segments {
        let fragments = mp4::fragments(bytes)?;
        let samples: Vec<_> = fragments.into_iter().flat_map(|fragment| fragment.samples).collect();
        let first = nals(&samples.first().context("a segment has pictures")?.data)?;
        ensure!(
            first.iter().any(|nal| nal_type(nal) == 5),
            "segment {number} does not begin with an IDR picture"
        );
        ensure!(samples.len() == 60, "segment {number} has {} pictures", samples.len());
    }
    let film = recordings[1].save(cluster.dir(), "bob.mp4")?;
    decode::silently(&film)?;

    let clip = cluster.dir().join("leak.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(&film).args(["-ss", "6", "-t", LEAKED_S, "-an"]);
    let ended = ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-crf", "26"]).arg(&clip).status()?;
    ensure!(ended.success(), "ffmpeg ended with {ended}");
    let (code, found) = cluster.identify(&clip, &[])?;
    ensure!(code == 0 && found["verdict"] == "identified", "exit {code}: {found}");
    let named: Vec<_> = found["viewers"].as_array().into_iter().flatten().map(|one| &one["viewer"]).collect();
    ensure!(named == ["bob"], "{named:?} are named");
    Ok(())
}
