//! The Rust side of tests/rust/test_rust.py: a program that Python starts, or that starts Python.
#![allow(clippy::print_stdout, missing_docs)]

mod values;

use procession::python::{self, Command};
use procession::{
    Address, Barrier, Block, BlockMut, Client, ConnectionError, Event, GetError, Listener, Lock, Locked,
    Pool, ProcessError, Queue, RLock, Semaphore, SharedMemory, SharedSlice, Value,
};
use std::error::Error;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    procession::init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["echo"] => echo(),
        ["describe"] => values::describe(),
        ["produce"] => values::produce(),
        ["typed"] => values::typed(),
        ["objects"] => objects(),
        ["bytes"] => bytes(),
        ["blocks"] => blocks(),
        ["die-with-the-lock"] => die_with_the_lock(),
        ["cross"] => cross(),
        ["pool"] => pool(),
        ["exit", code] => std::process::exit(code.parse()?),
        ["root", interpreter, folder] => root(interpreter, folder),
        ["connect", path] => connect(path),
        ["listen", path] => listen(path),
        ["segment", name] => segment(name),
        ["alone"] => {
            assert!(python::given()?.is_none());
            Ok(())
        }
        _ => Err("unknown mode".into()),
    }
}

fn given<const N: usize>() -> Result<[Value; N], Box<dyn Error>> {
    let values = python::given()?.ok_or("nothing was given")?;
    values.try_into().map_err(|_| "given something else".into())
}

/// Runs eight tasks, of which all but three wait for the event that was given.
fn pool() -> Result<(), Box<dyn Error>> {
    let [go] = given()?;
    let pool = Pool::new(2)?;
    let tasks = (0..8).map(|n| pool.submit(work, (n, Event::try_from(&go).ok())));
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    Ok(tasks.into_iter().try_for_each(|task| task.join())?)
}

fn work((number, go): (u32, Option<Event>)) {
    if number >= 3 {
        go.unwrap().wait();
    }
}

