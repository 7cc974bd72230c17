//! What a process changes of itself before it calls its function: folder, user, limits, CPUs, priority, group.
//!
//! The starter checks every value ([`Own::check`]), so that a bad one is an error of the call that names it. The child
//! applies them ([`Own::apply`]) in an order in which none takes away a right that a later one needs.

use crate::error::StartError;
use crate::startup;
use rustix::process::{self as system, Pid, Rlimit};
use rustix::thread::{CapabilitySet, CpuSet, capabilities, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A resource that the system limits for a process: see [`Builder::rlimit`](super::Builder::rlimit) and getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// The address space, in bytes (`RLIMIT_AS`). Family memory counts as far as it is used.
    AddressSpace,
    /// The size of a core file, in bytes (`RLIMIT_CORE`).
    CoreFile,
    /// The CPU time, in seconds (`RLIMIT_CPU`). At the soft limit the process gets SIGXCPU, at the hard limit SIGKILL.
    CpuTime,
    /// The private memory that can be written to, in bytes (`RLIMIT_DATA`).
    Data,
    /// The size of a file that the process writes, in bytes (`RLIMIT_FSIZE`). Captured output is a file, too.
    FileSize,
    /// The memory that is locked in RAM, in bytes (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// The largest number of a descriptor plus one (`RLIMIT_NOFILE`).
    OpenFiles,
    /// The number of processes and threads of the user (`RLIMIT_NPROC`).
    Processes,
    /// The stack of the main thread, in bytes (`RLIMIT_STACK`).
    Stack,
}

impl Resource {
    fn for_the_system(self) -> system::Resource {
        match self {
            Resource::AddressSpace => system::Resource::As,
            Resource::CoreFile => system::Resource::Core,
            Resource::CpuTime => system::Resource::Cpu,
            Resource::Data => system::Resource::Data,
            Resource::FileSize => system::Resource::Fsize,
            Resource::LockedMemory => system::Resource::Memlock,
            Resource::OpenFiles => system::Resource::Nofile,
            Resource::Processes => system::Resource::Nproc,
            Resource::Stack => system::Resource::Stack,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limit {
    pub(super) resource: Resource,
    /// None: no limit.
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
}

/// The group of processes that a process joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Group {
    /// A session of its own, and in it a group of its own.
    NewSession,
    /// The group with this number; 0: a group of its own.
    Of(u32),
}

/// The settings, each None (or empty) if the process keeps what it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(super) folder: Option<OsString>,
    pub(super) limits: Vec<Limit>,
    pub(super) user: Option<u32>,
    pub(super) group_id: Option<u32>,
    pub(super) groups: Option<Vec<u32>>,
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) nice: Option<i32>,
    pub(super) process_group: Option<Group>,
}

/// Returns the error for an option.
pub(super) fn refused(option: &'static str, why: impl Into<String>) -> StartError {
    StartError::Option {
        option,
        why: why.into(),
    }
}

impl Own {
    /// Returns whether a process with these settings differs from its starter. (The folder does not count: processes
    /// compare folders where that matters.)
    pub(super) fn differs(&self) -> bool {
        let plain = Own {
            folder: self.folder.clone(),
            ..Own::default()
        };
        *self != plain
    }

    /// Checks each value, as far as this process can know whether the child may set it. Makes the folder absolute.
    ///
    /// # Errors
    /// [`StartError::Option`] names the option and the value.
    pub(super) fn check(&mut self) -> Result<(), StartError> {
        if let Some(folder) = &mut self.folder {
            *folder = checked_folder(Path::new(folder))
                .map_err(|why| refused("cwd", why))?
                .into();
        }
        for limit in &self.limits {
            check_limit(*limit).map_err(|why| refused("rlimit", why))?;
        }
        if let Some(cpus) = &self.cpus {
            check_cpus(cpus).map_err(|why| refused("affinity", why))?;
        }
        if let Some(nice) = self.nice {
            check_nice(nice).map_err(|why| refused("nice", why))?;
        }
        if let Some(Group::Of(group)) = self.process_group {
            check_process_group(group).map_err(|why| refused("process_group", why))?;
        }
        self.check_user()
    }

