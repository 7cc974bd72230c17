//! Scopes: no process outlives its scope, however the scope ends.
#![allow(unsafe_code)]

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{
    Builder, Event, Message, Process, ProcessError, Queue, Result, Scope, ScopedProcess, StartError,
    StartMethod,
};
use procession_core::sys::pidfd;
use std::path::PathBuf;
use std::time::Duration;

procession::init_before_main!();

every_way! {
    a_scope_returns_what_its_processes_return
    a_scope_waits_for_the_processes_that_were_not_joined
    an_early_error_kills_the_processes
    a_panic_kills_the_processes_and_goes_on
    a_failure_that_no_join_has_seen_is_the_error_of_the_scope
    a_failure_that_a_join_has_seen_is_not_reported_again
    the_first_failure_is_reported_after_the_others_have_ended
    a_process_that_cannot_be_started_ends_the_scope
    a_scope_ends_with_its_process
    an_interrupt_of_the_terminal_ends_the_whole_tree
}

impl Way {
    fn scoped<A: Message, R: Message>(
        self,
        scope: &Scope,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<ScopedProcess<'_, R>, StartError> {
        self.scoped_with(Process::builder(), scope, function, arguments)
    }

    fn scoped_with<A: Message, R: Message>(
        self,
        builder: Builder,
        scope: &Scope,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<ScopedProcess<'_, R>, StartError> {
        match self {
            // SAFETY: the children of these tests only use their arguments and this crate.
            Way::Fork => unsafe { builder.fork_scoped(scope, move || function(arguments)) },
            Way::Spawn => builder.spawn_scoped(scope, function, arguments),
            Way::ForkServer => builder
                .method(StartMethod::ForkServer)
                .spawn_scoped(scope, function, arguments),
        }
    }
}

/// Returns whether the process runs. The zombie of a process whose parent was killed is init's, which may take its time.
fn lives(pid: u32) -> bool {
    procession_core::sys::procfs::is_alive(pid, 0)
}

/// Returns whether neither a process nor a zombie has this pid.
fn is_gone(pid: u32) -> bool {
    !PathBuf::from(format!("/proc/{pid}")).exists()
}

fn wait_for_ever((pids, never): (Queue<u32>, Event)) {
    pids.put(&std::process::id()).unwrap();
    never.wait();
}

fn two_that_wait(way: Way, scope: &Scope) -> Result<[u32; 2]> {
    let (pids, never) = (Queue::new()?, Event::new()?);
    for _ in 0..2 {
        way.scoped(scope, wait_for_ever, (pids.clone(), never.clone()))?;
    }
    Ok([(); 2].map(|()| pids.get_timeout(LIMIT).unwrap()))
}

fn a_scope_returns_what_its_processes_return(way: Way) {
    let (sum, names) = procession::scope(|scope| -> Result<_> {
        let builder = Process::builder().name("named").env("PROCESSION_SCOPE", "6");
        let one = way.scoped(scope, |n: u32| n + 1, 1)?;
        let other = way.scoped_with(
            builder,
            scope,
            |n: u32| n * std::env::var("PROCESSION_SCOPE").unwrap().parse::<u32>().unwrap(),
            7,
        )?;
        let names = (other.name().to_owned(), one.pid() != other.pid());
        let other = match other.join_timeout(LIMIT) {
            Ok(value) => value?,
            Err(process) => panic!("{process:?} hangs"),
        };
        Ok((one.join()? + other, names))
    })
    .unwrap();
    assert_eq!((sum, names), (44, ("named".into(), true)));
}

fn a_scope_waits_for_the_processes_that_were_not_joined(way: Way) {
    let done = Queue::<u32>::new().unwrap();
    let pids = procession::scope(|scope| -> Result<_> {
        let start = Event::new()?;
        let children = [0; 3].map(|_| {
            let child = way.scoped(
                scope,
                |(start, done): (Event, Queue<u32>)| {
                    start.wait();
                    std::thread::sleep(Duration::from_millis(20));
                    done.put(&std::process::id()).unwrap();
                },
                (start.clone(), done.clone()),
            );
            child.unwrap().pid()
        });
        start.set();
        Ok(children)
    })
    .unwrap();
    let mut ended = [(); 3].map(|()| done.try_get().unwrap());
    ended.sort_unstable();
    let mut expected = pids;
    expected.sort_unstable();
    assert_eq!(ended, expected);
    assert!(way == Way::ForkServer || pids.into_iter().all(is_gone));
    assert!(eventually(|| pids.into_iter().all(is_gone)));
}

