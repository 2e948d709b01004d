//! MPEG-TS: the same segment once more, muxed, for players that do not like fragmented MP4 (ISO/IEC 13818-1).
//!
//! In: a segment's CMAF objects and their init sections. Out: whether there is such an object, and the object. Pure: a function
//! of bytes that both nodes of a pair compare, so either makes the same of them, when somebody asks for it.
//!
//! ```text
//! PAT PMT  video PES (IDR)                              audio PES  video PES  PAT PMT  audio PES …
//!          ├ head, AUD, SPS, PPS, SEI   common packets
//!          ├ slice 0                    packets as A and as B
//!          ├ slice 1                    packets as A and as B
//!          └ …
//! ```
//!
//! **Marks.** Every slice that exists as A and B begins in a packet of its own and ends with one: stuffing fills what is
//! left. A and B are equally long, so heads, counters and stuffing are the same, and the pair is one range of whole packets.
//! To a relay it is an object like any other.
//!
//! **Continuity.** Counters run on from segment to segment although each is made alone: every packet identifier has a
//! multiple of 16 packets a segment, the tables too. What is missing is taken from the longest common run of the track,
//! whose last bytes get packets of their own.
//!
//! **Time.** Stamps are the run's ticks, wrapped to 33 bits; the clock reference is a picture's decode tick, and stamps lie
//! half a second behind it. Audio ticks are counted from samples, as in CMAF.
//!
//! Audio that ADTS cannot describe is left out, and pictures go alone. Of several audio tracks the first is in it.

mod packets;
mod pes;
mod source;

use ingest_api::object::OBJECT_BYTES_MAX;
use ingest_api::{Object, Track};
use packets::{PACKET, ROUND, Writer, packets};
use pes::{Pes, Run};
use source::{Pictures, Sample, Sounds, samples};

/// One track of a segment: its init section and its fragments.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As `cmaf::video_init` or `cmaf::audio_init` made it.
    pub init: &'a [u8],
    /// The whole segment of this track.
    pub object: &'a Object,
}

/// Whether `segment` has something to give of these tracks. Next to no work: no byte of the media is looked at.
pub fn is_there(video: Option<Source<'_>>, audio: Option<Source<'_>>) -> bool {
    Tracks::of(video, audio).is_some()
}

/// The segment of these tracks; `None` where its pictures are not H.264, where nothing is left of it, and where it might be
/// larger than an object may be.
pub fn segment(video: Option<Source<'_>>, audio: Option<Source<'_>>) -> Option<Object> {
    let Tracks { video, audio } = Tracks::of(video, audio)?;
    let mut all: Vec<Pes> = Vec::new();
    if let Some((with, object, samples)) = &video {
        all.extend(pes::pictures(with, object, samples));
    }
    if let Some((with, object, samples)) = &audio {
        all.extend(pes::sounds(*with, object, samples));
    }
    all.sort_by_key(|pes| pes.tick_90k); // stable: a picture goes before the sound of its tick
    let about = all.iter().flat_map(|pes| &pes.runs).map(|run| packets(run.len(), true)).sum();
    let mut writer = Writer::new(video.is_some(), audio.is_some(), about);
    let padded = [Track::Video, Track::AUDIO].map(|track| padding(&writer, &all, track));
    let mut tables = 0;
    for (index, pes) in all.iter().enumerate() {
        while tables * all.len() <= ROUND * index {
            writer.put_tables();
            tables += 1;
        }
        let here = padded.iter().flatten().find(|padding| padding.pes == index);
        writer.put(pes, here.map(|padding| (padding.run, padding.packets)));
    }
    (tables..ROUND).for_each(|_| writer.put_tables());
    Some(writer.finish(video.map_or(0, |(_, object, _)| object.code_key)))
}

/// What of a segment can be said in MPEG-TS.
struct Tracks<'a> {
    video: Option<(Pictures, &'a Object, Vec<Sample>)>,
    audio: Option<(Sounds, &'a Object, Vec<Sample>)>,
}

impl<'a> Tracks<'a> {
    fn of(video: Option<Source<'a>>, audio: Option<Source<'a>>) -> Option<Tracks<'a>> {
        let video = match video {
            Some(track) => Some((Pictures::of_init(track.init)?, track.object, samples(&track.object.a))),
            None => None,
        };
        let audio = audio
            .and_then(|track| Some((Sounds::of_init(track.init)?, track.object, samples(&track.object.a))));
        let tracks = Tracks { video, audio };
        let some = tracks.video.is_some() || tracks.audio.is_some();
        (some && tracks.bytes_max() <= OBJECT_BYTES_MAX).then_some(tracks)
    }

    /// What it takes at most, in bytes. Each PES packet has a head, and each of its runs ends in a packet that is not full.
    fn bytes_max(&self) -> usize {
        let packets = |bytes: usize, runs: usize| packets(bytes, true) + runs;
        let video = self.video.as_ref().map_or(0, |(with, object, samples)| {
            let bytes = with.bytes_max(object.len()) + samples.len() * with.more_max();
            packets(bytes, samples.len() + 2 * object.pairs.len())
        });
        let audio = self.audio.as_ref().map_or(0, |(_, object, samples)| {
            packets(object.len() + samples.len() * Sounds::MORE_MAX, samples.len())
        });
        // Two tables, and what the tracks are padded by.
        PACKET * (video + audio + 4 * ROUND)
    }
}

/// Packets that a track is padded by, and the run that gives them.
struct Padding {
    pes: usize,
    run: usize,
    packets: usize,
}

/// The longest common run of a track gives what is missing to the next multiple: it has the bytes, since every PES packet has
/// more than 16.
fn padding(writer: &Writer, all: &[Pes], track: Track) -> Option<Padding> {
    let (mut count, mut longest, mut place) = (0, 0, None);
    for (at, pes) in all.iter().enumerate().filter(|(_, pes)| pes.track == track) {
        for (run, bytes) in pes.runs.iter().enumerate() {
            let reference = run == 0 && writer.has_reference(track);
            match bytes {
                Run::Common(bytes) => {
                    count += packets(bytes.len(), reference);
                    if bytes.len() > longest {
                        (longest, place) = (bytes.len(), Some((at, run)));
                    }
                }
                Run::Pair { a, .. } => count += packets(a.len(), false),
            }
        }
    }
    let (pes, run) = place?;
    Some(Padding { pes, run, packets: (ROUND - count % ROUND) % ROUND })
}

#[cfg(test)]
mod tests;
