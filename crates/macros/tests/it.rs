//! Programs that must not compile, and the message each must get.

#[test]
fn mistakes_get_one_clear_message() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/accepted/*.rs");
    cases.compile_fail("tests/refused/*.rs");
}
