//! What a relay counts, as Prometheus reads it. No label names a viewer, a session or a stream.

use super::players::Players;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// All metrics of one relay.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    denied: Family<ReasonLabels, Counter>,
    sessions: Family<OutcomeLabels, Counter>,
    webhook: Family<OutcomeLabels, Counter>,
    tier_requests: Family<OutcomeLabels, Counter>,
    tls_handshakes: Family<OutcomeLabels, Counter>,
    cache_looks: Family<OutcomeLabels, Counter>,
    flights: Family<OutcomeLabels, Counter>,
    upstream_failed: Family<KindLabels, Counter>,
    upstream_refused: Family<ReasonLabels, Counter>,
    /// Bytes sent to viewers, heads included.
    pub sent_bytes: Counter,
    /// Bodies cut short because their session ended.
    pub bodies_cut: Counter,
    /// Connections refused with 503 because there are too many.
    pub connections_refused: Counter,
    address_refused: Family<ReasonLabels, Counter>,
    http2_ended: Family<ReasonLabels, Counter>,
    /// Connections open that speak HTTP/2; they count among `connections` too.
    pub http2_connections: Gauge,
    /// Connections of listed proxies that did not say whose they are.
    pub proxy_malformed: Counter,
    /// When the viewers' certificate expires, in Unix seconds; 0 without one.
    pub tls_certificate_expires: Gauge,
    /// Certificates that were not good, so that the one before stayed in force.
    pub tls_certificate_refused: Counter,
    /// Viewers' connections open.
    pub connections: Gauge,
    /// How much of the audience is steered to the CDN, 0 to 1.
    pub cdn_share: Gauge<f64, AtomicU64>,
    /// Bytes of objects held.
    pub cache_bytes: Gauge,
    /// Objects held.
    pub cache_objects: Gauge,
    /// Flights under way.
    pub flights_open: Gauge,
    /// Streams followed.
    pub streams_followed: Gauge,
    /// Viewers revoked.
    pub revoked_viewers: Gauge,
    /// Access tokens minted over HTTP.
    pub minted: Counter,
    /// Readings of the keys of JSON web tokens that went well.
    pub jwt_keys_read: Counter,
    /// Readings of them that did not.
    pub jwt_keys_failed: Counter,
    origin_up: Family<OriginLabels, Gauge>,
    /// 1 while the coordinator answers.
    pub coordinator_up: Gauge,
    /// How long playlist requests were held.
    pub playlist_hold_seconds: Histogram,
    /// What players report of themselves.
    pub players: Players,
    /// What this relay does as a witness.
    pub witness: WitnessCounts,
}

/// What the witness's thread counts; clones count together.
#[derive(Clone, Debug, Default)]
pub struct WitnessCounts {
    asks: Family<OutcomeLabels, Counter>,
    /// The epoch this relay has granted; 0 for none.
    pub epoch: Gauge,
}

