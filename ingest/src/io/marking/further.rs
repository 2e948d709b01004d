//! Further encodings of the picture of a stream that is marked: each goes out marked or not at all, whatever the policy.
//!
//! In: their units. Out: the same where they are marked; IDR pictures as pairs of slices, with a GOP record. Part of marking.
//!
//! A GOP's id is of stream, run and the decode time of its IDR picture, and a further encoding begins where the picture does: both
//! have the same id, so a viewer has the same symbols in both. Which slices they are of is each encoding's own: symbol n is that of
//! slice n from the top, and a small picture may have fewer.

use super::{Marking, Voice, joined};
use ingest_api::window::{Gop, Marking as Outcome};
use ingest_api::{Encoding, RunId, Track};
use mark::Misfit;
use media::unit::{AccessUnit, Unit, VideoConfig};
use std::sync::Arc;

impl Marking {
    /// What goes on of a unit of a further encoding.
    pub(super) async fn further(&mut self, unit: Unit, run: RunId, voice: &mut Voice) -> Vec<Unit> {
        match unit {
            Unit::EncodingConfig(encoding, config) => {
                let configured = self.subjects[encoding.id()].configured(config, true);
                self.goes_on_as(encoding, configured).into_iter().collect()
            }
            Unit::Encoding(encoding, picture) => self.further_picture(encoding, picture, run, voice).await,
            other => vec![other],
        }
    }

    /// A configuration, where it can be marked.
    fn goes_on_as(
        &mut self,
        encoding: Encoding,
        (config, misfit): (Arc<VideoConfig>, Option<Misfit>),
    ) -> Option<Unit> {
        let Some(misfit) = misfit else { return Some(Unit::EncodingConfig(encoding, config)) };
        let name = Track::Encoding(encoding).as_str();
        // Whoever looked at it would leave no trace.
        let text = format!("{name} cannot be marked and is left out: {misfit}");
        self.reports.push(("further-tracks", text));
        None
    }

    async fn further_picture(
        &mut self,
        encoding: Encoding,
        mut picture: AccessUnit,
        run: RunId,
        voice: &mut Voice,
    ) -> Vec<Unit> {
        let (at, track) = (encoding.id(), Track::Encoding(encoding));
        let mut out = Vec::with_capacity(2);
        let bytes = joined(&picture.pieces);
        if let Some(misfit) = self.subjects[at].misfit(&bytes) {
            let text = format!("{} cannot be marked any longer and is left out: {misfit}", track.as_str());
            self.reports.push(("further-tracks", text));
        }
        if picture.idr
            && let Some(configured) = self.subjects[at].again(true)
        {
            out.extend(self.goes_on_as(encoding, configured));
        }
        let previous_gop_bytes = self.subjects[at].saw(picture.idr, bytes.len());
        if picture.idr {
            self.subjects[at].goes_on = false;
            if !self.subjects[at].is_planned() {
                return out;
            }
            let record = self.unmarked(run, picture.dts_90k);
            let (ours, pieces) = match self.mark(at, bytes, &record, previous_gop_bytes).await {
                Ok(done) => (self.marked(record, &done), Some(done.pieces)),
                Err(why) => {
                    let text = format!("a GOP of {} was not marked and is left out: {why}", track.as_str());
                    self.reports.push(("encoding-withheld", text));
                    (Gop { marking: Outcome::Withheld, ..record }, None)
                }
            };
            let (record, pieces) = self.decided(voice, track, ours, pieces).await;
            if let Some(pieces) = pieces {
                (picture.pieces, picture.gop) = (pieces, Some(record));
                self.subjects[at].goes_on = true;
            }
        }
        if self.subjects[at].goes_on {
            out.push(Unit::Encoding(encoding, picture));
        }
        out
    }
}
