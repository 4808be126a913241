use std::collections::HashSet;

use super::*;
use crate::state::States as _;
use crate::{Basic, StateDef, states};

mod transitions;

states! {
    counts = { flights = 40, gates = 15 };

    enum Flights: Basic {
        for flight in 1..=flights {
            exclusive Status {
                Flight{flight}OnTime,
                Flight{flight}Delayed,
                Flight{flight}Departed,
                #[auto]
                Flight{flight}Scheduled,
            }
            exclusive Direction { Flight{flight}Inbound, Flight{flight}Outbound }
            #[require(Flight{flight}Outbound)]
            Flight{flight}GoToGate,
            exclusive Gates {
                Flight{flight}GateUnknown,
                for gate in 1..=gates { Flight{flight}Gate{gate} }
            }
        }
    }
}

fn door() -> Schema {
    let schema = Schema::builder("Door")
        .state(StateDef::new("Open").remove(["Locked", "Shut"]))
        .state(StateDef::new("Shut").remove(["Open"]).auto())
        .state(StateDef::new("Locked").require(["Shut"]).after(["Shut"]))
        .state(StateDef::new("Rung").multi().add(["Open"]))
        .group("Leaf", ["Open", "Shut"]);
    schema.build().unwrap()
}

fn of(selection: Selection) -> Options {
    Options {
        selection,
        ..Options::default()
    }
}

/// The names that a picture shows, read as XML is.
fn texts(svg: &str) -> Vec<String> {
    let picture = roxmltree::Document::parse(svg).unwrap();
    let texts = picture.descendants().filter(roxmltree::Node::is_text);
    texts
        .filter_map(|text| text.text())
        .map(|text| text.trim().to_owned())
        .collect()
}

#[test]
fn a_schema_in_all_languages() {
    let schema = door();
    let options = Options {
        ticks: Some(vec![0, 2, 3, 1, 0]),
        highlighted: vec![3],
        ..Options::default()
    };
    let graph = Graph::new(&schema, &options).unwrap();
    assert_eq!(graph.active(), 2);
    let mermaid = r#"---
title: "Door: 5 states, 2 active"
---
flowchart LR
  n0(["Exception<br/>multi<br/>tick 0"])
  n3(["Locked<br/>tick 1"])
  n4(["Rung<br/>multi<br/>tick 0"])
  subgraph c0["Leaf (one of)"]
    n1(["Open<br/>tick 2"])
    n2(["Shut<br/>auto<br/>tick 3"])
  end
  n1 --x|remove| n3
  n3 -->|require| n2
  n3 -.->|after| n2
  n4 ==>|add| n1
  linkStyle 1 stroke:#1864ab,color:#1864ab
  linkStyle 3 stroke:#2b8a3e,color:#2b8a3e
  linkStyle 0 stroke:#c92a2a,color:#c92a2a
  linkStyle 2 stroke:#868e96,color:#868e96
  classDef s0 fill:#f1f3f5,stroke:#495057,stroke-width:1px,color:#212529
  class n0,n1,n4 s0
  classDef s1 fill:#8ce99a,stroke:#2b8a3e,stroke-width:2px,color:#212529
  class n2 s1
  classDef s2 fill:#8ce99a,stroke:#e8590c,stroke-width:4px,color:#212529
  class n3 s2
"#;
    assert_eq!(graph.to(Format::Mermaid).unwrap(), mermaid);
    let dot = graph.to(Format::Dot).unwrap();
    for line in [
        "digraph {",
        "  subgraph cluster_0 {",
        "    label=\"Leaf (one of)\";",
        "    n2 [label=\"Shut\\nauto\\ntick 3\" fillcolor=\"#8ce99a\" color=\"#2b8a3e\" penwidth=2 \
         style=\"filled,rounded\"];",
        "  n1 -> n3 [label=\"remove\" color=\"#c92a2a\" fontcolor=\"#c92a2a\" style=dashed arrowhead=tee];",
        "}",
    ] {
        assert!(dot.lines().any(|known| known == line), "{line}\n{dot}");
    }
    let d2 = graph.to(Format::D2).unwrap();
    for line in [
        "c0: \"Leaf (one of)\" {",
        "  n2: \"Shut\\nauto\\ntick 3\" {style.fill: \"#8ce99a\"; style.stroke: \"#2b8a3e\"; \
         style.stroke-width: 2; style.font-color: \"#212529\"; style.border-radius: 8}",
        "n3 -> c0.n2: \"require\" {style.stroke: \"#1864ab\"; style.font-color: \"#1864ab\"}",
    ] {
        assert!(d2.lines().any(|known| known == line), "{line}\n{d2}");
    }
    let found = texts(&graph.to(Format::Svg).unwrap());
    for text in [
        "Open",
        "Leaf (one of)",
        "auto, tick 3",
        "require",
        "after",
        "remove",
        "add",
    ] {
        assert!(
            found.iter().any(|known| known == text),
            "{text} in {found:?}"
        );
    }
}

