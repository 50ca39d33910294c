//! Which source a command means: the one it names, or the daemon's default.

use serde::Deserialize;

use super::{Client, ClientError, Path};
use crate::{
    api::view::Page,
    cli::exit::BadUsage,
    config,
    config::wording::{did_you_mean, join_words},
};

impl Client {
    /// Returns the source that `named` names, or the source of a job without one.
    ///
    /// # Errors
    /// As [`send`](Client::send), and [`BadUsage`] when the daemon has several sources and no default.
    pub(crate) async fn source(&self, named: Option<&str>) -> anyhow::Result<String> {
        match named {
            Some(name) => Ok(name.to_owned()),
            None => Ok(default_source(&self.sources().await?, "name one as the argument SOURCE")?),
        }
    }

    /// Returns the names of the daemon's sources.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn sources(&self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Source {
            name: String,
        }
        let sources: Page<Source> = self.get(&Path::of(&["v1", "sources"])).await?;
        Ok(sources.data.into_iter().map(|source| source.name).collect())
    }

    /// Checks that `named` is a source of the daemon, for a command that found nothing of it.
    ///
    /// # Errors
    /// As [`send`](Client::send), and [`BadUsage`] when the daemon has no such source.
    pub(crate) async fn check_source(&self, named: Option<&str>) -> anyhow::Result<()> {
        let Some(name) = named else { return Ok(()) };
        let known = self.sources().await?;
        if known.iter().any(|one| one == name) {
            return Ok(());
        }
        let text = format!("no source is named `{name}`: the daemon has {}", join_words(&known, "and"));
        Err(BadUsage::new(text).maybe_hint(did_you_mean(name, known.iter().map(String::as_str))).into())
    }
}

/// Returns the source of a job without one; see [`config::default_source`]. `hint` says how the command
/// names one.
///
/// # Errors
/// When the command has to name one.
pub(crate) fn default_source(sources: &[String], hint: &str) -> Result<String, BadUsage> {
    let source = config::default_source(sources.iter().map(String::as_str));
    source.map(str::to_owned).map_err(|reason| BadUsage::new(reason).hint(hint))
}
