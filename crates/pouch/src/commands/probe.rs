//! `pouch probe`: what this device has and does, as a profile.

use std::path::{Path, PathBuf};

use device::Profile;
use device::probe::{self, PROBED_FORMATS, StorageRates, Surroundings};
use serde::Serialize;

use crate::errors::Failure;
use crate::printer::{Printer, Unit};
use crate::{models, units};

/// Measure this device: cores, memory, storage, limits; the profile serves `plan` and `pack`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Write the profile to this file
    #[arg(short, long, value_name = "PROFILE")]
    output: Option<PathBuf>,

    /// Numbers of threads to measure [default: 1, 2, 4 and so on, up to the cores this process may use]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,

    /// Leave storage unmeasured; else a file of 256 MiB is written and removed
    #[arg(long)]
    no_storage: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
It takes less than a minute. Let the device be idle and cool, and plugged in or not as it will be used.

Examples:
  pouch probe
  pouch probe -o my-phone.toml
  pouch plan qwen3-4b --phone my-phone.toml";

#[derive(Serialize)]
struct Output<'a> {
    profile: &'a Profile,
    now: &'a Surroundings,
    storage: &'a Option<StorageRates>,
}

/// What profiles call this program.
pub(super) fn by() -> String {
    let date = text::format_time(std::time::SystemTime::now(), "%F");
    format!("pouch {} on {date}", env!("CARGO_PKG_VERSION"))
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let folder = models::hub()?.settings().cache.clone();
    let formats =
        PROBED_FORMATS.iter().filter_map(|name| kernels::FORMATS.iter().find(|format| format.name == *name));
    let options = probe::Options {
        root: Path::new("/"),
        folder: (!arguments.no_storage).then_some(folder.as_path()),
        threads: arguments.teams(),
        formats: formats.collect(),
        by: by(),
    };
    let bar = printer.bar("measuring", Some(1), Unit::Count);
    let measured = probe::measure(&options, &|done, steps| {
        bar.set_length(steps as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let (profile, now, storage) = measured?;
    if let Some(path) = &arguments.output {
        std::fs::write(path, profile.to_text()?).map_err(|source| Failure::io("write", path, source))?;
    }
    if arguments.json {
        return printer.json(&Output { profile: &profile, now: &now, storage: &storage });
    }
    print(&profile, &now, storage.as_ref(), printer)?;
    arguments.output.iter().for_each(|path| printer.note(&format!("profile at {}", path.display())));
    Ok(())
}

impl Arguments {
    fn teams(&self) -> Vec<usize> {
        let mut teams: Vec<usize> = self.threads.iter().copied().map(usize::from).collect();
        if teams.is_empty() {
            let most = std::thread::available_parallelism().map_or(1, usize::from);
            teams.extend(
                std::iter::successors(Some(1), |threads| Some(threads * 2))
                    .take_while(|&threads| threads < most),
            );
            teams.push(device::default_threads());
            teams.push(most);
        }
        teams.sort_unstable();
        teams.dedup();
        teams
    }
}

fn print(
    profile: &Profile,
    now: &Surroundings,
    storage: Option<&StorageRates>,
    printer: &Printer,
) -> Result<(), Failure> {
    printer.line(&format!("{}, {}", profile.name, profile.system.name()))?;
    for cores in &profile.cores {
        let ghz = cores.ghz.as_ref().map_or_else(String::new, |ghz| format!(", {:.2} GHz", ghz.value));
        let capacity = cores.capacity.map_or_else(String::new, |capacity| format!(", capacity {capacity}"));
        printer.line(&format!("  {} x {}{ghz}{capacity}", cores.count, cores.name))?;
    }
    printer.heading("Memory")?;
    printer.line(&format!(
        "  {:.2} GB, {:.2} GB free for a program by {}",
        profile.memory.total_gb.value,
        profile.memory.free_gb.value,
        profile.memory.free_gb.basis.text()
    ))?;
    for limit in &now.limits {
        printer.line(&format!(
            "  {} {}: {} of {} taken",
            limit.kind,
            limit.path.display(),
            units::bytes(limit.used_bytes),
            units::bytes(limit.limit_bytes)
        ))?;
    }
    if let Some(pressure) = now.pressure {
        printer
            .line(&format!("  programs waited for memory {:.1} % of the last minute", pressure.some_60))?;
    }
    for battery in &now.batteries {
        let percent = battery.percent.map_or_else(String::new, |percent| format!(" {percent:.0} %"));
        let status = battery.status.as_deref().unwrap_or_default();
        printer.line(&format!("  battery {}{percent} {status}", battery.name))?;
    }
    if let Some(hottest) = now.zones.iter().max_by(|a, b| a.celsius.total_cmp(&b.celsius)) {
        printer.line(&format!(
            "  hottest of {} zones: {} at {:.0} C",
            now.zones.len(),
            hottest.name,
            hottest.celsius
        ))?;
    }
    if let Some(measured) = &profile.measured {
        let clock = measured.clock_ghz.map_or_else(String::new, |clock| format!(", {clock:.2} GHz"));
        printer.heading(&format!("Speed with {}{clock}", measured.isa))?;
        let mut rows = vec![["  threads", "reads", "8 bits", "floats", "phase"].map(str::to_owned).to_vec()];
        rows.extend(measured.teams.iter().map(|team| {
            vec![
                format!("  {}", team.threads),
                format!("{:.1} GB/s", team.read_gb_s),
                format!("{:.0} GMAC/s", team.int8_gmac_s),
                format!("{:.0} GMAC/s", team.float_gmac_s),
                format!("{:.1} us", team.phase_us),
            ]
        }));
        units::table(&rows, &[1, 2, 3, 4]).iter().try_for_each(|line| printer.line(line))?;
        if let Some(team) = measured.teams.last() {
            printer.heading(&format!("Products with {} threads", team.threads))?;
            let mut rows = vec![["  format", "one token", "many tokens"].map(str::to_owned).to_vec()];
            rows.extend(team.products.iter().map(|product| {
                vec![
                    format!("  {}", product.format),
                    format!("{:.1} GB/s", product.one_token_gb_s),
                    format!("{:.0} GMAC/s", product.many_gmac_s),
                ]
            }));
            units::table(&rows, &[1, 2]).iter().try_for_each(|line| printer.line(line))?;
        }
    }
    if let Some(storage) = storage {
        printer.heading(if storage.direct {
            "Storage, read directly"
        } else {
            "Storage, read through the page cache"
        })?;
        let mut rows = vec![["  block", "in a row", "scattered"].map(str::to_owned).to_vec()];
        rows.extend(storage.blocks.iter().map(|block| {
            vec![
                format!("  {} KiB", block.kib),
                format!("{:.2} GB/s", block.in_a_row_gb_s),
                format!("{:.2} GB/s", block.scattered_gb_s),
            ]
        }));
        units::table(&rows, &[0, 1, 2]).iter().try_for_each(|line| printer.line(line))?;
    }
    Ok(())
}
