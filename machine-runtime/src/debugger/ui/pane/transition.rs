//! The entry under the cursor: who asked for what, what came of it, and what it hangs together with.

use ratatui::text::{Line, Span};

use super::super::super::store::{Entry, History, Related, Store, Tie};
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::{App, words};
use crate::debug::frame::{Body, Change, Followed, Key, Transition};
use crate::schema::Schema;

/// How many effects or causes are listed.
const MOST: usize = 200;

impl App {
    pub(in super::super) fn transition_rows(&self, store: &Store, width: usize) -> Vec<Row> {
        let (Some(machine), Some(entry)) = (self.machine, &self.entry) else {
            return vec![self.dim(self.nothing(store))];
        };
        let history = store.machine(machine);
        let mut rows = vec![self.when_row(history, entry)];
        match &entry.body {
            Body::Transition(told) => self.told_rows(history, told, width, &mut rows),
            Body::Followed(told) => self.followed_rows(history, told, &mut rows),
            Body::Key(key) => self.key_rows(history.schema(), key, &mut rows),
            Body::Dropped(count) => {
                let text = format!(
                    "{} frames found no room and are missing here",
                    words::count(*count)
                );
                rows.extend(self.wrapped(Tone::Error, &text, width));
            }
            _ => {}
        }
        self.error_rows(history, entry.index, width, &mut rows);
        self.related_rows(
            store,
            "Caused by",
            &store.causes(machine, entry.index),
            &mut rows,
        );
        self.related_rows(
            store,
            "Led to",
            &store.effects(machine, entry.index),
            &mut rows,
        );
        let trace = match &entry.body {
            Body::Transition(told) => told.trace,
            Body::Followed(told) => told.trace,
            _ => None,
        };
        if let Some(trace) = trace {
            rows.push(self.heading("Trace"));
            let text = format!("  {:032x} span {:016x}", trace.trace, trace.span);
            rows.extend(self.wrapped(Tone::Dim, &text, width));
        }
        self.waiting_rows(history, &mut rows);
        rows
    }

    fn when_row(&self, history: &History, entry: &Entry) -> Row {
        let mut spans = vec![Span::raw(words::date(entry.wall))];
        if let Some(before) = entry.index.checked_sub(1)
            && before >= history.start()
        {
            let since = entry.wall.wrapping_sub(history.wall(before)).cast_signed();
            spans.push(self.span(Tone::Dim, format!("  {}", words::apart(since))));
        }
        Row::new(Line::from(spans))
    }

    fn told_rows(&self, history: &History, told: &Transition, width: usize, rows: &mut Vec<Row>) {
        let schema = history.schema();
        let symbols = self.theme.symbols();
        let called = words::names(schema, &told.called);
        let what = format!("{} {called}", told.op);
        rows.extend(self.wrapped(Tone::Head, &what, width));
        rows.push(self.dim(format!(
            "transition {}, {}",
            words::count(told.sequence),
            words::cause(told.cause)
        )));
        match &told.canceled {
            None if told.changes.is_empty() => {
                let text = format!("{} accepted, and nothing changed", symbols.active);
                rows.push(Row::new(self.span(Tone::Active, text)));
            }
            None => {
                let text = format!(
                    "{} accepted, revision {}",
                    symbols.active,
                    words::count(told.revision)
                );
                rows.push(Row::new(self.span(Tone::Active, text)));
            }
            Some(reason) => {
                let why = words::reason(schema, reason);
                let text = format!("{} canceled: {why}", symbols.refused);
                rows.extend(self.wrapped(Tone::Error, &text, width));
            }
        }
        if !told.left_out.is_empty() {
            let names = words::names(schema, &told.left_out);
            let text = format!("without {names}, which handlers refused");
            rows.extend(self.wrapped(Tone::Refused, &text, width));
        }
        self.change_rows(schema, &told.changes, rows);
        if !told.payloads.is_empty() {
            rows.push(self.heading("Payloads"));
        }
        for payload in &told.payloads {
            let name = words::name(schema, payload.state);
            let text = match &payload.text {
                Some(text) => format!("  {name} = {text}"),
                None => format!("  {name} = {} bytes, redacted", payload.len),
            };
            rows.extend(self.wrapped(Tone::Plain, &text, width));
        }
        if !told.handlers.is_empty() {
            rows.push(self.heading("Handlers"));
        }
        for run in &told.handlers {
            let phase = format!("  {:>9}  {:<9} ", words::nanos(run.took), run.phase.name());
            let mut spans = vec![self.span(Tone::Dim, phase)];
            match run.state {
                None => rows.push(Row::new(Line::from(spans))),
                Some(state) => {
                    spans.push(self.state_name(schema, state));
                    rows.push(Row::to(Line::from(spans), Target::State(state)));
                }
            }
        }
        self.step_rows(schema, width, rows);
        rows.push(self.heading("Queue and time"));
        let (before, after) = told.waiting;
        let mut queue = format!("  {before} waited before, {after} after");
        if told.queue_tick > 0 {
            queue = format!("{queue}, queue tick {}", words::count(told.queue_tick));
        }
        rows.push(Row::new(queue));
        if told.released > 0 {
            let let_go = words::many(told.released as usize, "waiting future");
            rows.push(Row::new(format!("  let go of {let_go}")));
        }
        if told.took != (0, 0) {
            let (deciding, telling) = told.took;
            rows.push(Row::new(format!(
                "  deciding took {}, final handlers {}",
                words::nanos(deciding),
                words::nanos(telling)
            )));
        }
    }

