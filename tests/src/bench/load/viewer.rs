//! One viewer: what it asks next.
//!
//! In: whole answers and the time. Out: the next request, or when to make it. Pure but for what it counts.

use super::answer::{Answer, Use, newest_part, numbers};
use super::{Entrance, Habit, Load, Outcome};
use std::time::{Duration, Instant};

/// How soon a playlist without anything new is asked for again.
const AGAIN: Duration = Duration::from_millis(300);
/// How soon a viewer who was turned away or lost its connection comes again.
const RETURN: Duration = Duration::from_secs(1);
/// Accounts whose viewers are sampled, and how many viewers of each: of two, to compare.
const SAMPLED_ACCOUNTS: usize = 16;
const SAMPLED_VIEWERS: usize = 2;

/// What a viewer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Its time.
    Time,
    /// The redirect to its session.
    Session,
    Playlist,
    Segment(u64),
}

/// What a viewer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It asks for this path now.
    Ask(String),
    /// It waits until then.
    At(Instant),
    /// It gives its connection up and comes again then.
    Reconnect(Instant),
    /// It asks for nothing more.
    Rest,
}

#[derive(Debug)]
pub(super) struct Viewer {
    account: usize,
    sampled: bool,
    /// How far into a segment's time its turn comes.
    phase: Duration,
    /// Where its playlist is; empty before it has come in.
    base: Option<String>,
    waits: Waits,
    /// When the playlist was due, and when the segment was asked for.
    due: Instant,
    asked: Instant,
    last: Option<u64>,
    newest: u64,
    habit: Habit,
    /// When the run began.
    begin: Instant,
}

impl Viewer {
    pub(super) fn new(number: usize, load: &Load, begin: Instant, due: Instant) -> Viewer {
        let accounts = load.entrance.accounts();
        let base = match &load.entrance {
            Entrance::Tokens(_) => None,
            Entrance::Below(paths) => Some(paths[number % accounts].clone()),
        };
        Viewer {
            account: number % accounts,
            sampled: number % accounts < SAMPLED_ACCOUNTS && number / accounts < SAMPLED_VIEWERS,
            phase: load.habit.period().mul_f64((number as f64 * 0.618_034).fract()),
            base,
            waits: Waits::Time,
            due,
            asked: due,
            last: None,
            newest: 0,
            habit: load.habit,
            begin,
        }
    }

