//! Exact factorials: results of any size, and of a type from another crate.

use std::process::ExitCode;

use clap::Parser;
use engineroom_examples::{ClusterOptions, Failure, run, say};
use num_bigint::BigUint;

/// The largest number whose factorial is computed: half a million digits, a few seconds on one core.
const NUMBER_MAX: i64 = 100_000;

/// Prints the factorials of some numbers, exactly.
///
/// Examples:
///   factorial                        of 2 6 10 20 30 40, on an embedded cluster
///   factorial 5 100                  of 5 and 100
///   factorial --profile-dir /tmp/lab on the cluster of that profile
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// Whole numbers from 0 to 100000
    #[arg(value_name = "N", default_values_t = [2, 6, 10, 20, 30, 40], allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(0..=NUMBER_MAX))]
    numbers: Vec<u32>,

    #[command(flatten)]
    cluster: ClusterOptions,
}

fn main() -> ExitCode {
    engineroom::init();
    run(print_factorials)
}

fn print_factorials() -> Result<(), Failure> {
    let options = Options::parse();
    let session = options.cluster.connect()?;
    let factorials = session.client.load_balanced_view().map(factorial, options.numbers.clone()).get()?;
    for (n, factorial) in options.numbers.iter().zip(factorials) {
        say!("{n}! = {factorial}")?;
    }
    Ok(())
}

fn factorial(n: u32) -> BigUint {
    (1..=n).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factorials_are_exact() {
        for (n, value) in
            [(0, "1"), (1, "1"), (2, "2"), (20, "2432902008176640000"), (40, "815915283247897734345611269596115894272000000000")]
        {
            assert_eq!(factorial(n).to_string(), value, "{n}!");
        }
    }

    #[test]
    fn only_small_whole_numbers_are_taken() {
        for garbage in ["-1", "x", "2.5", "100001", ""] {
            assert!(Options::try_parse_from(["factorial", garbage]).is_err(), "{garbage:?}");
        }
        assert_eq!(Options::try_parse_from(["factorial"]).map(|options| options.numbers.len()).ok(), Some(6));
    }
}
