//! How many tasks go in one batch.

use super::{Chunk, Settings, Weight};

/// A batch is at most this many times the largest one that was measured: tasks may differ, and one short one proves little.
const GROWTH: u32 = 8;

/// The weight of a new measurement in the mean. A quarter follows a change within a few batches and is not thrown by one.
const WEIGHT: f64 = 0.25;

/// A batch is not made smaller than this, in microseconds of work, so that more engines have some: its own messages would take longer.
const WORTHWHILE_US: f64 = 200.0;

/// What is charged for a task that was never measured, in microseconds. Corrected as soon as it has run.
const GUESS_US: u32 = 1_000;

/// How long the tasks of a job take, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    mean_us: Option<f64>,
    /// How far batches were from the mean, on the average: large when a long task may be among short ones.
    spread_us: f64,
    /// The most tasks in a batch, by what was measured so far.
    growth: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { mean_us: None, spread_us: 0.0, growth: 1 }
    }
}

impl Pace {
    /// A first idea of the duration, from tasks of a batch that still runs. Counts only while there is none.
    pub(crate) fn hint(&mut self, count: u32, busy_us: u64) {
        self.mean_us.get_or_insert(busy_us as f64 / f64::from(count.max(1)));
    }

    /// A batch of `count` tasks has taken `busy_us`.
    pub(crate) fn measure(&mut self, count: u32, busy_us: u64) {
        let sample = busy_us as f64 / f64::from(count.max(1));
        let mean = self.mean_us.unwrap_or(sample);
        self.spread_us += WEIGHT * ((sample - mean).abs() - self.spread_us);
        self.mean_us = Some(mean + WEIGHT * (sample - mean));
        self.growth = self.growth.max(count.saturating_mul(GROWTH));
    }

    /// How long `count` tasks will probably take, in microseconds.
    pub(crate) fn expect_us(&self, count: u32) -> Option<u64> {
        Some((self.mean_us? * f64::from(count)) as u64)
    }

    /// What to charge for a task, in whole microseconds; never nothing, and at most an hour and some: the rest is charged as it is
    /// reported.
    pub(crate) fn price_us(&self) -> u32 {
        self.mean_us.map_or(GUESS_US, |mean| (mean as u32).max(1))
    }
}

/// How long the arguments of a job's tasks are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    tasks: u64,
    bytes: u64,
    longest_bytes: u64,
}

impl Load {
    /// `count` more tasks of that weight.
    pub(crate) fn add(&mut self, count: u32, weight: Weight) {
        self.tasks = self.tasks.saturating_add(count.into());
        self.bytes = self.bytes.saturating_add(weight.bytes);
        self.longest_bytes = self.longest_bytes.max(weight.longest_bytes);
    }

    /// The most tasks whose arguments may go at once. By the mean, and by the longest so that an uneven job cannot break the bound.
    pub(crate) fn tasks_max(&self, settings: &Settings, chunk: Chunk) -> u32 {
        let certain = settings.batch_bytes_max / self.longest_bytes.max(1);
        let usual = match chunk {
            Chunk::Fixed(_) => u64::MAX,
            Chunk::Adaptive => settings.batch_bytes.saturating_mul(self.tasks) / self.bytes.max(1),
        };
        u32::try_from(certain.min(usual)).unwrap_or(u32::MAX).max(1)
    }
}

/// Whether other clients have queued tasks too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contention {
    Alone,
    Shared,
}

