//! Entity tags: what a client has, by its `If-None-Match` header.

/// The tags that a client knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IfNoneMatch(String);

impl IfNoneMatch {
    /// Reads a header.
    pub(super) fn read(header: &str) -> Self {
        Self(header.to_owned())
    }

    /// Whether `tag`, quotes included, is among them. Tags are compared weakly (RFC 9110,
    /// 8.8.3.2): caches between us and the client may have weakened ours.
    pub(super) fn matches(&self, tag: &str) -> bool {
        let mut rest = self.0.trim();
        if rest == "*" {
            return true;
        }
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let quoted = rest.strip_prefix("W/").unwrap_or(rest);
            // What is no tag ends the list.
            let Some(end) = quoted.strip_prefix('"').and_then(|inner| inner.find('"')) else {
                return false;
            };
            let (known, after) = quoted.split_at(end + 2);
            if known == tag {
                return true;
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(header: &str, tag: &str) -> bool {
        IfNoneMatch::read(header).matches(tag)
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands() {
        for header in [
            r#""a.1-t""#,
            r#"W/"a.1-t""#,
            r#""x", "a.1-t""#,
            r#""x","a.1-t","y""#,
            r#"W/"x" , W/"a.1-t""#,
            r#", ,"a.1-t","#,
            r#""with, comma", "a.1-t""#,
            "*",
            " * ",
        ] {
            assert!(matches(header, r#""a.1-t""#), "{header}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        for header in [
            "",
            r#""a.1-j""#,
            r#""a.1-t"#,
            "a.1-t",
            r#""xa.1-t""#,
            r#"w/"a.1-t""#,
            r#""x, "a.1-t"#,
            r#""x" garbage, "a.1-t""#,
            r#"*, "b""#,
        ] {
            assert!(!matches(header, r#""a.1-t""#), "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_list_matches_exactly_its_members(
            tags in prop::collection::vec(("[ -!#-~]{0,5}", any::<bool>()), 0..5),
            other in "[ -!#-~]{0,5}",
        ) {
            let quoted = |(tag, weak): &(String, bool)| {
                format!("{}\"{tag}\"", if *weak { "W/" } else { "" })
            };
            let header = tags.iter().map(quoted).collect::<Vec<_>>().join(", ");
            for (tag, _) in &tags {
                let tag = format!("\"{tag}\"");
                prop_assert!(matches(&header, &tag));
            }
            let known = tags.iter().any(|(tag, _)| *tag == other);
            let other = format!("\"{other}\"");
            prop_assert_eq!(matches(&header, &other), known);
        }

        #[test]
        fn any_header_can_be_read(header in ".*", tag in ".*") {
            matches(&header, &tag);
        }
    }
}
