//! What a run found: figures come in, a table for people or JSON for programs goes out.
//!
//! Measures nothing itself.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything a run has to say.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) about: About,
    pub(crate) scenarios: Vec<Scenario>,
}

/// Where, on what and with which settings the figures were had.
#[derive(Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_gib: f64,
    /// Others that ran at the start of the run: figures from a busy machine say so.
    pub(crate) load_average: f64,
    pub(crate) kernel: String,
    /// What this program was built with, and the relay beside it.
    pub(crate) rustc: String,
    pub(crate) relay_version: String,
    pub(crate) relay_build: String,
    pub(crate) postgres_version: String,
    pub(crate) postgres_settings: Vec<(String, String)>,
    /// The cost of one flush of 8 KiB on the disk of the data folder; none where it is elsewhere.
    pub(crate) flush: Option<Figures>,
}

/// One scenario's findings.
#[derive(Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// What was done, in a sentence.
    pub(crate) what: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) notes: Vec<String>,
}

impl Scenario {
    pub(crate) fn new(name: &str, what: String) -> Self {
        Self {
            name: name.to_owned(),
            what,
            rows: Vec::new(),
            bars: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What was measured of one subject.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) subject: String,
    pub(crate) figures: Figures,
}

impl Row {
    pub(crate) fn new(subject: impl Into<String>, figures: Figures) -> Self {
        Self {
            subject: subject.into(),
            figures,
        }
    }
}

/// Named numbers in the order of the table's columns; the unit is the end of the name.
#[derive(Clone, Default)]
pub(crate) struct Figures(Vec<(Cow<'static, str>, f64)>);

impl Figures {
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.0.push((name.into(), value));
        self
    }

    /// Puts another value in the place of one that is there.
    pub(crate) fn set(mut self, name: &str, value: f64) -> Self {
        for (known, old) in &mut self.0 {
            if *known == name {
                *old = value;
            }
        }
        self
    }

    /// Adds percentiles and the maximum of a histogram of nanoseconds, in milliseconds.
    pub(crate) fn with_latency(self, latency: &Histogram<u64>) -> Self {
        let ms = milliseconds;
        self.with("p50_ms", ms(latency.value_at_quantile(0.5)))
            .with("p90_ms", ms(latency.value_at_quantile(0.9)))
            .with("p99_ms", ms(latency.value_at_quantile(0.99)))
            .with("p99.9_ms", ms(latency.value_at_quantile(0.999)))
            .with("max_ms", ms(latency.max()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// A figure that is compared: one that is missing fails every comparison.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.get(name).unwrap_or(f64::NAN)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_ref()).collect()
    }

    /// Names and values, in the order of the table.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The median of each figure over several rounds of the same measurement.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let Some(first) = rounds.first() else {
            return Self::default();
        };
        let median_of = |name: &Cow<'static, str>| {
            let values = rounds
                .iter()
                .filter_map(|round| round.get(name))
                .collect::<Vec<_>>();
            (name.clone(), median(values))
        };
        Self(first.0.iter().map(|(name, _)| median_of(name)).collect())
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Figures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Figures;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("named numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Figures, A::Error> {
                let mut figures = Vec::new();
                // As in `nan_if_null`.
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    figures.push((name.into(), value.unwrap_or(f64::NAN)));
                }
                Ok(Figures(figures))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// JSON has no NaN: a figure that could not be had is null.
fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The median; of an even number the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// A time as the tables show it.
pub(crate) fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Latencies that many tasks record.
#[derive(Clone)]
pub(crate) struct Tally(Arc<Mutex<Histogram<u64>>>);

impl Default for Tally {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(histogram())))
    }
}

impl Tally {
    pub(crate) fn record(&self, latency: Duration) -> Result<()> {
        let mut tally = self.0.lock().ok().context("another task has panicked")?;
        Ok(tally.record(latency.as_nanos() as u64)?)
    }

    /// What was recorded so far.
    pub(crate) fn take(&self) -> Result<Histogram<u64>> {
        let tally = self.0.lock().ok().context("a task has panicked")?;
        Ok(tally.clone())
    }
}

/// A histogram of nanoseconds up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants")]
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that a histogram takes")
}

/// What a figure has to reach, or to stay under.
#[derive(Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) what: String,
    #[serde(deserialize_with = "nan_if_null")]
    pub(crate) figure: f64,
    pub(crate) relation: Relation,
    #[serde(deserialize_with = "nan_if_null")]
    pub(crate) limit: f64,
    pub(crate) met: bool,
}

/// On which side of its limit a figure has to be.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Relation {
    AtLeast,
    AtMost,
    Exactly,
}

impl Bar {
    pub(crate) fn at_least(what: impl Into<String>, figure: f64, limit: f64) -> Self {
        let (relation, met) = (Relation::AtLeast, figure >= limit);
        Self {
            what: what.into(),
            figure,
            relation,
            limit,
            met,
        }
    }

    pub(crate) fn at_most(what: impl Into<String>, figure: f64, limit: f64) -> Self {
        let (relation, met) = (Relation::AtMost, figure <= limit);
        Self {
            what: what.into(),
            figure,
            relation,
            limit,
            met,
        }
    }

    /// For counts, which floats hold exactly.
    pub(crate) fn exactly(what: impl Into<String>, figure: f64, limit: f64) -> Self {
        let (relation, met) = (Relation::Exactly, (figure - limit).abs() < f64::EPSILON);
        Self {
            what: what.into(),
            figure,
            relation,
            limit,
            met,
        }
    }
}

