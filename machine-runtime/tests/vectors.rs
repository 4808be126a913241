//! The machine does what its predecessor was recorded to do.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use machine_runtime::{DynState, Machine};

#[path = "../examples/conformance/subs.rs"]
mod subs;
#[path = "../examples/conformance/traced.rs"]
mod traced;
#[path = "../examples/conformance/vectors.rs"]
mod vectors;

use vectors::Verdict;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/vectors")
}

fn check(folder: &Path) -> (Verdict, String) {
    let mut out = Vec::new();
    let verdict = vectors::check_folder::<Machine<DynState>>(folder, &mut out).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

/// A folder for one test, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes the first recorded case of `relations`, changed by `change`.
fn changed(folder: &Path, change: impl Fn(&str) -> String) {
    changed_of("relations.jsonl.gz", folder, change);
}

fn changed_of(name: &str, folder: &Path, change: impl Fn(&str) -> String) {
    let mut text = String::new();
    let file = File::open(repository().join(name)).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let line = text.lines().next().unwrap();
    let changed = change(line);
    assert_ne!(line, changed);
    let file = File::create(folder.join(name)).unwrap();
    let mut file = GzEncoder::new(file, Compression::fast());
    file.write_all(changed.as_bytes()).unwrap();
    file.finish().unwrap();
}

#[test]
fn every_recorded_case_agrees() {
    let (verdict, text) = check(&repository());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "flights 18/18 cases agree (3922 steps), 0 apart",
            "handlers 438/438 cases agree (2732 steps), 27 apart",
            "queue 165/165 cases agree (798 steps), 0 apart",
            "relations 2250/2250 cases agree (28965 steps), 0 apart",
            "subs 165/165 cases agree (2008 steps), 0 apart",
        ]
    );
    assert_eq!(verdict, Verdict::Agreed);
}

#[test]
fn a_wrong_result_is_reported() {
    let folder = folder("wrong_result");
    changed(&folder, |case| case.replacen("executed", "canceled", 1));
    let (verdict, text) = check(&folder);
    assert_eq!(verdict, Verdict::Apart);
    assert!(
        text.starts_with("relations 0/1 cases agree (8 steps), 0 apart\n"),
        "{text}"
    );
    assert!(
        text.contains("case 1: step 2 (add [3, 6]): executed: expected false, got true"),
        "{text}"
    );
}

#[test]
fn a_wrong_tick_is_reported() {
    let folder = folder("wrong_tick");
    changed(&folder, |case| {
        case.replacen("[0,0,0,1,0,0,2,0]", "[0,0,0,1,0,0,4,0]", 1)
    });
    let (verdict, text) = check(&folder);
    assert_eq!(verdict, Verdict::Apart);
    assert!(
        text.contains("step 2 (add [3, 6]): ticks: expected"),
        "{text}"
    );
}

#[test]
fn a_wrong_order_is_reported() {
    let folder = folder("wrong_order");
    changed(&folder, |case| {
        case.replacen(r#""active":["C"]"#, r#""order":[3,3],"active":["C"]"#, 1)
    });
    let (verdict, text) = check(&folder);
    assert_eq!(verdict, Verdict::Apart);
    assert!(
        text.contains("step 2 (add [3, 6]): order: expected [3, 3], got [3]"),
        "{text}"
    );
}

#[test]
fn who_is_told_too_early_or_never_is_reported() {
    let folder = folder("wrong_subscription");
    let closes = [r#""closes":4"#, r#""closes":5"#];
    for [from, to] in [closes, [r#""closes":null"#, r#""closes":9"#]] {
        changed_of("subs.jsonl.gz", &folder, |case| case.replacen(from, to, 1));
        let (verdict, text) = check(&folder);
        assert_eq!(verdict, Verdict::Apart);
        assert!(
            text.starts_with("subs 0/1 cases agree (11 steps)"),
            "{text}"
        );
        assert!(text.contains("Subscription {"), "{text}");
    }
}

#[test]
fn a_case_with_a_quirk_is_run_apart() {
    let folder = folder("quirk");
    let quirk = r#"{"quirks":["self-skip"],"id""#;
    changed(&folder, |case| {
        case.replacen("executed", "canceled", 1)
            .replacen(r#"{"id""#, quirk, 1)
    });
    let expected = "relations 0/0 cases agree (0 steps), 1 apart\n".to_owned();
    assert_eq!(check(&folder), (Verdict::Agreed, expected));
}

#[test]
fn a_malformed_file_is_named_with_its_line() {
    let folder = folder("malformed");
    changed(&folder, |case| format!("{case}\n{{\"id\":2}}\n"));
    let (verdict, text) = check(&folder);
    assert_eq!(verdict, Verdict::Incomplete);
    assert!(
        text.contains("relations.jsonl.gz: line 2: missing field `states`"),
        "{text}"
    );
    fs::write(
        folder.join("relations.jsonl.gz"),
        "this text is not compressed",
    )
    .unwrap();
    let (verdict, text) = check(&folder);
    assert_eq!(verdict, Verdict::Incomplete);
    assert!(
        text.contains("relations.jsonl.gz: line 1: invalid gzip header"),
        "{text}"
    );
}

#[test]
fn an_empty_or_missing_folder_is_incomplete() {
    let folder = folder("empty");
    let (verdict, text) = check(&folder);
    assert_eq!(verdict, Verdict::Incomplete);
    assert!(text.contains("no file named <name>.jsonl.gz"), "{text}");
    let (verdict, _) = check(&folder.join("missing"));
    assert_eq!(verdict, Verdict::Incomplete);
}
