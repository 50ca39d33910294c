//! `tidings config`, on configurations of its own.

use std::path::Path;

use super::{super::config::ConfigCommand, *};
use crate::config::{FlagOverrides, Loader};

/// A folder with this configuration, or with none.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    if !text.is_empty() {
        std::fs::write(folder.path().join("tidings.toml"), text).unwrap();
    }
    folder
}

/// The status, the output and the error of a command that sees only this folder.
fn run(command: &ConfigCommand, folder: &Path) -> (ExitStatus, String, String) {
    let loader =
        Loader::new(FlagOverrides::default(), [("", ""); 0], folder).with_system_file("no-system-file.toml");
    let mut out = Vec::new();
    let (status, err) = match command.run(loader, &mut out) {
        Ok(status) => (status, String::new()),
        Err(error) => (ExitStatus::of_error(&error), message(&error)),
    };
    (status, String::from_utf8(out).unwrap(), err)
}

#[test]
fn a_configuration_is_checked_and_described() {
    let empty = folder("");
    let check = ConfigCommand::Check { no_secret_files: false };
    let (status, out, err) = run(&check, empty.path());
    assert_eq!((status, err.as_str()), (ExitStatus::Done, ""), "{out}");
    insta::assert_snapshot!(out, @r"
    the configuration is valid (no file: defaults)
      listens on  127.0.0.1:8787
      sources     retab
      sinks       none
      routes      0
    note: sources.retab has no api_key or api_key_file; its requests carry no key
    note: no sink is configured; finished jobs are kept and can be read from the API
    ");
    let broken = folder("[server]\ntoken_file = \"missing\"\n");
    let (status, out, err) = run(&check, broken.path());
    assert_eq!((status, out.as_str()), (ExitStatus::Usage, ""));
    assert!(err.contains("tidings.toml:2:1  server.token_file: there is no such file"), "{err}");
    let check = ConfigCommand::Check { no_secret_files: true };
    assert_eq!(run(&check, broken.path()).0, ExitStatus::Done);
    let (status, out, _) = run(&ConfigCommand::Schema, broken.path());
    assert_eq!((status, out.contains("draft/2020-12")), (ExitStatus::Done, true));
}