impl Display for Relation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Exactly => "exactly",
        })
    }
}

impl Report {
    pub(crate) fn all_bars_met(&self) -> bool {
        self.scenarios
            .iter()
            .flat_map(|scenario| &scenario.bars)
            .all(|bar| bar.met)
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.about)?;
        for scenario in &self.scenarios {
            write!(out, "\n{scenario}")?;
        }
        Ok(())
    }
}

impl Display for About {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "Machine   {} × {}, {:.1} GiB, load {:.2} at the start",
            self.cores, self.processor, self.memory_gib, self.load_average
        )?;
        writeln!(
            out,
            "          Linux {}, built with {}",
            self.kernel, self.rustc
        )?;
        writeln!(
            out,
            "Relay     {} ({} build)",
            self.relay_version, self.relay_build
        )?;
        writeln!(out, "Postgres  {}", self.postgres_version)?;
        let settings = self
            .postgres_settings
            .iter()
            .map(|(name, value)| format!("{name} = {value}"));
        writeln!(out, "          {}", settings.collect::<Vec<_>>().join(", "))?;
        match &self.flush {
            Some(flush) => writeln!(out, "Flush     {}", flush.in_one_line()),
            None => writeln!(
                out,
                "Flush     not measured: the data folder is out of reach"
            ),
        }
    }
}

impl Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", self.name, self.what)?;
        let width = self
            .rows
            .iter()
            .map(|row| row.subject.chars().count())
            .max()
            .unwrap_or(0);
        let mut columns = Vec::new();
        for row in &self.rows {
            let names = row.figures.names();
            if columns != names {
                let heads = names
                    .iter()
                    .map(|name| format!("  {name:>12}"))
                    .collect::<String>();
                writeln!(out, "  {:width$}{heads}", "")?;
                columns = names;
            }
            let values = row.figures.iter().map(|(name, value)| {
                format!("  {:>width$}", shown(value), width = name.len().max(12))
            });
            writeln!(
                out,
                "  {:width$}{}",
                row.subject,
                values.collect::<String>()
            )?;
        }
        for bar in &self.bars {
            let relation = bar.relation;
            let verdict = if bar.met { "met" } else { "MISSED" };
            let (figure, limit) = (shown(bar.figure), shown(bar.limit));
            writeln!(
                out,
                "  Bar: {} {relation} {limit}: {figure}, {verdict}",
                bar.what
            )?;
        }
        for note in &self.notes {
            writeln!(out, "  Note: {note}")?;
        }
        Ok(())
    }
}

impl Figures {
    pub(crate) fn in_one_line(&self) -> String {
        let figures = self
            .iter()
            .map(|(name, value)| format!("{name} {}", shown(value)));
        figures.collect::<Vec<_>>().join(", ")
    }
}

/// A report for tests: a scenario of each name, with one row of one figure.
#[cfg(test)]
pub(crate) fn sample(scenarios: &[(&str, f64)]) -> Report {
    let scenario = |(name, value): &(&str, f64)| {
        let mut scenario = Scenario::new(name, "what was done".to_owned());
        let subject = format!("the subject of {name}");
        let figures = Figures::default().with("per_s", *value);
        scenario.rows.push(Row::new(subject, figures));
        scenario.bars.push(Bar::at_least("a bar", *value, 1.0));
        scenario
    };
    Report {
        about: About {
            cores: 2,
            processor: "a processor".to_owned(),
            memory_gib: 4.0,
            load_average: 0.5,
            kernel: "6.0".to_owned(),
            rustc: "rustc 1".to_owned(),
            relay_version: "handoff-relay 1".to_owned(),
            relay_build: "release".to_owned(),
            postgres_version: "PostgreSQL 15".to_owned(),
            postgres_settings: vec![("fsync".to_owned(), "on".to_owned())],
            flush: None,
        },
        scenarios: scenarios.iter().map(scenario).collect(),
    }
}

/// Three digits that count, and no more.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ if value == value.trunc() => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::{Bar, Figures, shown};

    #[test]
    fn rounds_are_summed_up_by_the_median_of_each_figure() {
        let round = |rate, cost| Figures::default().with("per_s", rate).with("us", cost);
        let rounds = [round(30.0, 1.0), round(10.0, 2.0), round(20.0, 9.0)];
        let median = Figures::median(&rounds);
        assert_eq!(median.get("per_s"), Some(20.0));
        assert_eq!(median.get("us"), Some(2.0));
        assert_eq!(Figures::median(&rounds[..2]).get("per_s"), Some(20.0));
    }

    #[test]
    fn a_report_is_read_as_it_was_saved() {
        let report = super::sample(&[("post", 2.5), ("read", f64::NAN)]);
        let saved = serde_json::to_string(&report).unwrap();
        let read: super::Report = serde_json::from_str(&saved).unwrap();
        assert_eq!(report.to_string(), read.to_string());
    }

    #[test]
    fn a_bar_that_cannot_be_measured_is_missed() {
        assert!(Bar::at_least("ratio", 4.0, 4.0).met);
        assert!(!Bar::at_least("ratio", f64::NAN, 4.0).met);
        assert!(!Bar::at_most("ratio", f64::NAN, 1.2).met);
        assert!(!Bar::exactly("count", f64::NAN, 1.0).met);
    }

    #[test]
    fn figures_show_the_digits_that_count() {
        assert_eq!(
            [25_812.4, 12.34, 0.456, 3.0].map(shown),
            ["25812", "12.3", "0.46", "3"]
        );
    }
}
