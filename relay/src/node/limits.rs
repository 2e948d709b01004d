//! Bounds and times of a relay, each with its reason.
//!
//! They are constants until somebody needs a knob; tests shorten them.

use crate::route::SessionIn;
use crate::session::Binding;
use std::time::Duration;

/// Bounds and times.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a playlist that may still come is waited for: every player measured outlasts 5 s and more.
    pub playlist_hold: Duration,
    /// How long an object that is listed is fetched for before the answer is 404: players give up at 10 to 20 s.
    pub object_hold: Duration,
    /// How long an object that another relay may have listed already is waited for: two target durations of 2 s.
    pub ahead_hold: Duration,
    /// How long a stream whose publisher has gone still lets viewers in: a reconnect takes a few seconds.
    pub offline_grace: Duration,
    /// How long a stream that no longer grows still lets viewers in, whatever its origins say.
    pub stall: Duration,
    /// How long an origin may hold a window request.
    pub window_wait: Duration,
    /// How long an origin may take to begin an answer, and to go on with it.
    pub origin_patience: Duration,
    /// How long a stream is followed after the last viewer asked for it.
    pub follow_idle: Duration,
    /// How long the ledger may take to admit a viewer.
    pub ledger_patience: Duration,
    /// How long a token whose key is not known waits for the keys to be read again.
    pub keys_hold: Duration,
    /// How often the keys of others are read again.
    pub keys_refresh: Duration,
    /// How long after a reading a key that is not known causes no other one, and how soon after a failed one the next is.
    pub keys_rest: Duration,
    /// How long whoever has the keys, or decides on sessions, may take to answer.
    pub outside_patience: Duration,
    /// How often the webhook is asked again about a session it let in.
    pub recheck: Duration,
    /// When it is asked again after it gave no answer.
    pub recheck_retry: Duration,
    /// How often running sessions of viewers with a limit are reported.
    pub seat_report: Duration,
    /// After how long without a request such a session's seat is free: three reports, and some.
    pub seat_idle: Duration,
    /// How often revocations are read: a revoked viewer's last byte leaves within 5 s.
    pub revocation_poll: Duration,
    /// How often the node announces itself and looks at its origins.
    pub announce: Duration,
    /// How long a request's head may take.
    pub head_patience: Duration,
    /// How long a connection may be idle between two requests: players ask every few seconds.
    pub idle_patience: Duration,
    /// How long a viewer may take no byte of an answer, or too few.
    pub write_patience: Duration,
    /// How long answers under way may take when the relay stops.
    pub stop_patience: Duration,
    /// Most viewers' connections at once; the process's limit on open files may be lower. A connection that is idle costs
    /// a third of a kilobyte here.
    pub connections_max: usize,
    /// Most TLS handshakes under way at once: a viewer takes some round trips, the processor makes a few thousand a second.
    /// How much of it, and of `connections_max`, one address may take is in `address::shares`.
    pub handshakes_max: usize,
    /// How often the certificate files are looked at; a change is in force after two looks.
    pub certificate_look: Duration,
    /// Where sessions of newly admitted viewers are carried.
    pub session_in: SessionIn,
    /// What sessions of newly admitted viewers are bound to.
    pub bound: Binding,
    /// Whether viewers come by TLS only, so that a cookie need not be sent without.
    pub secure: bool,
    /// Base URL of the CDN, without a slash at its end; without it CDN mode is off.
    pub cdn: Option<Box<str>>,
    /// For how many viewers' connections there is room before some are steered to the CDN; without it all go there.
    pub overflow: Option<u32>,
    /// How often it is looked how many there are.
    pub overflow_look: Duration,
    /// How long fewer viewers must be enough before some come back from the CDN.
    pub overflow_hold: Duration,
    /// How often players ask which pathway to take: an answer costs little, a burst fills a relay in half a minute.
    pub steer_every: Duration,
    /// Name of the parameter that the CDN's edges look for a token in, if they do.
    pub cdn_token: Option<Box<str>>,
    /// Whether segments at the CDN are encrypted (`AES-128`).
    pub cdn_encrypt: bool,
    /// Most streams known at once.
    pub streams_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            playlist_hold: Duration::from_secs(10),
            object_hold: Duration::from_secs(8),
            ahead_hold: Duration::from_secs(4),
            offline_grace: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            window_wait: Duration::from_secs(5),
            origin_patience: Duration::from_millis(1500),
            follow_idle: Duration::from_secs(60),
            ledger_patience: Duration::from_secs(5),
            keys_hold: Duration::from_secs(2),
            keys_refresh: Duration::from_secs(300),
            keys_rest: Duration::from_secs(30),
            outside_patience: Duration::from_secs(2),
            recheck: Duration::from_secs(300),
            recheck_retry: Duration::from_secs(30),
            seat_report: Duration::from_secs(10),
            seat_idle: Duration::from_secs(35),
            revocation_poll: Duration::from_secs(1),
            announce: Duration::from_secs(5),
            head_patience: Duration::from_secs(10),
            idle_patience: Duration::from_secs(30),
            write_patience: Duration::from_secs(20),
            stop_patience: Duration::from_secs(5),
            connections_max: 60_000,
            handshakes_max: 4096,
            certificate_look: Duration::from_secs(10),
            session_in: SessionIn::Path,
            bound: Binding::default(),
            secure: false,
            cdn: None,
            overflow: None,
            overflow_look: Duration::from_secs(1),
            overflow_hold: Duration::from_secs(120),
            steer_every: Duration::from_secs(15),
            cdn_token: None,
            cdn_encrypt: false,
            streams_max: 1024,
        }
    }
}

/// A duration in whole milliseconds.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
