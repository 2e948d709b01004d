//! What an ingest node counts, in Prometheus' text format.
//!
//! Names follow Prometheus' rules: prefix `releve_ingest_`, base units, `_total` on counters. Labels are streams and small
//! fixed sets of words; never a peer, a key or a viewer.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Bounds for how long marking takes, in seconds.
const MARK_SECONDS: [f64; 11] = [0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.25, 0.5, 1.0];

/// Label: the stream's public name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfStream {
    /// Public name.
    pub stream: String,
}

/// Labels: a stream and one word of a fixed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfStreamAnd {
    /// Public name.
    pub stream: String,
    /// What happened.
    pub kind: &'static str,
}

/// Label: why something was refused or closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Because {
    /// One of a fixed set of words.
    pub reason: &'static str,
}

/// All counters of the node; cheap to clone, clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Open RTMP connections.
    pub connections: Gauge,
    /// Publishers that hold a slot.
    pub publishers: Gauge,
    /// RTMP connections refused or closed by us.
    pub refused: Family<Because, Counter>,
    /// Bytes of media messages taken.
    pub media_bytes: Family<OfStream, Counter>,
    /// Segments published.
    pub segments: Family<OfStream, Counter>,
    /// GOPs, by how marking ended.
    pub gops: Family<OfStreamAnd, Counter>,
    /// Things worth knowing about a feed: jumps, long GOPs, missing audio.
    pub reports: Family<OfStreamAnd, Counter>,
    /// From an IDR's arrival to its marked pair; 60 ms are what marking may cost in time.
    pub mark_seconds: Histogram,
    /// QP of the newest marked IDR: where the size cap raises it, the mark gets weaker.
    pub mark_qp: Family<OfStream, Gauge>,
    /// Marking processes killed or found dead.
    pub mark_restarts: Gauge,
    /// By how many segments the next key of a DRM key server is late.
    pub drm_key_late: Family<OfStream, Gauge>,
    /// How far the normaliser of a stream is behind, in milliseconds of work.
    pub normalise_behind: Family<OfStream, Gauge>,
    /// Bytes that the archive has written.
    pub archive_bytes: Family<OfStream, Counter>,
    /// Segments that are missing in the archive: written too slowly, or not at all.
    pub archive_dropped: Family<OfStreamAnd, Counter>,
    /// From a finished segment to its durable record.
    pub commit_seconds: Histogram,
    /// Connections in the books of the pair, its own and mirrored ones.
    pub pair_connections: Gauge,
    /// Input that the other node of the pair has not confirmed.
    pub pair_unconfirmed: Gauge,
    /// Segments of which both nodes of the pair have spoken, by how they compare.
    pub pair_segments: Family<OfStreamAnd, Counter>,
    /// When the publishers' certificate expires, in Unix seconds; 0 without one.
    pub tls_certificate_expires: Gauge,
    /// Certificates that were not good, so that the one before stayed in force.
    pub tls_certificate_refused: Counter,
    /// Origin requests refused for their signature.
    pub origin_denied: Counter,
}

impl Metrics {
    /// Counters at zero, and the registry that prints them.
    pub fn new() -> (Metrics, Registry) {
        let metrics = Metrics {
            connections: Gauge::default(),
            publishers: Gauge::default(),
            refused: Family::default(),
            media_bytes: Family::default(),
            segments: Family::default(),
            gops: Family::default(),
            reports: Family::default(),
            mark_seconds: Histogram::new(MARK_SECONDS),
            mark_qp: Family::default(),
            mark_restarts: Gauge::default(),
            drm_key_late: Family::default(),
            normalise_behind: Family::default(),
            archive_bytes: Family::default(),
            archive_dropped: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 12)),
            pair_connections: Gauge::default(),
            pair_unconfirmed: Gauge::default(),
            pair_segments: Family::default(),
            tls_certificate_expires: Gauge::default(),
            tls_certificate_refused: Counter::default(),
            origin_denied: Counter::default(),
        };
        let mut registry = Registry::with_prefix("releve_ingest");
        let m = metrics.clone();
        registry.register("connections", "Open RTMP connections", m.connections);
        registry.register("publishers", "Publishers that hold a slot", m.publishers);
        registry.register("refused", "RTMP connections refused or closed by the node", m.refused);
        registry.register_with_unit("media", "Media messages taken", Unit::Bytes, m.media_bytes);
        registry.register("segments", "Segments published", m.segments);
        registry.register("gops", "GOPs by how marking ended", m.gops);
        registry.register("reports", "Events of a feed worth knowing", m.reports);
        registry.register_with_unit("mark", "IDR to marked pair", Unit::Seconds, m.mark_seconds);
        registry.register("mark_qp", "QP of the newest marked IDR", m.mark_qp);
        registry.register("mark_restarts", "Marking processes killed or found dead", m.mark_restarts);
        registry.register(
            "drm_key_late_segments",
            "Segments since the next key of the DRM key server was due and did not come",
            m.drm_key_late,
        );
        registry.register(
            "normalise_behind_ms",
            "How far a stream's normaliser is behind",
            m.normalise_behind,
        );
        registry.register_with_unit("archive", "Written to the archive", Unit::Bytes, m.archive_bytes);
        registry.register("archive_dropped", "Segments that the archive lacks", m.archive_dropped);
        registry.register_with_unit("commit", "Segment to durable record", Unit::Seconds, m.commit_seconds);
        registry.register(
            "pair_connections",
            "Publishers' connections in the pair's books",
            m.pair_connections,
        );
        registry.register_with_unit(
            "pair_unconfirmed",
            "Input the standby lacks",
            Unit::Bytes,
            m.pair_unconfirmed,
        );
        registry.register("pair_segments", "Segments compared with the other node", m.pair_segments);
        registry.register(
            "tls_certificate_expires",
            "End of the publishers' certificate in Unix seconds, 0 without one",
            m.tls_certificate_expires,
        );
        registry.register(
            "tls_certificate_refused",
            "Certificates refused on reading them again",
            m.tls_certificate_refused,
        );
        registry.register("origin_denied", "Origin requests refused for their signature", m.origin_denied);
        (metrics, registry)
    }
}

/// The whole registry as text.
pub fn render(registry: &Registry) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut out, registry);
    out
}
