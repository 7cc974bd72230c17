//! The options of processes: each works with each start method, or is refused with an error that names it.

#![allow(unsafe_code)]

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{Builder, Event, Process, ProcessError, Queue, Resource, StartError, StartMethod};
use procession_core::sys::procfs::is_alive;
use rustix::process as system;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

procession::init_before_main!();

every_way! {
    a_process_works_in_its_folder
    an_environment_is_set_cleared_and_inherited_by_programs
    a_process_has_its_limits_and_so_have_its_children
    a_process_runs_on_its_cpus_with_its_priority
    a_process_leads_a_group_or_a_session
    a_process_joins_a_group_that_exists
    a_process_of_another_user_is_a_member_like_others
    a_setting_that_the_system_refuses_to_the_child_is_named_at_its_end
    dropping_the_handle_kills_the_process_if_it_is_told_to
    a_panic_ends_a_process_that_is_killed_on_drop
}

/// Starts a process and returns its value.
fn value<R: procession::Message>(way: Way, builder: Builder, function: fn(()) -> R) -> R {
    joined(way.start_with(builder, function, ())).unwrap()
}

fn folder_of_the_test(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("procession-options-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}

fn a_process_works_in_its_folder(way: Way) {
    let folder = folder_of_the_test("folder");
    let here = || std::env::current_dir().unwrap();
    let found = value(way, Process::builder().cwd(&folder), |()| {
        // The program's own children begin there, too.
        let child = Process::builder()
            .method(StartMethod::ForkServer)
            .spawn(|()| std::env::current_dir().unwrap(), ());
        (std::env::current_dir().unwrap(), child.unwrap().join().unwrap())
    });
    assert_eq!(found, (folder.clone(), folder.clone()));
    // A relative path begins at the folder of this process, and one with bytes that are no text is a path as well.
    let odd = folder.join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::create_dir_all(&odd).unwrap();
    let up: PathBuf = here().components().skip(1).map(|_| "..").collect();
    let relative = up.join(odd.strip_prefix("/").unwrap());
    assert!(relative.is_relative());
    let bytes = value(way, Process::builder().cwd(relative), |()| {
        std::env::current_dir().unwrap().as_os_str().as_bytes().to_vec()
    });
    assert_eq!(bytes, odd.as_os_str().as_bytes());
    std::fs::remove_dir_all(folder).unwrap();
}

fn an_environment_is_set_cleared_and_inherited_by_programs(way: Way) {
    fn environment(_: ()) -> (BTreeMap<String, String>, String) {
        let own = std::env::vars().collect();
        let printed = std::process::Command::new("/usr/bin/env")
            .output()
            .unwrap()
            .stdout;
        (own, String::from_utf8(printed).unwrap())
    }
    let builder = Process::builder()
        .env("LOST", "1")
        .env_clear()
        .envs([("A", "1"), ("B", "2 = 2")])
        .env("A", "3")
        .env("C", "4")
        .env_remove("C");
    let (own, printed) = value(way, builder, environment);
    let expected = [("A", "3"), ("B", "2 = 2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(own, expected.into());
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=3", "B=2 = 2"]);
    let (own, _) = value(way, Process::builder().env("PROCESSION_NEW", "x"), environment);
    assert_eq!(own.get("PROCESSION_NEW").map(String::as_str), Some("x"));
    assert_eq!(own.get("PATH").cloned(), std::env::var("PATH").ok());
}

fn limits(resource: system::Resource) -> (Option<u64>, Option<u64>) {
    let limit = system::getrlimit(resource);
    (limit.current, limit.maximum)
}

fn a_process_has_its_limits_and_so_have_its_children(way: Way) {
    type Limits = (Option<u64>, Option<u64>);
    fn both(_: ()) -> (Limits, Limits) {
        (limits(system::Resource::Nofile), limits(system::Resource::Core))
    }
    let builder = Process::builder()
        .rlimit(Resource::OpenFiles, Some(100), Some(200))
        .rlimit(Resource::CoreFile, Some(0), Some(0));
    let child = way.start_with(
        builder,
        |()| {
            let method = [StartMethod::Spawn, StartMethod::ForkServer];
            let children = method.map(|method| Process::builder().method(method).spawn(both, ()).unwrap());
            let mut all = vec![both(())];
            all.extend(children.map(|child| child.join().unwrap()));
            all
        },
        (),
    );
    let expected = ((Some(100), Some(200)), (Some(0), Some(0)));
    assert_eq!(joined(child).unwrap(), [expected; 3]);
}

fn a_process_runs_on_its_cpus_with_its_priority(way: Way) {
    let own = rustix::thread::sched_getaffinity(None).unwrap();
    let last = (0..1024).rev().find(|cpu| own.is_set(*cpu)).unwrap();
    let found = value(way, Process::builder().affinity([last]).nice(7), |()| {
        let cpus = rustix::thread::sched_getaffinity(None).unwrap();
        let cpus: Vec<usize> = (0..1024).filter(|cpu| cpus.is_set(*cpu)).collect();
        let of_a_thread = std::thread::spawn(|| rustix::thread::sched_getaffinity(None).unwrap().count());
        let nice = system::getpriority_process(None).unwrap();
        (cpus, of_a_thread.join().unwrap(), nice)
    });
    assert_eq!(found, (vec![last], 1, 7));
}

// In a container either of them can be 0: its leader is outside. rustix's functions panic then.
fn group_and_session(_: ()) -> (i32, i32) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(2);
    let mut number = || fields.next().unwrap().parse().unwrap();
    (number(), number())
}

fn a_process_leads_a_group_or_a_session(way: Way) {
    let session = group_and_session(()).1;
    for (builder, own_session) in [
        (Process::builder().process_group(0), false),
        (Process::builder().new_session(), true),
    ] {
        let child = way.start_with(builder, group_and_session, ());
        let pid = child.pid().cast_signed();
        let expected = (pid, if own_session { pid } else { session });
        assert_eq!(joined(child).unwrap(), expected);
    }
}

fn a_process_joins_a_group_that_exists(way: Way) {
    let (ready, end) = (Event::new().unwrap(), Event::new().unwrap());
    let leader = way.start_with(
        Process::builder().process_group(0),
        |(ready, end): (Event, Event)| {
            ready.set();
            end.wait();
        },
        (ready.clone(), end.clone()),
    );
    assert!(ready.wait_timeout(LIMIT));
    let builder = Process::builder().process_group(leader.pid());
    let (group, _) = value(way, builder, group_and_session);
    assert_eq!(group.cast_unsigned(), leader.pid());
    end.set();
    joined(leader).unwrap();
}

fn a_process_of_another_user_is_a_member_like_others(way: Way) {
    if !system::geteuid().is_root() {
        let refused = Process::builder()
            .uid(system::geteuid().as_raw() + 1)
            .spawn(|()| (), ());
        assert!(matches!(
            refused.map(drop),
            Err(StartError::Option { option: "uid", .. })
        ));
        return;
    }
    let queue = Queue::<(u32, u32, Vec<u32>)>::new().unwrap();
    let (reported, never) = (Event::new().unwrap(), Event::new().unwrap());
    let child = way.start_with(
        Process::builder().uid(65534).gid(65533).groups([7, 8]),
        |(queue, reported, never): (Queue<_>, Event, Event)| {
            let groups = system::getgroups().unwrap();
            let groups = groups.into_iter().map(|group| group.as_raw()).collect();
            queue
                .put(&(system::geteuid().as_raw(), system::getegid().as_raw(), groups))
                .unwrap();
            reported.set();
            never.wait();
        },
        (queue.clone(), reported.clone(), never.clone()),
    );
    assert!(reported.wait_timeout(LIMIT));
    assert_eq!(queue.try_get().unwrap(), (65534, 65533, vec![7, 8]));
    child.kill().unwrap();
    assert!(matches!(
        joined(child),
        Err(ProcessError::Signaled { signal: 9, .. })
    ));
    let groups = value(way, Process::builder().uid(65534), |()| {
        system::getgroups().unwrap().len()
    });
    assert_eq!(groups, 0, "the groups of root do not stay");
    // It ends with its parent although the parent's user is another one.
    let parent = way.start_with(
        Process::builder().uid(65534),
        |(pids, never): (Queue<(u32, u32, Vec<u32>)>, Event)| {
            // SAFETY: this process has one thread.
            let child = unsafe {
                Process::builder().daemon(true).fork({
                    let never = never.clone();
                    move || never.wait()
                })
            }
            .unwrap();
            pids.put(&(child.pid(), 0, Vec::new())).unwrap();
            never.wait();
        },
        (queue.clone(), never),
    );
    let (grandchild, ..) = queue.get_timeout(LIMIT).unwrap();
    parent.kill().unwrap();
    let _ = joined(parent);
    assert!(eventually(|| !is_alive(grandchild, 0)));
}

fn a_setting_that_the_system_refuses_to_the_child_is_named_at_its_end(way: Way) {
    // This process is no member of the session of the group's leader.
    let (ready, end) = (Event::new().unwrap(), Event::new().unwrap());
    let leader = way.start_with(
        Process::builder().new_session(),
        |(ready, end): (Event, Event)| {
            ready.set();
            end.wait();
        },
        (ready.clone(), end.clone()),
    );
    assert!(ready.wait_timeout(LIMIT));
    let child = way.start_with(Process::builder().process_group(leader.pid()), |()| (), ());
    let error = joined(child).unwrap_err();
    assert!(matches!(error, ProcessError::NotRun { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("process_group") && text.contains(&leader.pid().to_string()),
        "{text}"
    );
    end.set();
    joined(leader).unwrap();
}

fn wait_for_ever(started: Queue<u32>) {
    started.put(&std::process::id()).unwrap();
    let never = Event::new().unwrap();
    never.wait();
}

fn dropping_the_handle_kills_the_process_if_it_is_told_to(way: Way) {
    let started = Queue::<u32>::new().unwrap();
    let child = way.start_with(
        Process::builder().kill_on_drop(true),
        wait_for_ever,
        started.clone(),
    );
    let pid = started.get_timeout(LIMIT).unwrap();
    drop(child);
    assert!(eventually(|| !is_alive(pid, 0)));
    // One that has ended is joined as ever.
    let child = way.start_with(Process::builder().kill_on_drop(true), |n: u8| n, 3);
    assert_eq!(joined(child).unwrap(), 3);
}

fn a_panic_ends_a_process_that_is_killed_on_drop(way: Way) {
    let started = Queue::<u32>::new().unwrap();
    let pid = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _child = way.start_with(
                Process::builder().kill_on_drop(true),
                wait_for_ever,
                started.clone(),
            );
            let pid = started.get_timeout(LIMIT).unwrap();
            std::panic::resume_unwind(Box::new(pid));
        });
        *thread.join().unwrap_err().downcast::<u32>().unwrap()
    });
    assert!(eventually(|| !is_alive(pid, 0)));
}

#[test]
fn arguments_are_those_of_the_process_under_spawn() {
    fn own(_: ()) -> Vec<String> {
        std::env::args().skip(1).collect()
    }
    let builder = || Process::builder().daemon(true);
    let found = builder()
        .arg("one")
        .args(["two words", ""])
        .spawn(own, ())
        .unwrap();
    assert_eq!(joined(found).unwrap(), ["one", "two words", ""]);
    let found = builder().args([""; 0]).spawn(own, ()).unwrap();
    assert!(joined(found).unwrap().is_empty());
    // A child of such a process has its arguments.
    let found = builder()
        .arg("inherited")
        .spawn(|()| Process::spawn(own, ()).unwrap().join().unwrap(), ());
    assert_eq!(joined(found.unwrap()).unwrap(), ["inherited"]);
}

/// An option, a part of the error's text, and a function that sets a bad value.
type Case = (&'static str, &'static str, fn(Builder) -> Builder);

/// Each way to start a process refuses these options, and nothing is started.
#[test]
fn a_bad_value_is_named_by_the_start() {
    let missing = Path::new("/no/such/folder");
    let file = std::env::current_exe().unwrap();
    let cases: [Case; 14] = [
        ("cwd", "/no/such/folder: No such file", |b| {
            b.cwd("/no/such/folder")
        }),
        ("cwd", "is no folder", |b| b.cwd(std::env::current_exe().unwrap())),
        ("env", "\"A=B\" has a =", |b| b.env("A=B", "1")),
        ("env", "empty name", |b| b.env_remove("")),
        ("env", "the value of \"V\"", |b| b.env("V", "a\0b")),
        ("rlimit", "OpenFiles: soft 9, hard 8", |b| {
            b.rlimit(Resource::OpenFiles, Some(9), Some(8))
        }),
        ("rlimit", "soft none, hard 8", |b| {
            b.rlimit(Resource::Stack, None, Some(8))
        }),
        ("affinity", "at least one CPU", |b| b.affinity([])),
        ("affinity", "no CPU 1023", |b| b.affinity([0, 1023])),
        ("affinity", "no CPU 5000", |b| b.affinity([5000])),
        ("nice", "20 is not between", |b| b.nice(20)),
        ("process_group", "no process group 2147483646", |b| {
            b.process_group(2_147_483_646)
        }),
        ("uid", "is no user", |b| b.uid(u32::MAX)),
        ("groups", "is no group", |b| b.groups([1, u32::MAX])),
    ];
    assert!(!missing.exists() && file.is_file());
    for (option, text, set) in cases {
        let spawned = |method| set(Process::builder()).method(method).spawn(|()| (), ());
        // SAFETY: the child would do nothing.
        let forked = unsafe { set(Process::builder()).fork(|| ()) };
        for refused in [
            spawned(StartMethod::Spawn),
            spawned(StartMethod::ForkServer),
            forked,
        ] {
            is_refused(refused.map(drop), option, text);
        }
    }
    is_refused(
        Process::builder().arg("a\0").spawn(|()| (), ()).map(drop),
        "args",
        "null byte",
    );
    let served = Process::builder()
        .method(StartMethod::ForkServer)
        .arg("a")
        .spawn(|()| (), ());
    is_refused(served.map(drop), "args", "StartMethod::Spawn");
    // SAFETY: the child would do nothing.
    let forked = unsafe { Process::builder().arg("a").fork(|| ()) };
    is_refused(forked.map(drop), "args", "StartMethod::Spawn");
}

#[track_caller]
fn is_refused(started: Result<(), StartError>, expected: &str, text: &str) {
    match started {
        Err(error @ StartError::Option { .. }) => {
            let whole = error.to_string();
            assert!(
                whole.contains(text) && whole.contains(&format!("`{expected}`")),
                "{whole}"
            );
        }
        other => panic!("{expected}: {other:?}"),
    }
}
