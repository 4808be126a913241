//! How the nodes of a tree do, from their own endpoints: what `/metrics` says now and said before, and
//! the last error. It needs no other server.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{self, Target};
use crate::metrics::{self, Metric};
use crate::terminal::Terminal;

/// How long a node may take, so that one that hangs does not hide the others.
const PATIENCE: Duration = Duration::from_millis(900);

/// How many samples of a node's lag are drawn.
const SPARKS: usize = 16;

/// What a look at nodes is to be like.
#[derive(Clone, Debug)]
pub struct Look {
    /// The nodes.
    pub nodes: Vec<Target>,
    /// Whether those that have never answered are left out: the addresses are a guess.
    pub guessed: bool,
    /// How often they are asked.
    pub every: Duration,
    /// Whether two samples are all.
    pub once: bool,
    /// Whether it is JSON, an object a node.
    pub json: bool,
}

/// No node answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no node answers at {0}; name some with --node")]
pub struct Nobody(String);

/// What a node said at one moment.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    metrics: Readings,
    error: Option<String>,
}

/// A node, over time.
#[derive(Debug)]
struct Watched {
    target: Target,
    before: Option<Sample>,
    now: Option<Sample>,
    /// Why there is no sample.
    why: String,
    lags: VecDeque<Option<f64>>,
}

/// How a node does.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Doing {
    /// Its name; its address while it is not known.
    pub node: String,
    /// Where its HTTP is.
    pub http: String,
    /// `root`, `replicant` or, where it does not answer, `down`.
    pub role: String,
    /// The links to the root.
    pub tier: Option<u64>,
    /// Whom it follows.
    pub parent: String,
    /// Where it is in the root's history.
    pub revision: Option<u64>,
    /// How many revisions the root is ahead.
    pub behind: Option<u64>,
    /// How old what it shows may be, in seconds.
    pub lag_seconds: Option<f64>,
    /// Whether that is too old.
    pub stale: bool,
    /// How many revisions it goes on a second.
    pub revisions_per_second: Option<f64>,
    /// HTTP requests a second, without those for this.
    pub requests_per_second: Option<f64>,
    /// Bytes a second over its links, in and out.
    pub bytes_per_second: Option<f64>,
    /// How many follow it.
    pub followers: Option<u64>,
    /// How many requests wait for the machine.
    pub queue: Option<u64>,
    /// How many states are active.
    pub active: Option<u64>,
    /// How many errors there were.
    pub errors: Option<u64>,
    /// The last error, if `Exception` is active, or why there is no answer.
    pub note: String,
}

/// Shows how nodes do until it is interrupted, or once.
///
/// # Errors
///
/// [`Nobody`], or if nobody reads standard output any more.
///
/// # Cancel safety
///
/// Nothing is left behind if it is dropped.
pub async fn show(look: Look) -> anyhow::Result<()> {
    let mut nodes: Vec<_> = look.nodes.iter().map(Watched::new).collect();
    let mut terminal = Terminal::new();
    let live = terminal.is_live() && !look.once && !look.json;
    let mut next = Instant::now();
    let mut round: u64 = 0;
    loop {
        ask(&mut nodes).await;
        if nodes.iter().all(|node| node.now.is_none()) && (look.once || round == 0) {
            let nodes: Vec<_> = look.nodes.iter().map(Target::addr).collect();
            anyhow::bail!(Nobody(nodes.join(", ")));
        }
        let doing = doings(&nodes, look.guessed);
        let shown = nodes.iter().filter(|node| node.is_shown(look.guessed));
        let sparks: Vec<String> = shown.map(Watched::sparks).collect();
        if live {
            let title = format!("every {:?}, Ctrl-C ends", look.every);
            terminal
                .draw(|size| picture(&title, &doing, &sparks, size))
                .await?;
        } else if round > 0 || !look.once {
            print(&doing, &sparks, look.json)?;
            if look.once {
                return Ok(());
            }
        }
        round += 1;
        next += look.every;
        tokio::time::sleep_until(next).await;
        next = next.max(Instant::now() - look.every);
    }
}

