//! Lines in batches, as Loki takes them: by their labels, each with a later time than the one before.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::{Line, Loki};
use crate::telemetry::line::{level, quoted};

/// How many lines a batch has at most.
const LINES: usize = 1_000;

/// How many bytes of lines a batch has at most.
pub(super) const BYTES: usize = 1 << 20;

/// How long the first line of a batch waits for others.
const EVERY: Duration = Duration::from_secs(1);

/// What stands before the lines of a stream: its labels as JSON.
type Labels = String;

/// Makes batches of lines.
pub(super) struct Batches {
    loki: Loki,
    waiting: UnboundedReceiver<Line>,
    service: String,
    /// The node that the program is.
    node: Option<String>,
    /// The last time in each stream. There are as many as nodes, times the levels.
    last: HashMap<Labels, u64>,
    lines: Vec<Line>,
    bytes: usize,
    /// A line that did not fit.
    next: Option<Line>,
    since: Option<Instant>,
}

/// Lines that are sent together.
#[derive(Debug)]
pub(super) struct Batch {
    /// What Loki takes.
    pub(super) body: String,
    lines: usize,
    bytes: usize,
}

impl Batch {
    /// How many lines it has.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }
}

impl Batches {
    pub(super) fn new(
        loki: Loki,
        waiting: UnboundedReceiver<Line>,
        service: &str,
        node: Option<&str>,
    ) -> Self {
        Self {
            loki,
            waiting,
            service: service.to_owned(),
            node: node.map(str::to_owned),
            last: HashMap::new(),
            lines: Vec::new(),
            bytes: 0,
            next: None,
            since: None,
        }
    }

    /// Waits until there is a batch.
    ///
    /// # Cancel safety
    ///
    /// No line is lost if it is dropped.
    pub(super) async fn fill(&mut self) {
        while !self.is_full() {
            let line = match self.since {
                None => self.waiting.recv().await,
                Some(since) => match timeout_at(since + EVERY, self.waiting.recv()).await {
                    Ok(line) => line,
                    Err(_late) => return,
                },
            };
            match line {
                Some(line) => self.add(line),
                // The collector lives as long as the program.
                None => std::future::pending().await,
            }
        }
    }

    /// The lines that wait, as many as are a batch; without waiting for others.
    pub(super) fn take(&mut self) -> Option<Batch> {
        while !self.is_full()
            && let Ok(line) = self.waiting.try_recv()
        {
            self.add(line);
        }
        let lines = std::mem::take(&mut self.lines);
        let bytes = std::mem::take(&mut self.bytes);
        let batch = (!lines.is_empty()).then(|| self.batch(&lines, bytes));
        self.since = None;
        if let Some(line) = self.next.take() {
            self.add(line);
        }
        batch
    }

    /// Says that `batch` arrived, or that it was given up.
    pub(super) fn settle(&self, batch: &Batch, arrived: bool) {
        self.loki.release(batch.lines, batch.bytes);
        let n = batch.lines as u64;
        if arrived {
            self.loki.export().sent(n);
        } else {
            self.loki.export().failed(n);
        }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= LINES || self.next.is_some()
    }

    fn add(&mut self, line: Line) {
        if self.bytes + line.text.len() > BYTES && !self.lines.is_empty() {
            self.next = Some(line);
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.bytes += line.text.len();
        self.lines.push(line);
    }

    fn batch(&mut self, lines: &[Line], bytes: usize) -> Batch {
        let mut streams: BTreeMap<Labels, String> = BTreeMap::new();
        for line in lines {
            let node = line.node.as_deref().or(self.node.as_deref());
            let labels = self.labels(line, node);
            let at = match self.last.get_mut(&labels) {
                Some(last) => {
                    *last = line.at.max(*last + 1);
                    *last
                }
                None => *self.last.entry(labels.clone()).or_insert(line.at),
            };
            let values = streams.entry(labels).or_default();
            let comma = if values.is_empty() { "" } else { "," };
            // Writing to a `String` never fails.
            let _ = write!(values, "{comma}[\"{at}\",{}]", line.text);
        }
        let streams = streams.iter();
        let streams = streams
            .map(|(labels, values)| format!("{{\"stream\":{labels},\"values\":[{values}]}}"));
        let streams: Vec<_> = streams.collect();
        Batch {
            body: format!("{{\"streams\":[{}]}}", streams.join(",")),
            lines: lines.len(),
            bytes,
        }
    }

    /// A label without a value is none.
    fn labels(&self, line: &Line, node: Option<&str>) -> Labels {
        let known = || node.and_then(|node| self.loki.role_of(node));
        let role = line.role.as_deref();
        let role = role.or_else(|| known().map(super::Role::name));
        let labels = [
            ("service", Some(self.service.as_str())),
            ("machine", node),
            ("role", role),
            ("level", Some(level(line.level))),
        ];
        let labels = labels.iter().filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(format!("{}:{}", quoted(name), quoted(value)))
        });
        format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::sync::mpsc;
    use tracing::Level;

