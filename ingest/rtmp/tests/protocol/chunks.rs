//! Chunk streams: the examples of Adobe RTMP 1.0, section 5.3.2, header by header, and an oracle
//! for interleaving.

use bytes::BytesMut;
use proptest::prelude::*;
use rtmp::chunk::{Limits, Raw, Reader, Writer, kind};
use rtmp::{Error, limits};

const LIMITS: Limits = Limits { media_len_max: 1 << 20, budget: 4 << 20 };

fn read(bytes: &[u8]) -> Result<Vec<Raw>, Error> {
    let (mut reader, mut input, mut all) = (Reader::new(LIMITS, 0, 0), bytes, Vec::new());
    while let Some(message) = reader.next(&mut input)? {
        all.push(message);
    }
    Ok(all)
}

fn times(bytes: &[u8]) -> Vec<u32> {
    read(bytes).unwrap().iter().map(|message| message.timestamp).collect()
}

#[test]
fn specification_example_1_four_audio_messages() {
    // Section 5.3.2.1: 1000, 1020, 1040, 1060 ms; types 0, 2, 3, 3; 32 bytes each.
    let mut bytes = vec![3, 0, 0x03, 0xE8, 0, 0, 32, 8, 0x39, 0x30, 0, 0];
    bytes.extend([1; 32]);
    bytes.extend([0x83, 0, 0, 20]);
    bytes.extend([2; 32]);
    bytes.extend([0xC3]);
    bytes.extend([3; 32]);
    bytes.extend([0xC3]);
    bytes.extend([4; 32]);
    assert_eq!(bytes.len(), 44 + 36 + 33 + 33, "the sizes in the specification's table");
    let messages = read(&bytes).unwrap();
    assert_eq!(times(&bytes), [1000, 1020, 1040, 1060]);
    for (n, message) in messages.iter().enumerate() {
        assert_eq!((message.csid, message.kind, message.stream_id), (3, 8, 12345));
        assert_eq!(message.payload, vec![n as u8 + 1; 32]);
    }
}

#[test]
fn specification_example_2_one_long_video_message() {
    // Section 5.3.2.2: 307 bytes at 1000 ms, cut at 128.
    let mut bytes = vec![4, 0, 0x03, 0xE8, 0, 0x01, 0x33, 9, 0x3A, 0x30, 0, 0];
    bytes.extend([7; 128]);
    bytes.push(0xC4);
    bytes.extend([7; 128]);
    bytes.push(0xC4);
    bytes.extend([7; 51]);
    assert_eq!(bytes.len(), 140 + 129 + 52);
    let messages = read(&bytes).unwrap();
    assert_eq!((messages.len(), messages[0].timestamp, messages[0].payload.len()), (1, 1000, 307));
    let mut written = BytesMut::new();
    Writer::default().write(&mut written, 4, 9, 12346, 1000, &[7; 307]);
    assert_eq!(written, bytes, "our writer cuts as the specification does");
}

#[test]
fn basic_headers_of_one_two_and_three_bytes() {
    let body = [0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0xAA];
    for (basic, csid) in [
        (&[2][..], 2),
        (&[63], 63),
        (&[0, 0], 64),
        (&[0, 255], 319),
        (&[1, 0, 0], 64),
        (&[1, 0, 1], 320),
        (&[1, 255, 255], 65_599),
    ] {
        assert_eq!(read(&[basic, &body].concat()).unwrap()[0].csid, csid);
    }
}

#[test]
fn type_3_that_begins_a_message_adds_the_delta_again() {
    let mut bytes = vec![6, 0, 0, 100, 0, 0, 1, 9, 1, 0, 0, 0, 1];
    bytes.extend([0x46, 0, 0, 40, 0, 0, 2, 9, 1, 1]);
    bytes.extend([0xC6, 2, 2, 0xC6, 3, 3]);
    bytes.extend([0x86, 0, 0, 33, 4, 4, 0xC6, 5, 5]);
    assert_eq!(times(&bytes), [100, 140, 180, 220, 253, 286]);
}

#[test]
fn type_3_behind_type_0_adds_its_timestamp() {
    // Section 5.3.1.2.4, last sentence.
    let mut bytes = vec![6, 0, 0, 100, 0, 0, 1, 9, 1, 0, 0, 0, 1];
    bytes.extend([0xC6, 2]);
    assert_eq!(times(&bytes), [100, 200]);
}

