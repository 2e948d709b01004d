//! The watch page and its files, as they were built into the program.
//!
//! In: a stream name, or the name of a file. Out: answers. Pure. Script and style have their hash in their name, so that a
//! browser may keep them for ever. The page loads nothing from elsewhere, and the browser is told to hold it to that.

use super::answer::Answer;
use crate::cdn;
use crate::token::Refusal;
use bytes::Bytes;
use ingest_api::StreamName;

mod built {
    include!(concat!(env!("OUT_DIR"), "/assets.rs"));
}

const HTML: &str = "text/html; charset=utf-8";
const ASSET_CACHE: &str = "public, max-age=31536000, immutable";
/// Only our own files, and segments where a CDN has them; media also through `blob:`, which is how a script feeds a video.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{{cdn}}; \
    media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
pub(super) fn asset(name: &str) -> Option<Answer> {
    let (_, content_type, bytes) = built::ASSETS.iter().find(|(built, ..)| *built == name)?;
    Some(Answer::content(content_type, ASSET_CACHE, Bytes::from_static(bytes)))
}

/// The page of a stream, the same whether it is live, offline or never was. A stream name has no character that HTML minds.
pub(super) fn watch(stream: &StreamName, cdn: Option<&str>) -> Answer {
    html(Answer::bare(200), cdn, built::WATCH.replace("{{stream}}", stream.as_str()))
}

/// The same refusal, said in words.
pub(super) fn refused(answer: Answer, refusal: Refusal) -> Answer {
    let (title, text) = match refusal {
        Refusal::Expired => {
            ("This link has expired", "The token in it is past its time. Ask for a new link.")
        }
        _ => ("This link does not open anything", "It holds no valid token. Ask for a new link."),
    };
    html(answer, None, built::REFUSED.replace("{{title}}", title).replace("{{text}}", text))
}

fn html(mut answer: Answer, cdn: Option<&str>, text: String) -> Answer {
    answer.body = text.into();
    let cdn = cdn.and_then(cdn::origin).map(|origin| format!(" {origin}")).unwrap_or_default();
    answer.with("content-type", HTML).with("content-security-policy", POLICY.replace("{{cdn}}", &cdn))
}
