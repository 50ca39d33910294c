//! Draws delay against polls: a chart for each kind of job, a line for each policy.

use plotters::{
    coord::Shift,
    prelude::{
        BLACK, ChartBuilder, Circle, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
        PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::{Color as _, ShapeStyle},
};

use super::{
    policies::Shipped,
    study::{NamedPolicy, Question, Subject, range},
    truth::PolicyCost,
};

/// Width and height of one chart in pixels.
const CHART: (u32, u32) = (420, 320);
/// The most charts side by side.
const COLUMNS: usize = 3;

/// Draws an SVG.
///
/// # Errors
/// The reason, if the picture cannot be drawn.
pub fn svg(subjects: &[Subject], question: &Question) -> Result<String, String> {
    let columns = subjects.len().clamp(1, COLUMNS);
    let rows = subjects.len().div_ceil(columns).max(1);
    let size = |count: usize, each: u32| u32::try_from(count).unwrap_or(1).saturating_mul(each);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (size(columns, CHART.0), size(rows, CHART.1)))
            .into_drawing_area();
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        for (at, (cell, subject)) in area.split_evenly((rows, columns)).iter().zip(subjects).enumerate() {
            chart(cell, subject, question, at == 0).map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

type Cell<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), Box<dyn std::error::Error + 'a>>;

fn chart<'a>(cell: &Cell<'a>, subject: &Subject, question: &Question, legend: bool) -> Drawn<'a> {
    let lines: Vec<(NamedPolicy, Vec<PolicyCost>)> =
        question.policies.iter().map(|named| (*named, range(subject, *named, question))).collect();
    let [polls, delay] =
        [|one: &PolicyCost| one.polls, |one: &PolicyCost| one.delay].map(|of| bounds(&lines, of));
    let mut chart = ChartBuilder::on(cell)
        .caption(&subject.name, ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d((polls.0..polls.1).log_scale(), (delay.0..delay.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("polls a job")
        .y_desc("mean delay, s")
        .x_labels(6)
        .y_labels(6)
        .light_line_style(WHITE)
        .x_label_formatter(&short)
        .y_label_formatter(&short)
        .draw()?;
    for (named, points) in &lines {
        let colour = colour(*named);
        let style: ShapeStyle =
            if *named == NamedPolicy::Optimum { colour.stroke_width(1) } else { colour.stroke_width(2) };
        let points: Vec<(f64, f64)> = points.iter().map(|one| (one.polls, one.delay)).collect();
        let name = named.to_string();
        chart
            .draw_series(LineSeries::new(points.clone(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // The middle of the range is the policy as it is shipped.
        chart.draw_series(points.get(points.len() / 2).map(|at| Circle::new(*at, 3, colour.filled())))?;
    }
    if legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    Ok(())
}

/// Returns the least and the greatest value, with some room around.
fn bounds(lines: &[(NamedPolicy, Vec<PolicyCost>)], of: fn(&PolicyCost) -> f64) -> (f64, f64) {
    let values = || lines.iter().flat_map(|(_, points)| points).map(of).filter(|value| *value > 0.0);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if low < high { (low / 1.2, high * 1.2) } else { (0.1, 10.0) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what the library calls")]
fn short(value: &f64) -> String {
    format!("{value}").chars().take(6).collect()
}

fn colour(named: NamedPolicy) -> RGBColor {
    match named {
        NamedPolicy::Shipped(Shipped::Fixed(_)) => RGBColor(31, 119, 180),
        NamedPolicy::Shipped(Shipped::Backoff) => RGBColor(255, 127, 14),
        NamedPolicy::Shipped(Shipped::Waiter) => RGBColor(148, 103, 189),
        NamedPolicy::Shipped(Shipped::TenthOfAge) => RGBColor(140, 86, 75),
        NamedPolicy::Learned => RGBColor(214, 39, 40),
        NamedPolicy::Optimum => RGBColor(60, 60, 60),
    }
}
