//! How much memory this process may take in all, and by whose word.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::machine::bytes_of;
use crate::probe::{limits, meminfo};

/// What the kernel keeps for a process besides its pages and counts against the same limit: page tables (8 bytes for each
/// 4 KiB), stacks, what each processor has taken in advance. A fixed part, and one in so many of the limit.
const KERNEL: u64 = 4 << 20;
const KERNEL_SHARE: u64 = 64;

/// The user's own word.
const CHOSEN: &str = "--memory";

/// Bytes that this process may take in all: what is its own alone, and what it wants to stay in memory of mapped files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    /// How many, those that it has taken already among them.
    pub bytes: u64,
    /// The figure that they come from: a limit, or what the machine has free.
    pub limit_bytes: u64,
    /// Who says so: `--memory`, `cgroup v1`, `cgroup v2`, `low-memory killer`, `free memory`.
    pub by: &'static str,
    /// Where the limit was found.
    pub path: Option<PathBuf>,
}

impl Room {
    /// What `cap`, the limits on this process and the machine leave, the least of them: all read below `root`, which is `/`
    /// but for tests. Without a word from anybody there is no end to it.
    pub fn now(root: &Path, cap: Option<u64>) -> Room {
        let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
        let own = bytes_of(&status, "RssAnon").unwrap_or(0);
        let capped = cap.map(|bytes| Room { bytes, limit_bytes: bytes, by: CHOSEN, path: None });
        let limits = limits(root).into_iter().map(|limit| {
            let bytes = less_kernel(limit.free_bytes() + own, limit.limit_bytes);
            Room { bytes, limit_bytes: limit.limit_bytes, by: limit.kind, path: Some(limit.path) }
        });
        let machine = meminfo(root).map(|meminfo| {
            let limit_bytes = meminfo.available_bytes + own;
            let bytes = less_kernel(limit_bytes, limit_bytes);
            Room { bytes, limit_bytes, by: "free memory", path: None }
        });
        let all = capped.into_iter().chain(limits).chain(machine);
        all.min_by_key(|room| room.bytes).unwrap_or_else(Room::endless)
    }

    /// Half of the share that is left to the kernel. What the kernel has taken counts against the limit already: it is left to it
    /// twice then, and a plan that fills the room would miss it before its context is full. 0 for the user's own word.
    pub fn spare_bytes(&self) -> u64 {
        if self.by == CHOSEN || self.limit_bytes == u64::MAX {
            0
        } else {
            self.limit_bytes / KERNEL_SHARE / 2
        }
    }

    /// As much as there is.
    pub fn endless() -> Room {
        Room { bytes: u64::MAX, limit_bytes: u64::MAX, by: "nothing", path: None }
    }

    /// The figure that would leave `bytes`.
    pub fn limit_for(&self, bytes: u64) -> u64 {
        bytes.saturating_add(self.limit_bytes - self.bytes)
    }
}

fn less_kernel(bytes: u64, limit: u64) -> u64 {
    bytes.saturating_sub(KERNEL + limit / KERNEL_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::root;

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 3000000 kB\n");
    const STATUS: (&str, &str) = ("proc/self/status", "RssAnon:\t  100000 kB\n");

    #[test]
    fn the_machine_says_what_it_has_free_and_what_is_ours_already() {
        let root = root(&[MEMINFO, STATUS]);
        let room = Room::now(root.path(), None);
        let has = 3_100_000 * 1024;
        assert_eq!((room.by, room.limit_bytes), ("free memory", has));
        assert_eq!(room.bytes, has - KERNEL - has / KERNEL_SHARE);
        assert_eq!(room.limit_for(room.bytes), has);
        let capped = Room::now(root.path(), Some(1 << 30));
        assert_eq!((capped.by, capped.bytes, capped.limit_bytes), ("--memory", 1 << 30, 1 << 30));
        assert_eq!(Room::now(root.path(), Some(1 << 40)).by, "free memory");
    }

    #[test]
    fn the_tightest_group_decides_own_or_outer() {
        let group = "sys/fs/cgroup/memory/apps/one";
        let file = |name: &str| format!("{group}/{name}");
        let root = root(&[
            MEMINFO,
            STATUS,
            ("proc/self/cgroup", "5:memory:/apps/one\n"),
            (&file("memory.limit_in_bytes"), "900000000\n"),
            // 200 MB are files, 102.4 MB ours, the rest that of others in the group or of the kernel.
            (&file("memory.usage_in_bytes"), "400000000\n"),
            (&file("memory.stat"), "total_inactive_file 150000000\ntotal_active_file 50000000\n"),
            ("sys/fs/cgroup/memory/apps/memory.limit_in_bytes", "2000000000\n"),
            ("sys/fs/cgroup/memory/apps/memory.usage_in_bytes", "1900000000\n"),
        ]);
        let room = Room::now(root.path(), Some(1 << 40));
        assert_eq!((room.by, room.limit_bytes), ("cgroup v1", 2_000_000_000));
        assert_eq!(room.bytes, 100_000_000 + 102_400_000 - KERNEL - 2_000_000_000 / KERNEL_SHARE);
        std::fs::write(root.path().join("sys/fs/cgroup/memory/apps/memory.usage_in_bytes"), "1").unwrap();
        let room = Room::now(root.path(), None);
        assert_eq!(room.path.as_deref(), Some(root.path().join(group).as_path()));
        assert_eq!(room.bytes, 700_000_000 + 102_400_000 - KERNEL - 900_000_000 / KERNEL_SHARE);
    }

    #[test]
    fn a_limit_below_what_is_taken_leaves_nothing_and_no_system_no_end() {
        let tight = root(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "2000000\n"),
        ]);
        assert_eq!((Room::now(tight.path(), None).bytes, Room::now(tight.path(), None).by), (0, "cgroup v2"));
        assert_eq!(Room::now(root(&[]).path(), None), Room::endless());
    }
}
