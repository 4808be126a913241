//! Stamps what `--version` shows, and rebuilds the package when `states.toml` changes.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The macro tracks this file too, as it reads it; here it is for the tests that look at it.
    println!("cargo::rerun-if-changed=states.toml");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let stamp = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=FLIGHTS_VERSION={stamp}");
}

/// The commit that is built, where there is git and this is the top of its checkout.
fn commit() -> Option<String> {
    // A folder, or in a further worktree a file.
    if !Path::new(".git").exists() {
        return None;
    }
    // The second one grows with each commit, wherever the branch itself is kept.
    for file in ["HEAD", "logs/HEAD"] {
        let file = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
