//! The documents that a DRM key server is asked by and answers with: CPIX 2.3 as SPEKE 2.0 has it.
//!
//! ```text
//! ask    CPIX contentId ─ ContentKey kid, cbcs, vector ─ a DRMSystem each ─ ContentKeyPeriod ─ one rule: ALL
//! answer the same ─ ContentKey … PlainValue ─ DRMSystem … PSSH, HLSSignalingData media and master
//! ```
//!
//! In: which key is wanted; the text of an answer. Out: the text of the question; the key with all that goes with it. Pure.
//! Keys come in the clear (`pskc:PlainValue`), under the protection of the connection. No error repeats what a document holds.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ingest_api::Signals;
use ingest_api::content_key::{ContentKey, KeyId};
use roxmltree::{Document, Node, ParsingOptions};
use serde::Deserialize;
use std::fmt::Write;
use thiserror::Error;

const CPIX: &str = "urn:dashif:org:cpix";
const PSKC: &str = "urn:ietf:params:xml:ns:keyprov:pskc";
/// Bytes of `pssh` boxes of one system.
const PSSH_BYTES_MAX: usize = 64 << 10;
/// Nodes of an answer; one of three systems has about 60.
const NODES_MAX: u32 = 4_096;

/// A DRM system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Google's.
    Widevine,
    /// Microsoft's.
    PlayReady,
    /// Apple's.
    FairPlay,
}

impl System {
    /// Its id, as DASH-IF lists it.
    pub fn id(self) -> &'static str {
        match self {
            System::Widevine => "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed",
            System::PlayReady => "9a04f079-9840-4286-ab92-e65be0885f95",
            System::FairPlay => "94ce86fb-07ff-4f43-adb8-93d2fa968ca2",
        }
    }
}

/// A key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the server calls the content: the stream's name.
    pub content: String,
    /// Which crypto period of it; periods are counted from the stream's first segment.
    pub period: u64,
    /// Its id and vector, as we draw them; the key in it is not used.
    pub key: ContentKey,
}

/// A key as the server gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The key, its vector and the boxes for the init section.
    pub key: ContentKey,
    /// What players are told.
    pub signals: Signals,
}

