//! Protocol control and user control messages from the peer.
//!
//! In: type and payload of one message. Out: what it asks for. Pure. Adobe RTMP 1.0, sections 5.4
//! and 7.1.7.

use crate::Error;
use crate::chunk::kind;

const EVENT_PING_REQUEST: u16 = 6;
const EVENT_PING_RESPONSE: u16 = 7;

/// What a control message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    ChunkSize(u32),
    Abort {
        csid: u32,
    },
    WindowAckSize(u32),
    Ping {
        timestamp: u32,
    },
    /// Read and of no meaning for a server that receives: acknowledgements of what we sent, peer
    /// bandwidth (we send next to nothing), other user control events.
    Nothing,
}

/// Reads a message of type 1 to 6.
pub(crate) fn parse(kind: u8, payload: &[u8]) -> Result<Control, Error> {
    let short = |need| Error::ControlShort { kind, len: payload.len(), need };
    let u32_at = |at: usize| {
        let field = payload.get(at..at + 4).ok_or(short(at + 4))?;
        Ok::<u32, Error>(u32::from_be_bytes(field.try_into().expect("the range has 4 bytes")))
    };
    Ok(match kind {
        kind::SET_CHUNK_SIZE => Control::ChunkSize(u32_at(0)?),
        kind::ABORT => Control::Abort { csid: u32_at(0)? },
        kind::WINDOW_ACK_SIZE => match u32_at(0)? {
            0 => return Err(Error::WindowZero),
            size => Control::WindowAckSize(size),
        },
        kind::ACKNOWLEDGEMENT => {
            u32_at(0)?;
            Control::Nothing
        }
        kind::SET_PEER_BANDWIDTH => {
            payload.get(..5).ok_or(short(5))?;
            Control::Nothing
        }
        kind::USER_CONTROL => {
            let event = payload.get(..2).ok_or(short(2))?;
            match u16::from_be_bytes([event[0], event[1]]) {
                EVENT_PING_REQUEST => Control::Ping { timestamp: u32_at(2)? },
                _ => Control::Nothing,
            }
        }
        _ => Control::Nothing,
    })
}

/// Payload of the answer to a ping.
pub(crate) fn ping_response(timestamp: u32) -> [u8; 6] {
    let (event, time) = (EVENT_PING_RESPONSE.to_be_bytes(), timestamp.to_be_bytes());
    [event[0], event[1], time[0], time[1], time[2], time[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_control_messages_are_errors() {
        for (kind, need) in [(1, 4), (2, 4), (3, 4), (4, 2), (5, 4), (6, 5)] {
            for len in 0..need {
                let error = parse(kind, &[0; 8][..len]);
                assert_eq!(error, Err(Error::ControlShort { kind, len, need }), "type {kind}");
            }
        }
        assert_eq!(
            parse(kind::USER_CONTROL, &[0, 6, 1, 2]),
            Err(Error::ControlShort { kind: 4, len: 4, need: 6 })
        );
    }

    #[test]
    fn a_ping_keeps_its_timestamp() {
        let ping = parse(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]);
        assert_eq!(ping, Ok(Control::Ping { timestamp: 0x0102_0304 }));
        assert_eq!(ping_response(0x0102_0304), [0, 7, 1, 2, 3, 4]);
    }
}
