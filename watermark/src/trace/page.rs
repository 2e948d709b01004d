//! A finding as one HTML file: readable without this program, and checkable with it.
//!
//! In: a `Finding`. Out: a page that loads nothing and holds the whole finding as JSON; `finding_in` reads that back. Pure.

use super::finding::Finding;
use std::fmt::Write;

const OPENS: &str = "<script type=\"application/json\" id=\"finding\">";
const CLOSES: &str = "</script>";

/// The page.
pub fn page(finding: &Finding) -> String {
    let mut body = String::new();
    verdict(&mut body, finding);
    method(&mut body, finding);
    inputs(&mut body, finding);
    evidence(&mut body, finding);
    // A `<` in text would end the element; JSON may spell it otherwise.
    let json = serde_json::to_string(finding).unwrap_or_default().replace('<', "\\u003c");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Trace report</title><style>{STYLE}</style>\
         </head>\n<body><h1>Trace report</h1>\n{body}{OPENS}{json}{CLOSES}\n</body></html>\n"
    )
}

/// The finding in a page, or in a text that is its JSON alone.
///
/// # Errors
/// What JSON lacks.
pub fn finding_in(text: &str) -> Result<Finding, serde_json::Error> {
    let json =
        text.split_once(OPENS).and_then(|(_, rest)| rest.split_once(CLOSES)).map_or(text, |(json, _)| json);
    serde_json::from_str(json)
}

// Writing to a String cannot fail.
macro_rules! put {
    ($to:expr, $($text:tt)*) => { let _ = write!($to, $($text)*); };
}

fn verdict(out: &mut String, finding: &Finding) {
    put!(out, "<p class=\"verdict\">{}</p><p>{}.</p>\n", safe(&finding.verdict), safe(&finding.reason));
    if !finding.viewers.is_empty() {
        put!(
            out,
            "<table><tr><th>Viewer</th><th>P(anybody innocent is named)</th><th>Basis</th><th>Watermark id</th></tr>\n"
        );
        for named in &finding.viewers {
            let (viewer, id) = (safe(&named.viewer), safe(&named.watermark_id));
            put!(out, "<tr><td><b>{viewer}</b></td><td>10<sup>{:.2}</sup></td>", named.log10_fp);
            put!(out, "<td>{} ({})</td><td>{id}</td></tr>\n", safe(&named.basis), safe(&named.decoder));
        }
        put!(out, "</table>\n");
    }
    put!(out, "<p>{} symbols in {:.1} s of the copy.", finding.symbols, finding.seconds);
    if let Some(needed) = finding.needed_seconds {
        put!(out, " About {needed:.0} s more of it would probably be enough.");
    }
    put!(out, "</p>\n");
}

fn method(out: &mut String, finding: &Finding) {
    let paid = finding.paid;
    put!(
        out,
        "<h2>How the probability is worked out</h2><p>Each slice of a marked picture exists as A and as B. Which one a viewer \
         got was drawn by HMAC-SHA256 under a secret key, independently for each viewer and slice. Whatever was read off the \
         copy, however wrong, an innocent viewer's draws know nothing of it: the probability that they fit as well as those of \
         the viewer named is counted out, and multiplied by everything that was tried: {} viewers, 12 models of collusion \
         (a copy of one viewer's has half of their share), {} reading(s), look {}, with half of the budget for viewers who stand \
         alone. Nobody is named above 10<sup>-6</sup>. \
         Nothing about the picture, the reader or the copy enters.</p>\n",
        paid.viewers,
        paid.readings,
        paid.look
    );
    put!(
        out,
        "<p>It does not say that the viewer acted on purpose, or that nobody else took part; how the copy came from them is \
         for people to find out.</p><p>To check it: <code>releve-trace verify-report --report THIS_FILE --keys OPENED_KEYS\
         </code>, with the keys that open the commitments below; no register, archive or copy is needed.</p>\n"
    );
}

fn inputs(out: &mut String, finding: &Finding) {
    put!(out, "<h2>What it rests on</h2><table><tr><th>Input</th><th>SHA-256</th></tr>\n");
    for (name, hash) in &finding.inputs {
        put!(out, "<tr><td>{}</td><td>{}</td></tr>\n", safe(name), safe(hash));
    }
    put!(out, "</table><table><tr><th>Key</th><th>Version</th><th>Commitment</th></tr>\n");
    for (kind, version, commitment) in &finding.keys {
        put!(out, "<tr><td>{}</td><td>{version}</td><td>{}</td></tr>\n", safe(kind), safe(commitment));
    }
    put!(out, "</table><h2>Where the copy is from</h2><ul>\n");
    for place in &finding.places {
        put!(out, "<li>{}</li>\n", safe(place));
    }
    put!(out, "</ul>\n");
}

fn evidence(out: &mut String, finding: &Finding) {
    put!(
        out,
        "<h2>Evidence</h2><p>+0.5 is A, &minus;0.5 is B; a re-encode shrinks it.</p><table><tr><th>Copy, s</th><th>Stream</th>\
         <th>Segment</th><th>GOP</th><th>Slice</th><th>Soft value</th><th>Deviation</th><th>Keys</th></tr>\n"
    );
    for read in &finding.evidence {
        put!(out, "<tr><td>{:.2}</td><td>{}</td><td>{}</td>", read.at_s, safe(&read.stream), read.segment);
        put!(out, "<td>{}</td><td>{}</td>", hex::encode(&read.gop.0[..4]), read.slice);
        put!(out, "<td>{:+.3}</td><td>{:.3}</td>", read.soft, read.variance.sqrt());
        put!(out, "<td>{}/{}</td></tr>\n", read.code_key, read.bias_key);
    }
    put!(out, "</table>\n");
}

fn safe(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;\
background:#fff}table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}td,th{text-align:left;padding:.2rem .8rem .2rem 0;\
border-bottom:1px solid #d8dde3;overflow-wrap:anywhere}.verdict{font-size:1.6rem;font-weight:600;margin:0}\
@media(prefers-color-scheme:dark){body{background:#14171a;color:#dfe3e7}td,th{border-color:#343a41}}";
