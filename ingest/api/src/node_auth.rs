//! Signatures between nodes: a relay's request and an origin's answer, bound to each other.
//!
//! A request carries `releve-auth: 1 VERSION SECONDS NONCE MAC`, where MAC is HMAC-SHA-256 with the cluster key over a
//! label, method, path with query, time and nonce; an answer carries `releve-mac: MAC` over a label, the request's MAC, the
//! status and the SHA-256 of the body. A recorded answer therefore fits no other request, and a recorded request can only
//! be asked again, within the clock tolerance.
//! In: the parts and a key ring. Out: header values, or why one does not hold. Pure: the caller brings time and nonce.

use releve_watermark::KeyRing;
use ring::{digest, hmac};
use thiserror::Error;

/// Request header.
pub const AUTH_HEADER: &str = "releve-auth";
/// Answer header.
pub const ANSWER_HEADER: &str = "releve-mac";
/// How far the clocks of two nodes may differ, in seconds.
pub const SKEW_S_MAX: u64 = 30;

/// What ties an answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMac {
    key_version: u32,
    mac: [u8; 32],
}

/// The header value for a request.
pub fn sign_request(
    keys: &KeyRing,
    method: &str,
    path_and_query: &str,
    now_unix_s: u64,
    nonce: [u8; 16],
) -> (String, RequestMac) {
    let key = keys.current();
    let nonce = hex::encode(nonce);
    let mac = request_mac(key.secret(), method, path_and_query, now_unix_s, &nonce);
    let header = format!("1 {} {now_unix_s} {nonce} {}", key.version, hex::encode(mac.as_ref()));
    (header, RequestMac { key_version: key.version, mac: tag_bytes(&mac) })
}

/// Checks a request's header.
///
/// # Errors
/// Says why; the asker learns only that it may not.
pub fn verify_request(
    keys: &KeyRing,
    method: &str,
    path_and_query: &str,
    now_unix_s: u64,
    header: &str,
) -> Result<RequestMac, NodeAuthError> {
    let mut words = header.split(' ');
    let (Some("1"), Some(version), Some(seconds), Some(nonce), Some(mac), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(NodeAuthError::Malformed);
    };
    let key_version: u32 = version.parse().map_err(|_| NodeAuthError::Malformed)?;
    let seconds: u64 = seconds.parse().map_err(|_| NodeAuthError::Malformed)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(mac, &mut bytes).map_err(|_| NodeAuthError::Malformed)?;
    let key = keys.version(key_version).ok_or(NodeAuthError::UnknownKey)?;
    let message = request_message(method, path_and_query, seconds, nonce);
    hmac::verify(key.mac(), &message, &bytes).map_err(|_| NodeAuthError::BadMac)?;
    if seconds.abs_diff(now_unix_s) > SKEW_S_MAX {
        return Err(NodeAuthError::Skew { seconds: seconds.abs_diff(now_unix_s) });
    }
    Ok(RequestMac { key_version, mac: bytes })
}

/// The header value for an answer; `None` if the request's key has gone meanwhile.
pub fn sign_answer(keys: &KeyRing, request: &RequestMac, status: u16, body: &[u8]) -> Option<String> {
    let key = keys.version(request.key_version)?;
    let message = answer_message(request, status, body);
    let mac = hmac::sign(key.mac(), &message);
    Some(hex::encode(mac.as_ref()))
}

/// Checks an answer's header.
///
/// # Errors
/// When the answer is not the origin's answer to this request.
pub fn verify_answer(
    keys: &KeyRing,
    request: &RequestMac,
    status: u16,
    body: &[u8],
    header: &str,
) -> Result<(), NodeAuthError> {
    let key = keys.version(request.key_version).ok_or(NodeAuthError::UnknownKey)?;
    let mut mac = [0; 32];
    hex::decode_to_slice(header, &mut mac).map_err(|_| NodeAuthError::Malformed)?;
    let message = answer_message(request, status, body);
    hmac::verify(key.mac(), &message, &mac).map_err(|_| NodeAuthError::BadMac)
}

fn request_message(method: &str, path_and_query: &str, seconds: u64, nonce: &str) -> Vec<u8> {
    format!("releve node 1\0{method}\n{path_and_query}\n{seconds}\n{nonce}").into_bytes()
}

fn request_mac(secret: &[u8; 32], method: &str, path: &str, seconds: u64, nonce: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, &request_message(method, path, seconds, nonce))
}

fn answer_message(request: &RequestMac, status: u16, body: &[u8]) -> Vec<u8> {
    let mut message = b"releve answer 1\0".to_vec();
    message.extend_from_slice(&request.mac);
    message.extend_from_slice(&status.to_be_bytes());
    message.extend_from_slice(digest::digest(&digest::SHA256, body).as_ref());
    message
}

fn tag_bytes(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// Why a node is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NodeAuthError {
    /// Not of the form this version writes.
    #[error("the signature header is malformed")]
    Malformed,
    /// Signed with a key that is not live here.
    #[error("signed with a cluster key that is not live on this node")]
    UnknownKey,
    /// Another key, or changed on the way.
    #[error("the signature does not hold; do both nodes have the same cluster key?")]
    BadMac,
    /// Too old or from the future.
    #[error("the nodes' clocks differ by {seconds} s (at most {SKEW_S_MAX} s)")]
    Skew {
        /// Difference in seconds.
        seconds: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    #[test]
    fn an_answer_fits_its_own_request_only() {
        let keys = KeyRing::of(Key::new(1, [1; 32]));
        let (header, asked) = sign_request(&keys, "GET", "/origin/1/streams", 100, [7; 16]);
        let heard = verify_request(&keys, "GET", "/origin/1/streams", 120, &header).unwrap();
        assert_eq!(heard, asked);
        let answer = sign_answer(&keys, &heard, 200, b"body").unwrap();
        assert_eq!(verify_answer(&keys, &asked, 200, b"body", &answer), Ok(()));
        assert_eq!(verify_answer(&keys, &asked, 200, b"bodz", &answer), Err(NodeAuthError::BadMac));
        assert_eq!(verify_answer(&keys, &asked, 404, b"body", &answer), Err(NodeAuthError::BadMac));
        let (_, other) = sign_request(&keys, "GET", "/origin/1/streams", 100, [8; 16]);
        assert_eq!(verify_answer(&keys, &other, 200, b"body", &answer), Err(NodeAuthError::BadMac));
    }

    #[test]
    fn a_changed_or_late_request_is_refused() {
        let keys = KeyRing::of(Key::new(1, [1; 32]));
        let (header, _) = sign_request(&keys, "GET", "/a", 100, [7; 16]);
        let check = |method, path, now| verify_request(&keys, method, path, now, &header);
        assert_eq!(check("GET", "/a", 131), Err(NodeAuthError::Skew { seconds: 31 }));
        assert_eq!(check("GET", "/b", 100), Err(NodeAuthError::BadMac));
        assert_eq!(check("POST", "/a", 100), Err(NodeAuthError::BadMac));
        let others = KeyRing::of(Key::new(1, [2; 32]));
        assert_eq!(verify_request(&others, "GET", "/a", 100, &header), Err(NodeAuthError::BadMac));
        assert_eq!(verify_request(&keys, "GET", "/a", 100, "1 1 1"), Err(NodeAuthError::Malformed));
    }
}
