//! The check as a request of HTTP: the request's own method, path and some of its headers. 200
//! allows it, a failure of the service is an error, and anything else is the answer.

use super::super::request_head::write_number_line;
use super::super::target::with_facts;
use super::exchange::{CheckAnswer, Sending, send};
use super::{Grant, Question, Refusal, Verdict, is_listed, may_change, write};
use crate::worker::{Rules, Worker, WorkerLimits};
use ringroad_codec::http1::{end_head, write_header};
use ringroad_policy::authorize::CheckProvider;
use ringroad_policy::settings::HttpCheck;
use ringroad_policy::snapshot::{HeaderEdits, WriteMode};
use std::rc::Rc;

/// Header of an answer 200 by which a service names headers that the request loses. Envoy's.
const REMOVED: &str = "x-envoy-auth-headers-to-remove";

/// Asks, within the provider's timeout.
pub async fn ask(
    worker: &Rc<Worker>,
    rules: &Rules,
    limits: &WorkerLimits,
    provider: &CheckProvider,
    check: &HttpCheck,
    question: Question<'_>,
) -> Verdict {
    let Some(cluster) = provider.cluster else {
        return Verdict::Failed;
    };
    let cluster = rules.view.cluster(worker, cluster).clone();
    let Some(written) = question.write(check) else {
        return Verdict::Failed;
    };
    let sending = Sending {
        worker,
        cluster: &cluster,
        limits,
        timeout_ms: provider.settings.timeout_ms,
        written: &written,
        to_head_request: question.seen.method() == b"HEAD",
        carrier: cluster.carrier(false, false),
    };
    match send(sending).await {
        Some(answer) => answer.verdict(check),
        None => Verdict::Failed,
    }
}

impl Question<'_> {
    /// Head and body of the check; `None` for a target that no route could be chosen for.
    fn write(&self, settings: &HttpCheck) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(1024 + self.body.len());
        with_facts(&self.seen, self.paths, self.facts, None, |request| {
            out.extend_from_slice(request.method.as_bytes());
            out.push(b' ');
            out.extend_from_slice(settings.path_prefix.as_bytes());
            out.extend_from_slice(request.path.as_bytes());
            if let Some(query) = request.query {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
            out.extend_from_slice(b" HTTP/1.1\r\n");
            write_header(&mut out, b"host", request.authority.as_bytes());
        })?;
        write_number_line(&mut out, "content-length: ", self.body.len() as u64);
        self.write_headers(settings, &mut out);
        for (name, value) in &settings.additional_headers_in_check {
            write_header(&mut out, name.as_bytes(), value.as_bytes());
        }
        end_head(&mut out);
        out.extend_from_slice(&self.body);
        Some(out)
    }

    /// The headers that the service is shown.
    fn write_headers(&self, settings: &HttpCheck, out: &mut Vec<u8>) {
        self.visit_headers(&mut |name, value| {
            let is_added = |known: &String| name.eq_ignore_ascii_case(known.as_bytes());
            let is_listed = HttpCheck::is_listed(&settings.request_headers_in_check, name)
                || name.eq_ignore_ascii_case(b"authorization");
            if is_listed && !settings.additional_headers_in_check.keys().any(is_added) {
                write_header(out, name, value);
            }
        });
    }
}

impl CheckAnswer {
    fn verdict(self, settings: &HttpCheck) -> Verdict {
        match self.head.status {
            200 => Verdict::Allowed(self.grant(settings)),
            500.. => Verdict::Failed,
            status => Verdict::Denied(Refusal {
                status,
                response_edits: self.denial_edits(settings),
                body: self.body,
            }),
        }
    }

    /// Headers with their lower-case names.
    fn headers(&self) -> impl Iterator<Item = (String, &[u8])> {
        let own = self.head.headers.iter();
        let own = own.filter(|header| !header.kind.is_hop_by_hop());
        own.map(|header| {
            let name = String::from_utf8_lossy(header.name.of(&self.bytes));
            (name.to_ascii_lowercase(), header.value.of(&self.bytes))
        })
        .filter(|(name, _)| may_change(name))
    }

    fn grant(&self, settings: &HttpCheck) -> Grant {
        let mut grant = Grant::default();
        for (name, value) in self.headers() {
            if name == REMOVED {
                let names = String::from_utf8_lossy(value);
                let names = names
                    .split(',')
                    .map(|name| name.trim().to_ascii_lowercase());
                grant.remove.extend(names.filter(|name| may_change(name)));
                continue;
            }
            if is_listed(&settings.headers_to_downstream_on_allow, &name) {
                let line = write(&name, value, WriteMode::Add);
                grant.response_edits.write.push(line);
            }
            if is_listed(&settings.headers_to_upstream_on_allow, &name) {
                // Of several lines the last counts, as in Envoy.
                grant.set.retain(|(known, _)| *known != name);
                grant.set.push((name, value.to_vec()));
            }
        }
        grant
    }

    /// The headers that go with a refusal: all of them where the provider lists none.
    fn denial_edits(&self, settings: &HttpCheck) -> HeaderEdits {
        const ALWAYS: [&str; 2] = ["www-authenticate", "location"];
        let listed = &settings.headers_to_downstream_on_deny;
        let mut edits = HeaderEdits::default();
        for (name, value) in self.headers() {
            let is_shown =
                listed.is_empty() || is_listed(listed, &name) || ALWAYS.contains(&name.as_str());
            if is_shown && !matches!(name.as_str(), "server" | "date") {
                // Lines of one name stand beside each other; they replace ours.
                let is_ours = name == "content-type";
                let mode = if is_ours {
                    WriteMode::Set
                } else {
                    WriteMode::Add
                };
                edits.write.push(write(&name, value, mode));
            }
        }
        edits
    }
}
