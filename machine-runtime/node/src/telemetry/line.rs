//! Events as lines: JSON objects, or text for people.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use super::levels::{DECISION, ERROR, HANDLER, LINK, MUTATION, STATE};

/// A JSON object being written, field by field in the order in which they come.
#[derive(Debug)]
pub(super) struct Object {
    json: String,
    /// What becomes a label and not a field, by its name.
    pub(super) node: Option<String>,
    pub(super) role: Option<String>,
    role_is_field: bool,
}

impl Object {
    /// For a reader who gets level, role and time besides.
    pub(super) fn labelled(event: &Event<'_>) -> Self {
        let mut object = Self::new(false);
        object.text("target", event.metadata().target());
        event.record(&mut object);
        object
    }

    fn new(role_is_field: bool) -> Self {
        Self {
            json: "{".to_owned(),
            node: None,
            role: None,
            role_is_field,
        }
    }

    fn name(&mut self, name: &str) {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        self.json.push_str(&quoted(name));
        self.json.push(':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.json.push_str(&quoted(value));
    }

    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field.name());
        // Writing to a `String` never fails.
        let _ = write!(self.json, "{value}");
    }

    /// The object, and the end of it.
    pub(super) fn into_json(mut self) -> String {
        self.json.push('}');
        self.json
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.raw(field, value);
        } else {
            self.raw(field, "null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "node" => self.node = Some(value.to_owned()),
            "role" => {
                self.role = Some(value.to_owned());
                if !self.role_is_field {
                    return;
                }
            }
            _ => {}
        }
        self.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }
}

/// `text` as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The level's name in lower case.
pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The node that an event is of, and its message with the other fields.
pub(super) fn words(event: &Event<'_>) -> (Option<String>, String) {
    let mut words = Named {
        node: None,
        words: Words {
            said: &["node", "role"],
            message: String::new(),
            fields: String::new(),
        },
    };
    event.record(&mut words);
    let Words {
        message, fields, ..
    } = words.words;
    let text = format!("{message}{fields}");
    (words.node, text.replace(char::is_control, " "))
}

/// An event as one JSON object a line.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut format::Writer::new(&mut time))?;
        let mut object = Object::new(true);
        object.text("timestamp", &time);
        object.text("level", level(*event.metadata().level()));
        object.text("target", event.metadata().target());
        event.record(&mut object);
        writeln!(writer, "{}", object.into_json())
    }
}

/// An event as people read it, one a line: time, level, the last part of the target, the message, and
/// what of the fields the message does not say.
pub(super) struct Text {
    /// Whether it begins with the time.
    pub(super) time: bool,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.time {
            SystemTime.format_time(&mut writer)?;
            writer.write_char(' ')?;
        }
        let target = event.metadata().target();
        let mut words = Words {
            said: said(target),
            message: String::new(),
            fields: String::new(),
        };
        event.record(&mut words);
        let (level, short) = (event.metadata().level(), last_part(target));
        let Words {
            message, fields, ..
        } = words;
        let text = format!("{level:>5} {short}: {message}{fields}");
        // What others say is in it: it must not look like a line of its own.
        writeln!(writer, "{}", text.replace(char::is_control, " "))
    }
}

/// `target` without the modules that the last one is in.
fn last_part(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

/// The fields that the message of an event of this target says as well.
fn said(target: &str) -> &'static [&'static str] {
    match target {
        STATE => &["called", "added", "removed", "again"],
        MUTATION => &["op", "called", "outcome", "reason"],
        DECISION => &["op", "called", "cause", "reason"],
        HANDLER => &["phase", "state", "took_us"],
        LINK => &["side", "peer", "change"],
        ERROR => &["phase", "state"],
        _ => &[],
    }
}

/// The words of an event, and its node.
struct Named {
    node: Option<String>,
    words: Words,
}

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "node" {
            self.node = Some(value.to_owned());
        }
        self.words.record_str(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.words.record_debug(field, value);
    }
}

/// The message and the other fields of an event for people.
struct Words {
    said: &'static [&'static str],
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        // Writing to a `String` never fails.
        if name == "message" {
            let _ = write!(self.message, "{value:?}");
        } else if !self.said.contains(&name) {
            let _ = write!(self.fields, " {name}={value:?}");
        }
    }
}
