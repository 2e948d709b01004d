//! What the fuzz targets call, and the test that replays their corpora: any bytes in, a panic where a promise breaks.

use crate::h264::nal::{self, Units};
use crate::host::Host;
use crate::job::{Coded, assemble};
use crate::plan::Plan;
use crate::wire::{self, Kind};
use bytes::Bytes;

/// Configurations that access units are read under: High with CABAC, and Baseline with CAVLC.
const RECORDS: [&[u8]; 2] = [
    &[
        1, 0x64, 0, 0x28, 0xff, 0xe1, 0, 25, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27,
        0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 1, 0, 6,
        0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
    ],
    &[
        0x01, 0x42, 0xc0, 0x0b, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x0b, 0xda, 0x0b, 0x13, 0xb0, 0x11,
        0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x14, 0x2a, 0xa0, 0x01, 0x00, 0x04,
        0x68, 0xce, 0x0f, 0xc8,
    ],
];

/// Any bytes as a configuration record: a plan whose new record is the old one with one PPS more, or a misfit.
pub fn h264_config(bytes: &[u8]) {
    let record = Bytes::copy_from_slice(bytes);
    let Ok(plan) = Plan::of(&record) else { return };
    assert_eq!(plan.host_avcc(), &record);
    assert!(plan.avcc().len() > record.len(), "our own PPS is in the new record");
    let again = Plan::of(plan.avcc()).expect("the new record fits as the old one did");
    assert!(again.own_pps_id() > plan.own_pps_id(), "the id is taken now");
    let config = plan.intra();
    assert!(config.width * config.height <= crate::plan::MACROBLOCKS_MAX * 256 && config.slices >= 1);
}

/// Any bytes as an IDR access unit, as what a worker answers to it, and as frames: values or errors.
pub fn h264_slice(bytes: &[u8]) {
    for record in RECORDS {
        let plan = Plan::of(&Bytes::from_static(record)).expect("x264 made the record");
        let _ = plan.admits(bytes);
        if let Ok(host) = Host::read(&plan, bytes) {
            let kept: usize =
                host.before.len() + host.after.iter().map(ExactSizeIterator::len).sum::<usize>();
            let prefixes = host.slices.len() * usize::from(plan.length_size());
            assert_eq!(kept + host.slice_bytes() + prefixes, bytes.len(), "every byte is kept or replaced");
            assert!(host.qp <= 51 && !host.slices.is_empty());
            assert!(host.annexb(&plan).len() > host.slice_bytes());
            let variant = Bytes::copy_from_slice(bytes);
            let pairs = vec![(variant.clone(), variant.clone()); usize::from(plan.slices())];
            let coded = Coded { pairs, qp: 20, attempts: 1 };
            assert!(assemble(&plan, &variant, coded).is_err(), "the host's slices are not under our PPS");
        }
        let count = Units::new(bytes, plan.length_size()).count();
        assert!(count <= bytes.len());
    }
    assert!(!nal::emulates_start_code(&nal::escape(bytes)));
    let _ = wire::read_job(bytes);
    let _ = wire::read_reply(Kind::Coded, bytes);
}
