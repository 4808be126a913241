//! How nodes are linked: flags, `/v1/links`, other parents, selections, restarts, leaving.

use std::time::Instant;

use machine_node::client;
use serde_json::Value;

use crate::support::{PATIENCE, Program, json};

// What can be asked for, and what cannot.
mod flags;
// Nodes that are told to stop, and what a service manager is told.
mod leaving;
// Other parents, and what holds on each link.
mod parents;
// A root whose history outlives it.
mod restart;
// Some of the states only.
mod selection;

/// A node that runs, and where.
struct Node {
    program: Program,
    rpc: String,
    http: String,
}

impl Node {
    /// Starts a node of this name on free ports.
    fn start(name: &str, args: &[&str]) -> Self {
        Self::start_at(name, ":0", ":0", args)
    }

    /// Starts one at these addresses.
    fn start_at(name: &str, rpc: &str, http: &str, args: &[&str]) -> Self {
        let own = [
            format!("--name={name}"),
            format!("--addr={rpc}"),
            format!("--http-addr={http}"),
        ];
        let mut all = vec!["node"];
        all.extend(own.iter().map(String::as_str));
        all.extend(args);
        let program = Program::start(&all);
        let rpc = program.line_after(&format!("{name}: tarpc "));
        let http = program.line_after(&format!("{name}: http://"));
        Self {
            program,
            rpc,
            http: http.trim_end_matches('/').to_owned(),
        }
    }

    /// Starts a replicant of the first of `parents` that does.
    fn following(name: &str, parents: &[&Self], args: &[&str]) -> Self {
        let parents: Vec<_> = parents.iter().map(|parent| parent.rpc.as_str()).collect();
        let parents = format!("--parent={}", parents.join(","));
        Self::start(name, &[&[parents.as_str()], args].concat())
    }

    async fn get(&self, path: &str) -> Value {
        json(&self.http, path).await
    }

    async fn text(&self, path: &str) -> String {
        let answer = client::get(&self.http, path, "text/plain").await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// Waits until the node's links are so, and returns them.
    async fn linked(&self, so: impl Fn(&Value) -> bool) -> Value {
        linked(&self.http, so).await
    }
}

/// Waits until the links of a node are so, and returns them.
pub(crate) async fn linked(http: &str, so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let links = json(http, "/v1/links").await;
        if so(&links) {
            return links;
        }
        assert!(Instant::now() < end, "{links:#}");
        tokio::task::yield_now().await;
    }
}

fn follows(links: &Value, parent: &str) -> bool {
    links["upstream"]["state"] == "following" && links["upstream"]["parent"] == parent
}

/// What a program says of a mutation that was executed: where.
fn mutate(node: &str, args: &[&str]) -> String {
    let ended = crate::support::run(&[&["mutate", "--node", node], args].concat());
    let position = ended.stdout.strip_prefix("executed at ");
    let position = position.unwrap_or_else(|| panic!("{ended:?}"));
    position.trim_end().to_owned()
}