/// Why an answer gives no key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CpixError {
    /// No XML, or too much of it.
    #[error("it is no XML of at most {NODES_MAX} nodes without a DTD")]
    Xml,
    /// Not the document that was asked for.
    #[error("{0}")]
    Document(&'static str),
    /// The key itself is encrypted.
    #[error("the key is encrypted (EncryptedValue); this node takes keys in the clear, over TLS")]
    Encrypted,
    /// A system was asked for and is not there.
    #[error("there is no HLSSignalingData of {0:?} for media playlists")]
    System(System),
    /// Something of a system is not what it should be.
    #[error("{1} of {0:?} is not as it should be")]
    Field(System, &'static str),
}

/// A key id as CPIX writes it: a UUID.
pub fn uuid(kid: KeyId) -> String {
    let hex = kid.to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The document that asks for a key.
pub fn question(wanted: &Wanted, systems: &[System]) -> String {
    let (kid, period) = (uuid(wanted.key.kid), wanted.period);
    let iv = BASE64_STANDARD.encode(wanted.key.iv());
    // Names of streams are letters, digits, `_` and `-`: nothing is to be escaped.
    let content = &wanted.content;
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <cpix:CPIX contentId=\"{content}\" version=\"2.3\" xmlns:cpix=\"{CPIX}\" xmlns:pskc=\"{PSKC}\">\n\
         <cpix:ContentKeyList>\n\
         <cpix:ContentKey kid=\"{kid}\" commonEncryptionScheme=\"cbcs\" explicitIV=\"{iv}\"/>\n\
         </cpix:ContentKeyList>\n<cpix:DRMSystemList>\n"
    );
    for system in systems {
        let _ = write!(
            out,
            "<cpix:DRMSystem kid=\"{kid}\" systemId=\"{}\">\n<cpix:PSSH/>\n\
             <cpix:HLSSignalingData playlist=\"media\"/>\n<cpix:HLSSignalingData playlist=\"master\"/>\n\
             </cpix:DRMSystem>\n",
            system.id()
        );
    }
    let _ = write!(
        out,
        "</cpix:DRMSystemList>\n<cpix:ContentKeyPeriodList>\n\
         <cpix:ContentKeyPeriod id=\"period-{period}\" index=\"{period}\"/>\n\
         </cpix:ContentKeyPeriodList>\n<cpix:ContentKeyUsageRuleList>\n\
         <cpix:ContentKeyUsageRule kid=\"{kid}\" intendedTrackType=\"ALL\">\n\
         <cpix:KeyPeriodFilter periodId=\"period-{period}\"/>\n<cpix:AudioFilter/>\n<cpix:VideoFilter/>\n\
         </cpix:ContentKeyUsageRule>\n</cpix:ContentKeyUsageRuleList>\n</cpix:CPIX>\n"
    );
    out
}

/// What the answer gives.
///
/// # Errors
/// Says what is missing or odd; nothing of it is used then.
pub fn answer(text: &str, wanted: &Wanted, systems: &[System]) -> Result<Given, CpixError> {
    let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|_| CpixError::Xml)?;
    let root = document.root_element();
    if !root.has_tag_name((CPIX, "CPIX")) {
        return Err(CpixError::Document("it is no CPIX document"));
    }
    let kid = uuid(wanted.key.kid);
    let of_kid = |node: &Node| node.attribute("kid").is_some_and(|said| said.eq_ignore_ascii_case(&kid));
    let named = |name| root.descendants().filter(move |node| node.has_tag_name((CPIX, name))).filter(of_kid);
    let [key] = named("ContentKey").collect::<Vec<_>>()[..] else {
        return Err(CpixError::Document("it has not one ContentKey of the id that was asked for"));
    };
    if key.attribute("commonEncryptionScheme").is_some_and(|scheme| scheme != "cbcs") {
        return Err(CpixError::Document("its commonEncryptionScheme is not cbcs"));
    }
    let secret = |name| key.descendants().find(|node| node.has_tag_name((PSKC, name)));
    let Some(value) = secret("PlainValue") else {
        let encrypted = secret("EncryptedValue").is_some();
        let none = CpixError::Document("its ContentKey has no PlainValue");
        return Err(if encrypted { CpixError::Encrypted } else { none });
    };
    let value = block(value.text()).ok_or(CpixError::Document("its PlainValue is not 16 bytes in base64"))?;
    let iv = key.attribute("explicitIV").map(|text| block(Some(text)));
    if iv == Some(None) {
        return Err(CpixError::Document("its explicitIV is not 16 bytes in base64"));
    }
    let (mut pssh, mut media, mut session) = (Vec::new(), Vec::new(), Vec::new());
    for &system in systems {
        let is =
            |node: &Node| node.attribute("systemId").is_some_and(|id| id.eq_ignore_ascii_case(system.id()));
        let before = media.len();
        for field in named("DRMSystem").filter(is).flat_map(|node| node.children()) {
            let text = field.text().map(str::trim).filter(|text| !text.is_empty());
            let Some(text) = text else { continue };
            if field.has_tag_name((CPIX, "PSSH")) {
                pssh.extend(boxes(text, system).ok_or(CpixError::Field(system, "PSSH"))?);
            } else if field.has_tag_name((CPIX, "HLSSignalingData")) {
                let lines = lines(text).ok_or(CpixError::Field(system, "HLSSignalingData"))?;
                match field.attribute("playlist") {
                    Some("master") => session.extend(lines),
                    _ => media.extend(lines),
                }
            }
        }
        if media.len() == before {
            return Err(CpixError::System(system));
        }
        let signals = Signals { kid: wanted.key.kid, media: media.clone(), session: session.clone() };
        if !signals.well_formed() {
            return Err(CpixError::Field(system, "HLSSignalingData"));
        }
    }
    let key = wanted.key.clone().of_server(value, iv.flatten(), pssh);
    Ok(Given { signals: Signals { kid: key.kid, media, session }, key })
}

fn block(text: Option<&str>) -> Option<[u8; 16]> {
    BASE64_STANDARD.decode(text?.trim()).ok()?.try_into().ok()
}

/// Whole `pssh` boxes of this system.
fn boxes(text: &str, system: System) -> Option<Vec<u8>> {
    let bytes = BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= PSSH_BYTES_MAX)?;
    let id: String = system.id().chars().filter(|digit| *digit != '-').collect();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let (content, behind) = rest.split_at_checked(len.max(1))?;
        if content.get(4..8)? != b"pssh" || hex(content.get(12..28)?) != id {
            return None;
        }
        rest = behind;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of a playlist that a field holds.
fn lines(text: &str) -> Option<Vec<String>> {
    let text = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    Some(text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
#[path = "cpix_tests.rs"]
mod tests;