#[test]
fn extended_timestamps_are_on_every_type_3_chunk_of_the_message() {
    for time in [0x00FF_FFFE, 0x00FF_FFFF, 0x0100_0000, 0xFFFF_FFFF] {
        let mut bytes = BytesMut::new();
        Writer::default().write(&mut bytes, 6, 9, 1, time, &[5; 300]);
        let extended = if time >= 0xFF_FFFF { 3 * 4 } else { 0 };
        assert_eq!(bytes.len(), 12 + 300 + 2 + extended);
        let messages = read(&bytes).unwrap();
        assert_eq!((messages[0].timestamp, messages[0].payload.len()), (time, 300));
    }
    // A delta may be extended too, and a new message by type 3 repeats it.
    let mut bytes = vec![6, 0, 0, 1, 0, 0, 1, 9, 1, 0, 0, 0, 1];
    bytes.extend([0x86, 0xff, 0xff, 0xff, 2, 0, 0, 0, 7]);
    bytes.extend([0xC6, 2, 0, 0, 0, 7]);
    bytes.extend([0x86, 0, 0, 1, 7, 0xC6, 7]);
    assert_eq!(times(&bytes), [1, 0x0200_0001, 0x0400_0001, 0x0400_0002, 0x0400_0003]);
}

#[test]
fn timestamps_wrap() {
    let mut bytes = vec![6, 0xff, 0xff, 0xff, 0, 0, 1, 9, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xf0, 1];
    bytes.extend([0x86, 0, 0, 0x20, 1]);
    assert_eq!(times(&bytes), [0xFFFF_FFF0, 0x10]);
}

#[test]
fn abort_drops_the_message_and_type_3_begins_a_new_one() {
    let mut reader = Reader::new(LIMITS, 0, 0);
    let mut input: &[u8] = &[&[6, 0, 0, 9, 0, 0, 200, 9, 1, 0, 0, 0][..], &[1; 128]].concat();
    assert_eq!(reader.next(&mut input), Ok(None));
    assert_eq!(reader.charged(), 200);
    reader.abort(6);
    assert_eq!((reader.charged(), reader.memory() < 16 * 1024), (0, true));
    let mut input: &[u8] = &[&[0xC6][..], &[2; 128], &[0xC6], &[2; 72]].concat();
    let message = reader.next(&mut input).unwrap().unwrap();
    assert_eq!((message.payload.as_ref(), message.timestamp), (&[2; 200][..], 18));
}

#[test]
fn a_header_needs_one_to_inherit_from_except_librtmps_control_messages() {
    for fmt in 1..=3u8 {
        let mut bytes = vec![fmt << 6 | 6];
        bytes.extend([0; 20]);
        assert_eq!(read(&bytes), Err(Error::NoHeader { csid: 6, fmt, at: 0 }));
    }
    let messages = read(&[0x42, 0, 0, 0, 0, 0, 4, 3, 0, 0, 1, 0]).unwrap();
    assert_eq!((messages[0].kind, messages[0].stream_id), (kind::ACKNOWLEDGEMENT, 0));
    assert!(matches!(read(&[0x82, 0, 0, 0]), Err(Error::NoHeader { csid: 2, fmt: 2, .. })));
}

