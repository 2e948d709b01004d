//! WMPaceInfo: which bit of a viewer's pattern says which variant of a segment an edge gives (ETSI TS 104 002 V1.1.1 §5.5).
//!
//! In: a position, or that there is none. Out: the `sidecar-discrete` of one segment (§5.5.3.2: deterministic CBOR with integer
//! keys), as an object and as text for a field. Pure.
//!
//! ```text
//! {1: 1, 2: [{6: position}]}     version 1, one segment; position −1: not marked, the edge gives variant A
//! ```

use base64::{Engine, engine::general_purpose::URL_SAFE};

/// Its type as an object (§5.7.5.2).
pub const CONTENT_TYPE: &str = "application/cbor";

/// The object of one segment; `None`: it has no marks.
pub fn sidecar(position: Option<u16>) -> Vec<u8> {
    let mut cbor = vec![0xa2, 0x01, 0x01, 0x02, 0x81, 0xa1, 0x06];
    match position.map(u16::to_be_bytes) {
        None => cbor.push(0x20),
        Some([0, low]) if low < 24 => cbor.push(low),
        Some([0, low]) => cbor.extend([0x18, low]),
        Some([high, low]) => cbor.extend([0x19, high, low]),
    }
    cbor
}

/// The same as the value of `WMPaceInfoEgress` (§5.5.3.3), with `=` at its end where the length asks for it: the
/// specification does not say otherwise (RFC 4648 §3.2).
pub fn field(position: Option<u16>) -> String {
    URL_SAFE.encode(sidecar(position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coset::CborSerializable;
    use coset::cbor::Value;

    #[test]
    fn a_position_is_said_in_one_way() {
        assert_eq!(field(Some(33)), "ogEBAoGhBhgh");
        assert_eq!(field(None), "ogEBAoGhBiA=");
        for position in [None, Some(0), Some(23), Some(24), Some(255), Some(256), Some(2_047), Some(u16::MAX)]
        {
            let number = position.map_or(-1, i64::from);
            let segment = Value::Map(vec![(6.into(), number.into())]);
            let said = Value::Map(vec![(1.into(), 1.into()), (2.into(), Value::Array(vec![segment]))]);
            assert_eq!(sidecar(position), said.to_vec().unwrap(), "{position:?}");
        }
    }
}
