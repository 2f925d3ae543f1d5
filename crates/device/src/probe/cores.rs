//! The cores, as Linux describes them below `/sys/devices/system/cpu` and in `/proc/cpuinfo`.

use std::fs;
use std::path::Path;

/// A core, once however many threads it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its first processor.
    pub cpu: usize,
    /// The designer's name, or the vendor's for all.
    pub name: String,
    /// The scheduler's rank: 1024 for the fastest core of the machine.
    pub capacity: Option<u32>,
    /// Highest clock in kHz.
    pub max_khz: Option<u32>,
}

impl Core {
    /// What cores are compared by.
    pub(crate) fn speed(&self) -> f64 {
        self.capacity.or(self.max_khz).map_or(1.0, f64::from)
    }
}

/// The cores that this process may run on, by number; none where the system does not tell its cores apart.
pub fn cores(root: &Path) -> Vec<Core> {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| numbers(line.strip_prefix("Cpus_allowed_list:")?));
    let cpuinfo = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    allowed.and_then(|allowed| of_allowed(root, &allowed, &cpuinfo)).unwrap_or_default()
}

fn of_allowed(root: &Path, allowed: &[usize], cpuinfo: &str) -> Option<Vec<Core>> {
    let folder = root.join("sys/devices/system/cpu");
    let about = |cpu: usize, what: &str| fs::read_to_string(folder.join(format!("cpu{cpu}")).join(what)).ok();
    let number = |cpu, what| about(cpu, what)?.trim().parse().ok();
    let mut cores = Vec::new();
    for &cpu in allowed {
        let siblings = numbers(&about(cpu, "topology/thread_siblings_list")?)?;
        // A core is taken at its first thread that may be used.
        if siblings.iter().find(|sibling| allowed.contains(sibling)) == Some(&cpu) {
            cores.push(Core {
                cpu,
                name: name(cpuinfo, cpu),
                capacity: number(cpu, "cpu_capacity"),
                max_khz: number(cpu, "cpufreq/cpuinfo_max_freq"),
            });
        }
    }
    Some(cores)
}

/// Bytes of the largest cache of the first processor.
pub fn last_cache(root: &Path) -> Option<u64> {
    let folder = root.join("sys/devices/system/cpu/cpu0/cache");
    let sizes = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
        let size = fs::read_to_string(entry.path().join("size")).ok()?;
        Some(size.trim().strip_suffix('K')?.parse::<u64>().ok()? * 1024)
    });
    sizes.max()
}

/// A list as the kernel writes it: `0-3,6`.
pub(crate) fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse().ok()?..=last.parse::<usize>().ok()?.min(1 << 16));
    }
    Some(numbers)
}

/// The part numbers of Arm's own cores and of some that others make.
/// Source: Linux, `arch/arm64/include/asm/cputype.h`; util-linux, `sys-utils/lscpu-arm.c`.
const PARTS: &[(u32, u32, &str)] = &[
    (0x41, 0xd03, "Cortex-A53"),
    (0x41, 0xd05, "Cortex-A55"),
    (0x41, 0xd08, "Cortex-A72"),
    (0x41, 0xd09, "Cortex-A73"),
    (0x41, 0xd0a, "Cortex-A75"),
    (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0d, "Cortex-A77"),
    (0x41, 0xd41, "Cortex-A78"),
    (0x41, 0xd44, "Cortex-X1"),
    (0x41, 0xd46, "Cortex-A510"),
    (0x41, 0xd47, "Cortex-A710"),
    (0x41, 0xd48, "Cortex-X2"),
    (0x41, 0xd4d, "Cortex-A715"),
    (0x41, 0xd4e, "Cortex-X3"),
    (0x41, 0xd80, "Cortex-A520"),
    (0x41, 0xd81, "Cortex-A720"),
    (0x41, 0xd82, "Cortex-X4"),
    (0x41, 0xd85, "Cortex-X925"),
    (0x41, 0xd87, "Cortex-A725"),
    (0x48, 0xd40, "TaiShan V76"),
    (0x51, 0x001, "Oryon"),
    (0x51, 0x804, "Cortex-A76"),
    (0x51, 0x805, "Cortex-A55"),
];

/// The name of the core that `cpu` is a thread of, from the block of `/proc/cpuinfo` that is about it.
fn name(cpuinfo: &str, cpu: usize) -> String {
    let block = cpuinfo.split("\n\n").find(|block| field(block, "processor") == Some(&cpu.to_string()));
    let block = block.unwrap_or_default();
    let hex = |key| u32::from_str_radix(field(block, key)?.strip_prefix("0x")?, 16).ok();
    let part = hex("CPU implementer").zip(hex("CPU part"));
    let known = |(implementer, part)| {
        PARTS.iter().find(|known| (known.0, known.1) == (implementer, part)).map(|known| known.2.to_owned())
    };
    let number = |(implementer, part)| format!("Arm core {implementer:#x}/{part:#x}");
    part.and_then(|part| known(part).or(Some(number(part))))
        .or_else(|| field(block, "model name").map(str::to_owned))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn field<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = block.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::root;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("7"), Some(vec![7]));
        assert_eq!(numbers("x"), None);
        assert_eq!(numbers(""), None);
    }

    #[test]
    fn arm_cores_have_their_names_and_capacities() {
        let root = root(&[
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\n\
                 processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd82\n\nHardware\t: x\n",
            ),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpu_capacity", "250\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
            ("sys/devices/system/cpu/cpu1/cpu_capacity", "1024\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "3300000\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n"),
            ("sys/devices/system/cpu/cpu0/cache/index3/size", "8192K\n"),
        ]);
        let cores = cores(root.path());
        assert_eq!(cores.len(), 2);
        assert_eq!((cores[0].name.as_str(), cores[0].capacity), ("Cortex-A55", Some(250)));
        assert_eq!((cores[1].name.as_str(), cores[1].max_khz), ("Cortex-X4", Some(3_300_000)));
        assert_eq!(last_cache(root.path()), Some(8 << 20));
    }

    #[test]
    fn a_system_that_says_nothing_has_no_cores_to_tell() {
        assert!(cores(root(&[]).path()).is_empty());
        assert_eq!(last_cache(root(&[]).path()), None);
    }
}
