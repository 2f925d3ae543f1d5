//! ARCHITECTURE.md is the map: its table of crates and arrows must be what the manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The words in backquotes of a piece of Markdown.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// `| crate | what | uses |` lines.
fn drawn() -> Arrows {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let table = map.split("\n## ").find(|section| section.starts_with("Crates and allowed arrows"));
    table
        .expect("the section of the arrows")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            (quoted(cells[0]).next().expect("a crate's name"), quoted(cells[2]).collect())
        })
        .collect()
}

/// Dependencies among the workspace's crates, those of tests left out.
fn built() -> Arrows {
    let folders = fs::read_dir(root().join("crates")).expect("crates/");
    let manifests: BTreeMap<String, String> = folders
        .map(|entry| entry.expect("a folder").path())
        .filter(|folder| folder.join("Cargo.toml").exists())
        .map(|folder| {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest"))
        })
        .collect();
    let used = |manifest: &str| {
        let sections = manifest.split("\n[").filter(|section| section.starts_with("dependencies]"));
        let names = sections.flat_map(|section| section.lines().skip(1)).filter_map(|line| {
            line.split(['.', ' ', '=']).next().filter(|name| manifests.contains_key(*name)).map(str::to_owned)
        });
        names.collect()
    };
    manifests.iter().map(|(name, manifest)| (name.clone(), used(manifest))).collect()
}

#[test]
fn the_map_shows_every_crate_and_every_arrow() {
    assert_eq!(drawn(), built(), "left: ARCHITECTURE.md, right: the manifests");
}

#[test]
fn arrows_point_downward() {
    let arrows = built();
    fn depth(arrows: &Arrows, name: &str, path: &mut Vec<String>) -> usize {
        assert!(!path.iter().any(|seen| seen == name), "a circle: {path:?} -> {name}");
        path.push(name.to_owned());
        let deepest = arrows[name].iter().map(|used| depth(arrows, used, path) + 1).max().unwrap_or(0);
        path.pop();
        deepest
    }
    for name in arrows.keys() {
        depth(&arrows, name, &mut Vec::new());
    }
}

#[test]
fn every_path_of_the_recipes_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let recipes = map.split("\n## Recipes").nth(1).expect("the recipes");
    for path in quoted(recipes).filter(|path| path.contains('/')) {
        let known = path.split("x.rs").next().expect("a path");
        let in_crate = |crate_name: &str| root().join("crates").join(crate_name).join(known).exists();
        let found =
            root().join("crates").join(known).exists() || in_crate("kernels/src") || in_crate("pouch/src");
        assert!(found, "{path} is not there");
    }
}
