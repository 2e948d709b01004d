//! The certificate of the viewers' TLS: read at the start, on SIGHUP, and when its files have changed.
//!
//! In: two PEM files. Out: `Current` in force; connections that are open keep theirs. A pair that is not good is refused
//! loudly and the last good one stays.

use super::metrics::Metrics;
use crate::node::{Node, now_unix_s};
use crate::tls::{Certified, Current, Tickets};
use releve_listen::{CertificateError, Files, Identity};
use std::sync::Arc;
use tokio::time::sleep;

/// The certificate in force, and the files it comes from.
#[derive(Debug)]
pub(super) struct Keeper {
    files: Files,
    tickets: Tickets,
    pub(super) current: Arc<Current>,
}

impl Keeper {
    /// Reads the files for the first time.
    pub(super) fn new(files: Files, metrics: &Metrics) -> Result<Keeper, CertificateError> {
        let tickets = Tickets::new()?;
        let identity = files.read()?;
        let certified = Certified::of(&identity, &tickets)?;
        tell(&identity, metrics);
        Ok(Keeper { current: Arc::new(Current::new(&certified)), files, tickets })
    }

    /// Reads the files again; what is in force stays when they are not good.
    pub(super) fn reload(&self, metrics: &Metrics) {
        let read = || {
            let identity = self.files.read()?;
            Ok::<_, CertificateError>((Certified::of(&identity, &self.tickets)?, identity))
        };
        match read() {
            Ok((certified, identity)) => {
                self.current.put(&certified);
                tell(&identity, metrics);
            }
            Err(error) => {
                metrics.tls_certificate_refused.inc();
                tracing::error!(%error, "the certificate for viewers stays as it was");
            }
        }
    }

    /// Takes up changes of the files until the node stops.
    pub(super) async fn keep(self: Arc<Keeper>, node: Arc<Node>) {
        let mut watched = self.files.watched();
        loop {
            tokio::select! {
                () = sleep(node.limits.certificate_look) => {}
                () = node.stopped() => return,
            }
            if watched.changed() {
                self.reload(&node.metrics);
            }
        }
    }
}

fn tell(identity: &Identity, metrics: &Metrics) {
    metrics.tls_certificate_expires.set(i64::try_from(identity.not_after_unix_s).unwrap_or(i64::MAX));
    match identity.days_left(now_unix_s()) {
        (days, true) => tracing::warn!(days, "the certificate for viewers expires soon"),
        (days, false) => tracing::info!(days, "the certificate for viewers is read"),
    }
}
