//! A DRM key server (SPEKE 2.0): reads what it is asked as strictly as a real one, and gives keys, boxes and lines.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ingest_api::window::Sha256;
use roxmltree::{Document, Node};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CPIX: &str = "urn:dashif:org:cpix";
/// What a node must show.
pub const AUTHORIZATION: &str = "Basic cmVsZXZlOnNlY3JldA==";
/// Widevine, PlayReady, FairPlay (DASH-IF's list of systems), and whether they have boxes.
pub const SYSTEMS: [(&str, bool); 3] = [
    ("edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", true),
    ("9a04f079-9840-4286-ab92-e65be0885f95", true),
    ("94ce86fb-07ff-4f43-adb8-93d2fa968ca2", false),
];

#[derive(Default)]
struct State {
    /// Answers 503.
    away: bool,
    /// Periods that it has given a key for.
    given: Vec<u64>,
    /// Questions that it did not answer.
    refused: usize,
    /// What was wrong with questions.
    wrong: Vec<String>,
}

pub struct Speke {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Speke {
    pub async fn start() -> Speke {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let of_all = state.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, of_all.clone()));
            }
        });
        Speke { address, state }
    }

    /// The lines of a node's configuration.
    pub fn configured(&self) -> String {
        let systems = "[\"widevine\", \"playready\", \"fairplay\"]";
        format!("[drm]\nurl = \"http://{}/speke\"\nsystems = {systems}\n", self.address)
    }

    pub fn away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    pub fn given(&self) -> Vec<u64> {
        self.state.lock().unwrap().given.clone()
    }

    pub fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }

    /// Every question was as it should be.
    pub fn content(&self) {
        assert_eq!(self.state.lock().unwrap().wrong, [] as [String; 0]);
    }
}

/// The key of an id, 32 hex digits.
pub fn key(kid: &str) -> [u8; 16] {
    Sha256::of(kid.as_bytes()).0[..16].try_into().unwrap()
}

/// The box of a system.
pub fn pssh(system: &str, kid: &str) -> Vec<u8> {
    let digits: String = [system, kid].concat().chars().filter(|digit| *digit != '-').collect();
    let bytes = (0..32).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap());
    let bytes: Vec<u8> = bytes.collect();
    [&[0, 0, 0, 48, b'p', b's', b's', b'h', 0, 0, 0, 0], &bytes[..16], &[0, 0, 0, 16], &bytes[16..]].concat()
}

/// What players of a system are told.
pub fn line(tag: &str, system: &str, kid: &str) -> String {
    let uri = format!("data:text/plain;base64,{}", BASE64_STANDARD.encode(pssh(system, kid)));
    format!(
        "#EXT-X-{tag}:METHOD=SAMPLE-AES,URI=\"{uri}\",KEYFORMAT=\"urn:uuid:{system}\",KEYFORMATVERSIONS=\"1\""
    )
}

