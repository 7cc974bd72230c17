//! The extension module `procession._core`: the core, as Python sees it.
//!
//! Rules of this floor: no function waits or copies many bytes while attached to the interpreter (`py.detach`); every wait
//! returns to run signal handlers, so Ctrl-C ends each of them; no lock of this process is held while Python code may run, so
//! a fork or a finalizer never finds one locked. (A free-threaded interpreter stops all threads before a fork, at the places
//! where a thread detaches or runs Python code.)
//!
//! On a free-threaded interpreter threads that are attached run at the same time. So a class is `frozen`, and what changes in
//! it is atomic or behind a mutex; and no item of a list or dictionary is borrowed that other threads may change meanwhile:
//! it is copied first, in one step ([`interpreter::FREE_THREADED`]).
#![allow(unsafe_code, unreachable_pub)]

use pyo3::prelude::*;

#[cfg(not(all(pyo3_disable_reference_pool, pyo3_leak_on_drop_without_reference_pool)))]
compile_error!(
    "build with the rustflags of .cargo/config.toml (RUSTFLAGS in the environment replaces them): \
     --cfg pyo3_disable_reference_pool --cfg pyo3_leak_on_drop_without_reference_pool. \
     Without them PyO3 has a lock that a fork can leave locked in the child"
);

mod codec;
mod connection;
mod descriptors;
mod dict;
mod errors;
mod frame;
mod inspect;
mod interpreter;
mod label;
mod memory;
mod once;
mod pool;
mod process;
mod queue;
mod shared;
mod sync;

// A free-threaded interpreter leaves its lock off for this module. What that demands of each file stands in the rules above.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::codec::pickle::{_dismantle, use_custom_reducers};
    #[pymodule_export]
    use super::codec::tree::{_decode_small, _encode_small};
    #[pymodule_export]
    use super::connection::{
        _fetch, Handshake, SideChannel, Wire, make_pipe, make_side_channel, make_socket_pair, poll, respond,
        verify, wait_for_many,
    };
    #[pymodule_export]
    use super::dict::Dict;
    #[pymodule_export]
    use super::errors::explain_limit;
    #[pymodule_export]
    use super::inspect::{_inspect_command, _inspect_family, _report_stalls};
    #[pymodule_export]
    use super::label::_place;
    #[pymodule_export]
    use super::memory::argument::{PrivateBytes, Snapshot};
    #[pymodule_export]
    use super::memory::array::Array;
    #[pymodule_export]
    use super::memory::buffer::SharedBytes;
    #[pymodule_export]
    use super::pool::{_report_progress, PoolEngine, PoolGroup, PoolTask, work_in_pool};
    #[pymodule_export]
    use super::process::member::{
        _blocks, _has_role, Member, adopt, carried_done, declare_exit, describe, family_fd, leave_report,
        sweep,
    };
    #[pymodule_export]
    use super::queue::Queue;
    #[pymodule_export]
    use super::queue::rpc_channel::{RpcChannel, family_id, seat};
    #[pymodule_export]
    use super::shared::TaskWait;
    #[pymodule_export]
    use super::sync::barrier::Barrier;
    #[pymodule_export]
    use super::sync::condition::{Condition, Ticket};
    #[pymodule_export]
    use super::sync::event::Event;
    #[pymodule_export]
    use super::sync::guarded::Guarded;
    #[pymodule_export]
    use super::sync::lock::{Lock, RLock};
    #[pymodule_export]
    use super::sync::mailbox::Mailbox;
    #[pymodule_export]
    use super::sync::semaphore::Semaphore;

    #[pymodule_export]
    use super::memory::transit::{_collect_buffer, _forget_collected};
    #[pymodule_export]
    use super::process::tracker::{
        TrackerListing, memory_left, register_tracker, reserve_file, tracker, tracker_pid,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::interpreter::claim(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::sync::fast::install(module)?;
        procession_core::sync::wait::poll_for_signals();
        procession_core::family::entry::wait_with(super::errors::wait_without_the_interpreter);
        super::sync::guarded::install(module)?;
        super::process::fork::register(module)?;
        super::process::child::register(module)
    }
}
