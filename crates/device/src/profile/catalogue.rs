//! The profiles that come with the program: one file a device in `profiles/`, one line each here.

use super::Profile;
use crate::Error;

/// Each file by its name without the ending.
macro_rules! catalogue {
    ($($id:literal),* $(,)?) => {
        /// The names of all profiles and their text.
        const FILES: &[(&str, &str)] = &[$(($id, include_str!(concat!("../../profiles/", $id, ".toml")))),*];
    };
}

catalogue![
    "galaxy-a15-5g",
    "galaxy-s22",
    "galaxy-s23-ultra",
    "galaxy-s24-ultra",
    "galaxy-s25-ultra",
    "iphone-13",
    "iphone-15",
    "iphone-15-pro",
    "iphone-16-pro",
    "mate-40-pro",
    "mate-60-pro",
    "oneplus-12",
    "oneplus-13",
    "orange-pi-5",
    "pixel-6a",
    "pixel-7",
    "pixel-8-pro",
    "pixel-9",
    "poco-f5",
    "poco-x6-pro",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "redmi-12c",
    "redmi-note-12",
    "redmi-note-13-pro-plus",
    "vivo-x100-pro",
    "vivo-x200-pro",
    "xiaomi-14",
];

/// The names of all profiles.
pub fn names() -> Vec<&'static str> {
    FILES.iter().map(|(name, _)| *name).collect()
}

/// The profile of that name.
///
/// # Errors
/// [`Error::UnknownProfile`] with all names.
pub fn find(name: &str) -> Result<Profile, Error> {
    let unknown = || Error::UnknownProfile { name: name.to_owned(), known: names() };
    let (id, text) = FILES.iter().find(|(id, _)| id.eq_ignore_ascii_case(name)).ok_or_else(unknown)?;
    Profile::parse(id, text)
}

/// All profiles by name.
///
/// # Errors
/// [`Error::BadProfile`]; a test reads them all.
pub fn all() -> Result<Vec<(&'static str, Profile)>, Error> {
    FILES.iter().map(|(id, text)| Ok((*id, Profile::parse(id, text)?))).collect()
}
