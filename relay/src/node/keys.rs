//! The keys of a relay, and the codebooks made from them.
//!
//! In: five key rings, and six more where they are needed. Out: the same, with a codebook for each live code key. Pure; `io::key_files` reads the files.

use crate::cdn::Names;
use releve_watermark::{Codebook, KeyRing};
use std::collections::HashMap;

/// All keys in force at a moment. Their `Debug` shows versions only.
#[derive(Debug)]
pub struct Keys {
    /// Access tokens.
    pub access: KeyRing,
    /// Session credentials.
    pub session: KeyRing,
    /// Requests to origins, and their answers.
    pub cluster: KeyRing,
    /// Codewords.
    pub code: KeyRing,
    /// Requests to the operator's webhook.
    pub webhook: Option<KeyRing>,
    /// Whoever may mint over HTTP.
    pub mint: Option<KeyRing>,
    /// Roots of the keys of encrypted segments.
    pub content: Option<KeyRing>,
    /// A CDN that fetches segments: where there is none, a segment's name is enough.
    pub cdn: Option<KeyRing>,
    /// Edges that choose variants themselves: where there is none, nobody is given both.
    pub edge: Option<KeyRing>,
    /// Tokens for the edges of a CDN that asks for some.
    pub edge_auth: Option<KeyRing>,
    /// Names of whole segments.
    pub names: Names,
    codebooks: HashMap<u32, Codebook>,
}

impl Keys {
    /// Keys with their codebooks: a code key goes with the bias key of the same version, or else with the current one.
    pub fn new(access: KeyRing, session: KeyRing, cluster: KeyRing, code: KeyRing, bias: &KeyRing) -> Keys {
        let codebooks = code
            .iter()
            .map(|key| {
                let bias = bias.version(key.version).unwrap_or(bias.current());
                (key.version, Codebook::new(key, bias))
            })
            .collect();
        let names = Names::new(&code);
        Keys {
            access,
            session,
            cluster,
            code,
            webhook: None,
            mint: None,
            content: None,
            cdn: None,
            edge: None,
            edge_auth: None,
            names,
            codebooks,
        }
    }

    /// The codebook of a code key, if that is live.
    pub fn codebook(&self, code_key: u32) -> Option<&Codebook> {
        self.codebooks.get(&code_key)
    }
}
