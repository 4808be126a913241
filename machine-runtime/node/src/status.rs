//! The live status: how each node is, and what changed last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine_runtime::Position;

/// How many lines of news the status shows.
const SHOWN: usize = 8;

/// How many lines wait to be printed at most, where nobody looks at the newest only.
const WAITING: usize = 10_000;

/// How a node is at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The node's name.
    pub name: String,
    /// How many links it is from the root, once that is known.
    pub tier: Option<u32>,
    /// Where its HTTP is.
    pub http: String,
    /// Where in the root's history it is.
    pub position: Option<Position>,
    /// The digest at that position.
    pub digest: u64,
    /// How old what it shows may be.
    pub age: Duration,
    /// Whether that is too old.
    pub stale: bool,
    /// How many HTTP requests it has answered.
    pub requests: u64,
    /// What else is to be known, such as a parent that cannot be reached.
    pub note: String,
}

/// Lines of news: what happened in words, what was logged. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    // Held for as long as a line is appended or the newest are copied.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    title: String,
    dropped: u64,
}

impl Lines {
    /// Appends a line. The oldest goes where nobody takes them.
    pub fn push(&self, mut line: String) {
        // A line is one line on any screen.
        if line.contains(char::is_control) {
            line = line.replace(char::is_control, " ");
        }
        let mut inner = self.inner();
        if inner.lines.len() == WAITING {
            inner.lines.pop_front();
            inner.dropped += 1;
        }
        inner.lines.push_back(line);
    }

    /// Says what the program is at.
    pub fn set_title(&self, title: String) {
        self.inner().title = title;
    }

    /// What the program is at.
    pub fn title(&self) -> String {
        self.inner().title.clone()
    }

    /// Takes all lines, and a line on those that were lost.
    pub fn take(&self) -> Vec<String> {
        let mut inner = self.inner();
        let dropped = std::mem::take(&mut inner.dropped);
        let lost = (dropped > 0).then(|| format!("({dropped} lines were not shown)"));
        lost.into_iter()
            .chain(std::mem::take(&mut inner.lines))
            .collect()
    }

