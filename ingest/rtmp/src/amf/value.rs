//! One AMF0 value and its bytes. Pure. AMF0, section 2.

use std::fmt;

use super::marker;

/// An AMF0 value. `Debug` prints kinds and lengths, never text: it may be a stream key.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Section 2.2.
    Number(f64),
    /// Section 2.3.
    Boolean(bool),
    /// Sections 2.4, 2.14 (long) and 2.17 (XML).
    String(String),
    /// Sections 2.5 and 2.18 (typed; the class name is dropped).
    Object(Vec<(String, Value)>),
    /// Section 2.7.
    Null,
    /// Sections 2.8 and 2.15 (unsupported).
    Undefined,
    /// Section 2.10.
    EcmaArray(Vec<(String, Value)>),
    /// Section 2.12.
    StrictArray(Vec<Value>),
    /// Section 2.13: milliseconds since 1970; the time zone is reserved and dropped.
    Date(f64),
}

impl Value {
    /// A string value.
    pub fn text(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    /// The property of that name, in an object or ECMA array; the first if it comes twice.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let (Self::Object(pairs) | Self::EcmaArray(pairs)) = self else { return None };
        pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The number of a number.
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// Appends the bytes of this value to `out`. Names longer than 65,535 bytes are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(marker::NUMBER);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Boolean(flag) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*flag)]),
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(_) => {
                    out.push(marker::STRING);
                    name(text, out);
                }
                Err(_) => {
                    out.push(marker::LONG_STRING);
                    out.extend_from_slice(&wire_len(text.len()).to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            },
            Self::Object(pairs) => {
                out.push(marker::OBJECT);
                properties(pairs, out);
            }
            Self::EcmaArray(pairs) => {
                out.push(marker::ECMA_ARRAY);
                out.extend_from_slice(&wire_len(pairs.len()).to_be_bytes());
                properties(pairs, out);
            }
            Self::StrictArray(values) => {
                out.push(marker::STRICT_ARRAY);
                out.extend_from_slice(&wire_len(values.len()).to_be_bytes());
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Date(ms) => {
                out.push(marker::DATE);
                out.extend_from_slice(&ms.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
            }
            Self::Null => out.push(marker::NULL),
            Self::Undefined => out.push(marker::UNDEFINED),
        }
    }
}

fn wire_len(len: usize) -> u32 {
    u32::try_from(len).expect("values are built by us or read from a message below 16 MiB")
}

fn properties(pairs: &[(String, Value)], out: &mut Vec<u8>) {
    for (key, value) in pairs {
        name(key, out);
        value.encode(out);
    }
    out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
}

fn name(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(_) => f.write_str("Number"),
            Self::Boolean(_) => f.write_str("Boolean"),
            Self::String(text) => write!(f, "String of {} bytes", text.len()),
            Self::Object(pairs) => write!(f, "Object of {} properties", pairs.len()),
            Self::Null => f.write_str("Null"),
            Self::Undefined => f.write_str("Undefined"),
            Self::EcmaArray(pairs) => write!(f, "EcmaArray of {} properties", pairs.len()),
            Self::StrictArray(values) => write!(f, "StrictArray of {} values", values.len()),
            Self::Date(_) => f.write_str("Date"),
        }
    }
}
