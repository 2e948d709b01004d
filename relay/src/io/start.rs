//! A relay from its configuration to its last answer.

use super::certificate::Keeper;
use super::config::Config;
use super::jwks::{self, JwksError, Source};
use super::key_files::{KeysError, read_keys};
use super::origin::Origin;
use super::regular::{Signs, announce, read_revocations, steer};
use super::webhook::Webhook;
use super::witness::{self, WitnessError};
use super::{admin, sessions, tier, viewers};
use crate::node::{Keys, Limits, Node};
use crate::token::place::Site;
use releve_listen::CertificateError;
use releve_state::sqlite::Sqlite;
use releve_state::{Coordinator, Ledger};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A relay that is running. Dropping it leaves it running; `stop` ends it.
pub struct Handle {
    /// Where viewers come in.
    pub listen: SocketAddr,
    /// Where those come in who speak TLS, if anywhere.
    pub tls_listen: Option<SocketAddr>,
    /// Where operators come in.
    pub admin: SocketAddr,
    /// Where relays behind it come in, if they may.
    pub origin: Option<SocketAddr>,
    /// Where ingest nodes ask it as a witness, if it is one.
    pub witness: Option<SocketAddr>,
    node: Arc<Node>,
    keys_dir: PathBuf,
    certificate: Option<Arc<Keeper>>,
    viewers: JoinHandle<()>,
    listeners: Vec<JoinHandle<()>>,
    regular: Vec<JoinHandle<()>>,
}

/// Starts a relay with the keys and the state that its configuration names.
///
/// # Errors
/// Says what is missing and where; nothing runs then.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    let keys = read_keys(&config.keys_dir)?;
    let state = Arc::new(
        Sqlite::open(&config.state)
            .map_err(|error| StartError::State { path: config.state.clone(), error: error.to_string() })?,
    );
    start_with(config, keys, state.clone(), state).await
}

/// Starts a relay with keys and state of the caller: `keys_dir` and `state` are not looked at.
///
/// # Errors
/// When an address cannot be listened on, or an origin is none.
///
/// The future is a box, so that all it leads to is compiled once, here, and not in each program and test that starts a relay.
pub fn start_with(
    config: Config,
    keys: Keys,
    coordinator: Arc<dyn Coordinator>,
    ledger: Arc<dyn Ledger>,
) -> Pin<Box<dyn Future<Output = Result<Handle, StartError>> + Send>> {
    Box::pin(started(config, keys, coordinator, ledger))
}

