//! Pages in a real browser: a headless Chromium.

use std::process::{Command, Stdio};

use super::Folder;

/// What the page at `url` has come to after its scripts had so many milliseconds of the page's own
/// time. `name` is the test's.
pub(crate) fn page(name: &str, url: &str, time: u32) -> String {
    let profile = Folder::new(&format!("browser-{name}"));
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={time}"))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("chromium, which tests/run installs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}