    use super::*;
    use crate::telemetry::Role;

    fn line(at: u64, node: Option<&str>, text: &str) -> Line {
        Line {
            at,
            level: Level::INFO,
            node: node.map(str::to_owned),
            role: None,
            text: quoted(text),
        }
    }

    fn batches(node: Option<&str>) -> (mpsc::UnboundedSender<Line>, Batches) {
        let (sender, waiting) = mpsc::unbounded_channel();
        let (_, loki) = super::super::new(&crate::outbound::Exports::default());
        loki.add_node("rep-1", Role::Replicant);
        (sender, Batches::new(loki, waiting, "flights", node))
    }

    #[test]
    fn lines_come_by_their_labels_and_in_order() {
        let (sender, mut batches) = batches(None);
        for (at, text) in [(5, "a"), (5, "b \"quoted\""), (3, "c"), (9, "d")] {
            sender.send(line(at, Some("rep-1"), text)).unwrap();
        }
        sender.send(line(1, None, "e")).unwrap();
        let batch = batches.take().unwrap();
        let body: Value = serde_json::from_str(&batch.body).unwrap();
        let expected = serde_json::json!({"streams": [
            {"stream": {"service": "flights", "level": "info"}, "values": [["1", "e"]]},
            {
                "stream": {
                    "service": "flights", "machine": "rep-1", "role": "replicant", "level": "info"
                },
                "values": [["5", "a"], ["6", "b \"quoted\""], ["7", "c"], ["9", "d"]],
            },
        ]});
        assert_eq!(body, expected);
        sender.send(line(2, Some("rep-1"), "later")).unwrap();
        let batch = batches.take().unwrap();
        assert!(batch.body.contains("[\"10\",\"later\"]"), "{}", batch.body);
        assert!(batches.take().is_none());
    }

    #[test]
    fn lines_that_name_no_node_are_those_of_the_program() {
        let (sender, mut batches) = batches(Some("rep-1"));
        sender.send(line(1, None, "e")).unwrap();
        let batch = batches.take().unwrap();
        assert!(
            batch.body.contains("\"machine\":\"rep-1\""),
            "{}",
            batch.body
        );
        batches.settle(&batch, true);
        assert_eq!(batches.loki.export().read()[0], ("sent", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_bounded_in_lines_bytes_and_time() {
        let (sender, mut batches) = batches(None);
        for _ in 0..=LINES {
            sender.send(line(1, None, "short")).unwrap();
        }
        let began = Instant::now();
        batches.fill().await;
        assert_eq!(batches.take().unwrap().lines, LINES);
        assert_eq!(began.elapsed(), Duration::ZERO);
        batches.fill().await;
        assert_eq!(batches.take().unwrap().lines, 1);
        assert!(began.elapsed() >= EVERY && began.elapsed() < EVERY * 2);
        let long = "x".repeat(BYTES / 3);
        for _ in 0..4 {
            sender.send(line(1, None, &long)).unwrap();
        }
        let began = Instant::now();
        batches.fill().await;
        assert_eq!(batches.take().unwrap().lines, 2);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(batches.take().unwrap().lines, 2);
    }
}
