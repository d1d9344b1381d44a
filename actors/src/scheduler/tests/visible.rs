//! What can be seen from outside.

use super::*;
use crate::scheduler::status::{ClientStatus, EngineStatus, RunningStatus};

fn waits(rig: &Rig) -> Vec<Option<String>> {
    rig.scheduler.status().clients.into_iter().map(|client| client.waits).collect()
}

#[test]
fn status_says_why_tasks_wait() {
    let mut rig = Rig::plain(0);
    rig.submit(spec(1), 2);
    assert_eq!(waits(&rig), [Some("no engines are connected".into())]);

    rig.scheduler.engine_joined(Time(0), EngineId(9), Capability { target: "wasm32-wasip1".into(), ..process() });
    assert_eq!(waits(&rig), [Some("no connected engine can run x86_64-unknown-linux-gnu bundle abababab…".into())]);

    rig.join(1);
    assert_eq!(waits(&rig), [Some("all engines are busy".into())]);

    let named = Requirement::Named { name: "sum".into() };
    rig.submit(JobSpec { client: ClientKey(2), requirement: named.clone(), ..spec(2) }, 1);
    rig.submit(JobSpec { requirement: named, ..spec(3) }, 1);
    let unmet = Some("no connected engine offers the task \"sum\"".to_string());
    assert_eq!(waits(&rig), [unmet.clone(), unmet]);

    rig.scheduler.engine_draining(EngineId(1));
    rig.scheduler.engine_draining(EngineId(9));
    assert_eq!(waits(&rig), vec![Some("all connected engines are about to leave".to_string()); 2]);
}

#[test]
fn status_says_who_is_where() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 4), 10);
    rig.submit(JobSpec { placement: Placement::Direct(vec![(EngineId(1), 1)]), client: ClientKey(2), ..spec(2) }, 1);
    let (batch, ..) = rig.running(1);
    rig.scheduler.progress(Time(0), EngineId(1), batch, 0, 1, 5).unwrap();
    let status = rig.scheduler.status();
    let busy = Some("all engines are busy".to_string());
    let bound = Some("the engines that its tasks are bound to are busy".to_string());
    assert_eq!(
        status.clients,
        [
            ClientStatus { client: ClientKey(1), jobs: 1, queued: 2, active: 7, waits: busy },
            ClientStatus { client: ClientKey(2), jobs: 1, queued: 1, active: 0, waits: bound },
        ]
    );
    let running = Some(RunningStatus { job: JobId::from_u128(1), remaining: 3 });
    assert_eq!(status.engines, [EngineStatus { engine: EngineId(1), running, waiting: 4, completed: 1, draining: false }]);
}
