//! MPEG-TS: the same segment once more, muxed, for players that do not like fragmented MP4 (ISO/IEC 13818-1).
//!
//! In: a segment's CMAF objects and their init sections. Out: one object. Pure: it is a function of bytes that both nodes of
//! a pair compare, so it need be made only where its hash is, and where somebody asks for it. Nothing of it is kept.
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
use packets::{ROUND, Writer, packets};
use pes::{Pes, Run};
use source::{Pictures, Sounds, samples};

/// One track of a segment: its init section and its fragments.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As `cmaf::video_init` or `cmaf::audio_init` made it.
    pub init: &'a [u8],
    /// The whole segment of this track.
    pub object: &'a Object,
}

/// The segment of these tracks; `None` where its pictures are not H.264, where nothing is left of it, and where it would be
/// larger than an object may be.
pub fn segment(video: Option<Source<'_>>, audio: Option<Source<'_>>) -> Option<Object> {
    let video = match video {
        Some(track) => Some((Pictures::of_init(track.init)?, track.object)),
        None => None,
    };
    let audio = audio.and_then(|track| Some((Sounds::of_init(track.init)?, track.object)));
    if video.is_none() && audio.is_none() {
        return None;
    }
    let mut all: Vec<Pes> = Vec::new();
    if let Some((with, object)) = &video {
        all.extend(pes::pictures(with, object, &samples(&object.a)));
    }
    if let Some((with, object)) = &audio {
        all.extend(pes::sounds(*with, object, &samples(&object.a)));
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
        if writer.len() > OBJECT_BYTES_MAX {
            return None;
        }
    }
    (tables..ROUND).for_each(|_| writer.put_tables());
    Some(writer.finish(video.map_or(0, |(_, object)| object.code_key)))
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
