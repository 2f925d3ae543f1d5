//! Whether the room for this process changes, and whether memory is fought for: looked at now and then while something runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Room;
use crate::probe::pressure_in;

/// How long a look holds good: reading the files costs some ten microseconds.
const HOLDS: Duration = Duration::from_millis(100);

/// From this share of the last ten seconds on in which everybody waited for memory, in percent, it is fought for.
const FULL: f64 = 10.0;

/// The same where nobody counts that: pages of files that had to be read again within a second, one in so many of the room.
const REFAULTS: u64 = 32;

/// How fast pressure is given way to, and how long it must be over before that is taken back.
const GIVE: Duration = Duration::from_secs(1);
const TAKE: Duration = Duration::from_secs(10);

/// Parts of eight that are given up at most.
const MOST: u64 = 3;

/// What a look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What may be taken.
    pub room: Room,
    /// What had better be taken of it, in bytes: less, the longer memory has been fought for.
    pub calm_bytes: u64,
}

/// Looks at limits and pressure, at most ten times a second.
#[derive(Debug)]
pub struct Watch {
    root: PathBuf,
    cap: Option<u64>,
    looked: Option<Instant>,
    refaults: Option<Refaults>,
    /// Parts of eight that are given up.
    given: u64,
    /// When the last one was given up, and from when on there has been no reason to.
    gave: Option<Instant>,
    calm_since: Option<Instant>,
}

/// What a group counts: how often its limit was met, and pages of files that it had dropped and read again.
#[derive(Debug)]
struct Refaults {
    path: PathBuf,
    at: Instant,
    met: u64,
    pages: u64,
}

impl Watch {
    /// Of the system below `root`, with the user's own limit.
    pub fn new(root: &Path, cap: Option<u64>) -> Watch {
        Watch {
            root: root.to_owned(),
            cap,
            looked: None,
            refaults: None,
            given: 0,
            gave: None,
            calm_since: None,
        }
    }