    /// What relations made of it.
    fn step_rows(&self, schema: &Schema, width: usize, rows: &mut Vec<Row>) {
        let (steps, guessed) = match &self.steps {
            None => return,
            Some(Err(why)) => {
                let text = format!("its steps are not known: {why}");
                return rows.extend(self.wrapped(Tone::Dim, &text, width));
            }
            Some(Ok(told)) => told,
        };
        rows.push(self.heading(format!("Steps {}", steps.len())));
        for (place, step) in steps.iter().take(MOST).enumerate() {
            let step = words::step(schema, step.clone());
            let tone = if step.refused {
                Tone::Error
            } else {
                Tone::Plain
            };
            let text = format!("  {:>2} {}", place + 1, step.text);
            rows.extend(self.wrapped(tone, &text, width));
        }
        if let Some(why) = guessed {
            rows.extend(self.wrapped(Tone::Dim, &format!("a guess: {why}"), width));
        }
    }

    fn followed_rows(&self, history: &History, told: &Followed, rows: &mut Vec<Row>) {
        let to = told.position.revision;
        let of = to.saturating_sub(told.from);
        rows.push(self.heading(format!(
            "followed from revision {} to {}",
            words::count(told.from),
            words::count(to)
        )));
        if of != 1 {
            rows.push(self.dim(format!("{} revisions in one step", words::count(of))));
        }
        self.change_rows(history.schema(), &told.changes, rows);
        if told.released > 0 {
            let let_go = words::many(told.released as usize, "waiting future");
            rows.push(Row::new(format!("  let go of {let_go}")));
        }
    }

    fn key_rows(&self, schema: &Schema, key: &Key, rows: &mut Vec<Row>) {
        rows.push(self.heading("all there is at this moment"));
        let active = key.ticks.iter().filter(|tick| **tick % 2 == 1).count();
        rows.push(Row::new(format!(
            "revision {}, {} active, {}",
            words::count(key.position.revision),
            words::count(active as u64),
            words::many(
                usize::try_from(key.sequence).unwrap_or(usize::MAX),
                "transition"
            ),
        )));
        rows.push(self.dim(format!("epoch {}", key.position.epoch)));
        if !key.queue.is_empty() {
            rows.push(self.heading(format!("Waiting {}", key.queue.len())));
        }
        for queued in key.queue.iter().take(MOST) {
            let called = words::names(schema, &queued.called);
            rows.push(Row::new(format!(
                "  {} {called}, {}",
                queued.op,
                words::cause(queued.cause)
            )));
        }
    }

