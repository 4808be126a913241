//! What the program tells a debugger, what it records, and what `replay` and `debug` say of that.

use crate::support::{Folder, Program};

mod browser;
mod flags;
mod link;
mod recorded;
mod screen;
mod terminal;
mod walk;

/// A tree of two nodes that replays the day as fast as it can.
const SMALL: [&str; 2] = ["--fanout=1", "--speed=max"];

/// Records a tree of so many nodes that replays the day with these arguments, until all are at its end.
fn record(folder: &Folder, nodes: usize, args: &[&str]) {
    let path = folder.path().to_str().unwrap();
    let tree = ["tree", "--rpc-port=0", "--http-port=0", "--record", path];
    let tree = Program::start(&[&tree[..], args].concat());
    tree.line_after(&format!("all {nodes} nodes are at "));
    assert!(tree.interrupt().success());
}
