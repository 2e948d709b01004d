//! Every input that fuzzing has kept is run again.

use releve_relay::fuzzing;
use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        target(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 5, "{} holds {inputs} inputs", folder.display());
}

#[test]
fn tokens_and_sessions() {
    replay("token", fuzzing::token);
    for credential in fuzzing::valid_credentials() {
        fuzzing::token(credential.as_bytes());
    }
}

#[test]
fn json_web_tokens() {
    replay("jwt", fuzzing::jwt);
}

#[test]
fn common_access_tokens() {
    replay("cat", fuzzing::cat);
}

#[test]
fn request_targets() {
    replay("viewer_path", fuzzing::viewer_path);
}

#[test]
fn events_of_players() {
    replay("cmcd", fuzzing::cmcd);
}

#[test]
fn headers_of_proxies() {
    replay("proxy_header", releve_relay::address::introduction::fuzzed);
}