impl WitnessCounts {
    /// One ask answered, or not.
    pub fn asked(&self, outcome: &'static str) {
        self.asks.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    origin: String,
}

impl Metrics {
    /// Metrics at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("releve_relay");
        let mut metrics = Metrics {
            players: Players::new(&mut registry),
            registry,
            requests: Family::default(),
            denied: Family::default(),
            sessions: Family::default(),
            webhook: Family::default(),
            tier_requests: Family::default(),
            tls_handshakes: Family::default(),
            address_refused: Family::default(),
            http2_ended: Family::default(),
            http2_connections: Gauge::default(),
            proxy_malformed: Counter::default(),
            tls_certificate_expires: Gauge::default(),
            tls_certificate_refused: Counter::default(),
            cache_looks: Family::default(),
            flights: Family::default(),
            upstream_failed: Family::default(),
            upstream_refused: Family::default(),
            sent_bytes: Counter::default(),
            bodies_cut: Counter::default(),
            connections_refused: Counter::default(),
            connections: Gauge::default(),
            cdn_share: Gauge::default(),
            cache_bytes: Gauge::default(),
            cache_objects: Gauge::default(),
            flights_open: Gauge::default(),
            streams_followed: Gauge::default(),
            revoked_viewers: Gauge::default(),
            minted: Counter::default(),
            jwt_keys_read: Counter::default(),
            jwt_keys_failed: Counter::default(),
            origin_up: Family::default(),
            coordinator_up: Gauge::default(),
            playlist_hold_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            witness: WitnessCounts::default(),
        };
        let m = &mut metrics;
        let r = &mut m.registry;
        r.register("requests", "Viewers' requests by kind and status", m.requests.clone());
        r.register("denied", "Requests refused with 403, by reason", m.denied.clone());
        r.register("sessions", "Sessions admitted, or failed for want of a ledger", m.sessions.clone());
        r.register(
            "cache_looks",
            "Looks into the cache: hit, wait for a flight, miss",
            m.cache_looks.clone(),
        );
        r.register("flights", "Flights by outcome", m.flights.clone());
        r.register("upstream_failed", "Requests to origins that failed, by kind", m.upstream_failed.clone());
        r.register("upstream_refused", "Answers of origins refused, by reason", m.upstream_refused.clone());
        r.register("sent_bytes", "Bytes sent to viewers, heads included", m.sent_bytes.clone());
        r.register("bodies_cut", "Bodies cut short because their session ended", m.bodies_cut.clone());
        r.register(
            "connections_refused",
            "Connections refused with 503: too many",
            m.connections_refused.clone(),
        );
        r.register(
            "address_refused",
            "Connections and requests refused because their address holds its share, by what of",
            m.address_refused.clone(),
        );
        r.register("http2_connections", "Connections open that speak HTTP/2", m.http2_connections.clone());
        r.register("http2_ended", "HTTP/2 connections ended, by reason", m.http2_ended.clone());
        r.register(
            "proxy_malformed",
            "Connections closed because a listed proxy did not say whose they are",
            m.proxy_malformed.clone(),
        );
        r.register("connections", "Viewers' connections open", m.connections.clone());
        r.register("cdn_share", "How much of the audience is steered to the CDN", m.cdn_share.clone());
        r.register("cache_bytes", "Bytes of objects held", m.cache_bytes.clone());
        r.register("cache_objects", "Objects held", m.cache_objects.clone());
        r.register("flights_open", "Flights under way", m.flights_open.clone());
        r.register("streams_followed", "Streams followed", m.streams_followed.clone());
        r.register("revoked_viewers", "Viewers revoked", m.revoked_viewers.clone());
        r.register("minted", "Access tokens minted over HTTP", m.minted.clone());
        r.register("webhook", "Verdicts of the webhook, by outcome", m.webhook.clone());
        r.register("tls_handshakes", "TLS handshakes of viewers, by outcome", m.tls_handshakes.clone());
        r.register(
            "tls_certificate_expires",
            "End of the viewers' certificate in Unix seconds, 0 without one",
            m.tls_certificate_expires.clone(),
        );
        r.register(
            "tls_certificate_refused",
            "Certificates refused on reading them again",
            m.tls_certificate_refused.clone(),
        );
        r.register("jwt_keys_read", "Readings of JSON web keys", m.jwt_keys_read.clone());
        r.register("jwt_keys_failed", "Readings of JSON web keys that failed", m.jwt_keys_failed.clone());
        r.register("origin_up", "1 while the origin answers", m.origin_up.clone());
        r.register("coordinator_up", "1 while the coordinator answers", m.coordinator_up.clone());
        r.register(
            "playlist_hold_seconds",
            "How long playlist requests were held",
            m.playlist_hold_seconds.clone(),
        );
        r.register(
            "tier_requests",
            "Requests of relays behind this one, by outcome",
            m.tier_requests.clone(),
        );
        r.register("witness_asks", "Asks to this relay as a witness, by outcome", m.witness.asks.clone());
        r.register("witness_epoch", "Epoch granted by this witness, 0 for none", m.witness.epoch.clone());
        metrics
    }

    /// One request answered.
    pub fn request(&self, kind: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { kind, code: status.into() }).inc();
    }

    /// One request refused.
    pub fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// One session admitted or failed.
    pub fn sessions(&self, outcome: &'static str) {
        self.sessions.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// One request of a relay behind this one.
    pub fn tier(&self, outcome: &'static str) {
        self.tier_requests.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// One verdict of the webhook, or none.
    pub fn webhook(&self, outcome: &'static str) {
        self.webhook.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// One TLS handshake done, failed, or refused because too many were under way.
    pub fn handshake(&self, outcome: &'static str) {
        self.tls_handshakes.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// One connection or request refused because its address holds its share.
    pub fn address_refused(&self, reason: &'static str) {
        self.address_refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// One HTTP/2 connection ended.
    pub fn http2_ended(&self, reason: &'static str) {
        self.http2_ended.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// One look into the cache.
    pub fn cache_looks(&self, outcome: &'static str) {
        self.cache_looks.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// One flight landed.
    pub fn flights(&self, outcome: &'static str) {
        self.flights.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// One request to an origin failed.
    pub fn upstream_failed(&self, kind: &'static str) {
        self.upstream_failed.get_or_create(&KindLabels { kind }).inc();
    }

    /// One answer of an origin refused.
    pub fn upstream_refused(&self, reason: &'static str) {
        self.upstream_refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Whether an origin answers.
    pub fn origin_up(&self, origin: &str, up: bool) {
        self.origin_up.get_or_create(&OriginLabels { origin: origin.to_owned() }).set(up.into());
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}
