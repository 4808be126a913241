//! Lines for a debugger, and for recordings: those that the program logs, while somebody wants them.

use std::sync::{Arc, OnceLock};

use machine_runtime::debug::frame::Line;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line;
use crate::debugging::Debugging;

/// Who has a part in telling: of that nothing is told, as it would never end.
const TELLERS: &str = "machine_runtime::debug";

/// Who is told, once it is known. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<OnceLock<Debugging>>);

impl Told {
    /// The first that is set stays.
    pub(super) fn set(&self, debugging: &Debugging) {
        let _ = self.0.set(debugging.clone());
    }
}

/// Passes lines on; it never waits.
pub(super) struct Collector(pub(super) Told);

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let Some(told) = self.0.0.get().filter(|told| told.is_on()) else {
            return;
        };
        let target = event.metadata().target();
        if target.starts_with(TELLERS) {
            return;
        }
        let (node, text) = line::words(event);
        let line = Line {
            level: number(*event.metadata().level()),
            target: target.to_owned(),
            text,
        };
        told.log(node.as_deref(), &line);
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}
