//! Makes `crate.txt`: a program of its own with `common-access-token = "=0.2.7"` as its only dependency, run once. Its
//! dependencies are many, and what it writes is the same each time; so it is not part of the build.

use common_access_token::cat_claims::{catm, catnip, catr, catreplay, catu, catv};
use common_access_token::constants::{cat_keys, uri_components};
use common_access_token::{Algorithm, KeyId, RegisteredClaims, TokenBuilder};
use std::collections::BTreeMap;

fn b64(bytes: &[u8]) -> String {
    const T: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(T[(n >> (18 - 6 * i)) as usize & 63] as char);
        }
    }
    out
}

fn builder(exp: u64) -> TokenBuilder {
    let claims = RegisteredClaims::new()
        .with_subject("alice")
        .with_issuer("shop")
        .with_expiration(exp)
        .with_issued_at(1_700_000_000)
        .with_cti(vec![1, 2, 3]);
    TokenBuilder::new()
        .algorithm(Algorithm::HmacSha256)
        .protected_key_id(KeyId::binary(b"crate".to_vec()))
        .registered_claims(claims)
}

fn uri(
    parts: Vec<(i32, BTreeMap<i32, common_access_token::CborValue>)>,
) -> BTreeMap<i32, BTreeMap<i32, common_access_token::CborValue>> {
    parts.into_iter().collect()
}

fn main() {
    let key: Vec<u8> = (0..32).collect();
    const FAR: u64 = 4_102_444_800;
    let live = || catu::create(uri(vec![(uri_components::PATH, catu::prefix_match("/live/demo/"))]));
    let all = || {
        catu::create(uri(vec![
            (uri_components::SCHEME, catu::exact_match("https")),
            (uri_components::HOST, catu::suffix_match(".example.org")),
            (uri_components::PARENT_PATH, catu::exact_match("/live/demo")),
            (uri_components::FILENAME, catu::exact_match("index.m3u8")),
            (uri_components::STEM, catu::contains_match("nde")),
            (uri_components::EXTENSION, catu::exact_match(".m3u8")),
        ]))
    };
    let emit = |name: &str, b: TokenBuilder, key: &[u8]| {
        println!("{name} {}", b64(&b.sign(key).unwrap().to_bytes().unwrap()))
    };
    emit("good", builder(FAR).custom_cbor(cat_keys::CATU, live()), &key);
    emit(
        "good",
        builder(FAR)
            .custom_cbor(cat_keys::CATV, catv::create())
            .custom_cbor(cat_keys::CATU, all())
            .custom_array(cat_keys::CATM, catm::create(vec!["GET", "HEAD"]))
            .custom_cbor(cat_keys::CATREPLAY, catreplay::permitted())
            .custom_map(cat_keys::CATR, catr::automatic_renewal(300, Some(30))),
        &key,
    );
    emit("bad", builder(1_700_000_100).custom_cbor(cat_keys::CATU, live()), &key);
    emit("bad", builder(FAR), &key);
    emit("bad", builder(FAR).custom_cbor(cat_keys::CATU, live()), &[9; 32]);
    emit(
        "bad",
        builder(FAR).custom_cbor(
            cat_keys::CATU,
            catu::create(uri(vec![(uri_components::PATH, catu::exact_match("/live/other/index.m3u8"))])),
        ),
        &key,
    );
    emit(
        "bad",
        builder(FAR).custom_cbor(
            cat_keys::CATU,
            catu::create(uri(vec![(uri_components::PATH, catu::regex_match("/live/.*", vec![]))])),
        ),
        &key,
    );
    emit(
        "bad",
        builder(FAR)
            .custom_cbor(cat_keys::CATU, live())
            .custom_cbor(cat_keys::CATREPLAY, catreplay::prohibited()),
        &key,
    );
    emit(
        "bad",
        builder(FAR)
            .custom_cbor(cat_keys::CATU, live())
            .custom_array(cat_keys::CATM, catm::create(vec!["POST"])),
        &key,
    );
    emit(
        "bad",
        builder(FAR)
            .custom_cbor(cat_keys::CATU, live())
            .custom_array(cat_keys::CATNIP, catnip::create(vec!["127.0.0.1"])),
        &key,
    );
    emit(
        "bad",
        builder(FAR).custom_cbor(cat_keys::CATU, live()).custom_cbor(cat_keys::CATV, catv::with_version(2)),
        &key,
    );
}
