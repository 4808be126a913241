use std::time::Duration;

use super::*;

fn transition() -> Sequence {
    Sequence {
        title: "transition 7 of root".to_owned(),
        caller: "POST /v1/mutations".to_owned(),
        machine: "root".to_owned(),
        called: "add Flight1Delayed".to_owned(),
        steps: vec![Step {
            relation: Some(Relation::Remove),
            text: "Flight1Delayed removes Flight1OnTime".to_owned(),
            refused: false,
        }],
        handlers: vec![Ran {
            name: "enter of Flight1Delayed".to_owned(),
            took: Some(Duration::from_micros(12)),
            refused: Some("gate 2 is held".to_owned()),
        }],
        changes: vec![Changed {
            state: "Flight1Delayed".to_owned(),
            tick: 3,
        }],
        outcome: "canceled".to_owned(),
        canceled: true,
    }
}

#[test]
fn a_transition_in_all_languages() {
    let sequence = transition();
    let mermaid = "---
title: \"transition 7 of root\"
---
sequenceDiagram
  participant p0 as POST /v1/mutations
  participant p1 as root
  participant p2 as relations
  participant p3 as handlers
  participant p4 as states
  p0->>p1: add Flight1Delayed
  p1->>p2: remove#58; Flight1Delayed removes Flight1OnTime
  p1->>p3: enter of Flight1Delayed (12.0µs)
  p3--xp1: gate 2 is held
  p1->>p4: Flight1Delayed active, tick 3
  p1--xp0: canceled
";
    assert_eq!(sequence.to(Format::Mermaid).unwrap(), mermaid);
    let d2 = sequence.to(Format::D2).unwrap();
    assert!(
        d2.contains("  p3 -> p1: \"gate 2 is held\" {style.stroke: \"#c92a2a\"}\n"),
        "{d2}"
    );
    let dot = sequence.to(Format::Dot).unwrap();
    assert!(
        dot.contains("label=\"1. POST /v1/mutations → root\\nadd Flight1Delayed\""),
        "{dot}"
    );
    assert!(dot.contains("m4 -> m5;"), "{dot}");
    let found = texts(&sequence.to(Format::Svg).unwrap());
    for text in [
        "gate 2 is held",
        "Flight1Delayed active, tick 3",
        "handlers",
        "root",
    ] {
        assert!(
            found.iter().any(|known| known == text),
            "{text} in {found:?}"
        );
    }
}

#[test]
fn a_transition_is_data_and_bounded() {
    let mut sequence = transition();
    let hostile = HOSTILE.join(" ");
    let step = Step {
        relation: None,
        text: hostile.repeat(10),
        refused: true,
    };
    sequence.steps = vec![step; 10_000];
    sequence.caller = hostile.clone();
    sequence.called = "\n".to_owned();
    for format in Format::ALL {
        let text = sequence.to(format).unwrap();
        assert!(text.len() < 100_000, "{format}");
        let is_markup = matches!(format, Format::Mermaid | Format::Svg);
        assert!(!(is_markup && text.contains("<script")), "{format}");
        assert!(text.contains("9938"), "{format}: {text}");
        if format == Format::Svg {
            texts(&text);
        } else {
            assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'));
        }
    }
}
