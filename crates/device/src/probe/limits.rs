//! How much memory there is, and how much of it this process may take.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::machine::bytes_of;

/// From `/proc/meminfo`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Meminfo {
    /// All memory that the kernel has.
    pub total_bytes: u64,
    /// What programs can take without swapping, by the kernel's reckoning.
    pub available_bytes: u64,
    /// Swap space that is free, compressed memory on phones.
    pub swap_free_bytes: u64,
}

/// A limit on this process' memory or that of its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What sets it.
    pub kind: &'static str,
    /// Where it was found.
    pub path: PathBuf,
    /// The limit.
    pub limit_bytes: u64,
    /// What is taken already and cannot be dropped.
    pub used_bytes: u64,
}

impl Limit {
    /// What is left.
    pub fn free_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }
}

/// Share of the last 10 and 60 seconds, in percent, in which programs waited for memory.
/// Source: Linux, `Documentation/accounting/psi.rst`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one program waited, last 10 seconds.
    pub some_10: f64,
    /// The same, last minute.
    pub some_60: f64,
    /// All waited, last 10 seconds.
    pub full_10: f64,
}

/// What the whole machine has.
pub fn meminfo(root: &Path) -> Option<Meminfo> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let field = |name: &str| bytes_of(&text, name);
    Some(Meminfo {
        total_bytes: field("MemTotal")?,
        available_bytes: field("MemAvailable").or_else(|| field("MemFree"))?,
        swap_free_bytes: field("SwapFree").unwrap_or(0),
    })
}

/// How long programs of the whole machine waited for memory; `None` where the kernel does not count it.
pub fn pressure(root: &Path) -> Option<Pressure> {
    pressure_in(&root.join("proc/pressure/memory"))
}

/// The same from one file, such as a group's `memory.pressure`.
pub(crate) fn pressure_in(path: &Path) -> Option<Pressure> {
    let text = fs::read_to_string(path).ok()?;
    let field = |line: &str, name: &str| {
        let line = text.lines().find_map(|whole| whole.strip_prefix(line))?;
        line.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Some(Pressure {
        some_10: field("some ", "avg10")?,
        some_60: field("some ", "avg60")?,
        full_10: field("full ", "avg10").unwrap_or(0.0),
    })
}

/// Every limit on this process' memory, the tightest first: of control groups of both versions, its own and all around it,
/// and of the low-memory killer that older Android kernels have.
pub fn limits(root: &Path) -> Vec<Limit> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            for mount in ["sys/fs/cgroup", "sys/fs/cgroup/unified"] {
                limits.extend(around(&root.join(mount), path, "cgroup v2", &V2));
            }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            // Android has its own place for it.
            for mount in ["sys/fs/cgroup/memory", "dev/memcg"] {
                limits.extend(around(&root.join(mount), path, "cgroup v1", &V1));
            }
        }
    }
    limits.extend(low_memory_killer(root));
    limits.sort_by_key(Limit::free_bytes);
    limits
}

/// The files of one version.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: pages of files, which can be dropped.
    droppable: [&'static str; 2],
}

/// Source: Linux, `Documentation/admin-guide/cgroup-v1/memory.rst`.
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    droppable: ["total_inactive_file", "total_active_file"],
};
/// Source: Linux, `Documentation/admin-guide/cgroup-v2.rst`.
const V2: Files =
    Files { limit: "memory.max", used: "memory.current", droppable: ["inactive_file", "active_file"] };

/// Limits this large mean none.
const NONE: u64 = 1 << 60;

/// The limits of a group and of all around it. Within a container the path is that outside, and the mount is the group.
fn around(mount: &Path, path: &str, kind: &'static str, files: &Files) -> Vec<Limit> {
    let own = mount.join(path.trim_start_matches('/'));
    let mut limits = Vec::new();
    for folder in own.ancestors().take_while(|folder| folder.starts_with(mount)) {
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let Some(limit_bytes) = number(files.limit).filter(|&limit| limit < NONE) else { continue };
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let pages = |name: &str| {
            let of_name = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
            stat.lines().find_map(of_name).unwrap_or(0)
        };
        let droppable: u64 = files.droppable.iter().map(|name| pages(name)).sum();
        let used_bytes = number(files.used).unwrap_or(0).saturating_sub(droppable);
        limits.push(Limit { kind, path: folder.to_owned(), limit_bytes, used_bytes });
    }
    limits
}

