//! Processes that are asked by lines on their standard input and answer each with a line of JSON.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cpu;
use crate::part::command;

/// A part of this program that a suite has started. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    /// Starts this program as `args` say.
    pub(crate) fn start<A: Into<OsString>>(
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let mut child = command(args)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let input = child.stdin.take().context("no input to write to")?;
        let output = child.stdout.take().context("no output to read")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Asks it, and waits for its answer.
    ///
    /// # Errors
    ///
    /// If it has ended, or answers something else.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &str) -> anyhow::Result<T> {
        writeln!(self.input, "{question}").context("a part of this program has ended")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "a part of this program has ended");
        serde_json::from_str(&line).with_context(|| format!("{question}: answered {line}"))
    }

    /// Its processor time so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::of_process(self.child.id())
    }

    /// Its resident memory in MB.
    pub(crate) fn resident_mb(&self) -> anyhow::Result<f64> {
        cpu::resident_mb(self.child.id())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process is asked: the lines of its standard input, until that ends.
pub(crate) fn questions() -> UnboundedReceiver<String> {
    // As many as whoever asks has lines for: it waits for each answer.
    let (tell, asked) = unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    asked
}

/// Answers a question.
///
/// # Errors
///
/// If nobody reads it.
pub(crate) fn answer(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

/// Lets this process, and those that it starts, open as many files as the system lets anybody.
pub(crate) fn raise_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is not allowed, what needs more files says so.
    let _ = setrlimit(Resource::Nofile, limit);
}
