//! What pirates do, row by row: the event that is recorded, who leaks, and what ffmpeg does to it.

use crate::feed;

/// An event that is broadcast and recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// What is pushed.
    pub(super) feed: &'static str,
    /// Length of its GOPs, in seconds.
    pub(super) gop_s: u64,
    /// How long viewers record, in seconds.
    pub(super) watched_s: u64,
}

/// The sea through a window that moves, closed GOPs of 1 s.
pub(super) const WANDER: Event = Event { feed: feed::WANDER, gop_s: 1, watched_s: 40 };
/// The same in GOPs of 2 s.
const SLOW: Event = Event { feed: feed::WANDER_2S, gop_s: 2, watched_s: 58 };
/// The same, GOP 1 s, for more than a minute: two who mix their copies take up to that.
const MINUTE: Event = Event { feed: feed::WANDER_LONG, gop_s: 1, watched_s: 68 };
/// The same, for nearly three minutes.
const LONG: Event = Event { feed: feed::WANDER_LONG, gop_s: 1, watched_s: 160 };
/// The same at a sixth of its brightness.
const DARK: Event = Event { feed: feed::DARK, gop_s: 1, watched_s: 58 };
/// The same without any detail.
const FLAT: Event = Event { feed: feed::FLAT, gop_s: 1, watched_s: 58 };

/// A row of the table.
pub(super) struct Row {
    /// What it is called.
    pub(super) name: &'static str,
    /// What was recorded.
    pub(super) event: Event,
    /// How much of it is leaked.
    pub(super) leak_s: f64,
    /// Who leaks.
    pub(super) who: Who,
    /// Filters that make the leak, after the copies were made one.
    pub(super) filters: &'static str,
    /// Coder and its arguments.
    pub(super) coder: &'static [&'static str],
}

/// Whose copies a leak is made of.
#[derive(Clone, Copy)]
pub(super) enum Who {
    /// One viewer's.
    One,
    /// One viewer's, who changed the relay with every segment.
    Roaming,
    /// Of several viewers, pixel by pixel the mean.
    Averaged(usize),
    /// Of several viewers, in turn, 1.7 s each.
    Interleaved(usize),
    /// Of three viewers, pixel by pixel what only one of them has.
    Minority,
}

impl Who {
    /// How many viewers it takes.
    pub(super) fn many(self) -> usize {
        match self {
            Who::One | Who::Roaming => 1,
            Who::Averaged(many) | Who::Interleaved(many) => many,
            Who::Minority => 3,
        }
    }

    /// The filters that make one picture `[m]` of all inputs.
    pub(super) fn mix(self) -> String {
        let inputs: String = (0..self.many()).map(|input| format!("[{input}:v]")).collect();
        match self {
            Who::One | Who::Roaming => "[0:v]null[m]".to_owned(),
            Who::Averaged(many) => format!("{inputs}mix=inputs={many}[m]"),
            Who::Interleaved(many) => {
                let turn = |input: usize| {
                    let before = if input == 1 { "0:v".to_owned() } else { format!("t{}", input - 1) };
                    let after = if input + 1 == many { "m".to_owned() } else { format!("t{input}") };
                    let on = format!("eq(mod(floor(t/1.7)\\,{many})\\,{input})");
                    format!("[{before}][{input}:v]overlay=enable='{on}'[{after}]")
                };
                (1..many).map(turn).collect::<Vec<_>>().join(";")
            }
            // The sum less twice the middle one: the two outer ones less the middle one.
            Who::Minority => {
                "[0:v]split[a][d];[1:v]split[b][e];[2:v]split[c][f];[a][b][c]xmedian=inputs=3[o];\
                              [d][e][f][o]mix=inputs=4:weights='1 1 1 -2':scale=1[m]"
                    .to_owned()
            }
        }
    }
}

