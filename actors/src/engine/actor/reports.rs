//! How outcomes get to the controller, and that they are kept until it has them.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message};
use engineroom_runtime::{net::link::INLINE_BYTES_MAX, proto::packet::CloseCode};

use super::EngineActor;
use crate::wire::Report;

/// How many reports may be under way to the controller without its acknowledgement. Beyond it the engine starts nothing
/// new: a controller that cannot keep outcomes is not given more.
const REPORTS_MAX: usize = 256;

/// How long the controller may take to acknowledge a report before the link is given up. Long: its disk may be full, and a link
/// that is silent is given up sooner.
pub(crate) const REPORT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// A link that carries less than this many bytes a second is given up while it carries a long result.
const REPORT_BYTES_PER_SECOND_MIN: u64 = 256 << 10;

/// How many bytes of outcomes one report has, unless a single one is longer. Fits what travels inline.
const REPORT_BYTES: usize = 24 << 10;

/// What a report needs beside its outcomes, in bytes.
const REPORT_MARGIN_BYTES: usize = 128;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Acknowledged {
    link: u64,
    number: u64,
    bulk: bool,
    failure: Option<String>,
}

impl EngineActor {
    /// Whether the controller keeps up with the reports, so that another batch may begin.
    pub(super) fn may_begin(&self) -> bool {
        self.holdings.reports() < REPORTS_MAX
    }

    /// Reports go out in parts that travel inline, which keeps their order; one long result travels alone.
    pub(super) fn put_out(&mut self, reports: Vec<Report>) {
        for Report { engine, batch, first, outcomes } in reports {
            let (mut first, engine) = (first, self.id.unwrap_or(engine));
            for outcomes in outcomes.split(REPORT_BYTES) {
                // A batch has fewer than 2^32 tasks.
                let count = outcomes.len() as u32;
                self.holdings.report(Report { engine, batch, first, outcomes });
                first += count;
            }
        }
    }

    pub(super) fn send_reports(&mut self, context: &mut Context<Self>) {
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| self.resumed) else { return };
        while let Some(report) = self.holdings.next() {
            let bytes = report.outcomes.bytes();
            let bulk = bytes + REPORT_MARGIN_BYTES > INLINE_BYTES_MAX;
            let under_way = self.holdings.under_way();
            if self.bulk_under_way || (bulk && under_way > 0) || under_way >= REPORTS_MAX {
                return;
            }
            let answer = scheduler.ask(report, REPORT_DEADLINE + Duration::from_secs(bytes as u64 / REPORT_BYTES_PER_SECOND_MIN));
            let Some(number) = self.holdings.sent() else { return };
            let (link, own) = (scheduler.link().id(), context.address());
            actix_rt::spawn(async move {
                let failure = answer.await.err().map(|error| error.to_string());
                own.do_send(Acknowledged { link, number, bulk, failure });
            });
            self.bulk_under_way = bulk;
        }
    }
}

impl Handler<Acknowledged> for EngineActor {
    type Result = ();

    fn handle(&mut self, acknowledged: Acknowledged, context: &mut Context<Self>) {
        let Some(scheduler) = self.scheduler.as_ref().filter(|scheduler| scheduler.link().id() == acknowledged.link) else {
            return;
        };
        if let Some(failure) = acknowledged.failure {
            return scheduler.link().close(CloseCode::Internal, &format!("a report was not acknowledged: {failure}"));
        }
        self.holdings.acknowledged(acknowledged.number);
        if acknowledged.bulk {
            self.bulk_under_way = false;
        }
        self.advance(context);
    }
}
