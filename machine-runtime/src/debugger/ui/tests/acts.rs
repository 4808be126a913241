//! What keys and the mouse do.

use super::*;
use crate::debugger::ui::action::{Action, BINDINGS, Scope};

fn name(app: &App) -> String {
    App::read(&app.store)
        .machine(app.machine.unwrap())
        .name()
        .to_owned()
}

fn place(app: &App) -> usize {
    app.visible
        .as_ref()
        .unwrap()
        .place(app.cursor.unwrap())
        .unwrap()
}

#[test]
fn time_moves_by_one_ten_a_hundred_and_to_both_ends() {
    let mut app = sample_app((80, 24));
    assert_eq!(app.follow, Follow::Tail);
    let last = place(&app);
    press(&mut app, "<left>");
    assert_eq!((place(&app), app.follow), (last - 1, Follow::Paused));
    press(&mut app, "[");
    assert_eq!(place(&app), last - 11);
    press(&mut app, "]}");
    assert_eq!(place(&app), last);
    press(&mut app, "{");
    assert_eq!(place(&app), 0);
    press(&mut app, "Gg<right>");
    assert_eq!(place(&app), 1);
    press(&mut app, "T");
    assert_eq!((place(&app), app.follow), (last, Follow::Tail));
}

#[test]
fn all_machines_are_at_one_time() {
    let mut app = sample_app((80, 24));
    press(&mut app, ":rev 3<enter>");
    let wall = app.wall;
    press(&mut app, "m");
    assert_eq!((name(&app).as_str(), app.wall), ("rep-1", wall));
    // It had not come there yet.
    let store = Arc::clone(&app.store);
    let store = App::read(&store);
    let shown = store
        .machine(app.machine.unwrap())
        .position(app.cursor.unwrap());
    assert_eq!(shown.revision, 2);
    press(&mut app, "M");
    assert_eq!((name(&app).as_str(), app.wall), ("root", wall));
}

#[test]
fn a_state_leads_from_change_to_change() {
    let mut app = sample_app((80, 24));
    press(&mut app, ":s Flight1Boarding<enter>p");
    let ended = app.cursor.unwrap();
    press(&mut app, "p");
    let began = app.cursor.unwrap();
    assert!(began < ended);
    assert!(app.moment.as_ref().unwrap().is_active(app.state.unwrap()));
    press(&mut app, "n");
    assert_eq!(app.cursor, Some(ended));
    press(&mut app, "n");
    assert!(
        app.notice.text.contains("no later change"),
        "{:?}",
        app.notice
    );
}

#[test]
fn errors_and_refusals_are_found() {
    let mut app = sample_app((80, 24));
    let mut found = 0;
    press(&mut app, "g");
    loop {
        let before = app.cursor;
        press(&mut app, "x");
        if app.cursor == before {
            break;
        }
        found += 1;
    }
    assert!(found >= 3, "{found}");
    assert!(app.notice.text.contains("no later error"));
    press(&mut app, "X");
    assert!(app.entry.is_some());
}

#[test]
fn times_revisions_and_addresses_are_gone_to() {
    let mut app = sample_app((80, 24));
    press(&mut app, ":10:00:01<enter>");
    assert_eq!(words::clock(app.wall), "10:00:01.000");
    press(&mut app, ":m rep-1-1<enter>");
    assert_eq!(name(&app), "rep-1-1");
    let effects = press(&mut app, "y");
    let Some(Effect::Copy(address)) = effects.into_iter().next() else {
        panic!("nothing was copied");
    };
    let cursor = app.cursor;
    press(&mut app, "G:m root<enter>");
    press(&mut app, &format!(":{address}<enter>"));
    assert_eq!((name(&app).as_str(), app.cursor), ("rep-1-1", cursor));
    for wrong in [
        ":rev x<enter>",
        ":m nobody<enter>",
        ":s Redy<enter>",
        ":25:00<enter>",
    ] {
        press(&mut app, wrong);
        assert!(app.notice.is_trouble, "{wrong}");
    }
    assert_eq!(app.cursor, cursor);
}

