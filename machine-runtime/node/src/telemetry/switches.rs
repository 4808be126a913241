//! The switches of asyncmachine-go's environment: what they come to here, where they have a meaning.

use tracing_subscriber::filter::LevelFilter;

use super::levels::{DECISION, Filter, HANDLER};

const SOURCE: &str = "machine_runtime::replica::source";
const FOLLOWER: &str = "machine_runtime::replica::follower";
const UPLINK: &str = "machine_runtime::replica::uplink";

/// What a switch does.
enum Does {
    /// More is logged.
    Logs(&'static [(&'static str, LevelFilter)]),
    /// Nothing; a person is told why.
    Nothing(&'static str),
}

use Does::{Logs, Nothing};

const NO_POOL: &str = "there are no pools of workers here";

/// All that are known, with what they do.
const SWITCHES: [(&str, Does); 19] = [
    (
        "AM_DEBUG",
        Logs(&[
            ("machine_runtime", LevelFilter::DEBUG),
            ("machine_node", LevelFilter::DEBUG),
            ("flights", LevelFilter::DEBUG),
        ]),
    ),
    ("AM_RPC_LOG_SERVER", Logs(&[(SOURCE, LevelFilter::DEBUG)])),
    ("AM_RPC_LOG_MUX", Logs(&[(SOURCE, LevelFilter::DEBUG)])),
    (
        "AM_RPC_LOG_CLIENT",
        Logs(&[(FOLLOWER, LevelFilter::DEBUG), (UPLINK, LevelFilter::DEBUG)]),
    ),
    (
        "AM_RPC_LOG_CLIENT_VERBOSE",
        Logs(&[(FOLLOWER, LevelFilter::TRACE), (UPLINK, LevelFilter::TRACE)]),
    ),
    ("AM_LOG_CHECKS", Logs(&[(DECISION, LevelFilter::DEBUG)])),
    ("AM_LOG_QUEUED", Logs(&[(DECISION, LevelFilter::DEBUG)])),
    (
        "AM_LOG_FULL",
        Logs(&[
            (DECISION, LevelFilter::DEBUG),
            (HANDLER, LevelFilter::DEBUG),
        ]),
    ),
    (
        "AM_RPC_DBG",
        Nothing("replicas are no machines of their own, and always have metrics and logs"),
    ),
    ("AM_NODE_LOG_SUPERVISOR", Nothing(NO_POOL)),
    ("AM_NODE_LOG_CLIENT", Nothing(NO_POOL)),
    ("AM_NODE_LOG_WORKER", Nothing(NO_POOL)),
    (
        "AM_LOG_PRINT",
        Nothing("lines go to standard error, always"),
    ),
    (
        "AM_LOG_STEPS",
        Nothing("steps of transitions are not recorded"),
    ),
    (
        "AM_LOG_GRAPH",
        Nothing("graphs of machines are not recorded"),
    ),
    ("AM_LOG_ARGS", Nothing("payloads are never logged")),
    ("AM_LOG_WHEN", Nothing("who waits for states is not logged")),
    (
        "AM_LOG_STATE_CTX",
        Nothing("contexts of states are not logged"),
    ),
    (
        "AM_LOG_FILE",
        Nothing("lines go to standard error, which can be redirected to a file"),
    ),
];

/// Which switches are on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Switches {
    on: Vec<usize>,
}

impl Switches {
    /// Looks each of them up in an environment. An empty one and `0` are off.
    pub fn read(environment: impl Fn(&str) -> Option<String>) -> Self {
        let is_on = |at: &usize| {
            let value = environment(SWITCHES[*at].0).unwrap_or_default();
            !matches!(value.trim(), "" | "0")
        };
        let on = (0..SWITCHES.len()).filter(is_on).collect();
        Self { on }
    }

    /// Has `filter` let through what they ask for.
    pub fn apply(&self, filter: &mut Filter) {
        for at in &self.on {
            if let Logs(targets) = &SWITCHES[*at].1 {
                for (target, level) in *targets {
                    filter.at_least(target, *level);
                }
            }
        }
    }

    /// Says of each that is on and has no meaning here that it has none.
    pub fn warn(&self) {
        for at in &self.on {
            if let (name, Nothing(why)) = &SWITCHES[*at] {
                tracing::warn!("{name} has no meaning here: {why}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn applied(on: &[(&str, &str)], filter: &str) -> tracing_subscriber::filter::Targets {
        let value = |name: &str| {
            let found = on.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut filter = Filter::parse(filter).unwrap();
        Switches::read(value).apply(&mut filter);
        filter.targets()
    }

    #[test]
    fn a_switch_adds_to_the_filter_and_takes_nothing_back() {
        let on = [("AM_RPC_LOG_SERVER", "1"), ("AM_LOG_QUEUED", "true")];
        let targets = applied(&on, "warn");
        assert!(targets.would_enable(SOURCE, &Level::DEBUG));
        assert!(targets.would_enable(DECISION, &Level::DEBUG));
        assert!(!targets.would_enable(FOLLOWER, &Level::INFO));
        assert!(applied(&on, "trace").would_enable(SOURCE, &Level::TRACE));
    }

    #[test]
    fn empty_and_zero_are_off() {
        let off = [("AM_RPC_LOG_SERVER", ""), ("AM_RPC_LOG_CLIENT", " 0 ")];
        assert_eq!(applied(&off, "warn"), applied(&[], "warn"));
    }
}
