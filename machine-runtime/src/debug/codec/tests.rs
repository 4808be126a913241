use std::fmt::Write;

use super::super::frame::{Ask, Frame};
use super::super::samples;
use super::*;

/// What version 1 made of [`samples::frames`]: whoever changes this changes [`VERSION`].
const RECORDED: &str = include_str!("version-1.hex");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[test]
fn frames_are_the_bytes_that_were_recorded() {
    let mut lines = vec![hex(&preamble())];
    for frame in samples::frames() {
        let bytes = encode(&frame).unwrap();
        assert_eq!(decode::<Frame>(&bytes).unwrap(), frame);
        lines.push(hex(&bytes));
    }
    let asks = [
        Ask::Hello {
            version: 1,
            process: 0xabc << 64,
            last: 300,
        },
        Ask::Waiters { machine: 3 },
    ];
    for ask in asks {
        let bytes = encode(&ask).unwrap();
        assert_eq!(decode::<Ask>(&bytes).unwrap(), ask);
        lines.push(hex(&bytes));
    }
    let recorded: Vec<_> = RECORDED.lines().collect();
    assert_eq!(lines, recorded, "\n{}", lines.join("\n"));
}

#[test]
fn frames_stand_one_behind_the_other() {
    let frames = samples::frames();
    let mut bytes = Vec::new();
    for frame in &frames {
        append(frame, &mut bytes).unwrap();
    }
    let whole = bytes.len();
    bytes.extend([0, 0, 0, 9, 1]);
    let mut rest = bytes.as_slice();
    let mut read = Vec::new();
    while let Some(frame) = split(&mut rest).unwrap() {
        read.push(decode::<Frame>(frame).unwrap());
    }
    assert_eq!(read, frames);
    assert_eq!(bytes.len() - rest.len(), whole);
}

#[test]
fn another_version_and_another_protocol_are_named() {
    let mut other = preamble();
    assert_eq!(check_preamble(other), Ok(()));
    other[7] = 9;
    let error = check_preamble(other).unwrap_err().to_string();
    assert!(
        error.contains("version 9") && error.contains(&VERSION.to_string()),
        "{error}"
    );
    let error = check_preamble(*b"GET / HT").unwrap_err().to_string();
    assert!(error.contains("GET / HT"), "{error}");
}

#[test]
fn what_is_no_frame_is_an_error() {
    let bytes = encode(&samples::frames()[3]).unwrap();
    for len in 0..bytes.len() {
        assert!(decode::<Frame>(&bytes[..len]).is_err());
    }
    let mut more = bytes.to_vec();
    more.push(0);
    let error = decode::<Frame>(&more).unwrap_err().to_string();
    assert!(error.contains("1 bytes too many"), "{error}");
    let error = split(&mut [0xff; 9].as_slice()).unwrap_err();
    assert_eq!(
        error,
        CodecError::TooLong {
            len: 0xffff_ffff,
            most: MAX_FRAME
        }
    );
}