/// Sends every value back, until None arrives.
fn echo() -> Result<(), Box<dyn Error>> {
    let [there, back] = given()?;
    let (there, back) = (
        Queue::<Value>::try_from(&there)?,
        Queue::<Value>::try_from(&back)?,
    );
    loop {
        match there.get_timeout(LIMIT) {
            Ok(Value::None) => return Ok(()),
            Ok(value) => back.put(&value)?,
            Err(GetError::Decode(e)) => back.put(&Value::from(format!("refused: {e}")))?,
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives bytes as vectors and blocks in turn, and sends their lengths back.
fn bytes() -> Result<(), Box<dyn Error>> {
    let [there, back] = given()?;
    let back = Queue::<Value>::try_from(&back)?;
    let (vectors, blocks) = (
        Queue::<Vec<u8>>::try_from(&there)?,
        Queue::<Block<u8>>::try_from(&there)?,
    );
    for _ in 0..4 {
        back.put(&Value::from(vectors.get_timeout(LIMIT)?.len() as i64))?;
        back.put(&Value::from(blocks.get_timeout(LIMIT)?.len() as i64))?;
    }
    Ok(())
}

/// Uses one object of each kind.
fn objects() -> Result<(), Box<dyn Error>> {
    let [lock, rlock, event, done, semaphore, barrier, array, number] = given()?;
    let (lock, rlock) = (Lock::try_from(&lock)?, RLock::try_from(&rlock)?);
    let (event, done) = (Event::try_from(&event)?, Event::try_from(&done)?);
    assert!(Event::try_from(&semaphore).is_err(), "a semaphore is no event");
    let semaphore = Semaphore::try_from(&semaphore)?;
    let barrier = Barrier::try_from(&barrier)?;
    assert!(
        SharedSlice::<f32>::try_from(&array).is_err(),
        "the elements are f64"
    );
    let array = SharedSlice::<f64>::try_from(&array)?;
    assert_eq!(number.as_i64(), Some(7));
    assert!(event.wait_timeout(LIMIT));
    for _ in 0..1000 {
        let _guard = lock.lock()?.into_guard();
        let _again = rlock.lock()?.into_guard();
        array.set(0, array.get(0) + 1.0);
    }
    assert!(semaphore.acquire_timeout(LIMIT));
    done.set();
    barrier.wait_timeout(LIMIT)?;
    Ok(())
}

/// Sends a large block and a few small ones.
fn blocks() -> Result<(), Box<dyn Error>> {
    let [queue] = given()?;
    let floats = Queue::<Block<f32>>::try_from(&queue)?;
    let mut block = BlockMut::zeroed(1 << 20)?;
    for (i, x) in block.iter_mut().enumerate() {
        *x = i as f32;
    }
    floats.put(&block.freeze())?;
    Queue::<Block<i64>>::try_from(&queue)?.put(&Block::from_slice(&[-1, 2])?)?;
    Queue::<Block<u8>>::try_from(&queue)?.put(&Block::from_slice(&[])?)?;
    Queue::<Vec<u8>>::try_from(&queue)?.put(&b"plain".to_vec())?;
    Queue::<(u8, u8)>::try_from(&queue)?.put(&(1, 2))?;
    Ok(())
}

fn die_with_the_lock() -> Result<(), Box<dyn Error>> {
    let [lock] = given()?;
    let lock = Lock::try_from(&lock)?;
    let _guard = lock.lock()?;
    std::process::abort()
}

/// Acquires the second lock, and the first one when all parties have a lock.
fn cross() -> Result<(), Box<dyn Error>> {
    let [first, second, together] = given()?;
    let (first, second) = (Lock::try_from(&first)?, Lock::try_from(&second)?);
    let _held = second.lock()?;
    Barrier::try_from(&together)?.wait()?;
    let _both = first.lock()?;
    Ok(())
}

/// Talks to a listener in Python.
fn connect(path: &str) -> Result<(), Box<dyn Error>> {
    let connection = Client::connect(&Address::Unix(path.into()), b"secret")?;
    let value: Value = connection.recv()?;
    connection.send(&value)?;
    let bytes: Vec<u8> = connection.recv()?;
    connection.send(&bytes)?;
    Ok(())
}

/// Listens for a client in Python, and sends everything back.
fn listen(path: &str) -> Result<(), Box<dyn Error>> {
    let listener = Listener::bind_unix(path, b"secret")?;
    println!("listening");
    let connection = loop {
        match listener.accept() {
            Err(ConnectionError::Refused(_)) => {}
            answer => break answer?,
        }
    };
    let value: Value = connection.recv()?;
    connection.send(&value)?;
    Ok(())
}

/// Changes a byte of a segment that Python has made.
fn segment(name: &str) -> Result<(), Box<dyn Error>> {
    let segment = SharedMemory::open(name)?;
    let mut byte = [0];
    segment.read(segment.len() - 1, &mut byte);
    segment.write(0, &[byte[0] + 1]);
    Ok(())
}

/// Starts functions of the module `rust_children`.
fn root(interpreter: &str, folder: &str) -> Result<(), Box<dyn Error>> {
    let command = |function: &str| {
        Command::new("rust_children", function)
            .interpreter(interpreter)
            .path(folder)
            .daemon(true)
    };
    let results = Queue::<Value>::new()?;
    let next = || results.get_timeout(LIMIT);

    let child = command("describe")
        .name("describer")
        .arg(&results)
        .arg(vec![Value::from(1i64), Value::from("two"), Value::from(0.5)])
        .keyword("flag", true)
        .start()?;
    assert_eq!(next()?, Value::from("describer [1, 'two', 0.5] True"));
    child.join()?;

    let frames = Queue::<Block<f32>>::bounded(2)?;
    let child = command("sum_frames").arg(&frames).arg(&results).start()?;
    for n in 1..=3u8 {
        frames.put(&Block::from_slice(&vec![f32::from(n); 1000])?)?;
        assert_eq!(next()?.as_f64(), Some(1000.0 * f64::from(n)));
    }
    frames.close()?;
    child.join()?;

    let (lock, total) = (Lock::new(())?, SharedSlice::<i64>::zeroed(4)?);
    let children = (0..2)
        .map(|_| command("count").arg(&lock).arg(&total).start())
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        child.join()?;
    }
    assert_eq!(total.to_vec(), [200, 0, 0, 200]);

    match command("fail").start()?.join() {
        Err(ProcessError::Raised {
            exception,
            message,
            traceback,
            ..
        }) => {
            assert_eq!(
                (exception.as_str(), message.as_str()),
                ("ValueError", "not today")
            );
            assert!(traceback.contains("in fail"), "{traceback}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    match command("missing").start()?.join() {
        Err(ProcessError::Raised { exception, .. }) => assert_eq!(exception, "AttributeError"),
        other => return Err(format!("{other:?}").into()),
    }
    match command("stop").start()?.join() {
        Err(ProcessError::Exited { code: 3, .. }) => {}
        other => return Err(format!("{other:?}").into()),
    }
    let child = command("hold").arg(&lock).arg(&results).start()?;
    assert_eq!(next()?, Value::from("held"));
    child.kill()?;
    assert!(matches!(
        child.join(),
        Err(ProcessError::Signaled { signal: 9, .. })
    ));
    assert!(matches!(lock.lock_timeout(LIMIT)?, Some(Locked::OwnerDied(..))));

    let started = command("hand_back").arg(&results).start()?;
    let Value::Bytes(named) = next()? else {
        return Err("no bytes".into());
    };
    let event = Event::try_from(&Value::from_bytes(&named)?)?;
    event.set();
    started.join()?;
    assert!(command("x").interpreter("/nonexistent/python").start().is_err());
    println!("all well");
    Ok(())
}
