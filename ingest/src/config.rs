//! The configuration of an ingest node.
//!
//! In: TOML text and the environment. Out: a checked `Config`, or an error that names the key. Pure: the caller reads the
//! file and the environment. Every key outside of `[pair]` and `[drm]` can be overridden by `RELEVE_INGEST_` and its name in capitals.

pub mod pair;

use crate::cpix::System;
use releve_listen::Files;
use releve_listen::outside::{RULE, may_ask};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// What goes before a key's name in the environment.
pub const ENV_PREFIX: &str = "RELEVE_INGEST_";

/// The keys whose values are numbers.
const NUMBERS: [&str; 5] =
    ["segment_seconds", "window_segments", "mark_workers", "archive_hours", "key_segments"];

/// The keys whose values are switches.
const SWITCHES: [&str; 2] = ["low_latency", "mpeg_ts"];

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is done about streams whose IDR pictures are too far apart to mark them well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// They go out as they come; each IDR picture is marked.
    #[default]
    Off,
    /// They are coded anew in closed GOPs of 2 s at most.
    Auto,
}

/// The key server of streams that are encrypted for DRM systems: `docs/drm.md`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drm {
    /// Where it is asked (SPEKE 2.0).
    pub url: String,
    /// Which systems' players shall be able to play: `widevine`, `playready`, `fairplay`.
    pub systems: Vec<System>,
}

/// All keys of an ingest node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name, unique in the cluster: letters, digits, `_`, `-`.
    pub name: String,
    /// The state folder: `state.db`, `keys/`, `blobs/`.
    pub dir: PathBuf,
    /// Where publishers connect.
    #[serde(default = "rtmp_listen")]
    pub rtmp_listen: SocketAddr,
    /// Where publishers connect that speak RTMP through TLS; with `tls_certificate` and `tls_key`. In a pair TLS ends with its
    /// node: `docs/takeover.md`.
    #[serde(default)]
    pub rtmps_listen: Option<SocketAddr>,
    /// PEM file of the certificate, its issuers behind it.
    #[serde(default)]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// Where relays fetch.
    #[serde(default = "origin_listen")]
    pub origin_listen: SocketAddr,
    /// Where operators look: metrics, health, status. Keep it off public addresses.
    #[serde(default = "admin_listen")]
    pub admin_listen: SocketAddr,
    /// The URL relays reach the origin by, when it is not its listen address.
    #[serde(default)]
    pub origin_url: Option<String>,
    /// Target duration of segments in seconds, 1 to 10.
    #[serde(default = "segment_seconds")]
    pub segment_seconds: u32,
    /// Segments a playlist lists, 3 to 60.
    #[serde(default = "window_segments")]
    pub window_segments: usize,
    /// Marking processes, 1 to 64; one marks some twenty 1080p30 streams.
    #[serde(default = "mark_workers")]
    pub mark_workers: usize,
    /// Whether streams that cannot be marked as they come are coded anew: most of a processor for a 1080p30 one.
    /// In a pair the same on both nodes.
    #[serde(default)]
    pub normalise: Normalise,
    /// How long marked segments are kept for the tracer, in hours, 0 to 8,760; 0 keeps none.
    #[serde(default = "archive_hours")]
    pub archive_hours: u32,
    /// Whether parts of a third of a second are listed as they come, for low-latency players. A segment is recorded when it
    /// is complete: a crash of a node that is not one of a pair may change the parts of the one that was open.
    #[serde(default = "yes")]
    pub low_latency: bool,
    /// Whether segments are there as MPEG-TS too, for players that do not like fragmented MP4. The nodes of a pair go by
    /// whoever began the run.
    #[serde(default = "yes")]
    pub mpeg_ts: bool,
    /// Segments of an encrypted stream that share a key, 1 to 100,000: 300 of 2 s are ten minutes. The nodes of a pair go by
    /// whoever began the run.
    #[serde(default = "key_segments")]
    pub key_segments: u32,
    /// The key server of streams that are encrypted for DRM systems. Not in a pair.
    #[serde(default)]
    pub drm: Option<Drm>,
    /// Log lines for people or machines.
    #[serde(default)]
    pub log: LogFormat,
    /// The pair of nodes that share an address; without it this node is alone.
    #[serde(default)]
    pub pair: Option<pair::Pair>,
}

