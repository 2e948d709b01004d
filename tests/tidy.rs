//! Reads the source tree and keeps its shape: which way data and dependencies go, what pure rooms may not touch, how a file
//! begins. The rules are those of ARCHITECTURE.md; an exception stands here with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// Rooms without sockets, clocks, randomness, files and environment, and what each may see of ours.
const PURE: [&str; 13] = [
    "ingest/rtmp/src",
    "ingest/api/src",
    "ingest/media/src",
    "ingest/failover/src",
    "ingest/mirror/src",
    "watermark/src",
    "relay/src/address",
    "relay/src/token",
    "relay/src/session",
    "relay/src/route",
    "relay/src/cache",
    "relay/src/cdn",
    "relay/src/cmcd",
];

/// What a pure room may not name.
const EFFECTS: [&str; 15] = [
    "tokio",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant::now",
    "rand::",
    "getrandom",
    "rusqlite",
    "hyper",
    "socket2",
    "tracing",
    "println!",
];

/// Effects in pure rooms that are meant: (where, what, why).
const MEANT: [(&str, &str, &str); 2] = [
    ("watermark/src/key.rs", "rand::", "making a key draws it: the one place that does"),
    (
        "watermark/src/threads.rs",
        "std::thread",
        "reading and searching on every core; the result does not depend on how many",
    ),
];

/// Unsafe code outside of the bindings that is meant: (where, why).
const MEANT_UNSAFE: [(&str, &str); 2] = [
    ("relay/tests/http1_alloc.rs", "an allocator that counts has to be one"),
    ("relay/tests/steady.rs", "the same, for a whole relay"),
];

/// Programs and commands inside packages that are otherwise pure, and the files that read the state and films for the tracer.
const EDGES: [&str; 6] =
    ["main.rs", "/bin/", "/io/", "/command/", "watermark/src/records.rs", "watermark/src/video.rs"];

/// Packages of ours and those of ours that each may depend on. Nobody else depends on anybody.
const DEPENDENCIES: [(&str, &[&str]); 16] = [
    ("watermark", &[]),
    ("ingest/rtmp", &[]),
    ("ingest/codec", &[]),
    ("ingest/takeover", &[]),
    ("ingest/listen", &[]),
    ("ingest/api", &["releve-watermark"]),
    ("ingest/failover", &["releve-watermark", "ingest-api"]),
    ("ingest/mirror", &["releve-watermark", "ingest-api", "rtmp", "media", "failover"]),
    ("ingest/media", &["releve-watermark", "ingest-api"]),
    ("ingest/mark", &["releve-watermark", "ingest-api", "media", "codec"]),
    ("ingest/state", &["releve-watermark", "ingest-api"]),
    (
        "ingest",
        &[
            "releve-watermark",
            "ingest-api",
            "releve-listen",
            "releve-state",
            "media",
            "mark",
            "rtmp",
            "failover",
            "takeover",
            "mirror",
        ],
    ),
    ("relay", &["releve-watermark", "ingest-api", "releve-listen", "releve-state", "failover", "pages"]),
    ("relay/pages", &[]),
    ("tests", &[]),
    (
        "fuzz",
        &["releve-watermark", "ingest-api", "media", "mark", "rtmp", "releve-relay", "codec", "failover"],
    ),
];

const OURS: [&str; 16] = [
    "pages",
    "mirror",
    "releve-watermark",
    "rtmp",
    "codec",
    "takeover",
    "ingest-api",
    "releve-listen",
    "failover",
    "media",
    "mark",
    "releve-state",
    "releve-ingest",
    "releve-relay",
    "tests",
    "fuzz",
];

/// Rooms that may hold unsafe code: bindings to C and to the kernel.
const UNSAFE: [&str; 3] = ["ingest/codec/", "ingest/takeover/", "relay/pages/"];

/// At this many lines, tests left out, a file is named as worth a second look …
const LINES_LOOK: usize = 400;
/// … and at this many it is too long.
const LINES_MAX: usize = 600;

/// The sources, each file by its path from the top.
type Files = Vec<(String, String)>;

fn root() -> Result<PathBuf> {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()
}

/// All files that belong to the sources.
fn files() -> Result<Files> {
    fn walk(folder: &Path, top: &Path, found: &mut Files) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
            let last = name.rsplit('/').next().unwrap_or(&name);
            if path.is_dir() {
                if !["target", "node_modules", "dist", "corpus", "artifacts", ".git"].contains(&last) {
                    walk(&path, top, found)?;
                }
            } else if !last.ends_with(".lock")
                && last != "package-lock.json"
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push((name, text));
            }
        }
        Ok(())
    }
    let (top, mut found) = (root()?, Vec::new());
    walk(&top, &top, &mut found)?;
    assert!(found.iter().any(|(name, _)| name == "Cargo.toml"), "the tree was not found");
    Ok(found)
}

fn rust() -> Result<Files> {
    let mut files = files()?;
    files.retain(|(name, _)| name.ends_with(".rs"));
    Ok(files)
}

/// Whether a whole file is a test: in a folder of tests or simulations, or named so.
fn is_test(name: &str) -> bool {
    let stem = name.trim_end_matches(".rs");
    stem.split('/').any(|word| ["tests", "simulation"].contains(&word))
}

