//! The fork server: real servers in processes of their own, and what their clients see when a process dies.
#![allow(unsafe_code)]

mod common;

use common::{eventually, fork_child, join, limit_descriptors, linger, pipe, send, send_byte};
use procession_core::family::{Family, Seat};
use procession_core::process::forkserver::MOST;
use procession_core::process::{
    Answer, Child, ExitOutcome, ForkCall, ForkError, ForkServer, Next, Request, SpareOrder, control_pair,
    request_fork,
};
use procession_core::sys::clock::Deadline;
use procession_core::sys::{fdpass, pidfd, procfs};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

fn soon() -> Deadline {
    Deadline::after(common::LIMIT)
}

/// The work of the server's children: they read an order from the first descriptor that was passed.
fn obey(fds: Vec<OwnedFd>) -> i32 {
    let Some(first) = fds.first() else { return 0 };
    let mut order = [0; 2];
    let mut orders = File::from(first.try_clone().unwrap());
    if orders.read_exact(&mut order).is_err() {
        return 99;
    }
    match order[0] {
        b'x' => i32::from(order[1]),
        b'k' => {
            send(std::process::id(), i32::from(order[1]));
            98
        }
        b'w' => {
            for (fd, letter) in fds[1..].iter().zip(b'a'..) {
                rustix::io::write(fd, &[letter]).unwrap();
            }
            0
        }
        _ => 97,
    }
}

/// Runs a server; with `refuse_all` it refuses every request instead of forking.
fn serve(mut server: ForkServer, refuse_all: bool) -> i32 {
    loop {
        let request = match server.next_request().unwrap() {
            Next::Closed => return 0,
            Next::Interrupted => continue,
            Next::ForkSpare => {
                // SAFETY: the server has one thread.
                match unsafe { libc::fork() } {
                    0 => return be_a_spare(server),
                    pid => server.spare_forked(pid as u32),
                }
                continue;
            }
            Next::Fork(request) => request,
        };
        if refuse_all {
            server.refused(request, libc::EAGAIN, "it is tired");
            continue;
        }
        // SAFETY: the server has one thread.
        match unsafe { libc::fork() } {
            0 => {
                server.leave();
                let Request { reply, fds, .. } = request;
                drop(reply);
                return obey(fds);
            }
            pid => server.forked(request, pid as u32),
        }
    }
}

fn be_a_spare(server: ForkServer) -> i32 {
    let spare = server.leave_as_spare().unwrap();
    loop {
        match spare.wait().unwrap() {
            SpareOrder::Interrupted => {}
            SpareOrder::End => return 0,
            SpareOrder::Be { fds, .. } => return obey(fds),
        }
    }
}

/// The children of this process.
fn children_of(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

/// Only one test forks at a time, so that no server of another test inherits a socket for whose end a test waits.
static FORKING: Mutex<()> = Mutex::new(());
/// In a process of [`fork_alone`], in which the lock stays held by its parent's thread for ever.
static NESTED: AtomicBool = AtomicBool::new(false);

fn fork_alone(work: impl FnOnce() -> i32) -> u32 {
    let _one_at_a_time = FORKING.lock();
    fork_child(|| {
        NESTED.store(true, Ordering::Relaxed);
        work()
    })
}

struct Server {
    pid: u32,
    control: OwnedFd,
}

impl Server {
    fn start() -> Server {
        Server::start_with(|server| serve(server, false))
    }

    fn start_with(body: impl FnOnce(ForkServer) -> i32) -> Server {
        Family::home().unwrap();
        let _one_at_a_time = (!NESTED.load(Ordering::Relaxed)).then(|| FORKING.lock());
        let (ours, theirs) = control_pair().unwrap();
        let ours_there = ours.as_raw_fd();
        let pid = fork_child(|| {
            // A real server is started by exec, and inherits nothing from its clients.
            // SAFETY: this process has just been forked, and no other code in it uses these descriptors.
            unsafe {
                libc::close(ours_there);
            }
            body(ForkServer::new(theirs.try_clone().unwrap()).unwrap())
        });
        drop(theirs);
        Server { pid, control: ours }
    }

    fn fork(&self, fds: &[BorrowedFd<'_>]) -> Result<Child, ForkError> {
        let seat = Seat::reserve(Family::home().unwrap(), "child").unwrap();
        let asked = request_fork(self.control.as_fd(), seat.slot, seat.generation, fds);
        let (pid, pidfd) = asked.inspect_err(|_| seat.vacate())?;
        Ok(match pidfd {
            Some(pidfd) => Child::with_pidfd(pid, Some(seat), pidfd, false),
            None => Child::new(pid, Some(seat), false),
        })
    }

    /// Starts a child with this order in its pipe.
    fn fork_with(&self, order: &[u8; 2]) -> Child {
        let (read, write) = pipe();
        rustix::io::write(&write, order).unwrap();
        self.fork(&[read.as_fd()]).unwrap()
    }
}

fn is_bound(child: &Child) -> bool {
    child
        .seat()
        .is_some_and(|seat| seat.slot().pid() == child.pid() && child.pid() != 0)
}

#[test]
fn a_child_is_forked_and_its_exit_code_comes_through_the_registry() {
    let server = Server::start();
    let child = server.fork_with(b"x\x07");
    assert!(is_bound(&child));
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(7));
    assert_eq!(child.seat().unwrap().exit_code(), Some(7));
    assert!(
        eventually(|| procfs::start_time(child.pid()) == 0),
        "the server has reaped it"
    );
}

#[test]
fn a_child_that_is_killed_shows_the_signal() {
    let server = Server::start();
    assert_eq!(
        server.fork_with(&[b'k', libc::SIGKILL as u8]).wait(soon()),
        ExitOutcome::Exited(-libc::SIGKILL)
    );
    let (read, _write) = pipe();
    let child = server.fork(&[read.as_fd()]).unwrap();
    assert_eq!(child.poll(), None);
    child.send_signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(-libc::SIGTERM));
}