fn rtmp_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 1935))
}
fn origin_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8090))
}
fn admin_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8091))
}
fn segment_seconds() -> u32 {
    2
}
fn window_segments() -> usize {
    10
}
/// Two: while one decodes, which one thread does, the other codes on both.
fn mark_workers() -> usize {
    2
}
fn archive_hours() -> u32 {
    24
}
fn key_segments() -> u32 {
    300
}
fn yes() -> bool {
    true
}

/// Why a configuration is not one.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A value out of its range.
    #[error("`{key}` is {value}, but must be {wanted}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
}

impl Config {
    /// Where publishers come in through TLS, and with which certificate.
    pub fn rtmps(&self) -> Option<(SocketAddr, Files)> {
        let (certificate, key) = (self.tls_certificate.clone()?, self.tls_key.clone()?);
        Some((self.rtmps_listen?, Files { certificate, key }))
    }

    /// Reads TOML text, then the environment over it.
    ///
    /// # Errors
    /// Names the key and what it may be.
    pub fn parse(text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut table: toml::Table = text.parse()?;
        for (name, value) in env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                let key = key.to_ascii_lowercase();
                let value = literal(&key, value);
                table.insert(key, value);
            }
        }
        let config: Config = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let range = |key, value: String, ok: bool, wanted| match ok {
            true => Ok(()),
            false => Err(ConfigError::Range { key, value, wanted }),
        };
        let name_ok = self.name.parse::<ingest_api::StreamName>().is_ok();
        range("name", self.name.clone(), name_ok, "1 to 64 letters, digits, `_` or `-`")?;
        let seconds = self.segment_seconds;
        range("segment_seconds", seconds.to_string(), (1..=10).contains(&seconds), "1 to 10")?;
        let listed = self.window_segments;
        range("window_segments", listed.to_string(), (3..=60).contains(&listed), "3 to 60")?;
        let workers = self.mark_workers;
        range("mark_workers", workers.to_string(), (1..=64).contains(&workers), "1 to 64")?;
        let hours = self.archive_hours;
        range("archive_hours", hours.to_string(), hours <= 8_760, "0 to 8760")?;
        let tls = [self.rtmps_listen.is_some(), self.tls_certificate.is_some(), self.tls_key.is_some()];
        let (all, any) = (!tls.contains(&false), tls.contains(&true));
        let wanted = "with `tls_certificate` and `tls_key`: TLS needs all three";
        range("rtmps_listen", "incomplete".to_owned(), all || !any, wanted)?;
        let segments = self.key_segments;
        range("key_segments", segments.to_string(), (1..=100_000).contains(&segments), "1 to 100000")?;
        if let Some(drm) = &self.drm {
            range("drm.url", drm.url.clone(), may_ask(&drm.url), RULE)?;
            let once = |at: usize| !drm.systems[..at].contains(&drm.systems[at]);
            let named = !drm.systems.is_empty() && (0..drm.systems.len()).all(once);
            let wanted = "at least one of `widevine`, `playready` and `fairplay`, each once";
            range("drm.systems", format!("{:?}", drm.systems), named, wanted)?;
        }
        let Some(pair) = &self.pair else { return Ok(()) };
        let wanted = "left out in a pair: each node would ask by itself, and make other segments while only one has an answer";
        range("drm", "set".to_owned(), self.drm.is_none(), wanted)?;
        if let Some(at) = self.rtmps_listen {
            let shared = pair.addresses.iter().any(|address| address.ip == at.ip());
            let wanted =
                "0.0.0.0:PORT, [::]:PORT or an address of the node's own: the shared one comes and goes";
            range("rtmps_listen", at.to_string(), !shared && at.port() != 0, wanted)?;
        }
        let (at, any) = (self.rtmp_listen, self.rtmp_listen.ip().is_unspecified());
        let wanted = "0.0.0.0:PORT or [::]:PORT in a pair: its address comes and goes";
        range("rtmp_listen", at.to_string(), any && at.port() != 0, wanted)?;
        pair.check()
    }
}

