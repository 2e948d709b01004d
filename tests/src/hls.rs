//! Playlists as a viewer reads them (RFC 8216), strictly: a tag or attribute that is not known here is an error.
//!
//! In: text. Out: `Index` or `MediaPlaylist`. Pure. What low-latency playlists say more (RFC 8216bis) is checked and left out.

use anyhow::{Context, Result, bail, ensure};

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// URI of the first variant's playlist.
    pub main: String,
    /// Attributes and URI of each other one on the same pathway.
    pub others: Vec<(String, String)>,
    /// Name and URI of each audio rendition that is a playlist of its own.
    pub audio: Vec<(String, String)>,
    /// `CODECS` of the first variant.
    pub codecs: String,
}

/// A media playlist at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// `EXT-X-TARGETDURATION`, seconds.
    pub target_duration_s: u64,
    /// Number of the first segment.
    pub media_sequence: u64,
    /// Discontinuities before the first segment.
    pub discontinuity_sequence: u64,
    /// Whether it says that there will be no more.
    pub ended: bool,
    /// What it lists.
    pub segments: Vec<Listed>,
}

/// A segment as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Media sequence number.
    pub number: u64,
    /// Its URI.
    pub uri: String,
    /// `EXTINF` in units of 10 µs.
    pub duration_10us: u64,
    /// Discontinuities before it, since the beginning.
    pub discontinuity: u64,
    /// URI of its init section.
    pub map: String,
    /// `EXT-X-PROGRAM-DATE-TIME` in milliseconds of the day: enough to see that dates follow each other.
    pub date_ms_of_day: u64,
}

impl MediaPlaylist {
    /// The number after the last listed segment.
    pub fn next_number(&self) -> u64 {
        self.media_sequence + self.segments.len() as u64
    }

    /// Reads a media playlist.
    ///
    /// # Errors
    /// Names the line.
    pub fn parse(text: &str) -> Result<MediaPlaylist> {
        ensure!(text.ends_with('\n'), "the playlist is cut: no line end at its end");
        let mut lines = text.lines();
        ensure!(lines.next() == Some("#EXTM3U"), "no #EXTM3U");
        let (mut target, mut sequence, mut first_discontinuity) = (None, None, 0);
        let (mut discontinuity, mut map, mut date, mut duration) = (None, String::new(), None, None);
        let (mut ended, mut segments, mut parts) = (false, Vec::new(), Parts::default());
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-VERSION" | "#EXT-X-INDEPENDENT-SEGMENTS" => {}
                "#EXT-X-SERVER-CONTROL" | "#EXT-X-PART-INF" => parts.announce(tag, value)?,
                "#EXT-X-PART" => parts.list(value)?,
                "#EXT-X-PRELOAD-HINT" => drop(quoted(value, "URI").context("a hint has a URI")?),
                "#EXT-X-RENDITION-REPORT" => drop(quoted(value, "URI").context("a report has a URI")?),
                "#EXT-X-TARGETDURATION" => target = Some(value.parse()?),
                "#EXT-X-MEDIA-SEQUENCE" => sequence = Some(value.parse()?),
                "#EXT-X-DISCONTINUITY-SEQUENCE" => first_discontinuity = value.parse()?,
                "#EXT-X-DISCONTINUITY" => {
                    discontinuity = Some(discontinuity.unwrap_or(first_discontinuity) + 1);
                }
                "#EXT-X-KEY" if value == "METHOD=NONE" => {}
                "#EXT-X-KEY" => drop(quoted(value, "URI").context("a key has a URI")?),
                "#EXT-X-MAP" => map = quoted(value, "URI").context("a map has a URI")?,
                "#EXT-X-PROGRAM-DATE-TIME" => date = Some(ms_of_day(value)?),
                "#EXTINF" => duration = Some(hundred_thousandths(value.strip_suffix(',').unwrap_or(value))?),
                "#EXT-X-ENDLIST" => ended = true,
                _ if line.starts_with('#') || line.is_empty() => {
                    bail!("a line that is not expected: {line:?}")
                }
                _ => {
                    let first: u64 = sequence.context("a segment before #EXT-X-MEDIA-SEQUENCE")?;
                    ensure!(!map.is_empty(), "a segment without #EXT-X-MAP");
                    parts.end_segment(duration.unwrap_or(0))?;
                    segments.push(Listed {
                        number: first + segments.len() as u64,
                        uri: line.to_owned(),
                        duration_10us: duration.take().context("a segment without #EXTINF")?,
                        discontinuity: discontinuity.unwrap_or(first_discontinuity),
                        map: map.clone(),
                        date_ms_of_day: date.take().context("a segment without #EXT-X-PROGRAM-DATE-TIME")?,
                    });
                }
            }
        }
        Ok(MediaPlaylist {
            target_duration_s: target.context("no #EXT-X-TARGETDURATION")?,
            media_sequence: sequence.context("no #EXT-X-MEDIA-SEQUENCE")?,
            discontinuity_sequence: first_discontinuity,
            ended,
            segments,
        })
    }
}