fn print(doing: &[Doing], sparks: &[String], json: bool) -> io::Result<()> {
    let mut out = String::new();
    if json {
        for one in doing {
            out.push_str(&serde_json::to_string(one)?);
            out.push('\n');
        }
    } else {
        for line in picture("", doing, sparks, (usize::MAX, usize::MAX)) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    io::Write::write_all(&mut io::stdout().lock(), out.as_bytes())
}

/// Asks all at once.
async fn ask(nodes: &mut [Watched]) {
    let mut asks = JoinSet::new();
    for (place, node) in nodes.iter().enumerate() {
        let target = node.target.clone();
        asks.spawn(async move { (place, timeout(PATIENCE, sample(&target)).await) });
    }
    while let Some(Ok((place, asked))) = asks.join_next().await {
        let node = &mut nodes[place];
        node.before = node.now.take().or(node.before.take());
        match asked {
            Ok(Ok(sample)) => node.now = Some(sample),
            Ok(Err(error)) => node.why = format!("{error:#}"),
            Err(_elapsed) => "no answer in time".clone_into(&mut node.why),
        }
        if node.lags.len() == SPARKS {
            node.lags.pop_front();
        }
        let lag = node.now.as_ref();
        let lag = lag.and_then(|now| now.metrics.one(&metrics::LAG_SECONDS));
        node.lags.push_back(lag);
    }
}

async fn sample(node: &Target) -> anyhow::Result<Sample> {
    let answer = client::get(node, "/metrics", "text/plain").await?;
    let metrics = Readings::read(&String::from_utf8_lossy(&answer.body));
    anyhow::ensure!(
        metrics.one(&metrics::TIER).is_some() || metrics.one(&metrics::STALE).is_some(),
        "it is no node: its /metrics has none of ours"
    );
    let mut error = None;
    if metrics.one(&metrics::EXCEPTION) == Some(1.0) {
        let answer = client::get(node, "/v1/states/Exception", "application/json").await?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let payload = &value["payload"];
        let message = payload["message"].as_str().or(payload.as_str());
        let kind = payload["kind"].as_str().unwrap_or("added");
        let revision = payload["revision"].as_u64();
        let at = revision.map_or_else(String::new, |at| format!(" at revision {at}"));
        error = Some(format!("{kind}{at}: {}", message.unwrap_or("an error")));
    }
    Ok(Sample {
        at: Instant::now(),
        metrics,
        error,
    })
}

/// The samples of a node in the classic text format.
#[derive(Clone, PartialEq, Debug, Default)]
struct Readings(BTreeMap<String, f64>);

impl Readings {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The series of a metric.
    fn of<'a>(&'a self, metric: &Metric) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        let name = metric.full_name();
        self.0.iter().filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name.as_str())?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// The value of a metric's only series.
    fn one(&self, metric: &Metric) -> Option<f64> {
        self.of(metric).next().map(|(_, value)| value)
    }

    /// The sum over a metric's series, but for those with a label that reads so.
    fn sum(&self, metric: &Metric, without: &str) -> f64 {
        let series = self.of(metric);
        let counted = series.filter(|(labels, _)| without.is_empty() || !labels.contains(without));
        counted.map(|(_, value)| value).sum()
    }

    /// A label of a metric's only series.
    fn label(&self, metric: &Metric, name: &str) -> Option<String> {
        let (labels, _) = self.of(metric).next()?;
        let mut rest = labels.strip_prefix('{')?;
        while let Some((known, value)) = rest.split_once("=\"") {
            let (value, after) = unescaped(value)?;
            if known == name {
                return Some(value);
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        None
    }
}

/// The value of a label up to the quote that ends it, and what comes after that.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

impl Watched {
    fn new(target: &Target) -> Self {
        Self {
            target: target.clone(),
            before: None,
            now: None,
            why: String::new(),
            lags: VecDeque::new(),
        }
    }

    fn is_shown(&self, guessed: bool) -> bool {
        !guessed || self.now.is_some() || self.before.is_some()
    }

    /// How old what it shows was, the newest last: each step is about three times the one before, from
    /// 10 ms to 3 s and more.
    fn sparks(&self) -> String {
        const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let bounds = [0.01, 0.03, 0.1, 0.3, 1.0, 1.5, 3.0];
        let spark = |lag: &Option<f64>| match lag {
            None => '×',
            Some(lag) => STEPS[bounds.iter().filter(|bound| *lag > **bound).count()],
        };
        self.lags.iter().map(spark).collect()
    }

    fn doing(&self, newest: Option<f64>) -> Doing {
        let last = self.now.as_ref().or(self.before.as_ref());
        let known = |metric: &Metric, name| last.and_then(|last| last.metrics.label(metric, name));
        let now = |metric: &Metric| self.now.as_ref()?.metrics.one(metric);
        let revision = now(&metrics::REVISION);
        let rate = |value: &dyn Fn(&Readings) -> f64| {
            let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
            let seconds = (now.at - before.at).as_secs_f64();
            // A node that was started again counts from 0.
            let more = (value(&now.metrics) - value(&before.metrics)).max(0.0);
            (seconds > 0.0).then(|| more / seconds)
        };
        let note = match &self.now {
            Some(now) => now.error.clone().unwrap_or_default(),
            None => self.why.clone(),
        };
        let role = known(&metrics::STALE, "role").filter(|_| self.now.is_some());
        Doing {
            node: known(&metrics::STALE, "machine").unwrap_or_else(|| self.target.to_string()),
            http: self.target.to_string(),
            role: role.unwrap_or_else(|| "down".to_owned()),
            tier: last
                .and_then(|last| last.metrics.one(&metrics::TIER))
                .map(whole),
            parent: known(&metrics::NODE_INFO, "parent").unwrap_or_default(),
            revision: revision.map(whole),
            behind: newest.zip(revision).map(|(newest, at)| whole(newest - at)),
            lag_seconds: now(&metrics::LAG_SECONDS),
            stale: now(&metrics::STALE) == Some(1.0),
            revisions_per_second: rate(&|now| now.one(&metrics::REVISION).unwrap_or(0.0)),
            requests_per_second: rate(&|now| now.sum(&metrics::HTTP_REQUESTS, "\"/metrics\"")),
            bytes_per_second: rate(&|now| {
                let sent = now.sum(&metrics::LINK_SENT_BYTES, "");
                sent + now.sum(&metrics::LINK_RECEIVED_BYTES, "")
            }),
            followers: now(&metrics::FOLLOWERS).map(whole),
            queue: now(&metrics::QUEUE_DEPTH).map(whole),
            active: now(&metrics::STATES_ACTIVE).map(whole),
            errors: self
                .now
                .as_ref()
                .filter(|_| now(&metrics::QUEUE_DEPTH).is_some())
                .map(|now| whole(now.metrics.sum(&metrics::ERRORS, ""))),
            note,
        }
    }
}

/// A number that is one of those that can be counted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "less than nothing is nothing here"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// How the nodes do that are to be shown.
fn doings(nodes: &[Watched], guessed: bool) -> Vec<Doing> {
    let samples = nodes.iter().filter_map(|node| node.now.as_ref());
    let root = samples.filter(|now| now.metrics.one(&metrics::TIER) == Some(0.0));
    let newest = root
        .filter_map(|now| now.metrics.one(&metrics::REVISION))
        .reduce(f64::max);
    let shown = nodes.iter().filter(|node| node.is_shown(guessed));
    shown.map(|node| node.doing(newest)).collect()
}

/// The table, for a screen of so many columns and lines: what a small one has no place for is left out.
fn picture(
    title: &str,
    doing: &[Doing],
    sparks: &[String],
    (width, height): (usize, usize),
) -> Vec<String> {
    let up = doing.iter().filter(|one| one.role != "down").count();
    let stale = doing.iter().filter(|one| one.stale).count();
    let mut head = format!("{up} of {} nodes answer", doing.len());
    if stale > 0 {
        let _ = write!(head, ", {stale} stale");
    }
    if !title.is_empty() {
        let _ = write!(head, "; {title}");
    }
    let mut lines = vec![head, String::new()];
    let mut order: Vec<usize> = (0..doing.len()).collect();
    // Children under their parents, as far as names say so.
    order.sort_by_key(|place| path(doing, &doing[*place].node));
    let name = |one: &Doing| format!("{:1$}{2}", "", depth(one), one.node);
    let names = doing.iter().map(|one| name(one).chars().count()).max();
    let names = names.unwrap_or(0).max(4);
    let row = |cells: [&str; 11], spark: &str| {
        let [
            node,
            role,
            revision,
            speed,
            behind,
            age,
            http,
            bytes,
            queue,
            errors,
            followers,
        ] = cells;
        format!(
            "{node:names$}  {role:9}  {revision:>9} {speed:>8} {behind:>7} {age:>8}  {spark:SPARKS$}  \
             {http:>8} {bytes:>9} {queue:>5} {errors:>6} {followers:>5}"
        )
    };
    lines.push(row(
        [
            "node", "role", "revision", "rev/s", "behind", "lag", "http/s", "bytes/s", "queue",
            "errors", "foll.",
        ],
        "lag, newest last",
    ));
    for place in order.iter().copied() {
        let one = &doing[place];
        let text = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        let rate = |value: Option<f64>| value.map_or("-".to_owned(), short);
        let role = if one.stale { "stale" } else { &one.role };
        lines.push(row(
            [
                &name(one),
                role,
                &text(one.revision),
                &rate(one.revisions_per_second),
                &text(one.behind),
                &one.lag_seconds.map_or("-".to_owned(), age),
                &rate(one.requests_per_second),
                &rate(one.bytes_per_second),
                &text(one.queue),
                &text(one.errors),
                &text(one.followers),
            ],
            &sparks[place],
        ));
    }
    let mut notes = BTreeMap::<&str, Vec<&str>>::new();
    for place in order {
        let one = &doing[place];
        if !one.note.is_empty() {
            notes.entry(&one.note).or_default().push(&one.node);
        }
    }
    if !notes.is_empty() {
        lines.push(String::new());
    }
    for (note, nodes) in notes {
        let who = match nodes[..] {
            [node] => node.to_owned(),
            _ => format!("{} nodes", nodes.len()),
        };
        lines.push(format!("{who}: {note}"));
    }
    lines.truncate(height);
    for line in &mut lines {
        // Names and notes are what others say.
        if line.contains(char::is_control) {
            *line = line.replace(char::is_control, " ");
        }
        if let Some((end, _)) = line.char_indices().nth(width) {
            line.truncate(end);
        }
    }
    lines
}

fn depth(one: &Doing) -> usize {
    usize::try_from(one.tier.unwrap_or(0)).map_or(0, |tier| 2 * tier.min(8))
}

/// The nodes from the root to this one, which put it below its parent.
fn path(doing: &[Doing], node: &str) -> Vec<String> {
    let mut path = vec![node.to_owned()];
    while let Some(last) = path.last() {
        let one = doing.iter().find(|one| one.node == *last);
        let Some(parent) = one.map(|one| &one.parent) else {
            break;
        };
        if parent.is_empty() || path.contains(parent) {
            break;
        }
        path.push(parent.clone());
    }
    path.reverse();
    path
}

fn age(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

/// A rate in few digits.
fn short(value: f64) -> String {
    match value {
        _ if value < 10.0 && value > 0.0 => format!("{value:.1}"),
        _ if value < 10_000.0 => format!("{value:.0}"),
        _ if value < 10_000_000.0 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.0}M", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node says.
    fn said(machine: &str, role: &str, parent: &str, tier: u32, revision: u32, lag: f64) -> Sample {
        let common = format!("service=\"s\",machine=\"{machine}\",role=\"{role}\"");
        let queue = if role == "root" {
            format!(
                "machine_queue_depth{{{common}}} 3\nmachine_errors_total{{{common},kind=\"panic\"}} 2\n"
            )
        } else {
            String::new()
        };
        let text = format!(
            "# HELP machine_stale x\n\
             machine_stale{{{common}}} {stale}\n\
             machine_node_info{{{common},parent=\"{parent}\"}} 1\n\
             machine_tier{{{common}}} {tier}\n\
             machine_revision{{{common}}} {revision}\n\
             machine_lag_seconds{{{common}}} {lag}\n\
             machine_http_requests_total{{{common},route=\"/\",status=\"200\"}} {revision}\n\
             machine_http_requests_total{{{common},route=\"/metrics\",status=\"200\"}} 7\n{queue}",
            stale = u8::from(lag > 3.0),
        );
        Sample {
            at: Instant::now(),
            metrics: Readings::read(&text),
            error: None,
        }
    }

    fn watched(addr: &str, before: Option<Sample>, now: Option<Sample>) -> Watched {
        let mut watched = Watched::new(&Target::new(addr));
        watched.lags = [Some(0.0), Some(0.02), None, Some(9.0)].into();
        watched.before = before;
        watched.now = now;
        watched
    }

    fn tree() -> Vec<Watched> {
        let mut leaf = watched(
            "h:3",
            Some(said("rep-1-1", "replicant", "rep-1", 2, 80, 0.1)),
            None,
        );
        leaf.why = "cannot reach h:3".to_owned();
        let before = said("root", "root", "", 0, 90, 0.0);
        let mut now = said("root", "root", "", 0, 110, 0.0);
        now.at = before.at + Duration::from_secs(2);
        now.error = Some("panic at revision 9: oh".to_owned());
        vec![
            leaf,
            watched(
                "h:2",
                None,
                Some(said("rep-1", "replicant", "root", 1, 100, 4.0)),
            ),
            watched("h:1", Some(before), Some(now)),
            watched("h:4", None, None),
        ]
    }

    #[test]
    fn a_node_is_what_it_says_and_what_changed_since() {
        let doing = doings(&tree(), true);
        assert_eq!(doing.len(), 3, "who has never answered is no node");
        let root = &doing[2];
        assert_eq!((root.node.as_str(), root.role.as_str()), ("root", "root"));
        assert_eq!(root.revisions_per_second, Some(10.0));
        assert_eq!(root.requests_per_second, Some(10.0), "not those for this");
        assert_eq!((root.queue, root.errors), (Some(3), Some(2)));
        let rep = &doing[1];
        assert_eq!((rep.behind, rep.stale, rep.tier), (Some(10), true, Some(1)));
        assert_eq!((rep.queue, rep.errors), (None, None));
        let leaf = &doing[0];
        assert_eq!(
            (leaf.node.as_str(), leaf.role.as_str()),
            ("rep-1-1", "down")
        );
        assert_eq!(leaf.revision, None);
        assert_eq!(doings(&tree(), false).len(), 4);
    }

    #[test]
    fn a_label_is_what_was_escaped() {
        let text = r#"machine_node_info{service="a",machine="x=\"y\", \\ and\nz",parent="\\",role="root"} 1"#;
        let readings = Readings::read(text);
        let label = |name| readings.label(&metrics::NODE_INFO, name);
        assert_eq!(label("machine").unwrap(), "x=\"y\", \\ and\nz");
        assert_eq!(label("parent").unwrap(), "\\");
        assert_eq!(label("role").unwrap(), "root");
        assert_eq!((label("y"), label("ole")), (None, None));
        let cut = Readings::read(r#"machine_node_info{parent="never ends\"} 1"#);
        assert_eq!(cut.label(&metrics::NODE_INFO, "parent"), None);
    }

    #[test]
    fn the_table_has_no_control_characters() {
        let evil = watched(
            "h:1",
            None,
            Some(said("ro\u{1b}[2Jot", "ro\u{7}le", "", 0, 1, 0.0)),
        );
        let doing = doings(&[evil], false);
        let lines = picture(
            "a\u{1b}b",
            &doing,
            &["\t".to_owned()],
            (usize::MAX, usize::MAX),
        );
        assert!(!lines.concat().contains(char::is_control), "{lines:?}");
        assert!(lines[3].starts_with("ro [2Jot "), "{}", lines[3]);
    }

    #[test]
    fn the_table_is_a_tree_with_notes_and_fits_any_screen() {
        let tree = tree();
        let doing = doings(&tree, true);
        let shown = tree.iter().filter(|node| node.is_shown(true));
        let sparks: Vec<_> = shown.map(Watched::sparks).collect();
        let lines = picture("", &doing, &sparks, (usize::MAX, usize::MAX));
        assert_eq!(lines[0], "2 of 3 nodes answer, 1 stale");
        for (line, start) in [(3, "root "), (4, "  rep-1  "), (5, "    rep-1-1  down")] {
            assert!(lines[line].starts_with(start), "{}", lines[line]);
        }
        assert!(lines[3].contains(" ▁▂×█ "), "{}", lines[3]);
        assert_eq!(lines[7], "rep-1-1: cannot reach h:3");
        assert_eq!(lines[8], "root: panic at revision 9: oh");
        for (width, height) in [(80, 24), (20, 4), (1, 1)] {
            let lines = picture("x", &doing, &sparks, (width, height));
            assert!(lines.len() <= height);
            assert!(lines.iter().all(|line| line.chars().count() <= width));
        }
    }
}
