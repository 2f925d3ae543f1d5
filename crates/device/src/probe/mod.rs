//! This device, looked at and measured. Everything that the system says is read below a root folder, so that tests can
//! write one by hand; on a device it is `/`.

mod attention;
mod battery;
pub mod cores;
mod limits;
mod speed;
mod storage;

use std::path::Path;

use kernels::Format;
use serde::Serialize;

use crate::machine::Machine;
use crate::profile::{Class, Cores, Figure, Measured, Memory, Profile, System};
pub use battery::{Battery, Zone, batteries, zones};
pub(crate) use limits::pressure_in;
pub use limits::{Limit, Meminfo, Pressure, limits, meminfo, pressure};
pub use speed::{PROBED_FORMATS, team};
pub use storage::{StorageRates, read_rates};

/// What the system says of the moment, beside what the profile keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Surroundings {
    /// Memory of the whole machine.
    pub meminfo: Option<Meminfo>,
    /// Limits on this process' memory, the tightest first.
    pub limits: Vec<Limit>,
    /// How long programs waited for memory lately.
    pub pressure: Option<Pressure>,
    /// Batteries.
    pub batteries: Vec<Battery>,
    /// Temperatures.
    pub zones: Vec<Zone>,
}

/// What the system below `root` says.
pub fn surroundings(root: &Path) -> Surroundings {
    Surroundings {
        meminfo: meminfo(root),
        limits: limits(root),
        pressure: pressure(root),
        batteries: batteries(root),
        zones: zones(root),
    }
}

impl Surroundings {
    /// Bytes that this process may still take, and by whose word.
    pub fn free_bytes(&self) -> Option<(u64, &'static str)> {
        let machine = self.meminfo.map(|meminfo| (meminfo.available_bytes, "MemAvailable"));
        let limits = self.limits.iter().map(|limit| (limit.free_bytes(), limit.kind));
        machine.into_iter().chain(limits).min_by_key(|(bytes, _)| *bytes)
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The system's root folder.
    pub root: &'a Path,
    /// Where models lie; `None` leaves storage unmeasured.
    pub folder: Option<&'a Path>,
    /// The numbers of threads, ascending.
    pub threads: Vec<usize>,
    /// The number formats whose products are timed.
    pub formats: Vec<&'static Format>,
    /// Stands for this program in the profile.
    pub by: String,
}

/// Measures this device; `progress` is told the steps done and the steps in all.
///
/// # Errors
/// [`crate::Error::Io`] where the storage cannot be measured.
pub fn measure(
    options: &Options<'_>,
    progress: &dyn Fn(usize, usize),
) -> Result<(Profile, Surroundings, Option<StorageRates>), crate::Error> {
    let steps = options.threads.len() * (options.formats.len() + 1) + usize::from(options.folder.is_some());
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(done, steps);
    };
    let by = options.by.as_str();
    let surroundings = surroundings(options.root);
    let rates = options.folder.map(read_rates).transpose()?;
    if rates.is_some() {
        step();
    }
    let teams = options.threads.iter().map(|&threads| team(threads, &options.formats, &mut step)).collect();
    let clock_ghz = kernels::probe::clock().map(|clock| clock / 1e9);
    let measured =
        Measured { by: by.to_owned(), isa: kernels::cpu::tier().name().to_owned(), clock_ghz, teams };
    let storage = rates.as_ref().map(|rates| rates.to_profile(by));
    let profile =
        Profile { storage, measured: Some(measured), ..description(options.root, &surroundings, by) };
    Ok((profile, surroundings, rates))
}

