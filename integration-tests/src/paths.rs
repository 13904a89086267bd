//! Where things lie.

use std::path::{Path, PathBuf};

/// This package's folder.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The ignored folder for everything that tests need or leave.
pub fn scratch() -> PathBuf {
    package().join("../target/integration-tests")
}

/// What `provision.sh` made.
pub fn cached(what: &str) -> PathBuf {
    let path = scratch().join("cache").join(what);
    assert!(
        path.try_exists().unwrap(),
        "{} is missing: run integration-tests/provision.sh, or the tests by integration-tests/test.sh",
        path.display()
    );
    path
}

/// The Python that has DuckDB and the store emulator.
pub fn python() -> PathBuf {
    cached("python/bin/python")
}

/// The binary under test: `ALLUVIUM_BIN`, or the one of this program's build.
pub fn alluvium() -> PathBuf {
    if let Some(binary) = std::env::var_os("ALLUVIUM_BIN") {
        return binary.into();
    }
    let program = std::env::current_exe().expect("a running program has a path");
    // Programs lie in the build's folder, tests in `deps` below it.
    let places = program.ancestors().skip(1).take(2).map(|folder| folder.join("alluvium"));
    let found = places.into_iter().find(|binary| binary.is_file());
    found.unwrap_or_else(|| {
        panic!("no `alluvium` beside {}: run integration-tests/test.sh", program.display())
    })
}
