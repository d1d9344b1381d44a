//! Lines of the table: a figure, its unit, and what is expected of it.

/// One figure of a row, and what is expected of it.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// What it is, in words.
    pub what: &'static str,
    /// Its name in the reading.
    pub figure: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// What is expected.
    pub target: Target,
}

/// What is expected of a figure. Where another figure is named, it is the one of the same run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Nothing: it tells how things are.
    None,
    /// Nothing, but it is best seen beside that figure.
    Beside(&'static str),
    /// At most this, in the unit of the line.
    AtMost(f64),
    /// At least this, in the unit of the line.
    AtLeast(f64),
    /// At most so many times that figure.
    AtMostTimes(f64, &'static str),
    /// At least so many times that figure.
    AtLeastTimes(f64, &'static str),
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Millionths of a second.
    Micros,
    /// How often a second.
    PerSecond,
    /// 2^20 bytes.
    Mib,
    /// 10^6 bytes a second.
    MbPerSecond,
    /// Bytes.
    Bytes,
    /// Billionths of a second.
    Nanos,
    /// Seconds.
    Seconds,
    /// Hundredths.
    Percent,
}

impl Line {
    /// The figure that this one is compared with.
    pub fn limit(&self) -> Option<&'static str> {
        match self.target {
            Target::Beside(figure) | Target::AtMostTimes(_, figure) | Target::AtLeastTimes(_, figure) => Some(figure),
            Target::None | Target::AtMost(_) | Target::AtLeast(_) => None,
        }
    }

    /// Whether the target is met; `None` where there is none. `ratio` is the figure over its limit.
    pub fn is_met(&self, figure: f64, ratio: Option<f64>) -> Option<bool> {
        match self.target {
            Target::None | Target::Beside(_) => None,
            Target::AtMost(most) => Some(figure <= most),
            Target::AtLeast(least) => Some(figure >= least),
            Target::AtMostTimes(most, _) => ratio.map(|ratio| ratio <= most),
            Target::AtLeastTimes(least, _) => ratio.map(|ratio| ratio >= least),
        }
    }

    /// The target, as it stands in the table.
    pub fn target_text(&self) -> String {
        match self.target {
            Target::None | Target::Beside(_) => String::new(),
            Target::AtMost(most) => format!("≤ {}", self.unit.show(most)),
            Target::AtLeast(least) => format!("≥ {}", self.unit.show(least)),
            Target::AtMostTimes(most, _) => format!("≤ {most} ×"),
            Target::AtLeastTimes(least, _) => format!("≥ {least} ×"),
        }
    }
}

impl Unit {
    /// A figure of this unit, for people.
    pub fn show(self, figure: f64) -> String {
        match self {
            Unit::Micros => format!("{figure:.0} µs"),
            Unit::PerSecond if figure >= 1e6 => format!("{:.2} M/s", figure / 1e6),
            Unit::PerSecond if figure >= 1e3 => format!("{:.1} k/s", figure / 1e3),
            Unit::PerSecond => format!("{figure:.0} /s"),
            Unit::Mib => format!("{figure:.0} MiB"),
            Unit::MbPerSecond => format!("{figure:.0} MB/s"),
            Unit::Bytes => format!("{figure:.1} B"),
            Unit::Nanos => format!("{figure:.0} ns"),
            Unit::Seconds => format!("{figure:.3} s"),
            Unit::Percent => format!("{figure:.2} %"),
        }
    }
}
