//! The published states in fixed sizes.

use machine_runtime::{Basic, StateSource, states};

#[macro_use]
mod template;

/// The template as text: the macro `published`, and what it needs in scope is as above.
pub(crate) const TEMPLATE: &str = include_str!("states/template.rs");

published!(Published148, 10 by 5);
published!(Published1394, 99 by 5);
published!(Published15k, 1071 by 5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_the_rows() {
        let counts = [
            Published148::COUNT,
            Published1394::COUNT,
            Published15k::COUNT,
        ];
        assert_eq!(counts, [148, 1394, 15_002]);
    }
}
