//! What all pictures are drawn on.

use crate::graph::outline::shown;

/// How high a row is.
pub(super) const ROW: f64 = 26.0;

/// How wide a letter is, at most on average.
pub(super) const LETTER: f64 = 7.2;

/// What is left free around everything.
pub(super) const MARGIN: f64 = 16.0;

/// Where the title ends.
pub(super) const TOP: f64 = 40.0;

pub(super) const STYLE: &str = "text{font-family:system-ui,sans-serif;font-size:13px;fill:#212529}\
    .title{font-size:15px;font-weight:600}.frame{font-weight:600}.note{fill:#495057}\
    .line{fill:none;stroke-width:1.5}.label{font-size:11px;paint-order:stroke;stroke:#fff;\
    stroke-width:3px}";

/// A text as XML has it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars().map(shown) {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// How wide a text is drawn.
pub(super) fn width(text: &str) -> f64 {
    let letters = text
        .chars()
        .map(|letter| if letter.is_ascii() { 1 } else { 2 });
    f64::from(letters.sum::<u32>()) * LETTER
}

/// As much of a text as is `most` wide.
pub(super) fn cut(text: &str, most: f64) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut cut = String::new();
    for letter in text.chars() {
        if width(&cut) + 4.0 * LETTER > most {
            break;
        }
        cut.push(letter);
    }
    cut.push('…');
    cut
}

/// The head of a picture, up to what it defines.
pub(super) fn begin(title: &str, wide: f64, high: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide:.0}\" height=\"{high:.0}\" \
         viewBox=\"0 0 {wide:.0} {high:.0}\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text class=\"title\" x=\"{MARGIN}\" \
         y=\"24\">{title}</text>\n<defs>\n"
    )
}
