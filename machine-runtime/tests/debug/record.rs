//! Recordings: what a machine did, and whether it does the same once more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use machine_runtime::debug::file::{self, Format};
use machine_runtime::debug::frame::{Body, Change, Frame, Line, PROCESS};
use machine_runtime::debug::link::LINES;
use machine_runtime::debug::record::{RecordOptions, Recorder};
use machine_runtime::debug::recording::{Recorded, Recording};
use machine_runtime::debug::replay::{Divergence, Replay};
use machine_runtime::debug::subject::Subject;
use machine_runtime::observe::Interest;
use machine_runtime::{Basic, Final, Machine, Mutation, Negotiation, Verdict, handlers, states};
use tokio::time::timeout;

use crate::fixtures::{PATIENCE, Root, Running, eventually};

states! {
    counts = { doors = 6 };

    /// Doors that are tied, with handlers that refuse, panic, and append.
    pub enum House: Basic {
        for door in 1..=doors {
            exclusive Leaf { Door{door}Open, #[auto] Door{door}Shut }
            #[require(Door{door}Shut)]
            Door{door}Locked,
            #[multi] #[payload(u32)]
            Door{door}Knock,
        }
        #[auto] #[require(Door1Locked, Door2Locked)]
        Safe,
        #[after(Safe)] #[add(Alarm)]
        Burglar,
        #[multi]
        Alarm,
    }
}

struct Keeper;

#[handlers(House)]
impl Keeper {
    #[enter(open)]
    fn is_quiet(&self, asked: &mut Negotiation<'_, House>, _door: usize) -> Verdict {
        if asked.tick(House::Alarm) % 4 == 3 {
            return Verdict::refuse("there is an alarm");
        }
        Verdict::Accept
    }

    #[enter(shut)]
    fn shuts(&self, asked: &mut Negotiation<'_, House>, door: usize) -> bool {
        (asked.tick(House::Alarm) + door as u64) % 3 != 1
    }

    #[state(Burglar)]
    fn flees(&mut self, told: &mut Final<'_, House>) {
        told.add(House::open(4));
        assert!(told.tick(House::Alarm) % 5 != 4, "too loud");
    }
}

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("record-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn root() -> Root<House> {
    Root::new(Machine::new().with(Keeper), |rng| {
        let state = House::ALL[rng.usize(0..House::ALL.len())];
        match rng.u8(0..8) {
            0..=1 => Mutation::remove(state),
            2 => Mutation::set([state, House::Start]),
            3 => Mutation::toggle(state),
            _ => Mutation::add(state),
        }
    })
}

impl Root<House> {
    fn subject(&self) -> Subject {
        Subject::root("ro/ot", &self.handle, &self.observers)
    }
}

fn record(
    options: RecordOptions,
    subjects: impl IntoIterator<Item = Subject>,
) -> (Recorder, Running) {
    let recorder = Recorder::new("tests 1", options).unwrap();
    for subject in subjects {
        recorder.add(subject);
    }
    let running = Running::new(|stop| recorder.clone().run(stop));
    (recorder, running)
}

fn options(folder: &Folder, format: Format) -> RecordOptions {
    let mut options = RecordOptions::new(&folder.0);
    options.format = format;
    options.flush = Duration::from_millis(5);
    options
}

fn frames<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Vec<Recorded> {
    let mut recording = Recording::open(paths).unwrap();
    let frames = std::iter::from_fn(|| recording.next_frame().unwrap()).collect();
    assert!(recording.torn().is_empty());
    frames
}

fn replay<'a>(frames: impl IntoIterator<Item = &'a Recorded>) -> (Replay, Vec<Divergence>) {
    let mut replay = Replay::new();
    let wrong = frames
        .into_iter()
        .filter_map(|frame| replay.take(frame).err());
    let wrong = wrong.collect();
    (replay, wrong)
}

#[tokio::test]
async fn what_a_machine_with_handlers_did_is_reproduced_from_both_formats() {
    for format in Format::ALL {
        let folder = Folder::new(format.name());
        let root = root();
        root.work(1, 50).await;
        let (_, mut running) = record(options(&folder, format), [root.subject()]);
        eventually(|| root.observers.wants(Interest::CHANGES)).await;
        for seed in 2..12 {
            root.work(seed, 200).await;
        }
        let last = root.handle.checkpoint().await.unwrap().sequence;
        running.stop().await;
        assert!(!root.observers.wants(Interest::CHANGES));
        let files = folder.files();
        let name = files[0].file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("ro_ot-2") && name.ends_with(format.extension()),
            "{name}"
        );
        let frames = frames([&folder.0]);
        assert!(matches!(frames[0].frame.body, Body::Hello(_)));
        assert!(matches!(frames[1].frame.body, Body::Machine(_)));
        assert!(matches!(frames.last().unwrap().frame.body, Body::Gone));
        let told = frames
            .iter()
            .filter_map(|recorded| match &recorded.frame.body {
                Body::Transition(transition) => Some(transition),
                _ => None,
            });
        let told: Vec<_> = told.collect();
        assert_eq!(told.last().unwrap().sequence, last);
        assert!(
            told.iter().any(|t| !t.left_out.is_empty()),
            "an auto state was refused"
        );
        let has = |code: &str| {
            told.iter()
                .any(|t| t.canceled.as_ref().is_some_and(|r| r.code() == code))
        };
        assert!(has("refused") && has("panicked") && has("missing"));
        let (replay, wrong) = replay(&frames);
        assert_eq!(wrong, []);
        let report = replay.report();
        assert_eq!((report.machines, report.gaps), (1, 0));
        assert_eq!(report.transitions, told.len() as u64);
        assert!(
            report.canceled > 100 && report.transitions > 2000,
            "{report}"
        );
    }
}

