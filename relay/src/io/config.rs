//! The configuration: a TOML file, every key of which the environment can override.
//!
//! `RELEVE_RELAY_<KEY>` overrides the key of that name; `RELEVE_RELAY_ORIGINS` is a list with commas. A key that is not
//! known, in the file or in the environment, is an error that names it.

use crate::address::Networks;
use crate::node::Limits;
use crate::route::SessionIn;
use crate::session::Binding;
use releve_state::seats::{SeatLimit, WhenFull};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::{Table, Value};

/// How environment variables of the relay begin.
pub const ENV_PREFIX: &str = "RELEVE_RELAY_";

/// What an operator decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name, unique in the cluster.
    pub name: String,
    /// Where viewers come in. Port 0 lets the system choose.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where viewers come in who speak TLS; with `tls_certificate` and `tls_key`.
    #[serde(default)]
    pub tls_listen: Option<SocketAddr>,
    /// PEM file of the certificate, its issuers behind it.
    #[serde(default)]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// Whether viewers who speak TLS may choose HTTP/2. It costs more than HTTP/1.1, and few players need it.
    #[serde(default)]
    pub http2: bool,
    /// Proxies that are believed when they say whose connection or request it is.
    #[serde(default)]
    pub trusted_proxies: Networks,
    /// Whether they begin each connection with a PROXY header (version 1 or 2). Without it their `X-Forwarded-For` counts.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Where metrics and health are; never the viewers' address.
    #[serde(default = "default_admin_listen")]
    pub admin_listen: SocketAddr,
    /// Where relays behind this one fetch: they name it in their `origins`. Without it there are none.
    #[serde(default)]
    pub origin_listen: Option<SocketAddr>,
    /// Base URL that viewers reach this relay, or the balancer before it, by. Without it: `https://` and
    /// `tls_listen` if there is one, else `http://` and `listen`.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Base URL of the CDN that keeps this relay's segments, as `https://host` with a path or without. With it viewers get
    /// playlists of their own that name whole segments there. Without it no CDN is served.
    #[serde(default)]
    pub cdn_url: Option<String>,
    /// Name of the parameter in which the CDN's edges ask for an EdgeAuth token (Akamai), such as `hdnts`. With it the addresses
    /// there carry one, made with `edgeauth.key` of `keys_dir`.
    #[serde(default)]
    pub cdn_token: Option<String>,
    /// Whether segments at the CDN are encrypted (`AES-128`), so that whoever has their addresses and no session has nothing.
    #[serde(default)]
    pub cdn_encrypt: bool,
    /// For how many viewers' connections this relay has room before it steers some of them to the CDN; 0 for none: all go
    /// there.
    #[serde(default)]
    pub cdn_overflow: u32,
    /// Base URLs of the ingest nodes, or of relays with `origin_listen`, as `http://host:port`.
    pub origins: Vec<String>,
    /// Folder of the key files `access.key`, `session.key`, `cluster.key`, `code.key` and `bias.key`.
    pub keys_dir: PathBuf,
    /// The state database, shared with the ingest on one machine.
    pub state: PathBuf,
    /// Where the keys are that JSON web tokens and Common Access Tokens are checked with: a file, or an `https://` URL. Without
    /// it none are taken.
    #[serde(default)]
    pub jwt_keys: Option<String>,
    /// What their `iss` must be. Without it any.
    #[serde(default)]
    pub jwt_issuer: Option<String>,
    /// What their `aud` must hold. Without it a token that has one is refused.
    #[serde(default)]
    pub jwt_audience: Option<String>,
    /// The webhook that decides on tokens that are nobody else's. It is signed with `webhook.key` of `keys_dir`.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Where a session is carried.
    #[serde(default)]
    pub session_in: SessionIn,
    /// What a session is bound to: who presents it from elsewhere is refused. Without it to nothing.
    #[serde(default)]
    pub session_bound_to: Binding,
    /// Most sessions of one viewer at once, over all relays; 0 for any number.
    #[serde(default)]
    pub sessions_per_viewer: u32,
    /// What happens to one more.
    #[serde(default)]
    pub sessions_when_full: SessionsWhenFull,
    /// How much memory objects may take, in MiB.
    #[serde(default = "default_cache_mib")]
    pub cache_mib: usize,
    /// Where ingest nodes ask this relay as a witness (UDP); with `witness_id`. Without both it is none.
    #[serde(default)]
    pub witness_listen: Option<SocketAddr>,
    /// The number by which the ingest nodes know this witness.
    #[serde(default)]
    pub witness_id: Option<u16>,
    /// The pair's `cluster` number.
    #[serde(default = "default_witness_cluster")]
    pub witness_cluster: u64,
    /// How logs are written.
    #[serde(default)]
    pub log: LogFormat,
    /// Bounds and times: not in the file.
    #[serde(skip)]
    pub limits: Limits,
}

