//! The plots, as SVG: time goes from left to right, and grey bands are faults.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::bars::{RECOVERY, Stepped};
use crate::run::Outcome;
use crate::sample::Sample;

const WIDTH: u32 = 1_400;
const HEIGHT: u32 = 340;
const FONT: &str = "sans-serif";

const BLUE: RGBColor = RGBColor(31, 103, 173);
const GREEN: RGBColor = RGBColor(48, 138, 72);
const ORANGE: RGBColor = RGBColor(217, 119, 6);
const RED: RGBColor = RGBColor(200, 40, 40);
const GREY: RGBColor = RGBColor(120, 120, 120);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One line of a plot.
struct Line {
    name: &'static str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn of(
        name: &'static str,
        color: RGBColor,
        samples: &[Sample],
        of: impl Fn(&Sample) -> Option<f64>,
    ) -> Line {
        let points = samples
            .iter()
            .filter_map(|sample| Some((sample.at, of(sample)?)));
        Line {
            name,
            color,
            points: points.collect(),
        }
    }
}

/// What was answered and delivered each second.
pub(super) fn throughput(outcome: &Outcome, path: &Path) -> Result<()> {
    let samples = &outcome.samples;
    let posts = [
        Line::of("posts acknowledged a second", BLUE, samples, |sample| {
            Some(sample.rates.acked as f64)
        }),
        Line::of("errors a second", RED, samples, |sample| {
            Some(sample.rates.errors as f64)
        }),
    ];
    let events = [Line::of(
        "events delivered a second",
        GREEN,
        samples,
        |sample| Some(sample.rates.events as f64),
    )];
    draw(
        path,
        &[("posts", &posts[..]), ("events", &events[..])],
        outcome,
    )
}

/// How long posts and deliveries took.
pub(super) fn latency(outcome: &Outcome, path: &Path) -> Result<()> {
    let samples = &outcome.samples;
    // A second without any has no latency.
    let some = |milliseconds: f64| (milliseconds > 0.0).then_some(milliseconds.log10());
    let posts = [
        Line::of("p50", GREEN, samples, |sample| {
            some(sample.rates.post_ms[0])
        }),
        Line::of("p99", BLUE, samples, |sample| some(sample.rates.post_ms[1])),
        Line::of("largest", ORANGE, samples, |sample| {
            some(sample.rates.post_ms[2])
        }),
    ];
    let events = [
        Line::of("p50", GREEN, samples, |sample| {
            some(sample.rates.deliver_ms[0])
        }),
        Line::of("p99", BLUE, samples, |sample| {
            some(sample.rates.deliver_ms[1])
        }),
        Line::of("largest", ORANGE, samples, |sample| {
            some(sample.rates.deliver_ms[2])
        }),
    ];
    draw(
        path,
        &[
            ("a post until it is answered, log10 of ms", &posts[..]),
            ("a post until a stream brings it, log10 of ms", &events[..]),
        ],
        outcome,
    )
}

/// How soon every replica served again after each fault.
pub(super) fn recovery(outcome: &Outcome, path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    fill(&root)?;
    let end = outcome.length.as_secs_f64();
    let slowest = outcome
        .steps
        .iter()
        .filter_map(Stepped::recovery)
        .max()
        .unwrap_or_default();
    let top = RECOVERY.max(slowest).as_secs_f64() * 1.1;
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .caption(
            "seconds until every replica served again, by the moment of the fault",
            (FONT, 15),
        )
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(failed)?;
    mesh(&mut chart)?;
    let bar = RECOVERY.as_secs_f64();
    chart
        .draw_series(LineSeries::new(
            [(0.0, bar), (end, bar)],
            RED.stroke_width(1),
        ))
        .map_err(failed)?;
    let points = outcome.steps.iter().map(|step| {
        let at = step.ended.as_secs_f64();
        let (height, color) = match step.recovery() {
            Some(took) if took <= RECOVERY => (took.as_secs_f64(), BLUE),
            Some(took) => (took.as_secs_f64(), RED),
            None => (top, RED),
        };
        Rectangle::new([(at, 0.0), (at + end / 250.0, height)], color.filled())
    });
    chart.draw_series(points).map_err(failed)?;
    root.present().map_err(failed)
}

