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
    let head = Path::new(".git/HEAD");
    if !head.exists() {
        return None;
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    // Grows with each commit, wherever the branch itself is kept.
    if Path::new(".git/logs/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
