//! What each mistake is called, on tokens read from text.

use std::str::FromStr;

use proc_macro2::TokenStream;

use super::expansion;
use crate::diagnostics::Errors;

fn expand(template: &str) -> (String, Vec<String>) {
    let mut errors = Errors::default();
    let tokens = TokenStream::from_str(template).unwrap();
    let expansion =
        expansion(tokens, &crate::counts::read, &mut errors).map(|tokens| tokens.to_string());
    (expansion.unwrap_or_default(), errors.messages())
}

/// The body of an enum `M` over 3 flights and 2 gates gives exactly these messages.
#[track_caller]
fn check(body: &str, expected: &[&str]) {
    let uses = "for flight in 1..=flights { for gate in 1..=gates { Used{flight}And{gate} } }";
    let template = format!("counts = {{ flights = 3, gates = 2 }}; enum M {{ {uses} {body} }}");
    assert_eq!(expand(&template).1, expected);
}

/// The whole call gives exactly these messages.
#[track_caller]
fn check_call(call: &str, expected: &[&str]) {
    assert_eq!(expand(call).1, expected);
}

#[test]
fn a_sound_template_gives_no_message() {
    check(
        "exclusive Status { A, #[require(F)] B, #[add(A)] #[after(B)] C }
         group Some { D, exclusive Inner { E, F } }
         exclusive Listed(D, Inner),
         #[auto] #[multi] #[payload(std::vec::Vec<u8>, retain)] G,
         for flight in 1..=flights {
             group Family { Flight{flight}On, Flight{flight}Off }
             exclusive Pair(Flight{flight}On, A),
             #[remove(Family, Status)] #[require(Flight1On, Flight{flight}Off)] Flight{flight}Late,
         }",
        &[
            "`Flight1Late` requires `Flight1On` and also removes it: it could never be active; keep one of the two",
        ],
    );
}