/// A file's lines of code: without tests and comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let own = text.split("#[cfg(test)]").next().unwrap_or(text);
    own.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

fn verdict(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn pure_rooms_touch_nothing() -> Result<()> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, text) in rust()? {
        let Some(room) = PURE.iter().find(|room| name.starts_with(*room)) else { continue };
        seen.insert(room);
        if EDGES.iter().any(|edge| name.contains(edge)) || name.ends_with("fuzzing.rs") || is_test(&name) {
            continue;
        }
        for (at, line) in code(&text) {
            let effect = EFFECTS.iter().find(|effect| line.contains(**effect));
            let Some(effect) = effect else { continue };
            if !MEANT.iter().any(|(file, what, _)| *file == name && what == effect) {
                found.push(format!("{name}:{at}: {effect}"));
            }
        }
    }
    assert!(seen.len() >= 8, "only these pure rooms are there: {seen:?}");
    verdict("a pure room touches the world", found);
    Ok(())
}

#[test]
fn dependencies_go_one_way() -> Result<()> {
    let (mut found, mut manifests) = (Vec::new(), 0);
    for (name, text) in files()? {
        let Some(package) = name.strip_suffix("/Cargo.toml") else { continue };
        manifests += 1;
        let Some((_, allowed)) = DEPENDENCIES.iter().find(|(folder, _)| *folder == package) else {
            found.push(format!("{package} is not in the list of packages"));
            continue;
        };
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let word = line.split(['.', ' ', '=']).next().unwrap_or("");
            let ours = section == "[dependencies]" && OURS.contains(&word);
            if ours && !allowed.contains(&word) {
                found.push(format!("{package} depends on {word}"));
            }
        }
    }
    assert!(manifests >= 10, "only {manifests} packages were found");
    verdict("a dependency goes the wrong way", found);
    Ok(())
}

#[test]
fn every_file_says_what_it_is() -> Result<()> {
    let mut found = Vec::new();
    for (name, text) in files()? {
        let opens = match name.rsplit('.').next().unwrap_or("") {
            "rs" => text.starts_with("//! "),
            "sh" => text.starts_with("#!/usr/bin/env bash\n# "),
            "mjs" | "js" => text.starts_with("// ") || text.starts_with("/*"),
            _ => true,
        };
        if !opens {
            found.push(name);
        }
    }
    verdict("a file does not open with what it is", found);
    Ok(())
}

#[test]
fn files_have_one_subject() -> Result<()> {
    let mut found = Vec::new();
    for (name, text) in rust()? {
        if is_test(&name) {
            continue;
        }
        let lines = text.split("#[cfg(test)]").next().unwrap_or("").lines().count();
        if lines > LINES_MAX {
            found.push(format!("{name}: {lines} lines"));
        } else if lines > LINES_LOOK {
            println!("worth a look: {name} has {lines} lines");
        }
    }
    verdict(&format!("a file is longer than {LINES_MAX} lines, tests left out"), found);
    Ok(())
}

#[test]
fn unsafe_code_stays_where_it_may_be() -> Result<()> {
    let words = [" {", " fn", " impl", " extern", " trait"].map(|next| ["un", "safe", next].concat());
    let mut found = Vec::new();
    for (name, text) in rust()? {
        let meant = MEANT_UNSAFE.iter().any(|(file, _)| *file == name);
        if meant || UNSAFE.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        for (at, line) in code(&text) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{name}:{at}: {}", line.trim()));
            }
        }
        let top = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
        let library = root()?.join(&name).with_file_name("lib.rs");
        if top
            && !text.contains("#![forbid(unsafe_code)]")
            && !(name.ends_with("main.rs") && library.exists())
        {
            found.push(format!("{name} does not forbid it"));
        }
    }
    verdict("unsafe code outside of the bindings", found);
    Ok(())
}

#[test]
fn nothing_is_left_undone_or_tied_to_one_machine() -> Result<()> {
    // Written in pieces, so that this file does not find itself.
    let words: Vec<String> = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/home", "/"],
        ["/tmp/", "t-"],
        ["crates.", "io/"],
        ["registry.", "npmjs"],
        ["files.python", "hosted"],
        ["deb.", "debian.org"],
    ]
    .map(|halves| halves.concat())
    .into();
    let mut found = Vec::new();
    for (name, text) in files()? {
        if name.starts_with("fuzz/seeds/") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                found.push(format!("{name}:{}: {word}", at + 1));
            }
        }
    }
    verdict("left undone, or tied to one machine", found);
    Ok(())
}

#[test]
fn pages_fetch_nothing_from_elsewhere() -> Result<()> {
    let mut found = Vec::new();
    for (name, text) in files()? {
        let page = ["html", "css", "js"].iter().any(|kind| name.ends_with(&format!(".{kind}")));
        if !page || !name.contains("/web/") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            let outside =
                line.contains("src=\"http") || line.contains("href=\"http") || line.contains("url(http");
            if outside || line.contains("@import") && line.contains("//") {
                found.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    verdict("a page fetches something from elsewhere", found);
    Ok(())
}
