//! The folder of a quickstart: replaced if a quickstart wrote it and nobody touched it since,
//! left alone in any other case.
//!
//! A hidden file keeps the hash of the connector file. Someone who has edited that file may have
//! pointed it at their own broker and filled the table from there, so it is theirs now.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use connector_api::{Error, Result};
use sha2::{Digest, Sha256};

const MARKER: &str = ".alluvium-quickstart";
const CONNECTOR: &str = "clicks.yaml";
const TABLE: &str = "clicks";
const DEAD_LETTERS: &str = "clicks_dead_letters";

/// A folder that may be filled.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Looks whether the folder may be filled. Changes nothing.
    pub(super) fn check(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned() };
        match folder.foreign()? {
            None => Ok(folder),
            Some(why) => Err(Error::user(format!(
                "`{}` {why}; choose another folder with --dir, or remove it if you do not need it",
                path.display()
            ))),
        }
    }

    /// Why the folder is not ours to replace; `None` if it is, or is empty, or is not there.
    fn foreign(&self) -> Result<Option<String>> {
        let unreadable = |e| {
            Error::user(format!("`{}` cannot be used as a folder", self.path.display()))
                .with_source(e)
        };
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let ours = |name: &OsStr| {
            [MARKER, CONNECTOR, TABLE, DEAD_LETTERS].iter().any(|known| name == *known)
        };
        if let Some(other) = entries.iter().find(|entry| !ours(&entry.file_name())) {
            let name = other.file_name();
            return Ok(Some(format!(
                "holds `{}`, which no quickstart wrote",
                name.to_string_lossy()
            )));
        }
        let Some(hash) = self.read(MARKER)? else {
            return Ok(Some("was not made by a quickstart".to_owned()));
        };
        match self.read(CONNECTOR)? {
            Some(yaml) if hash_of(&yaml) != hash.trim() => Ok(Some(format!(
                "holds a `{CONNECTOR}` that was changed since a quickstart wrote it"
            ))),
            _ => Ok(None),
        }
    }

    /// Removes what an earlier quickstart left and writes the connector file.
    pub(super) fn replace(&self, yaml: &str) -> Result<()> {
        let unwritable =
            |e| Error::user(format!("`{}` cannot be written", self.path.display())).with_source(e);
        let gone = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        gone(fs::remove_dir_all(self.table())).map_err(unwritable)?;
        gone(fs::remove_dir_all(self.path.join(DEAD_LETTERS))).map_err(unwritable)?;
        gone(fs::remove_file(self.connector())).map_err(unwritable)?;
        fs::create_dir_all(&self.path).map_err(unwritable)?;
        // The marker first: a run that is killed in between leaves a folder that is still ours.
        fs::write(self.path.join(MARKER), hash_of(yaml)).map_err(unwritable)?;
        fs::write(self.connector(), yaml).map_err(unwritable)
    }

    /// The connector file.
    pub(super) fn connector(&self) -> PathBuf {
        self.path.join(CONNECTOR)
    }

    /// The table's folder.
    pub(super) fn table(&self) -> PathBuf {
        self.path.join(TABLE)
    }

    /// The table's folder from the root, so that the connector file works from everywhere.
    pub(super) fn table_location(&self) -> Result<String> {
        let table = std::path::absolute(self.table()).map_err(|e| {
            Error::user(format!("`{}` is no path", self.path.display())).with_source(e)
        })?;
        let text = table.into_os_string().into_string();
        text.map_err(|path| {
            Error::user(format!("`{}` is not UTF-8; choose another --dir", path.display()))
        })
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        match fs::read_to_string(self.path.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Error::user(format!("`{}` cannot be read", self.path.join(name).display()))
                    .with_source(error))
            }
        }
    }
}

fn hash_of(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(path: &Path, part: &str) {
        let error = Folder::check(path).expect_err("this folder is not ours");
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.to_string().contains("--dir"), "{error}");
    }

    #[test]
    fn a_folder_of_an_earlier_quickstart_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new");
        for yaml in ["a: 1", "a: 2"] {
            let folder = Folder::check(&path).unwrap();
            folder.replace(yaml).unwrap();
            assert!(!folder.table().try_exists().unwrap());
            fs::create_dir_all(folder.table().join("_delta_log")).unwrap();
            assert_eq!(fs::read_to_string(folder.connector()).unwrap(), yaml);
        }
    }

    #[test]
    fn a_folder_with_a_stranger_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "").unwrap();
        check_refused(root.path(), "`thesis.txt`");
        assert!(root.path().join("thesis.txt").try_exists().unwrap());
    }

    #[test]
    fn a_table_that_only_looks_like_ours_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("clicks")).unwrap();
        check_refused(root.path(), "was not made by a quickstart");
    }

    #[test]
    fn a_connector_file_that_was_edited_makes_the_folder_the_users() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::check(root.path()).unwrap();
        folder.replace("bootstrap_servers: 127.0.0.1:1").unwrap();
        fs::write(folder.connector(), "bootstrap_servers: kafka:9092").unwrap();
        check_refused(root.path(), "was changed");
    }

    #[test]
    fn a_file_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let error = Folder::check(&root.path().join("file")).unwrap_err();
        assert!(error.to_string().contains("cannot be used as a folder"), "{error}");
    }
}