    fn check_user(&self) -> Result<(), StartError> {
        let own_uids = [system::getuid().as_raw(), system::geteuid().as_raw()];
        if let Some(uid) = self.user {
            if uid == u32::MAX {
                return Err(refused("uid", "4294967295 is no user"));
            }
            if !own_uids.contains(&uid) && !may(CapabilitySet::SETUID) {
                return Err(refused(
                    "uid",
                    format!("this process may not become user {uid} (it lacks CAP_SETUID)"),
                ));
            }
        }
        let own_gids = [system::getgid().as_raw(), system::getegid().as_raw()];
        if let Some(gid) = self.group_id {
            if gid == u32::MAX {
                return Err(refused("gid", "4294967295 is no group"));
            }
            if !own_gids.contains(&gid) && !may(CapabilitySet::SETGID) {
                return Err(refused(
                    "gid",
                    format!("this process may not join group {gid} (it lacks CAP_SETGID)"),
                ));
            }
        }
        if let Some(groups) = &self.groups {
            if groups.contains(&u32::MAX) {
                return Err(refused("groups", "4294967295 is no group"));
            }
            if !may(CapabilitySet::SETGID) {
                return Err(refused(
                    "groups",
                    format!("this process may not set the groups {groups:?} (it lacks CAP_SETGID)"),
                ));
            }
        }
        Ok(())
    }

    /// Applies the settings to this process, which has one thread or is about to start its others.
    ///
    /// # Errors
    /// The text names the option, the value and the system's error.
    pub(super) fn apply(&self) -> Result<(), String> {
        match self.process_group {
            Some(Group::NewSession) => {
                system::setsid().map_err(|e| failed("new_session", "a new session", e))?;
            }
            Some(Group::Of(group)) => {
                let id = i32::try_from(group).ok().and_then(Pid::from_raw);
                system::setpgid(None, id).map_err(|e| failed("process_group", group, e))?;
            }
            None => {}
        }
        for limit in &self.limits {
            let new = Rlimit {
                current: limit.soft,
                maximum: limit.hard,
            };
            system::setrlimit(limit.resource.for_the_system(), new)
                .map_err(|e| failed("rlimit", shown(*limit), e))?;
        }
        if let Some(nice) = self.nice {
            system::setpriority_process(None, nice).map_err(|e| failed("nice", nice, e))?;
        }
        if let Some(cpus) = &self.cpus {
            use_only(cpus)?;
        }
        self.become_user()?;
        // The last: the folder must be one that the new user may enter.
        if let Some(folder) = &self.folder {
            let folder = Path::new(folder);
            system::chdir(folder).map_err(|e| failed("cwd", folder.display(), e))?;
        }
        Ok(())
    }

    fn become_user(&self) -> Result<(), String> {
        match &self.groups {
            Some(groups) => {
                startup::set_groups(groups).map_err(|e| failed("groups", format!("{groups:?}"), e))?
            }
            // As the standard library does: otherwise the new user would have the groups of root.
            None if self.user.is_some() && may(CapabilitySet::SETGID) => {
                startup::set_groups(&[]).map_err(|e| failed("uid", "no groups", e))?;
            }
            None => {}
        }
        if let Some(gid) = self.group_id {
            startup::set_group(gid).map_err(|e| failed("gid", gid, e))?;
        }
        if let Some(uid) = self.user {
            startup::set_user(uid).map_err(|e| failed("uid", uid, e))?;
        }
        Ok(())
    }
}

fn failed(option: &str, value: impl Display, error: impl Display) -> String {
    format!("its option `{option}` ({value}) cannot be applied: {error}")
}