async fn started(
    config: Config,
    keys: Keys,
    coordinator: Arc<dyn Coordinator>,
    ledger: Arc<dyn Ledger>,
) -> Result<Handle, StartError> {
    let origins = config
        .origins
        .iter()
        .map(|url| Origin::new(url, &config.limits).ok_or_else(|| StartError::Origin { url: url.clone() }));
    let origins: Vec<Origin> = origins.collect::<Result<_, _>>()?;
    let webhook = match &config.webhook_url {
        Some(_) if keys.webhook.is_none() => return Err(StartError::WebhookKey),
        Some(url) => {
            let made = Webhook::new(url, config.limits.outside_patience);
            Some(Arc::new(made.map_err(|error| StartError::Webhook(error.to_string()))?))
        }
        None => None,
    };
    if config.cdn_token.is_some() && keys.edge_auth.is_none() {
        return Err(StartError::EdgeAuthKey);
    }
    let seats = config.seats();
    let secure = config.public_url.as_ref().is_some_and(|url| url.starts_with("https://"));
    let (session_in, bound) = (config.session_in, config.session_bound_to);
    let cdn = config.cdn_url.as_ref().map(|url| url.trim_end_matches('/').into());
    let cdn_token = config.cdn_token.as_deref().map(Box::from);
    let overflow = (config.cdn_overflow > 0).then_some(config.cdn_overflow);
    let cdn_encrypt = config.cdn_encrypt;
    let limits =
        Limits { session_in, bound, secure, cdn, cdn_token, cdn_encrypt, overflow, ..config.limits.clone() };
    let unheard =
        |error: std::io::Error| StartError::Listen { address: config.listen, error: error.to_string() };
    let listeners = viewers::listen(config.listen).map_err(unheard)?;
    let listen = listeners.address;
    let tls = config.tls();
    let secure = match &tls {
        Some((address, _)) => Some(
            viewers::listen(*address)
                .map_err(|error| StartError::Listen { address: *address, error: error.to_string() })?,
        ),
        None => None,
    };
    let tls_listen = secure.as_ref().map(|listeners| listeners.address);
    let url = config.public_url.clone().unwrap_or_else(|| match tls_listen {
        Some(tls) => format!("https://{tls}"),
        None => format!("http://{listen}"),
    });
    let jwks = match config.jwt_keys.as_deref().and_then(Source::of) {
        Some(source) => {
            let reader = jwks::Reader::new(
                source,
                config.jwt_issuer.clone(),
                config.jwt_audience.clone(),
                Site::of(&url),
                &config.limits,
            )?;
            let rules = match reader.is_file() {
                true => reader.read(&config.limits).await?,
                false => reader.nothing_yet(),
            };
            Some((reader, rules))
        }
        None => None,
    };
    let (admin_listener, admin) = bind(config.admin_listen).await?;
    let tier = match config.origin_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let origin = tier.as_ref().map(|(_, address)| *address);
    let cache_bytes = config.cache_mib << 20;
    let proxies =
        viewers::Proxies { listed: config.trusted_proxies.clone(), introduce: config.proxy_protocol };
    let witness = config.witness();
    let node =
        Node::new(config.name, limits, cache_bytes, keys, origins, webhook, seats, coordinator, ledger);
    let signs = Arc::new(Signs::default());
    let witness = match witness {
        Some(settings) => {
            let keys = node.clone();
            Some(witness::start(settings, move || keys.keys().cluster.clone(), node.metrics.witness.clone())?)
        }
        None => None,
    };
    let certificate = match tls {
        Some((_, files)) => Some(Arc::new(Keeper::new(files, &node.metrics)?)),
        None => None,
    };
    let witness_at = witness.as_ref().map(|witness| witness.listen);
    let mut regular = vec![
        tokio::spawn(read_revocations(node.clone(), signs.clone())),
        tokio::spawn(announce(node.clone(), signs.clone(), url.clone(), format!("http://{admin}"))),
    ];
    if let Some(limit) = node.seats {
        regular.push(tokio::spawn(sessions::report(node.clone(), limit)));
    }
    regular.push(tokio::spawn(sessions::recheck(node.clone())));
    if let Some(room) = node.limits.overflow {
        regular.push(tokio::spawn(steer(node.clone(), room)));
    }
    if let Some((reader, rules)) = jwks {
        node.jwt.put(rules);
        regular.push(tokio::spawn(jwks::keep(node.clone(), reader)));
    }
    if let Some(keeper) = &certificate {
        regular.push(tokio::spawn(keeper.clone().keep(node.clone())));
    }
    // Viewers come in when the revocations are known, or cannot be known for now: a store that is away at the start must
    // not keep the relay from running, and readiness tells.
    for _ in 0..50 {
        if signs.is_ready() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let secure = secure.zip(certificate.as_ref().map(|keeper| keeper.current.clone()));
    let viewers = viewers::start(listeners, secure, proxies, config.http2, &node).map_err(unheard)?;
    let viewers = tokio::spawn(viewers.watch());
    let mut listeners = vec![tokio::spawn(admin::serve(admin_listener, node.clone(), signs, witness, url))];
    if let Some((listener, address)) = tier {
        listeners.push(tokio::spawn(tier::serve(listener, node.clone())));
        tracing::info!(listen = %address, "relays may come");
    }
    if let Some(tls) = tls_listen {
        tracing::info!(listen = %tls, "viewers may come with TLS");
    }
    tracing::info!(%listen, %admin, name = node.name, "the relay is running");
    Ok(Handle {
        listen,
        tls_listen,
        admin,
        origin,
        witness: witness_at,
        node,
        keys_dir: config.keys_dir,
        certificate,
        viewers,
        listeners,
        regular,
    })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error: std::io::Error| StartError::Listen { address, error: error.to_string() };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Handle {
    /// Reads the key files and the certificate again and puts them in force; the old keys stay when one of them is not good,
    /// and the old certificate when the new one is not.
    ///
    /// # Errors
    /// Names the file.
    pub fn reload_keys(&self) -> Result<(), KeysError> {
        if self.node.jwt.rules().is_some() {
            self.node.jwt.reload();
        }
        if let Some(keeper) = &self.certificate {
            keeper.reload(&self.node.metrics);
        }
        self.node.rekey(read_keys(&self.keys_dir)?);
        Ok(())
    }

    /// Puts keys of the caller in force.
    pub fn rekey(&self, keys: Keys) {
        self.node.rekey(keys);
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        self.node.measure();
        self.node.metrics.text()
    }

    /// Ends the relay: nobody new, answers under way finish for up to `Limits::stop_patience`.
    pub async fn stop(self) {
        self.node.stop();
        for task in self.regular.into_iter().chain([self.viewers]) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the relay did not end well");
            }
        }
        self.listeners.iter().for_each(JoinHandle::abort);
        tracing::info!("the relay has stopped");
    }
}

/// Why a relay does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// A key file.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate of the viewers' TLS.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The keys of JSON web tokens.
    #[error("in `jwt_keys`: {0}")]
    Jwks(#[from] JwksError),
    /// A webhook without a key.
    #[error("`webhook_url` needs webhook.key in `keys_dir`: the webhook must be able to tell who asks")]
    WebhookKey,
    /// Tokens for a CDN's edges without a key.
    #[error("`cdn_token` needs edgeauth.key in `keys_dir`: the tokens of the CDN's edges are made with it")]
    EdgeAuthKey,
    /// The webhook.
    #[error("in `webhook_url`: {0}")]
    Webhook(String),
    /// The state database.
    #[error("cannot open the state database {path}: {error}")]
    State {
        /// Where.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// An address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: String,
    },
    /// The witness.
    #[error("{0}")]
    Witness(String),
    /// An origin.
    #[error("{url} is not an origin: write http://host:port")]
    Origin {
        /// Its URL.
        url: String,
    },
}

impl From<WitnessError> for StartError {
    fn from(error: WitnessError) -> StartError {
        StartError::Witness(error.to_string())
    }
}
