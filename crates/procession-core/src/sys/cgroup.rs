//! What the control groups of this process allow, and whether they have killed.
//!
//! Both versions of control groups are understood, where they are mounted by custom: version 2 at `/sys/fs/cgroup` (or
//! `/sys/fs/cgroup/unified`), version 1 in a folder there for each controller. In a container the path that
//! `/proc/self/cgroup` tells may not be there, because only the container's own part is mounted; then that part's root
//! is it. Limits of the groups around ours hold for us as well, so they are read too.
//!
//! # References
//!  - [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)
//!  - [cgroup v2: `cpu.max`, `memory.events`](https://docs.kernel.org/admin-guide/cgroup-v2.html)

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// How many CPUs' worth of time this process's group may use; None where nothing limits it.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    Groups::here()?.cpu_quota()
}

/// How many processes of this process's group the kernel has killed because memory ran out; where no group counts
/// them, how many of the whole machine.
#[must_use]
pub fn oom_kills() -> Option<u64> {
    Groups::here()
        .and_then(|groups| groups.oom_kills())
        .or_else(|| field(&read_to_string("/proc/vmstat").ok()?, "oom_kill"))
}

/// The groups that a process is in.
#[derive(Debug)]
pub struct Groups {
    mount: PathBuf,
    listing: String,
}

impl Groups {
    /// Those of this process.
    fn here() -> Option<Groups> {
        Some(Groups::new(
            "/sys/fs/cgroup",
            &read_to_string("/proc/self/cgroup").ok()?,
        ))
    }

    /// Those of a process whose `/proc/PID/cgroup` has this text, on a machine that mounts them there.
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
        // The innermost that counts: its count includes those of the groups inside.
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

/// The folder of a group, and those of the groups around it, from the inside out.
fn outwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let inner = mount.join(path.trim_start_matches('/'));
    inner
        .ancestors()
        .take_while(|folder| folder.starts_with(mount))
        .map(Path::to_path_buf)
        .collect()
}

/// The number after a name in a text of lines with a name and a number each.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, number) = line.split_once(' ')?;
        (found == name).then(|| number.trim().parse().ok())?
    })
}
