//! One attack: what is asked, and what its answer must be. The answer follows from what the attack is.
//!
//! In: noise, what there is, what attackers have in their hands. Out: an `Attack`. Pure. The tricks are those of the table of
//! classes that broke others: a token on the first playlist only, paths that two readers take for different ones, doubled
//! parameters, names that begin alike, other variants, forged tokens, smuggled requests, and what else can be asked for.

use super::doors;
use super::noise::Noise;
use super::paths;
use super::scene::{Scene, Thing};
use super::stage::{Cast, Pass, Passes, STREAMS};
use super::wire::{Network, Request};
use std::sync::Arc;

/// Nobody without a good credential gets further than this.
pub(super) const DENIED: &[u16] = &[403];
/// No spelling that a player of ours would write.
pub(super) const MALFORMED: &[u16] = &[400];
/// Nothing that is there.
pub(super) const NOTHING: &[u16] = &[404];

/// What the answer must be.
#[derive(Clone, Debug)]
pub(super) enum Expects {
    /// One of these statuses, and nothing that is not everybody's.
    Refusal(&'static [u16]),
    /// It does no harm by design: one of these, and at most what the asker may have.
    Harmless(&'static [u16], Own),
}

/// What the asker may have.
#[derive(Clone, Debug)]
pub(super) enum Own {
    /// No body.
    Nothing,
    /// These bytes, or the range of them that the answer names.
    Bytes(Arc<[u8]>),
    /// A session of their own, without a word of their token.
    Session(String),
    /// What everybody may have.
    Public,
}

/// A request that should lead nowhere, or only where the asker may be.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    /// The trick.
    pub(super) name: &'static str,
    /// What it is tried on.
    pub(super) on: &'static str,
    pub(super) request: Request,
    pub(super) expects: Expects,
}

/// Who makes them.
pub(super) struct Attacker<'a> {
    pub(super) noise: Noise,
    pub(super) scene: &'a Scene,
    pub(super) cast: &'a Cast,
    pub(super) now: u64,
}

type Trick = for<'a, 'b> fn(&'a mut Attacker<'b>) -> Attack;

/// The tricks, and how often each is tried.
const TRICKS: [(usize, Trick); 28] = [
    (8, no_credential),
    (10, changed_session),
    (6, cut_session),
    (8, ended_session),
    (6, stolen_session),
    (6, credentials_beside),
    (3, two_credentials),
    (4, kinds_confused),
    (5, no_right_to_a_part_of_it),
    (3, conditions),
    (3, spoofed_fields),
    (3, other_sites),
    (8, paths::path_games),
    (3, paths::other_cases),
    (3, paths::far_ahead),
    (3, paths::too_long),
    (3, paths::other_variant),
    (2, paths::methods),
    (2, paths::hosts),
    (3, paths::smuggled),
    (1, paths::versions),
    (5, doors::entries),
    (6, doors::changed_token),
    (10, doors::forged_token),
    (4, doors::cdn_files),
    (4, doors::edge_files),
    (2, doors::listings),
    (5, doors::harmless),
];

/// The attack of that number.
pub(super) fn attack(seed: u64, index: u64, scene: &Scene, cast: &Cast, now: u64) -> Attack {
    let mut attacker = Attacker { noise: Noise::of(seed, index), scene, cast, now };
    let mut at = attacker.noise.below(TRICKS.iter().map(|(weight, _)| weight).sum());
    let trick = TRICKS.iter().find(|(weight, _)| {
        let found = at < *weight;
        at = at.saturating_sub(*weight);
        found
    });
    trick.map_or(no_credential as Trick, |(_, trick)| *trick)(&mut attacker)
}

impl Attacker<'_> {
    /// Something below a session, of any kind.
    pub(super) fn thing(&mut self) -> Thing {
        let kind = self.noise.pick(&self.scene.kinds);
        self.noise.pick(kind).clone()
    }

    /// Something of the first stream that stays as it is.
    pub(super) fn own_thing(&mut self) -> Thing {
        loop {
            let thing = self.thing();
            if thing.stream == 0 && thing.own.is_some() {
                return thing;
            }
        }
    }

    /// What there is for a stream.
    pub(super) fn passes(&self, stream: usize) -> &Passes {
        &self.cast.passes[stream]
    }

    pub(super) fn own(&self, stream: usize) -> &Pass {
        &self.passes(stream).own
    }

    /// A request for something with this as the session, carried in any of the ways.
    fn carried(&mut self, thing: &Thing, session: &str) -> Request {
        match self.noise.below(4) {
            0 => in_query(&thing.below, session),
            1 => in_cookie(STREAMS[thing.stream], &thing.below, session),
            _ => Request::get(format!("/v/{session}/{}", thing.below)),
        }
    }

    /// A session that does not hold.
    fn bad_session(&mut self, stream: usize) -> String {
        let pick = self.noise.below(4);
        let passes = self.passes(stream);
        match pick {
            0 => passes.expired.session.clone(),
            1 => passes.revoked.session.clone(),
            2 => "A".repeat(120),
            _ => {
                let session = passes.own.session.clone();
                changed(&mut self.noise, &session)
            }
        }
    }

    fn refused(&mut self, name: &'static str, thing: &Thing, request: Request) -> Attack {
        Attack { name, on: thing.kind, request, expects: Expects::Refusal(DENIED) }
    }
}

