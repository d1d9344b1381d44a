//! Clients that have gone and have jobs to which they could still add. Pure.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::scheduler::{ClientKey, Time};

/// How long the jobs of a client that is gone stay open, in case it comes back and goes on. Far longer than a client that lives
/// needs to dial again; what comes later is a new life of it, which cannot add to them.
pub(crate) const ABSENCE_MAX: Duration = Duration::from_secs(5 * 60);

/// Since when which clients are gone.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    since: HashMap<ClientKey, Time>,
}

impl Absences {
    pub fn left(&mut self, client: ClientKey, now: Time) {
        self.since.insert(client, now);
    }

    /// The client is here again, or has nothing left that could be waiting for it.
    pub fn over(&mut self, client: ClientKey) {
        self.since.remove(&client);
    }

    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Those that will not be waited for any longer. Each is named once.
    pub fn take_overdue(&mut self, now: Time) -> HashSet<ClientKey> {
        let overdue = |since: Time| u128::from(now.since(since)) > ABSENCE_MAX.as_micros();
        self.since.extract_if(|_, since| overdue(*since)).map(|(client, _)| client).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stays_away_is_given_up() {
        let mut absences = Absences::default();
        let (a, b, c) = (ClientKey(1), ClientKey(2), ClientKey(3));
        let max = ABSENCE_MAX.as_micros() as u64;
        absences.left(a, Time(10));
        absences.left(b, Time(10));
        absences.left(c, Time(20));
        absences.over(b);
        assert_eq!(absences.take_overdue(Time(10 + max)), [].into());
        assert_eq!(absences.take_overdue(Time(11 + max)), [a].into());
        absences.left(c, Time(40));
        assert_eq!(absences.take_overdue(Time(30 + max)), [].into(), "it was back in between");
        assert_eq!(absences.take_overdue(Time(41 + max)), [c].into());
        assert!(absences.is_empty());
    }
}
