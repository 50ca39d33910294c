//! Draws line charts as SVG text. Pure: figures in, text out.

use std::fmt::Write as _;

/// Width and height of one chart in pixels.
const CHART: (f64, f64) = (420.0, 320.0);
/// The margins of the plot area within it: left, top, right, bottom.
const MARGINS: (f64, f64, f64, f64) = (62.0, 34.0, 16.0, 46.0);
/// The height of a line of the legend, and the width of one of its letters.
const LEGEND: (f64, f64) = (16.0, 6.4);
/// The most labels of an axis.
const MOST_TICKS: usize = 9;

/// How values are laid out on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences. The axis begins at zero.
    Linear,
    /// Equal distances are equal ratios. Values that are not above zero are left out.
    Log,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// The quantity, with its unit.
    pub name: &'a str,
    /// How its values are laid out.
    pub scale: Scale,
}

/// A line through points.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// The colour, as SVG writes it.
    pub colour: &'static str,
    /// The width in pixels.
    pub width: u32,
    /// The points, in their order.
    pub points: Vec<(f64, f64)>,
    /// The points that get a dot, by their index.
    pub dots: Vec<usize>,
}

impl Line {
    /// Returns a line with a dot at each point.
    #[must_use]
    pub fn dotted(name: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), colour, width: 2, dots: (0..points.len()).collect(), points }
    }
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// The title above it.
    pub title: &'a str,
    /// The horizontal axis.
    pub x: Axis<'a>,
    /// The vertical axis.
    pub y: Axis<'a>,
    /// The lines.
    pub lines: Vec<Line>,
    /// Whether the names of the lines are shown.
    pub legend: bool,
}

/// Draws charts side by side, so many in a row, as one SVG document.
#[must_use]
pub fn svg(charts: &[Chart<'_>], columns: usize) -> String {
    let columns = columns.min(charts.len()).max(1);
    let at = |index: usize| (pixels(index % columns) * CHART.0, pixels(index / columns) * CHART.1);
    let (width, height) =
        (pixels(columns) * CHART.0, pixels(charts.len().div_ceil(columns).max(1)) * CHART.1);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        let (x, y) = at(index);
        let _ = writeln!(text, "<g transform=\"translate({x} {y})\">");
        chart.draw(&mut text);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

#[expect(clippy::cast_precision_loss, reason = "a count of charts")]
fn pixels(count: usize) -> f64 {
    count as f64
}

/// The plot area: the ranges of both axes, and where they are in the chart.
struct Area {
    x: Range,
    y: Range,
}

impl Area {
    const LEFT: f64 = MARGINS.0;
    const TOP: f64 = MARGINS.1;
    const RIGHT: f64 = CHART.0 - MARGINS.2;
    const BOTTOM: f64 = CHART.1 - MARGINS.3;

    /// Returns the place of a point, or `None` if it cannot be drawn.
    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let (x, y) = (self.x.share(x)?, self.y.share(y)?);
        Some((Self::LEFT + x * (Self::RIGHT - Self::LEFT), Self::BOTTOM - y * (Self::BOTTOM - Self::TOP)))
    }
}

/// The range of an axis.
#[derive(Clone, Copy, Debug)]
struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    /// Returns a range that holds all values, with some room.
    fn of(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let drawn = values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) =
            (drawn.clone().fold(f64::INFINITY, f64::min), drawn.fold(f64::NEG_INFINITY, f64::max));
        let (low, high) = match scale {
            Scale::Log if low.is_finite() => (low / 1.2, high * 1.2),
            Scale::Log => (0.1, 10.0),
            Scale::Linear if high > 0.0 || low < 0.0 => (low.min(0.0) * 1.1, high.max(0.0) * 1.1),
            Scale::Linear => (0.0, 1.0),
        };
        Self { scale, low, high }
    }

    /// Returns where a value is, from 0 at the low end to 1 at the high one.
    fn share(self, value: f64) -> Option<f64> {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        share.is_finite().then_some(share)
    }

    /// Returns the round values of the range, the finest that are not too many.
    fn ticks(self) -> Vec<f64> {
        let steps: &[&[f64]] = match self.scale {
            Scale::Linear => return self.even_ticks(),
            Scale::Log => &[&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]],
        };
        let mut ticks = Vec::new();
        for steps in steps {
            ticks.clear();
            let mut exponent = self.low.log10().floor();
            while 10_f64.powf(exponent) <= self.high {
                ticks.extend(steps.iter().map(|step| step * 10_f64.powf(exponent)));
                exponent += 1.0;
            }
            ticks.retain(|tick| (self.low..=self.high).contains(tick));
            if ticks.len() <= MOST_TICKS {
                break;
            }
        }
        ticks
    }

    /// Returns about five multiples of a round step.
    fn even_ticks(self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let unit = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * unit).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let mut ticks = Vec::new();
        let mut number = (self.low / step).ceil();
        while number * step <= self.high && ticks.len() <= MOST_TICKS {
            ticks.push(number * step);
            number += 1.0;
        }
        ticks
    }
}

