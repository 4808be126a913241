use std::io::Write;

use super::super::file::{self, Encoder, Writer};
use super::super::samples;
use super::*;

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("recording-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn all(recording: &mut Recording) -> Vec<Frame> {
    std::iter::from_fn(|| recording.next_frame().unwrap())
        .map(|recorded| recorded.frame)
        .collect()
}

#[test]
fn what_was_written_is_read_in_both_formats() {
    let folder = Folder::new("formats");
    let frames = samples::frames();
    for format in Format::ALL {
        let path = folder.file(&format!("a.{}", format.extension()));
        assert_eq!(Format::of(&path), Some(format));
        let count = file::write(&path, format, frames.clone()).unwrap();
        assert_eq!(count, frames.len() as u64);
        let mut recording = Recording::open([&path]).unwrap();
        assert_eq!(all(&mut recording), frames);
        assert!(recording.torn().is_empty());
        let error = file::write(&path, format, frames.clone()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    let mut both = Recording::open([&folder.0]).unwrap();
    assert_eq!(both.files().len(), 2);
    assert_eq!(all(&mut both).len(), 2 * frames.len());
}

#[test]
fn a_file_that_grows_and_files_that_come_are_followed() {
    let folder = Folder::new("tail");
    let frames = samples::frames();
    let path = folder.file("a.amrec");
    let mut writer = Writer::create(&path).unwrap();
    let mut encoder = Encoder::new(Format::Binary);
    encoder.push(&frames[0]).unwrap();
    writer.append(&encoder.take()).unwrap();
    let mut recording = Recording::open([&folder.0]).unwrap();
    assert_eq!(all(&mut recording), frames[..1]);
    encoder.push(&frames[1]).unwrap();
    writer.append(&encoder.take()).unwrap();
    assert_eq!(all(&mut recording), frames[1..2]);
    file::write(&folder.file("b.amrec"), Format::Binary, frames.clone()).unwrap();
    assert_eq!(all(&mut recording), frames);
    assert_eq!(recording.next_frame().unwrap(), None);
}

#[test]
fn a_torn_end_costs_the_last_block_until_it_is_whole() {
    let folder = Folder::new("torn");
    let frames = samples::frames();
    let whole = folder.file("whole.amrec");
    let mut writer = Writer::create(&whole).unwrap();
    let mut encoder = Encoder::new(Format::Binary);
    let mut ends = Vec::new();
    for frame in &frames {
        encoder.push(frame).unwrap();
        ends.push(writer.append(&encoder.take()).unwrap());
    }
    let bytes = std::fs::read(&whole).unwrap();
    let torn = folder.file("torn.amrec");
    for len in 0..bytes.len() {
        std::fs::write(&torn, &bytes[..len]).unwrap();
        let mut recording = Recording::open([&torn]).unwrap();
        let there = ends.iter().filter(|end| **end <= len as u64).count();
        assert_eq!(all(&mut recording), frames[..there]);
        let is_torn = len > 0 && !ends.contains(&(len as u64));
        assert_eq!(recording.torn().len(), usize::from(is_torn), "{len}");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&torn)
            .unwrap();
        file.write_all(&bytes[len..]).unwrap();
        assert_eq!(all(&mut recording), frames[there..]);
        assert!(recording.torn().is_empty());
    }
}

#[test]
fn damage_is_told_with_its_place_and_other_files_are_read() {
    let folder = Folder::new("damage");
    let frames = samples::frames();
    let (a, b) = (folder.file("a.amrec"), folder.file("b.jsonl.gz"));
    let mut writer = Writer::create(&a).unwrap();
    let mut encoder = Encoder::new(Format::Binary);
    encoder.push(&frames[0]).unwrap();
    let first = writer.append(&encoder.take()).unwrap();
    encoder.push(&frames[1]).unwrap();
    writer.append(&encoder.take()).unwrap();
    let mut bytes = std::fs::read(&a).unwrap();
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    std::fs::write(&a, bytes).unwrap();
    file::write(&b, Format::Json, frames.clone()).unwrap();
    let mut recording = Recording::open([&folder.0]).unwrap();
    assert_eq!(recording.next_frame().unwrap().unwrap().frame, frames[0]);
    let error = recording.next_frame().unwrap_err().to_string();
    assert!(
        error.contains("a.amrec") && error.contains(&format!("byte {first}")),
        "{error}"
    );
    assert_eq!(all(&mut recording), frames);

    let mut writer = Writer::create(&folder.file("c.jsonl.gz")).unwrap();
    writer.append(b"{\"no\":1}\n").unwrap();
    let error = recording.next_frame().unwrap_err().to_string();
    assert!(error.contains("c.jsonl.gz: line 1: "), "{error}");
    let mut writer = Writer::create(&folder.file("d.amrec")).unwrap();
    writer.append(b"AMDBG\x1a\0\x09").unwrap();
    let error = recording.next_frame().unwrap_err().to_string();
    assert!(
        error.contains("d.amrec") && error.contains("version 9"),
        "{error}"
    );
    std::fs::write(folder.file("e.amrec"), "no gzip at all, but long enough").unwrap();
    let error = recording.next_frame().unwrap_err().to_string();
    assert!(
        error.contains("e.amrec: damaged in the block at byte 0"),
        "{error}"
    );
    assert_eq!(recording.next_frame().unwrap(), None);
}

#[test]
fn what_is_not_there_is_named() {
    let folder = Folder::new("missing");
    let error = Recording::open([&folder.0]).unwrap_err().to_string();
    assert!(error.contains("no recording in it"), "{error}");
    let error = Recording::open([folder.file("x.amrec")]).unwrap_err();
    assert!(error.to_string().contains("x.amrec"), "{error}");
}

#[test]
fn a_block_that_grows_without_bound_is_refused() {
    let folder = Folder::new("bomb");
    let path = folder.file("a.amrec");
    let mut writer = Writer::create(&path).unwrap();
    writer.append(&vec![0; MAX_BLOCK + 1]).unwrap();
    let mut recording = Recording::open([path]).unwrap();
    let error = recording.next_frame().unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}
