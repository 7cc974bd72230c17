//! Keeps services running, and starts a crashed one again after a pause: `cargo run --example supervisor`
//!
//! Each service is a process. One thread of this program looks after each of them: it waits for the end of the process, and
//! decides. A service that fails again and again is started after a longer and longer pause, and given up in the end. The
//! services are daemons: if this program is killed, the kernel ends them too.
#![allow(clippy::print_stdout)]

use procession::{Event, Process, ProcessError};
use std::thread;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A service that has run for so long is sound: the next failure counts as its first.
const SOUND_AFTER: Duration = Duration::from_secs(10);
const MOST_FAILURES: u32 = 4;

/// What a service is given: how often it was started before, an event that it sets when it serves, and one that ends it.
type Given = (u32, Event, Event);
type Service = fn(Given) -> u64;

/// A service that never fails.
fn clock((_, serves, stop): Given) -> u64 {
    let mut ticks = 0;
    serves.set();
    while !stop.wait_timeout(Duration::from_millis(5)) {
        ticks += 1;
    }
    ticks
}

/// A service that panics at first, and later crashes as foreign code may crash.
fn flaky(given: Given) -> u64 {
    match given.0 {
        0 => panic!("the database does not answer"),
        1 => std::process::abort(),
        _ => clock(given),
    }
}

/// A service that can never run.
fn misconfigured(_: Given) -> u64 {
    std::process::exit(3)
}

/// Runs a service until it ends by itself, is stopped, or has failed too often. Returns whether it was well at the end.
fn look_after(name: &str, service: Service, serves: &Event, stop: &Event) -> procession::Result<bool> {
    let (mut starts, mut failures, mut pause) = (0, 0, FIRST_PAUSE);
    loop {
        let began = Instant::now();
        let process = Process::builder()
            .name(format!("{name}-{starts}"))
            .daemon(true)
            .spawn(service, (starts, serves.clone(), stop.clone()))?;
        starts += 1;
        let why = match process.join() {
            Ok(ticks) => {
                println!("{name}: has ended well after {starts} starts, with {ticks} ticks");
                return Ok(true);
            }
            Err(ProcessError::Panicked { message, .. }) => format!("has panicked ({message})"),
            Err(ProcessError::Signaled { signal, .. }) => format!("was ended by signal {signal}"),
            Err(ProcessError::Exited { code, .. }) => format!("has exited with status {code}"),
            Err(error) => return Err(error.into()),
        };
        if began.elapsed() > SOUND_AFTER {
            (failures, pause) = (0, FIRST_PAUSE);
        }
        failures += 1;
        if failures == MOST_FAILURES {
            println!("{name}: {why}; given up after {starts} starts");
            return Ok(false);
        }
        println!("{name}: {why}; it is started again in {} ms", pause.as_millis());
        if stop.wait_timeout(pause) {
            return Ok(false);
        }
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

fn main() -> procession::Result<()> {
    procession::init();
    let stop = Event::new()?;
    let services: [(&str, Service); 3] = [
        ("clock", clock),
        ("flaky", flaky),
        ("misconfigured", misconfigured),
    ];
    let serving = [Event::new()?, Event::new()?, Event::new()?];
    thread::scope(|scope| {
        let mut supervisors = Vec::new();
        for ((name, service), serves) in services.into_iter().zip(&serving) {
            let stop = &stop;
            supervisors.push(scope.spawn(move || look_after(name, service, serves, stop)));
        }
        // A real program would now wait until it is told to end. This one waits until it has seen all that it wants to show.
        serving[0].wait();
        serving[1].wait();
        let given_up = supervisors.pop().map(thread::ScopedJoinHandle::join);
        assert!(matches!(given_up, Some(Ok(Ok(false)))), "{given_up:?}");
        stop.set();
        for supervisor in supervisors {
            let well = supervisor.join();
            assert!(matches!(well, Ok(Ok(true))), "{well:?}");
        }
    });
    println!("all services have ended");
    Ok(())
}