#[test]
fn before_its_first_entry_a_machine_is_not_there_yet() {
    let mut app = sample_app((80, 24));
    press(&mut app, ":09:00:00<enter>");
    assert_eq!(app.cursor, None);
    assert!(app.notice.text.contains("outside of what is held"));
    press(&mut app, "4");
    let shown = screen(&app);
    assert!(shown.contains("not there yet at this moment"), "{shown}");
    let to = |keys: &str| {
        let mut app = sample_app((80, 24));
        press(&mut app, ":09:00:00<enter>");
        press(&mut app, keys);
        let history = app.store.read().unwrap();
        let history = history.machine(app.machine.unwrap());
        history.position(app.cursor.unwrap()).revision
    };
    assert_eq!(to(":rev 6<enter>"), 6);
    press(&mut app, ":s Flight1<enter>");
    assert!(
        app.notice.text.contains("so begin Flight1"),
        "{:?}",
        app.notice
    );
    assert!(to("x") < 12);
    assert!(to(":s Heartbeat<enter>n") < 12);
}

#[test]
fn what_is_hidden_is_passed_over() {
    let mut app = sample_app((80, 24));
    let all = app.visible.as_ref().unwrap().len();
    press(&mut app, "f<space><down><space><esc>");
    assert!(app.filter.hide_canceled && app.filter.hide_auto);
    let shown = app.visible.as_ref().unwrap().len();
    assert!(shown < all);
    assert!(screen(&app).contains("hidden (f)"));
    press(&mut app, "3/Flight1Boarding<enter>");
    assert!(app.visible.as_ref().unwrap().len() < shown);
    press(&mut app, "<esc>");
    assert_eq!(app.visible.as_ref().unwrap().len(), shown);
    press(&mut app, "f<down><down><down><down><down><enter><enter>");
    assert!(app.filter.group.is_some());
}

#[test]
fn playing_ends_at_the_end() {
    let mut app = sample_app((80, 24));
    press(&mut app, "g<space>>");
    assert_eq!(app.follow, Follow::Playing);
    let all = app.visible.as_ref().unwrap().len();
    for _ in 0..all {
        assert!(app.tick().is_some());
        app.update(Message::Tick);
    }
    assert_eq!((place(&app), app.follow), (all - 1, Follow::Paused));
}

#[test]
fn marks_are_set_listed_and_deleted() {
    let mut app = sample_app((80, 24));
    press(&mut app, ":rev 4<enter>bfourth<enter>GB<enter>");
    let store = Arc::clone(&app.store);
    let revision = App::read(&store)
        .machine(app.machine.unwrap())
        .position(app.cursor.unwrap());
    assert_eq!(revision.revision, 4);
    press(&mut app, ":s Ready<enter>!");
    assert_eq!((app.bookmarks.len(), app.breakpoints.len()), (1, 1));
    press(&mut app, "Bxx");
    assert_eq!((app.bookmarks.len(), app.breakpoints.len()), (0, 0));
    press(&mut app, "<esc>!!");
    assert!(app.breakpoints.is_empty());
}

#[test]
fn following_stops_at_a_breakpoint() {
    use crate::debug::frame::{Body, Change, Frame, Transition};
    let mut app = sample_app((80, 24));
    press(&mut app, ":s Heartbeat<enter>!");
    let (machine, state) = (app.machine.unwrap(), app.state.unwrap());
    let shared = Arc::clone(&app.store);
    {
        let mut store = shared.write().unwrap();
        let last = store.machine(machine).last().unwrap();
        let entry = store.machine(machine).entry(last);
        let process = store.process(store.machine(machine).process());
        let (hello, number) = (process.hello().clone(), process.last_frame());
        let stream = store.connect(&hello).unwrap().stream;
        let Body::Transition(told) = &entry.body else {
            panic!("{entry:?}");
        };
        for n in 1..=3 {
            // It begins again at once first, which is neither a begin nor an end.
            let changes = match n {
                2 => vec![Change { state, ticks: 2 }],
                3 => vec![Change { state, ticks: 1 }],
                _ => Vec::new(),
            };
            let told = Transition {
                sequence: told.sequence + n,
                revision: told.revision + n.saturating_sub(1),
                changes,
                ..(**told).clone()
            };
            let frame = Frame {
                number: number + n,
                wall: entry.wall + n,
                mono: entry.mono + n,
                machine: 1,
                body: Body::Transition(Box::new(told)),
            };
            store.apply(stream, frame).unwrap();
        }
    }
    app.update(Message::Told);
    assert_eq!(app.follow, Follow::Paused);
    assert!(
        app.notice.text.starts_with("stopped: Heartbeat"),
        "{:?}",
        app.notice
    );
    assert!(app.has_changed(state));
    let end = shared.read().unwrap().machine(machine).end();
    assert_eq!(app.cursor, Some(end - 1));
}

