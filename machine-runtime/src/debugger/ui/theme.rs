//! Colours and symbols. Nothing is told by colour alone, and nothing by a symbol that a terminal may lack.

use std::str::FromStr;

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// Which colours a terminal is drawn in: its own sixteen, on its own background.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Palette {
    /// Those that can be read on light and dark; where the environment tells the background, its own.
    #[default]
    Auto,
    /// For a light background.
    Light,
    /// For a dark background.
    Dark,
    /// None: bold, dim, underlined and reversed only.
    Mono,
}

/// A text that names no palette.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no theme: auto, light, dark or mono")]
pub struct InvalidPalette(String);

impl FromStr for Palette {
    type Err = InvalidPalette;

    fn from_str(text: &str) -> Result<Self, InvalidPalette> {
        match text {
            "auto" => Ok(Self::Auto),
            "light" => Ok(Self::Light),
            "dark" => Ok(Self::Dark),
            "mono" => Ok(Self::Mono),
            _ => Err(InvalidPalette(text.to_owned())),
        }
    }
}

/// What a piece of text means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Plain,
    Dim,
    /// A heading.
    Head,
    /// An active state, an accepted transition.
    Active,
    /// What has just changed.
    Changed,
    Error,
    /// An error some time ago.
    Past,
    Refused,
    /// What can be followed, and the focus.
    Accent,
    /// The selected state, wherever it is named.
    Selected,
    /// The row that keys act on.
    Cursor,
    /// The name of a key.
    Key,
    /// A machine that tells no more.
    Gone,
}

/// How the screen looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Theme {
    palette: Palette,
    ascii: bool,
}

impl Theme {
    /// Colours of a palette, and symbols within ASCII or beyond.
    pub fn new(palette: Palette, ascii: bool) -> Self {
        Self { palette, ascii }
    }

    /// As the environment has it: `NO_COLOR`, the background in `COLORFGBG`, and the character set of
    /// `LC_ALL`, `LC_CTYPE` or `LANG`.
    pub fn from_env(palette: Palette, var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let palette = match palette {
            Palette::Auto if set("NO_COLOR").is_some() => Palette::Mono,
            Palette::Auto => set("COLORFGBG")
                .and_then(|value| value.rsplit(';').next()?.parse::<u8>().ok())
                .map_or(Palette::Auto, |background| match background {
                    7 | 9..=15 => Palette::Light,
                    _ => Palette::Dark,
                }),
            given => given,
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self::new(palette, !utf8)
    }

    pub(super) fn symbols(self) -> &'static Symbols {
        if self.ascii { &ASCII } else { &UNICODE }
    }

    pub(super) fn border(self, focused: bool) -> border::Set<'static> {
        match (self.ascii, focused) {
            (true, true) => ASCII_FOCUS,
            (true, false) => ASCII_BORDER,
            (false, true) => border::THICK,
            (false, false) => border::PLAIN,
        }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let color = |color: Color| match self.palette {
            Palette::Mono => style,
            _ => style.fg(color),
        };
        let one_of = |any: Color, light: Color, dark: Color| {
            color(match self.palette {
                Palette::Light => light,
                Palette::Dark => dark,
                _ => any,
            })
        };
        match tone {
            Tone::Plain => style,
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Head => style.add_modifier(Modifier::BOLD),
            Tone::Active => one_of(Color::Green, Color::Green, Color::LightGreen),
            Tone::Changed => {
                one_of(Color::Magenta, Color::Blue, Color::Yellow).add_modifier(Modifier::BOLD)
            }
            Tone::Error => {
                one_of(Color::Red, Color::Red, Color::LightRed).add_modifier(Modifier::BOLD)
            }
            Tone::Past => color(Color::Red),
            Tone::Refused => one_of(Color::Magenta, Color::Magenta, Color::LightMagenta),
            Tone::Accent => one_of(Color::Cyan, Color::Blue, Color::LightCyan),
            Tone::Selected => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            Tone::Cursor => style.add_modifier(Modifier::REVERSED),
            Tone::Key => {
                one_of(Color::Cyan, Color::Blue, Color::LightCyan).add_modifier(Modifier::BOLD)
            }
            Tone::Gone => style.add_modifier(Modifier::DIM | Modifier::CROSSED_OUT),
        }
    }
}

