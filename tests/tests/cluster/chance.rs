//! Random choices that can be made again.

use std::time::{SystemTime, UNIX_EPOCH};

/// splitmix64: small, fast and the same everywhere.
pub struct Chance(u64);

impl Chance {
    /// By `ENGINEROOM_SEED`, or by the clock; says which.
    pub fn seeded() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let seed = std::env::var("ENGINEROOM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(clock);
        println!("ENGINEROOM_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}
