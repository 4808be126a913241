//! Which lines are logged: filters as `RUST_LOG` has them, and the levels of asyncmachine-go.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// What is logged unless told otherwise.
pub const DEFAULT: &str = "warn";

/// A changed state, of a machine or a replica.
pub(crate) const STATE: &str = "machine::state";
/// A mutation: what was called, and what came of it.
pub(crate) const MUTATION: &str = "machine::mutation";
/// Why it came to that, and what the machine did by itself.
pub(crate) const DECISION: &str = "machine::decision";
/// A handler, and how long it took.
pub(crate) const HANDLER: &str = "machine::handler";
/// A follower or a parent that came or went.
pub(crate) const LINK: &str = "machine::link";
/// An error of a handler, or one that was added.
pub(crate) const ERROR: &str = "machine::error";

/// What may stand in a filter without a level: whatever else stands there is a mistyped level.
const CRATES: [&str; 8] = [
    "machine", "flights", "tarpc", "hyper", "h2", "reqwest", "rustls", "warp",
];

/// How deep the levels of asyncmachine-go go.
const LEVELS: [&str; 6] = [
    "off",
    "warn,machine::state=info,machine::error=info",
    "1,machine::mutation=info",
    "2,machine::decision=debug",
    "3,machine::handler=debug,machine::link=debug,machine_runtime=debug,machine_node=debug,flights=debug",
    "trace,tarpc=trace",
];

/// A filter, or a level, that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// A level of asyncmachine-go.
    #[error("`{0}` is no level: they are 0 (nothing) to 5 (everything)")]
    Number(String),
    /// Behind `=`.
    #[error(
        "`{level}` in `{directive}` is no level: they are off, error, warn, info, debug and trace"
    )]
    Level {
        /// What stands there.
        level: String,
        /// Where.
        directive: String,
    },
    /// A word of its own.
    #[error(
        "`{0}` is no log filter; try `info`, `warn,machine_runtime=debug`, or a number from 0 to 5"
    )]
    Word(String),
}

/// Which lines are logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    default: LevelFilter,
    targets: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// Reads a filter such as `info`, `warn,machine_runtime=debug`, `3`, or `3,hyper=info`.
    ///
    /// # Errors
    ///
    /// [`FilterError`], which says what is right.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self {
            default: LevelFilter::OFF,
            targets: Vec::new(),
        };
        // tarpc logs as errors what a peer does and we tell in better words.
        filter.set("tarpc", LevelFilter::OFF);
        filter.read(text)?;
        Ok(filter)
    }

    /// Reads a level of asyncmachine-go, as `AM_LOG` has it.
    ///
    /// # Errors
    ///
    /// [`FilterError`], which says what is right.
    pub fn level(text: &str) -> Result<Self, FilterError> {
        let number = text.trim().parse::<usize>().ok();
        match number.filter(|level| *level < LEVELS.len()) {
            Some(_) => Self::parse(text),
            None => Err(FilterError::Number(text.to_owned())),
        }
    }

    fn read(&mut self, text: &str) -> Result<(), FilterError> {
        let directives = text.split(',').map(str::trim);
        for directive in directives.filter(|directive| !directive.is_empty()) {
            if let Some((target, level)) = directive.rsplit_once('=') {
                let read = level_named(level).ok_or_else(|| FilterError::Level {
                    level: level.to_owned(),
                    directive: directive.to_owned(),
                })?;
                self.set(target.trim(), read);
            } else if directive.bytes().all(|byte| byte.is_ascii_digit()) {
                let number = directive.parse::<usize>().ok();
                let level = number.and_then(|number| LEVELS.get(number));
                self.read(level.ok_or_else(|| FilterError::Number(directive.to_owned()))?)?;
            } else if let Some(level) = level_named(directive) {
                self.default = level;
            } else if directive.contains("::") || CRATES.iter().any(|known| names(known, directive))
            {
                self.set(directive, LevelFilter::TRACE);
            } else {
                return Err(FilterError::Word(directive.to_owned()));
            }
        }
        Ok(())
    }

    fn set(&mut self, target: &str, level: LevelFilter) {
        self.targets.retain(|(known, _)| known != target);
        self.targets.push((target.to_owned(), level));
    }

    /// How much of `target` is logged.
    fn of(&self, target: &str) -> LevelFilter {
        let begins = |known: &&(String, LevelFilter)| target.starts_with(&known.0);
        let known = self.targets.iter().filter(begins);
        known
            .max_by_key(|(known, _)| known.len())
            .map_or(self.default, |(_, level)| *level)
    }

    /// Has at least so much of `target` logged; nothing is taken back.
    pub(super) fn at_least(&mut self, target: &str, level: LevelFilter) {
        if self.of(target) < level {
            self.set(target, level);
        }
    }

    /// What Loki is sent: the same, and at least warnings and what states do.
    pub(super) fn for_loki(&self) -> Self {
        let mut filter = self.clone();
        filter.default = filter.default.max(LevelFilter::WARN);
        filter.at_least(STATE, LevelFilter::INFO);
        filter.at_least(ERROR, LevelFilter::INFO);
        filter
    }

    pub(crate) fn targets(&self) -> Targets {
        let targets = Targets::new().with_default(self.default);
        targets.with_targets(self.targets.clone())
    }
}