/// What is below, with the session in the query.
pub(super) fn in_query(below: &str, session: &str) -> Request {
    let join = if below.contains('?') { '&' } else { '?' };
    Request::get(format!("/q/{below}{join}s={session}"))
}

/// What is below, with the session in the cookie of a stream.
pub(super) fn in_cookie(stream: &str, below: &str, session: &str) -> Request {
    Request::get(format!("/c/{stream}/{below}")).with("Cookie", format!("releve={session}"))
}

/// The text with another character at some place.
pub(super) fn changed(noise: &mut Noise, text: &str) -> String {
    let at = noise.below(text.len());
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap_or_default() // credentials are ASCII
}

fn no_credential(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (stream, below) = (STREAMS[thing.stream], &thing.below);
    let (target, expects) = match by.noise.below(9) {
        0 => (format!("/v/{below}"), DENIED),
        1 => (format!("/v/x/{below}"), DENIED),
        2 => (format!("/v//{below}"), MALFORMED),
        3 => (format!("/q/{below}"), DENIED),
        4 => (in_query(below, "").target, DENIED),
        5 => (format!("/c/{stream}/{below}"), DENIED),
        6 => (format!("/c/{stream}//{below}"), MALFORMED),
        7 => (format!("/{below}"), NOTHING),
        _ => (format!("/live/{stream}/{below}"), DENIED),
    };
    let expects = Expects::Refusal(expects);
    Attack { name: "no credential", on: thing.kind, request: Request::get(target), expects }
}

fn changed_session(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.own(thing.stream).session.clone();
    let session = changed(&mut by.noise, &session);
    let request = by.carried(&thing, &session);
    by.refused("a character of the session changed", &thing, request)
}

fn cut_session(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.own(thing.stream).session.clone();
    let session = match by.noise.below(5) {
        0 => format!("{session}{}", by.noise.pick(&["A", "-", "AAAA", "."])),
        1 => format!("{session}{session}"),
        2 => session[1 + by.noise.below(session.len() - 1)..].to_owned() + "A",
        _ => session[..1 + by.noise.below(session.len() - 1)].to_owned(),
    };
    let request = by.carried(&thing, &session);
    by.refused("a session cut or longer", &thing, request)
}

fn ended_session(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let passes = by.passes(thing.stream).clone();
    let (name, pass) = match by.noise.below(2) {
        0 => ("a session that has expired", passes.expired),
        _ => ("a session of who is revoked", passes.revoked),
    };
    let request = by.carried(&thing, &pass.session);
    by.refused(name, &thing, request)
}

/// A session of another viewer, whose network the thief is not in.
fn stolen_session(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.passes(thing.stream).victim.session.clone();
    let mut request = by.carried(&thing, &session);
    request.from = Network::Abroad;
    if by.noise.below(2) == 0 {
        let own = by.own(thing.stream).session.clone();
        request = Request { target: format!("/v/{session}/{}", thing.below), fields: Vec::new(), ..request }
            .with("Cookie", format!("releve={own}"));
    }
    if by.noise.below(4) == 0 {
        request = request.with("X-Forwarded-For", "127.0.0.1");
    }
    by.refused("a stolen session", &thing, request)
}

/// What stands beside a bad credential does not make it better.
fn credentials_beside(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (stream, below) = (STREAMS[thing.stream], thing.below.as_str());
    let (bad, good) = (by.bad_session(thing.stream), by.own(thing.stream).session.clone());
    let victim = by.passes(thing.stream).victim.session.clone();
    let other = by.own(1 - thing.stream).session.clone();
    let cookie = |value: String| Request::get(format!("/c/{stream}/{below}")).with("Cookie", value);
    let request = match by.noise.below(11) {
        0 => Request::get(format!("/v/{bad}/{below}")).with("Cookie", format!("releve={good}")),
        1 => in_query(below, &bad).with("Cookie", format!("releve={good}")),
        2 => Request::get(format!("/v/{bad}/{}", in_query(below, &good).target.trim_start_matches("/q/"))),
        3 => cookie(format!("releve={bad}; releve={good}")),
        4 => cookie(format!("releve={good}; releve={victim}")),
        5 => cookie(format!("releve={good}")).with("Cookie", format!("releve={victim}")),
        6 => cookie(format!("Releve={good}")),
        7 => cookie(format!("xreleve={good}; a=releve={good}")),
        8 => cookie(format!("releve=\"{good}\"")),
        // Good, but for the other stream.
        9 => in_cookie(stream, below, &other),
        _ => Request::get(format!("/v/x/{below}")).with("Authorization", format!("Bearer {good}")),
    };
    by.refused("a good credential beside", &thing, request)
}