    /// What began, ended or was called again.
    fn change_rows(&self, schema: &Schema, changes: &[Change], rows: &mut Vec<Row>) {
        if changes.is_empty() {
            return;
        }
        let symbols = self.theme.symbols();
        rows.push(self.heading(format!("Changes {}", changes.len())));
        for change in changes {
            let moment = self.moment.as_ref();
            let tick = moment.and_then(|moment| moment.ticks.get(change.state as usize));
            let tick = tick.copied().unwrap_or(0);
            let before = tick.wrapping_sub(change.ticks);
            let (sign, tone, what) = match (before % 2, tick % 2) {
                (0, 1) => (symbols.began, Tone::Active, "began"),
                (1, 0) => (symbols.ended, Tone::Refused, "ended"),
                (1, _) => (symbols.touched, Tone::Changed, "stayed"),
                _ => (symbols.touched, Tone::Changed, "came and went"),
            };
            let line = Line::from(vec![
                self.span(tone, format!("  {sign} ")),
                self.state_name(schema, change.state),
                self.span(
                    Tone::Dim,
                    format!(
                        " {what}, tick {}{}{}",
                        words::count(before),
                        symbols.arrow,
                        words::count(tick)
                    ),
                ),
            ]);
            rows.push(Row::to(line, Target::State(change.state)));
        }
    }

    fn related_rows(&self, store: &Store, title: &str, related: &[Related], rows: &mut Vec<Row>) {
        if related.is_empty() {
            return;
        }
        rows.push(self.heading(format!("{title} {}", words::count(related.len() as u64))));
        for one in related.iter().take(MOST) {
            let history = store.machine(one.machine);
            let tie = match one.tie {
                Tie::FollowsFrom => "right after",
                Tie::SameRun => "same run",
                Tie::Replicated => "replicated",
                Tie::Span => "span",
                Tie::SameTrace => "same trace",
            };
            let first = one.entries.start;
            let what = if history.range().contains(&first) {
                Self::entry_in_words(history, first)
            } else {
                String::new()
            };
            let several = match one.entries.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let same = Some(one.machine) == self.machine;
            let mut spans = vec![Span::raw("  ")];
            if !same {
                spans.push(self.span(Tone::Accent, format!("{} ", history.name())));
            }
            spans.push(Span::raw(what + &several));
            let after = words::apart(one.after);
            spans.push(self.span(Tone::Dim, format!(", {tie}, {after}")));
            rows.push(Row::to(
                Line::from(spans),
                Target::Entry(one.machine, first),
            ));
        }
        if related.len() > MOST {
            rows.push(self.dim(format!("  and {} more", related.len() - MOST)));
        }
    }

    /// An entry in a few words.
    pub(in super::super) fn entry_in_words(history: &History, index: usize) -> String {
        let schema = history.schema();
        match history.entry(index).body {
            Body::Transition(told) => {
                let called = words::names(schema, &told.called);
                let canceled = if told.is_accepted() {
                    ""
                } else {
                    " (canceled)"
                };
                format!("{} {called}{canceled}", told.op)
            }
            Body::Followed(told) => format!("revision {}", words::count(told.position.revision)),
            Body::Key(_) => "all there is".to_owned(),
            Body::Dropped(count) => format!("{} dropped", words::count(count)),
            _ => String::new(),
        }
    }

    /// The errors that the machine told right behind an entry.
    fn error_rows(&self, history: &History, index: usize, width: usize, rows: &mut Vec<Row>) {
        let told = history.errors().filter(|told| told.index == Some(index));
        for (n, told) in told.enumerate() {
            if n == 0 {
                rows.push(self.heading("Errors"));
            }
            let text = format!("  {}: {}", told.failure.kind, told.failure.message);
            rows.extend(self.wrapped(Tone::Error, &text, width));
        }
    }

    fn waiting_rows(&self, history: &History, rows: &mut Vec<Row>) {
        let waiters = history.waiters();
        if waiters.wall == 0 {
            return;
        }
        let count: u32 = waiters.waiting.iter().map(|one| one.count).sum();
        rows.push(self.heading(format!(
            "Waiting at {}: {}",
            words::clock(waiters.wall),
            words::many(count as usize, "future")
        )));
        for one in waiters.waiting.iter().take(MOST) {
            let states = words::names(history.schema(), &one.states);
            let line = format!("  {} {states} x{}", one.what, one.count);
            rows.push(match one.states.first() {
                Some(state) => Row::to(line, Target::State(*state)),
                None => Row::new(line),
            });
        }
    }
}