#[test]
fn rows_lead_to_what_they_name() {
    let mut app = sample_app((120, 40));
    // To a cause or an effect, in whichever machine it is.
    press(&mut app, ":rev 6<enter>4");
    let rows = &app.lists[Pane::Transition.place()].rows;
    let effect = rows
        .iter()
        .position(|row| row.line.to_string().contains("rep-1-1"));
    let effect = effect.unwrap_or_else(|| panic!("{rows:#?}"));
    press(&mut app, &"j".repeat(effect));
    press(&mut app, "<enter>");
    assert_eq!(name(&app), "rep-1-1");
    // To a state, and its relations.
    press(&mut app, ":m root<enter>2/Flight1Boarding<enter>");
    assert_eq!(
        app.name_of(&App::read(&Arc::clone(&app.store)), app.state.unwrap())
            .unwrap(),
        "Flight1Boarding"
    );
    press(&mut app, "<enter>");
    assert!(screen(&app).contains("require "), "{}", screen(&app));
}

#[test]
fn the_mouse_selects_and_jumps() {
    let mut app = sample_app((120, 40));
    let area = app.area_of(Pane::Machines).unwrap();
    click(&mut app, area.x + 3, area.y + 3);
    assert_eq!(name(&app), "rep-1");
    let area = app.area_of(Pane::Timeline).unwrap();
    click(&mut app, area.right() - 3, area.y + 1);
    let late = app.wall;
    click(&mut app, area.x + 16, area.y + 1);
    assert!(app.wall < late);
    assert_eq!(app.focus, Pane::Timeline);
    let area = {
        press(&mut app, ":m root<enter>G6");
        app.area_of(Pane::Rain).unwrap()
    };
    let before = app.cursor;
    let column = area.x + 1 + u16::try_from(pane::rain::BEFORE).unwrap();
    click(&mut app, column + 2, area.y + 12);
    assert_ne!(app.cursor, before);
    assert_eq!(app.state, Some(2));
    // The keys at the bottom are buttons.
    press(&mut app, "z");
    let column = screen(&app).lines().last().unwrap().find("help").unwrap();
    click(&mut app, u16::try_from(column).unwrap() - 2, 39);
    assert!(app.overlay.is_some());
}

#[test]
fn each_action_is_carried_out_from_its_key() {
    for binding in BINDINGS {
        let mut app = sample_app((120, 40));
        press(&mut app, ":s Ready<enter>hh");
        match binding.scope {
            Scope::In(pane) => app.focus_on(pane),
            Scope::Lists => {
                press(&mut app, "f");
            }
            Scope::Everywhere(_) => {}
        }
        let before = format!("{app:?}");
        let key = binding.keys[0].event();
        let effects = app.update(Message::Key(key));
        let quiet = [
            Action::Close,
            Action::Delete,
            Action::NextView,
            Action::ZoomOut,
            Action::ZoomAll,
        ];
        let changed = before != format!("{app:?}") || !effects.is_empty();
        let at_end = matches!(
            binding.action,
            Action::Up
                | Action::Open
                | Action::PageUp
                | Action::PreviousMachine
                | Action::Show(Pane::Machines)
                | Action::Write
        );
        assert!(
            changed || at_end || quiet.contains(&binding.action),
            "{:?} did nothing",
            binding.action
        );
        screen(&app);
    }
}

#[test]
fn what_is_tried_is_told_and_changes_nothing() {
    let mut app = sample_app((120, 40));
    press(
        &mut app,
        ":rev 6<enter>:s Flight3Boarding<enter>8tFlight3B<tab><enter>",
    );
    let shown = screen(&app);
    assert!(
        shown.contains("add Flight3Boarding would be accepted"),
        "{shown}"
    );
    assert!(shown.contains("Flight3Scheduled ends"), "{shown}");
    press(&mut app, "t<c-u>add Flight1Scheduled,Ready<enter>");
    press(&mut app, "t<c-u>remove Nothing<enter>");
    assert!(app.notice.is_trouble);
    // It was of that moment only.
    press(&mut app, "l");
    assert!(!screen(&app).contains("would be"));
}

#[test]
fn diagrams_are_text_and_pictures() {
    let mut app = sample_app((120, 40));
    press(&mut app, ":s Flight1Boarding<enter>pp9v");
    assert!(screen(&app).contains("flowchart"), "{}", screen(&app));
    press(&mut app, "v");
    assert!(screen(&app).contains("sequenceDiagram"), "{}", screen(&app));
    let effects = press_only(&mut app, "o");
    let Some(Effect::Run(_, Job::Draw { drawing, path })) = effects.first() else {
        panic!("{effects:?}");
    };
    assert_eq!(path.extension().unwrap(), "svg");
    let svg = drawing.to(crate::graph::Format::Svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("Flight1Boarding"));
}

