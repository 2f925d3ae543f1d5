//! Conversations as files of a folder, and what their list shows.
//!
//! Other programs may write the folder too. So the list looks at every file's name, time and length each time, and reads those alone
//! that are not as they were.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::files;

/// Conversations that are kept at most, and headings that are remembered.
pub(super) const MOST: usize = 10_000;

/// Bytes of a heading that is remembered. Longer ones, which no page makes, are read each time.
const LONGEST: usize = 1024;

/// A file's times are those of the system's clock, which ticks every few milliseconds: a file that was written just now may be written once
/// more and look the same. After this much its times tell.
const SETTLED: Duration = Duration::from_secs(1);

/// What the list shows of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Heading {
    #[serde(skip_deserializing)]
    pub(super) id: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) title: String,
    /// When its user last said or changed something, in seconds since 1970.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) updated: f64,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) model: Option<String>,
}

/// What a field says, or nothing where it says something else: a document is its writer's own affair.
fn lenient<'de, D: serde::Deserializer<'de>, T: serde::de::DeserializeOwned + Default>(
    field: D,
) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(field)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Why a conversation is not written.
#[derive(Debug)]
pub(super) enum Unkept {
    /// It is not what the writer has seen.
    Changed,
    /// There are as many as are kept.
    TooMany,
    Io(io::Error),
}

/// Which conversation a writer means to replace.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Over {
    /// Whatever is there.
    Any,
    /// None: the conversation is new.
    Nothing,
    /// One of these versions.
    One(Vec<String>),
}

/// The conversations of a folder.
#[derive(Debug)]
pub(crate) struct Conversations {
    folder: PathBuf,
    /// Held from looking at a file to replacing it.
    writing: Mutex<()>,
    headings: Mutex<HashMap<String, (Look, Heading)>>,
}

/// How a file looks from outside.
#[derive(Clone, Debug, PartialEq)]
struct Look {
    modified: SystemTime,
    length: u64,
    /// Replaced files are other files.
    number: u64,
}

impl Look {
    fn at(metadata: &Metadata) -> Option<Look> {
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let number = 0;
        Some(Look { modified: metadata.modified().ok()?, length: metadata.len(), number })
    }

    fn is_settled(&self) -> bool {
        self.modified.elapsed().is_ok_and(|elapsed| elapsed > SETTLED)
    }
}

