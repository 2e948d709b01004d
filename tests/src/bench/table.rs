//! The table of bars: what the project sets itself, row by row, beside what a run of the benchmarks found.
//!
//! In: the last lines that benchmarks printed, as JSON. Out: the table in Markdown. A row whose benchmark is not there says so.
//! Pure.

use super::rounded;
use Limit::{AtLeast, AtMost};
use anyhow::{Context, Result};
use serde_json::Value;

/// A bar, and where in which report the figure stands that is held to it.
struct Row {
    /// Its number in the list of bars.
    number: u8,
    what: &'static str,
    report: &'static str,
    /// Ours, and what it is divided by, as JSON pointers; without the latter it is held to the bar by itself.
    ours: &'static str,
    yardstick: Option<&'static str>,
    limit: Limit,
    /// For the release, and what would be better still.
    bar: f64,
    goal: f64,
}

/// Which side of the bar is the good one.
#[derive(Clone, Copy)]
enum Limit {
    AtMost,
    AtLeast,
}

const ROWS: [Row; 14] = [
    Row {
        number: 1,
        what: "1 KB playlists, 64 connections: requests a processor-second ÷ nginx static",
        report: "closed",
        ours: "/ours/playlist_requests_per_cpu_s",
        yardstick: Some("/yardstick/playlist_requests_per_cpu_s"),
        limit: AtLeast,
        bar: 1.4,
        goal: 1.7,
    },
    Row {
        number: 3,
        what: "36,000 viewers at 250 kb/s: processor a GB ÷ nginx static",
        report: "many",
        ours: "/ours/cpu_s_per_gb",
        yardstick: Some("/yardstick/cpu_s_per_gb"),
        limit: AtMost,
        bar: 0.8,
        goal: 0.65,
    },
    Row {
        number: 4,
        what: "viewers at 1 Mb/s: processor a GB ÷ nginx static",
        report: "relay",
        ours: "/ours/cpu_s_per_gb",
        yardstick: Some("/yardstick/cpu_s_per_gb"),
        limit: AtMost,
        bar: 1.0,
        goal: 0.85,
    },
    Row {
        number: 4,
        what: "the same ÷ nginx secure_link",
        report: "relay",
        ours: "/ours/cpu_s_per_gb",
        yardstick: Some("/yardstick/secure_link_cpu_s_per_gb"),
        limit: AtMost,
        bar: 0.95,
        goal: 0.8,
    },
    Row {
        number: 4,
        what: "the same: late segments",
        report: "relay",
        ours: "/ours/late_segments",
        yardstick: None,
        limit: AtMost,
        bar: 0.0,
        goal: 0.0,
    },
    Row {
        number: 5,
        what: "low latency: processor a request ÷ nginx static",
        report: "parts",
        ours: "/ours/cpu_us_per_request",
        yardstick: Some("/yardstick/cpu_us_per_request"),
        limit: AtMost,
        bar: 0.85,
        goal: 0.7,
    },
    Row {
        number: 6,
        what: "1 MB segments, 64 connections: GB a processor-second ÷ nginx static",
        report: "closed",
        ours: "/ours/segment_gb_per_cpu_s",
        yardstick: Some("/yardstick/segment_gb_per_cpu_s"),
        limit: AtLeast,
        bar: 2.0,
        goal: 2.6,
    },
    Row {
        number: 7,
        what: "HTTPS, HTTP/1.1: processor a GB ÷ nginx",
        report: "tls",
        ours: "/ours/cpu_s_per_gb",
        yardstick: Some("/yardstick/nginx_cpu_s_per_gb"),
        limit: AtMost,
        bar: 0.5,
        goal: 0.3,
    },
    Row {
        number: 7,
        what: "HTTPS, HTTP/2: processor a GB ÷ nginx's HTTP/1.1",
        report: "tls",
        ours: "/ours/http2_cpu_s_per_gb",
        yardstick: Some("/yardstick/nginx_cpu_s_per_gb"),
        limit: AtMost,
        bar: 0.65,
        goal: 0.4,
    },
    Row {
        number: 10,
        what: "memory of an idle connection, KiB",
        report: "idle",
        ours: "/ours/memory_kib_per_idle_connection",
        yardstick: None,
        limit: AtMost,
        bar: 1.0,
        goal: 0.3,
    },
    Row {
        number: 11,
        what: "last of all parked reloads answered, ms",
        report: "reload",
        ours: "/ours/last_answer_ms",
        yardstick: None,
        limit: AtMost,
        bar: 250.0,
        goal: 100.0,
    },
    Row {
        number: 12,
        what: "next request after a burst of connections, ms",
        report: "burst",
        ours: "/ours/next_request_ms",
        yardstick: None,
        limit: AtMost,
        bar: 1000.0,
        goal: 100.0,
    },
    Row {
        number: 13,
        what: "RTMP to HLS: processor a stream ÷ nginx-rtmp",
        report: "ingest",
        ours: "/ours/cpu_percent_per_stream",
        yardstick: Some("/yardstick/cpu_percent_per_stream"),
        limit: AtMost,
        bar: 0.7,
        goal: 0.45,
    },
    Row {
        number: 14,
        what: "first frame to a playlist that plays ÷ SRS's least, a GOP of 2 s (not measured)",
        report: "first",
        ours: "/ours/playlist_ms",
        yardstick: Some("/yardstick/playlist_ms"),
        limit: AtMost,
        bar: 0.25,
        goal: 0.18,
    },
];

