//! Faults that a route injects. Istio: `http[].fault`.

use super::answer::Answer;
use super::connection::Connection;
use super::deadline::{Interrupted, alongside};
use super::record::Record;
use super::retries::client_gone;
use crate::rt;
use crate::stats::{Counter, ResponseFlags};
use crate::worker::Worker;
use ringroad_policy::snapshot::{AbortAnswer, Fault, FaultAbort, FaultDelay};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How an injection ended.
pub enum Injected {
    /// The request goes on.
    Nothing,
    /// It is answered so.
    Abort(Answer),
    /// The client left within the delay.
    ClientGone,
    /// The connection's deadline passed within the delay.
    TimedOut,
}

/// Draws the delay and then the abort, each by itself, and waits the delay out.
pub async fn inject(
    fault: &Fault,
    worker: &Worker,
    connection: &Connection,
    record: &mut Record<'_>,
) -> Injected {
    let draw = |share: ringroad_policy::snapshot::PartsPerMillion| {
        share.hits(&mut worker.random.borrow_mut())
    };
    if let Some(delay) = fault.delay.as_ref().filter(|delay| draw(delay.share)) {
        match wait(delay, worker, connection, record).await {
            Injected::Nothing => {}
            cut => return cut,
        }
    }
    match fault.abort.as_ref().filter(|abort| draw(abort.share)) {
        Some(abort) => {
            connection.listener.stats.fault_aborts_injected.add(1);
            Injected::Abort(abort_answer(abort))
        }
        None => Injected::Nothing,
    }
}

async fn wait(
    delay: &FaultDelay,
    worker: &Worker,
    connection: &Connection,
    record: &mut Record<'_>,
) -> Injected {
    let stats = &connection.listener.stats;
    let most = worker.limits().settings.max_active_faults;
    let held = HeldRequest::count(&worker.fleet.delayed_requests, &stats.faults_active, most);
    let Some(_held) = held else {
        stats.faults_overflow.add(1);
        return Injected::Nothing;
    };
    stats.fault_delays_injected.add(1);
    record.flag(ResponseFlags::DELAY_INJECTED);
    let over = pin!(rt::sleep_until(
        rt::now() + Duration::from_millis(delay.delay_ms)
    ));
    let gone = pin!(client_gone(&connection.stream));
    match alongside(&connection.deadline, gone, over).await {
        Ok(()) => Injected::Nothing,
        Err(Interrupted::Side(())) => Injected::ClientGone,
        Err(Interrupted::Elapsed) => Injected::TimedOut,
    }
}

fn abort_answer(abort: &FaultAbort) -> Answer {
    match abort.answer {
        AbortAnswer::HttpStatus(status) => Answer::injected(status),
        AbortAnswer::GrpcStatus(status) => Answer::injected_grpc(status),
    }
}

/// A delayed request, counted until this is dropped.
struct HeldRequest<'a> {
    /// Of all workers.
    held: &'a AtomicU64,
    /// Of the listener.
    active: &'a Counter,
}

impl<'a> HeldRequest<'a> {
    fn count(held: &'a AtomicU64, active: &'a Counter, most: u64) -> Option<Self> {
        active.add(1);
        let counted = Self { held, active };
        (held.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for HeldRequest<'_> {
    fn drop(&mut self) {
        self.active.sub(1);
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}
