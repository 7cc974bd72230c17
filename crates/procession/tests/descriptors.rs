//! Descriptors in messages: they arrive, and no copy stays open, whichever process is killed.
#![allow(missing_docs)]

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{
    DecodeError, Fd, GetError, Pool, Process, ProcessError, Queue, Receiver, Resource, channel, duplex,
};
use procession_core::family::Family;
use procession_core::family::registry::{Role, State};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{RwLock, RwLockReadGuard};
use std::time::Duration;

procession::init_before_main!();

every_way! {
    workers_share_a_listener_that_was_sent_to_them
    a_process_returns_a_descriptor_although_it_has_ended
    a_descriptor_arrives_although_its_sender_was_killed
    a_receiver_that_is_killed_leaves_no_copy_open
}

/// A test that kills the keeper has it alone; the others share it.
static KEEPER: RwLock<()> = RwLock::new(());

fn sharing_the_keeper() -> RwLockReadGuard<'static, ()> {
    KEEPER.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns whether all copies of the writing end of this pipe are closed, in all processes.
fn has_ended(reader: &PipeReader) -> bool {
    let mut fds = [rustix::event::PollFd::new(reader, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)).unwrap() > 0
        && fds[0].revents().contains(rustix::event::PollFlags::HUP)
}

fn workers_share_a_listener_that_was_sent_to_them(way: Way) {
    let _shared = sharing_the_keeper();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let queue = Queue::<(String, Fd<TcpListener>)>::new().unwrap();
    let workers: Vec<Process> = (0..2)
        .map(|_| {
            way.start(
                |queue: Queue<(String, Fd<TcpListener>)>| {
                    let (greeting, listener) = queue.get().unwrap();
                    let (mut client, _) = listener.accept().unwrap();
                    client.write_all(greeting.as_bytes()).unwrap();
                },
                queue.clone(),
            )
        })
        .collect();
    let message = ("hello".to_owned(), Fd(listener));
    queue.put(&message).unwrap();
    queue.put(&message).unwrap();
    drop(message);
    for _ in 0..2 {
        let mut text = String::new();
        TcpStream::connect(address)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hello");
    }
    workers.into_iter().for_each(|worker| joined(worker).unwrap());
    // The workers had the only listening sockets.
    assert!(eventually(|| TcpStream::connect(address).is_err()));
}

fn a_process_returns_a_descriptor_although_it_has_ended(way: Way) {
    let _shared = sharing_the_keeper();
    let made = |text: String| {
        let mut file = File::from(rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        vec![Some(Fd(file))]
    };
    let child = way.start(made, "from the child".to_owned());
    let mut files = joined(child).unwrap();
    let mut text = String::new();
    files[0].as_mut().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the child");
}

fn a_descriptor_arrives_although_its_sender_was_killed(way: Way) {
    let _shared = sharing_the_keeper();
    let (sender, receiver) = channel::<Fd<PipeReader>>().unwrap();
    let child: Process = way.start(
        |sender: procession::Sender<Fd<PipeReader>>| {
            let (reader, mut writer) = pipe().unwrap();
            writer.write_all(b"last words").unwrap();
            sender.send(&Fd(reader)).unwrap();
            procession_core::sys::memory::die();
        },
        sender,
    );
    let mut text = String::new();
    let mut reader = receiver.recv_timeout(LIMIT).unwrap();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "last words");
    assert!(matches!(
        joined(child),
        Err(ProcessError::Signaled { signal: 9, .. })
    ));
}

