//! What the system tells of the machine and of this process: the processor's name, memory in use, time and energy taken.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The processor that figures are from.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its name, as far as the system tells one.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The board's name, where it has one.
    #[serde(skip)]
    pub name: Option<String>,
}

impl Machine {
    /// The one that this runs on.
    pub fn this() -> Machine {
        Machine::at(Path::new("/"))
    }

    /// The one whose system lies below `root`.
    pub(crate) fn at(root: &Path) -> Machine {
        let file = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
        // A board's name ends with a zero byte.
        let board = file("sys/firmware/devicetree/base/model").trim_end_matches('\0').to_owned();
        let name = (!board.is_empty()).then_some(board);
        let known = cpu_name(&file("proc/cpuinfo")).or(name.clone());
        Machine {
            cpu: known.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            name,
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
pub struct Memory {
    /// In memory, mapped files included: those pages the system can take back at any time.
    pub resident_bytes: u64,
    /// The part of it that is no file: what the process really costs.
    pub anonymous_bytes: u64,
}

impl Memory {
    /// Now; `None` where the system is not Linux.
    pub fn now() -> Option<Memory> {
        memory(&fs::read_to_string("/proc/self/status").ok()?)
    }

    /// The most that this process has held, mapped files included; `None` where the system is not Linux.
    pub fn peak_bytes() -> Option<u64> {
        bytes_of(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
    }
}

fn memory(status: &str) -> Option<Memory> {
    Some(Memory { resident_bytes: bytes_of(status, "VmRSS")?, anonymous_bytes: bytes_of(status, "RssAnon")? })
}

/// A field of Linux' `/proc/self/status` or `/proc/meminfo`, which count in KiB.
pub(crate) fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
}

/// What the processors did so far, in clock ticks of all of them together.
/// Source: Linux, `proc_stat(5)` and `proc_pid_stat(5)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessorTime {
    /// Anything at all, what the host took from a virtual machine included.
    pub busy: f64,
    /// Work of this process' children that have ended.
    pub children: f64,
    /// Ticks that passed.
    pub all: f64,
}

impl ProcessorTime {
    /// Now; `None` where the system is not Linux.
    pub fn now() -> Option<ProcessorTime> {
        let read = |path: &str| fs::read_to_string(path).ok();
        processor_time(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// Of the time since `before`, the share that went to anything but this process' children.
    pub fn others_since(&self, before: &ProcessorTime) -> f64 {
        let others = self.busy - before.busy - (self.children - before.children);
        others.max(0.0) / (self.all - before.all).max(1.0)
    }
}

fn processor_time(stat: &str, own: &str) -> Option<ProcessorTime> {
    let ticks = stat.lines().next()?.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    let ticks: Vec<f64> = ticks.collect();
    let [user, nice, system, idle, waiting, rest @ ..] = &ticks[..] else { return None };
    let busy = user + nice + system + rest.iter().take(3).sum::<f64>();
    // Behind the program's name, which may hold anything, come 13 fields up to the children's time.
    let fields: Vec<&str> = own.rsplit(')').next()?.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(ProcessorTime { busy, children: field(13)? + field(14)?, all: busy + idle + waiting })
}

/// The energy counters of the processor packages, as Linux' powercap shows them.
/// Source: `Documentation/power/powercap/powercap.rst`.
pub struct Energy {
    packages: Vec<PathBuf>,
}

impl Energy {
    /// Those that can be read; usually none without the rights of an administrator.
    pub fn of_this_machine() -> Energy {
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
    pub fn now(&self) -> Option<Vec<u64>> {
        let counters: Option<Vec<u64>> =
            self.packages.iter().map(|zone| counter(zone, "energy_uj")).collect();
        counters.filter(|counters| !counters.is_empty())
    }

    /// Joules that all packages took since. A counter that began anew is taken to have done so once.
    pub fn since(&self, before: Option<&[u64]>) -> Option<f64> {
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
        assert_eq!(bytes_of(status, "VmHWM"), Some(900 * 1024));
    }

    #[test]
    fn what_others_took_is_what_was_neither_idle_nor_the_childrens() {
        let own = |children: u32| {
            format!("7 (a b) c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 {children} 10 20 0 1 0 99 1000 2 3\n")
        };
        let before = processor_time("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1\n", &own(200)).unwrap();
        assert_eq!(before, ProcessorTime { busy: 150.0, children: 210.0, all: 1000.0 });
        // 60 ticks of work, of them 40 of children, and 5 that the host took.
        let after = processor_time("cpu  150 0 60 835 50 0 0 5 0 0\n", &own(240)).unwrap();
        assert_eq!(after.others_since(&before), 0.25);
        assert_eq!(processor_time("", &own(0)), None);
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