/// What the system says of the device, without anything measured.
fn description(root: &Path, surroundings: &Surroundings, by: &str) -> Profile {
    let machine = Machine::at(root);
    let is_android = root.join("system/build.prop").exists();
    let total = surroundings.meminfo.map_or(0, |meminfo| meminfo.total_bytes);
    let (free, word) = surroundings.free_bytes().unwrap_or((total, "nothing but the total"));
    let gb = |bytes: u64| (bytes as f64 / 1e6).round() / 1e3;
    let battery = surroundings.batteries.iter().find_map(|battery| battery.full_wh);
    Profile {
        name: machine.name.clone().unwrap_or_else(|| machine.cpu.clone()),
        chip: machine.cpu.clone(),
        system: if is_android { System::Android } else { System::Linux },
        class: match (is_android, machine.name.is_some()) {
            (true, _) => Class::Middle,
            (false, true) => Class::Board,
            (false, false) => Class::Computer,
        },
        year: None,
        memory: Memory {
            total_gb: Figure::measured(gb(total), "MemTotal"),
            free_gb: Figure::measured(gb(free), word),
            limit_gb: Figure::measured(gb(free), word),
            bandwidth_gb_s: None,
        },
        cores: kinds(root),
        cache_mb: cores::last_cache(root).map(|bytes| Figure::measured(bytes as f64 / 1e6, "sysfs")),
        storage: None,
        battery_wh: battery.map(|wh| Figure::measured(wh, by)),
        measured: None,
    }
}

/// The cores of each kind, fastest first.
fn kinds(root: &Path) -> Vec<Cores> {
    let mut kinds: Vec<Cores> = Vec::new();
    for core in cores::cores(root) {
        let ghz = core.max_khz.map(|khz| f64::from(khz) / 1e6);
        let same = |kind: &&mut Cores| {
            kind.name == core.name
                && kind.capacity == core.capacity
                && kind.ghz.as_ref().map(|figure| figure.value) == ghz
        };
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.count += 1,
            None => kinds.push(Cores {
                name: core.name,
                count: 1,
                ghz: ghz.map(|ghz| Figure::measured(ghz, "cpuinfo_max_freq")),
                capacity: core.capacity,
            }),
        }
    }
    let speed = |kind: &Cores| {
        kind.capacity.map(f64::from).or(kind.ghz.as_ref().map(|figure| figure.value)).unwrap_or(0.0)
    };
    kinds.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
    if kinds.is_empty() {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        kinds.push(Cores { name: std::env::consts::ARCH.to_owned(), count, ghz: None, capacity: None });
    }
    kinds
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A root folder with these files.
    pub(crate) fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_phone_described_by_its_files() {
        let cpu = |cpu: usize, file: &str| format!("sys/devices/system/cpu/cpu{cpu}/{file}");
        let mut files = vec![
            ("proc/self/status".to_owned(), "Cpus_allowed_list:\t0-3\n".to_owned()),
            ("proc/meminfo".to_owned(), "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n".to_owned()),
            ("system/build.prop".to_owned(), String::new()),
        ];
        for (number, capacity) in [250, 250, 250, 1024].into_iter().enumerate() {
            files.push((cpu(number, "topology/thread_siblings_list"), number.to_string()));
            files.push((cpu(number, "cpu_capacity"), capacity.to_string()));
        }
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let root = root(&files);
        let profile = description(root.path(), &surroundings(root.path()), "a test");
        assert_eq!(profile.system, System::Android);
        assert_eq!(profile.memory.free_gb.value, 4.096);
        let counts: Vec<usize> = profile.cores.iter().map(|cores| cores.count).collect();
        assert_eq!(counts, [1, 3]);
    }

    #[test]
    fn the_tightest_limit_decides() {
        let root = root(&[
            ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n"),
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "400000\n"),
        ]);
        assert_eq!(surroundings(root.path()).free_bytes(), Some((600_000, "cgroup v2")));
    }

    #[test]
    fn a_quick_look_at_this_machine_makes_a_profile_that_can_be_read_again() {
        let options = Options {
            root: Path::new("/"),
            folder: None,
            threads: vec![1],
            formats: vec![kernels::format(8).unwrap()],
            by: "a test".to_owned(),
        };
        let (profile, ..) = measure(&options, &|_, _| {}).unwrap();
        let team = &profile.measured.as_ref().unwrap().teams[0];
        assert!(team.read_gb_s > 0.0 && team.int8_gmac_s > 0.0 && team.float_gmac_s > 0.0);
        assert_eq!(team.products[0].format, "Q8_0");
        let again = Profile::parse("here", &profile.to_text().unwrap()).unwrap();
        assert_eq!(again.measured.unwrap().teams.len(), 1);
    }
}
