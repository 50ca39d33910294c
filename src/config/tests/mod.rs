//! The configuration layer from outside: files, variables and flags in, a configuration or messages out.

mod examples;
mod layering;
mod mistakes;
mod redaction;
mod surroundings;

use std::path::Path;

use super::*;

const NO_VARIABLES: [(&str, &str); 0] = [];

/// A folder with one file in it.
fn folder(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    folder
}

/// A loader that sees this folder and these variables, and nothing of the machine.
fn loader(folder: &Path, variables: &[(&str, &str)], flags: FlagOverrides) -> Loader {
    Loader::new(flags, variables.iter().copied(), folder).with_system_file("no-system-file.toml")
}

fn load(file: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = folder("tidings.toml", file);
    loader(folder.path(), variables, FlagOverrides::default()).load()
}

fn origin(loaded: &Loaded, key: &str) -> String {
    loaded.origin(&KeyPath::dotted(key)).to_string()
}
