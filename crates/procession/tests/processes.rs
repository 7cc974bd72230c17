//! Processes: their values, their ends, their properties.

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{Event, Process, ProcessError, Queue, StartMethod, Stdio};
use std::io::Read;

procession::init_before_main!();

every_way! {
    a_function_returns_its_value_to_another_process
    a_closure_that_captures_nothing_is_a_function
    large_arguments_and_values_arrive_whole
    a_panic_arrives_as_its_message
    a_signal_is_told_from_an_exit_status
    a_killed_process_is_told_by_its_signal
    a_process_that_exits_by_itself_has_not_returned
    handles_in_a_return_value_outlive_the_process_that_made_them
    a_process_has_its_name_and_its_environment
    standard_output_goes_where_it_is_told
    a_child_starts_children_of_its_own
    a_daemon_ends_with_its_parent
    many_processes_one_after_the_other_leave_nothing_behind
    without_a_free_descriptor_an_error_says_what_to_do
}

fn a_function_returns_its_value_to_another_process(way: Way) {
    let child = way.start(|n: u32| (n + 1, std::process::id()), 41);
    let pid = child.pid();
    assert_eq!(joined(child).unwrap(), (42, pid));
    assert_ne!(pid, std::process::id());
}

fn a_closure_that_captures_nothing_is_a_function(way: Way) {
    let child = way.start(
        |(a, b): (String, Option<f64>)| format!("{a} {b:?}"),
        ("x".into(), Some(0.5)),
    );
    assert_eq!(joined(child).unwrap(), "x Some(0.5)");
}

fn large_arguments_and_values_arrive_whole(way: Way) {
    let numbers: Vec<u64> = (0..300_000).collect();
    let child = way.start(
        |numbers: Vec<u64>| numbers.into_iter().rev().collect::<Vec<_>>(),
        numbers,
    );
    let reversed = joined(child).unwrap();
    assert!(reversed.iter().rev().copied().eq(0..300_000));
}

fn a_panic_arrives_as_its_message(way: Way) {
    let child = way.start(|n: u32| -> u32 { panic!("no {n} today") }, 7);
    match joined(child) {
        Err(ProcessError::Panicked {
            message,
            location,
            process,
            ..
        }) => {
            assert_eq!(message, "no 7 today");
            assert!(location.unwrap().contains("processes.rs:"));
            assert!(process.pid > 0);
        }
        other => panic!("{other:?}"),
    }
}

fn a_signal_is_told_from_an_exit_status(way: Way) {
    let child = way.start(|()| std::process::abort(), ());
    assert!(matches!(
        joined::<()>(child),
        Err(ProcessError::Signaled { signal: 6, .. })
    ));
}

fn a_killed_process_is_told_by_its_signal(way: Way) {
    let (started, never) = (Event::new().unwrap(), Event::new().unwrap());
    let child = way.start(
        |(started, never): (Event, Event)| {
            started.set();
            never.wait();
        },
        (started.clone(), never),
    );
    assert!(started.wait_timeout(LIMIT));
    assert!(child.is_alive());
    child.kill().unwrap();
    let error = joined(child).unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    assert!(matches!(error, ProcessError::Signaled { signal: 9, .. }));
}

fn a_process_that_exits_by_itself_has_not_returned(way: Way) {
    for code in [0, 3] {
        let child = way.start(|code: i32| std::process::exit(code), code);
        match joined::<()>(child) {
            Err(ProcessError::Exited { code: found, .. }) => assert_eq!(found, code),
            other => panic!("{other:?}"),
        }
    }
}

fn handles_in_a_return_value_outlive_the_process_that_made_them(way: Way) {
    let child = way.start(
        |()| {
            let queue = Queue::<String>::new().unwrap();
            queue.put(&"left behind".into()).unwrap();
            let block = procession::Block::from_slice(&[1.5f64; 1000]).unwrap();
            (queue, block)
        },
        (),
    );
    let (queue, block) = joined(child).unwrap();
    assert_eq!(queue.try_get().unwrap(), "left behind");
    assert_eq!(block[999], 1.5);
}

