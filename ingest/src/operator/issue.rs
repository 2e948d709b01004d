//! Watermark tokens for viewers, as a shop or an operator makes them: JSON and CBOR web tokens that relays, or edges, take from
//! others.
//!
//! In: a JWK with its secret part (RFC 7517, or a set of them, of which the first counts), what to say. Out: a token. Pure,
//! but that `read` touches the key's file and ES256 the system's randomness.
//!
//! The claims are those of ETSI TS 104 002 V1.1.1 §5.4. In **indirect mode** `wmid` names the account, and the codeword is drawn by
//! whoever has the code key: for relays. In **direct mode** `wmpattern` is the account's pattern itself: for edges that choose
//! whole segments, and nobody is named. JSON: RFC 7519 in a JWS (RFC 7515). CBOR: RFC 8392 in a COSE_Mac0 or COSE_Sign1 (RFC 9052), in
//! deterministic encoding (RFC 8949 §4.2.1), as base64url. A shared secret makes HS256, an
//! Ed25519 key EdDSA, a P-256 key ES256 (whose signatures are drawn anew each time).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::cbor::Value;
use coset::{
    CborSerializable, CoseMac0Builder, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana,
};
use ingest_api::StreamName;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use ring::{error::Unspecified, hmac};
use serde::Deserialize;
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The shortest shared secret, in bytes (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// `wmver`: the version of the specification's token.
const VERSION: u64 = 1;
/// `wmpatlen` in indirect mode: codewords have no end, so the most that the claim can say.
const PATTERN_LEN: u64 = 65_535;
/// The tag of a CBOR web token.
const CWT: u64 = 61;

/// How a token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON web token.
    Jwt,
    /// CBOR web token.
    Cwt,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Said {
    /// When it was made, Unix seconds.
    pub issued_unix_s: u64,
    /// Last second to come in, Unix seconds.
    pub enter_until_unix_s: u64,
    /// Who made it, where relays ask for that.
    pub issuer: Option<String>,
    /// Whom it is for, where relays ask for that.
    pub audience: Option<String>,
    /// `wmvnd`: number of the watermark's vendor.
    pub vendor: u8,
    /// Whose copy it is for.
    pub mode: Mode,
}

/// How a token says whose copy it is for.
#[derive(Clone, Debug)]
pub enum Mode {
    /// By the account's name.
    Indirect {
        /// The stream it opens.
        stream: StreamName,
        /// The account that watches.
        viewer: String,
        /// `wmopid`: number of the operator.
        operator: u64,
        /// `wmkeyver`: version of the code key.
        key_version: u64,
    },
    /// By the account's pattern: `Codebook::pattern`. No stream is named: what an edge opens is for the edge to know.
    Direct(Vec<u8>),
}

/// A key that tokens are made with. Its `Debug` shows no key.
pub struct IssueKey {
    id: Option<String>,
    secret: Secret,
}

enum Secret {
    Mac(hmac::Key),
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Set { keys: Vec<Jwk> },
    One(Jwk),
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    d: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl std::fmt::Debug for IssueKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssueKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl IssueKey {
    /// Reads a key's file, which nobody but its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it holds no such key.
    pub fn read(path: &Path) -> Result<IssueKey, IssueError> {
        let at = |error| IssueError::File { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(at)?.mode() & 0o077 != 0 {
            return Err(IssueError::Open(path.to_owned()));
        }
        IssueKey::parse(&std::fs::read(path).map_err(at)?)
    }

    /// Reads a JWK or a set of them.
    ///
    /// # Errors
    /// When the first key is none that tokens can be made with.
    pub fn parse(text: &[u8]) -> Result<IssueKey, IssueError> {
        let jwk = match serde_json::from_slice(text).map_err(|_| IssueError::NoKey)? {
            File::One(jwk) => jwk,
            File::Set { keys } => keys.into_iter().next().ok_or(IssueError::NoKey)?,
        };
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let secret = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("oct", _) => {
                let secret = bytes(&jwk.k).filter(|secret| secret.len() >= SECRET_BYTES_MIN);
                secret.map(|secret| Secret::Mac(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
            }
            ("OKP", Some("Ed25519")) => {
                let pair = bytes(&jwk.d).zip(bytes(&jwk.x));
                let pair = pair.and_then(|(d, x)| Ed25519KeyPair::from_seed_and_public_key(&d, &x).ok());
                pair.map(Secret::Ed25519)
            }
            ("EC", Some("P-256")) => {
                let point = bytes(&jwk.x).zip(bytes(&jwk.y)).filter(|(x, y)| x.len() == 32 && y.len() == 32);
                let pair = bytes(&jwk.d).zip(point.map(|(x, y)| [&[4][..], &x, &y].concat()));
                let (way, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
                let pair = pair.and_then(|(d, point)| {
                    EcdsaKeyPair::from_private_key_and_public_key(way, &d, &point, &random).ok()
                });
                pair.map(Secret::P256)
            }
            _ => None,
        };
        Ok(IssueKey { id: jwk.kid, secret: secret.ok_or(IssueError::NoKey)? })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the system has no randomness; never else, for what can be said.
    pub fn issue(&self, format: Format, said: &Said) -> Result<String, IssueError> {
        match format {
            Format::Jwt => self.jwt(said).map_err(IssueError::from),
            Format::Cwt => self.cwt(said),
        }
    }

    fn sign(&self, signed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        Ok(match &self.secret {
            Secret::Mac(key) => hmac::sign(key, signed).as_ref().to_vec(),
            Secret::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
            Secret::P256(pair) => pair.sign(&SystemRandom::new(), signed)?.as_ref().to_vec(),
        })
    }

    fn jwt(&self, said: &Said) -> Result<String, Unspecified> {
        let mut header = json!({"typ": "JWT", "alg": match self.secret {
            Secret::Mac(_) => "HS256",
            Secret::Ed25519(_) => "EdDSA",
            Secret::P256(_) => "ES256",
        }});
        let mut claims = json!({
            "iat": said.issued_unix_s, "exp": said.enter_until_unix_s, "wmver": VERSION, "wmvnd": said.vendor,
        });
        match &said.mode {
            Mode::Indirect { stream, viewer, operator, key_version } => {
                claims["stream"] = json!(stream);
                claims["wmpatlen"] = json!(PATTERN_LEN);
                claims["wmid"] = json!(viewer);
                claims["wmopid"] = json!(operator);
                claims["wmkeyver"] = json!(key_version);
            }
            Mode::Direct(pattern) => {
                claims["wmpatlen"] = json!(8 * pattern.len());
                claims["wmpattern"] = json!(URL_SAFE_NO_PAD.encode(pattern));
            }
        }
        for (name, value) in [("iss", &said.issuer), ("aud", &said.audience)] {
            if let Some(value) = value {
                claims[name] = json!(value);
            }
        }
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        let word = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", word(header), word(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }

    fn cwt(&self, said: &Said) -> Result<String, IssueError> {
        let mut claims = Vec::new();
        let mut claim = |label: u64, value: Value| claims.push((Value::from(label), value));
        // In the order of their bytes.
        for (label, value) in [(1, &said.issuer), (3, &said.audience)] {
            if let Some(value) = value {
                claim(label, value.as_str().into());
            }
        }
        claim(4, said.enter_until_unix_s.into());
        claim(6, said.issued_unix_s.into());
        claim(300, VERSION.into());
        claim(301, u64::from(said.vendor).into());
        match &said.mode {
            Mode::Indirect { stream, viewer, operator, key_version } => {
                claim(302, PATTERN_LEN.into());
                claim(305, viewer.as_str().into());
                claim(306, (*operator).into());
                claim(307, (*key_version).into());
                claims.push(("stream".into(), stream.as_str().into()));
            }
            Mode::Direct(pattern) => {
                claim(302, (8 * pattern.len() as u64).into());
                claim(304, pattern.clone().into());
            }
        }
        let payload = Value::Map(claims).to_vec()?;
        let open = HeaderBuilder::new().key_id(self.id.clone().unwrap_or_default().into_bytes()).build();
        let shut = |algorithm| HeaderBuilder::new().algorithm(algorithm).build();
        let signed = |algorithm| {
            let sign = CoseSign1Builder::new().protected(shut(algorithm));
            let sign = sign.unprotected(open.clone()).payload(payload.clone());
            let sign = sign.try_create_signature(&[], |signed| self.sign(signed))?;
            Ok::<_, IssueError>(sign.build().to_tagged_vec()?)
        };
        let cose = match &self.secret {
            Secret::Mac(_) => {
                let mac = CoseMac0Builder::new().protected(shut(iana::Algorithm::HMAC_256_256));
                let mac = mac.unprotected(open).payload(payload);
                mac.try_create_tag(&[], |signed| self.sign(signed))?.build().to_tagged_vec()?
            }
            Secret::Ed25519(_) => signed(iana::Algorithm::EdDSA)?,
            Secret::P256(_) => signed(iana::Algorithm::ES256)?,
        };
        let token = Value::Tag(CWT, Box::new(Value::from_slice(&cose)?)).to_vec()?;
        Ok(URL_SAFE_NO_PAD.encode(token))
    }
}

/// Why there is no token. No part of a key is repeated.
#[derive(Debug, Error)]
pub enum IssueError {
    /// The key's file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Others can read it.
    #[error("{path} can be read by others: chmod 600", path = .0.display())]
    Open(PathBuf),
    /// It is no key that tokens can be made with.
    #[error(
        "no key to make tokens with: expected a JWK with a secret of 32 bytes (`oct`), or an Ed25519 or P-256 key with \
         its `d`"
    )]
    NoKey,
    /// The system has no randomness to sign with.
    #[error("the system gives no randomness to sign with")]
    Random,
    /// What is to be said cannot be written.
    #[error("the claims cannot be written")]
    Form,
}

impl From<Unspecified> for IssueError {
    fn from(_: Unspecified) -> IssueError {
        IssueError::Random
    }
}

impl From<coset::CoseError> for IssueError {
    fn from(_: coset::CoseError) -> IssueError {
        IssueError::Form
    }
}