/// The signs of the screen.
#[derive(Debug)]
pub(super) struct Symbols {
    pub(super) active: &'static str,
    pub(super) inactive: &'static str,
    /// Touched without a change of activity.
    pub(super) touched: &'static str,
    pub(super) refused: &'static str,
    pub(super) error: &'static str,
    /// An error some time ago.
    pub(super) past: &'static str,
    /// A state at which following stops.
    pub(super) breakpoint: &'static str,
    pub(super) began: &'static str,
    pub(super) ended: &'static str,
    pub(super) arrow: &'static str,
    pub(super) open: &'static str,
    pub(super) folded: &'static str,
    pub(super) here: &'static str,
    pub(super) more: &'static str,
    pub(super) ellipsis: &'static str,
    pub(super) branch: &'static str,
    pub(super) last_branch: &'static str,
    pub(super) trunk: &'static str,
    pub(super) column: &'static str,
    pub(super) rule: &'static str,
    pub(super) left_right: &'static str,
    pub(super) play: &'static str,
    pub(super) pause: &'static str,
    /// From nothing to much.
    pub(super) density: [&'static str; 9],
    pub(super) spinner: [&'static str; 4],
}

static UNICODE: Symbols = Symbols {
    active: "●",
    inactive: "○",
    touched: "◐",
    refused: "✗",
    error: "!",
    past: "·",
    breakpoint: "■",
    began: "▲",
    ended: "▼",
    arrow: "→",
    open: "▾",
    folded: "▸",
    here: "▶",
    more: "+",
    ellipsis: "…",
    branch: "├─",
    last_branch: "└─",
    trunk: "│ ",
    column: "│",
    rule: "─",
    left_right: "←→",
    play: "▶",
    pause: "⏸",
    density: [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    spinner: ["◐", "◓", "◑", "◒"],
};

static ASCII: Symbols = Symbols {
    active: "*",
    inactive: ".",
    touched: "~",
    refused: "x",
    error: "!",
    past: "'",
    breakpoint: "#",
    began: "+",
    ended: "-",
    arrow: "->",
    open: "v",
    folded: ">",
    here: ">",
    more: "+",
    ellipsis: "~",
    branch: "|-",
    last_branch: "`-",
    trunk: "| ",
    column: "|",
    rule: "-",
    left_right: "<>",
    play: ">",
    pause: "=",
    density: [" ", ".", ".", ":", ":", "=", "=", "#", "#"],
    spinner: ["|", "/", "-", "\\"],
};

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

const ASCII_FOCUS: border::Set<'static> = border::Set {
    top_left: "#",
    top_right: "#",
    bottom_left: "#",
    bottom_right: "#",
    vertical_left: "#",
    vertical_right: "#",
    horizontal_top: "=",
    horizontal_bottom: "=",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        |name| {
            let found = pairs.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn the_environment_says_how_it_looks() {
        let dark = Theme::from_env(
            Palette::Auto,
            env(&[("COLORFGBG", "15;0"), ("LANG", "en_GB.UTF-8")]),
        );
        assert_eq!(dark, Theme::new(Palette::Dark, false));
        let light = Theme::from_env(Palette::Auto, env(&[("COLORFGBG", "0;default;15")]));
        assert_eq!(light, Theme::new(Palette::Light, true));
        let mono = Theme::from_env(
            Palette::Auto,
            env(&[("NO_COLOR", "1"), ("LC_ALL", "C"), ("LANG", "de_DE.utf8")]),
        );
        assert_eq!(mono, Theme::new(Palette::Mono, true));
        // What was said outright counts more than the environment.
        let asked = Theme::from_env(Palette::Light, env(&[("NO_COLOR", "1")]));
        assert_eq!(asked, Theme::new(Palette::Light, true));
    }

    #[test]
    fn without_colours_there_are_none() {
        let mono = Theme::new(Palette::Mono, false);
        for tone in [Tone::Active, Tone::Error, Tone::Refused, Tone::Accent] {
            assert_eq!(mono.style(tone).fg, None);
        }
    }
}
