//! Screens, compared with files.

use super::*;

#[track_caller]
fn check(name: &str, app: &App) {
    let path = folder().join(format!("{name}.txt"));
    let shown = screen(app);
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, shown).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "{} is another screen:\n{shown}",
        path.display()
    );
}

#[test]
fn a_small_terminal_has_one_pane_beside_the_machines() {
    let mut app = sample_app((80, 24));
    check("small", &app);
    for (key, name) in [
        ("4", "small-transition"),
        ("5", "small-log"),
        ("6", "small-rain"),
        ("7", "small-lens"),
    ] {
        press(&mut app, key);
        check(name, &app);
    }
}

#[test]
fn a_middling_one_has_several() {
    let mut app = sample_app((120, 40));
    press(&mut app, ":s Flight1Boarding<enter>pp4");
    check("middling", &app);
}

#[test]
fn a_large_one_has_all() {
    let mut app = sample_app((250, 80));
    press(&mut app, ":s Flight1Boarding<enter>p");
    check("large", &app);
}

#[test]
fn a_terminal_of_ascii_without_colours_says_the_same() {
    let mut app = sample_app((100, 30));
    app.theme = Theme::new(Palette::Mono, true);
    press(&mut app, "gxx6");
    let shown = screen(&app);
    assert!(shown.is_ascii(), "{shown}");
    check("ascii", &app);
}

#[test]
fn lists_are_over_the_panes() {
    let mut app = sample_app((80, 24));
    press(&mut app, "?");
    check("help", &app);
    press(&mut app, "<esc>f");
    check("filters", &app);
    press(&mut app, "<esc>gd<end>D");
    check("diff", &app);
    press(&mut app, "<esc>bhere<enter>:s Ready<enter>!B");
    check("places", &app);
}

#[test]
fn before_anything_came_it_says_what_to_do() {
    let app = app(Store::new(StoreLimits::default()), (80, 24));
    let shown = screen(&app);
    assert!(
        shown.contains("waiting for nodes on 127.0.0.1:6831"),
        "{shown}"
    );
    check("nothing", &app);
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [
        (20, 5),
        (1, 1),
        (3, 2),
        (60, 3),
        (5, 40),
        (30, 12),
        (61, 13),
    ] {
        let mut app = sample_app((width, height));
        for key in [
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "?", "<esc>f", "<esc>:",
        ] {
            press(&mut app, key);
            screen(&app);
        }
    }
}

#[test]
fn fifteen_thousand_states_are_drawn() {
    let mut app = app(sample::large(15_000), (120, 40));
    press(&mut app, "2*<pgdn><pgdn>aG");
    assert!(screen(&app).contains("State"));
    press(&mut app, "/State14999<enter>");
    let shown = screen(&app);
    assert!(shown.contains("State14999"), "{shown}");
}
