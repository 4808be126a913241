//! Namespaces that a test has for itself.
//!
//! A test is run twice: the harness runs it, and it runs itself once more within namespaces of its
//! own for the network, mounts and processes. There it is the first process, and all that it makes is
//! gone when it ends, however it ends. So no two runs meet, and nothing is left behind.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Set where a test runs within.
const WITHIN: &str = "FLIGHTS_HOSTS_WITHIN";

/// A line that begins so is shown to whoever runs the tests, also where all goes well.
const TELLS: &str = "tells: ";

/// What a namespace of processes needs: its first one ends with us, and the others with it.
const NAMESPACES: [&str; 5] = ["--net", "--mount", "--pid", "--fork", "--kill-child"];

/// The names of networks are ours alone, as nobody else sees our `/run`.
const PREPARE: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$0\" \"$@\"";

/// Whether this is the test within. If not, runs it there, and returns once it has passed.
///
/// # Panics
///
/// If the test within fails, or cannot be run.
pub(super) fn is_within(test: &str) -> bool {
    if std::env::var_os(WITHIN).is_some_and(|name| name == test) {
        return true;
    }
    let output = unshare()
        .args(["sh", "-c", PREPARE])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("hosts::{test}"), "--nocapture"])
        .env(WITHIN, test)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let logged = String::from_utf8_lossy(&output.stderr);
    // A name that is none would run nothing, and that well.
    let ran = output.status.success() && told.contains("1 passed");
    assert!(ran, "{test}: {}\n{told}\n{logged}", output.status);
    for line in told.lines().filter_map(|line| line.strip_prefix(TELLS)) {
        // Not by a macro, whose lines the harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "{test}: {line}");
    }
    false
}

/// Has a line shown to whoever runs the tests.
pub(super) fn tell(line: &str) {
    println!("{TELLS}{line}");
}

/// The command that makes namespaces: of root's, or else those that anybody may make.
fn unshare() -> Command {
    let anybody: &[&str] = &["--user", "--map-root-user"];
    let mut why = String::new();
    for who in [&[], anybody] {
        let args: Vec<OsString> = who.iter().chain(&NAMESPACES).map(OsString::from).collect();
        let tried = Command::new("unshare")
            .args(&args)
            .args(["sh", "-c", PREPARE, "true"])
            .output();
        match tried {
            Ok(output) if output.status.success() => {
                let mut command = Command::new("unshare");
                command.args(args);
                return command;
            }
            Ok(output) => why += &String::from_utf8_lossy(&output.stderr),
            Err(error) => why.extend(["unshare: ", &error.to_string(), "\n"]),
        }
    }
    panic!("hosts need namespaces: root, or a kernel that lets anybody make them, and `ip`:\n{why}")
}
