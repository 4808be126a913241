use super::*;

#[test]
fn no_key_does_two_things_in_one_place() {
    for (i, one) in BINDINGS.iter().enumerate() {
        for other in &BINDINGS[i + 1..] {
            let everywhere = |scope: Scope| matches!(scope, Scope::Everywhere(_));
            let together =
                one.scope == other.scope || everywhere(one.scope) && everywhere(other.scope);
            let shared = one.keys.iter().find(|key| other.keys.contains(key));
            assert!(
                !together || shared.is_none(),
                "{shared:?}: {one:?} and {other:?}"
            );
        }
    }
}

#[test]
fn every_action_is_done_by_its_key() {
    for binding in BINDINGS {
        assert!(!binding.keys.is_empty() && !binding.help.is_empty());
        let (focus, in_list) = match binding.scope {
            Scope::Everywhere(_) => (Pane::Transition, false),
            Scope::In(pane) => (pane, false),
            Scope::Lists => (Pane::Machines, true),
        };
        for key in binding.keys {
            let action = action_of(&key.event(), focus, in_list);
            assert_eq!(action, Some(binding.action), "{key}");
        }
    }
}

#[test]
fn no_key_needs_alt_or_a_function_key() {
    for key in BINDINGS.iter().flat_map(|binding| binding.keys) {
        assert!(!matches!(key.code, KeyCode::F(_)), "{key}");
    }
}

#[test]
fn keys_are_named_as_scripts_name_them() {
    for (code, name, _) in NAMES {
        assert_eq!(Key::named(name), Some(Key::new(code)));
    }
    assert_eq!(Key::named("c-u"), Some(Key::ctrl('u')));
    assert_eq!(Key::named("c-uu"), None);
    assert_eq!(Key::named("hyper"), None);
}
