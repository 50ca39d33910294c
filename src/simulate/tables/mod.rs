//! The tables that the strategy was built against, with the targets and whether they are met.
//!
//! The published figures are those of the study that the strategy follows (its formulas are in
//! `docs/concepts/polling.md`).

mod hooks;
mod known;
mod running;

use std::{io, io::Write};

pub use hooks::hooks;

use super::distribution::{BadDistribution, Distribution};

/// The distributions of the tables and the texts that name them.
pub const NAMES: [(&str, &str); 7] = [
    ("Exp 20", "exponential:mean=20"),
    ("LN .5", "lognormal:median=20,sigma=0.5"),
    ("LN 1.2", "lognormal:median=20,sigma=1.2"),
    ("Weibull 3", "weibull:shape=3,scale=30"),
    ("Pareto 1.5", "pareto:shape=1.5,least=5"),
    ("Bimodal", "bimodal"),
    ("N(60,3)", "normal:mean=60,sd=3"),
];

/// Prints all tables, each as soon as it is made.
///
/// # Errors
/// If the output fails.
pub fn print(out: &mut dyn Write) -> io::Result<()> {
    let all: [fn() -> Result<String, BadDistribution>; 8] = [
        known::shipped,
        known::equal_to_fixed,
        known::equal_to_backoff,
        running::drifts,
        running::mixes,
        running::queues,
        running::budgets,
        hooks::usual,
    ];
    for make in all {
        let text = make().map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
        out.flush()?;
    }
    Ok(())
}

/// A distribution of the tables.
fn named(text: &str) -> Result<Distribution, BadDistribution> {
    text.parse()
}

/// A figure that must not exceed a target.
fn at_most(value: f64, most: f64) -> String {
    format!("{value:.3} {} {most}", if value <= most { "≤" } else { "MISSED" })
}

/// A figure that must reach a target.
fn at_least(value: f64, least: f64) -> String {
    format!("{value:.2} {} {least}", if value >= least { "≥" } else { "MISSED" })
}

/// A row of published figures.
fn published(cells: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    std::iter::once("  published").chain(cells).map(str::to_owned).collect()
}

/// A row of our own.
fn ours(name: &str, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}
