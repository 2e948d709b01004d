//! Builds the watch page and writes what `node::page` includes.
//!
//! In: `web/`. Out, all in the build folder: the bundled script and style sheet, and `assets.rs` with their names (which
//! hold their hash), types and bytes. A `web/dist` that is newer than its sources is taken as it is, so that a machine
//! without Node.js can build from a prepared tree.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const SOURCES: [&str; 8] = [
    ".npmrc",
    "build.mjs",
    "package.json",
    "package-lock.json",
    "src/refused.html",
    "src/watch.css",
    "src/watch.html",
    "src/watch.js",
];
const BUILT: [&str; 4] = ["watch.js", "watch.css", "watch.html", "refused.html"];

fn main() -> Result<(), Box<dyn Error>> {
    let web = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?)
        .join("web");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for source in SOURCES {
        println!("cargo:rerun-if-changed=web/{source}");
    }
    let prepared = web.join("dist");
    if prepared.exists() {
        println!("cargo:rerun-if-changed=web/dist"); // a path that is missing would count as changed every time
    }
    let dist = if is_newer(&prepared, &web) { prepared } else { bundle(&web, &out)? };
    for file in BUILT {
        fs::copy(dist.join(file), out.join(file))?;
    }
    fs::write(out.join("assets.rs"), assets(&out)?)?;
    Ok(())
}

/// Whether everything built in `dist` is there and newer than every source.
fn is_newer(dist: &Path, web: &Path) -> bool {
    let time = |path: PathBuf| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let newest_source = SOURCES.iter().filter_map(|name| time(web.join(name))).max();
    let oldest_built: Option<Vec<_>> = BUILT.iter().map(|name| time(dist.join(name))).collect();
    oldest_built.and_then(|built| built.into_iter().min()) > newest_source
}

/// Copies the sources, installs the two packages they need from the lock file, and bundles.
fn bundle(web: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let work = out.join("web");
    fs::create_dir_all(work.join("src"))?;
    let lock = fs::read(web.join("package-lock.json"))?;
    let installed = work.join("node_modules/.lock-installed");
    for source in SOURCES {
        fs::copy(web.join(source), work.join(source))?;
    }
    if fs::read(&installed).ok().as_ref() != Some(&lock) {
        run(
            "npm",
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&work),
        )?;
        fs::write(&installed, lock)?;
    }
    run("node", Command::new("node").args(["build.mjs", "dist"]).current_dir(&work))?;
    Ok(work.join("dist"))
}

fn run(program: &str, command: &mut Command) -> Result<(), Box<dyn Error>> {
    let output = command.output().map_err(|error| {
        format!(
            "cannot run {program} ({error}): the watch page is bundled at build time. Install Node.js 18 or newer with npm \
             (Debian: apt-get install nodejs npm), or run `npm ci && npm run build` in relay/web on another machine \
             and bring relay/web/dist here"
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} failed while bundling the watch page ({}):\n{said}", output.status).into())
}

/// Rust text with the pages and files, which lie beside it: names hold a hash of the content, so they may be kept for ever.
fn assets(dist: &Path) -> Result<String, Box<dyn Error>> {
    let mut text = String::from("pub(super) static ASSETS: &[(&str, &str, &[u8])] = &[\n");
    let mut named = Vec::new();
    for (stem, extension, content_type) in
        [("watch", "js", "text/javascript; charset=utf-8"), ("watch", "css", "text/css; charset=utf-8")]
    {
        let file = format!("{stem}.{extension}");
        let name = format!("{stem}-{:016x}.{extension}", fnv1a(&fs::read(dist.join(&file))?));
        writeln!(
            text,
            "    ({name:?}, {content_type:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))),"
        )?;
        named.push((extension, name));
    }
    text.push_str("];\n");
    for (constant, file) in [("WATCH", "watch.html"), ("REFUSED", "refused.html")] {
        let mut page = fs::read_to_string(dist.join(file))?;
        for (extension, name) in &named {
            page = page.replace(&format!("{{{{{extension}}}}}"), name);
        }
        writeln!(text, "pub(super) const {constant}: &str = {page:?};")?;
    }
    Ok(text)
}

/// FNV-1a, 64 bits: a name for a cache, not a seal.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
