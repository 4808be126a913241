//! What is different in the lines of the two formats.
//!
//! A line feed in a label is written as `\n`, so a line is a sample or describes a family, and which
//! of them shows in how it begins.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use machine_runtime::observe::Exemplar;

/// What a line that describes a family begins with.
const HELP: &str = "# HELP ";
const TYPE: &str = "# TYPE ";

/// Rewrites `OpenMetrics` as the classic text format. They differ in what describes a family: a
/// counter's name lacks `_total` there.
pub(super) fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if let Some(told) = line.strip_prefix(HELP) {
            // Its name depends on the type, which comes next.
            help = told;
        } else if let Some(described) = line.strip_prefix(TYPE) {
            let (name, kind) = described.rsplit_once(' ').unwrap_or((described, "untyped"));
            let total = if kind == "counter" { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            let told = help.strip_prefix(name).unwrap_or_default();
            out.extend([HELP, name, total, told, "\n"]);
            out.extend([TYPE, name, total, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

/// Adds exemplars to `OpenMetrics`, one for each line of a bucket in their order, where there is one.
pub(super) fn with_exemplars<'a>(
    open: &str,
    mut exemplars: impl Iterator<Item = Option<&'a Exemplar>> + Clone,
) -> String {
    if exemplars.clone().all(|exemplar| exemplar.is_none()) {
        return open.to_owned();
    }
    let mut out = String::with_capacity(open.len());
    let mut bucket: Option<String> = None;
    for line in open.lines() {
        out.push_str(line);
        if let Some(described) = line.strip_prefix(TYPE) {
            let histogram = described.strip_suffix(" histogram");
            bucket = histogram.map(|name| format!("{name}_bucket{{"));
        } else if bucket.as_ref().is_some_and(|name| line.starts_with(name))
            && let Some(Some(exemplar)) = exemplars.next()
        {
            write_exemplar(&mut out, exemplar);
        }
        out.push('\n');
    }
    debug_assert!(exemplars.next().is_none(), "one for each bucket");
    out
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    let (trace, span) = (exemplar.trace.trace, exemplar.trace.span);
    let took = exemplar.took.as_secs_f64();
    let at = exemplar.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, ms) = (at.as_secs(), at.subsec_millis());
    let labels = format_args!("trace_id=\"{trace:032x}\",span_id=\"{span:016x}\"");
    // A string takes all that is written.
    let _ = write!(out, " # {{{labels}}} {took} {seconds}.{ms:03}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use machine_runtime::TraceContext;

    use super::*;

    #[test]
    fn the_classic_format_names_counters_by_their_samples() {
        let open = "# HELP machine_deltas Deltas\n\
                    # TYPE machine_deltas counter\n\
                    machine_deltas_total{to=\"# TYPE a counter\"} 3\n\
                    # HELP machine_lag_seconds Lag\n\
                    # TYPE machine_lag_seconds gauge\n\
                    # UNIT machine_lag_seconds seconds\n\
                    machine_lag_seconds 0.5\n\
                    # EOF\n";
        let expected = "# HELP machine_deltas_total Deltas\n\
                        # TYPE machine_deltas_total counter\n\
                        machine_deltas_total{to=\"# TYPE a counter\"} 3\n\
                        # HELP machine_lag_seconds Lag\n\
                        # TYPE machine_lag_seconds gauge\n\
                        machine_lag_seconds 0.5\n";
        assert_eq!(classic(open), expected);
    }

    #[test]
    fn an_exemplar_is_behind_the_bucket_that_it_belongs_to() {
        let exemplar = Exemplar {
            took: Duration::from_micros(1500),
            trace: TraceContext {
                trace: 0xabc,
                span: 0xd,
                sampled: true,
            },
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_007),
        };
        let open = "# HELP a_bucket Not one\n\
                    # TYPE a_bucket gauge\n\
                    a_bucket{x=\"1\"} 3\n\
                    # HELP a A\n\
                    # TYPE a histogram\n\
                    a_sum{x=\" # {\"} 1\n\
                    a_count{x=\" # {\"} 2\n\
                    a_bucket{x=\" # {\",le=\"0.001\"} 1\n\
                    a_bucket{x=\" # {\",le=\"+Inf\"} 2\n\
                    # HELP b B\n\
                    # TYPE b gauge\n\
                    b{le=\"a_bucket{\"} 2\n";
        let line = "a_bucket{x=\" # {\",le=\"+Inf\"} 2";
        let trace = "00000000000000000000000000000abc";
        let shown = format!(
            "{line} # {{trace_id=\"{trace}\",span_id=\"000000000000000d\"}} 0.0015 1700000000.007"
        );
        let exemplars = [None, Some(&exemplar)];
        let with = with_exemplars(open, exemplars.into_iter());
        assert_eq!(with, open.replace(line, &shown));
        assert_eq!(with_exemplars(open, [None, None].into_iter()), open);
    }
}
