//! Who gets bytes and who does not: no byte without a valid credential, and no word to strangers about what exists.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tests::http::{self, Response};
use tests::{Cluster, Mark, Publisher, Viewer, feed, wait_for};

/// The longest a revoked viewer may still get bytes.
const REVOKED: Duration = Duration::from_secs(5);

fn running() -> Result<(Cluster, Publisher, String, Viewer)> {
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    cluster.add_stream("other", Mark::Prefer)?;
    let publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    Ok((cluster, publisher, url, viewer))
}

/// Everything a stranger can tell two answers apart by.
fn face(answer: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let headers = answer.headers.iter().filter(|(name, _)| name != "date" && name != "x-request-id");
    (answer.status, headers.cloned().collect(), answer.body.clone())
}

/// The URL with one character changed, at some place after `after`.
fn changed(url: &str, after: &str, at: usize) -> Result<String> {
    let start = url.find(after).context("not in the URL")? + after.len() + at;
    let mut bytes = url.as_bytes().to_vec();
    bytes[start] = if bytes[start] == b'A' { b'B' } else { b'A' };
    Ok(String::from_utf8(bytes)?)
}

#[test]
fn nothing_opens_without_a_valid_credential() -> Result<()> {
    let (cluster, _publisher, url, mut viewer) = running()?;
    viewer.follow_until(1, Duration::from_secs(10))?;
    let base = url.split("/live/").next().context("a live URL")?.to_owned();
    let token = url.split("token=").nth(1).context("a token")?.to_owned();
    let segment = viewer.tracks[0].listed().values().next().context("a segment")?.clone();
    let media = [
        viewer.index_url.clone(),
        viewer.tracks[0].url.clone(),
        http::join(&viewer.tracks[0].url, &segment.uri)?,
        http::join(&viewer.tracks[0].url, &segment.map)?,
    ];
    for object in &media {
        http::get(object)?.ok().context("with its session")?;
        for at in [0, 5, 20] {
            let answer = http::get(&changed(object, "/v/", at)?)?;
            ensure!(answer.status == 403, "{} for a changed session", answer.status);
        }
        let session =
            object.split("/v/").nth(1).and_then(|rest| rest.split('/').next()).context("a session")?;
        for instead in ["x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let answer = http::get(&object.replace(session, instead))?;
            ensure!(answer.status == 403, "{} for the session {instead:?}", answer.status);
        }
    }
    let other = cluster.mint("other", "alice", 600)?.remove(0);
    let other_token = other.split("token=").nth(1).context("a token")?;
    let refused = [
        format!("{base}/live/demo/index.m3u8"),
        format!("{base}/live/demo/index.m3u8?token="),
        format!("{base}/live/demo/index.m3u8?token=x"),
        format!("{base}/live/demo/index.m3u8?token={other_token}"),
        changed(&url, "token=", token.len() - 3)?,
        changed(&url, "token=", token.len() / 2)?,
    ];
    let reference = face(&http::get(&refused[0])?);
    ensure!(reference.0 == 403, "status {}", reference.0);
    for url in &refused {
        let stranger = url.replace("/demo/", "/nosuchstream/");
        for url in [url, &stranger] {
            ensure!(face(&http::get(url)?) == reference, "{url} tells a stranger something");
        }
    }
    for path in
        ["/", "/live/demo/video/0.m4s", "/live/demo/", "/origin/1/streams", "/metrics", "/v/", "/admin"]
    {
        let answer = http::get(&format!("{base}{path}"))?;
        ensure!([400, 403, 404].contains(&answer.status), "{} for {path}", answer.status);
    }
    Ok(())
}

#[test]
fn a_token_ends_in_time() -> Result<()> {
    let (cluster, _publisher, _, mut viewer) = running()?;
    let url = cluster.mint("demo", "bob", 1)?.remove(0);
    std::thread::sleep(Duration::from_millis(2_500));
    let answer = http::get(&url)?;
    ensure!(answer.status == 403, "{} for a token that has ended", answer.status);
    viewer.poll().context("an admitted viewer goes on")
}

#[test]
fn a_revoked_viewer_gets_nothing_more_within_five_seconds() -> Result<()> {
    let (cluster, _publisher, url, mut viewer) = running()?;
    let mut neighbour = Viewer::enter(&cluster.mint("demo", "bob", 600)?[0])?;
    viewer.follow_until(1, Duration::from_secs(10))?;
    let segment = viewer.tracks[0].listed().values().next().context("a segment")?.uri.clone();
    let object = http::join(&viewer.tracks[0].url, &segment)?;
    cluster.revoke("alice")?;
    let revoked = Instant::now();
    for url in [&object, &viewer.tracks[0].url, &viewer.index_url, &url] {
        wait_for("refusal", REVOKED.saturating_sub(revoked.elapsed()), || {
            let status = http::get(url)?.status;
            ensure!(status == 403, "status {status}");
            Ok(())
        })?;
    }
    neighbour.poll().context("another viewer goes on")?;
    // A new token for the same account opens again only if it is younger than the revocation; the old one never.
    ensure!(http::get(&url)?.status == 403, "the old token opens again");
    Ok(())
}

#[test]
fn malformed_requests_are_refused() -> Result<()> {
    let (cluster, _publisher, url, mut viewer) = running()?;
    viewer.follow_until(1, Duration::from_secs(10))?;
    let (host, _) = http::split(&url)?;
    let session = viewer.index_url.split(host).nth(1).context("a path")?.replace("index.m3u8", "");
    for path in
        ["%2e%2e/", "../../etc/passwd", "video//0.m4s", "video/0.m4s%00", "video/%30.m4s", "video/0.m4s;a"]
    {
        let status = http::get(&format!("http://{host}{session}{path}"))?.status;
        ensure!([400, 403, 404].contains(&status), "{status} for {path}");
    }
    for (name, method) in [("POST", "POST"), ("DELETE", "DELETE"), ("nonsense", "XYZZY")] {
        let status = http::request(method, &viewer.index_url, &[("Content-Length", "0")])?.status;
        ensure!([400, 403, 405, 501].contains(&status), "{status} for {name}");
    }
    let raw: [&[u8]; 6] = [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ];
    for bytes in raw {
        let answer = http::exchange(host, &[bytes, b"Connection: close\r\n\r\n"].concat())?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(!text.starts_with("HTTP/1.1 2") && !text.starts_with("HTTP/1.1 5"), "{text} for {bytes:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "a".repeat(100_000));
    let answer = http::exchange(host, long.as_bytes()).unwrap_or_default(); // closing on it is as good
    ensure!(!answer.starts_with(b"HTTP/1.1 2"), "a URL of 100,000 characters is answered");
    viewer.poll().context("a viewer beside all that goes on")?;

    let origin = cluster.ingest.port("origin")?;
    for path in
        ["/origin/1/streams", "/origin/1/streams/demo/window?wait_ms=0", "/origin/1/streams/demo/video/0"]
    {
        let status = http::get(&format!("http://{origin}{path}"))?.status;
        ensure!(status == 401 || status == 403, "{status} for {path} without a signature");
    }
    Ok(())
}