/// The threshold of free memory at which the kernel's killer ends programs in the foreground, in pages of 4 KiB, the first
/// of the list. Newer Androids end programs by pressure, which no file tells beforehand.
/// Source: Android common kernel 4.9, `drivers/staging/android/lowmemorykiller.c`.
fn low_memory_killer(root: &Path) -> Option<Limit> {
    let path = root.join("sys/module/lowmemorykiller/parameters/minfree");
    let pages: u64 = fs::read_to_string(&path).ok()?.split(',').next()?.trim().parse().ok()?;
    let Meminfo { total_bytes, available_bytes, .. } = meminfo(root)?;
    let limit_bytes = total_bytes.saturating_sub(pages * 4096);
    let used_bytes = total_bytes.saturating_sub(available_bytes);
    Some(Limit { kind: "low-memory killer", path, limit_bytes, used_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::root;

    const MEMINFO: &str =
        "MemTotal:        8000000 kB\nMemFree:  100 kB\nMemAvailable:    3000000 kB\nSwapFree: 2000 kB\n";

    #[test]
    fn memory_and_pressure_of_the_machine() {
        let root = root(&[
            ("proc/meminfo", MEMINFO),
            (
                "proc/pressure/memory",
                "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\nfull avg10=0.75 avg60=0.00 avg300=0.00 total=3\n",
            ),
        ]);
        let meminfo = meminfo(root.path()).unwrap();
        assert_eq!(meminfo.total_bytes, 8_000_000 * 1024);
        assert_eq!((meminfo.available_bytes, meminfo.swap_free_bytes), (3_000_000 * 1024, 2000 * 1024));
        let pressure = pressure(root.path()).unwrap();
        assert_eq!((pressure.some_10, pressure.some_60, pressure.full_10), (1.5, 0.25, 0.75));
        assert!(limits(root.path()).is_empty());
    }

    #[test]
    fn groups_of_version_1_count_what_cannot_be_dropped() {
        let group = "sys/fs/cgroup/memory/apps/one";
        let file = |name: &str| format!("{group}/{name}");
        let root = root(&[
            ("proc/self/cgroup", "5:memory:/apps/one\n1:cpu:/\n0::/\n"),
            (&file("memory.limit_in_bytes"), "1000000\n"),
            (&file("memory.usage_in_bytes"), "900000\n"),
            (&file("memory.stat"), "cache 1\ntotal_inactive_file 300000\ntotal_active_file 200000\n"),
            ("sys/fs/cgroup/memory/apps/memory.limit_in_bytes", "700000\n"),
            ("sys/fs/cgroup/memory/apps/memory.usage_in_bytes", "600000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let limits = limits(root.path());
        let free: Vec<u64> = limits.iter().map(Limit::free_bytes).collect();
        assert_eq!(free, [100_000, 600_000]);
        assert_eq!(limits[1].path, root.path().join(group));
    }

    #[test]
    fn groups_of_version_2_and_none() {
        let root = root(&[
            ("proc/self/cgroup", "0::/user/app\n"),
            ("sys/fs/cgroup/user/app/memory.max", "max\n"),
            ("sys/fs/cgroup/user/memory.max", "5000\n"),
            ("sys/fs/cgroup/user/memory.current", "1500\n"),
            ("sys/fs/cgroup/user/memory.stat", "anon 500\ninactive_file 600\nactive_file 400\n"),
        ]);
        let limits = limits(root.path());
        assert_eq!(limits.len(), 1);
        assert_eq!((limits[0].kind, limits[0].used_bytes, limits[0].free_bytes()), ("cgroup v2", 500, 4500));
    }

    #[test]
    fn androids_killer_and_its_groups() {
        let root = root(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "3:memory:/apps\n"),
            ("dev/memcg/apps/memory.limit_in_bytes", "2000000000\n"),
            ("sys/module/lowmemorykiller/parameters/minfree", "18432,23040,27648\n"),
        ]);
        let limits = limits(root.path());
        let kinds: Vec<&str> = limits.iter().map(|limit| limit.kind).collect();
        assert_eq!(kinds, ["cgroup v1", "low-memory killer"]);
        assert_eq!(limits[1].free_bytes(), (3_000_000 - 18432 * 4) * 1024);
    }
}
