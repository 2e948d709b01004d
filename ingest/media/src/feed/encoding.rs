//! Further encodings of the picture: what each has of a message.
//!
//! In: what a video message has of one of them. Out: its units, on the clock of the picture. Pure; part of the feed.

use super::walk::{self, Picture};
use super::{ACCESS_UNIT_BYTES_MAX, Feed};
use crate::flv::Video;
use crate::unit::{AccessUnit, Piece, Unit, VideoCoding, VideoConfig};
use bytes::Bytes;
use ingest_api::{Encoding, Track};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One further encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    pub(super) config: Option<Arc<VideoConfig>>,
    /// It goes on after a picture that needs none before it.
    has_idr: bool,
}

impl Feed {
    /// What a message has of a further encoding. Nothing that is wrong with it is the publisher's end: it is left out.
    pub(super) fn of_encoding(
        &mut self,
        encoding: Encoding,
        timestamp_ms: u32,
        video: Video,
        units: &mut Vec<Unit>,
    ) {
        let track = Track::Encoding(encoding);
        match video {
            Video::Config { coding, record } => {
                let now = &mut self.encodings[encoding.index()];
                if now.config.as_ref().is_some_and(|now| now.coding == coding && now.record == record) {
                    return;
                }
                *now = Beside::default();
                let Ok(config) = VideoConfig::of(coding, record) else { return self.left_out(track, 1) };
                let config = Arc::new(config);
                now.config = Some(config.clone());
                units.push(Unit::EncodingConfig(encoding, config));
            }
            Video::Frame { coding, composition_ms, data, .. } => {
                match self.further_picture(encoding, timestamp_ms, coding, composition_ms, data) {
                    Ok(unit) => units.extend(unit),
                    Err(()) => {
                        self.encodings[encoding.index()].has_idr = false;
                        self.left_out(track, 1);
                    }
                }
            }
            Video::End | Video::Ignored(_) => self.counts.ignored += 1,
        }
    }

    /// A picture of a further encoding; `Err` where it is none.
    fn further_picture(
        &mut self,
        encoding: Encoding,
        timestamp_ms: u32,
        coding: VideoCoding,
        composition_ms: i32,
        data: Bytes,
    ) -> Result<Option<Unit>, ()> {
        let Beside { config, has_idr } = &mut self.encodings[encoding.index()];
        let Some(config) = config.as_ref().filter(|config| config.coding == coding) else {
            self.counts.dropped += 1;
            return Ok(None);
        };
        if data.len() > ACCESS_UNIT_BYTES_MAX {
            return Err(());
        }
        let (data, picture) = walk::picture(data, coding, config.length_size).map_err(|_| ())?;
        if picture == Picture::None {
            self.counts.ignored += 1;
            return Ok(None);
        }
        let idr = picture == Picture::Idr;
        // It is cut by the picture: without that, and on another clock than that one's, it is nowhere.
        let at = self.timeline.beside(Track::Video, timestamp_ms);
        let Some(dts_90k) = at.filter(|_| idr || *has_idr) else {
            self.counts.dropped += 1;
            *has_idr = false;
            return Ok(None);
        };
        *has_idr = true;
        let composition_90k = composition_ms * 90; // 24 bits times 90 fits 32
        let pieces = vec![Piece::Common(data)];
        let unit = AccessUnit { dts_90k, composition_90k, idr, gop: None, pieces };
        Ok(Some(Unit::Encoding(encoding, unit)))
    }
}