    /// What there is `now`; `None` if the last look still holds good.
    pub fn look(&mut self, now: Instant) -> Option<Sight> {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < HOLDS) {
            return None;
        }
        self.looked = Some(now);
        let room = Room::now(&self.root, self.cap);
        let is_over = |since: Option<Instant>, pause| {
            since.is_none_or(|since| now.saturating_duration_since(since) >= pause)
        };
        if self.is_pressed(&room, now) {
            if is_over(self.gave, GIVE) {
                (self.given, self.gave) = ((self.given + 1).min(MOST), Some(now));
            }
            self.calm_since = Some(now);
        } else if is_over(self.calm_since, TAKE) {
            (self.given, self.calm_since) = (self.given.saturating_sub(1), Some(now));
        }
        Some(Sight { calm_bytes: room.bytes - room.bytes / 8 * self.given, room })
    }

    /// Whether memory is fought for where the room comes from.
    fn is_pressed(&mut self, room: &Room, now: Instant) -> bool {
        let group = room.path.as_deref().filter(|path| path.is_dir());
        let waited = match group {
            Some(group) => pressure_in(&group.join("memory.pressure")),
            None => pressure_in(&self.root.join("proc/pressure/memory")),
        };
        match (waited, group) {
            (Some(pressure), _) => pressure.full_10 >= FULL,
            (None, Some(group)) => self.reads_again(group, room.bytes, now),
            (None, None) => false,
        }
    }

    /// Whether the group meets its limit and reads much of what it has dropped for it.
    fn reads_again(&mut self, group: &Path, room: u64, now: Instant) -> bool {
        let read = |name: &str| fs::read_to_string(group.join(name)).unwrap_or_default();
        let (stat, met) = (read("memory.stat"), read("memory.failcnt"));
        let of_group = |line: &str| line.strip_prefix("total_workingset_refault_file ")?.trim().parse().ok();
        let pages = stat.lines().find_map(of_group).unwrap_or(0);
        let met = met.trim().parse().unwrap_or(0);
        let counted = Refaults { path: group.to_owned(), at: now, met, pages };
        let Some(before) = self.refaults.replace(counted).filter(|before| before.path == group) else {
            return false;
        };
        let bytes = (pages.saturating_sub(before.pages) * 4096) as f64;
        let seconds = now.saturating_duration_since(before.at).as_secs_f64();
        met > before.met && bytes > room as f64 / REFAULTS as f64 * seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::root;

    const GROUP: &str = "sys/fs/cgroup/memory/a";

    fn v1(limit: &str) -> tempfile::TempDir {
        root(&[
            ("proc/self/cgroup", "5:memory:/a\n"),
            (&format!("{GROUP}/memory.limit_in_bytes"), limit),
            (&format!("{GROUP}/memory.usage_in_bytes"), "1000000\n"),
            (&format!("{GROUP}/memory.stat"), "total_workingset_refault_file 1000\n"),
            (&format!("{GROUP}/memory.failcnt"), "7\n"),
        ])
    }

    #[test]
    fn a_limit_that_is_lowered_is_seen_at_the_next_look() {
        let root = v1("1000000000\n");
        let (mut watch, start) = (Watch::new(root.path(), None), Instant::now());
        let first = watch.look(start).unwrap();
        assert_eq!((first.room.limit_bytes, first.calm_bytes), (1_000_000_000, first.room.bytes));
        std::fs::write(root.path().join(GROUP).join("memory.limit_in_bytes"), "500000000\n").unwrap();
        assert_eq!(watch.look(start + HOLDS / 2), None);
        let second = watch.look(start + HOLDS).unwrap();
        assert_eq!(second.room.limit_bytes, 500_000_000);
        assert!(second.room.bytes < first.room.bytes / 2);
    }

    #[test]
    fn whoever_reads_again_what_it_dropped_gives_way_for_a_while() {
        let root = v1("1000000000\n");
        let write =
            |name: &str, text: &str| std::fs::write(root.path().join(GROUP).join(name), text).unwrap();
        let (mut watch, start) = (Watch::new(root.path(), None), Instant::now());
        let mut calm = |seconds: u64| watch.look(start + Duration::from_secs(seconds)).unwrap().calm_bytes;
        let all = calm(0);
        // 400 MB in a second, but the limit was not met: the file was dropped for other reasons.
        write("memory.stat", "total_workingset_refault_file 101000\n");
        assert_eq!(calm(1), all);
        write("memory.failcnt", "9\n");
        assert_eq!(calm(2), all, "nothing was read again in this second");
        write("memory.stat", "total_workingset_refault_file 201000\n");
        write("memory.failcnt", "10\n");
        let given = calm(3);
        assert_eq!(given, all - all / 8);
        assert_eq!((calm(5), calm(12)), (given, given));
        assert_eq!(calm(14), all);
    }

    #[test]
    fn waiting_counts_where_the_room_comes_from() {
        let psi = "some avg10=50.00 avg60=0 avg300=0 total=1\nfull avg10=30.00 avg60=0 avg300=0 total=1\n";
        let quiet = "some avg10=0.00 avg60=0.00 avg300=0 total=1\nfull avg10=0.00 avg60=0 avg300=0 total=1\n";
        let root = root(&[
            ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n"),
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/pressure/memory", psi),
            ("sys/fs/cgroup/a/memory.max", "1000000000\n"),
            ("sys/fs/cgroup/a/memory.pressure", quiet),
        ]);
        let (mut watch, start) = (Watch::new(root.path(), None), Instant::now());
        let mut look = |seconds: u64| watch.look(start + Duration::from_secs(seconds)).unwrap();
        // Others fight for the machine's memory, which this group has its own share of.
        assert_eq!(look(0).calm_bytes, look(1).room.bytes);
        std::fs::write(root.path().join("sys/fs/cgroup/a/memory.pressure"), psi).unwrap();
        let sights: Vec<Sight> = (2..8).map(&mut look).collect();
        let last = &sights[5];
        assert_eq!(last.calm_bytes, last.room.bytes - last.room.bytes / 8 * MOST);
        std::fs::write(root.path().join("sys/fs/cgroup/a/memory.max"), "max\n").unwrap();
        assert_eq!(look(8).room.by, "free memory");
    }
}
