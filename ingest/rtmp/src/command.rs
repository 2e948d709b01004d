//! Commands of a publisher.
//!
//! In: the AMF0 payload of one command message. Out: a [`Command`], `None` for one we do not know
//! (it is ignored, its arguments unread), or an [`Error`]. Pure. Adobe RTMP 1.0, section 7.2;
//! `releaseStream`, `FCPublish`, `FCUnpublish`, `getStreamLength` are Flash Media Server customs;
//! `fourCcList` and `capsEx` are Enhanced RTMP v2.

use crate::amf::{Reader, Value};
use crate::limits::{FOURCC_MAX, KEY_LEN_MAX, NAME_LEN_MAX, TC_URL_LEN_MAX};
use crate::{Error, FourCc, PublishKind, StreamKeyText};

/// One command with its transaction id, 0 where no answer is wanted.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) transaction: f64,
    pub(crate) what: What,
}

/// The command with the arguments that matter to us.
pub(crate) enum What {
    Connect(Connect),
    ReleaseStream,
    FcPublish,
    GetStreamLength,
    CreateStream,
    Publish { name: StreamKeyText, kind: PublishKind },
    FcUnpublish,
    CloseStream,
    DeleteStream { stream_id: u32 },
    Play,
}

/// The command object of `connect`.
pub(crate) struct Connect {
    pub(crate) app: String,
    pub(crate) tc_url: String,
    pub(crate) flash_ver: String,
    pub(crate) fourcc_list: Vec<FourCc>,
    pub(crate) caps_ex: u32,
}

const KNOWN: [&str; 14] = [
    "connect",
    "releaseStream",
    "FCPublish",
    "getStreamLength",
    "createStream",
    "publish",
    "FCUnpublish",
    "closeStream",
    "deleteStream",
    "play",
    "play2",
    "pause",
    "seek",
    "receiveVideo",
];

/// Reads one command.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<Command>, Error> {
    let mut reader = Reader::new(payload);
    let called = reader.string()?;
    let Some(name) = KNOWN.into_iter().find(|known| *known == called) else { return Ok(None) };
    let transaction = reader.number()?;
    if !transaction.is_finite() {
        return Err(Error::Transaction { command: name });
    }
    let what = match name {
        "connect" => What::Connect(connect(&mut reader)?),
        "releaseStream" => What::ReleaseStream,
        "FCPublish" => What::FcPublish,
        "getStreamLength" => What::GetStreamLength,
        "createStream" => What::CreateStream,
        "publish" => publish(&mut reader)?,
        "FCUnpublish" => What::FcUnpublish,
        "closeStream" => What::CloseStream,
        "deleteStream" => {
            reader.value()?;
            What::DeleteStream { stream_id: whole(reader.number()?) }
        }
        _ => What::Play,
    };
    Ok(Some(Command { name, transaction, what }))
}

fn connect(reader: &mut Reader<'_>) -> Result<Connect, Error> {
    let object = reader.value()?;
    let text = |property: &'static str, max: usize| {
        let Some(text) = object.get(property).and_then(Value::as_str) else { return Ok(None) };
        let len = text.len();
        if len > max {
            return Err(Error::NameLength { what: property, len, max });
        }
        Ok(Some(text.to_owned()))
    };
    let app = text("app", NAME_LEN_MAX)?;
    let fourcc_list = match object.get("fourCcList") {
        Some(Value::StrictArray(list)) => {
            list.iter().filter_map(|name| FourCc::parse(name.as_str()?)).take(FOURCC_MAX).collect()
        }
        _ => Vec::new(),
    };
    Ok(Connect {
        app: app.ok_or(Error::CommandArgument { command: "connect", what: "the string app" })?,
        tc_url: text("tcUrl", TC_URL_LEN_MAX)?.unwrap_or_default(),
        flash_ver: text("flashVer", NAME_LEN_MAX)?.unwrap_or_default(),
        fourcc_list,
        caps_ex: object.get("capsEx").and_then(Value::as_f64).map_or(0, whole),
    })
}

fn publish(reader: &mut Reader<'_>) -> Result<What, Error> {
    reader.value()?;
    let name = reader.string()?;
    if name.len() > KEY_LEN_MAX {
        return Err(Error::NameLength { what: "the publishing name", len: name.len(), max: KEY_LEN_MAX });
    }
    let kind = match reader.string() {
        Ok("record") => PublishKind::Record,
        Ok("append") => PublishKind::Append,
        _ => PublishKind::Live,
    };
    Ok(What::Publish { name: StreamKeyText::new(name.to_owned()), kind })
}

/// The number without its fraction; what does not fit, NaN included, becomes the nearest end or 0.
fn whole(number: f64) -> u32 {
    number as u32
}