#[test]
fn descriptors_reach_the_child_in_order() {
    let server = Server::start();
    let (orders, order) = pipe();
    let (mut first, to_first) = pipe();
    let (mut second, to_second) = pipe();
    rustix::io::write(&order, b"w!").unwrap();
    let child = server
        .fork(&[orders.as_fd(), to_first.as_fd(), to_second.as_fd()])
        .unwrap();
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(0));
    let mut letters = [0; 2];
    first.read_exact(&mut letters[..1]).unwrap();
    second.read_exact(&mut letters[1..]).unwrap();
    assert_eq!(&letters, b"ab");
}

#[test]
fn many_children_at_once_each_keep_their_own_exit_code() {
    let server = Server::start();
    let children: Vec<Child> = (0..40).map(|code| server.fork_with(&[b'x', code])).collect();
    for (child, code) in children.iter().zip(0..) {
        assert_eq!(child.wait(soon()), ExitOutcome::Exited(code));
    }
}

#[test]
fn the_server_ends_when_its_clients_have_gone() {
    let Server { pid, control } = Server::start();
    drop(control);
    assert_eq!(join(pid), 0);
}

#[test]
fn a_request_that_makes_no_sense_costs_only_itself() {
    let server = Server::start();
    let (reply, theirs) = fdpass::pair().unwrap();
    let words = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
    let magic = u32::from_be_bytes(*b"PrF1");
    fdpass::send(&server.control, b"?", &[]).unwrap();
    fdpass::send(&server.control, b"hello, is there anybody?", &[theirs.as_fd()]).unwrap();
    fdpass::send(&server.control, &words([magic, 0, 0, 0]), &[]).unwrap();
    fdpass::send(&server.control, &words([magic, 0, 0, 7]), &[theirs.as_fd()]).unwrap();
    fdpass::send(&server.control, &words([1, 2, 3, 0]), &[theirs.as_fd()]).unwrap();
    fdpass::send(&server.control, &[0; 4096], &[theirs.as_fd()]).unwrap();
    drop(theirs);
    assert_eq!(server.fork_with(b"x\x01").wait(soon()), ExitOutcome::Exited(1));
    let mut answers = 0;
    while fdpass::recv(&reply, &mut [0; 4096]).unwrap().len > 0 {
        answers += 1;
    }
    assert_eq!(
        answers, 2,
        "those with a header and a reply socket were refused, and all were let go of"
    );
}