/// Whether `target` is a crate called `known`, or one whose name begins so.
fn names(known: &str, target: &str) -> bool {
    let rest = target.strip_prefix(known);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

fn level_named(name: &str) -> Option<LevelFilter> {
    let levels = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    let name = name.trim();
    let mut found = levels.into_iter();
    let found = found.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, level)| level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[track_caller]
    fn check(text: &str, logged: &[(&str, Level)], not: &[(&str, Level)]) {
        let targets = Filter::parse(text).unwrap().targets();
        for (target, level) in logged {
            let logs = targets.would_enable(target, level);
            assert!(logs, "`{text}` does not log {target} at {level}");
        }
        for (target, level) in not {
            let logs = targets.would_enable(target, level);
            assert!(!logs, "`{text}` logs {target} at {level}");
        }
    }

    #[test]
    fn each_level_logs_more_than_the_one_before() {
        let all = [
            (STATE, Level::INFO),
            (MUTATION, Level::INFO),
            (DECISION, Level::DEBUG),
            (HANDLER, Level::DEBUG),
            ("hyper", Level::TRACE),
        ];
        for level in 0..=5 {
            check(&level.to_string(), &all[..level], &all[level..]);
        }
        check("0", &[], &[("machine_runtime", Level::ERROR)]);
        check("1", &[("hyper", Level::WARN), (ERROR, Level::INFO)], &[]);
        check("4", &[("machine_runtime::replica", Level::DEBUG)], &[]);
        check(
            "4",
            &[(LINK, Level::DEBUG)],
            &[("hyper", Level::INFO), ("tarpc", Level::ERROR)],
        );
        check("5", &[("tarpc", Level::TRACE)], &[]);
    }

    #[test]
    fn a_filter_names_targets_and_levels() {
        check(
            "warn,machine_runtime=debug",
            &[
                ("flights", Level::WARN),
                ("machine_runtime::reactor", Level::DEBUG),
            ],
            &[("flights", Level::INFO), ("tarpc", Level::ERROR)],
        );
        check("INFO", &[(STATE, Level::INFO)], &[(DECISION, Level::DEBUG)]);
        check("machine_node", &[("machine_node::http", Level::TRACE)], &[]);
        check(
            "1, hyper=info",
            &[("hyper", Level::INFO), (STATE, Level::INFO)],
            &[(MUTATION, Level::INFO)],
        );
        check("tarpc=info", &[("tarpc", Level::INFO)], &[]);
    }

    #[test]
    fn what_is_no_filter_is_told_with_what_is() {
        #[track_caller]
        fn wrong(text: &str, parts: &[&str]) {
            let error = Filter::parse(text).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
        wrong("infoo", &["`infoo`", "try `info`"]);
        wrong("warn,infoo", &["`infoo`"]);
        wrong(
            "warn,machine=loud",
            &["`loud`", "`machine=loud`", "error, warn"],
        );
        wrong("6", &["`6`", "0 (nothing) to 5"]);
        wrong("machine=3", &["`3`", "trace"]);
        assert!(Filter::level("debug").is_err());
        assert!(Filter::level("-1").is_err());
        assert_eq!(Filter::level("2"), Filter::parse("2"));
    }

    #[test]
    fn loki_is_sent_states_and_warnings_at_least() {
        let loki = Filter::parse("off").unwrap().for_loki().targets();
        assert!(loki.would_enable(STATE, &Level::INFO));
        assert!(loki.would_enable("flights", &Level::WARN));
        assert!(!loki.would_enable(MUTATION, &Level::INFO));
        assert!(!loki.would_enable("tarpc", &Level::ERROR));
        let loki = Filter::parse("trace").unwrap().for_loki().targets();
        assert!(loki.would_enable(STATE, &Level::TRACE));
    }
}
