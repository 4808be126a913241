//! Running the program, reading what it prints, asking its nodes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) mod browser;
pub(crate) mod terminal;

/// How long anything may take before a test gives up: never the time that it should take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The program with these arguments and without settings from the environment.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flights"));
    for (name, _) in std::env::vars_os() {
        let name_of = name.to_string_lossy();
        let ours = ["TST_", "AM_", "PUSH_", "LOKI_", "OTEL_"];
        if ours.iter().any(|start| name_of.starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .env_remove("RUST_LOG")
        .env("AM_DBG_ADDR", "0")
        .env_remove("TRACEPARENT")
        .stdin(Stdio::null());
    command
}

/// A folder of the test's own, gone with it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty one; no other test has one of this name.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flights-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run of the program to its end came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Ended {
    run_command(&mut command(args))
}

/// Runs a command to its end.
pub(crate) fn run_command(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program while it runs. It is killed when a test is done with it.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Starts the program.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_command(&mut command(args))
    }

    /// Starts a command.
    pub(crate) fn start_command(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that `pick` picks something from.
    pub(crate) fn line<T>(&self, pick: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let line = self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
                .expect("a line that was not printed");
            if let Some(picked) = pick(&line) {
                return picked;
            }
        }
    }

    /// The next line that begins so, less its beginning.
    pub(crate) fn line_after(&self, start: &str) -> String {
        self.line(|line| line.strip_prefix(start).map(str::to_owned))
    }

    /// All lines up to and with the first that is the `last` one.
    pub(crate) fn lines_until(&self, last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "the last of {lines:#?}");
            let line = self.line(|line| Some(line.to_owned()));
            let is_last = last(&line);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// The lines that were printed since the last one that was looked at.
    pub(crate) fn new_lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of a program that has been told to end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the program does not end");
            std::thread::yield_now();
        }
    }

    /// Interrupts the program and waits for its end.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        signal("INT", self.child.id());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Whether there is such a process.
pub(crate) fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

/// The JSON that a node answers.
pub(crate) async fn json(addr: &str, path: &str) -> serde_json::Value {
    let answer = machine_node::client::get(addr, path, "application/json")
        .await
        .unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}