    /// Keeps the newest lines only, and copies them.
    fn newest(&self) -> Vec<String> {
        let mut inner = self.inner();
        let old = inner.lines.len().saturating_sub(SHOWN);
        inner.lines.drain(..old);
        inner.dropped = 0;
        inner.lines.iter().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status as lines, for a screen of so many columns and lines. What a small screen has no
/// place for is left out: first the hints, then the last nodes.
pub fn render(
    rows: &[Row],
    lines: &Lines,
    hints: &[String],
    (width, height): (usize, usize),
) -> Vec<String> {
    let mut out = vec![lines.title(), String::new()];
    out.extend(table(rows));
    out.push(String::new());
    let left = height.saturating_sub(out.len());
    let with_hints = left
        .checked_sub(hints.len() + 1)
        .filter(|left| *left >= SHOWN / 2);
    let shown = with_hints.unwrap_or(left).min(SHOWN);
    let mut news: Vec<String> = lines
        .newest()
        .iter()
        .flat_map(|line| wrapped(line, width))
        .collect();
    news.drain(..news.len().saturating_sub(shown));
    news.resize(shown, String::new());
    out.extend(news);
    if with_hints.is_some() {
        out.push(String::new());
        out.extend_from_slice(hints);
    }
    out.truncate(height);
    for line in &mut out {
        truncate(line, width);
    }
    out
}

/// A line a node, under a head.
fn table(rows: &[Row]) -> Vec<String> {
    let mut out = Vec::new();
    let names = rows
        .iter()
        .map(|row| 2 * indent(row) + row.name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let https = rows
        .iter()
        .map(|row| row.http.len())
        .max()
        .unwrap_or(0)
        .max(4);
    out.push(format!(
        "{:names$}  {:10}  {:https$}  {:>9}  {:>6}  {:>8}  {:>9}",
        "node", "role", "http", "revision", "lag", "age", "requests"
    ));
    let newest = rows.first().and_then(|root| root.position);
    for row in rows {
        let name = format!("{:1$}{name}", "", 2 * indent(row), name = row.name);
        let role = if row.tier == Some(0) {
            "root"
        } else {
            "replicant"
        };
        let revision = row
            .position
            .map_or("-".to_owned(), |at| at.revision.to_string());
        let lag = match (newest, row.position) {
            (Some(root), Some(at)) if root.epoch == at.epoch => {
                root.revision.saturating_sub(at.revision).to_string()
            }
            _ => "-".to_owned(),
        };
        let line = format!(
            "{name:names$}  {role:10}  {:https$}  {revision:>9}  {lag:>6}  {:>8}  {:>9}",
            row.http,
            age(row),
            row.requests
        );
        out.push(line);
        if row.stale || !row.note.is_empty() {
            let stale = if row.stale { "stale; " } else { "" };
            out.push(format!("{:names$}  {stale}{}", "", row.note));
        }
    }
    out
}

/// The line in pieces of at most `width` columns, broken between words; all but the first are
/// indented.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "    ";
    let mut pieces = vec![String::new()];
    let mut columns = 0;
    for word in line.split_inclusive(' ') {
        let len = word.trim_end().chars().count();
        if columns > INDENT.len() && columns + len > width {
            pieces.push(INDENT.to_owned());
            columns = INDENT.len();
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(word);
        }
        columns += word.chars().count();
    }
    pieces
}

fn indent(row: &Row) -> usize {
    row.tier.unwrap_or(1) as usize
}

fn age(row: &Row) -> String {
    match row.position {
        None => "-".to_owned(),
        Some(_) if row.age < Duration::from_secs(1) => format!("{} ms", row.age.as_millis()),
        Some(_) => format!("{:.1} s", row.age.as_secs_f64()),
    }
}

fn truncate(line: &mut String, width: usize) {
    if let Some((end, _)) = line.char_indices().nth(width) {
        line.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use machine_runtime::Epoch;

    use super::*;

    fn row(name: &str, tier: u32, revision: u64) -> Row {
        Row {
            name: name.to_owned(),
            tier: Some(tier),
            http: "127.0.0.1:1".to_owned(),
            position: Some(Position {
                epoch: Epoch(1),
                revision,
            }),
            digest: 0,
            age: Duration::from_millis(12),
            stale: false,
            requests: 3,
            note: String::new(),
        }
    }

    #[test]
    fn a_row_tells_how_far_a_node_is_behind() {
        let rows = [row("root", 0, 10), row("rep-1", 1, 7)];
        let lines = render(&rows, &Lines::default(), &[], (200, 50));
        assert_eq!(
            lines[3..5],
            [
                "root     root        127.0.0.1:1         10       0     12 ms          3",
                "  rep-1  replicant   127.0.0.1:1          7       3     12 ms          3",
            ]
        );
    }

    #[test]
    fn the_newest_lines_are_shown_whole_and_none_is_too_wide() {
        let news = Lines::default();
        for i in 0..100 {
            news.push(format!("line {i}"));
        }
        news.push(format!("{}end", "a word or two ".repeat(12)));
        let lines = render(&[row("root", 0, 1)], &news, &["hint".to_owned()], (80, 30));
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
        assert!(lines.iter().any(|line| line.ends_with(" two end")));
        assert!(lines.iter().any(|line| line == "line 99"));
        assert!(!lines.iter().any(|line| line == "line 91"));
        assert_eq!(lines.last().map(String::as_str), Some("hint"));
    }

    #[test]
    fn the_status_keeps_its_height_and_fits_any_screen() {
        let rows = vec![row("root", 0, 1); 9];
        let hints = vec!["hint".to_owned(); 4];
        let news = Lines::default();
        let before = render(&rows, &news, &hints, (80, 40)).len();
        news.push("something".to_owned());
        assert_eq!(render(&rows, &news, &hints, (80, 40)).len(), before);
        for height in 1..50 {
            let lines = render(&rows, &news, &hints, (80, height));
            assert!(lines.len() <= height, "{height}");
        }
        let small = render(&rows, &news, &hints, (80, 20));
        assert!(!small.iter().any(|line| line == "hint"));
        assert!(small.iter().any(|line| line == "something"));
    }

    #[test]
    fn lost_lines_are_counted() {
        let lines = Lines::default();
        for i in 0..=WAITING {
            lines.push(i.to_string());
        }
        let taken = lines.take();
        assert_eq!(taken[0], "(1 lines were not shown)");
        assert_eq!(taken.len(), WAITING + 1);
    }
}
