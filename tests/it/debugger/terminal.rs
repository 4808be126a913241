//! The debugger in a real terminal, on a real tree.

use super::record;
use crate::support::terminal::Terminal;
use crate::support::{Folder, Program, run};

/// A debugger in a terminal of this size, and where it waits for nodes.
fn debugger(name: &str, size: (u16, u16)) -> (Terminal, String) {
    let terminal = Terminal::start(name, size, &["debug", "--listen", "127.0.0.1:0"]);
    let addr = terminal.until("where it listens", |screen| {
        let addr = &screen[screen.find("127.0.0.1:")?..];
        let port = &addr["127.0.0.1:".len()..];
        let end = port.find(|char: char| !char.is_ascii_digit())?;
        Some(format!("127.0.0.1:{}", &port[..end]))
    });
    (terminal, addr)
}

/// A tree of nine nodes that replays the day within some seconds and tells `addr`.
fn tree(addr: &str) -> Program {
    let tree = ["tree", "--rpc-port=0", "--http-port=0", "--speed=14400x"];
    Program::start(&[&tree[..], &["--debug-addr", addr]].concat())
}

#[test]
fn a_tree_is_followed_searched_and_scrubbed_and_its_end_is_seen() {
    let (terminal, addr) = debugger("tree", (120, 40));
    let tree = tree(&addr);
    // The tree with its tiers, all of which tell.
    terminal.until("nine nodes", |screen| {
        let nodes = ["root", "rep-1", "rep-2", "├─rep-1-1", "└─rep-2-3"];
        nodes.iter().all(|node| screen.contains(node)).then_some(())
    });
    terminal.shows("following");
    tree.line_after("all 9 nodes are at ");
    // A state is found as it is typed, and its last change is gone to.
    terminal.keys(&["2"]);
    terminal.types("/flight3gotogate");
    terminal.keys(&["Enter"]);
    terminal.shows("Flight3GoToGate #");
    terminal.keys(&["p", "4"]);
    terminal.until("its last end", |screen| {
        let ended = screen
            .lines()
            .any(|line| line.contains("Flight3GoToGate ended"));
        (ended && screen.contains("paused")).then_some(())
    });
    terminal.keys(&["p"]);
    terminal.shows("Flight3GoToGate began");
    // Small and large.
    terminal.resize((80, 24));
    terminal.until("a small screen", |screen| {
        let fits = screen.lines().all(|line| line.chars().count() <= 80);
        (fits && screen.contains("Flight3GoToGate") && screen.contains("q quit")).then_some(())
    });
    terminal.resize((250, 80));
    terminal.until("all panes at once", |screen| {
        let panes = [
            "Machines",
            "Schema",
            "Timeline",
            "Transition",
            "Log",
            "Rain",
            "Lens",
            "Why",
        ];
        panes.iter().all(|pane| screen.contains(pane)).then_some(())
    });
    // Why it is as it is, and what would change that.
    terminal.keys(&["8", "s"]);
    terminal.shows("remove Flight3GoToGate");
    // The help teaches, and goes.
    terminal.keys(&["?"]);
    terminal.shows("follow what comes");
    terminal.keys(&["Escape"]);
    // A tree that ends is seen to.
    assert!(tree.interrupt().success());
    terminal.keys(&["T"]);
    terminal.shows("ended");
    terminal.keys(&["q"]);
    terminal.shows("ended with 0");
}

#[test]
fn a_killed_node_is_seen_at_a_glance_and_comes_back() {
    let (terminal, addr) = debugger("killed", (100, 30));
    let args = [
        "tree",
        "--processes",
        "--fanout=1",
        "--rpc-port=0",
        "--http-port=0",
    ];
    let tree = Program::start(&[&args[..], &["--random=20ms", "--debug-addr", &addr]].concat());
    terminal.shows("rep-1");
    let pid = terminal.until("two processes", |screen| {
        let rep = screen.split("rep-1 (").nth(1)?;
        rep.split(')').next()?.parse::<u32>().ok()
    });
    crate::support::signal("KILL", pid);
    let again = terminal.until("another process", |screen| {
        let pids = screen.split("rep-1 (").skip(1);
        let mut pids = pids.filter_map(|rest| rest.split(')').next()?.parse::<u32>().ok());
        pids.find(|other| *other != pid)
    });
    assert!(crate::support::is_running(again));
    assert!(tree.interrupt().success());
}

#[test]
fn without_a_terminal_or_on_a_taken_port_it_says_what_to_do() {
    let ended = run(&["debug", "--listen", "127.0.0.1:0"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("--frame"), "{}", ended.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let terminal = Terminal::start("taken", (100, 30), &["debug", "--listen", &addr]);
    let screen = terminal.shows("ended with 1");
    assert!(
        screen.contains(&addr) && screen.contains("--listen"),
        "{screen}"
    );
}

#[test]
fn a_recording_opens_like_a_tree_and_its_screen_can_be_printed() {
    let folder = Folder::new("opened");
    let path = folder.path().to_str().unwrap();
    record(&folder, 2, &["--fanout=1", "--speed=14400x"]);
    let keys = ":s Flight1Departed<enter>n4";
    let printed = run(&["debug", path, "--frame", "100x30", "--keys", keys]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(
        printed.stdout.contains("Flight1Departed began"),
        "{}",
        printed.stdout
    );
    let terminal = Terminal::start("opened", (100, 30), &["debug", path]);
    terminal.shows("rep-1");
    terminal.types(":s Flight1Departed");
    terminal.keys(&["Enter", "n", "4"]);
    terminal.shows("Flight1Departed began");
    terminal.keys(&["q"]);
    terminal.shows("ended with 0");
}
