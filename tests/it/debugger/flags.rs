use crate::support::{command, run, run_command};

#[test]
fn what_an_address_or_a_size_is_not_is_said() {
    for (args, said) in [
        (
            &["node", "--addr", ":0", "--debug-addr", "nowhere"][..],
            "--debug-addr",
        ),
        (&["tree", "--debug-addr", "x:99999"], "is no port"),
        (
            &[
                "node",
                "--addr",
                ":0",
                "--record",
                "x",
                "--record-size",
                "big",
            ],
            "64m",
        ),
        (
            &["tree", "--record", "x", "--record-format", "xml"],
            "binary or json",
        ),
        (&["tree", "--record-every", "0s"], "longer than nothing"),
        (&["replay"], "PATH"),
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
    let mut wrong = command(&["tree"]);
    let ended = run_command(wrong.env("AM_DBG_ADDR", "nowhere"));
    assert_eq!(ended.code, Some(2));
}

#[test]
fn options_of_a_tree_are_not_heard_in_front_of_replay() {
    let ended = run(&["--record", "x", "replay", "y"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("--record is heard only behind"),
        "{}",
        ended.stderr
    );
}
