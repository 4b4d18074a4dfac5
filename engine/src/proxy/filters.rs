//! What a route does with a request before it is asked where that goes: faults, then cross-origin
//! rules, in the order of Envoy's filters. It does so also where there is no such cluster.

use super::answer::Answer;
use super::connection::Connection;
use super::cors::CorsVerdict;
use super::edits::EditLevels;
use super::fault::{Injected, inject};
use super::record::Record;
use crate::worker::Worker;
use ringroad_codec::http1::RequestHead;
use ringroad_policy::snapshot::{FaultSide, Route};

/// What came of it.
pub enum Filtered<'a> {
    /// It goes on, and its response gets these edits.
    Passed(EditLevels<'a>),
    /// It is answered so.
    Answered(Box<Answer>, EditLevels<'a>),
    /// The client left meanwhile.
    ClientGone,
}

/// The edits of a response: those that the route makes, and those that are made in any case.
pub struct Edits<'a> {
    pub of_route: EditLevels<'a>,
    pub always: EditLevels<'a>,
}

/// Injects the faults of the route, then judges by its cross-origin rules.
pub async fn filter<'a>(
    route: &'a Route,
    (head, bytes): (&'a RequestHead, &'a [u8]),
    edits: Edits<'a>,
    worker: &Worker,
    connection: &Connection,
    record: &mut Record<'_>,
) -> Filtered<'a> {
    let Edits { of_route, always } = edits;
    if let Some(fault) = &route.fault
        && fault.side == FaultSide::Downstream
    {
        match inject(fault, worker, connection, record).await {
            Injected::Nothing | Injected::TimedOut => {}
            Injected::ClientGone => return Filtered::ClientGone,
            Injected::Abort(answer) => return Filtered::Answered(Box::new(answer), of_route),
        }
    }
    let Some(policy) = &route.cors else {
        return Filtered::Passed(of_route);
    };
    let (method, headers) = (head.method.of(bytes), head.headers(bytes));
    match CorsVerdict::of(policy, method, &headers, &connection.listener.stats) {
        CorsVerdict::Nothing => Filtered::Passed(of_route),
        CorsVerdict::Granted(grant) => Filtered::Passed(of_route.with_cors(Some(grant))),
        CorsVerdict::Preflight(answer) => Filtered::Answered(Box::new(answer), always),
    }
}
