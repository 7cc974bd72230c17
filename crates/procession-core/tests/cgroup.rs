//! What control groups say, in both of their versions.

use procession_core::sys::cgroup::Groups;
use std::fs;
use std::path::{Path, PathBuf};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Folder {
        let root = std::env::temp_dir().join(format!("cgroup-{}-{name}", std::process::id()));
        for (path, text) in files {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(file, text).unwrap();
        }
        Folder(root)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_tightest_quota_around_counts() {
    let files = [
        ("a/b/cpu.max", "max 100000\n"),
        ("a/cpu.max", "150000 100000\n"),
        ("cpu.max", "400000 100000\n"),
    ];
    let folder = Folder::new("tightest", &files);
    assert_eq!(Groups::new(&folder.0, "0::/a/b\n").cpu_quota(), Some(1.5));
    assert_eq!(Groups::new(&folder.0, "0::/\n").cpu_quota(), Some(4.0));
}

#[test]
fn version_1_has_a_folder_for_each_controller() {
    let files = [
        ("cpu/docker/cpu.cfs_quota_us", "50000\n"),
        ("cpu/docker/cpu.cfs_period_us", "100000\n"),
        ("cpu/cpu.cfs_quota_us", "-1\n"),
        ("cpu/cpu.cfs_period_us", "100000\n"),
        (
            "memory/docker/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        ),
    ];
    let folder = Folder::new("legacy", &files);
    let groups = Groups::new(&folder.0, "4:memory:/docker\n3:cpu,cpuacct:/docker\n0::/\n");
    assert_eq!(groups.cpu_quota(), Some(0.5));
    assert_eq!(groups.oom_kills(), Some(3));
}

#[test]
fn in_a_container_the_root_of_what_is_mounted_stands_for_the_own_group() {
    let files = [
        ("memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 0\n"),
        ("cpu.max", "200000 100000\n"),
    ];
    let folder = Folder::new("container", &files);
    let groups = Groups::new(&folder.0, "0::/kubepods/pod1/abc\n");
    assert_eq!((groups.cpu_quota(), groups.oom_kills()), (Some(2.0), Some(2)));
}

#[test]
fn where_nothing_is_said_nothing_is_known() {
    let folder = Folder::new(
        "nothing",
        &[("cpu.max", "max 100000\n"), ("memory.events", "garbage")],
    );
    for listing in ["", "0::/\n", "nonsense", "1:cpu:/x\n"] {
        let groups = Groups::new(&folder.0, listing);
        assert_eq!((groups.cpu_quota(), groups.oom_kills()), (None, None));
    }
}
