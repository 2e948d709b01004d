//! The same bytes through this core and through `rtmp-runtime`: the same media, the same times.

use crate::common::{Wire, media, run_on, session};
use proptest::prelude::*;
use rtmp::{MediaKind, Message};
use rtmp_runtime::server::{ServerEvent, ServerSession};

const FFMPEG: &[u8] = include_bytes!("../captures/ffmpeg-5.1.bin");
/// `@setDataFrame` in AMF0, which rtmp-runtime passes through.
const SET_DATA_FRAME: usize = 16;

/// Media of the other implementation, read back from the FLV it writes.
fn theirs(bytes: &[u8]) -> Vec<Message> {
    let mut server = ServerSession::with_defaults();
    let mut flv = Vec::new();
    for piece in bytes.chunks(1000) {
        for event in server.handle_data(piece).unwrap().1 {
            if let ServerEvent::Media { flv: tag } = event {
                flv.extend(tag);
            }
        }
    }
    let mut rest = flv.get(13..).unwrap_or(&[]);
    let mut messages = Vec::new();
    while let [kind, l1, l2, l3, t1, t2, t3, t0, _, _, _, body @ ..] = rest {
        let length = u32::from_be_bytes([0, *l1, *l2, *l3]) as usize;
        let kind = match kind {
            8 => MediaKind::Audio,
            9 => MediaKind::Video,
            _ => MediaKind::Data,
        };
        let skip = if kind == MediaKind::Data { SET_DATA_FRAME } else { 0 };
        messages.push(Message {
            kind,
            timestamp: u32::from_be_bytes([*t0, *t1, *t2, *t3]),
            payload: body[skip..length].to_vec().into(),
        });
        rest = &body[length + 4..];
    }
    messages
}

fn ours(bytes: &[u8]) -> Vec<Message> {
    let run = run_on(session(), bytes);
    assert_eq!(run.result, Ok(()));
    media(&run.events)
}

#[test]
fn a_real_ffmpeg_publish() {
    let ours = ours(FFMPEG);
    assert_eq!(ours.len(), 59);
    assert_eq!(ours, theirs(FFMPEG));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_legal_publish(
        frames in prop::collection::vec(
            (4u8..9, any::<bool>(), any::<u32>(), 0usize..3000, prop::option::of(1u32..5000)), 1..30),
        deltas in prop::collection::vec(0u8..200, 0..20),
    ) {
        let mut wire = Wire::publishing();
        wire.media(1);
        for (csid, video, time, length, chunk_size) in frames {
            if let Some(size) = chunk_size {
                wire.chunk_size(size.max(64));
            }
            let payload: Vec<u8> = (0..length).map(|n| (n * 3 + length) as u8).collect();
            wire.message(csid, if video { 9 } else { 8 }, 1, time, &payload);
        }
        // Compressed headers: type 1, then 2 and 3 in turn.
        wire.message(9, 8, 1, 500, b"a").raw(&[0x49, 0, 0, 7, 0, 0, 2, 8, 1, 2]);
        for (n, delta) in deltas.iter().enumerate() {
            if n % 2 == 0 {
                wire.raw(&[0x89, 0, 0, *delta, 3, 4]);
            } else {
                wire.raw(&[0xC9, 5, 6]);
            }
        }
        prop_assert_eq!(ours(&wire.bytes), theirs(&wire.bytes));
    }
}
