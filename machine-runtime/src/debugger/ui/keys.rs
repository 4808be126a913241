//! Keys as a script writes them: `jj<enter>:rev 3<enter>`.

use ratatui::crossterm::event::KeyEvent;

use super::action::Key;

/// A text that names no keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`<{name}>` is no key; there are <space> <lt> <enter> <esc> <tab> <backtab> <left> <right> <up> \
     <down> <home> <end> <pgup> <pgdn> <del> <bs>, and <c-u> for Ctrl-U"
)]
pub struct InvalidKeys {
    /// What stands between the brackets.
    pub name: String,
}

/// The keys of a text: signs as they are, others by name in angle brackets.
///
/// # Errors
///
/// If a name is of no key.
pub fn parse_keys(text: &str) -> Result<Vec<KeyEvent>, InvalidKeys> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        if char != '<' {
            keys.push(Key::char(char).event());
            continue;
        }
        let (name, behind) = rest.split_once('>').unwrap_or((rest, ""));
        let key = Key::named(name).ok_or_else(|| InvalidKeys {
            name: name.to_owned(),
        })?;
        keys.push(key.event());
        rest = behind;
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyCode;

    use super::*;

    #[test]
    fn keys_are_signs_and_names() {
        let keys = parse_keys("j<enter>:<lt>").unwrap();
        let codes: Vec<KeyCode> = keys.iter().map(|key| key.code).collect();
        let expected = [
            KeyCode::Char('j'),
            KeyCode::Enter,
            KeyCode::Char(':'),
            KeyCode::Char('<'),
        ];
        assert_eq!(codes, expected);
        assert_eq!(parse_keys("<nope>").unwrap_err().name, "nope");
    }
}
