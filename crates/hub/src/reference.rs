//! How a model is asked for: the text a user types, taken apart.

use std::fmt;
use std::path::PathBuf;

use crate::source::{Source, part_files};
use crate::{Error, Model, catalogue};

/// What a model reference stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A line of the catalogue.
    Catalogue(&'static Model),
    /// One place on the network.
    Remote(Source),
    /// A file of the user's own.
    Path(PathBuf),
}

impl Reference {
    /// Takes a reference apart. A catalogue name wins over a file of the same name in the current folder (write `./name`
    /// for that); a text is taken for a path when it has a separator, ends in `.gguf`, or exists.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with near names, or [`Error::BadReference`] with the form that was expected.
    pub fn parse(text: &str) -> Result<Reference, Error> {
        if let Some(model) = catalogue::named(text) {
            return Ok(Reference::Catalogue(model));
        }
        if ["hf:", "ms:", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Source::parse(text).map(Reference::Remote);
        }
        let path = PathBuf::from(text);
        let looks_like_path =
            text.contains(std::path::is_separator) || text.to_lowercase().ends_with(".gguf") || path.exists();
        if looks_like_path && !text.is_empty() {
            return Ok(Reference::Path(path));
        }
        Err(Error::UnknownName { name: text.to_owned(), suggestions: catalogue::near(text) })
    }

    /// The catalogue line, if it is one.
    pub fn model(&self) -> Option<&'static Model> {
        match self {
            Reference::Catalogue(model) => Some(model),
            _ => None,
        }
    }

    /// The files it consists of, relative to its folder in the cache, first part first. Empty for a path.
    pub(crate) fn files(&self) -> Vec<String> {
        match self {
            Reference::Catalogue(model) => {
                let file = Source::parse(model.sources[0])
                    .map(|source| source.file().to_owned())
                    .unwrap_or_default();
                vec![file.rsplit('/').next().unwrap_or_default().to_owned()]
            }
            Reference::Remote(source) => part_files(source.file()),
            Reference::Path(_) => Vec::new(),
        }
    }

    /// Where that file of it can be had, in the order to try.
    pub(crate) fn sources(&self, file: &str) -> Vec<Source> {
        match self {
            Reference::Catalogue(model) => {
                model.sources.iter().filter_map(|text| Source::parse(text).ok()).collect()
            }
            Reference::Remote(source) => vec![source.with_file(file)],
            Reference::Path(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Reference {
    /// The reference as one would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Catalogue(model) => f.write_str(model.name),
            Reference::Remote(source) => write!(f, "{}", source.reference()),
            Reference::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_addresses_are_told_apart() {
        let name = |text| Reference::parse(text).unwrap().model().map(|model| model.name);
        assert_eq!(name("SmolLM2-135M"), Some("smollm2-135m"));
        assert_eq!(name("smollm2"), Some("smollm2-135m"));
        assert_eq!(Reference::parse("./smollm2").unwrap(), Reference::Path("./smollm2".into()));
        assert_eq!(Reference::parse("model.gguf").unwrap(), Reference::Path("model.gguf".into()));
        assert!(matches!(Reference::parse("hf:a/b/c.gguf").unwrap(), Reference::Remote(_)));
        assert!(matches!(Reference::parse("https://h/x.gguf").unwrap(), Reference::Remote(_)));
        // A package may run its own code when fetched, so packages come from the catalogue alone.
        assert!(matches!(Reference::parse("pip:x==1"), Err(Error::UnknownName { .. })));
        assert!(matches!(Reference::parse(""), Err(Error::UnknownName { .. })));
    }

    #[test]
    fn an_unknown_name_says_what_is_near() {
        let error = Reference::parse("smolm2-135m").unwrap_err().to_string();
        assert_eq!(error, "there is no model called `smolm2-135m`; did you mean `smollm2-135m`?");
    }
}
