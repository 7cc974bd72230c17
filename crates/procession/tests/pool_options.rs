//! The options of a pool that are those of its workers' processes.

mod common;

use common::LIMIT;
use procession::{Pool, PoolBuilder, Resource, StartError, StartMethod, Stdio, TaskError};
use rustix::process as system;
use std::io::Read;

procession::init_before_main!();

/// Returns the value of one task for each start method.
fn of_a_worker<R: procession::Message>(
    options: impl Fn(PoolBuilder) -> PoolBuilder,
    task: fn(()) -> R,
) -> [R; 2] {
    [StartMethod::Spawn, StartMethod::ForkServer].map(|method| {
        let pool = options(Pool::builder().workers(1).method(method))
            .build()
            .unwrap();
        let task = pool.submit(task, ()).unwrap();
        task.join_timeout(LIMIT).map_err(|_| "it hangs").unwrap().unwrap()
    })
}

#[test]
fn workers_have_their_environment_folder_and_limits() {
    let options = |builder: PoolBuilder| {
        builder
            .env_clear()
            .env("A", "1")
            .envs([("B", "2")])
            .env_remove("A")
            .cwd("/")
            .rlimit(Resource::CoreFile, Some(0), Some(0))
            .nice(3)
    };
    let found = of_a_worker(options, |()| {
        let variables: Vec<(String, String)> = std::env::vars().collect();
        let core = system::getrlimit(system::Resource::Core).maximum;
        let nice = system::getpriority_process(None).unwrap();
        (variables, std::env::current_dir().unwrap(), core, nice)
    });
    for (variables, folder, core, nice) in found {
        assert_eq!(variables, [("B".to_owned(), "2".to_owned())]);
        assert_eq!((folder.to_str(), core, nice), (Some("/"), Some(0), 3));
    }
}

#[test]
fn the_output_of_all_workers_goes_where_the_pool_says() {
    let (mut read, write) = std::io::pipe().unwrap();
    let pool = Pool::builder()
        .workers(2)
        .tasks_per_worker(1) // each task has a worker of its own, so the descriptor is passed many times
        .stdin(Stdio::Null)
        .stdout(write)
        .build()
        .unwrap();
    let print = |n: u32| {
        use std::io::Write;
        writeln!(std::io::stdout(), "line {n}").unwrap();
    };
    for task in pool.map(print, 0..5).unwrap() {
        task.unwrap();
    }
    pool.join();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["line 0", "line 1", "line 2", "line 3", "line 4"]);
}

#[test]
fn each_worker_is_pinned_to_a_cpu_of_its_own() {
    fn cpus(_: ()) -> Vec<usize> {
        let own = rustix::thread::sched_getaffinity(None).unwrap();
        (0..1024).filter(|cpu| own.is_set(*cpu)).collect()
    }
    let own = cpus(());
    let options = |builder: PoolBuilder| builder.workers(own.len() as u32 + 1).pin_workers(true);
    let pool = options(Pool::builder()).tasks_per_worker(1).build().unwrap();
    let mut seen: Vec<usize> = Vec::new();
    let deadline = std::time::Instant::now() + LIMIT;
    // Which worker takes which task is not known, so tasks are submitted until each CPU was seen.
    while own.iter().any(|cpu| !seen.contains(cpu)) {
        assert!(std::time::Instant::now() < deadline, "{seen:?} of {own:?}");
        let found = pool.submit(cpus, ()).unwrap().join().unwrap();
        assert_eq!(found.len(), 1);
        seen.extend(found);
    }
    assert!(seen.iter().all(|cpu| own.contains(cpu)));
    let first = own[0];
    let found = of_a_worker(move |builder| builder.affinity([first]).pin_workers(true), cpus);
    assert_eq!(found, [[first], [first]]);
}

/// An option, and a function that sets a bad value.
type Case = (&'static str, fn(PoolBuilder) -> PoolBuilder);

#[test]
fn a_bad_value_is_named_when_the_pool_is_built() {
    let cases: [Case; 4] = [
        ("cwd", |b| b.cwd("/no/such/folder")),
        ("env", |b| b.env("", "1")),
        ("affinity", |b| b.affinity([4000])),
        ("rlimit", |b| b.rlimit(Resource::Data, Some(2), Some(1))),
    ];
    for (expected, set) in cases {
        match set(Pool::builder()).build() {
            Err(StartError::Option { option, .. }) => assert_eq!(option, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_setting_that_the_system_refuses_to_the_workers_is_the_reason_of_the_tasks_end() {
    // The leader of a group of another session, of which no worker can be a member.
    let session = procession::Process::builder().daemon(true).new_session();
    let (ready, never) = (
        procession::Event::new().unwrap(),
        procession::Event::new().unwrap(),
    );
    let leader = session
        .spawn(
            |(ready, never): (procession::Event, procession::Event)| {
                ready.set();
                never.wait();
            },
            (ready.clone(), never),
        )
        .unwrap();
    assert!(ready.wait_timeout(LIMIT));
    let pool = Pool::builder()
        .workers(1)
        .process_group(leader.pid())
        .build()
        .unwrap();
    match pool.submit(|()| (), ()) {
        Ok(task) => match task.join_timeout(LIMIT) {
            Ok(Err(error @ TaskError::Abandoned { .. })) => {
                assert!(error.to_string().contains("process_group"), "{error}");
            }
            other => panic!("{other:?}"),
        },
        // The pool was broken already.
        Err(error) => assert!(error.to_string().contains("no more tasks"), "{error}"),
    }
    leader.kill().unwrap();
}