/// How many tasks to send at once when `queued` are left and `engines` engines can run them.
pub(crate) fn batch_size(
    settings: &Settings,
    chunk: Chunk,
    pace: &Pace,
    queued: u32,
    engines: u32,
    contention: Contention,
) -> u32 {
    if let Chunk::Fixed(count) = chunk {
        return count.get().min(settings.chunk_tasks_max).max(1);
    }
    let Some(mean_us) = pace.mean_us else { return 1 };
    let target_us = match contention {
        Contention::Alone => settings.batch_target_us,
        Contention::Shared => settings.batch_target_us / 2,
    };
    // Where a long task may be among short ones, fewer are held up behind it. Half the spread is enough for that: all of it makes
    // batches of evenly distributed durations shorter than the way to the engine.
    // A float converts to the nearest integer of the range: a mean of 0 gives `u32::MAX`.
    let each_us = mean_us + pace.spread_us / 2.0;
    let timely = (target_us as f64 / each_us) as u32;
    // Towards the end, so little at once that all engines end at about the same time.
    let guided = queued.div_ceil(engines.max(1).saturating_mul(2));
    let worthwhile = (WORTHWHILE_US / each_us) as u32;
    timely.min(guided.max(worthwhile).min(queued)).min(pace.growth).min(settings.batch_tasks_max).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn pace(batches: &[(u32, u64)]) -> Pace {
        let mut pace = Pace::default();
        batches.iter().for_each(|(count, busy_us)| pace.measure(*count, *busy_us));
        pace
    }

    #[test]
    fn size_by_rule() {
        let settings = Settings::default();
        let fixed = Chunk::Fixed(NonZeroU32::new(7).unwrap());
        let (a, alone, shared) = (Chunk::Adaptive, Contention::Alone, Contention::Shared);
        for (what, chunk, pace, queued, engines, contention, expected) in [
            ("unknown duration", a, pace(&[]), 1_000_000, 2, alone, 1),
            ("at most eight times what was measured", a, pace(&[(1, 1)]), 1_000_000, 2, alone, 8),
            ("growth goes by the largest batch", a, pace(&[(1, 1), (1, 1), (1, 1)]), 1_000_000, 2, alone, 8),
            ("the target", a, pace(&[(64, 640)]), 1_000_000, 2, alone, 400),
            ("half the target with others", a, pace(&[(64, 640)]), 1_000_000, 2, shared, 200),
            ("near the end", a, pace(&[(64, 640)]), 801, 4, alone, 101),
            ("no less than is worth its messages", a, pace(&[(64, 640)]), 800, 1_000, alone, 20),
            ("the last one", a, pace(&[(64, 640)]), 1, 4, alone, 1),
            ("long tasks", a, pace(&[(1, 1_000_000)]), 1_000_000, 2, alone, 1),
            ("tasks of no time", a, pace(&[(4_096, 0)]), 1_000_000, 2, alone, 2_048),
            (
                "fewer of uneven ones: a mean of 30 µs, a spread of 20",
                a,
                pace(&[(64, 640), (64, 5_760)]),
                1_000_000,
                2,
                alone,
                100,
            ),
            ("fixed", fixed, pace(&[]), 1_000_000, 2, alone, 7),
            ("fixed stays fixed", fixed, pace(&[(64, 640)]), 3, 2, shared, 7),
        ] {
            assert_eq!(batch_size(&settings, chunk, &pace, queued, engines, contention), expected, "{what}");
        }
    }

    #[test]
    fn a_fixed_chunk_has_a_bound() {
        let settings = Settings { chunk_tasks_max: 100, ..Settings::default() };
        let fixed = Chunk::Fixed(NonZeroU32::MAX);
        assert_eq!(batch_size(&settings, fixed, &pace(&[]), u32::MAX, 1, Contention::Alone), 100);
    }

    #[test]
    fn long_arguments_go_a_few_at_a_time() {
        let settings = Settings { batch_bytes: 1_000, batch_bytes_max: 10_000, ..Settings::default() };
        let fixed = Chunk::Fixed(NonZeroU32::MAX);
        for (what, tasks, bytes, longest_bytes, adaptive, of_fixed) in [
            ("nothing known", 0, 0, 0, 1, 10_000),
            ("no arguments", 5, 0, 0, 5_000, 10_000),
            ("even ones", 10, 1_000, 100, 10, 100),
            ("a long one among short ones", 1_000, 6_000, 5_001, 1, 1),
            ("a fairly long one among short ones", 1_000, 6_000, 500, 20, 20),
            ("longer than any batch", 3, 60_000, 20_000, 1, 1),
            ("absurd", u32::MAX, u64::MAX, u64::MAX, 1, 1),
        ] {
            let mut load = Load::default();
            load.add(tasks, Weight { bytes, longest_bytes });
            assert_eq!(load.tasks_max(&settings, Chunk::Adaptive), adaptive, "{what}");
            assert_eq!(load.tasks_max(&settings, fixed), of_fixed, "{what}, fixed");
        }
    }

    #[test]
    fn the_mean_follows_a_change() {
        let mut pace = pace(&[(10, 1_000)]);
        assert_eq!(pace.expect_us(1), Some(100));
        (0..20).for_each(|_| pace.measure(10, 10_000));
        assert!(pace.price_us() > 950, "{pace:?}");
    }

    #[test]
    fn a_hint_counts_only_while_nothing_is_known() {
        let mut pace = Pace::default();
        pace.hint(2, 500);
        assert_eq!(pace.expect_us(4), Some(1_000));
        pace.hint(1, 9_999);
        assert_eq!(pace.expect_us(4), Some(1_000));
    }
}
