//! Which files are meant by the paths that a user names.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::errors::ConfigError;
use super::interpolate::io_reason;

/// Help where a path is of no use.
pub(super) const PATHS: &str = "name a connector's YAML file, or a folder that holds such files";

/// The files, each once; of a folder its `*.yaml` and `*.yml`, sorted by name.
pub(super) fn files(paths: &[PathBuf], errors: &mut Vec<ConfigError>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut known: Vec<PathBuf> = Vec::new();
    for path in paths {
        let found = match path.is_dir() {
            true => files_in(path).unwrap_or_else(|message| {
                errors.push(of_file(path, message, PATHS));
                Vec::new()
            }),
            false => vec![path.clone()],
        };
        for file in found {
            let canonical = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            if !known.contains(&canonical) {
                known.push(canonical);
                files.push(file);
            }
        }
    }
    files
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |e: io::Error| format!("cannot read the folder: {}", io_reason(&e));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let yaml = file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if yaml && !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err("there is no *.yaml or *.yml in this folder".to_owned()),
        false => Ok(files),
    }
}

/// A mistake in a file as a whole.
pub(super) fn of_file(file: &Path, message: impl Into<String>, help: &str) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        position: None,
        key: String::new(),
        message: message.into(),
        help: help.to_owned(),
    }
}
