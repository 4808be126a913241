//! `flights debug` on what was recorded, as text.

use super::{SMALL, record};
use crate::support::{Folder, run};

#[test]
fn a_recording_of_a_tree_is_shown() {
    let folder = Folder::new("shown");
    record(&folder, 2, &SMALL);
    let path = folder.path().to_str().unwrap();
    let keys = ":s Flight1OnTime<enter>Gp4";
    let ended = run(&["debug", path, "--frame", "130x40", "--keys", keys]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let screen = ended.stdout;
    assert_eq!(screen.lines().count(), 40);
    for text in ["root", "rep-1", "Transition", "Timeline", "accepted"] {
        assert!(screen.contains(text), "{text} is missing:\n{screen}");
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let ended = run(&["debug", "--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--frame 120x40"), "{}", ended.stderr);
    let ended = run(&["debug", "--frame", "80x24", "--keys", "<nope>"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("`<nope>` is no key"),
        "{}",
        ended.stderr
    );
    let ended = run(&["debug", "no/such.amrec", "--frame", "80x24"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no/such.amrec"), "{}", ended.stderr);
}
