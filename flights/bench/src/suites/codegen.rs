//! Compiling large machines, and edits of `states.toml`, on a copy of the source tree: offline,
//! with a target folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::states::TEMPLATE;

const ROUNDS: usize = 5;

/// What is no source.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// What makes a folder the source tree.
const MARKS: [&str; 3] = ["states.toml", "machine-macros", "machine-runtime"];

/// The source tree: `asked`, or the working directory or what that is in.
///
/// # Errors
///
/// If there is none, or no cargo to compile it with.
pub(crate) fn find_source(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    run(Command::new("cargo").arg("--version"))?;
    if let Some(asked) = asked {
        let lacks = MARKS.iter().find(|mark| !asked.join(mark).exists());
        return match lacks {
            None => Ok(asked.canonicalize()?),
            Some(mark) => bail!(
                "{} is not the source tree: it lacks {mark}",
                asked.display()
            ),
        };
    }
    let here = std::env::current_dir()?;
    let found = here.ancestors().find(|dir| is_source(dir));
    let found = found.context("the working directory is not in the source tree, say --source DIR");
    Ok(found?.to_owned())
}

pub(crate) fn measure(report: &mut Report, source: &Path) -> anyhow::Result<()> {
    // What is compiled there is of use to the next run.
    let place = source.join("target/bench");
    let copy = Copy {
        source: place.join("source"),
        krate: place.join("krate"),
        target: place.join("target"),
    };
    if copy.source.exists() {
        fs::remove_dir_all(&copy.source)?;
    }
    copy_tree(source, &copy.source)?;
    copy.check(report, "15k", 1071)?;
    if report.is_quick() {
        report.note("left out of a quick run: codegen.check.60k, build.edit_counts");
        return Ok(());
    }
    copy.check(report, "60k", 4285)?;
    copy.edit_counts(report)
}

fn is_source(dir: &Path) -> bool {
    MARKS.iter().all(|mark| dir.join(mark).exists())
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let to = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// A copy of the source tree, a package beside it, and where both are compiled.
struct Copy {
    source: PathBuf,
    krate: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// `cargo check` of a package with one enum of the published template, what it needs being
    /// compiled already, beside that of a bare enum of as many states.
    fn check(&self, report: &mut Report, size: &str, flights: usize) -> anyhow::Result<()> {
        let (mut times, mut floors) = (Vec::new(), Vec::new());
        self.write_package()?;
        for round in 0..=ROUNDS {
            report.progress(&format!("codegen: {size}, round {round} of {ROUNDS}"));
            let floor = self.check_once(&bare_enum(flights))?;
            let time = self.check_once(&template(flights))?;
            // The first compiles what both need.
            if round > 0 {
                floors.push(floor);
                times.push(time);
            }
        }
        let floor = Baseline::new("bare enum", Samples::new(floors).median());
        report.row(
            format!("codegen.check.{size}"),
            "s",
            Samples::new(times),
            floor,
        );
        Ok(())
    }

    fn write_package(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.krate.join("src"))?;
        let runtime = self.source.join("machine-runtime");
        let manifest = format!(
            "[package]\nname = \"large\"\nedition = \"2024\"\n\n[dependencies]\n\
             machine-runtime = {{ path = \"{}\" }}\n\n[workspace]\n",
            runtime.display()
        );
        fs::write(self.krate.join("Cargo.toml"), manifest)?;
        fs::copy(
            self.source.join("Cargo.lock"),
            self.krate.join("Cargo.lock"),
        )?;
        Ok(())
    }

    /// The seconds of a check of the package with this source, from nothing.
    fn check_once(&self, text: &str) -> anyhow::Result<f64> {
        fs::write(self.krate.join("src/lib.rs"), text)?;
        self.cargo(&self.krate, &["clean", "--package", "large"])?;
        self.cargo(&self.krate, &["check"])
    }

    /// From an edit of `states.toml` until the new binary has run, beside the same for an edit of
    /// `main.rs`.
    fn edit_counts(&self, report: &mut Report) -> anyhow::Result<()> {
        report.progress("build: everything for the first time");
        self.build_and_run()?;
        let main = self.source.join("flights/main.rs");
        let text = fs::read_to_string(&main)?;
        let (mut times, mut floors) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            report.progress(&format!("build: round {round} of {ROUNDS}"));
            fs::write(&main, format!("{text}// {round}\n"))?;
            floors.push(self.build_and_run()?);
            // Never what it was before.
            let counts = format!("[counts]\nflights = {}\ngates = 6\n", 10 + round);
            fs::write(self.source.join("states.toml"), counts)?;
            times.push(self.build_and_run()?);
        }
        let floor = Baseline::new("an edit of main.rs", Samples::new(floors).median());
        report.row("build.edit_counts", "s", Samples::new(times), floor);
        Ok(())
    }

    fn build_and_run(&self) -> anyhow::Result<f64> {
        let start = Instant::now();
        self.cargo(&self.source, &["build"])?;
        let program = self.target.join("debug/flights");
        run(Command::new(program).arg("--version"))?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Runs cargo in `dir` and says how many seconds it took.
    fn cargo(&self, dir: &Path, args: &[&str]) -> anyhow::Result<f64> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(dir)
            .args(args)
            .args(["--offline", "--quiet"]);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        let start = Instant::now();
        run(&mut cargo)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output =
        output.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {said}");
    }
    Ok(())
}

/// The published template, five gates a flight.
fn template(flights: usize) -> String {
    format!(
        "//! One large machine.\nuse machine_runtime::{{Basic, StateSource, states}};\n{TEMPLATE}\n\
         published!(Flights, {flights} by 5);\n"
    )
}

/// As many states without anything.
fn bare_enum(flights: usize) -> String {
    let names = [
        "OnTime",
        "Delayed",
        "Departed",
        "Arrived",
        "Scheduled",
        "Inbound",
        "Outbound",
        "GoToGate",
        "GateUnknown",
        "Gate1",
        "Gate2",
        "Gate3",
        "Gate4",
        "Gate5",
    ];
    let states =
        (1..=flights).flat_map(|flight| names.map(|name| format!("Flight{flight}{name},\n")));
    let states: String = states.collect();
    format!("//! One large enum.\n/// States.\n#[repr(u16)]\npub enum Flights {{\n{states}}}\n")
}
