//! Which submissions are acknowledged late, so that a client does not run far ahead of the engines.

use super::{CLIENT_ARGUMENT_BYTES_MAX, Ledger};
use crate::scheduler::{ClientKey, Scheduler};
use crate::task::JobId;

/// Of which jobs of a client the acknowledgements are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldBack {
    Nothing,
    /// Those that wait for others.
    Waiting,
    All,
}

impl HeldBack {
    /// By what is held for a client, and how much of it belongs to jobs that wait for others. These give nothing back before the others
    /// have ended: however much they hold, the others go on.
    fn by(held_bytes: usize, waiting_bytes: impl FnOnce() -> usize) -> Self {
        if held_bytes <= CLIENT_ARGUMENT_BYTES_MAX {
            HeldBack::Nothing
        } else if held_bytes.saturating_sub(waiting_bytes()) <= CLIENT_ARGUMENT_BYTES_MAX / 2 {
            HeldBack::Waiting
        } else {
            HeldBack::All
        }
    }

    /// Whether those of that job are among them.
    pub fn includes(self, core: &Scheduler, job: JobId) -> bool {
        match self {
            HeldBack::Nothing => false,
            HeldBack::Waiting => core.waits_for_others(job),
            HeldBack::All => true,
        }
    }
}

impl Ledger {
    /// Of which jobs of a client the acknowledgements are to be held back now. Costs a step for each job once much is held for it.
    pub fn held_back(&self, core: &Scheduler, client: ClientKey) -> HeldBack {
        HeldBack::by(self.account(client).argument_bytes, || self.waiting_bytes(core, client))
    }

    /// The bytes of arguments of the client's jobs that wait for others.
    fn waiting_bytes(&self, core: &Scheduler, client: ClientKey) -> usize {
        let waiting = self.jobs.iter().filter(|(id, job)| job.client == client && core.waits_for_others(**id));
        waiting.map(|(_, job)| job.arguments.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ADA, BOB, Rig, after, id, opening};
    use super::*;

    #[test]
    fn what_waits_for_others_does_not_hold_those_back() {
        const MAX: usize = CLIENT_ARGUMENT_BYTES_MAX;
        for (held, waiting, expected) in [
            (MAX, MAX, HeldBack::Nothing),
            (MAX + 1, 0, HeldBack::All),
            (MAX + 1, MAX / 2, HeldBack::All),
            (MAX + 1, MAX / 2 + 1, HeldBack::Waiting),
            (2 * MAX, 2 * MAX, HeldBack::Waiting),
        ] {
            assert_eq!(HeldBack::by(held, || waiting), expected, "{held} {waiting}");
        }
        let mut rig = Rig::new();
        rig.submit(ADA, opening(1, 5, true)).unwrap();
        rig.submit(ADA, after(1, opening(2, 3, true))).unwrap();
        rig.submit(BOB, after(1, opening(3, 3, true))).unwrap();
        let Rig { ledger, core, .. } = &rig;
        assert_eq!(ledger.waiting_bytes(core, ClientKey(ADA)), ledger.job(id(2)).unwrap().arguments.bytes());
        let included = |held: HeldBack| [1, 2].map(|job| held.includes(core, id(job)));
        let all = [HeldBack::Nothing, HeldBack::Waiting, HeldBack::All].map(included);
        assert_eq!(all, [[false, false], [false, true], [true, true]]);
    }
}