fn a_process_has_its_name_and_its_environment(way: Way) {
    let builder = Process::builder().name("singer").env("PROCESSION_SONG", "la la");
    let child = way.start_with(
        builder,
        |()| std::env::var("PROCESSION_SONG").unwrap_or_default(),
        (),
    );
    assert_eq!(child.name(), "singer");
    assert_eq!(joined(child).unwrap(), "la la");
}

fn standard_output_goes_where_it_is_told(way: Way) {
    let (mut read, write) = std::io::pipe().unwrap();
    let builder = Process::builder().stdout(write).stdin(Stdio::Null);
    let child = way.start_with(
        builder,
        |()| {
            use std::io::Write;
            let _ = writeln!(std::io::stdout().lock(), "sung");
            std::io::stdin().read(&mut [0]).unwrap() as u64
        },
        (),
    );
    assert_eq!(joined(child).unwrap(), 0);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "sung\n");
}

fn a_child_starts_children_of_its_own(way: Way) {
    fn factorial((n, server): (u64, bool)) -> u64 {
        if n == 0 {
            return 1;
        }
        let method = if server {
            StartMethod::ForkServer
        } else {
            StartMethod::Spawn
        };
        let child = Process::builder()
            .method(method)
            .spawn(factorial, (n - 1, server))
            .unwrap();
        n * child.join().unwrap()
    }
    let child = way.start(factorial, (4, way == Way::ForkServer));
    assert_eq!(joined(child).unwrap(), 24);
}

fn a_daemon_ends_with_its_parent(way: Way) {
    let (pids, never) = (Queue::<u32>::new().unwrap(), Event::new().unwrap());
    let parent = way.start(
        |(pids, never): (Queue<u32>, Event)| {
            let grandchild = Process::builder()
                .daemon(true)
                .spawn(
                    |(pids, never): (Queue<u32>, Event)| {
                        pids.put(&std::process::id()).unwrap();
                        never.wait();
                    },
                    (pids, never.clone()),
                )
                .unwrap();
            never.wait();
            drop(grandchild);
        },
        (pids.clone(), never),
    );
    let grandchild = pids.get_timeout(LIMIT).unwrap();
    parent.kill().unwrap();
    let _ = joined(parent);
    assert!(eventually(|| !procession_core::sys::procfs::is_alive(
        grandchild, 0
    )));
}

fn many_processes_one_after_the_other_leave_nothing_behind(way: Way) {
    let round = || assert_eq!(joined(way.start(|n: u8| n, 1)).unwrap(), 1);
    round();
    for _ in 0..10 {
        round();
    }
}

fn without_a_free_descriptor_an_error_says_what_to_do(way: Way) {
    let child = way.start(
        |()| {
            Event::new().unwrap(); // the family is there
            let listener = procession::Listener::bind_unix(
                std::env::temp_dir().join(format!("procession-test-{}", std::process::id())),
                b"key",
            )
            .unwrap();
            let address = listener.address().unwrap();
            limit_descriptors_to_those_in_use();
            let spawned = Process::builder()
                .method(StartMethod::Spawn)
                .stdout(Stdio::Null)
                .spawn(|()| (), ());
            let served = Process::builder()
                .method(StartMethod::ForkServer)
                .spawn(|()| (), ());
            let mut errors = vec![
                spawned.map(drop).unwrap_err().to_string(),
                served.map(drop).unwrap_err().to_string(),
                procession::Pool::new(1).map(drop).unwrap_err().to_string(),
            ];
            match procession::Client::connect(&address, b"key").map(drop) {
                Err(error @ procession::ConnectionError::Io(_)) => errors.push(error.to_string()),
                other => panic!("{other:?}"),
            }
            let bound = procession::Listener::bind_tcp("127.0.0.1:0", b"key");
            (errors, bound.map(drop).unwrap_err().raw_os_error())
        },
        (),
    );
    let (errors, number) = joined(child).unwrap();
    for error in errors {
        assert!(
            error.contains("Too many open files") && error.contains("`ulimit -n`"),
            "{error}"
        );
    }
    assert_eq!(number, Some(24), "a bare error of the system keeps its number");
}

fn limit_descriptors_to_those_in_use() {
    let free = std::fs::File::open("/dev/null").unwrap();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(std::os::fd::AsRawFd::as_raw_fd(&free) as u64);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
