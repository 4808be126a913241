//! Strangers in a process of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::{PATIENCE, command};

/// Strangers while they attack. They end with it.
pub(super) struct Strangers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Strangers {
    pub(super) fn start(
        http: &str,
        rpc: &str,
        attack: &str,
        count: usize,
        addresses: usize,
    ) -> Self {
        let mut child = command(&["bench-part", "strangers", attack])
            .args([format!("--http={http}"), format!("--rpc={rpc}")])
            .args([
                format!("--strangers={count}"),
                format!("--addresses={addresses}"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    pub(super) fn doing(&mut self) -> Value {
        writeln!(self.input, "how").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until they are as far as that.
    #[track_caller]
    pub(super) fn wait(&mut self, what: &str, count: u64) {
        let began = Instant::now();
        loop {
            let doing = self.doing();
            if doing[what].as_u64().unwrap() >= count {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what} is not {count}: {doing}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
