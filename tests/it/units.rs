//! The units for systemd, as its own tools see them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Folder, run};

/// The unit files, and what each is called where it is started.
const UNITS: [(&str, &str); 2] = [
    ("flights-root.service", "flights-root.service"),
    ("flights-replica@.service", "flights-replica@rep-1.service"),
];

/// Where units look for the program.
const PROGRAM: &str = "/usr/local/bin/flights";

/// The most that a unit may be exposed, in tenths, of a hundred: what is left is that they talk over
/// the network, and to whom is for their host to say.
const EXPOSURE: &str = "15";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The values of a setting.
fn values<'a>(unit: &'a str, setting: &str) -> Vec<&'a str> {
    let lines = unit.lines();
    lines
        .filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='))
        .collect()
}

#[test]
fn systemd_takes_the_units_and_trusts_them_with_little() {
    let installed = Folder::new("units");
    for (file, name) in UNITS {
        let text = unit(file);
        assert!(text.contains(PROGRAM), "{file}");
        let text = text.replace(PROGRAM, env!("CARGO_BIN_EXE_flights"));
        let path = installed.path().join(name);
        fs::write(&path, text).unwrap();
        let threshold = format!("--threshold={EXPOSURE}");
        for args in [
            &["verify"][..],
            &["security", "--offline=true", "--no-pager", &threshold],
        ] {
            let mut command = Command::new("systemd-analyze");
            let output = command.args(args).arg(&path).output();
            let output = output.expect("systemd-analyze, of Debian's package systemd");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {args:?}: {output:?}");
            // What it does not know it warns of, and takes.
            assert!(!told.contains(name), "{name}: {told}");
        }
    }
}

#[test]
fn units_start_what_the_program_can() {
    for (file, _) in UNITS {
        let text = unit(file);
        let [start] = values(&text, "ExecStart")[..] else {
            panic!("{file} starts one program");
        };
        let args = start.strip_prefix(PROGRAM).unwrap().replace("%i", "rep-1");
        let args: Vec<_> = args.split_whitespace().collect();
        let ended = run(&[&args[..], &["--help"]].concat());
        assert_eq!(ended.code, Some(0), "{file}: {ended:?}");
    }
}

#[test]
fn example_settings_are_settings() {
    let help = run(&["node", "--help"]).stdout;
    let mut files = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "env") {
            continue;
        }
        files += 1;
        for line in fs::read_to_string(&path).unwrap().lines() {
            // Behind one sign there is prose, unless it is right behind it.
            let line = line.strip_prefix('#').unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            if !line.starts_with(' ') {
                assert!(help.contains(name), "{name} of {}", path.display());
                assert!(!value.is_empty(), "{name} of {}", path.display());
            }
        }
    }
    assert_eq!(files, 3);
}

#[test]
fn a_unit_waits_for_a_drain() {
    let help = run(&["node", "--help"]).stdout;
    let drain = help.split("--drain-within").nth(1).unwrap();
    let (_, drain) = drain.split_once("[default: ").unwrap();
    let (drain, _) = drain.split_once(']').unwrap();
    let time = |text: &str| humantime::parse_duration(text).unwrap();
    for (file, _) in UNITS {
        let text = unit(file);
        // The last batch of a root has ten seconds to get to the disk.
        let disk = Duration::from_secs(if text.contains("--state-dir") { 10 } else { 0 });
        let [stop] = values(&text, "TimeoutStopSec")[..] else {
            panic!("{file} has one time to stop in");
        };
        assert!(time(stop) > 2 * time(drain) + disk, "{file}");
    }
}
