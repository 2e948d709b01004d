//! The judge: rules that a live playlist and its segments must hold over time (RFC 8216 §6.2, design invariant 2).
//!
//! In: what a viewer sees, in the order seen. Out: violations as sentences; none is the only good verdict. Pure.
//!
//! Rule ids are those of the reliability research: L01 numbers never go back, L02 only appends and removals, L03 constant
//! target duration, L06 constant discontinuity numbers, L08 no end, P03 durations fit the target, P10 three target
//! durations are left, D01 dates follow each other, S02 bytes never change, S07 media time goes on, S12 a new codec
//! configuration is a discontinuity.

use crate::hls::{Listed, MediaPlaylist};
use crate::mp4::{self, Init};
use std::collections::BTreeMap;

/// How much shorter or longer sound may be than the pictures of its segment: a fifth of a second is more than any encoder
/// puts between the first of each.
const SOUND_EDGE_10US: u64 = 20_000;
const DAY_MS: i64 = 86_400_000;

/// Judges one track of one stream, as one viewer sees it.
#[derive(Debug, Default)]
pub struct Judge {
    track: String,
    last: Option<MediaPlaylist>,
    listed: BTreeMap<u64, Listed>,
    ends: BTreeMap<u64, End>,
    violations: Vec<String>,
}

/// Where a segment's media ends.
#[derive(Debug, Clone)]
struct End {
    starts: u64,
    ends: u64,
    init: Init,
    discontinuity: u64,
}

impl Judge {
    /// A judge of the track of that name.
    pub fn of(track: &str) -> Judge {
        Judge { track: track.to_owned(), ..Judge::default() }
    }

    /// What was found against the stream.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The listed segments so far, by number.
    pub fn listed(&self) -> &BTreeMap<u64, Listed> {
        &self.listed
    }

    fn say(&mut self, rule: &str, what: &str) {
        self.violations.push(format!("{} {rule}: {what}", self.track));
    }

    /// The viewer got this playlist now.
    pub fn playlist(&mut self, now: &MediaPlaylist) {
        if now.ended {
            self.say("L08", "the playlist has an end");
        }
        if let Some(last) = self.last.take() {
            if now.target_duration_s != last.target_duration_s {
                self.say(
                    "L03",
                    &format!("target duration {} after {}", now.target_duration_s, last.target_duration_s),
                );
            }
            if now.media_sequence < last.media_sequence || now.next_number() < last.next_number() {
                let range = |list: &MediaPlaylist| format!("{}–{}", list.media_sequence, list.next_number());
                self.say("L01", &format!("numbers {} after {}", range(now), range(&last)));
            }
            let left: u64 = now.segments.iter().map(|segment| segment.duration_10us).sum();
            if now.media_sequence > last.media_sequence && left < 3 * 100_000 * now.target_duration_s {
                self.say("P10", &format!("{left} × 10 µs are left after a removal"));
            }
        }
        for segment in &now.segments {
            let rounded = (segment.duration_10us + 50_000) / 100_000;
            if rounded > now.target_duration_s {
                self.say(
                    "P03",
                    &format!("segment {} lasts {} × 10 µs", segment.number, segment.duration_10us),
                );
            }
            match self.listed.get(&segment.number) {
                Some(first) if first != segment => {
                    self.say("L02/L06", &format!("{segment:?} was {first:?}"));
                }
                Some(_) => {}
                None => {
                    self.date(segment);
                    self.listed.insert(segment.number, segment.clone());
                }
            }
        }
        self.last = Some(now.clone());
    }

    /// A date is the last one plus its duration, but for what milliseconds cannot say.
    fn date(&mut self, segment: &Listed) {
        let Some(before) = segment.number.checked_sub(1).and_then(|number| self.listed.get(&number)) else {
            return;
        };
        if before.discontinuity != segment.discontinuity {
            return;
        }
        let step = (segment.date_ms_of_day as i64 - before.date_ms_of_day as i64).rem_euclid(DAY_MS);
        let duration = before.duration_10us as i64 / 100;
        if (step - duration).abs() > 2 {
            self.say(
                "D01",
                &format!("segment {} is dated {step} ms after one of {duration} ms", segment.number),
            );
        }
    }

    /// The viewer got these bytes for a listed segment.
    pub fn segment(&mut self, listed: &Listed, init: &[u8], bytes: &[u8]) {
        if let Err(error) = self.media(listed, init, bytes) {
            self.say("S06", &format!("segment {}: {error:#}", listed.number));
        }
    }

    fn media(&mut self, listed: &Listed, init: &[u8], bytes: &[u8]) -> anyhow::Result<()> {
        let number = listed.number;
        let init = Init::parse(init)?;
        let fragments = mp4::fragments(bytes)?;
        let (mut starts, mut ends) = (None, 0);
        for fragment in &fragments {
            if starts.is_some() && fragment.tfdt != ends {
                self.say(
                    "S07",
                    &format!("segment {number}: a part starts at {} after {ends}", fragment.tfdt),
                );
            }
            starts = starts.or(Some(fragment.tfdt));
            let ticks: u64 = fragment.samples.iter().map(|sample| u64::from(sample.duration)).sum();
            ends = fragment.tfdt + ticks;
        }
        let starts = starts.unwrap_or(0);
        let video = &init.handler == b"vide";
        if video && !fragments[0].samples.first().is_some_and(|sample| sample.sync) {
            self.say("S07", &format!("segment {number} does not start with a key frame"));
        }
        let real = (ends - starts) * 100_000 / u64::from(init.timescale);
        // Audio is cut at frames, and begins and ends where the sound does.
        let tolerance = if video { 2 } else { SOUND_EDGE_10US };
        if real.abs_diff(listed.duration_10us) > tolerance {
            self.say(
                "P03",
                &format!("segment {number} lasts {real} × 10 µs, listed as {}", listed.duration_10us),
            );
        }
        let end = End { starts, ends, init, discontinuity: listed.discontinuity };
        if let Some(before) = number.checked_sub(1).and_then(|number| self.ends.get(&number)).cloned() {
            self.follows(number, &before, &end);
        }
        if let Some(after) = self.ends.get(&(number + 1)).cloned() {
            self.follows(number + 1, &end, &after);
        }
        self.ends.insert(number, end);
        Ok(())
    }

