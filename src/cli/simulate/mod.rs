//! `tidings simulate`: the cost of polling policies, without a network.

mod stored;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::stored::stored;
use super::{
    args::Format,
    console::Console,
    exit::{BadUsage, ExitStatus},
};
use crate::{
    simulate::{
        distribution::Distribution,
        durations, plot,
        study::{At, NamedPolicy, Question, StudyLine, Subject, study},
        table::table,
        tables,
    },
    util::units::HumanDuration,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Computes the cost of polling policies for jobs of known durations: the polls of a job, and the time until a \
        finished job is noticed. It uses the daemon's own policy code and no network.\n\n\
        Durations come from named distributions, from a file, or from the data folder of a daemon. For a \
        distribution, `learned` has seen --finishes jobs before. For measured durations it starts without any and \
        learns from job to job, as the daemon does. `optimum` knows them in advance, so no policy can beat it.\n\n\
        `fixed` polls every 2 s (fixed=5s: every 5 s), `backoff` from 1 s on, half as long again each time, at most \
        30 s, `waiter` as the waiters of the AWS SDKs, `age` after a tenth of the job's age.";

/// The arguments of `tidings simulate`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings simulate\n  \
        tidings simulate lognormal:median=20,sigma=0.5 bimodal --at equal-polls\n  \
        tidings simulate '0.7*normal:mean=8,sd=1 + 0.3*exponential:mean=60' --cost-of-a-poll 1s\n  \
        tidings simulate --durations took.csv --policies fixed=5s,learned,optimum\n  \
        tidings simulate --from-store data --svg polling.svg\n  \
        tidings simulate --hooks lognormal:median=60\n\n\
        Exit status: 0 done; 1 failure at run time; 2 bad usage.")]
pub struct SimulateArgs {
    /// Distributions of durations [default: seven of different shapes]
    #[arg(
        value_name = "DISTRIBUTION",
        value_parser = distribution,
        conflicts_with_all = ["durations", "from_store", "tables"],
        long_help = "Distributions of durations in seconds, with any of their values: exponential:mean=20, \
        lognormal:median=20,sigma=0.5 (or mean=), weibull:shape=3,scale=30, pareto:shape=1.5,least=5, \
        normal:mean=60,sd=3, bimodal, or a mixture as '0.8*lognormal:median=8 + 0.2*normal' [default: seven of \
        different shapes]"
    )]
    pub(super) distributions: Vec<(String, Distribution)>,

    /// Read durations from this file, one a line: seconds, or 250ms, 30s, 5m
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["from_store", "tables"],
        long_help = "Read durations from this file, one a line: seconds, or 250ms, 30s, 5m. Of a CSV the first \
        column with a duration counts, and one line of headings is skipped. The jobs count as made one after the \
        other"
    )]
    pub(super) durations: Option<PathBuf>,

    /// Take the jobs of the last week from the data folder of a stopped daemon
    #[arg(long, value_name = "DIR", conflicts_with = "tables")]
    pub(super) from_store: Option<PathBuf>,

    /// Policies side by side: fixed, fixed=5s, backoff, waiter, age, learned, optimum
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values_t = NamedPolicy::ALL)]
    pub(super) policies: Vec<NamedPolicy>,

    /// Settings at which to compare them
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(super) at: Settings,

    /// θ: the delay that one poll is worth
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = positive)]
    pub(super) cost_of_a_poll: HumanDuration,

    /// Finished jobs that `learned` has seen, for distributions
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=1_000_000),
        conflicts_with_all = ["durations", "from_store", "tables"])]
    pub(super) finishes: u32,

    /// Seed of all random numbers: the same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(super) seed: u64,

    /// How to print the figures
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,

    /// Also write a plot of delay against polls to this file
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,

    /// Show what hooks of the source save: requests and delay while some, all or no ends are announced
    #[arg(long, conflicts_with_all = ["durations", "from_store", "svg", "output", "policies", "at", "finishes", "tables"])]
    pub(super) hooks: bool,

    /// Print the tables and targets that the strategy was built against; takes some minutes
    #[arg(long, conflicts_with_all = ["svg", "output", "policies", "at", "cost_of_a_poll", "seed"])]
    pub(super) tables: bool,
}

/// The settings at which policies are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Settings {
    /// Each with its defaults, learned and optimum with the given cost of a poll
    #[default]
    AsShipped,
    /// Each with as many polls as the first one with its defaults
    EqualPolls,
    /// Each at its best for the given cost of a poll
    EqualCost,
}