#[test]
fn errors_links_and_waiters_are_told() {
    let mut app = sample_app((120, 40));
    press(&mut app, ":rev 9<enter>4");
    assert!(
        screen(&app).contains("ErrGate: door stuck"),
        "{}",
        screen(&app)
    );
    press(&mut app, ":m rep-1<enter>T7");
    assert!(
        screen(&app).contains("took a snapshot: it was"),
        "{}",
        screen(&app)
    );
    let effects = press(&mut app, "w");
    assert_eq!(effects, [Effect::Ask(app.machine.unwrap())]);
    press(&mut app, ":m rep-2<enter>");
    assert_eq!(press(&mut app, "w"), []);
    assert!(screen(&app).contains("only a node that is connected"));
}

#[test]
fn work_that_nobody_waits_for_is_forgotten() {
    let mut app = sample_app((80, 24));
    let effects = press_only(&mut app, ":s Ready<enter>8s");
    let Some(Effect::Run(id, _)) = effects.last().cloned() else {
        panic!("{effects:?}");
    };
    assert!(app.is_busy() && screen(&app).contains("Esc gives up"));
    let effects = press_only(&mut app, "<esc>");
    assert!(effects.contains(&Effect::Cancel(id)));
    app.update(Message::Done(
        id,
        Done::Smallest(vec!["too late".to_owned()]),
    ));
    assert!(!screen(&app).contains("too late"));
}

/// Presses keys, and leaves the effects.
fn press_only(app: &mut App, keys: &str) -> Vec<Effect> {
    let keys = parse_keys(keys).unwrap().into_iter();
    keys.flat_map(|key| app.update(Message::Key(key))).collect()
}

#[test]
fn the_documentation_has_the_keys_of_the_table_and_a_screen() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/debugger.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut app = sample_app((100, 30));
    press(&mut app, ":s Flight1Boarding<enter>pp4");
    let shown = format!("```text\n{}```\n", screen(&app));
    let mut made = text.clone();
    for (name, part) in [
        ("keys", format!("\n{}", action::markdown())),
        ("screen", shown),
    ] {
        let (begin, end) = (
            format!("<!-- {name} -->\n"),
            format!("<!-- end of {name} -->"),
        );
        let (before, rest) = made.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        made = format!("{before}{begin}{part}{end}{after}");
    }
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    assert!(
        text == made,
        "update docs/debugger.md with UPDATE_SCREENS=1"
    );
}

#[test]
fn what_a_process_dropped_is_in_its_row() {
    use crate::debug::frame::{Body, Frame, PROCESS};
    let mut app = sample_app((100, 30));
    assert!(!screen(&app).contains("dropped"));
    {
        let shared = Arc::clone(&app.store);
        let mut store = shared.write().unwrap();
        let hello = store.processes()[0].hello().clone();
        let stream = store.connect(&hello).unwrap().stream;
        let frame = Frame {
            number: 0,
            wall: 0,
            mono: 0,
            machine: PROCESS,
            body: Body::Dropped(37),
        };
        store.apply(stream, frame).unwrap();
    }
    app.update(Message::Told);
    let shown = screen(&app);
    assert!(shown.contains("37 dropped"), "{shown}");
}

#[test]
fn whatever_is_typed_it_goes_on() {
    let mut rng = fastrand::Rng::with_seed(6831);
    let names = [
        "<enter>",
        "<esc>",
        "<tab>",
        "<backtab>",
        "<left>",
        "<right>",
        "<up>",
        "<down>",
        "<pgup>",
        "<pgdn>",
        "<home>",
        "<end>",
        "<bs>",
        "<del>",
        "<space>",
        "<c-u>",
    ];
    for _ in 0..12 {
        let size = (rng.u16(1..160), rng.u16(1..60));
        let mut app = sample_app(size);
        for _ in 0..400 {
            let key = if rng.bool() {
                names[rng.usize(..names.len())].to_owned()
            } else {
                char::from(rng.u8(b' '..=b'~'))
                    .to_string()
                    .replace('<', "<lt>")
            };
            press(&mut app, &key);
            if rng.u8(..10) == 0 {
                click(&mut app, rng.u16(..160), rng.u16(..60));
            }
            if rng.u8(..20) == 0 {
                let size = (rng.u16(1..160), rng.u16(1..60));
                app.update(Message::Resize(size.0, size.1));
            }
            if rng.u8(..8) == 0 {
                screen(&app);
            }
        }
    }
}
