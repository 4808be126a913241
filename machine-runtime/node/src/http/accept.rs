//! What a client wants to read, by its `Accept` header.

/// One way to show the states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Representation {
    /// One active state a line.
    Text,
    /// One JSON object.
    Json,
    /// What a browser shows.
    Html,
}

/// How much a client wants the types that a node can give. Without a header it takes anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Accept {
    text: Wish,
    json: Wish,
    html: Wish,
    open_metrics: Wish,
}

/// How much one type is wanted: by quality, then by how exactly it was named, then by place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Wish {
    /// In thousandths.
    quality: u16,
    /// 3 for the type itself, 2 for its family, 1 for anything, 0 if nothing matched.
    exactness: u8,
    /// Counts down from the first.
    earliness: u16,
}

impl Wish {
    const NONE: Self = Self {
        quality: 0,
        exactness: 0,
        earliness: 0,
    };
}

impl Accept {
    /// Without a header.
    pub(super) const ANYTHING: Self = Self {
        text: Wish::NONE,
        json: Wish::NONE,
        html: Wish::NONE,
        open_metrics: Wish::NONE,
    };

    /// Reads a header.
    pub(super) fn read(header: &str) -> Self {
        // What nearly everybody sends who does not care.
        if header == "*/*" {
            return Self::ANYTHING;
        }
        let mut accept = Self::ANYTHING;
        for (range, earliness) in header.split(',').zip((0..=u16::MAX).rev()) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1000, thousandths);
            for (wish, family, whole) in [
                (&mut accept.text, "text/*", "text/plain"),
                (&mut accept.json, "application/*", "application/json"),
                (&mut accept.html, "text/*", "text/html"),
                (
                    &mut accept.open_metrics,
                    "application/*",
                    "application/openmetrics-text",
                ),
            ] {
                let exactness = match kind {
                    _ if kind.eq_ignore_ascii_case(whole) => 3,
                    _ if kind.eq_ignore_ascii_case(family) => 2,
                    "*/*" => 1,
                    _ => continue,
                };
                // The most exact range has the say, of two such the first.
                if exactness > wish.exactness {
                    *wish = Wish {
                        quality,
                        exactness,
                        earliness,
                    };
                }
            }
        }
        accept
    }

    /// The representation that is wanted most. One that cannot be given is not insisted on:
    /// then it is text, as without a wish.
    pub(super) fn representation(self) -> Representation {
        let mut best = (self.text, Representation::Text);
        for other in [
            (self.json, Representation::Json),
            (self.html, Representation::Html),
        ] {
            if other.0 > best.0 && other.0.quality > 0 {
                best = other;
            }
        }
        best.1
    }

    /// Whether metrics are wanted in the `OpenMetrics` format; it has to be named.
    pub(super) fn wants_open_metrics(self) -> bool {
        let Wish {
            quality, exactness, ..
        } = self.open_metrics;
        exactness == 3 && quality > 0 && quality >= self.text.quality
    }
}

/// Reads `0.25` as 250; what is no quality counts as 1.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole != "0" {
        return 1000;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    digits.fold(0, |sum, digit| {
        sum * 10 + u16::from(digit.saturating_sub(b'0').min(9))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(header: &str) -> Accept {
        Accept::read(header)
    }

    #[track_caller]
    fn check(header: &str, expected: Representation) {
        assert_eq!(accept(header).representation(), expected, "{header}");
    }

    #[test]
    fn text_is_for_whoever_does_not_say() {
        assert_eq!(Accept::ANYTHING.representation(), Representation::Text);
        for header in [
            "*/*",
            "",
            "image/png",
            "text/*",
            "text/plain",
            "application/json;q=0",
        ] {
            check(header, Representation::Text);
        }
    }

    #[test]
    fn the_highest_quality_wins() {
        check("application/json", Representation::Json);
        check("Application/JSON", Representation::Json);
        check("text/plain;q=0.5, application/json", Representation::Json);
        check(
            "text/plain;q=0.5, application/json;q=0.25",
            Representation::Text,
        );
        check(
            "text/plain;q=0.1,application/json;q=0.12",
            Representation::Json,
        );
        check("*/*;q=0.1, text/html;level=1;q=0.2", Representation::Html);
    }

    #[test]
    fn browsers_get_html() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        check(chrome, Representation::Html);
    }

    #[test]
    fn of_equals_the_most_exact_wins_then_the_first() {
        check("application/json, */*", Representation::Json);
        check("application/json, text/plain, */*", Representation::Json);
        check("text/plain, application/json", Representation::Text);
        check("*/*, text/plain;q=0", Representation::Json);
    }

    #[test]
    fn open_metrics_have_to_be_named() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert!(accept(prometheus).wants_open_metrics());
        assert!(!accept("*/*").wants_open_metrics());
        assert!(!accept("text/plain, application/openmetrics-text;q=0.5").wants_open_metrics());
        assert!(!Accept::ANYTHING.wants_open_metrics());
    }
}
