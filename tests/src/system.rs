//! What the system says of processes.

use std::{fs, path::Path};

/// The most memory that a process ever had resident, in MiB.
///
/// # Panics
/// When there is no such process.
pub fn memory_peak_mib(pid: u32) -> u64 {
    memory_kib(pid, "VmHWM:").div_ceil(1024)
}

/// The memory that a process has resident, in MiB.
///
/// # Panics
/// When there is no such process.
pub fn memory_now_mib(pid: u32) -> u64 {
    memory_kib(pid, "VmRSS:").div_ceil(1024)
}

/// The memory that a process has resident, in bytes.
///
/// # Panics
/// When there is no such process.
pub fn memory_now_bytes(pid: u32) -> u64 {
    1024 * memory_kib(pid, "VmRSS:")
}

fn memory_kib(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let memory = status.lines().find_map(|line| line.strip_prefix(what)).expect("Linux tells it");
    memory.trim().trim_end_matches("kB").trim().parse().expect("a number of kB")
}

/// Whether a process of this id exists and has not ended.
pub fn process_exists(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // After the name in parentheses, which may hold anything, comes the state.
    !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

/// The living processes whose environment has this directory as the home of engineroom: id and command line.
pub(crate) fn processes_of(home: &Path) -> Vec<(u32, String)> {
    let mark = format!("ENGINEROOM_HOME={}", home.display());
    let has_mark = |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes());
    let entries = fs::read_dir("/proc").expect("the test runs on Linux");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = pids.filter(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(has_mark) && process_exists(*pid));
    ours.map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " "))).collect()
}