/// What is said of parts (RFC 8216bis §4.4.3.7, §4.4.3.8, §4.4.4.9), in units of 10 µs.
#[derive(Default)]
struct Parts {
    hold_back: u64,
    target: u64,
    listed: u64,
    sum: u64,
}

impl Parts {
    fn announce(&mut self, tag: &str, value: &str) -> Result<()> {
        let number = |name: &str| {
            let found = value.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            hundred_thousandths(found.with_context(|| format!("no {name} in {tag}"))?)
        };
        match tag {
            "#EXT-X-PART-INF" => self.target = number("PART-TARGET")?,
            _ => self.hold_back = number("PART-HOLD-BACK")?,
        }
        let known = self.target > 0 && self.hold_back > 0;
        ensure!(!known || self.hold_back >= 2 * self.target, "{} is too near the end", self.hold_back);
        Ok(())
    }

    fn list(&mut self, value: &str) -> Result<()> {
        let duration = value.split(',').find_map(|pair| pair.strip_prefix("DURATION="));
        let duration = hundred_thousandths(duration.context("a part has a DURATION")?)?;
        quoted(value, "URI").context("a part has a URI")?;
        ensure!(duration <= self.target, "a part of {duration}, longer than {}", self.target);
        (self.listed, self.sum) = (self.listed + 1, self.sum + duration);
        Ok(())
    }

    /// A segment is as long as its parts, where they are listed.
    fn end_segment(&mut self, duration: u64) -> Result<()> {
        let (listed, sum) = (std::mem::take(&mut self.listed), std::mem::take(&mut self.sum));
        ensure!(listed == 0 || sum.abs_diff(duration) <= listed, "parts of {sum} in a segment of {duration}");
        Ok(())
    }
}

impl Index {
    /// Reads a multivariant playlist: the first variant, and what others there are; of one that is there by several pathways the
    /// first.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn parse(text: &str) -> Result<Index> {
        let mut lines = text.lines();
        ensure!(lines.next() == Some("#EXTM3U"), "no #EXTM3U");
        let (mut audio, mut variants): (_, Vec<(String, String)>) = (Vec::new(), Vec::new());
        let mut attributes = None;
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-VERSION" | "#EXT-X-INDEPENDENT-SEGMENTS" | "#EXT-X-CONTENT-STEERING" => {}
                "#EXT-X-MEDIA" => {
                    let rendition = quoted(value, "NAME").zip(quoted(value, "URI"));
                    let known = |name: &String| audio.iter().any(|(other, _)| other == name);
                    audio.extend(rendition.filter(|(name, _)| !known(name)));
                }
                "#EXT-X-STREAM-INF" => attributes = Some(value.to_owned()),
                _ if line.starts_with('#') || line.is_empty() => {
                    bail!("a line that is not expected: {line:?}")
                }
                _ => variants.push((attributes.take().context("a URI without attributes")?, line.to_owned())),
            }
        }
        ensure!(attributes.is_none() && !variants.is_empty(), "no variant");
        let (first, main) = variants.remove(0);
        let pathway = quoted(&first, "PATHWAY-ID");
        variants.retain(|(attributes, _)| quoted(attributes, "PATHWAY-ID") == pathway);
        let codecs = quoted(&first, "CODECS").context("no CODECS")?;
        Ok(Index { main, others: variants, audio, codecs })
    }
}

