//! `flights replay`: whether the core does what was recorded, or what that was.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use machine_node::debugging::{JsonLines, Recording, Replay};

use crate::cli::{ReplayArgs, Usage};

/// How many divergences are told before it is enough.
const TOLD: usize = 10;

/// Does what was recorded once more and says what came of it; or prints it, as it was recorded.
///
/// # Errors
///
/// If anything came out otherwise, or a recording is damaged; [`Usage`] if there is none.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let recording = Recording::open(&args.paths);
    let recording = recording.map_err(|error| Usage(error.to_string()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let wrong = if args.json {
        print(recording, &mut out)?
    } else {
        check(recording, &mut out)?
    };
    out.flush()?;
    drop(out);
    anyhow::ensure!(wrong == 0, "{wrong} things were wrong, see above");
    Ok(())
}

fn print(mut recording: Recording, out: &mut impl Write) -> anyhow::Result<usize> {
    let mut wrong = Vec::new();
    // Those of each file by themselves: files of several processes come in turns.
    let mut lines = BTreeMap::<Arc<Path>, JsonLines>::new();
    loop {
        match recording.next_frame() {
            Ok(Some(recorded)) => {
                let lines = lines.entry(Arc::clone(&recorded.file)).or_default();
                writeln!(out, "{}", lines.write(&recorded.frame)?)?;
            }
            Ok(None) => break,
            Err(error) => wrong.push(error),
        }
    }
    for error in recording.torn() {
        tracing::warn!("{error}");
    }
    out.flush()?;
    // What is printed is for programs; this is for whoever runs them.
    for error in &wrong {
        tracing::error!("{error}");
    }
    Ok(wrong.len())
}

fn check(mut recording: Recording, out: &mut impl Write) -> anyhow::Result<usize> {
    let mut replay = Replay::new();
    let mut wrong = 0;
    let mut tell = |out: &mut dyn Write, what: &dyn std::fmt::Display| -> io::Result<()> {
        wrong += 1;
        if wrong <= TOLD {
            writeln!(out, "{what}")?;
        }
        Ok(())
    };
    loop {
        match recording.next_frame() {
            Ok(Some(recorded)) => {
                if let Err(divergence) = replay.take(&recorded) {
                    tell(out, &divergence)?;
                }
            }
            Ok(None) => break,
            Err(error) => tell(out, &error)?,
        }
    }
    // As a process leaves it that is killed: all that is whole was looked at.
    let torn = recording.torn();
    for error in &torn {
        writeln!(out, "{error}")?;
    }
    if wrong > TOLD {
        writeln!(out, "and {} more", wrong - TOLD)?;
    }
    let files = recording.files().len();
    let report = replay.report();
    // That nothing was looked at is no success.
    let nothing = report.skipped > 0 && report.transitions == 0 && report.deltas == 0;
    let verdict = if wrong > 0 {
        "not reproduced"
    } else if nothing {
        wrong = 1;
        "nothing reproduced, as there is no key to begin with"
    } else if !torn.is_empty() {
        "all that is whole was reproduced, and the end is torn"
    } else if report.gaps > 0 || report.skipped > 0 {
        "reproduced but for what is missing"
    } else {
        "reproduced"
    };
    writeln!(out, "{files} files: {report}: {verdict}")?;
    Ok(wrong)
}
