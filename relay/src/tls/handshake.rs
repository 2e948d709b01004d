//! A handshake: rustls, given one record at a time.
//!
//! In: what came. Out: flights to send, and at the end the `Channel`. One record at a time, so that rustls never sees what
//! comes after the handshake: those records are the channel's. Touches no socket; rustls reads the clock and randomness.

use super::buffers::{Inbound, Outbound};
use super::channel::Channel;
use super::identity::HTTP2;
use super::record::{TlsError, whole_record};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{HandshakeKind, ServerConfig};
use std::sync::Arc;

pub(super) struct Handshake {
    connection: UnbufferedServerConnection,
    /// Raw bytes that rustls may look at: whole records.
    shown: usize,
}

/// How far a handshake is.
pub(super) enum Progress {
    /// More bytes are needed.
    Waits(Box<Handshake>),
    /// It is done; whether an earlier session was resumed, and whether HTTP/2 was chosen.
    Done(Box<Channel>, bool, bool),
}

impl Handshake {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Handshake, TlsError> {
        Ok(Handshake { connection: UnbufferedServerConnection::new(config).map_err(refused)?, shown: 0 })
    }

    /// Goes on with what has come.
    ///
    /// # Errors
    /// When it fails: `outbound` then has the alert that says so.
    pub(super) fn advance(
        mut self: Box<Self>,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<Progress, TlsError> {
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut inbound.raw()[..self.shown]);
            let mut needs_more = false;
            match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outbound)?,
                // All of it is in `outbound` and goes out in order.
                Ok(ConnectionState::TransmitTlsData(flight)) => flight.done(),
                // The second one comes early in TLS 1.3, where a server may speak before the client is done.
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => needs_more = true,
                Ok(_) => return Err(TlsError::Over), // closed, or early data, which is not offered
                Err(error) => {
                    inbound.opened(discard, 0..0);
                    self.shown -= discard;
                    self.say_alert(inbound, outbound);
                    return Err(refused(error));
                }
            }
            inbound.opened(discard, 0..0);
            self.shown -= discard;
            if !needs_more {
                continue;
            }
            if !self.connection.is_handshaking() {
                let http2 = self.connection.alpn_protocol() == Some(HTTP2);
                let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
                let (secrets, kernel) =
                    self.connection.dangerous_into_kernel_connection().map_err(refused)?;
                return Ok(Progress::Done(Box::new(Channel::new(kernel, secrets)?), resumed, http2));
            }
            match whole_record(&inbound.raw()[self.shown..])? {
                Some(record) => self.shown += record.end,
                None if self.shown > 0 && inbound.is_full() => return Err(TlsError::TooLong),
                None => return Ok(Progress::Waits(self)),
            }
        }
    }

    /// The alert for the client, if rustls has one.
    fn say_alert(&mut self, inbound: &mut Inbound, outbound: &mut Outbound) {
        while let Ok(ConnectionState::EncodeTlsData(data)) =
            self.connection.process_tls_records(&mut inbound.raw()[..self.shown]).state
        {
            if encode(data, outbound).is_err() {
                return;
            }
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outbound: &mut Outbound) -> Result<(), TlsError> {
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return Err(TlsError::Over); // nothing is no flight
    };
    let start = outbound.bytes.len();
    outbound.bytes.resize(start + size.required_size, 0); // our own flight: as long as our certificates are
    data.encode(&mut outbound.bytes[start..]).map_err(|_| TlsError::Over).map(drop)
}

fn refused(error: rustls::Error) -> TlsError {
    TlsError::Handshake(error.to_string())
}