#[test]
fn a_new_header_inside_a_message_is_an_error() {
    for fmt in 0..=2u8 {
        let mut bytes = vec![6, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
        bytes.extend([1; 128]);
        bytes.push(fmt << 6 | 6);
        bytes.extend([0; 11]);
        assert_eq!(read(&bytes), Err(Error::HeaderInsideMessage { csid: 6, fmt, at: 140 }));
    }
}

#[test]
fn limits_by_message_type() {
    for (kind, max) in [
        (kind::SET_CHUNK_SIZE, limits::CONTROL_LEN_MAX),
        (kind::USER_CONTROL, limits::CONTROL_LEN_MAX),
        (kind::COMMAND, limits::COMMAND_LEN_MAX),
        (kind::COMMAND_AMF3, limits::COMMAND_LEN_MAX),
        (19, limits::COMMAND_LEN_MAX),
        (200, limits::COMMAND_LEN_MAX),
        (kind::DATA, limits::DATA_LEN_MAX),
        (kind::VIDEO, LIMITS.media_len_max),
        (kind::AUDIO, LIMITS.media_len_max),
        (kind::AGGREGATE, LIMITS.media_len_max),
    ] {
        let header = |len: u32| {
            let [_, a, b, c] = len.to_be_bytes();
            read(&[6, 0, 0, 0, a, b, c, kind, 0, 0, 0, 0])
        };
        assert_eq!(header(max), Ok(vec![]));
        assert_eq!(header(max + 1), Err(Error::MessageLength { kind, len: max + 1, max, at: 0 }));
    }
}

/// What one chunk stream sends: messages of (time step, length).
type Script = Vec<(u32, usize)>;

/// Cuts the scripts into chunks and interleaves them as `order` says, with the shortest header that
/// is right. Gives the bytes and what must come out.
fn interleave(scripts: &[Script], order: &[u8], chunk_size: usize) -> (Vec<u8>, Vec<Raw>) {
    struct Sender {
        csid: u32,
        next: usize,
        sent: usize,
        time: u32,
        last: Option<(usize, u32)>,
    }
    let mut senders: Vec<Sender> = (0..scripts.len())
        .map(|n| Sender { csid: [5, 70, 400, 6][n], next: 0, sent: 0, time: 0, last: None })
        .collect();
    let basic = |fmt: u8, csid: u32| match csid {
        2..64 => vec![fmt << 6 | csid as u8],
        64..320 => vec![fmt << 6, (csid - 64) as u8],
        _ => vec![fmt << 6 | 1, (csid - 64) as u8, ((csid - 64) >> 8) as u8],
    };
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    let mut turns = order.iter().copied().cycle();
    while senders.iter().zip(scripts).any(|(sender, script)| sender.next < script.len()) {
        let turn = usize::from(turns.next().unwrap());
        let waiting = |n: &usize| senders[*n].next < scripts[*n].len();
        let n = (turn..turn + 4).map(|n| n % scripts.len()).find(waiting).unwrap();
        let sender = &mut senders[n];
        let (step, length) = scripts[n][sender.next];
        if sender.sent == 0 {
            sender.time = sender.time.wrapping_add(step);
            let fmt = match sender.last {
                None => 0,
                Some((len, _)) if len != length => 1,
                Some((_, last)) if last != step => 2,
                Some(_) => 3,
            };
            bytes.extend(basic(fmt, sender.csid));
            let field = if fmt == 0 { sender.time } else { step };
            if fmt < 3 {
                bytes.extend(&field.min(0xFF_FFFF).to_be_bytes()[1..]);
            }
            if fmt < 2 {
                bytes.extend(&(length as u32).to_be_bytes()[1..]);
                bytes.push(9);
            }
            if fmt == 0 {
                bytes.extend([1, 0, 0, 0]);
            }
            if field >= 0xFF_FFFF {
                bytes.extend(field.to_be_bytes());
            }
            sender.last = Some((length, field));
        } else {
            bytes.extend(basic(3, sender.csid));
            let (_, field) = sender.last.unwrap();
            if field >= 0xFF_FFFF {
                bytes.extend(field.to_be_bytes());
            }
        }
        let payload: Vec<u8> = (0..length).map(|i| (i * 13 + sender.next * 7 + n) as u8).collect();
        let end = length.min(sender.sent + chunk_size);
        bytes.extend(&payload[sender.sent..end]);
        sender.sent = end;
        if end == length {
            messages.push(Raw {
                csid: sender.csid,
                kind: 9,
                stream_id: 1,
                timestamp: sender.time,
                payload: payload.into(),
            });
            (sender.sent, sender.next) = (0, sender.next + 1);
        }
    }
    (bytes, messages)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn interleaved_messages_come_out_whole_for_any_cut(
        scripts in prop::collection::vec(
            prop::collection::vec(
                (prop_oneof![Just(0u32), Just(20), 0..2000u32, Just(0xFF_FFFF), any::<u32>()],
                 prop_oneof![Just(300usize), 0..600usize]),
                0..6),
            1..5),
        order in prop::collection::vec(0u8..4, 1..20),
        chunk_size in 1usize..300,
        pieces in prop::collection::vec(1usize..400, 1..20),
    ) {
        let (bytes, expected) = interleave(&scripts, &order, chunk_size);
        let mut reader = Reader::new(LIMITS, 0, 0);
        reader.set_chunk_size(chunk_size as u32).unwrap();
        let (mut got, mut rest, mut pieces) = (Vec::new(), bytes.as_slice(), pieces.into_iter().cycle());
        while !rest.is_empty() {
            let (mut piece, later) = rest.split_at(pieces.next().unwrap().min(rest.len()));
            rest = later;
            while let Some(message) = reader.next(&mut piece).unwrap() {
                got.push(message);
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!((reader.charged(), reader.position()), (0, bytes.len() as u64));
    }
}
