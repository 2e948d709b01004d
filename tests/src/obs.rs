//! A broadcaster: real OBS Studio on a virtual display, with its own encoder.
//!
//! In: an RTMP URL and a folder of its own. Out: a running OBS that streams; its words in a log. Needs `obs` and `Xvfb`.

use crate::child::Child;
use crate::wait_for;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Past the questions of a first start; no look-ups on the network.
const GLOBAL: &str = "[General]\nFirstRun=true\nEnableAutoUpdates=false\nLastVersion=486539266\n\
    [Basic]\nProfile=test\nProfileDir=test\nSceneCollection=test\nSceneCollectionFile=test\n";
/// 640×360 at 30 frames a second; a key picture every 2 s, as broadcasters are told to set it.
const PROFILE: &str = "[General]\nName=test\n[Output]\nMode=Simple\n[SimpleOutput]\nVBitrate=1500\nABitrate=128\n\
    StreamEncoder=x264\nUseAdvanced=true\nPreset=ultrafast\nx264Settings=keyint=60\n\
    [Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSType=0\nFPSCommon=30\n[Audio]\nSampleRate=48000\n";

/// A running OBS and its display; both end when it is dropped.
pub struct Obs {
    /// OBS itself.
    pub child: Child,
    _display: Child,
}

impl Obs {
    /// Starts OBS, which begins to stream at once.
    ///
    /// # Errors
    /// When a program is missing or no display comes up.
    pub fn streaming(url: &str, home: &Path) -> Result<Obs> {
        let (server, key) = url.rsplit_once('/').context("a publish URL ends in its key")?;
        let folder = home.join(".config/obs-studio");
        let profile = folder.join("basic/profiles/test");
        fs::create_dir_all(&profile)?;
        fs::create_dir_all(folder.join("basic/scenes"))?;
        fs::write(folder.join("global.ini"), GLOBAL)?;
        fs::write(profile.join("basic.ini"), PROFILE)?;
        let service =
            json!({"type": "rtmp_custom", "settings": {"server": server, "key": key, "use_auth": false}});
        fs::write(profile.join("service.json"), service.to_string())?;
        fs::write(folder.join("basic/scenes/test.json"), scene().to_string())?;

        let display_log = home.join("display.log");
        let mut xvfb = Command::new("Xvfb");
        xvfb.args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]);
        let display = Child::start("Xvfb", &mut xvfb, &display_log)?;
        let number = wait_for("display", Duration::from_secs(20), || {
            let log = display.log();
            let number = log.lines().find_map(|line| line.trim().parse::<u32>().ok());
            number.with_context(|| format!("Xvfb names no display: {log}"))
        })?;
        let mut obs = Command::new("obs");
        obs.args(["--startstreaming", "--multi", "--profile", "test", "--collection", "test"]);
        obs.env("HOME", home).env("DISPLAY", format!(":{number}"));
        obs.env("QT_QPA_PLATFORM", "xcb").env("LIBGL_ALWAYS_SOFTWARE", "1");
        let child = Child::start("OBS", &mut obs, &home.join("obs.log"))?;
        Ok(Obs { child, _display: display })
    }
}

/// One scene with one coloured area.
fn scene() -> serde_json::Value {
    let item = json!({
        "name": "colour", "id": 1, "visible": true, "locked": false, "rot": 0.0, "align": 5,
        "pos": {"x": 0.0, "y": 0.0}, "scale": {"x": 1.0, "y": 1.0},
        "bounds_type": 0, "bounds_align": 0, "bounds": {"x": 0.0, "y": 0.0},
    });
    let sources = json!([
        {"id": "scene", "versioned_id": "scene", "name": "scene",
         "settings": {"id_counter": 1, "custom_size": false, "items": [item]}},
        {"id": "color_source", "versioned_id": "color_source_v3", "name": "colour",
         "settings": {"color": 4_284_901_120u32, "width": 640, "height": 360}},
    ]);
    json!({"name": "test", "current_scene": "scene", "current_program_scene": "scene",
           "scene_order": [{"name": "scene"}], "sources": sources})
}
