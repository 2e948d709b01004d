//! EdgeAuth tokens by hand: what `relevectl token edgeauth` is told, and the token of that.
//!
//! In: arguments and the time. Out: a token. Touches the files of key and salt.

use crate::state_dir::read_ring;
use anyhow::{Context, Result};
use clap::Args;
use ingest_api::edge_auth::{Opens, Said, mint};
use std::path::PathBuf;

/// What a token is to say.
#[derive(Args, Debug)]
pub struct Wish {
    /// The key: a key file of `VERSION HEX`, as the relays' edgeauth.key, of which the first line counts. The 64 hex digits are
    /// the key of the Akamai property.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// How long it opens, in seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub ttl: u64,
    /// In how many seconds that begins. Without it the token names no beginning.
    #[arg(long, value_name = "SECONDS")]
    pub starts_in: Option<u32>,
    /// A pattern of paths that it opens, with `*` and `?`; may be given more than once.
    #[arg(long, value_name = "PATTERN", required_unless_present = "url")]
    pub acl: Vec<String>,
    /// The one path that it opens instead.
    #[arg(long, value_name = "PATH", conflicts_with = "acl")]
    pub url: Option<String>,
    /// `id`: whose it is.
    #[arg(long)]
    pub id: Option<String>,
    /// `data`: what else the edge is told.
    #[arg(long)]
    pub data: Option<String>,
    /// File of the property's salt, if it has one.
    #[arg(long, value_name = "FILE")]
    pub salt: Option<PathBuf>,
    /// The property escapes token input.
    #[arg(long)]
    pub escape: bool,
}

impl Wish {
    /// The token.
    ///
    /// # Errors
    /// When key or salt cannot be read, or a field cannot be written. No part of a secret is repeated.
    pub fn mint(&self, now_unix_s: u64) -> Result<String> {
        let keys = read_ring(&self.key)?;
        let salt = match &self.salt {
            Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
            None => None,
        };
        let acl: Vec<&str> = self.acl.iter().map(String::as_str).collect();
        let begins = now_unix_s + u64::from(self.starts_in.unwrap_or(0));
        let said = Said {
            from_unix_s: self.starts_in.map(|_| begins),
            until_unix_s: begins + self.ttl,
            opens: self.url.as_deref().map_or(Opens::Acl(&acl), Opens::Url),
            id: self.id.as_deref(),
            data: self.data.as_deref(),
            salt: salt.as_deref().map(str::trim_end),
            escape: self.escape,
        };
        Ok(mint(keys.current(), &said)?)
    }
}
