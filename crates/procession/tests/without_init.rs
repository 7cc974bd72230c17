//! A program that does not call `init`.

use procession::{Pool, Process, StartError};

#[test]
fn a_program_that_has_forgotten_init_is_told_so_and_starts_nothing() {
    let error = Process::spawn(|n: u32| n, 1).unwrap_err();
    assert!(matches!(error, StartError::NotInitialised));
    assert!(error.to_string().contains("must come first in main"), "{error}");
    assert!(matches!(Pool::new(1), Err(StartError::NotInitialised)));
}

#[test]
#[allow(unsafe_code)]
fn forking_needs_no_init() {
    // SAFETY: the child only uses a number.
    let child = unsafe { Process::builder().fork(|| 5u8) };
    assert_eq!(child.unwrap().join().unwrap(), 5);
}