#[test]
fn selections_are_shown_in_every_format() {
    let schema = Flights::schema();
    let all = Selection::all();
    let flight = all.clone().value(schema, "flight", "3").unwrap();
    let selections = [
        (
            all.clone(),
            vec!["Flight1…40Delayed", "Flight1…40Gate1…15", "Exception"],
        ),
        (
            all.clone().group(schema, "Status").unwrap(),
            vec!["Flight1…40Delayed"],
        ),
        (
            all.clone().group(schema, "Flight3Status").unwrap(),
            vec!["Flight3Delayed"],
        ),
        (
            flight.clone(),
            vec!["Flight3Delayed", "Flight3Gate15", "Flight3GoToGate"],
        ),
        (
            flight.group(schema, "Gates").unwrap(),
            vec!["Flight3Gate15", "Flight3GateUnknown"],
        ),
        (
            all.clone().around(schema, "Flight3Outbound").unwrap(),
            vec!["Flight3Outbound", "Flight3Inbound", "Flight3GoToGate"],
        ),
    ];
    for (selection, names) in selections {
        let graph = Graph::new(schema, &of(selection)).unwrap();
        assert!(graph.nodes.len() <= 40, "{}", graph.title);
        for format in Format::ALL {
            let text = graph.to(format).unwrap();
            for name in &names {
                assert!(text.contains(name), "{name} in {text}");
            }
        }
    }
    let narrow = all.value(schema, "flight", "1").unwrap();
    let narrow = narrow.group(schema, "Flight2Status").unwrap();
    assert_eq!(Graph::new(schema, &of(narrow)), Err(SelectError::Nothing));
}

#[test]
fn neighbours_are_told_from_what_they_surround() {
    let schema = door();
    let around = Selection::all().around(&schema, "Locked").unwrap();
    let graph = Graph::new(&schema, &of(around)).unwrap();
    let nodes: Vec<_> = graph
        .nodes
        .iter()
        .map(|node| (&*node.label, node.neighbour, node.highlighted))
        .collect();
    let expected = [
        ("Open", true, false),
        ("Shut", true, false),
        ("Locked", false, true),
    ];
    assert_eq!(nodes, expected);
    assert_eq!(graph.title, "Door, around Locked: 3 of 5 states");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let schema = Flights::schema();
    let all = Selection::all;
    let wrong = [
        all().group(schema, "Statuss").map(|_| ()),
        all().value(schema, "flihgt", "1").map(|_| ()),
        all().value(schema, "gate", "16").map(|_| ()),
        all().value(schema, "gate", "x").map(|_| ()),
        all().around(schema, "Flight3Delayd").map(|_| ()),
    ];
    let told = wrong.map(|wrong| wrong.unwrap_err().to_string());
    let expected = [
        "unknown group `Statuss`, did you mean `Status`?",
        "unknown loop variable `flihgt`: there is flight, gate",
        "`gate` is a number from 1 to 15",
        "`gate` is a number from 1 to 15",
        "unknown state `Flight3Delayd`, did you mean `Flight3Delayed`?",
    ];
    assert_eq!(told, expected);
    assert!("png".parse::<Format>().is_err());
}