fn distribution(text: &str) -> Result<(String, Distribution), String> {
    let found =
        text.parse().map_err(|error: crate::simulate::distribution::BadDistribution| error.to_string())?;
    Ok((text.to_owned(), found))
}

fn positive(text: &str) -> Result<HumanDuration, String> {
    let cost: HumanDuration = text.parse()?;
    if cost.0.is_zero() { Err("a poll must cost at least 1ms".to_owned()) } else { Ok(cost) }
}

/// The results for one kind of job.
#[derive(Serialize)]
struct Results<'a> {
    jobs: &'a str,
    policies: Vec<StudyLine>,
}

impl<'a> Results<'a> {
    fn new(subject: &'a Subject, question: &Question) -> Self {
        Self { jobs: &subject.name, policies: study(subject, question) }
    }
}

/// Compares policies.
///
/// # Errors
/// When the durations cannot be read, or the output is closed.
pub(super) async fn run(args: &SimulateArgs, console: &mut Console<'_>) -> Result<ExitStatus> {
    if args.tables {
        console.note("this takes some minutes, and much longer in a debug build");
        tables::print(console.out)?;
        return Ok(ExitStatus::Done);
    }
    if args.hooks {
        let usual = || vec![("lognormal".to_owned(), Distribution::Lognormal { median: 20.0, sigma: 0.5 })];
        let named = if args.distributions.is_empty() { usual() } else { args.distributions.clone() };
        let theta = args.cost_of_a_poll.0.as_secs_f64();
        for (name, jobs) in named {
            writeln!(console.out, "{}", tables::hooks(&name, &jobs, theta, args.seed))?;
        }
        return Ok(ExitStatus::Done);
    }
    let question = question(args);
    let subjects = subjects(args, console).await?;
    match args.output {
        Format::Json => {
            let result = |one| Results::new(one, &question);
            let results: Vec<Results> = subjects.iter().map(result).collect();
            serde_json::to_writer_pretty(&mut *console.out, &results)?;
            writeln!(console.out)?;
        }
        Format::Table => {
            for subject in &subjects {
                let rows: Vec<Vec<String>> = study(subject, &question).iter().map(row).collect();
                writeln!(console.out, "{}\n{}", subject.name, table(HEAD, &rows))?;
            }
        }
    }
    if let Some(path) = &args.svg {
        fs::write(path, plot::svg(&subjects, &question))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitStatus::Done)
}

fn question(args: &SimulateArgs) -> Question {
    Question {
        policies: args.policies.clone(),
        at: match args.at {
            Settings::AsShipped => At::AsShipped,
            Settings::EqualPolls => At::EqualPolls,
            Settings::EqualCost => At::EqualCost,
        },
        theta: args.cost_of_a_poll.0.as_secs_f64(),
        finishes: usize::try_from(args.finishes).unwrap_or(usize::MAX),
        seed: args.seed,
    }
}

async fn subjects(args: &SimulateArgs, console: &mut Console<'_>) -> Result<Vec<Subject>> {
    if let Some(path) = &args.durations {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let found =
            durations::parse(&text).map_err(|error| BadUsage::new(format!("{}: {error}", path.display())))?;
        let name = format!("{} jobs of {}", found.len(), path.display());
        return Ok(vec![Subject::in_turn(&name, &found)?]);
    }
    if let Some(folder) = &args.from_store {
        return stored(folder, console).await;
    }
    if args.distributions.is_empty() {
        let known = |(_, text): (&str, &str)| Ok(Subject::known(text, text.parse()?));
        return tables::NAMES.into_iter().map(known).collect();
    }
    Ok(args.distributions.iter().map(|(text, one)| Subject::known(text, one.clone())).collect())
}

const HEAD: &[&str] =
    &["POLICY", "SETTING", "POLLS", "DELAY s", "MEDIAN", "P99", "COST s", "DELAY ÷ OPTIMUM"];

fn row(line: &StudyLine) -> Vec<String> {
    let figures = [line.polls, line.delay, line.delay_p50, line.delay_p99, line.cost, line.times_optimum];
    let figures = figures.map(|figure| format!("{figure:.2}"));
    [line.policy.clone(), line.setting.clone()].into_iter().chain(figures).collect()
}
