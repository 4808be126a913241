use crate::support::{Program, command, run};

#[test]
fn what_cannot_be_is_exit_code_2_and_says_why() {
    let replicant = ["--addr=:0", "--parent=:1"];
    let root = ["--addr=:0"];
    let cases: [(&[&str], &[&str], &str); 17] = [
        (
            &replicant,
            &["--state-dir=x"],
            "--state-dir is for a root, which keeps the history of all that follow it; this node follows",
        ),
        (&root, &["--durability=relaxed"], "--state-dir <DIR>"),
        (
            &root,
            &["--state-dir=x", "--durability=never"],
            "such as `relaxed=100ms`",
        ),
        (&root, &["--select=flight=1"], "--select is for replicants"),
        (
            &replicant,
            &["--select=Flight1OnTim"],
            "did you mean `Flight1OnTime`?",
        ),
        (
            &replicant,
            &["--select=group=Gate"],
            "did you mean `Gates`?",
        ),
        (&replicant, &["--select=flight=0"], "is a number from 1 to"),
        (
            &replicant,
            &["--parent=:1"],
            "--parent: 127.0.0.1:1 is there twice",
        ),
        (
            &replicant,
            &["--granularity=some"],
            "[possible values: latest, every]",
        ),
        (
            &root,
            &["--heartbeat=3s"],
            "--heartbeat 3s has to be less than --stale-after 3s",
        ),
        (
            &root,
            &["--heartbeat=21s", "--stale-after=1m"],
            "20s at most",
        ),
        (&root, &["--stale-after=1s"], "has to be less than"),
        (&root, &["--ring=0"], "--ring 0"),
        (
            &root,
            &["--ring-bytes=1k"],
            "--ring-bytes 1024: it is 4096 at least",
        ),
        (
            &root,
            &["--max-frame=10k"],
            "a snapshot or a write of these states takes up to",
        ),
        (&root, &["--max-frame=16m"], "a frame has 16777215 at most"),
        (
            &root,
            &["--prefer-every=0s"],
            "it has to be longer than nothing",
        ),
    ];
    for (node, args, part) in cases {
        let ended = run(&[&["node"], node, args].concat());
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    let ended = run(&["tree", "--fanout=1", "--push-interval=1ms,2ms"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let why = "--push-interval: 2 times for 1 tiers of followers";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}

#[test]
fn the_environment_says_what_flags_do_not() {
    let wrong = [
        ("TST_HEARTBEAT", "5s"),
        ("TST_RING", "0"),
        ("TST_RING_BYTES", "1"),
        ("TST_MAX_FRAME", "1"),
        ("TST_STALE_AFTER", "1ms"),
        ("TST_GRANULARITY", "x"),
        ("TST_PREFER_EVERY", "x"),
        ("TST_DRAIN_WITHIN", "x"),
        ("TST_PARENT_INTERVAL", "x"),
        ("TST_DURABILITY", "relaxed"),
        ("TST_SELECT", "Ready"),
    ];
    for (name, value) in wrong {
        let mut node = command(&["node", "--addr=:0"]);
        let ended = crate::support::run_command(node.env(name, value));
        assert_eq!(ended.code, Some(2), "{name}: {ended:?}");
    }
    let mut node = command(&["node", "--addr=:0", "--heartbeat=1s", "--ring=7"]);
    node.envs([("TST_HEARTBEAT", "5s"), ("TST_RING", "0")]);
    let node = Program::start_command(&mut node);
    node.line_after("root: tarpc ");
    assert!(node.interrupt().success());
}
