//! Telling a debugger of a program's nodes, and recording them.
//!
//! ```no_run
//! # async fn example(tasks: &machine_node::shutdown::Tasks) -> anyhow::Result<()> {
//! use machine_node::debugging::{DebugConfig, Debugging};
//! use machine_node::telemetry::Logs;
//!
//! let mut config = DebugConfig::default();
//! config.addr = Some("localhost:6831".to_owned());
//! let debugging = Debugging::start("mine 1.0", &config, &Logs::default(), tasks)?;
//! // Goes into the `NodeConfig` of each node.
//! # drop(debugging);
//! # Ok(())
//! # }
//! ```

use anyhow::Context;
pub use machine_runtime::debug::file::Format as RecordFormat;
use machine_runtime::debug::frame::Line;
pub use machine_runtime::debug::json::JsonLines;
pub use machine_runtime::debug::link::{DEFAULT_ADDR, DEFAULT_PORT};
use machine_runtime::debug::link::{DialOptions, Reporter};
pub use machine_runtime::debug::record::RecordOptions;
use machine_runtime::debug::record::Recorder;
pub use machine_runtime::debug::recording::{Recording, RecordingError};
pub use machine_runtime::debug::replay::Replay;
pub use machine_runtime::debug::subject::Subject;

use crate::shutdown::Tasks;
use crate::telemetry::Logs;

/// Who is told everything that nodes do. Nobody, unless told otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DebugConfig {
    /// The debugger, which is dialled again and again: a host and a port.
    pub addr: Option<String>,
    /// Where it is recorded.
    pub record: Option<RecordOptions>,
}

/// Tells of the nodes of a program. Cheap to clone; the default tells nobody.
#[derive(Clone, Debug, Default)]
pub struct Debugging {
    reporter: Option<Reporter>,
    recorder: Option<Recorder>,
}

impl Debugging {
    /// Begins to dial, and to record; the tasks are among `tasks`. Lines that are logged are told and
    /// recorded too. `program` says what runs here, and its version.
    ///
    /// # Errors
    ///
    /// If the folder for recordings cannot be made.
    pub fn start(
        program: &str,
        config: &DebugConfig,
        logs: &Logs,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let recorder = match &config.record {
            Some(options) => {
                let dir = options.dir.display();
                let recorder = Recorder::new(program, options.clone());
                Some(recorder.with_context(|| format!("cannot record into {dir}"))?)
            }
            None => None,
        };
        let addr = config.addr.as_ref();
        let reporter = addr.map(|addr| Reporter::new(program, addr, DialOptions::default()));
        if let Some(reporter) = &reporter {
            tasks.spawn(reporter.clone().run(tasks.stopped()));
        }
        if let Some(recorder) = &recorder {
            tasks.spawn(recorder.clone().run(tasks.stopped()));
        }
        let debugging = Self { reporter, recorder };
        logs.debug(&debugging);
        Ok(debugging)
    }

    /// Tells of a node from now on. A [`Node`](crate::node::Node) that was given this has done so.
    pub fn add(&self, subject: &Subject) {
        if let Some(reporter) = &self.reporter {
            reporter.add(subject.clone());
        }
        if let Some(recorder) = &self.recorder {
            recorder.add(subject.clone());
        }
    }

    /// Whether anybody is told, or anything recorded, now.
    pub fn is_on(&self) -> bool {
        let is_told = self.reporter.as_ref().is_some_and(Reporter::is_on);
        is_told || self.recorder.as_ref().is_some_and(Recorder::is_on)
    }

    /// Tells of a line that was logged. It never waits.
    pub(crate) fn log(&self, node: Option<&str>, line: &Line) {
        if let Some(reporter) = &self.reporter {
            reporter.log(node, line.clone());
        }
        if let Some(recorder) = &self.recorder {
            recorder.log(node, line.clone());
        }
    }
}
