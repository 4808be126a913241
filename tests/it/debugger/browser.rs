//! The debugger in a real browser.

use super::record;
use crate::support::Folder;
use crate::support::browser::page;
use crate::support::terminal::Terminal;

#[test]
fn browsers_read_a_tree_each_at_a_moment_of_its_own() {
    let folder = Folder::new("browsers");
    let path = folder.path().to_str().unwrap();
    record(&folder, 2, &["--fanout=1", "--speed=14400x"]);
    let args = ["debug", path, "--http", "127.0.0.1:0"];
    let terminal = Terminal::start("browsers", (120, 40), &args);
    let url = terminal.until("where browsers are answered", |screen| {
        let line = &screen[screen.find("http://127.0.0.1:")?..];
        Some(line[..line.find("/\n").or_else(|| line.find("/ "))?].to_owned())
    });
    terminal.shows("rep-1");
    // At the end: the machines, what happened, what led to what.
    let live = std::thread::scope(|scope| {
        let live = scope.spawn(|| page("live", &format!("{url}/"), 8000));
        // Another at the same time, who looks for a flight.
        let other = page("search", &format!("{url}/#q=EV4099&at=0"), 8000);
        assert!(other.contains(r#"data-ready="1""#), "{other}");
        assert!(other.contains("Flight2Outbound"), "{other}");
        assert!(
            !other.contains("add Flight1Arrived"),
            "what is not searched\n{other}"
        );
        live.join().unwrap()
    });
    let texts = [
        r#"data-ready="1""#,
        "root",
        "rep-1",
        "Arrived",
        "replicated",
    ];
    for text in texts {
        assert!(live.contains(text), "no `{text}` in\n{live}");
    }
    // The diagram of a group, drawn by the debugger, and the sequence of the transition.
    for (tab, text) in [("graph", "graph.svg?"), ("sequence", "sequence.svg?")] {
        let drawn = page(tab, &format!("{url}/#tab={tab}&group=Status"), 8000);
        assert!(
            drawn.contains(r#"data-ready="1""#) && drawn.contains(text),
            "{drawn}"
        );
    }
    terminal.keys(&["q"]);
    terminal.shows("ended with 0");
}
