//! Which points of a parameter space an experiment looks at.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One point of the parameter space.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How busy the server is, from 0 to below 1.
    pub load: f64,
    /// How many customers come.
    pub customers: u32,
}

/// How points are made of the values of each parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Design {
    /// Every load with every number of customers
    Factorial,
    /// The first load with the first number of customers, the second with the second, and so on
    Pointwise,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load {}, {} customers", self.load, self.customers)
    }
}

/// The points of a design.
///
/// # Errors
/// When a load is no load, or a pointwise design has more values of one parameter than of the other.
pub fn points(design: Design, loads: &[f64], customers: &[u32]) -> Result<Vec<Point>, String> {
    if let Some(load) = loads.iter().find(|load| !(0.0..1.0).contains(*load)) {
        return Err(format!("a load of {load} has no steady state: it must be from 0 to below 1"));
    }
    let point = |(&load, &customers)| Point { load, customers };
    match design {
        Design::Factorial => {
            Ok(loads.iter().flat_map(|load| customers.iter().map(move |count| (load, count))).map(point).collect())
        }
        Design::Pointwise if loads.len() == customers.len() => Ok(loads.iter().zip(customers).map(point).collect()),
        Design::Pointwise => Err(format!(
            "a pointwise design has as many loads as numbers of customers, not {} and {}",
            loads.len(),
            customers.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn designs_combine_all_values_or_those_in_one_place() {
        let all = points(Design::Factorial, &[0.1, 0.2], &[1, 2, 3]).unwrap();
        assert_eq!((all.len(), all[3]), (6, Point { load: 0.2, customers: 1 }));
        let pairs = points(Design::Pointwise, &[0.1, 0.2], &[1, 2]).unwrap();
        assert_eq!(pairs, [Point { load: 0.1, customers: 1 }, Point { load: 0.2, customers: 2 }]);
        assert!(points(Design::Pointwise, &[0.1], &[1, 2]).unwrap_err().contains("not 1 and 2"));
        assert!(points(Design::Factorial, &[1.0], &[1]).is_err());
    }
}