/// Rows of the list that no benchmark here measures.
const NOT_MEASURED: &str = "Rows 2, 8 and 9 (SRS, built from source by whoever wants it) have no benchmark here. In row 14 SRS \
    stands as what it cannot go below: its first playlist names a whole segment, which a GOP of 2 s makes 2 s long.";

/// Makes the table of lines that are reports; other lines are passed over.
///
/// # Errors
/// When a report is there but not the figure that a row needs.
pub fn table(lines: &str) -> Result<String> {
    let reports: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut out = String::from("| row | | ours | yardstick | held to the bar | bar | goal | reached |\n");
    out.push_str("|---|---|---|---|---|---|---|---|\n");
    for row in &ROWS {
        let report = reports.iter().rev().find(|report| report["name"] == row.report);
        out.push_str(&row.line(report)?);
    }
    out.push('\n');
    out.push_str(NOT_MEASURED);
    Ok(out)
}

impl Limit {
    fn sign(self) -> char {
        match self {
            AtMost => '≤',
            AtLeast => '≥',
        }
    }

    /// Whether a figure is on the good side.
    fn keeps(self, figure: f64, to: f64) -> bool {
        match self {
            AtMost => figure <= to,
            AtLeast => figure >= to,
        }
    }
}

impl Row {
    fn line(&self, report: Option<&Value>) -> Result<String> {
        let Row { number, what, limit, bar, goal, .. } = self;
        let limits = format!("{sign} {bar} | {sign} {goal}", sign = limit.sign());
        let Some(report) = report else {
            return Ok(format!("| {number} | {what} | | | not measured | {limits} | |\n"));
        };
        let figure = |pointer: &str| {
            let found = report.pointer(pointer).and_then(Value::as_f64);
            found.with_context(|| format!("the report of {} has no {pointer}", self.report))
        };
        let ours = figure(self.ours)?;
        let (value, yardstick) = match self.yardstick.map(figure).transpose()? {
            None => (ours, String::new()),
            Some(yardstick) => (ours / yardstick, yardstick.to_string()),
        };
        let reached = match () {
            () if report["errors"] != 0 => "errors: no",
            () if limit.keeps(value, *goal) => "bar and goal",
            () if limit.keeps(value, *bar) => "bar",
            () => "no",
        };
        let value = rounded(value);
        Ok(format!("| {number} | {what} | {ours} | {yardstick} | {value} | {limits} | {reached} |\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(errors: u64) -> String {
        format!(
            "noise\n{{\"name\":\"relay\",\"errors\":{errors},\"ours\":{{\"cpu_s_per_gb\":0.09,\"late_segments\":0.0}},\
             \"yardstick\":{{\"cpu_s_per_gb\":0.1,\"secure_link_cpu_s_per_gb\":0.12}}}}\n\
             {{\"name\":\"reload\",\"errors\":0,\"ours\":{{\"last_answer_ms\":251.0}}}}\n"
        )
    }

    #[test]
    fn each_row_is_held_to_its_bar() {
        let table = table(&lines(0)).unwrap();
        for row in [
            "| 4 | viewers at 1 Mb/s: processor a GB ÷ nginx static | 0.09 | 0.1 | 0.9 | ≤ 1 | ≤ 0.85 | bar |",
            "| 4 | the same ÷ nginx secure_link | 0.09 | 0.12 | 0.75 | ≤ 0.95 | ≤ 0.8 | bar and goal |",
            "| 4 | the same: late segments | 0 |  | 0 | ≤ 0 | ≤ 0 | bar and goal |",
            "| 11 | last of all parked reloads answered, ms | 251 |  | 251 | ≤ 250 | ≤ 100 | no |",
            "| 12 | next request after a burst of connections, ms | | | not measured | ≤ 1000 | ≤ 100 | |",
        ] {
            assert!(table.contains(row), "{row} in\n{table}");
        }
    }

    #[test]
    fn where_more_is_better_the_bar_is_the_least() {
        let row = |playlists: f64, gb: f64| {
            table(&format!(
                "{{\"name\":\"closed\",\"errors\":0,\"ours\":{{\"playlist_requests_per_cpu_s\":{playlists},\
                 \"segment_gb_per_cpu_s\":{gb}}},\"yardstick\":{{\"playlist_requests_per_cpu_s\":100000.0,\
                 \"segment_gb_per_cpu_s\":4.0}}}}\n"
            ))
            .unwrap()
        };
        let (low, high, middle) = (row(139_000.0, 7.9), row(171_000.0, 10.4), row(140_000.0, 8.0));
        let playlists = "| 1 | 1 KB playlists, 64 connections: requests a processor-second ÷ nginx static |";
        let segments = "| 6 | 1 MB segments, 64 connections: GB a processor-second ÷ nginx static |";
        for (table, line) in [
            (&low, format!("{playlists} 139000 | 100000 | 1.39 | ≥ 1.4 | ≥ 1.7 | no |")),
            (&low, format!("{segments} 7.9 | 4 | 1.975 | ≥ 2 | ≥ 2.6 | no |")),
            (&middle, format!("{playlists} 140000 | 100000 | 1.4 | ≥ 1.4 | ≥ 1.7 | bar |")),
            (&middle, format!("{segments} 8 | 4 | 2 | ≥ 2 | ≥ 2.6 | bar |")),
            (&high, format!("{playlists} 171000 | 100000 | 1.71 | ≥ 1.4 | ≥ 1.7 | bar and goal |")),
            (&high, format!("{segments} 10.4 | 4 | 2.6 | ≥ 2 | ≥ 2.6 | bar and goal |")),
        ] {
            assert!(table.contains(&line), "{line} in\n{table}");
        }
        let none = table("").unwrap();
        assert!(none.contains(&format!("{playlists} | | not measured | ≥ 1.4 | ≥ 1.7 | |")), "{none}");
    }

    #[test]
    fn a_run_with_errors_reaches_nothing_and_one_without_figures_is_none() {
        let with_errors = table(&lines(1)).unwrap();
        assert_eq!(with_errors.matches("errors: no").count(), 3, "{with_errors}");
        let error = table("{\"name\":\"burst\",\"errors\":0}").unwrap_err();
        assert!(error.to_string().contains("burst has no /ours/next_request_ms"), "{error}");
    }
}