const CRF_28: &[&str] = &["-crf", "28"];
const KBPS_200: &[&str] = &["-b:v", "200k", "-maxrate", "300k", "-bufsize", "400k"];
const SMALL: &str = "scale=640:360";
const SINK: &str = "crop=iw*0.93:ih*0.92:iw*0.05:ih*0.03,eq=brightness=0.04:contrast=1.1:gamma=1.1,noise=alls=6:allf=t,fps=25,scale=640:360";
const CAM: &str = "perspective=x0=12:y0=8:x1=W-20:y1=2:x2=5:y2=H-10:x3=W-6:y3=H-22:sense=source,rotate=1.5*PI/180,gblur=sigma=1.5,eq=brightness=-0.03:contrast=1.15:gamma=0.9,noise=alls=10:allf=t,fps=25,scale=640:360";

const fn one(name: &'static str, filters: &'static str, coder: &'static [&'static str]) -> Row {
    Row { name, event: WANDER, leak_s: 20.0, who: Who::One, filters, coder }
}

const fn of(event: Event, leak_s: f64, row: Row) -> Row {
    Row { event, leak_s, ..row }
}

const fn by(who: Who, leak_s: f64, name: &'static str) -> Row {
    Row { who, leak_s, ..one(name, SMALL, CRF_28) }
}

/// All rows, in the table's order; rows of one event stand together.
pub(super) const ROWS: &[Row] = &[
    one("360p, 200 kb/s", SMALL, KBPS_200),
    one("360p, CRF 28", SMALL, CRF_28),
    one("240p, CRF 30", "scale=426:240", &["-crf", "30"]),
    one(
        "360p, x265, 200 kb/s",
        SMALL,
        &["-c:v", "libx265", "-b:v", "200k", "-x265-params", "log-level=error"],
    ),
    one(
        "360p, VP9, 200 kb/s asked",
        SMALL,
        &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "200k"],
    ),
    one(
        "crop: 12 % left, 3 % right, 3 % above, 9 % below; 360p",
        "crop=iw*0.85:ih*0.88:iw*0.12:ih*0.03,scale=640:360",
        CRF_28,
    ),
    one("mirrored, 360p", "hflip,scale=640:360", CRF_28),
    one("3 % faster, 25 fps, 360p", "setpts=PTS/1.03,fps=25,scale=640:360", CRF_28),
    one(
        "logo and lower third, 360p",
        "drawbox=x=iw*0.72:y=ih*0.05:w=iw*0.2:h=ih*0.18:color=red:t=fill,drawbox=x=0:y=ih*0.82:w=iw:h=ih*0.12:color=blue:t=fill,scale=640:360",
        CRF_28,
    ),
    one("\"sink\": crop, colour, noise, 25 fps, 360p", SINK, &["-crf", "30"]),
    one("\"cam\": perspective, turned by 1.5°, blur, colour, noise, 25 fps, 360p", CAM, &["-crf", "30"]),
    by(Who::Roaming, 20.0, "segments by turns from two relays; 360p, CRF 28"),
    // Too short for anybody to be named.
    of(WANDER, 3.0, one("3 s; 240p, CRF 30", "scale=426:240", &["-crf", "30"])),
    of(MINUTE, 60.0, by(Who::Averaged(2), 60.0, "two averaged; 360p, CRF 28")),
    of(MINUTE, 60.0, by(Who::Interleaved(2), 60.0, "two interleaved every 1.7 s; 360p, CRF 28")),
    of(SLOW, 40.0, one("GOP 2 s: 360p, 200 kb/s", SMALL, KBPS_200)),
    of(SLOW, 40.0, one("GOP 2 s: \"sink\"", SINK, &["-crf", "30"])),
    of(SLOW, 40.0, one("GOP 2 s: \"cam\"", CAM, &["-crf", "30"])),
    of(LONG, 150.0, by(Who::Averaged(3), 150.0, "three averaged; 360p, CRF 28")),
    of(LONG, 150.0, by(Who::Interleaved(3), 150.0, "three interleaved every 1.7 s; 360p, CRF 28")),
    of(LONG, 150.0, by(Who::Minority, 150.0, "minority vote of three; 360p, CRF 28")),
    of(DARK, 40.0, one("dark; 360p, CRF 28", SMALL, CRF_28)),
    of(FLAT, 40.0, one("flat; 360p, CRF 28", SMALL, CRF_28)),
];
