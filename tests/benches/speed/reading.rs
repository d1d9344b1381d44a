//! What one process has measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statistics::{median, percentile};

/// What one process has measured of one row, or one run of all of them. The units are part of the names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reading {
    /// The figures that lines of the table are made of.
    pub figures: BTreeMap<String, f64>,
    /// What they were computed from, in the order in which it came, where there was more than one.
    pub samples: BTreeMap<String, Vec<f64>>,
}

impl Reading {
    /// With one more figure.
    pub fn figure(mut self, name: &str, value: f64) -> Self {
        self.figures.insert(name.to_owned(), value);
        self
    }

    /// With the percentiles 50 and 99 of samples, as `<name>.p50_us` and `<name>.p99_us`, and the samples.
    pub fn trips(self, name: &str, trips_us: Vec<f64>) -> Self {
        let (p50, p99) = (percentile(&trips_us, 0.5), percentile(&trips_us, 0.99));
        self.figure(&format!("{name}.p50_us"), p50)
            .figure(&format!("{name}.p99_us"), p99)
            .samples(&format!("{name}.us"), trips_us)
    }

    /// With samples.
    pub fn samples(mut self, name: &str, samples: Vec<f64>) -> Self {
        self.samples.insert(name.to_owned(), samples);
        self
    }

    /// One reading of several, of the same row or of others: medians of the figures, and all samples.
    pub fn merged(rounds: Vec<Reading>) -> Self {
        let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for round in rounds {
            round.figures.into_iter().for_each(|(name, figure)| figures.entry(name).or_default().push(figure));
            round.samples.into_iter().for_each(|(name, more)| samples.entry(name).or_default().extend(more));
        }
        let medians = figures.iter().map(|(name, all)| (name.clone(), median(all))).collect();
        // What a median was taken of is worth knowing too, where a row has not said so itself.
        for (name, all) in figures.into_iter().filter(|(_, all)| all.len() > 1) {
            samples.entry(name).or_insert(all);
        }
        Self { figures: medians, samples }
    }
}
