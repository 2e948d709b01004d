//! What `relevectl` understands: its commands, their options and the help they print.
//!
//! In: the command line. Out: `Args`. Touches nothing but `RELEVE_DIR`.

use clap::{Parser, Subcommand, ValueEnum};
use ingest_api::StreamName;
use releve_ingest::operator::{edge_auth, pair};
use releve_state::coordinator::{Encrypt, MarkPolicy};
use std::path::PathBuf;

#[derive(Parser)]
#[command(version, about = "Streams, tokens, revocations and status of a Relève set-up")]
pub(crate) struct Args {
    /// State folder.
    #[arg(long, env = "RELEVE_DIR", default_value = "/var/lib/releve")]
    pub(crate) dir: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the state folder and its keys; doing it again changes nothing.
    Init,
    /// Streams and their stream keys.
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Access tokens for viewers.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Viewers.
    #[command(subcommand)]
    Viewer(ViewerCommand),
    /// Move the publishers of a pair to the other node, or let a node that waits go on alone.
    Failover(Failover),
    /// The keys that marks are drawn by: commit to the next, use it, open one.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Streams and nodes at a glance.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum StreamCommand {
    /// Add a stream; prints its stream key, this once.
    Add {
        /// Public name: letters, digits, `_`, `-`.
        name: StreamName,
        /// What to do about marking.
        #[arg(long, value_enum, default_value_t = Mark::Prefer)]
        mark: Mark,
        /// How its segments are encrypted.
        #[arg(long, value_enum, default_value_t = Encryption::None)]
        encrypt: Encryption,
    },
    /// Encrypt a stream, or no longer, from its next run on: half a minute after its publisher has left.
    Encrypt {
        /// Public name.
        name: StreamName,
        /// How.
        #[arg(value_enum)]
        encrypt: Encryption,
    },
    /// List streams.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a stream a new key; prints it, this once. The old one ends at once.
    RotateKey {
        /// Public name.
        name: StreamName,
    },
    /// Remove a stream. Its publisher is closed; its numbers stay used.
    Remove {
        /// Public name.
        name: StreamName,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make an access token; prints one playlist URL per relay.
    Mint {
        /// The stream it opens.
        #[arg(long)]
        stream: StreamName,
        /// The account that watches.
        #[arg(long)]
        viewer: String,
        /// How long it lets in, in seconds.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
        ttl: u64,
        /// Make a watermark token (ETSI TS 104 002) as a JSON or CBOR web token, which relays take that know the key by
        /// `jwt_keys`.
        #[arg(long, value_enum, requires = "key")]
        format: Option<TokenFormat>,
        #[command(flatten)]
        watermark: WatermarkToken,
    },
    /// Make an Akamai EdgeAuth token (Auth Token 2.0, SHA-256), to try an edge with; prints it. Relays make their viewers'
    /// own.
    Edgeauth(edge_auth::Wish),
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TokenFormat {
    Jwt,
    Cwt,
}

#[derive(clap::Args)]
pub(crate) struct WatermarkToken {
    /// The key that signs it: a JWK or a set of them, `oct`, Ed25519 or P-256; nobody else may read the file.
    #[arg(long, requires = "format", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// With the viewer's pattern (direct mode), for edges that choose whole segments themselves: prints the token alone. It
    /// names neither viewer nor stream, and opens no relay.
    #[arg(long, requires = "format")]
    pub(crate) direct: bool,
    /// `iss`, where the relays' `jwt_issuer` asks for it.
    #[arg(long, requires = "format")]
    pub(crate) issuer: Option<String>,
    /// `aud`, where the relays' `jwt_audience` asks for it.
    #[arg(long, requires = "format")]
    pub(crate) audience: Option<String>,
    /// `wmvnd`: number of the watermark's vendor.
    #[arg(long, requires = "format", default_value_t = 0)]
    pub(crate) vendor: u8,
    /// `wmopid`: number of the operator.
    #[arg(long, requires = "format", default_value_t = 0)]
    pub(crate) operator: u64,
}

#[derive(Subcommand)]
pub(crate) enum ViewerCommand {
    /// End all sessions and tokens a viewer has now, on every relay, within 5 seconds.
    Revoke {
        /// The account.
        viewer: String,
    },
}

#[derive(clap::Args)]
pub(crate) struct Failover {
    /// Node number that is to hold; the peer of the present holder, if left out.
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<u16>,
    /// Only say whether it is possible now.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The peer is off and stays off: let the node that waits ask the witnesses alone. What the peer alone had is lost.
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    pub(crate) force: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Admin listener of a node of the pair; without it, all ingest nodes of the state folder are asked.
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<String>,
}

impl Failover {
    /// What the nodes are asked for.
    pub(crate) fn wish(&self) -> pair::Wish {
        pair::Wish { to: self.to, dry_run: self.dry_run, force: self.force, json: self.json }
    }
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Draw the next version; prints what to publish of it. Give relays the new key files before `use`.
    Commit,
    /// Mark with this version from the next start of the ingest on.
    Use {
        /// The version.
        version: u32,
    },
    /// Print code and bias key of a version, for `releve-trace --keys`. Whoever has them can tell every viewer's symbols.
    Open {
        /// The version.
        version: u32,
    },
    /// All versions and what is published of them.
    List,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Mark {
    /// Publish nothing that is not marked.
    Require,
    /// Mark what fits, pass the rest.
    Prefer,
    /// Mark nothing.
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Encryption {
    /// Not at all.
    None,
    /// `cbcs` of Common Encryption; then there is no MPEG-TS.
    Cbcs,
    /// The same with keys of the DRM key server that the node is configured for: `ingest/docs/drm.md`.
    Drm,
}

impl From<Encryption> for Encrypt {
    fn from(encryption: Encryption) -> Encrypt {
        match encryption {
            Encryption::None => Encrypt::None,
            Encryption::Cbcs => Encrypt::Cbcs,
            Encryption::Drm => Encrypt::Drm,
        }
    }
}

impl From<Mark> for MarkPolicy {
    fn from(mark: Mark) -> MarkPolicy {
        match mark {
            Mark::Require => MarkPolicy::Require,
            Mark::Prefer => MarkPolicy::Prefer,
            Mark::Off => MarkPolicy::Off,
        }
    }
}