#[tokio::test]
async fn a_recording_goes_on_in_other_files_and_old_ones_go() {
    let folder = Folder::new("rotate");
    std::fs::write(folder.0.join("ro_ot-notes.amrec.txt"), "mine").unwrap();
    let root = root();
    let mut how = options(&folder, Format::Binary);
    how.size = 4000;
    how.keep = 3;
    let (_, mut running) = record(how, [root.subject()]);
    let newest = |folder: &Folder| {
        let files = folder.files();
        let names = files.iter().filter_map(|file| file.file_stem()?.to_str());
        let counts = names.filter_map(|name| name.rsplit_once('-')?.1.parse::<u32>().ok());
        counts.max()
    };
    let mut seed = 1;
    while newest(&folder) < Some(6) {
        root.work(seed, 300).await;
        seed += 1;
        tokio::task::yield_now().await;
    }
    running.stop().await;
    let files = folder.files();
    assert_eq!(files.len(), 4, "{files:?}");
    let (replay, wrong) = replay(&frames([&folder.0]));
    assert_eq!(wrong, []);
    // Each file begins with a key that the one before led to.
    let report = replay.report();
    assert!(report.keys >= 2 && report.gaps == 0, "{report}");
    // Each can be read alone, and a missing one is a gap.
    for file in &files[..3] {
        let (replay, wrong) = self::replay(&frames([file]));
        assert!(wrong.is_empty() && replay.report().machines == 1);
    }
    let (replay, wrong) = self::replay(&frames([&files[0], &files[2]]));
    assert!(wrong.is_empty() && replay.report().gaps == 1);
}

