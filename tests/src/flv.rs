//! A feed as it goes out: FLV tags (Adobe FLV 10.1, annex E) to access units, to compare what viewers get with.
//!
//! In: bytes of an FLV file with H.264 and AAC. Out: a `Feed`. Pure.

use anyhow::{Context, Result, ensure};

/// What a feed holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feed {
    /// AVCDecoderConfigurationRecord.
    pub avcc: Vec<u8>,
    /// AudioSpecificConfig.
    pub asc: Vec<u8>,
    /// What the pictures are, where they are not H.264: `avcc` is then the configuration record of that.
    pub video_fourcc: Option<[u8; 4]>,
    /// What the sound is, where it is not AAC: `asc` is then what that has in its place.
    pub audio_fourcc: Option<[u8; 4]>,
    /// Pictures in decode order.
    pub video: Vec<Unit>,
    /// AAC frames.
    pub audio: Vec<Unit>,
    /// AudioSpecificConfig of a second audio track; empty where there is none.
    pub second_asc: Vec<u8>,
    /// AAC frames of it.
    pub second: Vec<Unit>,
    /// AVCDecoderConfigurationRecord of a second encoding of the picture; empty where there is none.
    pub smaller_avcc: Vec<u8>,
    /// Pictures of it.
    pub smaller: Vec<Unit>,
}

/// One access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Decode time, milliseconds.
    pub dts_ms: u32,
    /// Presentation minus decode time, milliseconds.
    pub cts_ms: i32,
    /// Whether it is a key frame.
    pub key: bool,
    /// Length-prefixed NAL units, or one raw AAC frame.
    pub data: Vec<u8>,
}

impl Feed {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is no FLV file of H.264 and AAC, or is cut.
    pub fn parse(bytes: &[u8]) -> Result<Feed> {
        ensure!(bytes.starts_with(b"FLV\x01"), "no FLV file");
        let (mut feed, mut rest) = (Feed::default(), bytes.get(13..).context("cut header")?);
        while !rest.is_empty() {
            let head = rest.get(..11).context("cut tag")?;
            let size = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
            let dts_ms = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
            let body = rest.get(11..11 + size).context("cut tag")?;
            feed.tag(head[0], dts_ms, body)?;
            rest = rest.get(11 + size + 4..).context("cut tag")?;
        }
        Ok(feed)
    }

    fn tag(&mut self, kind: u8, dts_ms: u32, body: &[u8]) -> Result<()> {
        match (kind, body) {
            (9, [first, 0, _, _, _, record @ ..]) if first & 15 == 7 => self.avcc = record.to_vec(),
            (9, [first, 1, a, b, c, data @ ..]) if first & 15 == 7 => {
                let cts_ms = i32::from_be_bytes([*a, *b, *c, 0]) >> 8;
                self.video.push(Unit { dts_ms, cts_ms, key: first >> 4 == 1, data: data.to_vec() });
            }
            (9, [first, 2, ..]) if first & 15 == 7 => {} // end of sequence
            (8, [first, 0, config @ ..]) if first >> 4 == 10 => self.asc = config.to_vec(),
            (8, [first, 1, data @ ..]) if first >> 4 == 10 => {
                self.audio.push(Unit { dts_ms, cts_ms: 0, key: true, data: data.to_vec() });
            }
            (18, _) => {} // metadata
            (kind, _) => anyhow::bail!("a tag of type {kind} that is not H.264 or AAC, at {dts_ms} ms"),
        }
        Ok(())
    }
}