fn a_receiver_that_is_killed_leaves_no_copy_open(way: Way) {
    let _shared = sharing_the_keeper();
    let queue = Queue::<Vec<Fd<PipeWriter>>>::new().unwrap();
    let mut readers = Vec::new();
    for _ in 0..2 {
        let ends: Vec<_> = (0..3).map(|_| pipe().unwrap()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = ends.into_iter().map(|(r, w)| (r, Fd(w))).unzip();
        queue.put(&theirs).unwrap();
        readers.push(ours);
    }
    let child: Process = way.start(
        |queue: Queue<Vec<Fd<PipeWriter>>>| {
            let _writers = queue.get().unwrap();
            procession_core::sys::memory::die();
        },
        queue.clone(),
    );
    joined(child).unwrap_err();
    assert!(eventually(|| readers[0].iter().all(has_ended)));
    assert!(!has_ended(&readers[1][0]));
    assert_eq!(queue.get().unwrap().len(), 3); // and dropped at once
    assert!(eventually(|| readers[1].iter().all(has_ended)));
}

#[test]
fn the_sender_keeps_its_descriptor_and_the_receiver_gets_a_copy_of_the_same_file() {
    let _shared = sharing_the_keeper();
    let (a, b) = duplex::<Fd<UnixStream>, ()>().unwrap();
    let (mut mine, mut other) = UnixStream::pair().unwrap();
    let sent = Fd::from(mine.try_clone().unwrap());
    a.send(&sent).unwrap();
    let mut theirs: UnixStream = b.recv().unwrap().into_inner();
    assert_ne!(sent.as_raw_fd(), theirs.as_raw_fd());
    let flags = rustix::io::fcntl_getfd(theirs.as_fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    mine.write_all(b"one ").unwrap();
    theirs.write_all(b"two").unwrap();
    drop((mine, sent, theirs));
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap(); // ends: no copy is open any more, in the keeper neither
    assert_eq!(text, "one two");
}

#[test]
fn a_message_that_is_never_received_closes_its_descriptors() {
    let _shared = sharing_the_keeper();
    let with_message = || {
        let queue = Queue::<Fd<PipeWriter>>::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        queue.put(&Fd(writer)).unwrap();
        (queue, reader)
    };
    let (queue, reader) = with_message();
    assert!(!has_ended(&reader));
    drop(queue);
    assert!(eventually(|| has_ended(&reader)), "with the queue");
    let (queue, reader) = with_message();
    queue.close_and_discard().unwrap();
    assert!(eventually(|| has_ended(&reader)), "with the messages");
    let (sender, receiver) = channel::<Fd<PipeWriter>>().unwrap();
    let (reader, writer) = pipe().unwrap();
    sender.send(&Fd(writer)).unwrap();
    drop(receiver);
    assert!(eventually(|| has_ended(&reader)), "with the receivers");
    let full = Queue::<Option<Fd<PipeWriter>>>::bounded(1).unwrap();
    full.put(&None).unwrap();
    let (reader, writer) = pipe().unwrap();
    full.try_put(&Some(Fd(writer))).unwrap_err();
    assert!(
        eventually(|| has_ended(&reader)),
        "with the value that was not put"
    );
}

#[test]
fn a_message_that_cannot_be_decoded_closes_its_descriptors() {
    let _shared = sharing_the_keeper();
    let queue = Queue::<(Fd<PipeWriter>, String)>::new().unwrap();
    let (reader, writer) = pipe().unwrap();
    queue.put(&(Fd(writer), "no number".into())).unwrap();
    let bytes = postcard::to_allocvec(&queue).unwrap();
    let other: Queue<(Fd<PipeWriter>, bool)> = postcard::from_bytes(&bytes).unwrap();
    assert!(matches!(other.get(), Err(GetError::Decode(_))));
    assert!(eventually(|| has_ended(&reader)));
}

/// Takes all free descriptors of this process, then receives a message with one.
fn receives_when_a_descriptor_is_free_again(queue: Queue<(Fd<File>, String)>) -> String {
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let Err(GetError::Decode(error)) = queue.get() else {
        return "it was decoded without a free descriptor".into();
    };
    if !error.reason().contains("no free file descriptors") {
        return error.to_string();
    }
    taken.truncate(taken.len() / 2);
    let (mut file, mut text) = error.decode::<(Fd<File>, String)>().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_message_that_finds_no_free_descriptor_stays_in_the_error_and_is_decoded_later() {
    let _shared = sharing_the_keeper();
    let queue = Queue::<(Fd<File>, String)>::new().unwrap();
    let (reader, mut writer) = pipe().unwrap();
    writer.write_all(b" and the file").unwrap();
    drop(writer);
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    queue.put(&(Fd(file), "the text".into())).unwrap();
    let child = Process::builder()
        .rlimit(Resource::OpenFiles, Some(40), Some(40))
        .spawn(receives_when_a_descriptor_is_free_again, queue)
        .unwrap();
    assert_eq!(joined(child).unwrap(), "the text and the file");
}

#[test]
fn tasks_and_their_values_carry_descriptors_and_a_task_that_runs_again_finds_them_again() {
    let _shared = sharing_the_keeper();
    fn twice((mut log, attempts): (Fd<PipeWriter>, procession::SharedBox<u64>)) -> Fd<PipeWriter> {
        log.write_all(b"x").unwrap();
        if attempts
            .as_atomic()
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            == 0
        {
            procession_core::sys::memory::die();
        }
        log
    }
    let pool = Pool::new(1).unwrap();
    let (mut reader, writer) = pipe().unwrap();
    let attempts = procession::SharedBox::new(0u64).unwrap();
    let task = pool
        .tasks()
        .retries(1)
        .submit(twice, (Fd(writer), attempts))
        .unwrap();
    let mut back = task.join().unwrap();
    back.write_all(b"y").unwrap();
    drop(back);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "xxy");
}

#[test]
fn many_descriptors_travel_in_one_message() {
    let _shared = sharing_the_keeper();
    let queue = Queue::<Vec<Fd<PipeWriter>>>::new().unwrap();
    let (readers, writers): (Vec<_>, Vec<_>) = (0..100).map(|_| pipe().unwrap()).unzip();
    let writers = writers.into_iter().map(Fd).collect();
    queue.put(&writers).unwrap();
    drop(writers);
    for (number, mut writer) in queue.get().unwrap().into_iter().enumerate() {
        write!(writer, "{number}").unwrap();
    }
    for (number, mut reader) in readers.into_iter().enumerate() {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, number.to_string());
    }
}

fn keepers() -> Vec<u32> {
    let seats = Family::home().unwrap().seats();
    seats
        .map(|seat| seat.slot())
        .filter(|slot| slot.start_and_role().1 == Role::Keeper as u8 && slot.state().1 == State::Alive)
        .map(|slot| slot.pid())
        .collect()
}

#[test]
fn a_keeper_with_few_descriptors_of_its_own_does_not_limit_the_family() {
    let _alone = KEEPER.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    for keeper in keepers() {
        procession_core::sys::pidfd::kill(keeper, 9).unwrap();
    }
    assert!(eventually(|| keepers().is_empty()));
    let queue = Queue::<Fd<File>>::new().unwrap();
    let first = Process::builder()
        .rlimit(Resource::OpenFiles, Some(40), Some(40))
        .spawn(
            |queue: Queue<Fd<File>>| queue.put(&Fd(File::open("/dev/null").unwrap())).unwrap(),
            queue.clone(),
        );
    joined(first.unwrap()).unwrap(); // has started the keeper
    let file = Fd(File::open("/dev/null").unwrap());
    for _ in 0..200 {
        queue.put(&file).unwrap();
    }
    for _ in 0..=200 {
        queue.get().unwrap();
    }
}

#[test]
fn if_the_keeper_is_killed_receivers_are_told_and_the_next_message_arrives() {
    let _alone = KEEPER.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (sender, receiver) = channel::<Fd<PipeWriter>>().unwrap();
    let (reader, writer) = pipe().unwrap();
    sender.send(&Fd(writer)).unwrap();
    for pid in keepers() {
        procession_core::sys::pidfd::kill(pid, 9).unwrap();
    }
    assert!(eventually(|| has_ended(&reader)));
    let lost = receiver.recv().unwrap_err();
    assert!(
        matches!(&lost, GetError::Decode(e) if e.reason().contains("was killed")),
        "{lost}"
    );
    let (mut reader, writer) = pipe().unwrap();
    sender.send(&Fd(writer)).unwrap();
    receiver.recv().unwrap().write_all(b"on").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "on");
}

#[test]
fn the_keeper_ends_when_the_family_has_no_other_member() {
    let _shared = sharing_the_keeper();
    // The family of another program: this test binary again, with a test that only uses a keeper.
    let (mut reader, writer) = pipe().unwrap();
    let mut program = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "many_descriptors_travel_in_one_message", "--nocapture"])
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut text = String::new();
    // This ends when no process has the program's streams any more: the keeper does not keep them.
    reader.read_to_string(&mut text).unwrap();
    assert!(program.wait().unwrap().success(), "{text}");
    let pid = program.id().to_string();
    let family_lives = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
            .any(|line| line.starts_with("procession:keeper:") && line.contains("many_descriptors"))
    };
    assert!(eventually(|| !family_lives()), "the keeper of {pid} stays");
}

#[test]
fn a_wait_for_a_descriptor_can_time_out_like_any_other() {
    let (_sender, receiver): (_, Receiver<Fd<File>>) = channel().unwrap();
    let limit = Duration::from_millis(1);
    assert!(matches!(receiver.recv_timeout(limit), Err(GetError::Empty)));
    let _: fn(&DecodeError) -> &str = DecodeError::reason;
}
