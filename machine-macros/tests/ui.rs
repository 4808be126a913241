//! What the compiler says of each mistake, and what must compile wherever it is written.

#[test]
fn mistakes_are_told_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[test]
fn generated_code_depends_on_nothing_around_it() {
    trybuild::TestCases::new().pass("tests/pass/*.rs");
}