fn an_early_error_kills_the_processes(way: Way) {
    let mut pids = [0; 2];
    let error = procession::scope(|scope| -> Result<()> {
        pids = two_that_wait(way, scope)?;
        Err(std::io::Error::other("enough"))?;
        unreachable!()
    });
    assert_eq!(error.unwrap_err().to_string(), "enough");
    assert!(eventually(|| pids.into_iter().all(is_gone)));
}

fn a_panic_kills_the_processes_and_goes_on(way: Way) {
    let mut pids = [0; 2];
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        procession::scope(|scope| -> Result<()> {
            pids = two_that_wait(way, scope)?;
            std::panic::resume_unwind(Box::new("a payload"))
        })
    }));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "a payload");
    assert!(eventually(|| pids.into_iter().all(is_gone)));
}

fn a_failure_that_no_join_has_seen_is_the_error_of_the_scope(way: Way) {
    // The error is of any type that is made from a ProcessError.
    let ended: Result<u8, Box<dyn std::error::Error>> = procession::scope(|scope| {
        way.scoped(scope, |n: u32| -> u32 { panic!("not {n}") }, 3)?;
        Ok(1)
    });
    let error = ended.unwrap_err();
    match error.downcast_ref::<ProcessError>() {
        Some(ProcessError::Panicked { message, .. }) => assert_eq!(message, "not 3"),
        _ => panic!("{error}"),
    }
    let killed = procession::scope(|scope| -> Result<()> {
        let pid = Queue::new()?;
        let child = way.scoped(scope, wait_for_ever, (pid.clone(), Event::new()?))?;
        pid.get_timeout(LIMIT)?;
        child.kill()?;
        Ok(())
    });
    let error = killed.unwrap_err().to_string();
    assert!(error.contains("SIGKILL"), "{error}");
}

fn a_failure_that_a_join_has_seen_is_not_reported_again(way: Way) {
    let text = procession::scope(|scope| -> Result<_> {
        let child = way.scoped::<(), ()>(scope, |()| std::process::exit(3), ())?;
        Ok(child.join().map(|()| String::new()).unwrap_err().to_string())
    });
    assert!(text.unwrap().contains("status 3"));
}

fn the_first_failure_is_reported_after_the_others_have_ended(way: Way) {
    let done = Queue::<u8>::new().unwrap();
    let ended = procession::scope(|scope| -> Result<()> {
        let failed = Event::new()?;
        let wait = |(failed, done): (Event, Queue<u8>)| {
            failed.wait();
            done.put(&1).unwrap();
        };
        way.scoped(scope, wait, (failed.clone(), done.clone()))?;
        way.scoped::<(), ()>(scope, |()| std::process::exit(4), ())?;
        let last = way.scoped::<(), ()>(scope, |()| std::process::exit(5), ())?;
        while last.exit_status().is_none() {
            std::thread::yield_now();
        }
        failed.set();
        Ok(())
    });
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("status 4"), "{error}");
    assert_eq!(done.try_get().unwrap(), 1);
}

fn a_process_that_cannot_be_started_ends_the_scope(way: Way) {
    let mut pids = [0; 2];
    let ended = procession::scope(|scope| -> Result<()> {
        pids = two_that_wait(way, scope)?;
        way.scoped_with(Process::builder().nice(99), scope, |()| (), ())?;
        Ok(())
    });
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("`nice`") && error.contains("99"), "{error}");
    assert!(eventually(|| pids.into_iter().all(is_gone)));
}

