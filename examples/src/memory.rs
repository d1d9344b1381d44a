//! What this process weighs.

use std::fs;

/// The most memory that this process ever had resident, in MiB, or `None` where the system does not say (it does on Linux).
pub fn peak_resident_mib() -> Option<u64> {
    peak_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_in(status: &str) -> Option<u64> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_found_in_what_linux_says() {
        assert_eq!(peak_in("Name:\tlazy\nVmPeak:\t  9999 kB\nVmHWM:\t   20481 kB\nVmRSS:\t  100 kB\n"), Some(21));
        assert_eq!(peak_in("Name:\tlazy\n"), None);
        assert_eq!(peak_in("VmHWM: plenty"), None);
    }
}
