//! A bearer that is a key itself: for programs that hold one of ours, a shop that mints or a CDN that fetches (RFC 6750 §2.1).
//!
//! In: live keys, the `Authorization` field of a request. Out: whether it is one of them. Pure.

use releve_watermark::{Key, KeyRing};
use ring::hmac;

/// Whether a field is `Bearer ` and the 64 hex digits of a live key. Both sides go through a MAC, so that the time says
/// nothing of where they differ.
pub fn opens(keys: &KeyRing, field: Option<&[u8]>) -> bool {
    let Some(bearer) = field.and_then(|field| field.strip_prefix(b"Bearer ")) else { return false };
    let equal = |key: &Key| {
        let expected = hmac::sign(key.mac(), hex::encode(key.secret()).as_bytes());
        hmac::verify(key.mac(), bearer, expected.as_ref()).is_ok()
    };
    keys.iter().fold(false, |opened, key| equal(key) | opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_live_keys_open_and_nothing_else() {
        let (new, old) = (Key::new(2, [0xab; 32]), Key::new(1, [1; 32]));
        let keys = KeyRing::parse(&format!("{}{}", new.to_line(), old.to_line())).unwrap();
        let opens = |bearer: &str| opens(&keys, Some(format!("Bearer {bearer}").as_bytes()));
        let (good, other) = ("ab".repeat(32), "01".repeat(32));
        assert!(opens(&good) && opens(&other));
        for bad in ["", "ab", &good[1..], &good.to_uppercase(), &format!("{good} "), &"ac".repeat(32)] {
            assert!(!opens(bad), "{bad}");
        }
        assert!(!super::opens(&keys, Some(good.as_bytes())) && !super::opens(&keys, None));
    }
}