/// The quoted value of an attribute.
fn quoted(list: &str, name: &str) -> Option<String> {
    let mut rest = list;
    loop {
        let (this, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(text) => text.split_once('"').map(|(value, next)| (value, next.trim_start_matches(',')))?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if this == name {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

/// Decimal seconds with up to five places, exactly.
fn hundred_thousandths(text: &str) -> Result<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    ensure!(part.len() <= 5, "more than five decimals in {text:?}");
    Ok(whole.parse::<u64>()? * 100_000 + format!("{part:0<5}").parse::<u64>()?)
}

fn ms_of_day(date: &str) -> Result<u64> {
    let time =
        date.split_once('T').and_then(|(_, time)| time.strip_suffix('Z')).context("date not in UTC")?;
    let parts: Vec<&str> = time.split([':', '.']).collect();
    let [hours, minutes, seconds, ms] = parts[..] else { bail!("date without milliseconds: {date:?}") };
    ensure!(ms.len() == 3, "date without milliseconds: {date:?}");
    let (hours, minutes): (u64, u64) = (hours.parse()?, minutes.parse()?);
    Ok(((hours * 60 + minutes) * 60 + seconds.parse::<u64>()?) * 1000 + ms.parse::<u64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIA: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n\
        #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"video/init-a.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:34.137Z\n#EXTINF:2.00200,\nvideo/7.m4s\n#EXT-X-DISCONTINUITY\n\
        #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:36.139Z\n#EXTINF:2.00200,\nvideo/8.m4s\n";

    #[test]
    fn a_media_playlist_reads() {
        let playlist = MediaPlaylist::parse(MEDIA).unwrap();
        assert_eq!(playlist.next_number(), 9);
        assert_eq!(playlist.segments[1].discontinuity, 4);
        assert_eq!(playlist.segments[1].duration_10us, 200_200);
        assert_eq!(playlist.segments[1].date_ms_of_day - playlist.segments[0].date_ms_of_day, 2002);
    }

    #[test]
    fn parts_are_checked() {
        let with = |parts: &str| {
            let low = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3.00003\n#EXT-X-PART-INF:PART-TARGET=1.00100\n";
            let text = MEDIA.replacen("#EXT-X-MAP", &format!("{low}#EXT-X-MAP"), 1);
            MediaPlaylist::parse(&text.replacen("#EXTINF", &format!("{parts}#EXTINF"), 1))
        };
        let part = "#EXT-X-PART:DURATION=1.00100,URI=\"video/7.1.m4s\",INDEPENDENT=YES\n";
        assert_eq!(with(&part.repeat(2)).unwrap().segments.len(), 2);
        assert!(with(part).is_err(), "half of the segment");
        assert!(with(&part.replace("1.00100", "2.00200")).is_err(), "a part that is too long");
    }

    #[test]
    fn a_cut_or_strange_one_is_an_error() {
        assert!(MediaPlaylist::parse(&MEDIA[..MEDIA.len() - 1]).is_err());
        assert!(MediaPlaylist::parse(&MEDIA.replace("#EXT-X-VERSION", "#EXT-X-GAP")).is_err());
    }

    #[test]
    fn an_index_reads() {
        let index = Index::parse(
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"a,b=c\",URI=\"audio.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"x\"\nvideo.m3u8\n",
        );
        let index = index.unwrap();
        let audio = [("a,b=c".to_owned(), "audio.m3u8".to_owned())];
        assert_eq!((index.main.as_str(), &index.audio[..]), ("video.m3u8", &audio[..]));
        let two = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2,CODECS=\"x\",PATHWAY-ID=\"a\"\nvideo.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"y\",PATHWAY-ID=\"a\"\nvideo2.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2,CODECS=\"x\",PATHWAY-ID=\"b\"\nb-video.m3u8\n";
        let two = Index::parse(two).unwrap();
        assert_eq!((two.main.as_str(), two.codecs.as_str()), ("video.m3u8", "x"));
        assert_eq!(two.others.iter().map(|(_, uri)| uri.as_str()).collect::<Vec<_>>(), ["video2.m3u8"]);
    }
}