#[tokio::test]
async fn a_replica_and_lines_are_recorded_and_read_while_they_are_written() {
    let folder = Folder::new("replica");
    let mut root = root();
    let replica = root.replica().await;
    let subjects = [replica.subject.clone()];
    let (recorder, mut running) = record(options(&folder, Format::Binary), subjects);
    eventually(|| replica.observers.wants(Interest::CHANGES)).await;
    root.follow(replica);
    root.work(1, 300).await;
    let line = Line {
        level: 1,
        target: "tests".into(),
        text: "of it".into(),
    };
    recorder.log(Some("replica"), line);
    eventually(|| !folder.files().is_empty()).await;
    let mut recording = Recording::open([&folder.0]).unwrap();
    let (mut replay, mut lines) = (Replay::new(), 0);
    let mut at = None;
    let read = async {
        while at != root.handle.view().position() || lines == 0 {
            let Some(next) = recording.next_frame().unwrap() else {
                tokio::task::yield_now().await;
                continue;
            };
            replay.take(&next).unwrap();
            match &next.frame.body {
                Body::Key(key) => at = Some(key.position),
                Body::Followed(told) => at = Some(told.position),
                Body::Log(line) => lines += usize::from(line.text == "of it"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, read).await.expect("what was not written");
    let report = replay.report();
    assert!(report.replicas == 1 && report.deltas > 0, "{report}");
    running.stop().await;
}

fn transition(frame: &mut Frame) -> &mut machine_runtime::debug::frame::Transition {
    match &mut frame.body {
        Body::Transition(transition) => transition,
        _ => unreachable!("it was picked"),
    }
}

#[tokio::test]
async fn what_was_tampered_with_is_found_where_it_is() {
    let folder = Folder::new("tamper");
    let root = root();
    let (_, mut running) = record(options(&folder, Format::Binary), [root.subject()]);
    eventually(|| root.observers.wants(Interest::CHANGES)).await;
    root.work(5, 400).await;
    running.stop().await;
    let good = frames([&folder.0]);
    let tamper = |change: &dyn Fn(&mut Vec<Frame>)| {
        let mut frames: Vec<_> = good.iter().map(|recorded| recorded.frame.clone()).collect();
        change(&mut frames);
        let path = folder.0.join("tampered.amrec");
        let _ = std::fs::remove_file(&path);
        file::write(&path, Format::Binary, frames).unwrap();
        let (_, wrong) = replay(&self::frames([path]));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        wrong.into_iter().next().unwrap()
    };
    let nth = |frames: &mut Vec<Frame>, nth: usize| {
        let mut transitions = (0..frames.len()).filter(|i| {
            matches!(&frames[*i].body, Body::Transition(t) if !t.changes.is_empty() && t.is_accepted())
        });
        transitions.nth(nth).unwrap()
    };
    // A state that ticked is another.
    let wrong = tamper(&|frames| {
        let at = nth(frames, 100);
        let of = transition(&mut frames[at]);
        of.changes[0].state = u32::try_from(House::Burglar.index()).unwrap();
    });
    assert!(wrong.why.contains("was recorded to tick"), "{wrong}");
    assert!(
        wrong
            .to_string()
            .contains("tampered.amrec: ro/ot, transition"),
        "{wrong}"
    );
    // A tick is there too often.
    let wrong = tamper(&|frames| {
        let at = nth(frames, 7);
        transition(&mut frames[at]).changes[0].ticks += 1;
    });
    assert!(wrong.sequence > 1 && wrong.position.revision > 1, "{wrong}");
    // A refused one is said to have been carried out.
    let wrong = tamper(&|frames| {
        let missing = |frame: &Frame| match &frame.body {
            Body::Transition(t) => t
                .canceled
                .as_ref()
                .is_some_and(|why| why.code() == "missing"),
            _ => false,
        };
        let at = frames.iter().position(missing).unwrap();
        transition(&mut frames[at]).canceled = None;
    });
    assert!(wrong.why.contains("relations refuse it: "), "{wrong}");
    assert!(wrong.why.contains("requires"), "{wrong}");
    // One is missing.
    let wrong = tamper(&|frames| {
        let at = nth(frames, 50);
        frames.remove(at);
    });
    assert!(wrong.why.contains("the one before it is"), "{wrong}");
    // A state that there is none of.
    let wrong = tamper(&|frames| {
        let at = nth(frames, 3);
        let change = Change {
            state: 4000,
            ticks: 1,
        };
        transition(&mut frames[at]).changes.push(change);
    });
    assert!(wrong.why.contains("4000"), "{wrong}");
    // A key of another machine.
    let wrong = tamper(&|frames| {
        for frame in frames {
            if let Body::Key(key) = &mut frame.body {
                key.ticks.pop();
            }
        }
    });
    assert!(wrong.why.contains("ticks"), "{wrong}");
}

#[tokio::test]
async fn where_nothing_can_be_written_the_node_goes_on() {
    let folder = Folder::new("nowhere");
    let file = folder.0.join("file");
    std::fs::write(&file, "in the way").unwrap();
    assert!(Recorder::new("tests 1", RecordOptions::new(&file)).is_err());
    let gone = folder.0.join("gone");
    let root = root();
    let mut how = options(&folder, Format::Binary);
    how.dir.clone_from(&gone);
    let recorder = Recorder::new("tests 1", how).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    recorder.add(root.subject());
    let _recording = Running::new(|stop| recorder.clone().run(stop));
    // It begins, and the node has done much by the time that it finds out.
    let has_begun = || {
        root.observers
            .lost()
            .iter()
            .any(|(name, _)| *name == "recorder")
    };
    let work = async {
        let mut seed = 0;
        while !has_begun() || recorder.is_on() || root.is_observed() {
            seed += 1;
            root.work(seed, 1000).await;
        }
    };
    timeout(PATIENCE, work).await.expect("it went on");
    root.work(1, 1000).await;
}

#[tokio::test]
async fn lines_that_find_no_room_are_counted() {
    let folder = Folder::new("lines");
    let root = root();
    let (recorder, mut running) = record(options(&folder, Format::Binary), [root.subject()]);
    eventually(|| root.is_observed()).await;
    let all = LINES + 100;
    for _ in 0..all {
        let line = Line {
            level: 3,
            target: "tests".into(),
            text: "one of many".into(),
        };
        recorder.log(Some("ro/ot"), line);
    }
    running.stop().await;
    let frames = frames([&folder.0]);
    let lines = frames
        .iter()
        .filter(|recorded| matches!(recorded.frame.body, Body::Log(_)));
    assert_eq!(lines.count(), LINES);
    let dropped = frames
        .iter()
        .filter_map(|recorded| match recorded.frame.body {
            Body::Dropped(lost) => Some((recorded.frame.machine, lost)),
            _ => None,
        });
    assert_eq!(dropped.collect::<Vec<_>>(), [(PROCESS, 100)]);
    // No transition is missing for it.
    let (replay, wrong) = replay(&frames);
    assert!(wrong.is_empty() && replay.report().gaps == 0);
}
