//! The options of a pool that are those of its workers' processes.

use super::PoolBuilder;
use crate::process::{Resource, Stdio};
use std::ffi::OsStr;
use std::path::Path;

/// Defines methods that set an option of the workers' processes.
macro_rules! options_of_processes {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $kind:ty),*);)*) => {
        /// # Options of the workers' processes
        ///
        /// They are checked when the pool is built: a bad value is [`StartError::Option`](crate::StartError::Option). If
        /// the system then refuses one to the workers themselves, the pool is broken, and its tasks are
        /// [`TaskError::Abandoned`](crate::TaskError::Abandoned) with the reason.
        impl PoolBuilder {
            $(
                $(#[$doc])*
                pub fn $name(mut self, $($argument: $kind),*) -> Self {
                    self.plan.process = self.plan.process.$name($($argument),*);
                    self
                }
            )*
        }
    };
}

options_of_processes! {
    /// Sets a variable of the workers' environment.
    env(name: impl AsRef<OsStr>, value: impl AsRef<OsStr>);
    /// Sets variables of the workers' environment.
    envs(variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>);
    /// Removes a variable from the workers' environment.
    env_remove(name: impl AsRef<OsStr>);
    /// Removes all variables from the workers' environment, also those that were set before this call.
    env_clear();
    /// Sets the working folder of the workers. See [`Builder::cwd`](crate::Builder::cwd).
    cwd(folder: impl AsRef<Path>);
    /// Sets where the workers' standard input comes from. A descriptor is shared by all of them.
    stdin(stdio: impl Into<Stdio>);
    /// Sets where the workers' standard output goes. A descriptor is shared by all of them.
    stdout(stdio: impl Into<Stdio>);
    /// Sets where the workers' standard error goes. A descriptor is shared by all of them.
    stderr(stdio: impl Into<Stdio>);
    /// Sets a limit of each worker. See [`Builder::rlimit`](crate::Builder::rlimit). A worker that the system kills at a
    /// limit is replaced; its task is [`TaskError::Died`](crate::TaskError::Died).
    rlimit(resource: Resource, soft: Option<u64>, hard: Option<u64>);
    /// Sets the user of the workers. See [`Builder::uid`](crate::Builder::uid).
    uid(uid: u32);
    /// Sets the group of the workers. See [`Builder::gid`](crate::Builder::gid).
    gid(gid: u32);
    /// Sets the supplementary groups of the workers. See [`Builder::groups`](crate::Builder::groups).
    groups(groups: impl IntoIterator<Item = u32>);
    /// Sets the CPUs on which the workers may run; the first is 0. See also [`pin_workers`](PoolBuilder::pin_workers).
    affinity(cpus: impl IntoIterator<Item = usize>);
    /// Sets the nice value of the workers, from -20 (most CPU time) to 19. See [`Builder::nice`](crate::Builder::nice).
    nice(nice: i32);
    /// Moves the workers into a process group. See [`Builder::process_group`](crate::Builder::process_group).
    process_group(group: u32);
    /// Moves each worker into a session of its own. See [`Builder::new_session`](crate::Builder::new_session).
    new_session();
}