#[test]
fn an_expansion_is_the_same_every_time() {
    let template = "counts = { n = 4 };
        pub enum M { for i in 1..=n { exclusive G { A{i}, B{i} } #[require(A{i})] C{i}, } group All { X, Y } }";
    let (first, errors) = expand(template);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(first, expand(template).0);
}

#[test]
fn a_group_in_a_loop_over_the_variable_of_an_outer_one_comes_to_an_end() {
    check(
        "for flight in 1..=flights {
             exclusive Outer { A{flight}, for flight in 1..=flights { exclusive Inner { B{flight} } } }
         }",
        &["`flight` is already the variable of a loop around this one: take another name"],
    );
}

#[test]
fn unknown_targets_are_named_once_per_line() {
    check(
        "for flight in 1..=flights { #[require(Flight{flight}Departd, Moon)] Flight{flight}Departed }",
        &[
            "unknown state or group `Moon` in `require`: declare it, or take it out",
            "unknown state or group `Flight1Departd` in `require`, did you mean `Flight{flight}Departed`?",
        ],
    );
    check(
        "for flight in 1..=flights { group Doors { Door{flight} } } #[remove(Doors)] Shut, group All(Door1, Door9),",
        &[
            "unknown state `Door9` in `group`: `Door{flight}` has `flight` from 1 to 3",
            "there is one group `Doors` for each `flight`: name it inside `for flight in … { }`, or list its states",
        ],
    );
}

#[test]
fn duplicates_are_named() {
    check(
        "Start, Start, exclusive G { A, B } group G { C } G, Exception, Used1And2,
         for flight in 1..=flights { Used{flight}And1, Gate{flight}{flight}, }
         for place in 1..=12 { for row in 1..=12 { Seat{row}{place} } }",
        &[
            "duplicate group: `G` is already a group",
            "`Exception` is part of every machine: always first, multi and without relations; leave it out",
            "duplicate state: `Used{flight}And1` is already declared by `Used{flight}And{gate}`",
            "duplicate state: `Start` is already declared above",
            "duplicate name: `G` is already a group",
            "duplicate state: `Used1And2` is already declared by `Used{flight}And{gate}`",
            "duplicate state: `Seat111` is already declared above",
        ],
    );
}

#[test]
fn loop_variables_are_used_and_known() {
    check(
        "for flight in 1..=flights { Closed, Open{fligth}, for flight in 1..=2 { X{flight} } } A{flight},
         for gate in 1..=7 { Y{gate} }",
        &[
            "every `flight` would declare `Closed` again: put `{flight}` into the name, or move it out of the loop",
            "`fligth` is no variable of a loop around this, did you mean `flight`?",
            "`flight` is already the variable of a loop around this one: take another name",
            "`flight` is no variable of a loop around this: write `for flight in 1..=count { … }`",
            "`gate` runs over 1..=7 here but over 1..=2 in another loop: one name, one range",
        ],
    );
}

#[test]
fn contradictions_are_named_at_the_requirement() {
    check(
        "A, #[require(A)] #[remove(A)] B",
        &["`B` requires `A` and also removes it: it could never be active; keep one of the two"],
    );
    check(
        "exclusive G { A, #[require(A)] B }",
        &[
            "`B` requires `A`, but both are members of the exclusive group `G`: \
         it could never be active; drop the requirement or move one of them out of the group",
        ],
    );
    // What is added is not removed (rule R2), so there is nothing to contradict.
    check("A, #[require(A)] #[add(A)] #[remove(A)] B", &[]);
}

#[test]
fn require_cycles_must_be_meant() {
    let advice = "none can become active without the others. Drop a requirement or, \
                  if they are meant to come and go together, mark each of them `#[require_cycle]`";
    check(
        "#[require(B)] A, #[require(C)] B, #[require(A)] C",
        &[&format!(
            "require cycle: `A` -> `B` -> `C` -> `A`; {advice}"
        )],
    );
    check(
        "#[require(A)] A",
        &[&format!("require cycle: `A` -> `A`; {advice}")],
    );
    check(
        "#[require(B)] #[require_cycle] A, #[require(A)] #[require_cycle] B",
        &[],
    );
    check(
        "#[require_cycle] A",
        &["`A` is in no require cycle: take `#[require_cycle]` away"],
    );
    check(
        "for flight in 1..=flights { #[require(Y{flight})] X{flight}, #[require(X{flight})] Y{flight} }",
        &[&format!("require cycle: `X1` -> `Y1` -> `X1`; {advice}")],
    );
}

#[test]
fn dead_states_are_named_where_it_begins() {
    check(
        "#[remove(C)] A, #[require(A)] B, #[require(B)] C, #[require(C)] D",
        &[
            "`C` can never be active: its requirements, followed through, include `A`, which removes it",
        ],
    );
    check(
        "exclusive G { A, B } #[require(A)] C, #[require(B, C)] D",
        &[
            "`D` can never be active: its requirements, followed through, include both `A` and `B`, \
         members of the exclusive group `G`",
        ],
    );
    check(
        "#[remove(B)] A, B, #[require(A, B)] C",
        &[
            "`C` can never be active: its requirements, followed through, include `A` and `B`, and the one removes the other",
        ],
    );
}

#[test]
fn counts_are_given_and_used() {
    check_call(
        "enum M { for i in 1..=n { A{i} } }",
        &[
            "count `n` comes from nowhere: begin with `counts = \"states.toml\";` or `counts = { n = 1 };`",
        ],
    );
    check_call(
        "counts = { flight = 3 }; enum M { for i in 1..=flights { A{i} } #[require(A7)] B }",
        &[
            "count `flight` is used by no loop, did you mean `flights`?",
            "count `flights` is not in `counts`, did you mean `flight`?",
        ],
    );
    check_call(
        "counts = { a = 0, b = -2, c = \"x\", d = 99999, e = 1.5, e = 2 };
         enum M { for i in 1..=a { for j in 1..=b { for k in 1..=c { for l in 1..=d { for m in 1..=e { A{i}B{j}C{k}D{l}E{m} } } } } } }",
        &[
            "count `c` is `\"x\"`: it must be an integer, at least 1",
            "count `e` is `1.5`: it must be an integer, at least 1",
            "count `a` is 0: it must be at least 1",
            "count `b` is -2: it must be at least 1",
            "count `d` is 99999: a machine has at most 65534 states",
            "count `e` is given twice",
        ],
    );
}

#[test]
fn sizes_are_bounded_before_anything_is_unrolled() {
    check_call(
        "enum M { for i in 1..=60000 { for j in 1..=60000 { for k in 1..=60000 { A{i}B{j}C{k} } } } }",
        &["`M` has 216000000000001 states: at most 65534 are possible; lower a count"],
    );
    check_call(
        "enum M { exclusive G { for i in 1..=3000 { A{i} } } }",
        &["`M` has more than 4194304 relations: split its largest exclusive group"],
    );
}

#[test]
fn syntax_errors_do_not_hide_each_other() {
    check(
        "#[requires(A)] A, #[auto(x)] #[multi] #[multi] B, #[payload] C, #[payload(Vec<, retain)] D,
         #[require] E, #[auto] group G { F } for i in 1..flights { X{i} } #[auto] for j in 1..=2 { Y{j} },
         H{1}, exclusive { I } J,",
        &[
            "unknown attribute `requires`, did you mean `require`?",
            "`auto` takes no arguments: write `#[auto]`",
            "`multi` is given twice: once is enough",
            "expected `#[payload(Type)]`, or with `retain`, `redact` or both behind the type",
            "expected `#[payload(Type)]`, or with `retain`, `redact` or both behind the type",
            "`require` takes states or groups: write `#[require(State, Group)]`",
            "`auto` belongs on a state: a group takes doc comments only",
            "write `..=`: the last value counts too",
            "attributes belong on states and groups, not on a loop",
            "expected one loop variable in the braces, like `Flight{flight}`",
            "a group needs a name: `exclusive Name { … }`",
        ],
    );
}

#[test]
fn an_unreadable_header_gives_one_message() {
    check_call(
        "struct M { A }",
        &["expected `enum Name { … }` or `enum Name: Basic + Other { … }`"],
    );
    check_call(
        "counts = 5; enum M { A }",
        &["expected `counts = \"states.toml\";` or `counts = { flights = 10, gates = 5 };`"],
    );
    check_call(
        "enum M: { A }",
        &["expected a set to inherit after `:`, like `: Basic + StateSource`"],
    );
    check_call(
        "enum M { A } enum N { B }",
        &["`states!` takes one enum: nothing may follow it"],
    );
}

#[test]
fn inherited_sets_are_asked_for_one_after_the_other() {
    let (question, _) = expand("enum M: Basic + other::More { A }");
    assert_eq!(
        question,
        "Basic ! { @ inherit 0 { } { enum M : Basic + other :: More { A } } }"
    );
    let (question, _) =
        expand("@set { Basic { } { Start } } @inherit 0 { } { enum M: Basic + other::More { A } }");
    assert!(
        question.starts_with("other :: More ! { @ inherit 1 { 0 Basic { } { Start } }"),
        "{question}"
    );
}

#[test]
fn an_inherited_state_cannot_be_declared_again() {
    check_call(
        "@set { Basic { } { Start } } @inherit 0 { } { enum M: Basic { Start, #[require(Start)] A } }",
        &["duplicate state: `Start` is already inherited from `Basic`"],
    );
}

#[test]
fn a_mistake_leaves_the_names_usable() {
    let (expansion, errors) = expand("enum M { #[require(Bb)] A, B, A }");
    assert_eq!(errors.len(), 2);
    assert!(expansion.contains("\"ExceptionAB\""), "{expansion}");
}

/// What is generated, to be read. After a change that is meant: `UPDATE_EXPANSION=1 cargo test`.
#[test]
fn the_expansion_reads_like_this() {
    let (expansion, errors) = expand(
        "counts = { lamps = 2 };
        /// The lamps of a house.
        pub enum House {
            for lamp in 1..=lamps {
                exclusive Light {
                    /// Lamp {lamp} is lit.
                    #[require(Power)]
                    Lamp{lamp}On,
                    #[auto]
                    Lamp{lamp}Off,
                }
            }
            Power,
            group Shown(Power, Lamp2On),
        }",
    );
    assert!(errors.is_empty(), "{errors:?}");
    let expansion = prettyplease::unparse(&syn::parse_file(&expansion).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pipeline/expansion.txt");
    if std::env::var_os("UPDATE_EXPANSION").is_some() {
        std::fs::write(path, &expansion).unwrap();
    }
    assert_eq!(expansion, std::fs::read_to_string(path).unwrap());
}
