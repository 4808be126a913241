//! What is emitted beside errors: the enum with every name that could be read, without relations,
//! so that code which uses the states does not fail as well.

use proc_macro2::{Ident, Punct, Spacing, Span, TokenStream, TokenTree};

use crate::model::{Lists, Model};
use crate::template::Template;

/// Takes out of `model` what may be wrong.
pub(crate) fn without_relations(model: &mut Model) {
    for lists in &mut model.relations {
        *lists = Lists {
            ends: vec![0; model.name_ends.len()],
            items: Vec::new(),
        };
    }
}

/// The template that heirs get instead: the names of the enum's own states.
pub(crate) fn body(template: &Template<'_>, model: &Model) -> TokenStream {
    let own = (1..model.len()).filter(|state| {
        template.lines[model.lines[*state] as usize]
            .inherited
            .is_none()
    });
    own.flat_map(|state| {
        [
            TokenTree::Ident(Ident::new(model.name(state), Span::call_site())),
            TokenTree::Punct(Punct::new(',', Spacing::Alone)),
        ]
    })
    .collect()
}
