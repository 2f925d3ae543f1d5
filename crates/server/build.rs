//! Lists the files of the page for the program to carry, each with its kind and its hash.

use std::env;
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// What the page is made of: endings and media types. Other files, such as its tests, are not served.
const KINDS: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("ico", "image/vnd.microsoft.icon"),
    ("woff2", "font/woff2"),
    ("txt", "text/plain; charset=utf-8"),
];

/// Folders below `page/` that are no part of it.
const LEFT_OUT: &[&str] = &["test", "tests", "node_modules"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("page");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut table = "static ASSETS: &[Asset] = &[\n".to_owned();
    for file in &files {
        let ending = file.extension().unwrap_or_default();
        let Some((_, kind)) = KINDS.iter().find(|(known, _)| ending == *known) else { continue };
        let path = file.strip_prefix(&root).expect("it was found there").to_str().expect("a plain name");
        let mut hasher = DefaultHasher::new();
        fs::read(file).expect("a readable file").hash(&mut hasher);
        let path = path.replace('\\', "/");
        writeln!(
            table,
            "    Asset {{ path: {path:?}, kind: {kind:?}, bytes: include_bytes!({file:?}), tag: {:?} }},",
            format!("\"{:016x}\"", hasher.finish())
        )
        .expect("a string takes all");
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("assets.rs");
    fs::write(out, table).expect("the output folder");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the page's folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.is_dir() {
            true if LEFT_OUT.contains(&name.as_str()) => {}
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}
