//! `relevectl`: the operator's hand on a Relève set-up.
//!
//! Works on the state folder, so that it needs no running node: streams, access tokens, revocations, status. What concerns a
//! pair of ingest nodes it asks the nodes: `failover`, and the pair's part of `status`.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use ingest_api::StreamName;
use ingest_api::access::{self, Claims};
use releve_ingest::key_change;
use releve_ingest::operator::issue::{Format, IssueKey, Mode, Said};
use releve_ingest::operator::{edge_auth, pair};
use releve_ingest::say;
use releve_ingest::state_dir::{KeyKind, StateDir};
use releve_state::coordinator::{
    Coordinator, Encrypt, MarkPolicy, NodeRecord, NodeRole, Revocation, StreamRecord,
};
use releve_state::ledger::SessionRecord;
use releve_state::sqlite::Sqlite;
use releve_state::{KeyHash, Ledger, StreamKey};
use releve_watermark::{Codebook, WatermarkId};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// A node that has not been heard of for this long is called silent, in milliseconds: three announcements missed.
const SILENT_MS: u64 = 15_000;
/// What stands in the ledger for the relay that admitted a viewer, of one whose token is for edges.
const AT_AN_EDGE: &str = "edge";

#[derive(Parser)]
#[command(version, about = "Streams, tokens, revocations and status of a Relève set-up")]
struct Args {
    /// State folder.
    #[arg(long, env = "RELEVE_DIR", default_value = "/var/lib/releve")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
enum StreamCommand {
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
enum TokenCommand {
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
enum TokenFormat {
    Jwt,
    Cwt,
}

#[derive(clap::Args)]
struct WatermarkToken {
    /// The key that signs it: a JWK or a set of them, `oct`, Ed25519 or P-256; nobody else may read the file.
    #[arg(long, requires = "format", value_name = "FILE")]
    key: Option<PathBuf>,
    /// With the viewer's pattern (direct mode), for edges that choose whole segments themselves: prints the token alone. It
    /// names neither viewer nor stream, and opens no relay.
    #[arg(long, requires = "format")]
    direct: bool,
    /// `iss`, where the relays' `jwt_issuer` asks for it.
    #[arg(long, requires = "format")]
    issuer: Option<String>,
    /// `aud`, where the relays' `jwt_audience` asks for it.
    #[arg(long, requires = "format")]
    audience: Option<String>,
    /// `wmvnd`: number of the watermark's vendor.
    #[arg(long, requires = "format", default_value_t = 0)]
    vendor: u8,
    /// `wmopid`: number of the operator.
    #[arg(long, requires = "format", default_value_t = 0)]
    operator: u64,
}

#[derive(Subcommand)]
enum ViewerCommand {
    /// End all sessions and tokens a viewer has now, on every relay, within 5 seconds.
    Revoke {
        /// The account.
        viewer: String,
    },
}

#[derive(clap::Args)]
struct Failover {
    /// Node number that is to hold; the peer of the present holder, if left out.
    #[arg(long, value_name = "NODE")]
    to: Option<u16>,
    /// Only say whether it is possible now.
    #[arg(long)]
    dry_run: bool,
    /// The peer is off and stays off: let the node that waits ask the witnesses alone. What the peer alone had is lost.
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    force: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Admin listener of a node of the pair; without it, all ingest nodes of the state folder are asked.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

impl Failover {
    fn wish(&self) -> pair::Wish {
        pair::Wish { to: self.to, dry_run: self.dry_run, force: self.force, json: self.json }
    }
}

#[derive(Subcommand)]
enum KeyCommand {
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
enum Mark {
    /// Publish nothing that is not marked.
    Require,
    /// Mark what fits, pass the rest.
    Prefer,
    /// Mark nothing.
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encryption {
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relevectl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let dir = StateDir::at(&args.dir);
    if let Command::Init = args.command {
        dir.init()?;
        key_change::note_commitments(&dir)?;
        open(&dir)?;
        eprintln!("state folder {} is ready", args.dir.display());
        return Ok(());
    }
    if let Command::Token(TokenCommand::Edgeauth(wish)) = &args.command {
        say!("{}", wish.mint(unix_ms() / 1000)?);
        return Ok(());
    }
    if !dir.database().exists() {
        bail!("{} is no state folder; `relevectl --dir DIR init` makes one", args.dir.display());
    }
    let state = open(&dir)?;
    match args.command {
        Command::Init | Command::Token(TokenCommand::Edgeauth(_)) => Ok(()),
        Command::Stream(command) => stream(&state, command).await,
        Command::Token(TokenCommand::Mint { stream, viewer, ttl, format, watermark }) => {
            mint(&dir, &state, stream, viewer, ttl, format.map(|format| (format, watermark))).await
        }
        Command::Viewer(ViewerCommand::Revoke { viewer }) => {
            check_viewer(&viewer)?;
            state.revoke(Revocation { viewer, at_unix_s: unix_ms() / 1000 }).await?;
            Ok(())
        }
        Command::Failover(failover) => {
            pair::failover(&dir, &admins(&state, failover.admin.as_deref()).await?, &failover.wish())
        }
        Command::Key(command) => key(&dir, command),
        Command::Status { json } => status(&state, json).await,
    }
}

fn open(dir: &StateDir) -> Result<Sqlite> {
    let path = dir.database();
    Sqlite::open(&path).with_context(|| format!("cannot open {}", path.display()))
}

fn key(dir: &StateDir, command: KeyCommand) -> Result<()> {
    let print = |version: Option<u32>| -> Result<()> {
        for key in
            key_change::list(dir)?.iter().filter(|key| version.is_none_or(|version| key.version == version))
        {
            say!("{:<8} {:>4} {:<8} {}", key.kind, key.version, key.state, key.commitment);
        }
        Ok(())
    };
    match command {
        KeyCommand::Commit => {
            let version = key_change::commit(dir)?;
            eprintln!("version {version} is drawn; publish these lines, then `relevectl key use {version}`:");
            print(Some(version))
        }
        KeyCommand::Use { version } => {
            key_change::use_version(dir, version)?;
            eprintln!("nodes use version {version} from their next start on; restart relays first");
            Ok(())
        }
        KeyCommand::Open { version } => {
            say!("{}", key_change::open(dir, version)?.trim_end());
            Ok(())
        }
        KeyCommand::List => print(None),
    }
}

async fn stream(state: &Sqlite, command: StreamCommand) -> Result<()> {
    match command {
        StreamCommand::Add { name, mark, encrypt } => {
            let key = StreamKey::generate()?;
            let record = StreamRecord {
                name: name.clone(),
                key_id: key.id().to_owned(),
                key_hash: KeyHash::of(&key),
                mark: mark.into(),
                encrypt: encrypt.into(),
            };
            state.add_stream(record).await?;
            eprintln!("stream key of `{name}`, shown this once; push to rtmp://HOST/live with it:");
            say!("{}", key.expose());
        }
        StreamCommand::List { json } => {
            let streams = state.streams().await?;
            if json {
                let rows: Vec<_> = streams
                    .iter()
                    .map(|s| json!({"name": s.name, "mark": s.mark, "encrypt": s.encrypt}))
                    .collect();
                say!("{}", json!(rows));
            } else {
                streams.iter().for_each(|s| {
                    say!(
                        "{}\t{}\t{}",
                        s.name,
                        word(s.mark),
                        match s.encrypt {
                            Encrypt::None => "-",
                            Encrypt::Cbcs => "cbcs",
                            Encrypt::Drm => "drm",
                        }
                    )
                });
            }
        }
        StreamCommand::Encrypt { name, encrypt } => {
            let Some(mut record) = state.stream(&name).await? else { bail!("there is no stream `{name}`") };
            record.encrypt = encrypt.into();
            state.update_stream(record).await?;
        }
        StreamCommand::RotateKey { name } => {
            let Some(mut record) = state.stream(&name).await? else { bail!("there is no stream `{name}`") };
            let key = StreamKey::generate()?;
            record.key_id = key.id().to_owned();
            record.key_hash = KeyHash::of(&key);
            state.update_stream(record).await?;
            eprintln!("new stream key of `{name}`, shown this once; the old one no longer works:");
            say!("{}", key.expose());
        }
        StreamCommand::Remove { name } => state.remove_stream(&name).await?,
    }
    Ok(())
}

async fn mint(
    dir: &StateDir,
    state: &Sqlite,
    stream: StreamName,
    viewer: String,
    ttl: u64,
    watermark: Option<(TokenFormat, WatermarkToken)>,
) -> Result<()> {
    check_viewer(&viewer)?;
    if state.stream(&stream).await?.is_none() {
        bail!("there is no stream `{stream}`; `relevectl stream list` shows what there is");
    }
    let now_unix_s = unix_ms() / 1000;
    let (issued_unix_s, enter_until_unix_s) = (now_unix_s, now_unix_s + ttl);
    let token = match watermark {
        None => {
            let claims = Claims {
                stream: stream.clone(),
                viewer,
                issued_unix_s,
                enter_until_unix_s,
                watch_until_unix_s: None,
            };
            access::mint(&dir.keys(KeyKind::Access)?, &claims)
        }
        Some((format, WatermarkToken { key, direct, issuer, audience, vendor, operator })) => {
            let code = dir.keys(KeyKind::Code)?;
            let id = WatermarkId::of_viewer(&viewer);
            let mode = if direct {
                let bias = dir.keys(KeyKind::Bias)?;
                let bias = bias.version(code.current().version).unwrap_or(bias.current());
                Mode::Direct(Codebook::new(code.current(), bias).pattern(id))
            } else {
                let (viewer, key_version) = (viewer.clone(), code.current().version.into());
                Mode::Indirect { stream: stream.clone(), viewer, operator, key_version }
            };
            let said = Said { issued_unix_s, enter_until_unix_s, issuer, audience, vendor, mode };
            let format = match format {
                TokenFormat::Jwt => Format::Jwt,
                TokenFormat::Cwt => Format::Cwt,
            };
            let token = IssueKey::read(&key.context("--key is missing")?)?.issue(format, &said)?;
            if direct {
                // No relay sees this viewer: the register must know them before there can be a copy of theirs.
                let mut session = [0; 16];
                SystemRandom::new()
                    .fill(&mut session)
                    .map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
                let record = SessionRecord {
                    session,
                    viewer,
                    watermark_id: id,
                    stream,
                    code_key: code.current().version,
                    admitted_unix_s: now_unix_s,
                    relay: AT_AN_EDGE.to_owned(),
                };
                state.record_session(record).await?;
                println!("{token}");
                return Ok(());
            }
            token
        }
    };
    let now = unix_ms();
    let alive = |node: &NodeRecord| now.saturating_sub(node.seen_unix_ms) < SILENT_MS;
    let relays: Vec<_> =
        state.nodes().await?.into_iter().filter(|node| node.role == NodeRole::Relay).collect();
    if relays.is_empty() {
        bail!("no relay has announced itself yet; start one, then mint again");
    }
    // One that is gone for good stays on record; while all are silent, a URL for later beats none.
    let some_alive = relays.iter().any(alive);
    let relays = relays.into_iter().filter(|relay| alive(relay) || !some_alive);
    for relay in relays {
        say!("{}/live/{stream}/index.m3u8?token={token}", relay.url);
    }
    Ok(())
}

async fn status(state: &Sqlite, as_json: bool) -> Result<()> {
    let now = unix_ms();
    let mut streams = Vec::new();
    for stream in state.streams().await? {
        let last = state.last_segment(&stream.name).await?;
        let epoch = state.epoch(&stream.name).await?;
        streams.push((stream, epoch, last));
    }
    let nodes = state.nodes().await?;
    let pairs = pair::look(&admins(state, None).await?);
    if as_json {
        let streams: Vec<_> = streams
            .iter()
            .map(|(stream, epoch, last)| {
                json!({
                    "name": stream.name, "mark": stream.mark, "epoch": epoch,
                    "last_segment": last.as_ref().map(|s| s.number),
                    "last_segment_end_unix_ms": last.as_ref().map(|s| s.date_unix_ms + s.duration_90k / 90),
                })
            })
            .collect();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| {
                let silent_ms = now.saturating_sub(node.seen_unix_ms);
                json!({
                    "name": node.name, "role": node.role, "url": node.url, "admin_url": node.admin_url,
                    "alive": silent_ms < SILENT_MS, "seen_ms_ago": silent_ms,
                })
            })
            .collect();
        say!("{}", json!({"streams": streams, "nodes": nodes, "pair": pairs}));
        return Ok(());
    }
    say!("{:<24} {:<8} {:>6} {:>12}", "STREAM", "MARK", "EPOCH", "LAST SEGMENT");
    for (stream, epoch, last) in streams {
        let number = last.map_or("-".to_owned(), |segment| segment.number.to_string());
        say!("{:<24} {:<8} {epoch:>6} {number:>12}", stream.name.to_string(), word(stream.mark));
    }
    say!("\n{:<16} {:<7} {:<8} URL", "NODE", "ROLE", "STATE");
    for node in nodes {
        let role = if node.role == NodeRole::Ingest { "ingest" } else { "relay" };
        let alive = if now.saturating_sub(node.seen_unix_ms) < SILENT_MS { "alive" } else { "silent" };
        say!("{:<16} {role:<7} {alive:<8} {}", node.name, node.url);
    }
    pair::print(&pairs);
    Ok(())
}

/// Admin listeners of the ingest nodes: the one named, or those that the state folder knows and that have lately lived.
async fn admins(state: &Sqlite, named: Option<&str>) -> Result<Vec<String>> {
    if let Some(named) = named {
        return Ok(vec![named.to_owned()]);
    }
    let now = unix_ms();
    let lives = |node: &NodeRecord| {
        node.role == NodeRole::Ingest && now.saturating_sub(node.seen_unix_ms) < SILENT_MS
    };
    Ok(state.nodes().await?.into_iter().filter(lives).map(|node| node.admin_url).collect())
}

fn check_viewer(viewer: &str) -> Result<()> {
    if !access::is_viewer_name(viewer) {
        bail!("a viewer has 1 to {} bytes and no control characters", access::VIEWER_BYTES_MAX);
    }
    Ok(())
}

fn word(mark: MarkPolicy) -> &'static str {
    match mark {
        MarkPolicy::Require => "require",
        MarkPolicy::Prefer => "prefer",
        MarkPolicy::Off => "off",
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