/// What happens to a session for which its viewer has no seat free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionsWhenFull {
    /// It is refused.
    #[default]
    RejectNew,
    /// The viewer's oldest ends.
    StopOldest,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line to read.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_admin_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9081))
}

fn default_witness_cluster() -> u64 {
    1
}

fn default_cache_mib() -> usize {
    256
}

impl Config {
    /// Reads a file and the process's environment.
    ///
    /// # Errors
    /// Names the file, key or variable and what is wrong with it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error: error.to_string() })?;
        Config::parse(
            &text,
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Reads the text of a file and variables of an environment.
    ///
    /// # Errors
    /// As `load`.
    pub fn parse(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut table: Table =
            text.parse().map_err(|error: toml::de::Error| ConfigError::File(error.to_string()))?;
        for (name, value) in env {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            let key = key.to_ascii_lowercase();
            let value = match key.as_str() {
                "name" | "listen" | "tls_listen" | "tls_certificate" | "tls_key" | "admin_listen"
                | "origin_listen" | "witness_listen" | "public_url" | "cdn_url" | "cdn_token"
                | "keys_dir" | "state" | "jwt_keys" | "jwt_issuer" | "jwt_audience" | "webhook_url"
                | "session_in" | "sessions_when_full" | "log" => Value::String(value),
                "origins" | "trusted_proxies" | "session_bound_to" => {
                    Value::Array(value.split(',').map(|one| Value::String(one.trim().to_owned())).collect())
                }
                "http2" | "proxy_protocol" | "cdn_encrypt" => Value::Boolean(
                    value
                        .parse()
                        .map_err(|_| ConfigError::Variable { name, why: "must be true or false" })?,
                ),
                "cache_mib" | "cdn_overflow" | "sessions_per_viewer" | "witness_id" | "witness_cluster" => {
                    Value::Integer(
                        value
                            .parse()
                            .map_err(|_| ConfigError::Variable { name, why: "must be a whole number" })?,
                    )
                }
                _ => return Err(ConfigError::Variable { name, why: "names no key of the configuration" }),
            };
            table.insert(key, value);
        }
        let config: Config =
            table.try_into().map_err(|error: toml::de::Error| ConfigError::File(error.to_string()))?;
        config.check()
    }

    fn check(self) -> Result<Config, ConfigError> {
        let wrong = |key, why| Err(ConfigError::Value { key, why });
        if self.name.is_empty() || self.name.len() > 64 || self.name.chars().any(char::is_control) {
            return wrong("name", "must have 1 to 64 characters and no control characters");
        }
        if self.origins.is_empty() || self.origins.len() > 16 {
            return wrong("origins", "must list 1 to 16 ingest nodes or relays");
        }
        if self.origins.iter().any(|origin| super::origin::authority(origin).is_none()) {
            return wrong("origins", "must be of the form http://host:port, without a path");
        }
        if self.cdn_url.as_deref().is_some_and(|url| crate::cdn::origin(url).is_none()) {
            return wrong(
                "cdn_url",
                "must be of the form https://host or https://host/path, without a query",
            );
        }
        if let Some(name) = &self.cdn_token {
            if !crate::cdn::token::is_name(name) {
                return wrong(
                    "cdn_token",
                    "must be 1 to 32 letters, digits and `_`, and no name that has a meaning here",
                );
            }
            if self.cdn_url.as_deref().is_none_or(|url| url.contains('~')) {
                return wrong("cdn_token", "needs `cdn_url`, and no `~` in that");
            }
        }
        if self.cdn_encrypt && self.cdn_url.is_none() {
            return wrong(
                "cdn_encrypt",
                "needs `cdn_url`: what viewers get from a relay cannot be, since each of them has other slices",
            );
        }
        if self.cdn_overflow > 0 && self.cdn_url.is_none() {
            return wrong("cdn_overflow", "needs `cdn_url`: that is where viewers are steered to");
        }
        if self.jwt_keys.is_none() && (self.jwt_issuer.is_some() || self.jwt_audience.is_some()) {
            return wrong("jwt_keys", "is missing: without keys no JSON web token is taken");
        }
        if self.jwt_keys.as_deref().is_some_and(|keys| super::jwks::Source::of(keys).is_none()) {
            return wrong("jwt_keys", releve_listen::outside::RULE);
        }
        if self.webhook_url.as_deref().is_some_and(|url| !releve_listen::outside::may_ask(url)) {
            return wrong("webhook_url", releve_listen::outside::RULE);
        }
        if self.cache_mib == 0 || self.cache_mib > 1 << 20 {
            return wrong("cache_mib", "must be from 1 to 1048576");
        }
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return wrong("admin_listen", "must differ from listen: viewers may not reach metrics");
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return wrong(
                "trusted_proxies",
                "is empty: without it nobody is believed who sends a PROXY header",
            );
        }
        let tls = [self.tls_listen.is_some(), self.tls_certificate.is_some(), self.tls_key.is_some()];
        if tls.contains(&true) && tls.contains(&false) {
            return wrong("tls_listen", "`tls_certificate` and `tls_key` go together: TLS needs all three");
        }
        let same = |one: SocketAddr, other: SocketAddr| one == other && one.port() != 0;
        if self.tls_listen.is_some_and(|tls| same(tls, self.listen) || same(tls, self.admin_listen)) {
            return wrong("tls_listen", "must differ from listen and admin_listen");
        }
        if self.origin_listen.is_some_and(|own| {
            [Some(self.listen), Some(self.admin_listen), self.tls_listen]
                .into_iter()
                .flatten()
                .any(|other| same(own, other))
        }) {
            return wrong(
                "origin_listen",
                "must differ from all other addresses: only relays may come there",
            );
        }
        if self.witness_listen.is_some() != self.witness_id.is_some() {
            return wrong("witness_id", "and `witness_listen` go together: a witness has both");
        }
        Ok(self)
    }