/// What the fleet takes up.
pub(super) fn resources(outcome: &Outcome, path: &Path) -> Result<()> {
    let samples = &outcome.samples;
    let colors = [BLUE, GREEN, ORANGE];
    let names = ["replica 0", "replica 1", "replica 2"];
    let of_each = |of: fn(&crate::sample::Process) -> f64| -> Vec<Line> {
        let lines = names.iter().zip(colors).enumerate();
        lines
            .map(|(replica, (name, color))| {
                Line::of(name, color, samples, |sample| {
                    Some(of(sample.replicas.get(replica)?.as_ref()?))
                })
            })
            .collect()
    };
    let memory = of_each(|process| process.resident_bytes as f64 / f64::from(1 << 20));
    let descriptors = of_each(|process| process.descriptors as f64);
    let connections = [Line::of(
        "connections to Postgres",
        GREY,
        samples,
        |sample| Some(sample.postgres.as_ref()?.connections as f64),
    )];
    let dead = [
        Line::of(
            "dead rows by Postgres' statistics",
            GREY,
            samples,
            |sample| Some(sample.postgres.as_ref()?.dead_rows.values().sum::<i64>() as f64),
        ),
        Line::of("dead rows, counted", RED, samples, |sample| {
            Some(sample.postgres.as_ref()?.counted_dead_rows? as f64)
        }),
    ];
    draw(
        path,
        &[
            ("memory of each replica, MiB", &memory[..]),
            ("file descriptors of each replica", &descriptors[..]),
            ("connections", &connections[..]),
            ("dead rows", &dead[..]),
        ],
        outcome,
    )
}

/// Plots below one another, with the faults as bands behind them.
fn draw(path: &Path, plots: &[(&str, &[Line])], outcome: &Outcome) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT * plots.len() as u32)).into_drawing_area();
    fill(&root)?;
    for ((title, lines), area) in plots.iter().zip(root.split_evenly((plots.len(), 1))) {
        let values = lines
            .iter()
            .flat_map(|line| line.points.iter().map(|point| point.1));
        let top = values.clone().fold(1.0, f64::max) * 1.05;
        let bottom = values.fold(0.0, f64::min);
        let end = outcome.length.as_secs_f64();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .caption(title, (FONT, 15))
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end, bottom..top)
            .map_err(failed)?;
        let bands = outcome.steps.iter().map(|step| {
            let (from, to) = (step.began.as_secs_f64(), step.ended.as_secs_f64());
            // What lasted no time is to be seen too.
            let to = to.max(from + end / 600.0);
            Rectangle::new([(from, bottom), (to, top)], GREY.mix(0.22).filled())
        });
        chart.draw_series(bands).map_err(failed)?;
        mesh(&mut chart)?;
        for line in *lines {
            // A gap where nothing was seen for a while.
            for part in line.points.chunk_by(|one, next| next.0 - one.0 < 3.0) {
                let drawn = LineSeries::new(part.iter().copied(), line.color.stroke_width(1));
                chart.draw_series(drawn).map_err(failed)?;
            }
            let color = line.color;
            let nothing = LineSeries::new(std::iter::empty::<(f64, f64)>(), color.stroke_width(1));
            chart
                .draw_series(nothing)
                .map_err(failed)?
                .label(line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 12))
            .draw()
            .map_err(failed)?;
    }
    root.present().map_err(failed)
}

fn fill(area: &Area<'_>) -> Result<()> {
    area.fill(&WHITE).map_err(failed)
}

fn mesh<'a, 'b>(
    chart: &mut ChartContext<
        'a,
        SVGBackend<'b>,
        Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
    >,
) -> Result<()> {
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(GREY.mix(0.2))
        .x_desc("seconds")
        .label_style((FONT, 11))
        .draw()
        .map_err(failed)
}

/// The error of a backend borrows it.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot could not be drawn: {error}")
}
