//! `relevectl token mint`: lets a viewer in, for a time.
//!
//! In: who, to what, for how long; the keys of the state folder. Out: a playlist URL a relay, or the token alone where it is
//! for edges; then the viewer is in the ledger, because no relay will put them there.

use crate::args::{TokenFormat, WatermarkToken};
use crate::{SILENT_MS, check_viewer, unix_ms};
use anyhow::{Context, Result, bail};
use ingest_api::StreamName;
use ingest_api::access::{self, Claims};
use releve_ingest::operator::issue::{Format, IssueKey, Mode, Said};
use releve_ingest::say;
use releve_ingest::state_dir::{KeyKind, StateDir};
use releve_state::Ledger;
use releve_state::coordinator::{Coordinator, NodeRecord, NodeRole};
use releve_state::ledger::SessionRecord;
use releve_state::sqlite::Sqlite;
use releve_watermark::{Codebook, WatermarkId};
use ring::rand::{SecureRandom, SystemRandom};

/// What stands in the ledger for the relay that admitted a viewer, of one whose token is for edges.
const AT_AN_EDGE: &str = "edge";

/// Who is let in to what, from now on, and until when.
pub(crate) struct Wish {
    /// The stream.
    pub(crate) stream: StreamName,
    /// The account.
    pub(crate) viewer: String,
    /// How long the token lets in, in seconds.
    pub(crate) ttl: u64,
}

/// Prints a URL a relay with an access token of our own, or with a watermark token.
pub(crate) async fn mint(
    dir: &StateDir,
    state: &Sqlite,
    wish: Wish,
    watermark: Option<(TokenFormat, WatermarkToken)>,
) -> Result<()> {
    let Wish { stream, viewer, ttl } = &wish;
    check_viewer(viewer)?;
    if state.stream(stream).await?.is_none() {
        bail!("there is no stream `{stream}`; `relevectl stream list` shows what there is");
    }
    let issued_unix_s = unix_ms() / 1000;
    let enter_until_unix_s = issued_unix_s + ttl;
    let token = match watermark {
        None => {
            let (stream, viewer) = (stream.clone(), viewer.clone());
            let watch_until_unix_s = None;
            let claims = Claims { stream, viewer, issued_unix_s, enter_until_unix_s, watch_until_unix_s };
            access::mint(&dir.keys(KeyKind::Access)?, &claims)
        }
        Some((format, WatermarkToken { key, direct, issuer, audience, vendor, operator })) => {
            let code = dir.keys(KeyKind::Code)?;
            let mode = if direct {
                let bias = dir.keys(KeyKind::Bias)?;
                let bias = bias.version(code.current().version).unwrap_or(bias.current());
                Mode::Direct(Codebook::new(code.current(), bias).pattern(WatermarkId::of_viewer(viewer)))
            } else {
                let (stream, viewer) = (stream.clone(), viewer.clone());
                Mode::Indirect { stream, viewer, operator, key_version: code.current().version.into() }
            };
            let said = Said { issued_unix_s, enter_until_unix_s, issuer, audience, vendor, mode };
            let format = match format {
                TokenFormat::Jwt => Format::Jwt,
                TokenFormat::Cwt => Format::Cwt,
            };
            let token = IssueKey::read(&key.context("--key is missing")?)?.issue(format, &said)?;
            if direct {
                register(state, wish, code.current().version, issued_unix_s).await?;
                say!("{token}");
                return Ok(());
            }
            token
        }
    };
    for relay in relays(state).await? {
        say!("{relay}/live/{stream}/index.m3u8?token={token}");
    }
    Ok(())
}

/// Puts a viewer into the ledger whom no relay will see: the register must know them before there can be a copy of theirs.
async fn register(state: &Sqlite, wish: Wish, code_key: u32, admitted_unix_s: u64) -> Result<()> {
    let mut session = [0; 16];
    SystemRandom::new().fill(&mut session).map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
    let Wish { stream, viewer, .. } = wish;
    let watermark_id = WatermarkId::of_viewer(&viewer);
    let relay = AT_AN_EDGE.to_owned();
    let record = SessionRecord { session, viewer, watermark_id, stream, code_key, admitted_unix_s, relay };
    Ok(state.record_session(record).await?)
}

/// Addresses of the relays that live. One that is gone for good stays on record; while all are silent, a URL for later beats
/// none, and all are given.
async fn relays(state: &Sqlite) -> Result<Vec<String>> {
    let now = unix_ms();
    let alive = |node: &NodeRecord| now.saturating_sub(node.seen_unix_ms) < SILENT_MS;
    let relays: Vec<_> =
        state.nodes().await?.into_iter().filter(|node| node.role == NodeRole::Relay).collect();
    if relays.is_empty() {
        bail!("no relay has announced itself yet; start one, then mint again");
    }
    let some_alive = relays.iter().any(alive);
    Ok(relays.into_iter().filter(|relay| alive(relay) || !some_alive).map(|relay| relay.url).collect())
}
