//! Batteries and temperatures, as Linux and Android show them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A battery.
/// Source: Linux, `Documentation/ABI/testing/sysfs-class-power`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Battery {
    /// Its name in the system.
    pub name: String,
    /// Percent of its charge.
    pub percent: Option<f64>,
    /// `Charging`, `Discharging`, `Full`, ...
    pub status: Option<String>,
    /// What it holds when full, as designed, in watt hours.
    pub full_wh: Option<f64>,
    /// Degrees Celsius.
    pub celsius: Option<f64>,
}

/// A temperature of the device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Zone {
    /// What the system calls the place.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: f64,
}

/// All batteries.
pub fn batteries(root: &Path) -> Vec<Battery> {
    let of_folder = |folder: PathBuf| {
        let text = |name: &str| Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
        let number = |name: &str| text(name)?.parse::<f64>().ok();
        if text("type")? != "Battery" {
            return None;
        }
        // Millionths of watt hours, or of ampere hours and volts.
        let energy = || ["energy_full_design", "energy_full"].into_iter().find_map(number);
        let charge = || {
            let charge = ["charge_full_design", "charge_full"].into_iter().find_map(number)?;
            let volts = ["voltage_min_design", "voltage_now"].into_iter().find_map(number)?;
            Some(charge * volts / 1e6)
        };
        Some(Battery {
            name: folder.file_name()?.to_string_lossy().into_owned(),
            percent: number("capacity"),
            status: text("status"),
            full_wh: energy().or_else(charge).map(|wh| wh / 1e6),
            celsius: number("temp").map(|tenths| tenths / 10.0),
        })
    };
    folders(&root.join("sys/class/power_supply")).into_iter().filter_map(of_folder).collect()
}

/// All temperatures.
pub fn zones(root: &Path) -> Vec<Zone> {
    let of_folder = |folder: PathBuf| {
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let celsius = text("temp")?.trim().parse::<f64>().ok()? / 1000.0;
        Some(Zone { name: text("type")?.trim().to_owned(), celsius })
    };
    let named = |folder: &PathBuf| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("thermal_zone"))
    };
    folders(&root.join("sys/class/thermal")).into_iter().filter(named).filter_map(of_folder).collect()
}

/// What lies in a folder, by name.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::root;

    #[test]
    fn a_phones_battery_and_temperatures() {
        let root = root(&[
            ("sys/class/power_supply/battery/type", "Battery\n"),
            ("sys/class/power_supply/battery/capacity", "83\n"),
            ("sys/class/power_supply/battery/status", "Discharging\n"),
            ("sys/class/power_supply/battery/charge_full_design", "5000000\n"),
            ("sys/class/power_supply/battery/voltage_min_design", "3850000\n"),
            ("sys/class/power_supply/battery/temp", "312\n"),
            ("sys/class/power_supply/usb/type", "USB\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-1-0\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48500\n"),
            ("sys/class/thermal/cooling_device0/type", "cpufreq\n"),
        ]);
        let batteries = batteries(root.path());
        assert_eq!(batteries.len(), 1);
        assert_eq!((batteries[0].full_wh, batteries[0].percent), (Some(19.25), Some(83.0)));
        assert_eq!(batteries[0].celsius, Some(31.2));
        assert_eq!(zones(root.path()), [Zone { name: "cpu-1-0".to_owned(), celsius: 48.5 }]);
    }

    #[test]
    fn a_machine_without_any_has_none() {
        let root = root(&[]);
        assert!(batteries(root.path()).is_empty() && zones(root.path()).is_empty());
    }
}