/// What a process does that has a scope in which a process has left the group, and so the reach of Ctrl-C.
fn hold_a_scope((server, pids, never): (bool, Queue<u32>, Event)) {
    let _ = procession::scope(|scope| -> Result<()> {
        let method = if server {
            StartMethod::ForkServer
        } else {
            StartMethod::Spawn
        };
        for builder in [Process::builder(), Process::builder().process_group(0)] {
            let builder = builder.method(method);
            builder.spawn_scoped(scope, wait_for_ever, (pids.clone(), never.clone()))?;
        }
        Ok(())
    });
}

fn a_tree(way: Way) -> (Process<()>, [u32; 2]) {
    let (pids, never) = (Queue::new().unwrap(), Event::new().unwrap());
    let parent = way.start_with(
        Process::builder().new_session(),
        hold_a_scope,
        (way == Way::ForkServer, pids.clone(), never),
    );
    let pids = [(); 2].map(|()| pids.get_timeout(LIMIT).unwrap());
    (parent, pids)
}

fn a_scope_ends_with_its_process(way: Way) {
    let (parent, pids) = a_tree(way);
    parent.kill().unwrap();
    assert!(matches!(
        joined(parent),
        Err(ProcessError::Signaled { signal: 9, .. })
    ));
    assert!(eventually(|| !pids.into_iter().any(lives)));
}

fn an_interrupt_of_the_terminal_ends_the_whole_tree(way: Way) {
    let (parent, pids) = a_tree(way);
    // The terminal sends it to the group in the foreground, of which one of the children is no member.
    let group = i32::try_from(parent.pid()).unwrap();
    // SAFETY: the call touches no memory.
    assert_eq!(unsafe { libc::kill(-group, libc::SIGINT) }, 0);
    assert!(matches!(
        joined(parent),
        Err(ProcessError::Signaled { signal: 2, .. })
    ));
    assert!(eventually(|| !pids.into_iter().any(lives)));
}

#[test]
fn a_forked_process_borrows_what_its_parent_has() {
    let words = ["one".to_owned(), "two".to_owned()];
    let lengths = procession::scope(|scope| -> Result<Vec<usize>> {
        let children: Vec<_> = words
            .iter()
            // SAFETY: the child only uses what this thread has made.
            .map(|word| unsafe { Process::builder().fork_scoped(scope, || word.len()) })
            .collect();
        children.into_iter().map(|child| Ok(child?.join()?)).collect()
    });
    assert_eq!(lengths.unwrap(), [3, 3]);
}

#[test]
fn a_process_of_a_scope_can_be_awaited() {
    let value = procession::scope(|scope| -> Result<u32> {
        let child = scope.spawn(|n: u32| n + 1, 1)?;
        Ok(futures::executor::block_on(child.join_async())?)
    });
    assert_eq!(value.unwrap(), 2);
}

#[test]
fn threads_start_processes_in_one_scope() {
    let values = procession::scope(|scope| -> Result<Vec<u32>> {
        std::thread::scope(|threads| {
            let handles: Vec<_> = (0..4)
                .map(|n| {
                    threads.spawn(move || -> Result<u32> { Ok(scope.spawn(|n: u32| n * n, n)?.join()?) })
                })
                .collect();
            handles.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    });
    assert_eq!(values.unwrap(), [0, 1, 4, 9]);
}

#[test]
fn a_scope_without_a_free_descriptor_leaves_no_process() {
    let child = Process::builder().daemon(true).spawn(
        |()| {
            let mut pids = [0; 2];
            let ended = procession::scope(|scope| -> Result<()> {
                pids = two_that_wait(Way::Spawn, scope)?;
                let free = std::fs::File::open("/dev/null")?;
                let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
                limit.current = Some(std::os::fd::AsRawFd::as_raw_fd(&free) as u64);
                rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
                let builder = Process::builder().stdout(procession::Stdio::Null);
                builder.spawn_scoped(scope, |()| (), ())?;
                Ok(())
            });
            let gone = pids.iter().all(|pid| pidfd::kill(*pid, 0).is_err());
            (ended.unwrap_err().to_string(), gone)
        },
        (),
    );
    let (error, gone) = joined(child.unwrap()).unwrap();
    assert!(error.contains("Too many open files"), "{error}");
    assert!(gone);
}