/// A value from the environment: a number or a switch for the keys that are one, where it reads as one; a string otherwise.
fn literal(key: &str, value: String) -> toml::Value {
    match (NUMBERS.contains(&key), value.parse(), value.parse()) {
        (true, Ok(number), _) => toml::Value::Integer(number),
        (_, _, Ok(switch)) if SWITCHES.contains(&key) => toml::Value::Boolean(switch),
        _ => toml::Value::String(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = \"a\"\ndir = \"/tmp/x\"\n";

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, env.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    #[test]
    fn the_environment_wins() {
        let config = parse(
            LEAST,
            &[
                ("RELEVE_INGEST_SEGMENT_SECONDS", "4"),
                ("RELEVE_INGEST_RTMP_LISTEN", "127.0.0.1:0"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!((config.segment_seconds, config.rtmp_listen.port()), (4, 0));
        assert_eq!(config.window_segments, 10);
        assert_eq!(parse(LEAST, &[("RELEVE_INGEST_NAME", "12")]).unwrap().name, "12");
        assert!(
            config.low_latency
                && !parse(LEAST, &[("RELEVE_INGEST_LOW_LATENCY", "false")]).unwrap().low_latency
        );
        assert!(config.mpeg_ts && !parse(LEAST, &[("RELEVE_INGEST_MPEG_TS", "false")]).unwrap().mpeg_ts);
    }

    fn drm(url: &str, systems: &str) -> String {
        format!("{LEAST}[drm]\nurl = \"{url}\"\nsystems = [{systems}]\n")
    }

    #[test]
    fn errors_name_the_key() {
        let good = parse(&drm("https://keys.example.org/speke", "\"fairplay\", \"widevine\""), &[]).unwrap();
        assert_eq!(good.drm.unwrap().systems, [System::FairPlay, System::Widevine]);
        for (text, env, named) in [
            (format!("{LEAST}segment_second = 2"), vec![], "segment_second"),
            (format!("{LEAST}segment_seconds = 20"), vec![], "segment_seconds"),
            (format!("{LEAST}rtmp_listen = \"x\""), vec![], "rtmp_listen"),
            (format!("{LEAST}archive_hours = 9000"), vec![], "archive_hours"),
            (LEAST.to_owned(), vec![("RELEVE_INGEST_COLOUR", "red")], "colour"),
            ("dir = \"/tmp\"".to_owned(), vec![], "name"),
            (LEAST.to_owned(), vec![("RELEVE_INGEST_NAME", "a/b")], "name"),
            (LEAST.to_owned(), vec![("RELEVE_INGEST_MARK_WORKERS", "many")], "mark_workers"),
            (LEAST.to_owned(), vec![("RELEVE_INGEST_LOW_LATENCY", "1")], "low_latency"),
            (LEAST.to_owned(), vec![("RELEVE_INGEST_NORMALISE", "always")], "normalise"),
            (format!("{LEAST}rtmps_listen = \"0.0.0.0:1936\""), vec![], "tls_certificate"),
            (format!("{LEAST}tls_key = \"k.pem\""), vec![], "rtmps_listen"),
            (drm("http://keys.example.org/", "\"widevine\""), vec![], "drm.url"),
            (drm("https://keys.example.org/", ""), vec![], "drm.systems"),
            (drm("https://keys.example.org/", "\"widevine\", \"widevine\""), vec![], "drm.systems"),
            (drm("https://keys.example.org/", "\"primetime\""), vec![], "primetime"),
            (format!("{LEAST}[drm]\nurl = \"https://keys.example.org/\""), vec![], "systems"),
        ] {
            let error = parse(&text, &env).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
