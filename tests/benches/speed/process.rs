//! What the system says of the time that a process takes.

use std::fs;

use crate::Failure;

/// The unit of processor times in /proc: Linux has the same on all architectures that Rust programs meet.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// The processor time that a process has taken, in seconds: its own and the system's for it, of all its threads.
pub fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses, may hold anything, and is the second field.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok());
    // Fields 14 and 15 of the whole.
    let (own, system) = ticks(11).zip(ticks(12)).ok_or("the system does not tell the time of processes")?;
    Ok((own + system) / CLOCK_TICKS_PER_SECOND)
}
