//! The profiles that come with the program: complete, sane, and with a source for every figure.

use device::profile::{Basis, Class, catalogue, core_type};
use device::{Speeds, profile::System};

#[test]
fn every_file_of_the_folder_is_in_the_catalogue() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "cores")
        .collect();
    files.sort();
    assert_eq!(files, catalogue::names());
    assert!(files.len() >= 20);
}

#[test]
fn all_are_sane_and_say_where_their_figures_are_from() {
    let all = catalogue::all().unwrap();
    for (id, profile) in &all {
        let memory = &profile.memory;
        assert!(
            memory.free_gb.value < memory.total_gb.value && memory.limit_gb.value < memory.total_gb.value,
            "{id}"
        );
        assert!((5.0..120.0).contains(&memory.bandwidth_gb_s.as_ref().unwrap().value), "{id}");
        let mut figures = vec![&memory.total_gb, &memory.free_gb, &memory.limit_gb];
        figures.extend(&memory.bandwidth_gb_s);
        figures.extend(profile.cores.iter().filter_map(|cores| cores.ghz.as_ref()));
        figures.extend(profile.storage.iter().map(|storage| &storage.read_gb_s));
        figures.extend(&profile.battery_wh);
        for figure in figures {
            assert!(figure.value > 0.0, "{id}");
            match &figure.basis {
                Basis::Source(text) | Basis::Estimated(text) => assert!(text.len() > 8, "{id}: {text}"),
                Basis::Measured(_) => panic!("{id}: nobody measured it here"),
            }
        }
        for cores in &profile.cores {
            assert!(core_type(&cores.name).is_some(), "{id}: {}", cores.name);
        }
        assert!((2..=16).contains(&profile.core_count()), "{id}");
        assert_eq!(profile.battery_wh.is_some(), profile.class != Class::Board, "{id}");
    }
    let has = |class| all.iter().any(|(_, profile)| profile.class == class);
    assert!([Class::Flagship, Class::Middle, Class::Low, Class::Board].into_iter().all(has));
    let systems = |system| all.iter().any(|(_, profile)| profile.system == system);
    assert!([System::Android, System::HarmonyOS, System::Ios, System::Linux].into_iter().all(systems));
}

#[test]
fn more_threads_read_no_less_and_never_more_than_the_memory_gives() {
    for (id, profile) in catalogue::all().unwrap() {
        let bandwidth = profile.memory.bandwidth_gb_s.as_ref().unwrap().value * 1e9;
        let speeds: Vec<Speeds> = Speeds::choices(&profile)
            .into_iter()
            .map(|threads| Speeds::of(&profile, threads).unwrap())
            .collect();
        assert!(speeds.windows(2).all(|pair| pair[0].read <= pair[1].read), "{id}");
        assert!(speeds.last().unwrap().read < bandwidth, "{id}");
        assert!(
            Speeds::of(&profile, speeds.len() + 1).is_none() && Speeds::of(&profile, 0).is_none(),
            "{id}"
        );
    }
}

#[test]
fn names_that_are_unknown_are_answered_with_those_that_are() {
    let error = catalogue::find("pixel").unwrap_err().to_string();
    assert!(error.contains("`pixel`") && error.contains("pixel-9"), "{error}");
    assert_eq!(catalogue::find("Pixel-9").unwrap().name, "Google Pixel 9");
}

#[test]
fn a_text_that_is_no_profile_is_told_with_its_name() {
    for text in ["", "name = 1", "name = \"x\"\nchip = \"y\""] {
        let error = device::Profile::parse("mine.toml", text).unwrap_err().to_string();
        assert!(error.starts_with("mine.toml is no profile"), "{error}");
    }
    let pixel = catalogue::find("pixel-9").unwrap();
    for (from, to) in
        [("Cortex-X4", "Cortex-Y4"), ("bandwidth_gb_s", "bandwidth"), ("count = 1", "count = 0\n#")]
    {
        let text = pixel.to_text().unwrap();
        assert!(text.contains(from), "{text}");
        let changed = text.replace(from, to);
        // One core less is a phone too.
        assert_eq!(device::Profile::parse("mine.toml", &changed).is_err(), from != "count = 1", "{changed}");
    }
}
