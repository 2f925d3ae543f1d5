//! How many threads to compute with, unless the user says.
//!
//! Phones have cores of two or three speeds, and some processors run two threads on a core. Products wait for memory or
//! for the multipliers, which two threads of a core share, and a core of half the speed or less costs more in waiting
//! for it than it gives. So: one thread for each of the fast cores, as far as the process may use them.

use std::path::Path;
use std::thread::available_parallelism;

/// A core counts as fast from this share of the fastest one's speed on.
const FAST: f64 = 0.5;

/// The fast cores that this process may run on at once: those of its affinity mask, each core once however many threads
/// it runs, and no more than a control group's quota grants. Where the system does not tell its cores apart, as many
/// threads as may run at once.
pub fn default_threads() -> usize {
    let most = available_parallelism().map_or(1, usize::from);
    let allowed = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        numbers(list)
    });
    allowed
        .and_then(|allowed| fast_cores(Path::new("/sys/devices/system/cpu"), &allowed))
        .map_or(most, |fast| fast.min(most))
}

/// How many of the processors in `allowed` are fast cores, by what `root` says of each; `None` if it says nothing.
fn fast_cores(root: &Path, allowed: &[usize]) -> Option<usize> {
    let about =
        |cpu: usize, what: &str| std::fs::read_to_string(root.join(format!("cpu{cpu}")).join(what)).ok();
    let mut cores = Vec::new();
    for &cpu in allowed {
        let siblings = numbers(&about(cpu, "topology/thread_siblings_list")?)?;
        // A core is taken at its first thread that may be used.
        if siblings.iter().find(|sibling| allowed.contains(sibling)) == Some(&cpu) {
            let speed = ["cpu_capacity", "cpufreq/cpuinfo_max_freq"]
                .into_iter()
                .find_map(|what| about(cpu, what)?.trim().parse::<f64>().ok());
            cores.push(speed.unwrap_or(1.0));
        }
    }
    let fastest = cores.iter().copied().fold(0.0, f64::max);
    let fast = cores.iter().filter(|&&speed| speed >= FAST * fastest).count();
    (fast > 0).then_some(fast)
}

/// A list as the kernel writes it: `0-3,6`.
fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse().ok()?..=last.parse::<usize>().ok()?.min(1 << 16));
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that describes processors: the siblings of each, and its speed.
    fn machine(processors: &[(&str, Option<u32>)], speed_file: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (cpu, (siblings, speed)) in processors.iter().enumerate() {
            let folder = root.path().join(format!("cpu{cpu}"));
            let speed_file = folder.join(speed_file);
            std::fs::create_dir_all(folder.join("topology")).unwrap();
            std::fs::create_dir_all(speed_file.parent().unwrap()).unwrap();
            std::fs::write(folder.join("topology/thread_siblings_list"), format!("{siblings}\n")).unwrap();
            if let Some(speed) = speed {
                std::fs::write(speed_file, format!("{speed}\n")).unwrap();
            }
        }
        root
    }

    #[test]
    fn a_phone_computes_on_its_big_and_middle_cores() {
        let cores = [250, 250, 250, 250, 800, 800, 800, 1024];
        let names: Vec<String> = (0..8).map(|cpu| cpu.to_string()).collect();
        let cores: Vec<_> =
            names.iter().zip(cores).map(|(name, speed)| (name.as_str(), Some(speed))).collect();
        for speed_file in ["cpu_capacity", "cpufreq/cpuinfo_max_freq"] {
            let phone = machine(&cores, speed_file);
            assert_eq!(fast_cores(phone.path(), &[0, 1, 2, 3, 4, 5, 6, 7]), Some(4));
            // Only slow ones are allowed: then they are the fast ones.
            assert_eq!(fast_cores(phone.path(), &[0, 1, 2]), Some(3));
        }
    }

    #[test]
    fn a_core_counts_once_however_many_threads_it_runs() {
        let pc = machine(&[("0,2", None), ("1,3", None), ("0,2", None), ("1,3", None)], "cpu_capacity");
        assert_eq!(fast_cores(pc.path(), &[0, 1, 2, 3]), Some(2));
        assert_eq!(fast_cores(pc.path(), &[2, 3]), Some(2));
        assert_eq!(fast_cores(pc.path(), &[1, 3]), Some(1));
    }

    #[test]
    fn a_system_that_says_nothing_decides_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(fast_cores(root.path(), &[0, 1]), None);
        assert!(default_threads() >= 1);
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("7"), Some(vec![7]));
        assert_eq!(numbers("x"), None);
        assert_eq!(numbers(""), None);
    }
}