    pub(super) fn is_served(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn waits(&self) -> Waits {
        self.waits
    }

    /// What is done with the body of the answer that it waits for.
    pub(super) fn usage(&self) -> Use {
        match self.waits {
            // One that it has had already is the same.
            Waits::Segment(number) if self.sampled && self.last != Some(number) => Use::Hash,
            Waits::Segment(_) => Use::Count,
            _ => Use::Keep,
        }
    }

    /// Its time has come: the path it asks for.
    pub(super) fn begin(&mut self, load: &Load, due: Instant) -> String {
        self.due = due;
        match (&self.base, &load.entrance) {
            (None, Entrance::Tokens(paths)) => {
                self.waits = Waits::Session;
                paths[self.account].clone()
            }
            _ => {
                self.waits = Waits::Playlist;
                self.playlist_path()
            }
        }
    }

    fn playlist_path(&self) -> String {
        format!("{}{}", self.base.as_deref().unwrap_or("/"), self.habit.playlist())
    }

    /// Its connection is lost while it waited for an answer, or for its time.
    pub(super) fn lost(&mut self, now: Instant) -> Instant {
        self.waits = Waits::Time;
        now + RETURN
    }

    /// An answer is whole; `measured`: it counts.
    pub(super) fn answered(
        &mut self,
        answer: &Answer,
        now: Instant,
        measured: bool,
        out: &mut Outcome,
    ) -> Next {
        let since = |then: Instant| {
            u32::try_from(now.saturating_duration_since(then).as_micros()).unwrap_or(u32::MAX)
        };
        if measured {
            out.requests += 1;
            out.bytes += answer.body_len as u64;
        }
        let waits = std::mem::replace(&mut self.waits, Waits::Time);
        match (waits, answer.status) {
            (Waits::Session, 302) => {
                let path = answer.field("location").and_then(|path| path.strip_suffix("index.m3u8"));
                self.base = path.map(str::to_owned);
                // Viewers ask whenever they have come: spread over a segment's time.
                Next::At(now + self.phase)
            }
            (Waits::Session, 503) => Next::Reconnect(now + RETURN),
            (Waits::Playlist, 200) if self.habit == Habit::Reload => {
                let Some((_, newest)) = numbers(answer.kept()) else {
                    out.error(|| "a playlist without segments".to_owned());
                    return Next::At(now + self.habit.period());
                };
                if measured && self.last.is_some_and(|last| last < newest) {
                    let at = now.saturating_duration_since(self.begin).as_micros();
                    out.reloads.push((newest, u64::try_from(at).unwrap_or(u64::MAX)));
                }
                self.last = Some(newest);
                self.waits = Waits::Playlist;
                let base = self.base.as_deref().unwrap_or("/");
                Next::Ask(format!("{base}video.m3u8?_HLS_msn={}", newest + 1))
            }
            (Waits::Playlist, 200) if self.habit == Habit::Idle => {
                if measured {
                    out.playlist_us.push(since(self.due));
                }
                self.last = numbers(answer.kept()).map(|(_, newest)| newest);
                Next::Rest
            }
            (Waits::Playlist, 200) if self.habit == Habit::Parts => {
                if measured {
                    out.playlist_us.push(since(self.due));
                }
                match newest_part(answer.kept()) {
                    // Between two segments there may be none for a moment.
                    Some(part) if self.last.is_none_or(|last| last < part.id()) => {
                        self.newest = part.id();
                        self.media(part.id(), &part.name(), now)
                    }
                    _ => Next::At((self.due + self.habit.period()).max(now)),
                }
            }
            (Waits::Playlist, 200) if matches!(self.habit, Habit::Playlists | Habit::Segments) => {
                let Some((_, newest)) = numbers(answer.kept()) else {
                    out.error(|| "a playlist without segments".to_owned());
                    return Next::At(now + self.habit.period());
                };
                if self.habit == Habit::Playlists {
                    return self.again(answer, newest, out);
                }
                self.due = now;
                self.segment(newest, now)
            }
            (Waits::Playlist, 200) => {
                if measured {
                    out.playlist_us.push(since(self.due));
                }
                let Some((first, newest)) = numbers(answer.kept()) else {
                    out.error(|| "a playlist without segments".to_owned());
                    return Next::At(self.due + self.habit.period());
                };
                self.newest = newest;
                match self.last {
                    Some(last) if last >= newest => Next::At(now + AGAIN),
                    // Whoever comes begins with the newest; whoever has fallen out of the window does so again.
                    Some(last) if last + 1 >= first => self.segment(last + 1, now),
                    Some(last) => {
                        out.error(|| format!("segment {} has left the window", last + 1));
                        self.segment(newest, now)
                    }
                    None => self.segment(newest, now),
                }
            }
            (Waits::Segment(number), 200) => {
                self.last = Some(number);
                if let Some(hash) = answer.hash() {
                    out.compare((self.account, number), hash);
                }
                if self.habit == Habit::Segments {
                    out.measure(number, answer.body_len);
                    return if now < self.due + self.habit.period() {
                        self.segment(number, now)
                    } else {
                        self.playlist()
                    };
                }
                if measured {
                    out.segment_us.push(since(self.asked));
                    out.late += u64::from(now > self.due + self.habit.period());
                }
                if number < self.newest {
                    return self.segment(number + 1, now);
                }
                Next::At((self.due + self.habit.period()).max(now))
            }
            (waits, status) => {
                out.error(|| format!("status {status} for {waits:?}"));
                Next::At(now + RETURN)
            }
        }
    }

    /// A playlist of a closed loop: all that end with the same segment are the same.
    fn again(&mut self, answer: &Answer, newest: u64, out: &mut Outcome) -> Next {
        out.measure(newest, answer.body_len);
        // It has no account's marks.
        if self.sampled
            && self.last != Some(newest)
            && let Some(hash) = answer.hash()
        {
            out.compare((0, newest), hash);
        }
        self.last = Some(newest);
        self.playlist()
    }

    fn playlist(&mut self) -> Next {
        self.waits = Waits::Playlist;
        Next::Ask(self.playlist_path())
    }

    fn segment(&mut self, number: u64, now: Instant) -> Next {
        self.media(number, &number.to_string(), now)
    }

    fn media(&mut self, number: u64, name: &str, now: Instant) -> Next {
        self.waits = Waits::Segment(number);
        self.asked = now;
        Next::Ask(format!("{}video/{name}.m4s", self.base.as_deref().unwrap_or("/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A viewer who is sampled, with the playlist at `/`.
    fn viewer(habit: Habit, begin: Instant) -> Viewer {
        let load = Load {
            servers: Vec::new(),
            entrance: Entrance::Below(vec!["/".to_owned()]),
            viewers: 1,
            ramp: Duration::ZERO,
            warm_up: Duration::ZERO,
            time: Duration::ZERO,
            habit,
            secure: false,
        };
        let mut viewer = Viewer::new(0, &load, begin, begin);
        assert_eq!(viewer.begin(&load, begin), "/video.m3u8");
        viewer
    }

    /// The whole answer to what it has asked for.
    fn answer(viewer: &Viewer, body: &str) -> Answer {
        let mut answer = Answer::new(viewer.usage());
        answer
            .take(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .unwrap();
        assert!(answer.is_whole());
        answer
    }

    #[test]
    fn whoever_takes_all_the_segments_they_can_asks_for_the_newest_again_at_once() {
        let begin = Instant::now();
        let (mut viewer, mut out) = (viewer(Habit::Segments, begin), Outcome::default());
        let mut next = |viewer: &mut Viewer, body: &str, ms: u64| {
            let whole = answer(viewer, body);
            viewer.answered(&whole, begin + Duration::from_millis(ms), true, &mut out)
        };
        let segment = |number: u64| Next::Ask(format!("/video/{number}.m4s"));
        assert_eq!(next(&mut viewer, "video/6.m4s\nvideo/7.m4s\n", 10), segment(7));
        assert_eq!(viewer.usage(), Use::Hash);
        assert_eq!(next(&mut viewer, "seven", 20), segment(7));
        assert_eq!(viewer.usage(), Use::Count, "hashed once");
        assert_eq!(next(&mut viewer, "seven", 30), segment(7));
        assert_eq!(next(&mut viewer, "seven", 2_010), Next::Ask("/video.m3u8".to_owned()));
        assert_eq!(next(&mut viewer, "video/7.m4s\nvideo/8.m4s\n", 2_020), segment(8));
        assert_eq!(viewer.usage(), Use::Hash);
        assert_eq!(next(&mut viewer, "eight!", 2_030), segment(8));
        assert_eq!(out.errors, 0, "{:?}", out.words);
        let cut = answer(&viewer, "cut");
        assert_eq!(viewer.answered(&cut, begin, true, &mut out), segment(8));
        assert_eq!((out.errors, out.requests), (1, 7), "a copy of another length: {:?}", out.words);
    }

    #[test]
    fn whoever_takes_all_the_playlists_they_can_notices_other_bytes() {
        let begin = Instant::now();
        let mut out = Outcome::default();
        let (mut one, mut other) = (viewer(Habit::Playlists, begin), viewer(Habit::Playlists, begin));
        let mut next = |viewer: &mut Viewer, body: &str| {
            let whole = answer(viewer, body);
            let next = viewer.answered(&whole, begin, true, &mut out);
            assert_eq!(next, Next::Ask("/video.m3u8".to_owned()));
            out.errors
        };
        assert_eq!(next(&mut one, "#A\nvideo/7.m4s\n"), 0);
        assert_eq!(next(&mut one, "#A\nvideo/7.m4s\n"), 0);
        assert_eq!(next(&mut one, "#B\nvideo/8.m4s\n"), 0);
        assert_eq!(next(&mut other, "#B\nvideo/7.m4s\n"), 1, "of the same length");
        assert_eq!(next(&mut other, "#BB\nvideo/8.m4s\n"), 3, "nor that");
    }
}