/// Returns whether this process has a capability: capabilities(7).
fn may(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

fn checked_folder(folder: &Path) -> Result<PathBuf, String> {
    let shown = folder.display();
    let absolute = std::path::absolute(folder).map_err(|e| format!("{shown}: {e}"))?;
    let found = std::fs::metadata(&absolute).map_err(|e| format!("{shown}: {e}"))?;
    if !found.is_dir() {
        return Err(format!("{shown} is no folder"));
    }
    Ok(absolute)
}

fn shown(limit: Limit) -> String {
    let number = |n: Option<u64>| n.map_or("none".into(), |n| n.to_string());
    format!(
        "{:?}: soft {}, hard {}",
        limit.resource,
        number(limit.soft),
        number(limit.hard)
    )
}

fn check_limit(limit: Limit) -> Result<(), String> {
    let or_most = |n: Option<u64>| n.unwrap_or(u64::MAX);
    if or_most(limit.soft) > or_most(limit.hard) {
        return Err(format!(
            "{}: the soft limit is above the hard limit",
            shown(limit)
        ));
    }
    let own = system::getrlimit(limit.resource.for_the_system()).maximum;
    if or_most(limit.hard) > or_most(own) && !may(CapabilitySet::SYS_RESOURCE) {
        let own = or_most(own);
        return Err(format!(
            "{}: this process may not exceed its own hard limit, {own} (it lacks CAP_SYS_RESOURCE)",
            shown(limit)
        ));
    }
    Ok(())
}

fn check_cpus(cpus: &[usize]) -> Result<(), String> {
    if cpus.is_empty() {
        return Err("a process needs at least one CPU".into());
    }
    let own = sched_getaffinity(None).map_err(|e| format!("the CPUs of this process are not known: {e}"))?;
    for cpu in cpus {
        let exists = *cpu < CpuSet::MAX_CPU
            && (own.is_set(*cpu) || Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists());
        if !exists {
            return Err(format!("there is no CPU {cpu} (the first is 0)"));
        }
    }
    Ok(())
}

/// Returns the CPUs on which this thread may run, in order. Empty if they are not known.
pub(super) fn own_cpus() -> Vec<usize> {
    let own = sched_getaffinity(None);
    own.map_or_else(
        |_| Vec::new(),
        |own| (0..CpuSet::MAX_CPU).filter(|cpu| own.is_set(*cpu)).collect(),
    )
}

/// Restricts this thread, and those that it starts from now on, to these CPUs.
fn use_only(cpus: &[usize]) -> Result<(), String> {
    let shown = format!("{cpus:?}");
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
        set.set(*cpu);
    }
    sched_setaffinity(None, &set).map_err(|e| failed("affinity", &shown, e))?;
    // The system leaves out, without an error, the CPUs that the control group forbids.
    let got = sched_getaffinity(None).map_err(|e| failed("affinity", &shown, e))?;
    match cpus.iter().find(|cpu| !got.is_set(**cpu)) {
        Some(cpu) => Err(failed(
            "affinity",
            &shown,
            format!("the system does not let it use CPU {cpu}"),
        )),
        None => Ok(()),
    }
}

fn check_nice(nice: i32) -> Result<(), String> {
    if !(-20..=19).contains(&nice) {
        return Err(format!("{nice} is not between -20 and 19"));
    }
    let own = system::getpriority_process(None).unwrap_or(0);
    if nice >= own || may(CapabilitySet::SYS_NICE) {
        return Ok(());
    }
    // getrlimit(2): the least value is 20 minus the limit.
    let least = match system::getrlimit(system::Resource::Nice).current {
        Some(limit) => 20 - i64::try_from(limit.min(40)).unwrap_or(40),
        None => -20,
    };
    if i64::from(nice) < least {
        return Err(format!(
            "this process may not set {nice}, which is less than its own {own} (it lacks CAP_SYS_NICE)"
        ));
    }
    Ok(())
}

fn check_process_group(group: u32) -> Result<(), String> {
    if group == 0 {
        return Ok(());
    }
    let id = i32::try_from(group).ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| format!("{group} is no process group"))?;
    match system::test_kill_process_group(id) {
        Err(rustix::io::Errno::SRCH) => Err(format!("there is no process group {group}")),
        _ => Ok(()),
    }
}
