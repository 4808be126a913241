//! The walk through the default tree in `docs/walk.md`: made here, and held against what is there.
//! `WRITE_DOCS=1 cargo test --test it walk` writes it anew.

use super::record;
use crate::support::{Folder, run};

/// What is done, what it is for, and what has to be on the screen then.
struct Step {
    words: &'static str,
    size: &'static str,
    keys: &'static str,
    shows: &'static [&'static str],
}

const INTRO: &str = "\
# A walk through the tree

Flight EV4099 to St. Louis left late on the shipped day. When was that first known, why could it leave then,
and which node of the second tier was the last to know? Each screen below is printed by the program: a test
does this walk anew on each run and finds the same, but for times.

A tree replays the day and is recorded; the same keys work on a live tree, where `flights debug` needs no
arguments:

```console
$ flights --speed 7200x --record day
$ flights debug day
```
";

const WALK: [Step; 5] = [
    Step {
        words: "\
## Which slot shows the flight

`3` goes to the timeline, `/` searches its transitions: by states, payloads and reasons. Of more than 800 one
has `EV4099`; `Home` goes there, `4` to the transition. The flight is in slot 2, in place of one that has
departed.",
        size: "100x30",
        keys: "3/EV4099<enter><home>4",
        shows: &[
            "1 / 1 shown of",
            "add Flight2Outbound",
            r#""flight":"EV4099""#,
            "Flight2Departed ended",
        ],
    },
    Step {
        words: "\
## When it was first delayed

`:s Flight2Delayed` selects the state, `n` goes to its next change, `z` gives the pane all the room. The feed
called it from outside, a handler of the root's looked at the estimate and another set a timer, and
`Flight2Scheduled` went, as the two exclude each other.",
        size: "100x30",
        keys: ":s Flight2Delayed<enter>n4z",
        shows: &[
            "add Flight2Delayed",
            "● accepted",
            r#"{"until":"09:31""#,
            "enter     Flight2Delayed",
            "Flight2Scheduled goes, as Flight2Delayed removes it",
        ],
    },
    Step {
        words: "\
## Why it could leave

Its departure is the next change of `Flight2Departed`. It was accepted: the one handler that was asked is
that of the gate, which a flight keeps only while it boards, and `Departed` ends the boarding. What else ended
with it, and by which relation, is in the steps; the end of the gate appended a mutation of its own, which
opens it.",
        size: "100x44",
        keys: ":s Flight2Delayed<enter>n:s Flight2Departed<enter>n4z",
        shows: &[
            "add Flight2Departed, Flight2GateUnknown",
            "● accepted",
            "exit      Flight2Gate3",
            "Flight2GoToGate goes, as Flight2Departed removes it",
            "0 waited before, 1 after",
            "remove Gate3Closed",
        ],
    },
    Step {
        words: "\
## Who saw it last

`7` is the lens: every replica at this one position of the root, with how much later it came there and how
far behind it was at that moment. `same` says that all ticks are those that the root had then.",
        size: "100x24",
        keys: ":s Flight2Delayed<enter>n:s Flight2Departed<enter>n7z",
        shows: &["8 of 8 reached it, the last +", "rep-2-3 same", "rep-1-1 same"],
    },
    Step {
        words: "\
## What if

`8` says why a state is as it is, and `s` which smallest mutations would change that: here a moment before
the departure, at which the delayed flight boards. They are tried on a copy of the machine as it was, by
relations; nothing is asked of the node.",
        size: "100x24",
        keys: ":s Flight2Delayed<enter>n:s Flight2Departed<enter>n<left>8sz",
        shows: &["Flight2Departed is not active", "add Flight2Departed"],
    },
];

#[test]
fn the_walk_through_the_tree_finds_what_the_documentation_says() {
    let folder = Folder::new("walk");
    let path = folder.path().to_str().unwrap();
    record(&folder, 9, &["--speed=7200x"]);
    let mut page = INTRO.to_owned();
    for step in &WALK {
        let printed = run(&["debug", path, "--frame", step.size, "--keys", step.keys]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        for text in step.shows {
            let screen = &printed.stdout;
            assert!(screen.contains(text), "no `{text}` in\n{screen}");
        }
        let lines = printed.stdout.lines().map(str::trim_end);
        let screen: Vec<_> = lines.collect();
        let (words, keys, size) = (step.words, step.keys, step.size);
        let part = format!(
            "\n{words}\n\n```console\n$ flights debug day --frame {size} --keys '{keys}'\n```\n\n\
             ```text\n{}\n```\n",
            screen.join("\n")
        );
        page.push_str(&part);
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/walk.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(file, &page).unwrap();
    }
    let there = std::fs::read_to_string(file).unwrap();
    assert_eq!(without_screens(&there), without_screens(&page));
}

/// The page without what differs from run to run.
fn without_screens(page: &str) -> String {
    let mut is_screen = false;
    let mut rest = String::new();
    for line in page.lines() {
        is_screen = (is_screen && line != "```") || line == "```text";
        if !is_screen {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    rest
}