/// What names the version of a conversation that these bytes are.
pub(super) fn version(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Conversations {
    pub(crate) fn new(folder: PathBuf) -> Conversations {
        Conversations { folder, writing: Mutex::default(), headings: Mutex::default() }
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// The bytes of a conversation. `id` is a sound name.
    pub(super) fn read(&self, id: &str) -> io::Result<Vec<u8>> {
        fs::read(self.file(id))
    }

    /// Keeps a conversation, over what the writer means to replace. `id` is a sound name.
    pub(super) fn write(&self, id: &str, bytes: &[u8], over: &Over) -> Result<(), Unkept> {
        let _writing = self.lock();
        let there = match self.read(id) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Unkept::Io(error)),
        };
        let is_meant = match (over, &there) {
            (Over::Any, _) | (Over::Nothing, None) => true,
            (Over::Nothing, Some(_)) | (Over::One(_), None) => false,
            (Over::One(versions), Some(bytes)) => versions.contains(&version(bytes)),
        };
        if !is_meant {
            return Err(Unkept::Changed);
        }
        if there.is_none() && fs::read_dir(&self.folder).is_ok_and(|entries| entries.count() >= MOST) {
            return Err(Unkept::TooMany);
        }
        files::write(&self.file(id), bytes).map_err(Unkept::Io)
    }

    /// Forgets a conversation. `id` is a sound name.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        let _writing = self.lock();
        fs::remove_file(self.file(id))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // It guards nothing in memory.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the list shows, the latest first. Files that are no conversations are left out.
    pub(super) fn headings(&self) -> Vec<Heading> {
        self.headings_with(|path| fs::read(path).ok())
    }

    /// The same, with another way to read files.
    fn headings_with(&self, mut read: impl FnMut(&Path) -> Option<Vec<u8>>) -> Vec<Heading> {
        let mut known = self.headings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        let mut headings = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
            let (Some(id), Ok(metadata)) = (name, entry.metadata()) else { continue };
            // Looked at before it is read: what is written in between is seen the next time.
            let look = Look::at(&metadata);
            let heading = match before.remove(id) {
                Some((old, heading)) if look.as_ref() == Some(&old) => heading,
                _ => {
                    let heading = read(&path).and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    let Some(heading) = heading else { continue };
                    Heading { id: id.to_owned(), ..heading }
                }
            };
            let bytes = id.len() + heading.title.len() + heading.model.as_ref().map_or(0, String::len);
            if let Some(look) =
                look.filter(|look| look.is_settled() && bytes <= LONGEST && known.len() < MOST)
            {
                known.insert(id.to_owned(), (look, heading.clone()));
            }
            headings.push(heading);
        }
        drop(known);
        headings.sort_by(|a, b| b.updated.total_cmp(&a.updated).then_with(|| a.id.cmp(&b.id)));
        headings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headings, and the names of the files that were read for them.
    fn looked(conversations: &Conversations) -> (Vec<String>, Vec<String>) {
        let mut files = Vec::new();
        let headings = conversations.headings_with(|path| {
            files.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            fs::read(path).ok()
        });
        files.sort();
        (headings.into_iter().map(|heading| heading.title).collect(), files)
    }

    fn age(path: &Path) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 10 * SETTLED).unwrap();
    }

    #[test]
    fn a_file_is_read_again_where_it_may_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let conversations = Conversations::new(folder.path().to_owned());
        let put = |id: &str, text: &str| fs::write(folder.path().join(id), text).unwrap();
        put("a.json", r#"{"title": "old", "updated": 1}"#);
        put("b.json", r#"{"title": "other", "updated": 2.5, "messages": [1, 2]}"#);
        put("c.json", "no conversation");
        put("d.txt", "{}");
        put("e.json", r#"{"title": 5, "updated": "x", "model": []}"#);
        let all = ["other", "old", ""].map(str::to_owned).to_vec();
        // What was written just now may be written again and look the same.
        for _ in 0..2 {
            assert_eq!(
                looked(&conversations),
                (all.clone(), ["a", "b", "c", "e"].map(str::to_owned).to_vec())
            );
        }
        for name in ["a.json", "b.json", "e.json"] {
            age(&folder.path().join(name));
        }
        looked(&conversations);
        assert_eq!(looked(&conversations), (all, vec!["c".to_owned()]));
        // Another process replaces one with as many bytes, and with the time of the one before.
        let times = fs::metadata(folder.path().join("a.json")).unwrap().modified().unwrap();
        put("x", r#"{"title": "new", "updated": 9}"#);
        fs::File::options().write(true).open(folder.path().join("x")).unwrap().set_modified(times).unwrap();
        fs::rename(folder.path().join("x"), folder.path().join("a.json")).unwrap();
        fs::remove_file(folder.path().join("b.json")).unwrap();
        let (titles, read) = looked(&conversations);
        assert_eq!(titles, ["new", ""]);
        assert_eq!(read, if cfg!(unix) { vec!["a", "c"] } else { vec!["c"] });
        assert_eq!(conversations.headings.lock().unwrap().len(), 2);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let conversations = Conversations::new(folder.path().to_owned());
        let path = folder.path().join("a.json");
        fs::write(&path, format!(r#"{{"title": "{}"}}"#, "x".repeat(LONGEST))).unwrap();
        age(&path);
        assert_eq!(conversations.headings()[0].title.len(), LONGEST);
        assert!(conversations.headings.lock().unwrap().is_empty());
    }

    #[test]
    fn a_writer_replaces_what_it_has_seen() {
        let folder = tempfile::tempdir().unwrap();
        let conversations = Conversations::new(folder.path().join("conversations"));
        let write = |bytes: &str, over: Over| conversations.write("a", bytes.as_bytes(), &over);
        let one = |bytes: &str| Over::One(vec!["0".to_owned(), version(bytes.as_bytes())]);
        assert!(matches!(write("1", one("1")), Err(Unkept::Changed)));
        write("1", Over::Nothing).unwrap();
        assert!(matches!(write("2", Over::Nothing), Err(Unkept::Changed)));
        assert!(matches!(write("2", one("0")), Err(Unkept::Changed)));
        write("2", one("1")).unwrap();
        write("3", Over::Any).unwrap();
        assert_eq!(conversations.read("a").unwrap(), b"3");
        // Of many that have seen the same, one replaces it.
        let over = one("3");
        let kept = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|at| {
                    let (conversations, over) = (&conversations, &over);
                    scope.spawn(move || conversations.write("a", &[b'a' + at], over).is_ok())
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).filter(|kept| *kept).count()
        });
        assert_eq!(kept, 1);
    }
}