fn two_credentials(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let (own, victim) = (by.own(thing.stream).clone(), by.passes(thing.stream).victim.clone());
    let join = if thing.below.contains('?') { '&' } else { '?' };
    let first = in_query(&thing.below, &own.session).target;
    let (target, expects) = match by.noise.below(7) {
        0 => (format!("/v/{}/{}{join}token={}", own.session, thing.below, own.token), DENIED),
        1 => (format!("/v/{}/{}{join}token={}", own.session, thing.below, victim.token), DENIED),
        2 => (format!("/v/{}/{}{join}CAT=x", own.session, thing.below), DENIED),
        3 => (format!("{first}&token=x"), DENIED),
        4 => (format!("{first}&s={}", victim.session), MALFORMED),
        5 => (format!("{first}&s={}", own.session), MALFORMED),
        _ => (format!("{first}%41"), MALFORMED),
    };
    let expects = Expects::Refusal(expects);
    Attack { name: "two credentials", on: thing.kind, request: Request::get(target), expects }
}

/// A token where a session belongs, and what a session is not.
fn kinds_confused(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let own = by.own(thing.stream).clone();
    let wrong = match by.noise.below(4) {
        0 => own.token,
        1 => by.cast.cdn.clone(),
        2 => by.cast.edge.clone(),
        _ => own.session.to_lowercase(),
    };
    let request = by.carried(&thing, &wrong);
    by.refused("something else as a session", &thing, request)
}

/// Ranges and other methods on what the asker has no right to.
fn no_right_to_a_part_of_it(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.bad_session(thing.stream);
    let request = by.carried(&thing, &session);
    if by.noise.below(2) == 0 {
        let methods = ["HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "get"];
        let method = *by.noise.pick(&methods);
        let request = request.method(method);
        return by.refused("another method without a right", &thing, request);
    }
    let many: Vec<String> = (0..400).map(|at| format!("{at}-{at}")).collect();
    let many = format!("bytes={}", many.join(","));
    let ranges =
        ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=0-,0-,0-", "bytes=18446744073709551616-", &many];
    let request = request.with("Range", *by.noise.pick(&ranges));
    by.refused("a range without a right", &thing, request)
}

/// Nobody without a right learns whether something has changed.
fn conditions(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.bad_session(thing.stream);
    let request = by.carried(&thing, &session);
    let (name, value) = *by.noise.pick(&[
        ("If-None-Match", "*"),
        ("If-None-Match", "\"0\""),
        ("If-Match", "*"),
        ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("If-Range", "\"0\""),
        ("Accept-Encoding", "gzip"),
        ("Cache-Control", "only-if-cached"),
    ]);
    by.refused("a condition without a right", &thing, request.with(name, value))
}

fn spoofed_fields(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.bad_session(thing.stream);
    let own = by.own(thing.stream).session.clone();
    let good = format!("/v/{own}/{}", thing.below);
    let request = by.carried(&thing, &session);
    let request = match by.noise.below(9) {
        0 => request.with("X-Original-URL", good),
        1 => request.with("X-Rewrite-URL", good),
        2 => request.with("X-Forwarded-For", "127.0.0.1").with("X-Real-IP", "127.0.0.1"),
        3 => request.with("Forwarded", "for=127.0.0.1;proto=https;host=localhost"),
        4 => request.with("X-HTTP-Method-Override", "OPTIONS"),
        5 => request.with("Authorization", "Basic YWRtaW46YWRtaW4="),
        6 => request.with("CTA-Common-Access-Token", by.own(thing.stream).token.clone()),
        7 => request.with("X-Forwarded-Host", "localhost").with("X-Accel-Redirect", good),
        _ => request.with("User-Agent", "() { :; }; /bin/true"),
    };
    by.refused("fields that claim something", &thing, request)
}

fn other_sites(by: &mut Attacker<'_>) -> Attack {
    let thing = by.thing();
    let session = by.bad_session(thing.stream);
    let request = by.carried(&thing, &session);
    let origins =
        ["null", "https://evil.example", "https://relay.example.evil.example", "http://relay.example"];
    let request = request.with("Origin", *by.noise.pick(&origins));
    let request = request.with("Sec-Fetch-Site", "cross-site").with("Referer", "https://evil.example/");
    by.refused("a page of another site", &thing, request)
}
