//! What passes the stations of a stream, as bytes for the comparison with the other node.
//!
//! In: messages, units, records. Out: additions to a `mirror::compare::Chain`. Pure. The form matters to nobody else; it only
//! has to be the same on both nodes, and different for different things.

use ingest_api::window::Segment;
use media::unit::{Piece, Unit};
use mirror::Station;
use mirror::compare::Chain;

/// A message of the publisher.
pub fn message(chain: &mut Option<Chain>, message: &rtmp::Message) {
    let Some(chain) = chain else { return };
    let mut head = [0; 9];
    head[0] = message.kind as u8;
    head[1..5].copy_from_slice(&message.timestamp.to_be_bytes());
    head[5..].copy_from_slice(&(message.payload.len() as u32).to_be_bytes());
    chain.add(Station::Input, &head);
    chain.add(Station::Input, &message.payload);
}

/// A unit, before or after marking.
pub fn unit(chain: &mut Option<Chain>, station: Station, unit: &Unit) {
    let Some(chain) = chain else { return };
    let mut add = |tag: u8, head: &[i64], bytes: &[u8]| {
        chain.add(station, &[tag]);
        head.iter().for_each(|number| chain.add(station, &number.to_be_bytes()));
        chain.add(station, &(bytes.len() as u64).to_be_bytes());
        chain.add(station, bytes);
    };
    let (id, picture) = match unit {
        Unit::VideoConfig(config) => return add(0, &[], &config.record),
        Unit::AudioConfig(track, config) => return add(1, &[track.id() as i64], &config.record),
        Unit::Audio(frame) => return add(2, &[frame.track.id() as i64, frame.time_90k], &frame.data),
        Unit::EncodingConfig(encoding, config) => return add(11, &[encoding.id() as i64], &config.record),
        Unit::Video(picture) => (0, picture),
        Unit::Encoding(encoding, picture) => (encoding.id() as i64, picture),
    };
    let time = [id, picture.dts_90k, picture.composition_90k.into()];
    add(3, &time, &[u8::from(picture.idr)]);
    if let Some(gop) = &picture.gop {
        let keys = [gop.slices.into(), gop.pattern_key.into(), gop.code_key.into(), gop.bias_key.into()];
        add(4 + gop.marking as u8, &keys, &gop.id.0);
    }
    for piece in &picture.pieces {
        match piece {
            Piece::Common(bytes) => add(8, &[], bytes),
            Piece::Pair { a, b, slice } => {
                add(9, &[(*slice).into()], a);
                add(10, &[], b);
            }
        }
    }
}

/// A finished segment: its record has the hash of every byte, and the playlist is a function of it.
pub fn record(chain: &mut Chain, record: &Segment) {
    let bytes = serde_json::to_vec(record).expect("records are plain strings and numbers");
    chain.add(Station::Container, &bytes);
}
