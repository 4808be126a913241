//! Reading what `/metrics` has, more strictly than Prometheus does.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// A text in one of the two formats.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// The kinds of the families, by name.
    pub(crate) families: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
    /// The exemplars, by the names of their samples.
    pub(crate) exemplars: Vec<(String, Labels)>,
}

impl Exposition {
    /// Reads Prometheus's text format 0.0.4.
    #[track_caller]
    pub(crate) fn classic(text: &str) -> Self {
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        let exposition = Self::read(text);
        assert_eq!(exposition.exemplars, []);
        for (name, kind) in &exposition.families {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
        exposition
    }

    /// Reads `OpenMetrics` 1.0.
    #[track_caller]
    pub(crate) fn open(text: &str) -> Self {
        let exposition = Self::read(text.strip_suffix("# EOF\n").expect("an end"));
        let names = exposition.families.keys();
        assert!(names.clone().all(|name| !name.ends_with("_total")));
        exposition
    }

    #[track_caller]
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let (mut all, mut family, mut help) = (Self::default(), String::new(), None);
        for line in text.lines() {
            if let Some(told) = line.strip_prefix("# HELP ") {
                let (name, told) = told.split_once(' ').expect(line);
                assert!(!told.is_empty() && help.is_none(), "{line}");
                help = Some(name);
            } else if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, kind) = described.split_once(' ').expect(line);
                assert_eq!(help.take(), Some(name), "help comes first");
                assert!(is_name(name), "{name}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let before = all.families.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} twice");
                name.clone_into(&mut family);
            } else {
                assert!(!line.starts_with('#') && help.is_none(), "{line}");
                let kind = &all.families[&family];
                let sample = Sample::read(line);
                let end = sample.name.strip_prefix(&family).expect(line);
                let ends: &[&str] = match kind.as_str() {
                    "counter" if family.ends_with("_total") => &[""],
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    _ => &["_bucket", "_sum", "_count"],
                };
                assert!(ends.contains(&end), "{line}");
                assert_eq!(sample.labels.contains_key("le"), end == "_bucket", "{line}");
                assert!(kind == "gauge" || sample.value >= 0.0, "{line}");
                if let Some(exemplar) = sample.exemplar {
                    assert!(end == "_bucket" || end == "_total", "{line}");
                    all.exemplars.push((sample.name.clone(), exemplar));
                }
                let before = all
                    .samples
                    .insert((sample.name, sample.labels), sample.value);
                assert_eq!(before, None, "{line} twice");
            }
        }
        all.check_histograms();
        all
    }

    /// Buckets are cumulative, the last of them has all.
    #[track_caller]
    fn check_histograms(&self) {
        for (name, _) in self
            .families
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
        {
            let of = |end: &str| {
                let name = format!("{name}{end}");
                let samples = self.samples.iter();
                samples.filter(move |((other, _), _)| *other == name)
            };
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), count) in of("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").unwrap().parse().unwrap();
                buckets.entry(labels).or_default().push((bound, *count));
            }
            for (labels, buckets) in &mut buckets {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                let grows = buckets.iter().map(|(_, count)| *count).is_sorted();
                assert!(grows, "{name} {labels:?} {buckets:?}");
                let (bound, count) = *buckets.last().unwrap();
                assert_eq!(bound.total_cmp(&f64::INFINITY), std::cmp::Ordering::Equal);
                let all = self.samples[&(format!("{name}_count"), labels.clone())];
                assert!((all - count).abs() < 0.5, "{name} {labels:?}");
            }
            let labels: BTreeSet<_> = buckets.into_keys().collect();
            for end in ["_sum", "_count"] {
                assert!(
                    of(end).map(|((_, labels), _)| labels).eq(&labels),
                    "{name}{end}"
                );
            }
        }
    }

    /// The sum of a metric's samples that have these labels, if there are any.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |of: &Labels| {
            let mut labels = labels.iter();
            labels.all(|(name, value)| of.get(*name).is_some_and(|other| other == value))
        };
        let samples = self.samples.iter();
        let found = samples.filter(|((other, of), _)| other == name && has(of));
        found
            .map(|(_, value)| *value)
            .reduce(|sum, value| sum + value)
    }
}

/// A line.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
    exemplar: Option<Labels>,
}

impl Sample {
    fn read(line: &str) -> Self {
        let end = line.find(['{', ' ']).expect(line);
        let (name, rest) = line.split_at(end);
        assert!(is_name(name), "{line}");
        let (labels, rest) = read_labels(rest);
        let rest = rest.strip_prefix(' ').expect(line);
        let (value, exemplar) = match rest.split_once(" # ") {
            Some((value, exemplar)) => (value, Some(exemplar)),
            None => (rest, None),
        };
        let exemplar = exemplar.map(|exemplar| {
            let (labels, rest) = read_labels(exemplar);
            let letters = labels.iter().map(|(name, value)| name.len() + value.len());
            assert!(letters.sum::<usize>() <= 128, "{line}");
            let numbers: Vec<f64> = rest
                .split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect();
            assert!(matches!(numbers.len(), 1 | 2), "{line}");
            labels
        });
        Self {
            name: name.to_owned(),
            labels,
            value: value.parse().expect(line),
            exemplar,
        }
    }
}

/// Reads `{…}`, if there is one, and gives back what follows it.
fn read_labels(text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return (labels, text);
    };
    loop {
        let (name, after) = rest.split_once("=\"").expect(text);
        assert!(is_name(name) && !name.contains(':'), "{text}");
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().expect(text) {
                (end, '"') => break end,
                (_, '\\') => value.push(match letters.next().expect(text).1 {
                    'n' => '\n',
                    plain @ ('\\' | '"') => plain,
                    other => panic!("\\{other} in {text}"),
                }),
                (_, letter) => value.push(letter),
            }
        };
        assert_eq!(labels.insert(name.to_owned(), value), None, "{text}");
        rest = &after[end + 1..];
        if let Some(rest) = rest.strip_prefix('}') {
            return (labels, rest);
        }
        rest = rest.strip_prefix(',').expect(text);
    }
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    let known = name
        .bytes()
        .all(|byte| letter(byte) || byte.is_ascii_digit());
    known && name.bytes().next().is_some_and(letter)
}

#[test]
fn what_is_broken_is_not_read() {
    let good = "# HELP a A\n# TYPE a gauge\na{x=\"1\\\"} # {\"} 1\n";
    let read = Exposition::classic(good);
    assert_eq!(read.sum("a", &[("x", "1\"} # {")]), Some(1.0));
    for bad in [
        "a 1\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a A\n# TYPE a counter\na 1\n",
        "# HELP a A\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a A\n# TYPE a gauge\na{x=\"\\x\"} 1\n",
        "# HELP a A\n# TYPE a gauge\nb 1\n",
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 2\na_sum 1\n",
        "# HELP a A\n# TYPE a histogram\n\
         a_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\na_count 2\na_sum 1\n",
    ] {
        let read = std::panic::catch_unwind(|| Exposition::classic(bad));
        assert!(read.is_err(), "{bad}");
    }
}
