//! Reports as plots, in SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Figures, Report, Scenario, shown};

const WIDTH: u32 = 1_000;
/// The height of a bar with the space below it.
const BAR: u32 = 30;
/// Room for title and axis.
const MARGIN: u32 = 90;
/// Room for the names of the bars.
const NAMES: u32 = 450;
const LINES_HEIGHT: u32 = 420;
const FONT: &str = "sans-serif";
/// Told apart by eyes of every kind.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

/// A plot, and the scenario below which it stands.
pub(super) struct Plot {
    pub(super) name: String,
    pub(super) scenario: String,
    pub(super) title: String,
    unit: &'static str,
    form: Form,
}

enum Form {
    /// Bars of stacked parts.
    Bars {
        parts: Vec<&'static str>,
        bars: Vec<(String, Vec<f64>)>,
    },
    /// Lines over named places.
    Lines {
        places: Vec<String>,
        lines: Vec<(String, Vec<f64>)>,
    },
}

/// The plots that these reports give.
pub(super) fn of(reports: &[Report]) -> Vec<Plot> {
    let scenarios = reports.iter().flat_map(|report| &report.scenarios);
    let mut plots = Vec::new();
    for scenario in scenarios {
        plots.extend(of_scenario(scenario));
    }
    plots
}

fn of_scenario(scenario: &Scenario) -> Vec<Plot> {
    let plot = |name: &str, title: &str, unit, form| Plot {
        name: name.to_owned(),
        scenario: scenario.name.clone(),
        title: title.to_owned(),
        unit,
        form,
    };
    let cost = || {
        let parts = vec!["relay_us", "postgres_us", "load_us"];
        bars(scenario, parts)
    };
    let rate = || bars(scenario, vec!["per_s"]);
    let cost_unit = "µs of processor time";
    let plots = match scenario.name.as_str() {
        "post" => vec![
            plot("post", "Posts a second, and the limits", "a second", rate()),
            plot("post-cost", "Processor time a post", cost_unit, cost()),
        ],
        "mixed" => vec![plot(
            "mixed",
            "Latency of the agent's steps",
            "ms",
            percentiles(scenario),
        )],
        "fanout" => vec![plot(
            "fanout-cost",
            "Processor time a delivered event",
            cost_unit,
            cost(),
        )],
        "read" => vec![
            plot(
                "read",
                "Median latency of a page",
                "ms",
                bars(scenario, vec!["p50_ms"]),
            ),
            plot("read-cost", "Processor time a page", cost_unit, cost()),
        ],
        "deliver" => vec![plot(
            "deliver",
            "Latency from when a post was due",
            "ms",
            percentiles(scenario),
        )],
        "mcp" => vec![plot(
            "mcp-cost",
            "Processor time a tool call",
            cost_unit,
            cost(),
        )],
        "growth" => vec![
            plot(
                "growth-post",
                "A post, times the first size",
                "times",
                bars(scenario, vec!["times_post"]),
            ),
            plot(
                "growth-page",
                "A page, times the first size",
                "times",
                bars(scenario, vec!["times_page"]),
            ),
            plot(
                "growth-event",
                "A delivered event, times the first size",
                "times",
                bars(scenario, vec!["times_event"]),
            ),
        ],
        _ => Vec::new(),
    };
    plots.into_iter().filter(Plot::has_values).collect()
}

/// A bar for each row that has all of these figures.
fn bars(scenario: &Scenario, parts: Vec<&'static str>) -> Form {
    let of_row = |figures: &Figures| {
        parts
            .iter()
            .map(|part| figures.get(part))
            .collect::<Option<Vec<_>>>()
    };
    let rows = scenario.rows.iter();
    let bars = rows
        .filter_map(|row| Some((row.subject.clone(), of_row(&row.figures)?)))
        .collect();
    Form::Bars { parts, bars }
}

/// A line for each row that has latencies.
fn percentiles(scenario: &Scenario) -> Form {
    const PLACES: [&str; 5] = ["p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms"];
    let of_row = |figures: &Figures| {
        PLACES
            .iter()
            .map(|place| figures.get(place))
            .collect::<Option<Vec<_>>>()
    };
    let rows = scenario.rows.iter();
    Form::Lines {
        places: PLACES
            .map(|place| place.trim_end_matches("_ms").to_owned())
            .into(),
        lines: rows
            .filter_map(|row| Some((row.subject.clone(), of_row(&row.figures)?)))
            .collect(),
    }
}

