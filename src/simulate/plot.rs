//! Draws delay against polls: a chart for each kind of job, a line for each policy.

use super::{
    policies::Shipped,
    study::{NamedPolicy, Question, Subject, range},
};
use crate::util::chart::{self, Axis, Chart, Line, Scale};

/// The most charts side by side.
const COLUMNS: usize = 3;

/// Draws an SVG.
#[must_use]
pub fn svg(subjects: &[Subject], question: &Question) -> String {
    let axis = |name| Axis { name, scale: Scale::Log };
    let charts: Vec<Chart<'_>> = (subjects.iter().enumerate())
        .map(|(at, subject)| Chart {
            title: &subject.name,
            x: axis("polls a job"),
            y: axis("mean delay, s"),
            lines: question.policies.iter().map(|named| line(subject, *named, question)).collect(),
            legend: at == 0,
        })
        .collect();
    chart::svg(&charts, COLUMNS)
}

fn line(subject: &Subject, named: NamedPolicy, question: &Question) -> Line {
    let points: Vec<(f64, f64)> =
        range(subject, named, question).iter().map(|one| (one.polls, one.delay)).collect();
    Line {
        name: named.to_string(),
        colour: colour(named),
        width: if named == NamedPolicy::Optimum { 1 } else { 2 },
        // The middle of the range is the policy as it is shipped.
        dots: vec![points.len() / 2],
        points,
    }
}

fn colour(named: NamedPolicy) -> &'static str {
    match named {
        NamedPolicy::Shipped(Shipped::Fixed(_)) => "#1f77b4",
        NamedPolicy::Shipped(Shipped::Backoff) => "#ff7f0e",
        NamedPolicy::Shipped(Shipped::Waiter) => "#9467bd",
        NamedPolicy::Shipped(Shipped::TenthOfAge) => "#8c564b",
        NamedPolicy::Learned => "#d62728",
        NamedPolicy::Optimum => "#3c3c3c",
    }
}
