//! The curve for people (a table) and for programs (CSV).

use std::fmt::Write as _;

use super::Tally;

/// What was found at one T.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The transmissibility.
    pub t: f64,
    /// How many nodes the networks have.
    pub nodes: u32,
    /// The outbreaks.
    pub tally: Tally,
    /// What theory says that the mean size is, as a fraction of all nodes, where there is a theory.
    pub theory: Option<f64>,
}

impl Point {
    /// The mean size of the outbreaks that took off, as a fraction of all nodes, or `None` without one.
    pub fn mean_size(&self) -> Option<f64> {
        self.tally.mean().map(|mean| mean / f64::from(self.nodes))
    }

    /// The standard error of the mean size, or `None` with fewer than two outbreaks.
    pub fn standard_error(&self) -> Option<f64> {
        self.tally.standard_error().map(|error| error / f64::from(self.nodes))
    }
}

/// The curve as aligned columns, one line a point; `-` stands for what is not defined.
pub fn table(curve: &[Point]) -> String {
    let mut out = format!("{:>7}  {:>9}  {:>10}  {:>7}  {:>9}\n", "T", "mean size", "std. error", "theory", "outbreaks");
    for point in curve {
        let number = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let of = format!("{}/{}", point.tally.outbreaks, point.tally.started);
        let (mean, error, theory) = (number(point.mean_size(), 4), number(point.standard_error(), 5), number(point.theory, 4));
        // Writing to a string does not fail.
        let _ = writeln!(out, "{:>7.4}  {mean:>9}  {error:>10}  {theory:>7}  {of:>9}", point.t);
    }
    out
}

/// The curve as CSV with the header `t,mean_size,std_error,theory,outbreaks`; a field that is not defined is empty.
pub fn csv(curve: &[Point]) -> String {
    let mut out = String::from("t,mean_size,std_error,theory,outbreaks\n");
    for point in curve {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
        let (mean, error, theory) = (number(point.mean_size()), number(point.standard_error()), number(point.theory));
        // Writing to a string does not fail.
        let _ = writeln!(out, "{:.6},{mean},{error},{theory},{}", point.t, point.tally.outbreaks);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Vec<Point> {
        let tally = |sizes: &[u32]| {
            let mut tally = Tally::default();
            sizes.iter().for_each(|&size| tally.add(size, 22));
            tally
        };
        vec![
            Point { t: 0.05, nodes: 100, tally: tally(&[1, 3]), theory: Some(0.0) },
            Point { t: 1.0 / 3.0, nodes: 100, tally: tally(&[60, 1]), theory: Some(0.5) },
            Point { t: 1.0, nodes: 100, tally: tally(&[96, 100]), theory: None },
        ]
    }

    #[test]
    fn the_csv_is_as_documented() {
        let expected = "t,mean_size,std_error,theory,outbreaks\n\
                        0.050000,,,0.000000,0\n\
                        0.333333,0.600000,,0.500000,1\n\
                        1.000000,0.980000,0.020000,,2\n";
        assert_eq!(csv(&curve()), expected);
    }

    #[test]
    fn the_table_is_aligned() {
        let expected = "      T  mean size  std. error   theory  outbreaks\n \
                        0.0500          -           -   0.0000        0/2\n \
                        0.3333     0.6000           -   0.5000        1/2\n \
                        1.0000     0.9800     0.02000        -        2/2\n";
        assert_eq!(table(&curve()), expected);
    }
}
