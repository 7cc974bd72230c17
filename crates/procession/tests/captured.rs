//! The output of children is captured by the test harness, like that of the test itself.
//!
//! The tests run this program again, with tests in it that print by children, and look at what the harness shows.
#![allow(unsafe_code, clippy::print_stdout, clippy::print_stderr)]

mod common;

use common::{LIMIT, Way, joined};
use procession::{Pool, Process, Queue, StartMethod, Stdio};
use std::process::Command;

procession::init_before_main!();

/// Runs one of the ignored tests below. Returns what the harness prints before the output of the test, that output, and
/// the error output.
fn run(test: &str, options: &[&str]) -> [String; 3] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--test-threads=1"])
        .args(options);
    let output = command
        .env_remove("RUST_TEST_NOCAPTURE")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let marker = format!("---- {test} stdout ----");
    let (before, shown) = text.split_once(&marker).unwrap_or((&text, ""));
    assert!(before.contains("1 test") || shown.contains("1 passed"), "{text}");
    [
        before.into(),
        shown.into(),
        String::from_utf8(output.stderr).unwrap(),
    ]
}

/// Runs a test that passes, in each way in which a user may run it. `lines` are what its children print.
fn is_captured(test: &str, lines: &[&str]) {
    let [before, shown, error] = run(test, &["--show-output"]);
    for line in lines {
        assert_eq!(shown.matches(line).count(), 1, "{line}: {shown}");
        assert!(
            !before.contains(line) && !error.contains(line),
            "{line}: {before} {error}"
        );
    }
    let [quiet, _, error] = run(test, &[]);
    assert!(
        !lines
            .iter()
            .any(|line| quiet.contains(line) || error.contains(line)),
        "{quiet} {error}"
    );
    let [direct, _, error] = run(test, &["--nocapture"]);
    assert!(
        lines
            .iter()
            .all(|line| direct.contains(line) || error.contains(line)),
        "{direct} {error}"
    );
}

every_way! {
    what_a_child_prints_belongs_to_the_test
    what_children_of_children_print_belongs_to_the_test
    what_a_killed_child_has_printed_belongs_to_the_test
    what_a_panic_says_belongs_to_the_test
}

fn what_a_child_prints_belongs_to_the_test(way: Way) {
    let module = way.module();
    is_captured(
        &format!("inner::{module}::prints"),
        &["out 1\n", "error 2\n", "out 3\n"],
    );
}

fn what_children_of_children_print_belongs_to_the_test(way: Way) {
    let module = way.module();
    let lines = ["first\n", "spawned\n", "served\n", "forked\n", "last\n"];
    is_captured(&format!("inner::{module}::has_children"), &lines);
}

fn what_a_killed_child_has_printed_belongs_to_the_test(way: Way) {
    let module = way.module();
    is_captured(&format!("inner::{module}::is_killed"), &["before the end\n"]);
}

fn what_a_panic_says_belongs_to_the_test(way: Way) {
    let module = way.module();
    is_captured(&format!("inner::{module}::panics"), &["no luck today\n"]);
}

#[test]
fn what_workers_and_scoped_processes_print_belongs_to_the_test() {
    is_captured("inner::a_pool_prints", &["task 0\n", "task 1\n", "task 2\n"]);
    is_captured("inner::a_scope_prints", &["scoped\n"]);
}

#[test]
fn the_order_of_output_and_error_output_is_kept() {
    let [_, shown, _] = run("inner::spawn::prints", &["--show-output"]);
    assert!(shown.contains("out 1\nerror 2\nout 3\n"), "{shown}");
}

#[test]
fn much_output_does_not_block_the_child() {
    let child = Process::builder()
        .daemon(true)
        .spawn(|()| print!("{}", "much ".repeat(1 << 18)), ());
    joined(child.unwrap()).unwrap();
}

#[test]
fn only_output_can_be_captured() {
    let refused = Process::builder().stdin(Stdio::Captured).spawn(|()| (), ());
    let error = refused.map(drop).unwrap_err().to_string();
    assert!(error.contains("`stdin`"), "{error}");
}