impl Plot {
    fn has_values(&self) -> bool {
        match &self.form {
            Form::Bars { bars, .. } => !bars.is_empty(),
            Form::Lines { lines, .. } => !lines.is_empty(),
        }
    }

    /// The SVG.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        match &self.form {
            Form::Bars { parts, bars } => self.draw_bars(&mut svg, parts, bars),
            Form::Lines { places, lines } => self.draw_lines(&mut svg, places, lines),
        }
        .map_err(|error| anyhow!("{} can't be drawn: {error}", self.name))?;
        Ok(svg)
    }

    fn draw_bars(
        &self,
        svg: &mut String,
        parts: &[&str],
        bars: &[(String, Vec<f64>)],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let legend = if parts.len() > 1 { BAR } else { 0 };
        let height = MARGIN + legend + BAR * bars.len() as u32;
        let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let area = area.titled(&self.title, (FONT, 18))?;
        let sums = bars.iter().map(|(_, values)| values.iter().sum::<f64>());
        let most = sums.fold(0.0, f64::max);
        let count = bars.len() as i32;
        let mut chart = ChartBuilder::on(&area)
            .margin_right(20)
            .margin_top(legend)
            .x_label_area_size(45)
            .y_label_area_size(NAMES)
            .build_cartesian_2d(0.0..most * 1.15, 0..count * 10)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc(self.unit)
            .x_labels(6)
            .x_label_formatter(&|value| shown(*value))
            .label_style((FONT, 13))
            .draw()?;
        let name_style = (FONT, 13).into_font().color(&BLACK);
        let right = name_style.pos(Pos::new(HPos::Right, VPos::Center));
        let left = right.pos(Pos::new(HPos::Left, VPos::Center));
        for (number, (name, values)) in bars.iter().enumerate() {
            let bottom = (count - 1 - number as i32) * 10;
            let mut sum = 0.0;
            for (value, colour) in values.iter().zip(COLOURS) {
                let bar = [(sum, bottom + 2), (sum + value, bottom + 8)];
                chart.draw_series([Rectangle::new(bar, colour.filled())])?;
                sum += value;
            }
            let (x, y) = chart.backend_coord(&(0.0, bottom + 5));
            area.draw(&Text::new(
                name.clone(),
                area_point(&area, x - 8, y),
                right.clone(),
            ))?;
            let (x, y) = chart.backend_coord(&(sum, bottom + 5));
            area.draw(&Text::new(
                shown(sum),
                area_point(&area, x + 6, y),
                left.clone(),
            ))?;
        }
        if parts.len() > 1 {
            for (number, (part, colour)) in parts.iter().zip(COLOURS).enumerate() {
                let x = NAMES as i32 + number as i32 * 140;
                let box_ = [(x, 6), (x + 14, 20)];
                area.draw(&Rectangle::new(box_, colour.filled()))?;
                area.draw(&Text::new((*part).to_owned(), (x + 20, 13), left.clone()))?;
            }
        }
        area.present()?;
        Ok(())
    }

    fn draw_lines(
        &self,
        svg: &mut String,
        places: &[String],
        lines: &[(String, Vec<f64>)],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(svg, (WIDTH, LINES_HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let values = || lines.iter().flat_map(|(_, values)| values.iter().copied());
        let least = values()
            .filter(|value| *value > 0.0)
            .fold(f64::MAX, f64::min);
        let most = values().fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, (FONT, 18))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(
                -0.1..places.len() as f64 + 1.5,
                (least / 1.5..most * 1.5).log_scale(),
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(places.len() + 2)
            .x_label_formatter(&|place| {
                let whole = (place - place.round()).abs() < 1e-6;
                let name = places.get(place.round() as usize).filter(|_| whole);
                name.cloned().unwrap_or_default()
            })
            .y_desc(self.unit)
            .y_label_formatter(&|value| shown(*value))
            .label_style((FONT, 13))
            .draw()?;
        for (number, (name, values)) in lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            // A second round through the colours has thinner lines.
            let width = if number < COLOURS.len() { 2 } else { 1 };
            let points = values
                .iter()
                .enumerate()
                .map(|(place, value)| (place as f64, *value));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(width)).point_size(3))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(width))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 12))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// A point of the whole picture, in an area of it.
fn area_point(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    x: i32,
    y: i32,
) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::of;
    use crate::report::sample;

    #[test]
    fn what_was_measured_is_drawn() {
        let plots = of(&[sample(&[("post", 4_321.0), ("unknown", 1.0)])]);
        assert_eq!(plots.len(), 1);
        let svg = plots[0].draw().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["Posts a second", "the subject of post", "4321"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
    }
}