#[test]
fn families_and_groups_are_counted() {
    let schema = Flights::schema();
    let departed = schema.find("Flight7Departed").unwrap();
    let mut ticks = vec![0; schema.len()];
    ticks[departed] = 5;
    let mut options = Options {
        ticks: Some(ticks),
        ..Options::default()
    };
    let graph = Graph::new(schema, &options).unwrap();
    let node = |graph: &Graph, label: &str| {
        let found = graph.nodes.iter().find(|node| node.label == label);
        found.map(|node| (node.states, node.active, node.notes.clone()))
    };
    let notes = ["40 states", "1 active"].map(str::to_owned).to_vec();
    assert_eq!(node(&graph, "Flight1…40Departed"), Some((40, 1, notes)));
    let gates = graph.edges.iter().find(|edge| edge.count == 40).unwrap();
    assert_eq!(gates.label(), "require ×40");
    assert_eq!(graph.nodes[gates.from].label, "Flight1…40GoToGate");
    assert_eq!(graph.nodes[gates.to].label, "Flight1…40Outbound");
    options.max_nodes = 14;
    let graph = Graph::new(schema, &options).unwrap();
    let notes = ["40 × one of 4 states", "1 active"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(node(&graph, "Status"), Some((160, 1, notes)));
    options.max_nodes = usize::MAX;
    let graph = Graph::new(schema, &options).unwrap();
    assert_eq!(graph.nodes.len(), schema.len());
    let flight = graph
        .clusters
        .iter()
        .find(|cluster| cluster.label == "flight 7");
    assert_eq!(flight.map(|cluster| cluster.parent), Some(None));
    assert!(matches!(
        graph.to(Format::Svg),
        Err(NoPicture::TooLarge { .. })
    ));
}

#[test]
fn a_large_schema_has_few_nodes() {
    let mut large = Schema::builder("Large");
    for i in 0..15_000 {
        let before = format!("Row{}Cell{}", (i + 14_999) % 15_000 / 100, (i + 99) % 100);
        let state = StateDef::new(format!("Row{}Cell{}", i / 100, i % 100));
        large = large.state(state.require([before]));
    }
    let mut words = Schema::builder("Words");
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
    for i in 0..15_000 {
        let name: String = [i, i / 26, i / 676, i / 17_576]
            .map(letter)
            .iter()
            .collect();
        words = words.state(StateDef::new(name).remove(["Exception"]));
    }
    for (schema, nodes) in [(large, 2), (words, MAX_NODES)] {
        let schema = schema.build().unwrap();
        assert_eq!(schema.len(), 15_001);
        let graph = Graph::new(&schema, &Options::default()).unwrap();
        assert_eq!(graph.nodes.len(), nodes, "{}", graph.title);
        let states: usize = graph.nodes.iter().map(|node| node.states).sum();
        assert_eq!(states, schema.len());
        for format in Format::ALL {
            assert!(graph.to(format).unwrap().len() < 100_000);
        }
    }
}

#[test]
fn relations_are_bounded_and_what_is_left_out_is_told() {
    let names =
        || (0..60).map(|i| format!("{}{}", char::from(b'A' + i / 26), char::from(b'A' + i % 26)));
    let mut dense = Schema::builder("Dense");
    for name in names() {
        dense = dense.state(StateDef::new(name).after(names()));
    }
    let dense = dense.build().unwrap();
    let graph = Graph::new(&dense, &Options::default()).unwrap();
    assert_eq!((graph.nodes.len(), graph.edges.len()), (61, 600));
    assert!(
        graph.title.ends_with(", 2940 relations left out"),
        "{}",
        graph.title
    );
    assert!(graph.to(Format::Svg).is_ok());
}

/// Names that mean something in one of the languages.
const HOSTILE: [&str; 16] = [
    "end",
    "\"]; subgraph x",
    "<script>alert(1)</script>",
    "a\nb",
    "%%{init: {'theme':'dark'}}%%",
    "${x} $1",
    "\\\" -> \\N \\n",
    "A & B &quot; #quot; #35;",
    "`x` **bold** <br/>",
    "]] --> n0",
    "style: #fff; click n0",
    "\u{202e}gnp.exe\u{7}\u{1b}[31m\u{0}",
    "\u{1}n0",
    "",
    "   ",
    "日本語 ünïcode 🛫",
];

#[test]
fn names_are_data() {
    let mut schema = Schema::builder("\"];\n</title>");
    for (i, name) in HOSTILE.iter().enumerate() {
        let other = HOSTILE[(i + 1) % HOSTILE.len()];
        schema = schema.state(StateDef::new(*name).require([other]));
    }
    let schema = schema
        .group("\"] </g> ${g}", HOSTILE[..4].iter().copied())
        .build()
        .unwrap();
    let graph = Graph::new(&schema, &Options::default()).unwrap();
    let mermaid = graph.to(Format::Mermaid).unwrap();
    let nodes = mermaid.lines().filter(|line| line.contains("([\""));
    assert_eq!(nodes.count(), schema.len());
    for line in mermaid.lines().skip(4) {
        let quotes = line.matches('"').count();
        assert!(quotes == 0 || quotes == 2, "{line}");
        assert!(
            !line.contains("%%") && !line.contains("<s") && !line.contains('`'),
            "{line}"
        );
    }
    assert!(mermaid.contains("[\"#101;nd"), "{mermaid}");
    for format in [Format::Dot, Format::D2] {
        let text = graph.to(format).unwrap();
        for line in text.lines() {
            let may_substitute = format == Format::Dot;
            assert!(is_quoted_well(line, may_substitute), "{format}: {line}");
        }
    }
    let dot = graph.to(Format::Dot).unwrap();
    layout::gv::DotParser::new(&dot).process().unwrap();
    let svg = graph.to(Format::Svg).unwrap();
    let found: HashSet<String> = texts(&svg).into_iter().collect();
    for name in [
        "end",
        "<script>alert(1)</script>",
        "${x} $1",
        "日本語 ünïcode 🛫",
        "a\u{fffd}b",
    ] {
        assert!(found.contains(name), "{name} in {found:?}");
    }
    assert!(!svg.contains("<script"));
}

/// Whether every string of a line ends on it.
fn is_quoted_well(line: &str, may_substitute: bool) -> bool {
    let mut is_open = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if is_open => {
                letters.next();
            }
            '"' => is_open = !is_open,
            '$' if !may_substitute => return false,
            _ => {}
        }
    }
    !is_open
}

#[test]
fn any_graph_is_drawn() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..8 {
        let nodes = random.usize(1..40);
        let edges = random.usize(0..80);
        let name = |node: usize| format!("N{}", char::from(b'0' + u8::try_from(node).unwrap()));
        let graph = Graph {
            title: String::new(),
            nodes: (0..nodes)
                .map(|node| Node {
                    label: name(node),
                    notes: Vec::new(),
                    states: 1,
                    active: 0,
                    highlighted: false,
                    neighbour: false,
                    cluster: random.bool().then(|| random.usize(0..5)),
                })
                .collect(),
            clusters: (0..5)
                .map(|place: usize| Cluster {
                    label: place.to_string(),
                    parent: place.checked_sub(1).filter(|_| random.bool()),
                })
                .collect(),
            edges: (0..edges)
                .map(|_| Edge {
                    from: random.usize(0..nodes),
                    to: random.usize(0..nodes),
                    relation: Relation::ALL[random.usize(0..4)],
                    count: random.usize(1..3),
                    mutual: random.bool(),
                })
                .collect(),
        };
        let found: HashSet<String> = texts(&graph.to(Format::Svg).unwrap()).into_iter().collect();
        assert!((0..nodes).all(|node| found.contains(&name(node))));
    }
}
