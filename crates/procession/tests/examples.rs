//! Each program in `examples/` runs, and prints what it is there to show.
//!
//! `cargo test` compiles the examples before it runs this. If they are missing or older than their sources (after
//! `cargo test --test examples`), the first test compiles them.

mod common;

use common::{LIMIT, eventually};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::SystemTime;

/// The examples that are tested elsewhere: this one is a program for two languages.
const ELSEWHERE: [&str; 1] = ["python_family"];

#[test]
fn the_readme_prints_a_greeting_and_ten_squares() {
    let lines = run("readme", &[]);
    let squares: Vec<String> = (0..10u64).map(|n| (n * n).to_string()).collect();
    assert_eq!(lines[0], "hello from the child");
    assert_eq!(lines[1..], squares);
}

#[test]
fn a_crash_in_foreign_code_costs_one_task() {
    let lines = run("crash_isolation", &[]);
    assert_eq!(count_in(&lines, "a string of"), 2, "{lines:#?}");
    assert_eq!(count_in(&lines, "SIGSEGV"), 1, "{lines:#?}");
}

#[test]
fn bands_of_an_image_are_blurred_in_place() {
    assert_eq!(run("image_filter", &[]), ["the point has become 9 pixels of 1"]);
}

#[test]
fn a_pipeline_finds_all_primes() {
    let lines = run("pipeline", &[]);
    assert_eq!(lines.last().unwrap(), "1229 primes, 5736396 in all");
}

#[test]
fn the_words_of_this_crate_are_counted() {
    let lines = run("word_count", &[]);
    assert_eq!(lines.len(), 10, "{lines:#?}");
    assert_eq!(count_in(&lines, " the"), 1, "{lines:#?}");
}

#[test]
fn the_census_is_right_although_a_worker_is_killed() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let lines = run(
        "census",
        &["--sources", sources, "--limit", "40", "--workers", "2"],
    );
    assert_eq!(count_in(&lines, "then killed with SIGKILL"), 1, "{lines:#?}");
    assert_eq!(count_in(&lines, "the same counts"), 1, "{lines:#?}");
    assert!(lines[0].contains("the .rs files in"), "{lines:#?}");
}

#[test]
fn tiles_of_an_image_are_drawn_in_place() {
    let lines = run("mandelbrot", &[]);
    assert_eq!(lines.last().unwrap(), "96 tiles were drawn in place");
    // The middle of the set is in the middle of the picture, and nothing of it at the edges.
    assert!(
        lines[12].contains("##########") && !lines[1].contains('#'),
        "{lines:#?}"
    );
}

#[test]
fn a_crawler_reads_every_file_although_it_waits_for_its_readers() {
    let lines = run("crawler", &[sources().join("src").to_str().unwrap()]);
    let (read, rest) = lines.last().unwrap().split_once(" of ").unwrap();
    assert!(rest.starts_with(&format!("{read} files were read")), "{lines:#?}");
}

#[test]
fn a_supervisor_starts_crashed_services_again_and_gives_one_up() {
    let lines = run("supervisor", &[]);
    let has = |line: &str| count_in(&lines, line);
    assert_eq!(
        has("misconfigured: has exited with status 3; it is started again"),
        3,
        "{lines:#?}"
    );
    assert_eq!(
        has("misconfigured: has exited with status 3; given up after 4 starts"),
        1
    );
    assert_eq!(
        has("flaky: has panicked (the database does not answer); it is started"),
        1
    );
    assert_eq!(has("flaky: was ended by signal 6; it is started again"), 1);
    assert_eq!(has("flaky: has ended well after 3 starts"), 1);
    assert_eq!(has("clock: has ended well after 1 starts"), 1);
}

#[test]
fn a_crash_costs_one_document_and_rayon_scores_the_others() {
    let lines = run("beside_rayon", &[]);
    assert_eq!(lines[0], "196 documents have a score, 4 made the decoder crash");
}

#[test]
fn a_bar_moves_although_the_first_value_is_slow() {
    let lines = run("progress", &[]);
    assert_eq!(lines[0], "the sum is 2646700");
    assert_eq!(count_in(&lines, "others had arrived"), 1, "{lines:#?}");
    assert_eq!(count_in(&lines, " 0 others had arrived"), 0, "{lines:#?}");
}

#[cfg(feature = "tracing")]
#[test]
fn every_process_logs_with_the_spans_around_it() {
    assert_eq!(run("traced", &[]), ["12"]);
}

#[test]
fn an_async_program_waits_for_many_things_in_one_thread() {
    let lines = run("async_service", &[]);
    assert_eq!(count_in(&lines, "primes below"), 19, "{lines:#?}");
    assert_eq!(count_in(&lines, "the worker died of 13000"), 1, "{lines:#?}");
    assert_eq!(count_in(&lines, "2262 primes below 20000"), 1, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "the client ended with status 0");
}

#[test]
fn every_example_is_run_by_a_test_and_listed_on_the_page() {
    let page = include_str!("../pages/rust.md");
    let mut tests = include_str!("examples.rs").to_owned();
    tests.retain(|c| !c.is_whitespace());
    for name in examples() {
        let is_run = tests.contains(&format!("run(\"{name}\""));
        let is_elsewhere = ELSEWHERE.contains(&name.as_str());
        assert!(is_run || is_elsewhere, "no test runs {name}");
        let is_listed = page.contains(&format!("| `{name}` |")) || name == "readme";
        assert!(is_listed, "docs/rust.md does not list {name}");
    }
}

/// Returns the names of all examples that this build has.
fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(sources().join("examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let programs = paths.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let programs = programs.filter(|path| cfg!(feature = "tracing") || !path.ends_with("traced.rs"));
    programs
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs an example. Returns the lines that it has printed. Fails if the example fails or hangs.
#[track_caller]
fn run(name: &str, arguments: &[&str]) -> Vec<String> {
    let mut child = Command::new(compiled(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The outputs are shorter than the pipe is large, so the example can end before they are read.
    let ended = eventually(|| child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(ended, "{name} takes longer than {LIMIT:?}:\n{text}{errors}");
    assert!(
        output.status.success(),
        "{name}: {}\n{text}{errors}",
        output.status
    );
    text.lines().map(str::to_owned).collect()
}

fn count_in(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

/// Returns the path of a compiled example. Compiles the examples if they are missing or old.
fn compiled(name: &str) -> PathBuf {
    static ONCE: Once = Once::new();
    // This program is target/PROFILE/deps/examples-HASH.
    let this = std::env::current_exe().unwrap();
    let folder = this.ancestors().nth(2).unwrap().join("examples");
    ONCE.call_once(|| {
        let crate_changed = newest(&sources().join("src"));
        let is_new = |name: &String| {
            let changed = changed_at(&sources().join(format!("examples/{name}.rs")));
            changed_at(&folder.join(name)) >= changed.max(crate_changed)
        };
        if !examples().iter().all(is_new) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "procession", "--examples"]);
            if cfg!(feature = "tracing") {
                cargo.args(["--features", "tracing"]);
            }
            if !cfg!(debug_assertions) {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the examples do not compile");
        }
    });
    folder.join(name)
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

/// Returns when the newest file in a folder was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let times = entries.filter_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => newest(&entry.path()),
        _ => changed_at(&entry.path()),
    });
    times.max()
}
