//! A folder in which the real binary runs, and the upstream that its configuration file names.

use std::{path::Path, process::Output};

use tidings::mock::Mock;

use super::{Process, mock, once};

pub struct Home {
    pub mock: Mock,
    folder: tempfile::TempDir,
}

impl Home {
    /// With a configuration of quick polls, and `more`.
    pub async fn new(more: &str) -> Self {
        let home = Self { mock: mock().await, folder: tempfile::tempdir().unwrap() };
        home.configure(more);
        home
    }

    /// Writes the configuration file again.
    pub fn configure(&self, more: &str) {
        write_config(self.path(), &self.mock.base_url(), more);
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts `tidings run` and waits until it is ready.
    pub async fn run(&self) -> Process {
        self.run_with(&[]).await
    }

    /// Starts `tidings run` with these arguments and waits until it is ready.
    pub async fn run_with(&self, args: &[&str]) -> Process {
        Process::run(self.path(), args).await
    }

    /// Runs `tidings` with these arguments until it ends.
    pub async fn once(&self, args: &[&str]) -> Output {
        once(self.path(), args).await
    }
}

/// Writes `tidings.toml` into `folder`: quick polls of this upstream, everything in `folder`, and `more`.
pub fn write_config(folder: &Path, base_url: &str, more: &str) {
    let text = format!(
        "[store]\npath = \"data\"\n\n[sources.retab]\nbase_url = \"{base_url}\"\n\
         max_requests_per_second = 2000\nnot_found_grace = \"300ms\"\n\n\
         [sources.retab.polling]\nmin_interval = \"20ms\"\nmax_interval = \"100ms\"\n\n{more}"
    );
    std::fs::write(folder.join("tidings.toml"), text).unwrap();
}
