//! How many threads to compute with, unless the user says.
//!
//! Phones have cores of two or three speeds, and some processors run two threads on a core. Products wait for memory or
//! for the multipliers, which two threads of a core share, and a core of half the speed or less costs more in waiting
//! for it than it gives. So: one thread for each of the fast cores, as far as the process may use them.

use std::path::Path;
use std::thread::available_parallelism;

use crate::probe::cores::{Core, cores};

/// A core counts as fast from this share of the fastest one's speed on.
const FAST: f64 = 0.5;

/// The fast cores that this process may run on at once: those of its affinity mask, each core once however many threads
/// it runs, and no more than a control group's quota grants. Where the system does not tell its cores apart, as many
/// threads as may run at once.
pub fn default_threads() -> usize {
    let most = available_parallelism().map_or(1, usize::from);
    match fast(&cores(Path::new("/"))) {
        0 => most,
        fast => fast.min(most),
    }
}

/// How many of them are fast.
fn fast(cores: &[Core]) -> usize {
    let fastest = cores.iter().map(Core::speed).fold(0.0, f64::max);
    cores.iter().filter(|core| core.speed() >= FAST * fastest).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::root;

    /// The fast cores of a machine that may use `allowed` of these processors: the siblings of each, and its speed.
    fn of(processors: &[(&str, Option<u32>)], speed_file: &str, allowed: &str) -> usize {
        let mut files = vec![("proc/self/status".to_owned(), format!("Cpus_allowed_list:\t{allowed}\n"))];
        for (cpu, (siblings, speed)) in processors.iter().enumerate() {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            files.push((format!("{folder}/topology/thread_siblings_list"), format!("{siblings}\n")));
            files.extend(speed.map(|speed| (format!("{folder}/{speed_file}"), format!("{speed}\n"))));
        }
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        fast(&cores(root(&files).path()))
    }

    #[test]
    fn a_phone_computes_on_its_big_and_middle_cores() {
        let cores = [250, 250, 250, 250, 800, 800, 800, 1024];
        let names: Vec<String> = (0..8).map(|cpu| cpu.to_string()).collect();
        let cores: Vec<_> =
            names.iter().zip(cores).map(|(name, speed)| (name.as_str(), Some(speed))).collect();
        for speed_file in ["cpu_capacity", "cpufreq/cpuinfo_max_freq"] {
            assert_eq!(of(&cores, speed_file, "0-7"), 4);
            // Only slow ones are allowed: then they are the fast ones.
            assert_eq!(of(&cores, speed_file, "0-2"), 3);
        }
    }

    #[test]
    fn a_core_counts_once_however_many_threads_it_runs() {
        let pc = [("0,2", None), ("1,3", None), ("0,2", None), ("1,3", None)];
        assert_eq!(of(&pc, "cpu_capacity", "0-3"), 2);
        assert_eq!(of(&pc, "cpu_capacity", "2,3"), 2);
        assert_eq!(of(&pc, "cpu_capacity", "1,3"), 1);
    }

    #[test]
    fn a_system_that_says_nothing_decides_nothing() {
        assert_eq!(fast(&cores(root(&[]).path())), 0);
        assert!(default_threads() >= 1);
    }
}
