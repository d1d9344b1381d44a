//! What the system says of a process: memory and time.

use std::fs;

use crate::Failure;

/// The unit of processor times in /proc: Linux has the same on all architectures that Rust programs meet.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// The most memory that a process ever had resident, in MiB.
pub fn memory_peak_mib(pid: u32) -> Result<f64, Failure> {
    Ok(memory_bytes(pid, "VmHWM:")? / f64::from(1 << 20))
}

/// The memory that a process has resident, in bytes.
pub fn memory_now_bytes(pid: u32) -> Result<f64, Failure> {
    memory_bytes(pid, "VmRSS:")
}

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

fn memory_bytes(pid: u32, what: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(what)).ok_or("the system does not tell the memory of processes")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}