impl Chart<'_> {
    fn draw(&self, text: &mut String) {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let area = Area {
            x: Range::of(self.x.scale, points().map(|(x, _)| x)),
            y: Range::of(self.y.scale, points().map(|(_, y)| y)),
        };
        self.frame(text, &area);
        let placed: Vec<Vec<(f64, f64)>> = (self.lines.iter())
            .map(|line| line.points.iter().filter_map(|point| area.place(*point)).collect())
            .collect();
        for (line, points) in self.lines.iter().zip(&placed) {
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                text,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\" points=\"{}\"/>",
                line.colour,
                line.width,
                path.join(" ")
            );
            let dots = line.dots.iter().filter_map(|dot| area.place(*line.points.get(*dot)?));
            for (x, y) in dots {
                let _ =
                    writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{}\"/>", line.colour);
            }
        }
        if self.legend {
            self.draw_legend(text, &placed);
        }
    }

    /// Draws the title, the axes, their labels, and a grid.
    fn frame(&self, text: &mut String, area: &Area) {
        let (left, top, right, bottom) = (Area::LEFT, Area::TOP, Area::RIGHT, Area::BOTTOM);
        let (middle_x, middle_y) = (left.midpoint(right), top.midpoint(bottom));
        for tick in area.x.ticks() {
            let Some(share) = area.x.share(tick) else { continue };
            let x = left + share * (right - left);
            rule(text, (x, top), (x, bottom), "#dddddd");
            label(text, (x, bottom + 15.0), "middle", &short(tick));
        }
        for tick in area.y.ticks() {
            let Some(share) = area.y.share(tick) else { continue };
            let y = bottom - share * (bottom - top);
            rule(text, (left, y), (right, y), "#dddddd");
            label(text, (left - 6.0, y + 4.0), "end", &short(tick));
        }
        rule(text, (left, bottom), (right, bottom), "#333333");
        rule(text, (left, top), (left, bottom), "#333333");
        label(text, (middle_x, bottom + 35.0), "middle", self.x.name);
        let _ = writeln!(
            text,
            "<text transform=\"translate(14 {middle_y:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(self.y.name)
        );
        let _ = writeln!(
            text,
            "<text x=\"{middle_x:.1}\" y=\"20\" text-anchor=\"middle\" font-size=\"14\">{}</text>",
            escaped(self.title)
        );
    }

    /// Draws the legend in the corner that hides the least of the lines.
    fn draw_legend(&self, text: &mut String, placed: &[Vec<(f64, f64)>]) {
        let longest = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        let (width, height) = (36.0 + pixels(longest) * LEGEND.1, 8.0 + pixels(self.lines.len()) * LEGEND.0);
        let (left, right) = (Area::LEFT + 6.0, Area::RIGHT - width - 4.0);
        let (top, bottom) = (Area::TOP + 4.0, Area::BOTTOM - height - 6.0);
        let hidden = |&(x, y): &(f64, f64)| {
            let within = |(at_x, at_y): (f64, f64)| {
                (x..=x + width).contains(&at_x) && (y..=y + height).contains(&at_y)
            };
            placed
                .iter()
                .flat_map(|points| points.windows(2))
                .flat_map(along)
                .filter(|at| within(*at))
                .count()
        };
        let corners = [(right, top), (left, top), (right, bottom), (left, bottom)];
        let (x, y) = corners.into_iter().min_by_key(hidden).unwrap_or((right, top));
        let _ = writeln!(
            text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#ffffff\" \
             fill-opacity=\"0.85\" stroke=\"#bbbbbb\"/>"
        );
        for (index, line) in self.lines.iter().enumerate() {
            let y = y + 12.0 + pixels(index) * LEGEND.0;
            let _ = writeln!(
                text,
                "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{}\" stroke-width=\"{}\"/>",
                x + 6.0,
                x + 24.0,
                line.colour,
                line.width
            );
            label(text, (x + 30.0, y + 4.0), "start", &line.name);
        }
    }
}

