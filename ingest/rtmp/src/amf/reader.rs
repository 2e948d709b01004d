//! Reads AMF0 values from one message: forward only, bounded in depth, count and name length.
//!
//! In: the payload. Out: [`Value`]s, or borrowed strings and numbers. Pure. AMF0, section 2.

use super::{AmfError, Value, marker};
use crate::limits::{AMF_DEPTH_MAX, AMF_NODES_MAX, NAME_LEN_MAX};

/// A cursor over the AMF0 values of one message.
pub struct Reader<'a> {
    all: &'a [u8],
    at: usize,
    nodes: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte of `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { all: payload, at: 0, nodes: 0 }
    }

    /// True when every byte has been read.
    pub fn is_empty(&self) -> bool {
        self.at >= self.all.len()
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next value, whatever its kind.
    pub fn value(&mut self) -> Result<Value, AmfError> {
        self.nested(0)
    }

    /// The next value, which must be a string; borrowed from the payload.
    pub fn string(&mut self) -> Result<&'a str, AmfError> {
        let at = self.at;
        match self.marker()? {
            marker::STRING => self.short_text(),
            marker::LONG_STRING => self.long_text(),
            _ => Err(AmfError::Kind { wanted: "string", at }),
        }
    }

    /// The next value, which must be a number.
    pub fn number(&mut self) -> Result<f64, AmfError> {
        let at = self.at;
        match self.marker()? {
            marker::NUMBER => self.double(),
            _ => Err(AmfError::Kind { wanted: "number", at }),
        }
    }

    fn nested(&mut self, depth: usize) -> Result<Value, AmfError> {
        let at = self.at;
        if depth >= AMF_DEPTH_MAX {
            return Err(AmfError::Depth { max: AMF_DEPTH_MAX, at });
        }
        self.nodes += 1;
        if self.nodes > AMF_NODES_MAX {
            return Err(AmfError::Nodes { max: AMF_NODES_MAX, at });
        }
        Ok(match self.marker()? {
            marker::NUMBER => Value::Number(self.double()?),
            marker::BOOLEAN => Value::Boolean(self.array::<1>()?[0] != 0),
            marker::STRING => Value::String(self.short_text()?.to_owned()),
            marker::LONG_STRING | marker::XML => Value::String(self.long_text()?.to_owned()),
            marker::OBJECT => Value::Object(self.properties(depth)?),
            marker::TYPED_OBJECT => {
                self.name()?;
                Value::Object(self.properties(depth)?)
            }
            marker::ECMA_ARRAY => {
                let _count_not_believed = self.array::<4>()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.nested(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            marker::DATE => {
                let ms = self.double()?;
                let _time_zone_reserved = self.array::<2>()?;
                Value::Date(ms)
            }
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            other => return Err(AmfError::Marker { marker: other, at }),
        })
    }

    /// Name and value pairs up to the empty name and the end marker (section 2.5).
    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut pairs = Vec::new();
        loop {
            let name = self.name()?;
            if name.is_empty() && self.all.get(self.at) == Some(&marker::OBJECT_END) {
                self.at += 1;
                return Ok(pairs);
            }
            pairs.push((name.to_owned(), self.nested(depth + 1)?));
        }
    }

    fn name(&mut self) -> Result<&'a str, AmfError> {
        let at = self.at;
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if len > NAME_LEN_MAX {
            return Err(AmfError::NameLength { len, max: NAME_LEN_MAX, at });
        }
        self.text(len)
    }

    fn short_text(&mut self) -> Result<&'a str, AmfError> {
        let len = u16::from_be_bytes(self.array()?);
        self.text(usize::from(len))
    }

    fn long_text(&mut self) -> Result<&'a str, AmfError> {
        let at = self.at;
        let len = u32::from_be_bytes(self.array()?);
        self.text(usize::try_from(len).map_err(|_| AmfError::Truncated { at })?)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, AmfError> {
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| AmfError::Utf8 { at })
    }

    fn double(&mut self) -> Result<f64, AmfError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn marker(&mut self) -> Result<u8, AmfError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        Ok(self.take(N)?.try_into().expect("take gives exactly N bytes"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], AmfError> {
        let end = self.at.checked_add(len);
        let part = end.and_then(|end| self.all.get(self.at..end));
        let part = part.ok_or(AmfError::Truncated { at: self.at })?;
        self.at += len;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_values_of_a_connect() {
        // "connect", 1, {app: "live", audioCodecs: 3575, fpad: false}
        let bytes = [
            b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03".as_slice(),
            b"\x00\x03app\x02\x00\x04live\x00\x0baudioCodecs\x00\x40\xab\xee\0\0\0\0\0",
            b"\x00\x04fpad\x01\x00\x00\x00\x09",
        ]
        .concat();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.string(), Ok("connect"));
        assert_eq!(reader.number(), Ok(1.0));
        let object = reader.value().unwrap();
        assert_eq!(object.get("app").and_then(Value::as_str), Some("live"));
        assert_eq!(object.get("audioCodecs").and_then(Value::as_f64), Some(3575.0));
        assert_eq!(object.get("fpad"), Some(&Value::Boolean(false)));
        assert!(reader.is_empty());
    }

    #[test]
    fn counts_on_the_wire_are_not_believed() {
        assert_eq!(Reader::new(b"\x0a\xff\xff\xff\xff").value(), Err(AmfError::Truncated { at: 5 }));
        assert_eq!(Reader::new(b"\x08\xff\xff\xff\xff").value(), Err(AmfError::Truncated { at: 5 }));
        assert_eq!(
            Reader::new(b"\x08\xff\xff\xff\xff\0\x01a\x05\0\0\x09").value(),
            Ok(Value::EcmaArray(vec![("a".into(), Value::Null)]))
        );
    }

    #[test]
    fn a_strict_array_of_strict_arrays_stops_at_the_node_limit() {
        let mut bytes = b"\x0a\xff\xff\xff\xff".to_vec();
        bytes.extend(b"\x0a\0\0\0\0".repeat(5000));
        let error = Reader::new(&bytes).value().unwrap_err();
        assert!(matches!(error, AmfError::Nodes { max: AMF_NODES_MAX, .. }));
    }

    #[test]
    fn depth_16_is_read_and_17_is_not() {
        let nest = |depth: usize| {
            let mut bytes = b"\x0a\0\0\0\x01".repeat(depth - 1);
            bytes.push(marker::NULL);
            Reader::new(&bytes).value()
        };
        assert!(nest(AMF_DEPTH_MAX).is_ok());
        assert!(matches!(nest(AMF_DEPTH_MAX + 1), Err(AmfError::Depth { .. })));
    }

    #[test]
    fn a_string_length_that_lies_is_an_error() {
        assert_eq!(Reader::new(b"\x02\xff\xffabc").value(), Err(AmfError::Truncated { at: 3 }));
        assert_eq!(Reader::new(b"\x0c\xff\xff\xff\xffabc").value(), Err(AmfError::Truncated { at: 5 }));
    }

    #[test]
    fn references_amf3_and_broken_text_are_refused() {
        assert_eq!(Reader::new(b"\x07\0\x63").value(), Err(AmfError::Marker { marker: 7, at: 0 }));
        assert_eq!(
            Reader::new(b"\x11\x04\xff\xff\xff\xff\xff").value(),
            Err(AmfError::Marker { marker: 0x11, at: 0 })
        );
        assert_eq!(Reader::new(b"\x02\0\x02\xc0\xaf").value(), Err(AmfError::Utf8 { at: 3 }));
        assert!(matches!(
            Reader::new(&[b"\x03\0\x81".as_slice(), &[b'a'; 0x81]].concat()).value(),
            Err(AmfError::NameLength { len: 129, .. })
        ));
    }
}
