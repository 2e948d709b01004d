//! Documents that are asked with, and answers good and bad.

use super::*;
use releve_watermark::Key;

const ALL: [System; 3] = [System::Widevine, System::PlayReady, System::FairPlay];

fn wanted() -> Wanted {
    let key = ContentKey::of_segment(&Key::new(1, [7; 32]), &"demo".parse().unwrap(), 1_234, 300);
    Wanted { content: "demo".to_owned(), period: 4, key }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn pssh(system: System) -> Vec<u8> {
    let id: String = system.id().chars().filter(|digit| *digit != '-').collect();
    let id = (0..16).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap());
    let mut bytes = vec![0, 0, 0, 35, b'p', b's', b's', b'h', 0, 0, 0, 0];
    bytes.extend(id.chain([0, 0, 0, 3, 1, 2, 3]));
    bytes
}

fn line(tag: &str, system: System) -> String {
    format!("#EXT-X-{tag}:METHOD=SAMPLE-AES,URI=\"data:{}\"", system.id())
}

/// What a server says to the question, by filling it in.
fn filled() -> String {
    let key = format!(
        "<cpix:Data><pskc:Secret><pskc:PlainValue>{}</pskc:PlainValue></pskc:Secret></cpix:Data></cpix:ContentKey>",
        base64([0x4b; 16])
    );
    let mut text = question(&wanted(), &ALL)
        .replace("\"/>\n</cpix:ContentKeyList>", &format!("\">{key}</cpix:ContentKeyList>"));
    for system in ALL {
        let (head, tail) = text.split_once(&format!("systemId=\"{}\">", system.id())).unwrap();
        let field = |tag: &str| base64(line(tag, system) + "\r\n");
        let tail = tail
            .replacen("<cpix:PSSH/>", &format!("<cpix:PSSH>\n {}\n</cpix:PSSH>", base64(pssh(system))), 1)
            .replacen("\"media\"/>", &format!("\"media\">{}</cpix:HLSSignalingData>", field("KEY")), 1)
            .replacen(
                "\"master\"/>",
                &format!("\"master\">{}</cpix:HLSSignalingData>", field("SESSION-KEY")),
                1,
            );
        text = format!("{head}systemId=\"{}\">{tail}", system.id());
    }
    text
}

#[test]
fn the_question_is_the_document_of_speke() {
    let text = question(&wanted(), &ALL);
    let document = Document::parse(&text).unwrap();
    let root = document.root_element();
    assert_eq!((root.attribute("contentId"), root.attribute("version")), (Some("demo"), Some("2.3")));
    let lists: Vec<_> = root.children().filter(Node::is_element).map(|node| node.tag_name().name()).collect();
    assert_eq!(lists, ["ContentKeyList", "DRMSystemList", "ContentKeyPeriodList", "ContentKeyUsageRuleList"]);
    let one = |name: &str| {
        let mut found = root.descendants().filter(|node| node.has_tag_name((CPIX, name)));
        (found.next().unwrap(), found.count()).0
    };
    let kid = Some("0fb78082-21e5-45ee-9416-ae2002eb40cc");
    let (key, rule) = (one("ContentKey"), one("ContentKeyUsageRule"));
    assert_eq!((key.attribute("kid"), key.attribute("commonEncryptionScheme")), (kid, Some("cbcs")));
    assert_eq!(block(key.attribute("explicitIV")).as_ref(), Some(wanted().key.iv()));
    assert_eq!((rule.attribute("kid"), rule.attribute("intendedTrackType")), (kid, Some("ALL")));
    let filters: Vec<_> =
        rule.children().filter(Node::is_element).map(|node| node.tag_name().name()).collect();
    assert_eq!(filters, ["KeyPeriodFilter", "AudioFilter", "VideoFilter"]);
    let period = one("ContentKeyPeriod");
    assert_eq!(period.attribute("index"), Some("4"));
    assert_eq!(one("KeyPeriodFilter").attribute("periodId"), period.attribute("id"));
    let systems = root.descendants().filter(|node| node.has_tag_name((CPIX, "DRMSystem")));
    assert!(systems.map(|node| node.attribute("systemId").unwrap()).eq(ALL.map(System::id)));
    let secret: String = wanted().key.secret().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        !text.contains(&secret) && !text.contains(&base64(wanted().key.secret())),
        "no key of ours leaves"
    );
}

#[test]
fn an_answer_gives_the_key_and_what_goes_with_it() {
    let given = answer(&filled(), &wanted(), &ALL).unwrap();
    assert_eq!(
        (given.key.kid, given.key.secret(), given.key.iv()),
        (wanted().key.kid, &[0x4b; 16], wanted().key.iv())
    );
    assert_eq!(given.key.pssh(), ALL.map(pssh).concat());
    assert_eq!(given.signals.media, ALL.map(|system| line("KEY", system)));
    assert_eq!(given.signals.session, ALL.map(|system| line("SESSION-KEY", system)));
    assert!(!format!("{given:?}").contains("75, 75"), "nothing shows the key");
    // Its own vector, capitals, an order of its own and what else it says are its business.
    let iv = base64(wanted().key.iv());
    let other = filled().replace(&iv, &base64([9; 16])).replace("0fb78082-21e5", "0FB78082-21E5");
    assert_eq!(answer(&other, &wanted(), &ALL).unwrap().key.iv(), &[9; 16]);
    let only = answer(&filled(), &wanted(), &[System::FairPlay]).unwrap();
    assert_eq!(
        only.signals.media,
        [line("KEY", System::FairPlay)],
        "what was not asked for is not passed on"
    );
}

#[test]
fn an_answer_that_is_odd_gives_nothing() {
    let good = filled();
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let field = |text: &str| base64(text);
    let media = field(&(line("KEY", System::PlayReady) + "\r\n"));
    let bads = [
        (swap("</cpix:CPIX>", ""), "XML"),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]>".to_owned() + good.split_once("?>").unwrap().1, "XML"),
        (swap("urn:dashif:org:cpix", "urn:other"), "no CPIX"),
        (swap("0fb78082", "0fb78083"), "ContentKey of the id"),
        (swap("\"cbcs\"", "\"cenc\""), "commonEncryptionScheme"),
        (swap("PlainValue", "OtherValue"), "no PlainValue"),
        (swap("PlainValue", "EncryptedValue"), "encrypted"),
        (swap(&base64([0x4b; 16]), &base64([0x4b; 15])), "16 bytes"),
        (swap(&base64(wanted().key.iv()), "xyz"), "explicitIV"),
        (swap(System::FairPlay.id(), "00000000-0000-0000-0000-000000000000"), "FairPlay"),
        (swap(System::FairPlay.id(), System::Widevine.id()), "PSSH of Widevine"),
        (swap(&base64(pssh(System::Widevine)), &base64(pssh(System::PlayReady))), "PSSH of Widevine"),
        (swap(&base64(pssh(System::Widevine)), &base64(&pssh(System::Widevine)[..34])), "PSSH of Widevine"),
        (swap(&media, ""), "PlayReady for media"),
        (swap(&media, &field("#EXT-X-KEY:METHOD=NONE")), "HLSSignalingData of PlayReady"),
        (swap(&media, &field("#EXTINF:2,\nhttps://example.org/1.ts")), "HLSSignalingData of PlayReady"),
        (swap(&media, "%"), "HLSSignalingData of PlayReady"),
    ];
    for (text, says) in bads {
        let error = answer(&text, &wanted(), &ALL).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(!error.contains(&base64([0x4b; 16])));
    }
}
