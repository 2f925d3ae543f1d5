//! What the system tells of the machine and of this process: the processor's name, memory in use, energy taken.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The processor that figures are from.
#[derive(Clone, Debug, Serialize)]
pub(in crate::commands) struct Machine {
    /// Its name, as far as the system tells one.
    pub(in crate::commands) cpu: String,
    /// Cores that this process may use.
    pub(in crate::commands) cores: usize,
}

impl Machine {
    pub(in crate::commands) fn this() -> Machine {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        // A board's name ends with a zero byte.
        let board = file("/sys/firmware/devicetree/base/model").trim_end_matches('\0').to_owned();
        let known = cpu_name(&file("/proc/cpuinfo")).or((!board.is_empty()).then_some(board));
        Machine {
            cpu: known.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The name in Linux' `/proc/cpuinfo`; with family and model where it has them, for marketing names span generations.
fn cpu_name(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    };
    let name = field("model name").or(field("Hardware"))?;
    Some(match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name.to_owned(),
    })
}

/// What this process holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Memory {
    /// In memory, mapped files included: those pages the system can take back at any time.
    pub(super) resident_bytes: u64,
    /// The part of it that is no file: what the process really costs.
    pub(super) anonymous_bytes: u64,
}

impl Memory {
    /// Now, where the system is Linux.
    pub(super) fn now() -> Option<Memory> {
        memory(&fs::read_to_string("/proc/self/status").ok()?)
    }
}

/// From Linux' `/proc/self/status`, which counts in KiB.
fn memory(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
    };
    Some(Memory { resident_bytes: field("VmRSS")?, anonymous_bytes: field("RssAnon")? })
}

/// The energy counters of the processor packages, as Linux' powercap shows them.
/// Source: `Documentation/power/powercap/powercap.rst`.
pub(super) struct Energy {
    packages: Vec<PathBuf>,
}

impl Energy {
    /// Those that can be read; usually none without the rights of an administrator.
    pub(super) fn of_this_machine() -> Energy {
        Energy::in_folder(Path::new("/sys/class/powercap"))
    }

    fn in_folder(folder: &Path) -> Energy {
        let zones = fs::read_dir(folder).into_iter().flatten().flatten();
        let packages = zones.map(|zone| zone.path()).filter(|zone| {
            // `package-0` and so on; what else there is are their parts or counts them again.
            fs::read_to_string(zone.join("name")).is_ok_and(|name| name.starts_with("package"))
                && counter(zone, "energy_uj").is_some()
        });
        Energy { packages: packages.collect() }
    }

    /// Every package's counter in microjoules; `None` if there is none.
    pub(super) fn now(&self) -> Option<Vec<u64>> {
        let counters: Option<Vec<u64>> =
            self.packages.iter().map(|zone| counter(zone, "energy_uj")).collect();
        counters.filter(|counters| !counters.is_empty())
    }

    /// Joules that all packages took since. A counter that began anew is taken to have done so once.
    pub(super) fn since(&self, before: Option<&[u64]>) -> Option<f64> {
        let (before, now) = (before?, self.now()?);
        let packages = self.packages.iter().zip(before.iter().zip(now));
        let taken = packages.map(|(zone, (&before, now))| {
            let range = || counter(zone, "max_energy_range_uj");
            if now >= before { Some(now - before) } else { Some(range()?.checked_sub(before)? + now) }
        });
        Some(taken.sum::<Option<u64>>()? as f64 / 1e6)
    }
}

fn counter(zone: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(zone.join(name)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_with_its_generation() {
        let x86 =
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n";
        assert_eq!(cpu_name(x86).unwrap(), "AMD EPYC (family 25, model 17)");
        assert_eq!(cpu_name("processor\t: 0\n\nHardware\t: Kirin 9000\n").unwrap(), "Kirin 9000");
        assert_eq!(cpu_name("processor\t: 0\n"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status =
            "Name:\tpouch\nVmHWM:\t  900 kB\nVmRSS:\t     800 kB\nRssAnon:\t     300 kB\nRssFile:\t 500 kB\n";
        let expected = Memory { resident_bytes: 800 * 1024, anonymous_bytes: 300 * 1024 };
        assert_eq!(memory(status), Some(expected));
        assert_eq!(memory("VmRSS:\t1 kB\n"), None);
    }

    #[test]
    fn energy_is_that_of_the_packages_and_survives_a_counter_that_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let zone = |zone: &str, name: &str, energy: &str| {
            let zone = folder.path().join(zone);
            fs::create_dir_all(&zone).unwrap();
            fs::write(zone.join("name"), name).unwrap();
            fs::write(zone.join("energy_uj"), energy).unwrap();
            fs::write(zone.join("max_energy_range_uj"), "10000000\n").unwrap();
        };
        zone("intel-rapl:0", "package-0\n", "9000000\n");
        zone("intel-rapl:0:0", "core\n", "5\n");
        zone("intel-rapl:1", "package-1\n", "1000000\n");
        let energy = Energy::in_folder(folder.path());
        let before = energy.now();
        zone("intel-rapl:0", "package-0\n", "500000\n");
        zone("intel-rapl:0:0", "core\n", "900\n");
        zone("intel-rapl:1", "package-1\n", "3000000\n");
        assert_eq!(energy.since(before.as_deref()), Some(3.5));

        let none = Energy::in_folder(&folder.path().join("absent"));
        assert_eq!((none.now(), none.since(None)), (None, None));
    }
}