#[test]
fn output_that_cannot_be_printed_is_no_panic() {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let parent = Process::builder().daemon(true).stdout(write).spawn(
        |()| {
            let start = || {
                Process::builder()
                    .stdout(Stdio::Captured)
                    .spawn(|()| println!("by the child"), ())
            };
            start().unwrap().join().unwrap();
            // A handle that is dropped while its thread panics must not panic as well.
            let dropped = std::panic::catch_unwind(|| {
                let child = start().unwrap();
                assert!(child.wait_timeout(LIMIT).is_some());
                panic!("on purpose");
            });
            dropped.is_err()
        },
        (),
    );
    assert!(joined(parent.unwrap()).unwrap());
}

/// What a program gets that asks for it: the text is printed when the process is joined.
#[test]
fn a_program_can_ask_for_it() {
    let (mut read, write) = std::io::pipe().unwrap();
    let parent = Process::builder().daemon(true).stdout(write).spawn(
        |()| {
            let printed = Queue::<()>::new().unwrap();
            let child = Process::builder().stdout(Stdio::Captured).spawn(
                |printed: Queue<()>| {
                    println!("by the child");
                    printed.put(&()).unwrap();
                },
                printed.clone(),
            );
            printed.get_timeout(LIMIT).unwrap();
            println!("by the parent");
            child.unwrap().join().unwrap();
        },
        (),
    );
    joined(parent.unwrap()).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut read, &mut text).unwrap();
    assert_eq!(text, "by the parent\nby the child\n");
}

impl Way {
    fn module(self) -> &'static str {
        match self {
            Way::Fork => "fork",
            Way::Spawn => "spawn",
            Way::ForkServer => "forkserver",
        }
    }
}

/// Tests that the others run.
mod inner {
    use super::*;

    macro_rules! inner_tests {
        ($($module:ident $way:ident)*) => {
            $(mod $module {
                #[test]
                #[ignore = "another test runs it"]
                fn prints() { super::prints(crate::common::Way::$way); }
                #[test]
                #[ignore = "another test runs it"]
                fn has_children() { super::has_children(crate::common::Way::$way); }
                #[test]
                #[ignore = "another test runs it"]
                fn is_killed() { super::is_killed(crate::common::Way::$way); }
                #[test]
                #[ignore = "another test runs it"]
                fn panics() { super::panics(crate::common::Way::$way); }
            })*
        };
    }

    inner_tests! { fork Fork spawn Spawn forkserver ForkServer }

    fn prints(way: Way) {
        let child = way.start(
            |()| {
                println!("out 1");
                eprintln!("error 2");
                // In a thread, too.
                std::thread::spawn(|| println!("out 3")).join().unwrap();
            },
            (),
        );
        joined(child).unwrap();
    }

    fn has_children(way: Way) {
        let child = way.start(
            |()| {
                println!("first");
                Process::spawn(|()| println!("spawned"), ())
                    .unwrap()
                    .join()
                    .unwrap();
                let served = Process::builder()
                    .method(StartMethod::ForkServer)
                    .spawn(|()| println!("served"), ());
                served.unwrap().join().unwrap();
                // SAFETY: this process has one thread.
                unsafe { Process::builder().fork(|| println!("forked")) }
                    .unwrap()
                    .join()
                    .unwrap();
                println!("last");
            },
            (),
        );
        joined(child).unwrap();
    }

    fn is_killed(way: Way) {
        let printed = Queue::<()>::new().unwrap();
        let child = way.start(
            |printed: Queue<()>| {
                println!("before the end");
                printed.put(&()).unwrap();
                std::thread::sleep(LIMIT);
            },
            printed.clone(),
        );
        printed.get_timeout(LIMIT).unwrap();
        child.kill().unwrap();
        // Without a join: the handle is dropped.
    }

    fn panics(way: Way) {
        let child = way.start(|()| -> () { panic!("no luck today") }, ());
        assert!(joined(child).is_err());
    }

    #[test]
    #[ignore = "another test runs it"]
    fn a_pool_prints() {
        let pool = Pool::new(2).unwrap();
        pool.map(|n: u32| println!("task {n}"), 0..3)
            .unwrap()
            .for_each(|task| task.unwrap());
        pool.join();
    }

    #[test]
    #[ignore = "another test runs it"]
    fn a_scope_prints() {
        let ended: procession::Result<()> = procession::scope(|scope| {
            scope.spawn(|()| println!("scoped"), ())?;
            Ok(())
        });
        ended.unwrap();
    }
}