async fn serve(mut socket: TcpStream, state: Arc<Mutex<State>>) {
    let mut read = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer).await {
            Ok(count @ 1..) => read.extend_from_slice(&buffer[..count]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let field = |name: &str| {
            head.lines().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned))
        };
        let length: usize = field("content-length: ").unwrap().trim().parse().unwrap();
        if body.len() == length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let (status, answer) = {
        let mut state = state.lock().unwrap();
        match answer(&head, &body) {
            _ if state.away => {
                state.refused += 1;
                ("503 Service Unavailable", String::new())
            }
            Ok((period, answer)) => {
                state.given.push(period);
                ("200 OK", answer)
            }
            Err(why) => {
                state.wrong.push(why);
                ("422 Unprocessable Content", String::new())
            }
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/xml\r\nx-speke-version: 2.0\r\n");
    let length = format!("content-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let _ = socket.write_all((head + &length + &answer).as_bytes()).await;
}

fn answer(head: &str, body: &str) -> Result<(u64, String), String> {
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}\n{head}\n{body}")) };
    must(head.starts_with("POST /speke HTTP/1.1\r\n"), "the request line")?;
    let header = |name: &str, value: &str| {
        head.lines().any(|line| {
            line.split_once(": ").is_some_and(|(n, v)| n.eq_ignore_ascii_case(name) && v == value)
        })
    };
    must(header("content-type", "application/xml"), "the content type")?;
    must(header("x-speke-version", "2.0"), "the version of SPEKE")?;
    must(header("authorization", AUTHORIZATION), "the authorization")?;
    let document = Document::parse(body).map_err(|error| error.to_string())?;
    let root = document.root_element();
    must(
        root.has_tag_name((CPIX, "CPIX")) && root.attribute("version") == Some("2.3"),
        "the document's version",
    )?;
    must(root.attribute("contentId") == Some("demo"), "contentId")?;
    let all = |name: &str| -> Vec<Node> {
        root.descendants().filter(|node| node.has_tag_name((CPIX, name))).collect()
    };
    let (keys, rules, periods) = (all("ContentKey"), all("ContentKeyUsageRule"), all("ContentKeyPeriod"));
    must(keys.len() == 1 && rules.len() == 1 && periods.len() == 1, "one key, one rule, one period")?;
    let kid = keys[0].attribute("kid").unwrap_or_default().to_owned();
    let shape: Vec<usize> = kid.split('-').map(str::len).collect();
    must(shape == [8, 4, 4, 4, 12], "the key id is a UUID")?;
    must(keys[0].attribute("commonEncryptionScheme") == Some("cbcs"), "commonEncryptionScheme")?;
    must(
        rules[0].attribute("kid") == Some(&kid) && rules[0].attribute("intendedTrackType") == Some("ALL"),
        "the rule",
    )?;
    let filters = all("KeyPeriodFilter");
    must(
        filters.len() == 1 && filters[0].attribute("periodId") == periods[0].attribute("id"),
        "the period's filter",
    )?;
    must(all("AudioFilter").len() == 1 && all("VideoFilter").len() == 1, "filters of both kinds of tracks")?;
    let period = periods[0].attribute("index").and_then(|index| index.parse().ok());
    let period = period.ok_or("the period's index")?;
    let asked: Vec<_> = all("DRMSystem").iter().filter_map(|node| node.attribute("systemId")).collect();
    must(asked == SYSTEMS.map(|(system, _)| system), "the systems")?;
    let hex: String = kid.chars().filter(|digit| *digit != '-').collect();
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let systems = SYSTEMS.map(|(system, boxed)| {
        let pssh = if boxed { format!("<c:PSSH>{}</c:PSSH>", encode(&pssh(system, &hex))) } else { String::new() };
        let (media, session) = (line("KEY", system, &hex), line("SESSION-KEY", system, &hex));
        format!(
            "<c:DRMSystem kid=\"{kid}\" systemId=\"{system}\">{pssh}<c:HLSSignalingData playlist=\"media\">{}</c:HLSSignalingData>\
             <c:HLSSignalingData playlist=\"master\">{}</c:HLSSignalingData></c:DRMSystem>",
            encode(media.as_bytes()),
            encode(session.as_bytes())
        )
    });
    let text = format!(
        "<?xml version=\"1.0\"?>\n<c:CPIX xmlns:c=\"{CPIX}\" xmlns:p=\"urn:ietf:params:xml:ns:keyprov:pskc\" contentId=\"demo\" version=\"2.3\">\
         <c:ContentKeyList><c:ContentKey kid=\"{kid}\" commonEncryptionScheme=\"cbcs\"><c:Data><p:Secret><p:PlainValue>{}\
         </p:PlainValue></p:Secret></c:Data></c:ContentKey></c:ContentKeyList><c:DRMSystemList>{}</c:DRMSystemList></c:CPIX>",
        encode(&key(&hex)),
        systems.concat()
    );
    Ok((period, text))
}