    fn follows(&mut self, number: u64, before: &End, after: &End) {
        if before.discontinuity != after.discontinuity {
            return;
        }
        if before.init != after.init {
            self.say("S12", &format!("segment {number} has another configuration and no discontinuity"));
        }
        if before.ends != after.starts {
            self.say(
                "S07",
                &format!(
                    "segment {number} starts at {} after one that ends at {}",
                    after.starts, before.ends
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playlist(first: u64, count: u64) -> MediaPlaylist {
        let listed = |number| Listed {
            number,
            uri: format!("{number}.m4s"),
            duration_10us: 200_000,
            discontinuity: 0,
            map: "a".into(),
            date_ms_of_day: (DAY_MS as u64 - 3_000 + number * 2_000) % DAY_MS as u64,
        };
        MediaPlaylist {
            target_duration_s: 2,
            media_sequence: first,
            discontinuity_sequence: 0,
            ended: false,
            segments: (first..first + count).map(listed).collect(),
        }
    }

    fn verdict(playlists: &[MediaPlaylist]) -> String {
        let mut judge = Judge::of("video");
        playlists.iter().for_each(|playlist| judge.playlist(playlist));
        judge.violations().join("; ")
    }

    #[test]
    fn a_sliding_window_is_good() {
        assert_eq!(
            verdict(&[playlist(0, 3), playlist(0, 4), playlist(1, 4), playlist(1, 4), playlist(2, 3)]),
            ""
        );
    }

    #[test]
    fn each_rule_speaks_up() {
        assert!(verdict(&[playlist(1, 4), playlist(0, 5)]).contains("L01"));
        assert!(verdict(&[playlist(1, 4), playlist(1, 3)]).contains("L01"));
        assert!(verdict(&[playlist(0, 3), playlist(1, 2)]).contains("P10"));
        let mut other = playlist(0, 3);
        other.target_duration_s = 3;
        assert!(verdict(&[playlist(0, 3), other]).contains("L03"));
        let mut other = playlist(0, 3);
        other.segments[1].uri = "x".into();
        assert!(verdict(&[playlist(0, 3), other]).contains("L02"));
        let mut other = playlist(0, 3);
        other.segments[2].date_ms_of_day += 100;
        assert!(verdict(&[other]).contains("D01"));
        let mut other = playlist(0, 3);
        other.segments[2].duration_10us = 250_000;
        assert!(verdict(&[other]).contains("P03"));
        let mut other = playlist(0, 3);
        other.ended = true;
        assert!(verdict(&[other]).contains("L08"));
    }

    /// Three segments of a second by ffmpeg, and their init section.
    fn media() -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        let ffmpeg = crate::tool("ffmpeg").unwrap()?;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        let made = std::process::Command::new(ffmpeg)
            .args([
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=64x64:rate=10",
                "-t",
                "3",
                "-c:v",
                "libx264",
            ])
            .args(["-g", "10", "-bf", "0", "-movflags", "+empty_moov+frag_keyframe+default_base_moof"])
            .args(["-use_editlist", "0"])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        let bytes = std::fs::read(&file).unwrap();
        let (mut init, mut segments, mut at) = (Vec::new(), Vec::new(), 0);
        for (kind, body) in mp4::boxes(&bytes).unwrap() {
            let whole = &bytes[at..at + body.len() + 8];
            at += whole.len();
            match kind {
                b"moov" => init = whole.to_vec(),
                b"moof" => segments.push(whole.to_vec()),
                b"mdat" => segments.last_mut().unwrap().extend_from_slice(whole),
                _ => {}
            }
        }
        assert_eq!(segments.len(), 3);
        Some((init, segments))
    }

    fn judged(init: &[u8], segments: &[(u64, &[u8])]) -> String {
        let mut judge = Judge::of("video");
        for (number, bytes) in segments {
            let mut listed = playlist(*number, 1).segments.remove(0);
            listed.duration_10us = 100_000;
            judge.segment(&listed, init, bytes);
        }
        judge.violations().join("; ")
    }

    #[test]
    fn media_time_goes_on() {
        let Some((init, segments)) = media() else { return };
        let [a, b, c] = &segments[..] else { panic!("three segments") };
        assert_eq!(judged(&init, &[(1, a), (2, b), (3, c)]), "");
        assert_eq!(judged(&init, &[(3, c), (1, a), (2, b)]), "");
        assert!(judged(&init, &[(1, a), (2, c)]).contains("S07"));
        assert!(judged(&init, &[(1, a), (2, a)]).contains("S07"));
        assert!(judged(&init, &[(1, &a[..a.len() - 1])]).contains("S06"));
        assert!(judged(&init, &[(1, &[a.as_slice(), b].concat())]).contains("P03"));
    }
}