    /// Where viewers come in who speak TLS, and the files for it.
    pub fn tls(&self) -> Option<(SocketAddr, releve_listen::Files)> {
        let (certificate, key) = self.tls_certificate.clone().zip(self.tls_key.clone())?;
        Some((self.tls_listen?, releve_listen::Files { certificate, key }))
    }

    /// How many sessions of one viewer run at once, if that is limited.
    pub fn seats(&self) -> Option<SeatLimit> {
        let when_full = match self.sessions_when_full {
            SessionsWhenFull::RejectNew => WhenFull::RejectNew,
            SessionsWhenFull::StopOldest => WhenFull::StopOldest,
        };
        let (seats, idle_s) = (self.sessions_per_viewer, self.limits.seat_idle.as_secs());
        (seats > 0).then_some(SeatLimit { seats, when_full, idle_s })
    }

    /// This relay as a witness, if it is one. Its record stands beside the state database.
    pub fn witness(&self) -> Option<super::witness::Settings> {
        let (listen, id) = self.witness_listen.zip(self.witness_id)?;
        let mut file = self.state.as_os_str().to_owned();
        file.push(format!(".witness-{id}"));
        Some(super::witness::Settings { listen, id, cluster: self.witness_cluster, file: file.into() })
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The file is not TOML, or a key is unknown, missing or of another type.
    #[error("in the configuration: {0}")]
    File(String),
    /// A variable names no key, or its value does not fit.
    #[error("the environment variable {name} {why}")]
    Variable {
        /// Which variable.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A value is out of bounds.
    #[error("`{key}` {why}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name = \"relay-1\"\norigins = [\"http://127.0.0.1:8100\"]\nkeys_dir = \"keys\"\nstate = \"state.db\"\n";

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn defaults_fill_what_the_file_leaves_out() {
        let config = parse(FILE, &[]).unwrap();
        assert_eq!(config.listen, default_listen());
        assert_eq!((config.cache_mib, config.log), (256, LogFormat::Human));
        assert_eq!(config.witness(), None);
    }

    #[test]
    fn every_key_can_come_from_the_environment() {
        let config = parse(
            "",
            &[
                ("RELEVE_RELAY_NAME", "r2"),
                ("RELEVE_RELAY_LISTEN", "127.0.0.1:0"),
                ("RELEVE_RELAY_TLS_LISTEN", "127.0.0.1:8443"),
                ("RELEVE_RELAY_TLS_CERTIFICATE", "c.pem"),
                ("RELEVE_RELAY_TLS_KEY", "c.key"),
                ("RELEVE_RELAY_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
                ("RELEVE_RELAY_PROXY_PROTOCOL", "true"),
                ("RELEVE_RELAY_HTTP2", "true"),
                ("RELEVE_RELAY_ADMIN_LISTEN", "127.0.0.1:0"),
                ("RELEVE_RELAY_PUBLIC_URL", "https://tv.example.org"),
                ("RELEVE_RELAY_CDN_URL", "https://cdn.example.org/tv/"),
                ("RELEVE_RELAY_CDN_TOKEN", "hdnts"),
                ("RELEVE_RELAY_CDN_OVERFLOW", "15000"),
                ("RELEVE_RELAY_ORIGINS", "http://a:1, http://b:2"),
                ("RELEVE_RELAY_KEYS_DIR", "k"),
                ("RELEVE_RELAY_STATE", "s"),
                ("RELEVE_RELAY_JWT_KEYS", "https://id.example.org/keys"),
                ("RELEVE_RELAY_JWT_ISSUER", "https://id.example.org/"),
                ("RELEVE_RELAY_JWT_AUDIENCE", "tv"),
                ("RELEVE_RELAY_WEBHOOK_URL", "http://127.0.0.1:9000/may"),
                ("RELEVE_RELAY_SESSION_IN", "query"),
                ("RELEVE_RELAY_SESSION_BOUND_TO", "ip, user-agent"),
                ("RELEVE_RELAY_SESSIONS_PER_VIEWER", "2"),
                ("RELEVE_RELAY_SESSIONS_WHEN_FULL", "stop-oldest"),
                ("RELEVE_RELAY_CACHE_MIB", "7"),
                ("RELEVE_RELAY_WITNESS_LISTEN", "127.0.0.1:7402"),
                ("RELEVE_RELAY_WITNESS_ID", "3"),
                ("RELEVE_RELAY_LOG", "json"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!((config.name.as_str(), config.cache_mib, config.log), ("r2", 7, LogFormat::Json));
        assert_eq!(config.origins, ["http://a:1", "http://b:2"]);
        assert_eq!(config.public_url.as_deref(), Some("https://tv.example.org"));
        let limit = SeatLimit { seats: 2, when_full: WhenFull::StopOldest, idle_s: 35 };
        assert_eq!((config.seats(), config.session_in), (Some(limit), SessionIn::Query));
        assert_eq!(config.session_bound_to, Binding { address: true, agent: true });
        let (listen, files) = config.tls().unwrap();
        assert_eq!((listen.port(), files.key), (8443, PathBuf::from("c.key")));
        let listed = |text: &str| config.trusted_proxies.contains(text.parse().unwrap());
        assert!(
            config.proxy_protocol
                && config.http2
                && listed("10.1.2.3")
                && listed("::1")
                && !listed("127.0.0.1")
        );
        let witness = config.witness().unwrap();
        assert_eq!((witness.id, witness.cluster, witness.file), (3, 1, PathBuf::from("s.witness-3")));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let unknown = parse(&format!("{FILE}chache_mib = 3\n"), &[]).unwrap_err();
        assert!(unknown.to_string().contains("chache_mib"), "{unknown}");
        let unknown = parse(FILE, &[("RELEVE_RELAY_CHACHE", "3")]).unwrap_err();
        assert!(unknown.to_string().contains("RELEVE_RELAY_CHACHE"), "{unknown}");
        let missing = parse("", &[]).unwrap_err();
        assert!(missing.to_string().contains("missing field"), "{missing}");
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        let with = |name, value| parse(FILE, &[(name, value)]).unwrap_err();
        assert!(matches!(with("RELEVE_RELAY_ORIGINS", "ftp://a"), ConfigError::Value { key: "origins", .. }));
        assert!(matches!(with("RELEVE_RELAY_CACHE_MIB", "0"), ConfigError::Value { key: "cache_mib", .. }));
        assert!(matches!(with("RELEVE_RELAY_CACHE_MIB", "x"), ConfigError::Variable { .. }));
        assert!(matches!(
            with("RELEVE_RELAY_ADMIN_LISTEN", "127.0.0.1:8080"),
            ConfigError::Value { key: "admin_listen", .. }
        ));
        let alone = with("RELEVE_RELAY_CDN_TOKEN", "hdnts");
        assert!(alone.to_string().contains("needs `cdn_url`"), "{alone}");
        let alone = with("RELEVE_RELAY_CDN_ENCRYPT", "true");
        assert!(alone.to_string().contains("needs `cdn_url`"), "{alone}");
        let nowhere = with("RELEVE_RELAY_CDN_OVERFLOW", "1000");
        assert!(nowhere.to_string().contains("needs `cdn_url`"), "{nowhere}");
        let taken = with("RELEVE_RELAY_CDN_TOKEN", "token");
        assert!(taken.to_string().contains("no name that has a meaning"), "{taken}");
        let outside = with("RELEVE_RELAY_JWT_KEYS", "http://id.example.org/keys");
        assert!(matches!(outside, ConfigError::Value { key: "jwt_keys", .. }), "{outside}");
        let alone = with("RELEVE_RELAY_JWT_ISSUER", "me");
        assert!(matches!(alone, ConfigError::Value { key: "jwt_keys", .. }), "{alone}");
        let slip = with("RELEVE_RELAY_TRUSTED_PROXIES", "10.1.0.0/8");
        assert!(slip.to_string().contains("10.1.0.0/8"), "{slip}");
        let alone = with("RELEVE_RELAY_PROXY_PROTOCOL", "true");
        assert!(matches!(alone, ConfigError::Value { key: "trusted_proxies", .. }), "{alone}");
        let half = with("RELEVE_RELAY_TLS_KEY", "c.key");
        assert!(half.to_string().contains("TLS needs all three"), "{half}");
        let half = with("RELEVE_RELAY_WITNESS_ID", "3");
        assert!(half.to_string().contains("witness_listen"), "{half}");
    }
}
