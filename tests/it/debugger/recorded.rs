use std::path::PathBuf;
use std::time::Duration;

use flights::states::Flights;
use flights::tower::Tower;
use machine_node::debugging::{
    DebugConfig, Debugging, RecordFormat, RecordOptions, Recording, Replay, Subject,
};
use machine_node::node::start_machine;
use machine_node::shutdown::{PATIENCE, Tasks};
use machine_node::telemetry::Logs;
use machine_runtime::debug::frame::Body;
use machine_runtime::observe::{Interest, Observers};
use machine_runtime::{Machine, Mutation};

use super::{SMALL, record};
use crate::support::{Folder, run};

fn files(folder: &Folder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_tree_records_each_node_and_all_of_it_is_reproduced() {
    let folder = Folder::new("recorded");
    record(&folder, 2, &SMALL);
    let files = files(&folder);
    let names: Vec<_> = files
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names.len(), 2);
    assert!(
        names[0].starts_with("rep-1-2") && names[1].starts_with("root-2"),
        "{names:?}"
    );
    let path = folder.path().to_str().unwrap();
    let ended = run(&["replay", path]);
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
    let said = ended.stdout.trim_end();
    assert!(
        said.starts_with("2 files: 1 machines, ") && said.ends_with(": reproduced"),
        "{said}"
    );

    // What is printed is what was recorded, an object a line, and the last word of the recorded.
    let ended = run(&["replay", "--json", path]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = ended.stdout.lines();
    let lines: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |what: &str| {
        lines
            .iter()
            .filter(|line| line["body"].get(what).is_some())
            .count()
    };
    assert_eq!((count("Hello"), count("Machine")), (2, 2));
    assert!(count("Transition") > 800 && count("Followed") > 0);
    assert_eq!(lines.last().unwrap()["body"], "Gone");

    // A torn and a damaged file are told, and what is readable of them is read.
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes.truncate(bytes.len() - 5);
    std::fs::write(&files[1], &bytes).unwrap();
    let ended = run(&["replay", path]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("ends within the block at byte"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("all that is whole was reproduced"));
    std::fs::write(&files[0], "no recording, but a text that is long").unwrap();
    let ended = run(&["replay", "--json", path]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("rep-1-") && ended.stderr.contains("damaged"),
        "{}",
        ended.stderr
    );
}

#[test]
fn processes_of_a_tree_record_as_they_are_told() {
    let folder = Folder::new("recorded-processes");
    let processes = ["--processes", "--record-format=json", "--record-keep=5"];
    record(&folder, 2, &[&SMALL[..], &processes].concat());
    let files = files(&folder);
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(
        files
            .iter()
            .all(|file| file.to_str().unwrap().ends_with(".jsonl.gz"))
    );
    let ended = run(&["replay", folder.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
}

#[test]
fn what_is_not_there_or_no_recording_is_wrong_usage() {
    let folder = Folder::new("no-recording");
    let path = folder.path().to_str().unwrap();
    for (path, said) in [
        (path, "no recording in it"),
        ("/nonexistent/x.amrec", "x.amrec"),
    ] {
        let ended = run(&["replay", path]);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let ended = run(&["node", "--addr", ":0", "--record", "/dev/null/x"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot record into /dev/null/x"),
        "{}",
        ended.stderr
    );
}

/// The tower refuses gates that are taken, and closes some by itself.
#[tokio::test]
async fn what_the_tower_decides_is_reproduced() {
    let folder = Folder::new("recorded-tower");
    let tasks = Tasks::default();
    let observers = Observers::new();
    let machine = Machine::<Flights>::new().with(Tower);
    let root = start_machine(machine, &observers, &tasks).await.unwrap();
    let mut options = RecordOptions::new(folder.path());
    options.format = RecordFormat::Binary;
    options.flush = Duration::from_millis(10);
    let mut config = DebugConfig::default();
    config.record = Some(options);
    let debugging = Debugging::start("tests 1", &config, &Logs::default(), &tasks).unwrap();
    debugging.add(&Subject::root("root", &root, &observers));
    while !observers.wants(Interest::CHANGES) {
        tokio::task::yield_now().await;
    }
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..100 {
        let mut mutations = Vec::new();
        for _ in 0..100 {
            let state = Flights::ALL[rng.usize(0..Flights::ALL.len())];
            mutations.push(match rng.u8(0..5) {
                0 => Mutation::remove(state),
                1 => Mutation::add([state, Flights::ALL[rng.usize(0..Flights::ALL.len())]]),
                _ => Mutation::add(state),
            });
        }
        root.mutate_all(mutations).await.unwrap();
    }
    let last = root.checkpoint().await.unwrap().sequence;
    assert_eq!(tasks.finish(PATIENCE).await, 0);
    let mut recording = Recording::open([folder.path()]).unwrap();
    let mut replay = Replay::new();
    let (mut refused, mut sequence) = (0, 0);
    while let Some(recorded) = recording.next_frame().unwrap() {
        replay.take(&recorded).unwrap();
        if let Body::Transition(transition) = &recorded.frame.body {
            sequence = transition.sequence;
            let why = transition.canceled.as_ref();
            refused += usize::from(why.is_some_and(|why| why.code() == "refused"));
        }
    }
    assert_eq!(sequence, last);
    let report = replay.report();
    assert!(
        report.transitions >= 10_000 && report.gaps == 0 && refused > 10,
        "{report}"
    );
}