/// Returns points along one piece of a line.
fn along(piece: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + use<> {
    let (from, to) = (piece[0], piece[1]);
    (0..16).map(f64::from).map(move |step| {
        let share = step / 16.0;
        (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
    })
}

fn rule(text: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(text: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let content = escaped(content);
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writes a round value in few letters: `0.05`, `20`, `10k`, `2M`.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = format!("{value:.4}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let axis = Axis { name: "a < b", scale };
        let line = Line { name: "x & y".to_owned(), colour: "#d62728", width: 2, points, dots: vec![0] };
        svg(&[Chart { title: "one", x: axis, y: axis, lines: vec![line], legend: true }], 3)
    }

    fn line_of(picture: &str) -> &str {
        let at = picture.find(" points=\"").unwrap() + " points=\"".len();
        picture[at..].split('"').next().unwrap()
    }

    #[test]
    fn points_keep_their_order_and_stay_inside() {
        for scale in [Scale::Linear, Scale::Log] {
            let picture = chart(scale, vec![(1.0, 5.0), (10.0, 50.0), (100.0, 1.0)]);
            let points: Vec<(f64, f64)> = line_of(&picture)
                .split(' ')
                .map(|point| point.split_once(',').unwrap())
                .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                .collect();
            assert!(points[0].0 < points[1].0 && points[1].0 < points[2].0);
            // The greatest value is the highest point, and y grows downwards.
            assert!(points[1].1 < points[0].1 && points[0].1 < points[2].1);
            for (x, y) in points {
                assert!((Area::LEFT..=Area::RIGHT).contains(&x) && (Area::TOP..=Area::BOTTOM).contains(&y));
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let picture = chart(Scale::Log, vec![(0.0, 1.0), (f64::NAN, 1.0), (2.0, 3.0), (4.0, f64::INFINITY)]);
        assert_eq!(line_of(&picture).matches(',').count(), 1);
        for points in [vec![], vec![(0.0, 0.0)], vec![(-1.0, -2.0)]] {
            for scale in [Scale::Linear, Scale::Log] {
                let picture = chart(scale, points.clone());
                assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
            }
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let ticks =
            |scale, low, high| Range { scale, low, high }.ticks().into_iter().map(short).collect::<Vec<_>>();
        assert_eq!(ticks(Scale::Linear, 0.0, 110.0), ["0", "50", "100"]);
        assert_eq!(ticks(Scale::Linear, 0.0, 0.9), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(ticks(Scale::Log, 8e3, 1.2e6), ["10k", "20k", "50k", "100k", "200k", "500k", "1M"]);
        assert_eq!(
            ticks(Scale::Log, 0.9, 1.1e9),
            ["1", "10", "100", "1000", "10k", "100k", "1M", "10M", "100M", "1000M"]
        );
    }

    #[test]
    fn text_is_escaped() {
        let picture = chart(Scale::Linear, vec![(1.0, 1.0)]);
        assert!(picture.contains("a &lt; b") && picture.contains("x &amp; y") && !picture.contains("a < b"));
    }
}
