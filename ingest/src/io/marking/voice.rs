//! Who decides how marking ended for a GOP, and whether a stream is coded anew, where two nodes make the same segments.
//!
//! In: what this node made of a GOP of the picture, or of a further encoding of it, or would do. Out: what counts. Touches the
//! books of a pair.

use crate::io::pair::data::{Decisions, Strand};
use ingest_api::Track;
use ingest_api::window::{Gop, Marking as Outcome};
use media::unit::Piece;

/// Who decides.
#[derive(Debug)]
pub enum Voice {
    /// This node, for itself.
    Own,
    /// The holder of the pair; the other node adopts what it says.
    Paired(Strand, Decisions),
}

impl Voice {
    /// Whether the stream is coded anew from the picture of this decode time on, given whether this node has room for it.
    pub(crate) async fn has_room(&mut self, at_90k: i64, ours: bool) -> bool {
        match self {
            Voice::Own => ours,
            Voice::Paired(strand, decisions) => {
                strand.agree_on_room(at_90k, ours, decisions).await.unwrap_or(ours)
            }
        }
    }

    /// The record that counts, and its slices where it is marked, given what this node made of the GOP. `true` when the
    /// holder marked it, this node could not, and the holder's slices did not come: then its own record stays.
    pub(super) async fn decide(
        &mut self,
        track: Track,
        ours: Gop,
        pieces: Option<Vec<Piece>>,
    ) -> (Gop, Option<Vec<Piece>>, bool) {
        let Voice::Paired(strand, decisions) = self else { return (ours, pieces, false) };
        if let Some(pieces) = &pieces {
            strand.marked((track, ours.start_90k), pieces);
        }
        match strand.agree(track, &ours, decisions).await {
            Some(theirs) if theirs.marking == Outcome::Marked && pieces.is_none() => {
                match strand.slices((track, theirs.start_90k)).await {
                    Some(pieces) => (theirs, Some(pieces), false),
                    None => (ours, None, true),
                }
            }
            Some(theirs) if theirs.marking != Outcome::Marked => (theirs, None, false),
            _ => (ours, pieces, false),
        }
    }
}
