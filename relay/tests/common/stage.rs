//! A relay that viewers reach by TLS, with its origin and its certificate.

use super::secure::{install, listens};
use super::{FakeOrigin, Relay, Show, config, until};
use releve_relay::{Config, Limits};
use std::net::SocketAddr;
use tempfile::TempDir;

pub struct Stage {
    pub origin: FakeOrigin,
    pub relay: Relay,
    /// Where `relay.pem` and `relay.key` lie.
    pub dir: TempDir,
}

impl Stage {
    pub async fn with(show: Show, change: impl FnOnce(&mut Config)) -> Stage {
        let origin = FakeOrigin::start().await;
        origin.put(show);
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "first.pem", "first.key");
        let mut config = config(&[origin.url()]);
        listens(&mut config, dir.path());
        change(&mut config);
        Stage { relay: Relay::with(config).await, origin, dir }
    }

    pub async fn limited(show: Show, limits: impl FnOnce(&mut Limits)) -> Stage {
        Stage::with(show, |config| limits(&mut config.limits)).await
    }

    pub fn address(&self) -> SocketAddr {
        self.relay.handle.tls_listen.unwrap()
    }

    /// Lets a viewer in, so that the stream is known and the segment is held; gives the path of their session.
    pub async fn enter(&self, viewer: &str) -> String {
        let session = self.relay.enter("demo", viewer).await;
        let mut client = self.relay.client().await;
        for below in ["index.m3u8", "video/1.m4s"] {
            assert_eq!(client.get(&format!("{session}/{below}")).await.status, 200, "{below}");
        }
        session
    }

    pub fn handshakes(&self, outcome: &str) -> f64 {
        let name = format!("releve_relay_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        self.relay.metric(&name).unwrap_or(0.0)
    }

    /// How many HTTP/2 connections ended that way.
    pub fn ended(&self, why: &str) -> f64 {
        self.relay.metric(&format!("releve_relay_http2_ended_total{{reason=\"{why}\"}}")).unwrap_or(0.0)
    }

    pub async fn nobody_is_there(&self) {
        until("nobody is there", async || self.relay.metric("releve_relay_connections").unwrap() == 0.0)
            .await;
    }
}
