//! What the compiler says about the ten commonest mistakes: one error, which names the reason and what to do.
//!
//! The texts are those of one version of the compiler, so `make lint` runs this and not `make test`. To write them anew:
//! `TRYBUILD=overwrite cargo test -p procession --test mistakes -- --ignored`.
#![allow(clippy::print_stdout)] // it says aloud what is not tested

/// The version of the compiler whose words stand in `tests/ui`.
const WRITTEN_WITH: &str = "rustc 1.95.";

#[test]
#[ignore = "compiles ten programs: make lint runs it"]
fn the_commonest_mistakes_are_explained() {
    let asked = std::process::Command::new("rustc")
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8_lossy(&asked.stdout).into_owned();
    if !version.starts_with(WRITTEN_WITH) {
        println!("NOT TESTED: the expected texts are those of {WRITTEN_WITH}x, and this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
