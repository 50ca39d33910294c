//! A survival curve and a schedule, drawn with characters.

/// The width of the picture in characters, and its height in lines.
const SIZE: (usize, usize) = (64, 10);

/// Draws the share of jobs still running over their age in seconds, with the polls below. The axis of ages begins at zero.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "columns and lines of a picture")]
pub(super) fn plot(survival: &[(f64, f64)], polls: &[f64]) -> String {
    let (width, height) = SIZE;
    let ages = survival.iter().map(|(age, _)| *age).chain(polls.iter().copied());
    let longest = ages.fold(0.0, f64::max);
    if longest <= 0.0 {
        return "no curve yet\n".to_owned();
    }
    let age = |column: usize| longest * (column as f64 + 0.5) / width as f64;
    let mut text = String::new();
    for line in (1..=height).rev() {
        let share = line as f64 / height as f64;
        // Half a line of height decides which cell is full.
        let cell =
            |column| if at(survival, age(column)) >= share - 0.5 / height as f64 { '█' } else { ' ' };
        let row: String = (0..width).map(cell).collect();
        text.push_str(format!("{:>5.0} % │{row}", share * 100.0).trim_end());
        text.push('\n');
    }
    let polled = |column: usize| {
        let (from, to) =
            (longest * column as f64 / width as f64, longest * (column + 1) as f64 / width as f64);
        polls.iter().any(|poll| from < *poll && *poll <= to)
    };
    let axis: String = (0..width).map(|column| if polled(column) { '┴' } else { '─' }).collect();
    let end = format!("{longest:.1}s");
    text + &format!("        └{axis}\n         0{end:>0$}\n", width - 1)
}

/// Returns the share at an age, on a straight line between the points.
fn at(survival: &[(f64, f64)], age: f64) -> f64 {
    let next = survival.partition_point(|(point, _)| *point <= age);
    match (next.checked_sub(1).and_then(|last| survival.get(last)), survival.get(next)) {
        (Some((from, high)), Some((to, low))) => high + (low - high) * (age - from) / (to - from),
        (Some((_, share)), None) | (None, Some((_, share))) => *share,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_and_its_polls_stand_on_the_axis() {
        let text = plot(&[(0.0, 1.0), (50.0, 1.0), (60.0, 0.5), (100.0, 0.0)], &[55.0, 99.0]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 12, "{text}");
        let full = |line: &str| line.matches('█').count();
        assert!(lines[..10].windows(2).all(|pair| full(pair[0]) <= full(pair[1])), "{text}");
        assert!((32..36).contains(&full(lines[0])), "{text}");
        assert_eq!(lines[10].matches('┴').count(), 2, "{text}");
        assert!(lines[11].ends_with("100.0s"), "{text}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(plot(&[], &[]), "no curve yet\n");
        assert!(!plot(&[(f64::NAN, f64::NAN)], &[1.0]).is_empty());
    }
}
