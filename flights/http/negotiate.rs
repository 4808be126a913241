//! What a reader accepts and what it has already.

/// A representation of the active states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// A state a line.
    Text,
    /// An object.
    Json,
    /// For browsers; until there is a board, the text.
    Html,
}

impl Format {
    /// All of them; on equal terms the earlier one is preferred.
    pub(super) const ALL: [Self; 3] = [Self::Text, Self::Json, Self::Html];

    /// How entity tags of this representation end.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Text => "t",
            Self::Json => "j",
            Self::Html => "h",
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text | Self::Html => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    /// The one that an `Accept` header prefers. Whoever accepts none of them gets the text, as
    /// curl does.
    pub(super) fn preferred(accept: Option<&str>) -> Self {
        let Some(accept) = accept.filter(|accept| *accept != "*/*") else {
            return Self::Text;
        };
        let mut best = (0, Self::Text);
        for format in Self::ALL {
            let weight = weight(accept, format);
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain"),
            Self::Json => ("application", "json"),
            Self::Html => ("text", "html"),
        }
    }
}

/// The weight in thousandths that an `Accept` header gives a format: that of its most specific
/// range.
fn weight(accept: &str, format: Format) -> u32 {
    let (kind, subtype) = format.media_type();
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let specific = match parts.next().and_then(|range| range.split_once('/')) {
            Some(("*", "*")) => 1,
            Some((range, "*")) if range.eq_ignore_ascii_case(kind) => 2,
            Some((range, sub))
                if range.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        let weight = quality.map_or(1000, thousandths);
        if specific > best.0 {
            best = (specific, weight);
        }
    }
    best.1
}

/// `0.25` as 250; what is no quality counts as 0.
fn thousandths(quality: &str) -> u32 {
    let (whole, rest) = quality.split_once('.').unwrap_or((quality, ""));
    let digits = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" => 1000,
        "0" if digits => format!("{rest:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Whether an `If-None-Match` header names `tag`, weakly compared.
pub(super) fn matches(if_none_match: &str, tag: &str) -> bool {
    let mut rest = if_none_match.trim();
    if rest == "*" {
        return true;
    }
    // Tags are in quotes and may have commas in them.
    loop {
        let unquoted = rest.strip_prefix("W/").unwrap_or(rest);
        let Some((candidate, after)) = unquoted
            .strip_prefix('"')
            .and_then(|tag| tag.split_once('"'))
        else {
            return false;
        };
        if tag.trim_matches('"') == candidate {
            return true;
        }
        let Some(next) = after.trim_start().strip_prefix(',') else {
            return false;
        };
        rest = next.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_format_is_served() {
        let cases = [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("application/json"), Format::Json),
            (
                Some("text/html,application/xhtml+xml,*/*;q=0.8"),
                Format::Html,
            ),
            (
                Some("application/json;q=0.5, text/plain;q=0.4"),
                Format::Json,
            ),
            (Some("text/*;q=0.3, application/json;q=0.3"), Format::Text),
            (Some("text/*, text/plain;q=0"), Format::Html),
            (Some("image/png"), Format::Text),
            (Some("application/*"), Format::Json),
            (Some("nonsense"), Format::Text),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::preferred(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn tags_are_found_in_lists() {
        let tag = "\"abc.12-t\"";
        for yes in [
            "*",
            "\"abc.12-t\"",
            "W/\"abc.12-t\"",
            "\"x\", \"abc.12-t\"",
            "\"a,b\",W/\"abc.12-t\"",
        ] {
            assert!(matches(yes, tag), "{yes}");
        }
        for no in [
            "",
            "abc.12-t",
            "\"abc.12-j\"",
            "\"abc.12",
            "\"x\" \"abc.12-t\"",
        ] {
            assert!(!matches(no, tag), "{no}");
        }
    }
}