#[test]
fn a_seat_that_has_been_given_up_gets_no_child() {
    let server = Server::start();
    let seat = Seat::reserve(Family::home().unwrap(), "late").unwrap();
    seat.vacate();
    match request_fork(server.control.as_fd(), seat.slot, seat.generation, &[]) {
        Err(ForkError::Refused {
            errno: libc::ESTALE,
            why,
        }) => assert!(why.contains("given up"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_carries_the_servers_words() {
    let server = Server::start_with(|server| serve(server, true));
    match server.fork(&[]) {
        Err(ForkError::Refused {
            errno: libc::EAGAIN,
            why,
        }) => assert_eq!(why, "it is tired"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_is_gone_is_an_error() {
    let server = Server::start();
    send(server.pid, libc::SIGKILL);
    assert_eq!(join(server.pid), -libc::SIGKILL);
    assert!(matches!(server.fork(&[]), Err(ForkError::ServerGone)));
}

#[test]
fn a_server_that_is_killed_with_the_request_in_hand_is_an_error_and_not_a_hang() {
    let (told, tell) = pipe();
    let (never, _forever) = pipe();
    let server = Server::start_with(|mut server| {
        let Ok(Next::Fork(_request)) = server.next_request() else {
            return 1;
        };
        send_byte(&tell);
        linger(&never);
        0
    });
    std::thread::scope(|scope| {
        let client = scope.spawn(|| server.fork(&[]));
        linger(&told);
        send(server.pid, libc::SIGKILL);
        assert!(matches!(client.join().unwrap(), Err(ForkError::ServerGone)));
    });
    join(server.pid);
}

#[test]
fn a_server_that_is_killed_with_the_request_unread_is_an_error_and_not_a_hang() {
    let (never, _forever) = pipe();
    let server = Server::start_with(|_server| {
        linger(&never);
        0
    });
    let seat = Seat::reserve(Family::home().unwrap(), "waiting").unwrap();
    let mut call = ForkCall::new(server.control.as_fd(), seat.slot, seat.generation, &[]).unwrap();
    assert!(matches!(call.wait(Deadline::PAST), Ok(Answer::TimedOut)));
    send(server.pid, libc::SIGKILL);
    assert!(matches!(call.wait(soon()), Err(ForkError::ServerGone)));
    join(server.pid);
    seat.vacate();
}

#[test]
fn a_child_whose_server_was_killed_has_the_exit_code_that_it_announced() {
    let server = Server::start();
    let (read, write) = pipe();
    let child = server.fork(&[read.as_fd()]).unwrap();
    send(server.pid, libc::SIGKILL);
    join(server.pid);
    assert_eq!(child.poll(), None, "it lives on");
    child
        .seat()
        .unwrap()
        .slot()
        .declared
        .store(1 << 32 | 5, Ordering::Release);
    rustix::io::write(&write, b"x\x05").unwrap();
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(5));
}

#[test]
fn a_server_without_free_descriptors_says_so_and_goes_on() {
    let server = Server::start_with(|server| {
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        limit_descriptors(next as u64 + 2);
        serve(server, false)
    });
    let (read, _write) = pipe();
    match server.fork(&[read.as_fd(); 5]) {
        Err(ForkError::Refused {
            errno: libc::EMFILE,
            why,
        }) => assert!(why.contains("file descriptors"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.fork(&[]).unwrap().wait(soon()), ExitOutcome::Exited(0));
}

#[test]
fn a_request_that_the_server_has_no_descriptor_at_all_for_is_dropped_not_hanging() {
    let server = Server::start_with(|server| {
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        limit_descriptors(next as u64);
        serve(server, false)
    });
    assert!(matches!(server.fork(&[]), Err(ForkError::Dropped)));
    assert_eq!(procfs::liveness(server.pid, 0), procfs::Liveness::Alive);
}

#[test]
fn more_descriptors_than_a_request_can_carry_are_an_error_here() {
    let (ours, _theirs) = control_pair().unwrap();
    let fds = [ours.as_fd(); MOST + 1];
    assert!(matches!(
        request_fork(ours.as_fd(), 0, 1, &fds),
        Err(ForkError::Pass(_))
    ));
}

#[test]
fn somebody_elses_zombie_does_not_hide_the_servers_own() {
    let server = Server::start_with(|server| {
        let foreign = fork_child(|| 0);
        assert!(eventually(
            || procfs::liveness(foreign, 0) != procfs::Liveness::Alive
        ));
        let code = serve(server, false);
        // The zombie is still there for the code that started the process.
        if procfs::liveness(foreign, 0) == procfs::Liveness::Gone {
            50
        } else {
            code
        }
    });
    for code in [4, 5] {
        assert_eq!(
            server.fork_with(&[b'x', code]).wait(soon()),
            ExitOutcome::Exited(code.into())
        );
    }
    let Server { pid, control } = server;
    drop(control);
    assert_eq!(join(pid), 0);
}

fn sigchld() -> (usize, bool) {
    // SAFETY: zeros are a valid sigaction and sigset; the pointers are to locals.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
        (
            action.sa_sigaction,
            libc::sigismember(&raw const mask, libc::SIGCHLD) == 1,
        )
    }
}

#[test]
fn the_child_is_as_if_there_had_been_no_server() {
    let code = join(fork_alone(|| {
        // SAFETY: this process belongs to this test alone, so no other code changes its signals.
        unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        let before = sigchld();
        let (_ours, theirs) = control_pair().unwrap();
        let control = theirs.as_raw_fd();
        let mut server = Some(ForkServer::new(theirs).unwrap());
        assert_ne!(sigchld(), before);
        assert!(
            ForkServer::new(control_pair().unwrap().0).is_err(),
            "one server per process"
        );
        let child = fork_child(|| {
            server.take().unwrap().leave();
            // SAFETY: the call only asks for the flags of a number, which need not be open.
            let control = unsafe { BorrowedFd::borrow_raw(control) };
            i32::from(sigchld() != before || rustix::io::fcntl_getfd(control).is_ok())
        });
        join(child)
    }));
    assert_eq!(code, 0);
}

#[test]
fn without_pidfds_a_forked_child_is_held_by_its_start_time() {
    let code = join(fork_alone(|| {
        pidfd::pretend_refused(true);
        let server = Server::start();
        let child = server.fork_with(b"x\x06");
        assert_eq!(child.wait(soon()), ExitOutcome::Exited(6));
        let (read, _write) = pipe();
        let killed = server.fork(&[read.as_fd()]).unwrap();
        killed.send_signal(libc::SIGKILL).unwrap();
        assert_eq!(killed.wait(soon()), ExitOutcome::Exited(-9));
        0
    }));
    assert_eq!(code, 0);
}

fn start_with_spares(count: usize) -> Server {
    let server = Server::start_with(move |mut server| {
        server.keep_spares(count);
        serve(server, false)
    });
    // There are no spares before the first request.
    let first = server.fork_with(b"x\x01");
    assert_eq!(first.wait(soon()), ExitOutcome::Exited(1));
    // The first child may not have been reaped yet.
    eventually(|| {
        let children = children_of(server.pid);
        children.len() == count && !children.contains(&first.pid())
    });
    server
}

#[test]
fn spares_become_the_children_that_are_asked_for() {
    let server = start_with_spares(3);
    let ahead = children_of(server.pid);
    let children: Vec<Child> = (0..5).map(|n| server.fork_with(&[b'x', n])).collect();
    for (child, n) in children.iter().zip(0..) {
        assert!(is_bound(child) || child.poll().is_some());
        assert_eq!(child.wait(soon()), ExitOutcome::Exited(n));
    }
    let pids: Vec<u32> = children.iter().map(Child::pid).collect();
    assert!(ahead.iter().all(|spare| pids.contains(spare)));
    eventually(|| children_of(server.pid).len() == 3);
    assert_eq!(
        server.fork_with(b"k\x0f").wait(soon()),
        ExitOutcome::Exited(-libc::SIGTERM)
    );
}

#[test]
fn spares_that_were_killed_are_replaced_and_cost_nobody_a_request() {
    let server = start_with_spares(2);
    let ahead = children_of(server.pid);
    for spare in &ahead {
        send(*spare, libc::SIGKILL);
    }
    eventually(|| ahead.iter().all(|spare| !procfs::is_alive(*spare, 0)));
    for n in 0..4 {
        assert_eq!(
            server.fork_with(&[b'x', n]).wait(soon()),
            ExitOutcome::Exited(i32::from(n))
        );
    }
    eventually(|| children_of(server.pid).len() == 2);
}

#[test]
fn spares_end_when_their_server_does() {
    for kill in [false, true] {
        let server = start_with_spares(2);
        let ahead = children_of(server.pid);
        if kill {
            send(server.pid, libc::SIGKILL);
        }
        let Server { pid, control } = server;
        drop(control);
        join(pid);
        eventually(|| ahead.iter().all(|spare| !procfs::is_alive(*spare, 0)));
    }
}
