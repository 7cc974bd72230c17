//! Reads the limits and the kill counts of the control groups that this process is in.
//!
//! Supports both versions of control groups at their customary mount points: version 2 at `/sys/fs/cgroup` (or
//! `/sys/fs/cgroup/unified`), version 1 in one folder per controller there. In a container the path in
//! `/proc/self/cgroup` may not exist, because only the container's own subtree is mounted; the root of that subtree
//! is used then. The limits of enclosing groups apply as well, so they are read too.
//!
//! # References
//!  - [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)
//!  - [cgroup v2: `cpu.max`, `memory.events`](https://docs.kernel.org/admin-guide/cgroup-v2.html)

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Number of CPUs' worth of time that this process's group may use. None: no limit.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    Groups::here()?.cpu_quota()
}

/// Number of processes of this process's group that the kernel has killed because memory ran out. If no group counts
/// them, the number for the whole machine.
#[must_use]
pub fn oom_kills() -> Option<u64> {
    Groups::here()
        .and_then(|groups| groups.oom_kills())
        .or_else(|| field(&read_to_string("/proc/vmstat").ok()?, "oom_kill"))
}

/// The control groups of one process.
#[derive(Debug)]
pub struct Groups {
    mount: PathBuf,
    listing: String,
}

impl Groups {
    /// The groups of this process.
    fn here() -> Option<Groups> {
        Some(Groups::new(
            "/sys/fs/cgroup",
            &read_to_string("/proc/self/cgroup").ok()?,
        ))
    }

    /// The groups of a process: `mount` is where the groups are mounted, `listing` the text of its
    /// `/proc/PID/cgroup`.
    #[must_use]
    pub fn new(mount: impl AsRef<Path>, listing: &str) -> Groups {
        Groups {
            mount: mount.as_ref().to_owned(),
            listing: listing.to_owned(),
        }
    }

    /// See [`cpu_quota`].
    #[must_use]
    pub fn cpu_quota(&self) -> Option<f64> {
        let unified = self.unified().into_iter().filter_map(|folder| {
            let text = read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        let legacy = self.legacy("cpu").into_iter().filter_map(|folder| {
            let number = |name| read_to_string(folder.join(name)).ok()?.trim().parse::<f64>().ok();
            let quota = number("cpu.cfs_quota_us").filter(|quota| *quota > 0.0)?;
            Some(quota / number("cpu.cfs_period_us")?)
        });
        unified
            .chain(legacy)
            .filter(|cpus| cpus.is_finite() && *cpus > 0.0)
            .reduce(f64::min)
    }

    /// See [`oom_kills`].
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let unified = self
            .unified()
            .into_iter()
            .map(|folder| folder.join("memory.events"));
        let legacy = self
            .legacy("memory")
            .into_iter()
            .map(|folder| folder.join("memory.oom_control"));
        // Uses the innermost group that counts: its count includes the groups inside it.
        unified
            .chain(legacy)
            .find_map(|file| field(&read_to_string(file).ok()?, "oom_kill"))
    }

    fn unified(&self) -> Vec<PathBuf> {
        let Some(path) = self.path(|hierarchy, controllers| hierarchy == "0" && controllers.is_empty())
        else {
            return Vec::new();
        };
        let mut folders = outwards(&self.mount, path);
        folders.extend(outwards(&self.mount.join("unified"), path));
        folders
    }

    fn legacy(&self, controller: &str) -> Vec<PathBuf> {
        let is_its = |_: &str, controllers: &str| controllers.split(',').any(|name| name == controller);
        let Some(path) = self.path(is_its) else {
            return Vec::new();
        };
        let mut folders = outwards(&self.mount.join(controller), path);
        folders.extend(outwards(&self.mount.join("cpu,cpuacct"), path));
        folders
    }

    fn path(&self, is_it: impl Fn(&str, &str) -> bool) -> Option<&str> {
        self.listing.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            is_it(hierarchy, controllers).then_some(path)
        })
    }
}

/// Lists the folder of a group and the folders of its enclosing groups, innermost first.
fn outwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let inner = mount.join(path.trim_start_matches('/'));
    inner
        .ancestors()
        .take_while(|folder| folder.starts_with(mount))
        .map(Path::to_path_buf)
        .collect()
}

/// Finds `name` in a text whose lines are a name and a number each, and returns its number.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, number) = line.split_once(' ')?;
        (found == name).then(|| number.trim().parse().ok())?
    })
}
