//! `/config_dump`: the documents as loaded and what was made of them.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use ringroad_policy::diagnostic::without_keys;
use ringroad_policy::snapshot::{
    Cluster, Destination, Discovery, Endpoint, HeaderEdits, HeaderMatch, HeaderValue, PathMatch,
    RetryPolicy, Route, RouteAction, RouteTable, Snapshot, StringMatch, ValueMatch, WriteMode,
};
use ringroad_policy::source::{Origin, SourceFile};
use serde_json::{Value, json};

use super::{AdminState, aside, json, pages};
use crate::control::status::RunningConfig;

pub async fn config_dump(State(state): State<Arc<AdminState>>) -> Response {
    let running = state.status.running();
    aside(move || json(&dump(&running))).await
}

fn dump(running: &RunningConfig) -> Value {
    let snapshot = &running.snapshot;
    let files = &running.files;
    let settings = &snapshot.settings;
    let limits: serde_json::Map<String, Value> = ringroad_policy::settings::Limits::TABLE
        .iter()
        .map(|limit| {
            (
                limit.name.to_string(),
                json!(settings.limits.get(limit.name)),
            )
        })
        .collect();
    json!({
        "generation": running.generation,
        "accepted_at": unix_seconds(running.accepted_at),
        "files": files.iter().map(|file| &file.path).collect::<Vec<_>>(),
        "documents": documents(files),
        "settings": {
            "role": format!("{:?}", settings.role).to_lowercase(),
            "namespace": settings.namespace,
            "workload_labels": settings.workload.labels,
            "service_account": settings.workload.service_account,
            "trust_domain": settings.trust_domain,
            "admin_address": settings.admin_address,
            "workers": settings.workers,
            "drain_deadline_ms": settings.drain_deadline_ms,
            "reload_settle_ms": settings.reload_settle_ms,
            "limits": limits,
        },
        "listeners": listeners(snapshot, files),
        "route_tables": route_tables(snapshot, files),
        "clusters":
            snapshot.clusters.iter().map(|cluster| cluster_json(cluster, files)).collect::<Vec<_>>(),
    })
}

fn unix_seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .map(|since| since.as_secs())
}

/// The documents as written, without what has to stay secret.
fn documents(files: &[SourceFile]) -> Vec<Value> {
    let (documents, _) = ringroad_policy::yaml::parse(files);
    documents
        .iter()
        .map(|document| {
            let mut value = serde_json::to_value(&document.value).unwrap_or_default();
            match document.kind.as_str() {
                "Secret" => redact(&mut value),
                "RequestAuthentication" => redact_token_keys(&mut value),
                _ => {}
            }
            redact_keys(&mut value);
            if let Some(name) = value.pointer_mut("/metadata/name") {
                redact_names(name);
            }
            redact_credential_names(&mut value);
            value
        })
        .collect()
}

/// Replaces private keys wherever they stand: in a document of a kind that is misspelt or not read, in
/// the wrong field, or in the place of a name.
fn redact_keys(value: &mut Value) {
    match value {
        Value::String(text) if is_private_key(text) => *text = REDACTED.to_string(),
        Value::Array(items) => items.iter_mut().for_each(redact_keys),
        Value::Object(members) => {
            let hidden = members.keys().filter(|name| is_private_key(name));
            for name in hidden.cloned().collect::<Vec<_>>() {
                members.remove(&name);
                members.insert(REDACTED.to_string(), Value::Null);
            }
            members.values_mut().for_each(redact_keys);
        }
        _ => {}
    }
}

/// Replaces what looks like a key in the names of secrets, wherever a document names one.
fn redact_credential_names(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact_credential_names),
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "credentialName" | "credentialNames" | "caCertCredentialName" => {
                        redact_names(member);
                    }
                    _ => redact_credential_names(member),
                }
            }
        }
        _ => {}
    }
}

/// A name, or a list of names.
fn redact_names(names: &mut Value) {
    match names {
        Value::String(name) => *name = without_keys(name),
        Value::Array(items) => items.iter_mut().for_each(redact_names),
        _ => {}
    }
}

/// Whether the text holds PEM of a private key (RFC 7468, and OpenSSL's older labels), or base64 of it
/// as in the `data` of a Secret.
fn is_private_key(text: &str) -> bool {
    const BEGIN_IN_BASE64: &str = "LS0tLS1CRUdJTi";
    text.contains("PRIVATE KEY-----") || text.contains(BEGIN_IN_BASE64)
}

const REDACTED: &str = "[redacted]";
/// Characters of the shortest key of Ed25519 in base64, about.
const LINE_OF_A_KEY: usize = 40;

/// Replaces the values of `data` and `stringData`, and the names of those that are as long as a line of
/// a key, which may be one.
fn redact(secret: &mut Value) {
    for field in ["data", "stringData"] {
        let entries = secret.get_mut(field).and_then(Value::as_object_mut);
        let Some(entries) = entries else { continue };
        let names = std::mem::take(entries).into_iter().map(|(name, _)| name);
        entries.extend(names.map(|name| match name.len() < LINE_OF_A_KEY {
            true => (name, Value::from(REDACTED)),
            false => (REDACTED.to_string(), Value::from(REDACTED)),
        }));
    }
    // `kubectl apply` keeps a copy of the whole document here.
    if let Some(metadata) = secret.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
    }
}

/// Replaces what signs in the keys of tokens. RFC 7518 sections 6.2.2, 6.3.2 and 6.4.
fn redact_token_keys(policy: &mut Value) {
    let rules = policy.pointer_mut("/spec/jwtRules");
    let rules = rules.and_then(Value::as_array_mut);
    let mut is_redacted = false;
    for rule in rules.into_iter().flatten() {
        let Some(Value::String(text)) = rule.get_mut("jwks") else {
            continue;
        };
        let mut set: Value = serde_json::from_str(text).unwrap_or_default();
        if redact_members(&mut set) {
            *text = set.to_string();
            is_redacted = true;
        }
    }
    if is_redacted && let Some(Value::Object(metadata)) = policy.get_mut("metadata") {
        metadata.remove("annotations");
    }
}

/// Whether there were any.
fn redact_members(set: &mut Value) -> bool {
    const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let mut keys = match set.get_mut("keys") {
        Some(Value::Array(keys)) => keys.iter_mut().collect(),
        _ => vec![set],
    };
    let mut is_redacted = false;
    let members = keys.iter_mut().filter_map(|key| key.as_object_mut());
    for (name, value) in members.flatten() {
        if PRIVATE.contains(&name.as_str()) {
            *value = Value::from(REDACTED);
            is_redacted = true;
        }
    }
    is_redacted
}

fn origin(origin: Option<&Origin>, files: &[SourceFile]) -> Value {
    let Some(origin) = origin else {
        return Value::Null;
    };
    let path = files
        .get(origin.document.file.0 as usize)
        .map(|file| file.path.as_str());
    json!({
        "file": path,
        "document": origin.document.index,
        "field": origin.field.to_string(),
    })
}

fn listeners(snapshot: &Snapshot, files: &[SourceFile]) -> Vec<Value> {
    let one = |listener: &Arc<ringroad_policy::snapshot::Listener>| {
        json!({
            "name": listener.name,
            "address": listener.address,
            "direction": format!("{:?}", listener.direction).to_lowercase(),
            "route_table": listener.route_table().map(|table| &table.name),
            "origin": origin(listener.origin.as_ref(), files),
        })
    };
    snapshot.listeners.iter().map(one).collect()
}

/// Each table once, though several listeners may share it.
fn route_tables(snapshot: &Snapshot, files: &[SourceFile]) -> Vec<Value> {
    let mut tables: Vec<&Arc<RouteTable>> = Vec::new();
    for table in snapshot
        .listeners
        .iter()
        .filter_map(|listener| listener.route_table())
    {
        if !tables.iter().any(|known| Arc::ptr_eq(known, table)) {
            tables.push(table);
        }
    }
    let one = |table: &&Arc<RouteTable>| {
        let virtual_hosts: Vec<_> = table
            .virtual_hosts()
            .iter()
            .map(|host| {
                json!({
                    "name": host.name,
                    "domains": host.domains,
                    "https_redirect": host.https_redirect,
                    "routes": host.routes().iter().map(|it| route(it, files)).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({ "name": table.name, "virtual_hosts": virtual_hosts })
    };
    tables.iter().map(one).collect()
}

fn route(route: &Route, files: &[SourceFile]) -> Value {
    let action = match &route.action {
        RouteAction::Forward(destinations) => {
            json!({ "forward": destinations.iter().map(destination).collect::<Vec<_>>() })
        }
        RouteAction::DirectResponse { status, body } => {
            json!({ "direct_response": { "status": status, "body_bytes": body.len() } })
        }
        RouteAction::Redirect(_) => json!("redirect"),
    };
    json!({
        "name": route.name,
        "origin": origin(route.origin.as_ref(), files),
        "match": {
            "path": path_match(&route.matches.path),
            "headers": route.matches.headers.iter().map(header_match).collect::<Vec<_>>(),
            "query_parameters": route
                .matches
                .query
                .iter()
                .map(|query| json!({ "name": query.name, "value": value_match(&query.value) }))
                .collect::<Vec<_>>(),
        },
        "action": action,
        "timeout_ms": route.timeout_ms,
        "retry": route.retry.as_deref().map(retry),
        "request_headers": edits(&route.request_headers),
        "response_headers": edits(&route.response_headers),
        "host_rewrite": route.host_rewrite,
    })
}

fn retry(policy: &RetryPolicy) -> Value {
    json!({
        "attempts": policy.attempts,
        "per_try_timeout_ms": policy.per_try_timeout_ms,
        "retry_on": policy.retry_on,
        "status_codes": policy.status_codes,
    })
}

fn destination(destination: &Destination) -> Value {
    json!({
        "retry": destination.retry.as_deref().map(retry),
        "cluster": destination.cluster_name,
        "exists": destination.cluster.is_some(),
        "weight": destination.weight,
        "request_headers": edits(&destination.request_headers),
        "response_headers": edits(&destination.response_headers),
    })
}

fn path_match(path: &PathMatch) -> Value {
    match path {
        PathMatch::Exact(text) => json!({ "exact": text }),
        PathMatch::Prefix(text) => json!({ "prefix": text }),
        PathMatch::ExactIgnoreCase(text) => json!({ "exact": text, "ignore_case": true }),
        PathMatch::PrefixIgnoreCase(text) => json!({ "prefix": text, "ignore_case": true }),
        PathMatch::Regex(regex) => json!({ "regex": regex.text() }),
    }
}

fn header_match(header: &HeaderMatch) -> Value {
    json!({
        "name": header.name.as_str(),
        "value": value_match(&header.value),
        "inverted": header.inverted,
    })
}

fn value_match(value: &ValueMatch) -> Value {
    match value {
        ValueMatch::Present => json!("present"),
        ValueMatch::Text(StringMatch::Exact(text)) => json!({ "exact": text }),
        ValueMatch::Text(StringMatch::Prefix(text)) => json!({ "prefix": text }),
        ValueMatch::Text(StringMatch::Regex(regex)) => json!({ "regex": regex.text() }),
    }
}

fn edits(edits: &HeaderEdits) -> Value {
    let write = edits.write.iter().map(|write| {
        let mode = match write.mode {
            WriteMode::Set => "set",
            WriteMode::Add => "add",
            WriteMode::AddIfAbsent => "add if absent",
            WriteMode::SetIfPresent => "set if present",
        };
        let value = match &write.value {
            HeaderValue::Literal(text) => json!(text),
            HeaderValue::Format(_) => json!("[formatted for each request]"),
        };
        json!({ "name": write.name, "mode": mode, "value": value })
    });
    json!({ "remove": edits.remove, "write": write.collect::<Vec<_>>() })
}

fn cluster_json(cluster: &Cluster, files: &[SourceFile]) -> Value {
    let discovery = match cluster.discovery {
        Discovery::Static => "STATIC",
        Discovery::StrictDns(_) => "STRICT_DNS",
        Discovery::LogicalDns(_) => "LOGICAL_DNS",
        Discovery::OriginalDestination => "ORIGINAL_DST",
    };
    let priorities = cluster.priority_of_each();
    let endpoint = |(endpoint, priority): (&Endpoint, &Option<usize>)| {
        json!({
            "address": pages::socket_address(&endpoint.address),
            "weight": endpoint.weight,
            "labels": endpoint.labels,
            "locality": endpoint.locality,
            "priority": priority,
        })
    };
    json!({
        "name": cluster.name,
        "type": discovery,
        "balancer": cluster.balancer.as_str(),
        "upstream_protocol": cluster.upstream_protocol.as_str(),
        "connect_timeout_ms": cluster.connect_timeout_ms,
        "upstream_idle_timeout_ms": cluster.upstream_idle_timeout_ms,
        "service": cluster.service.host,
        "subset": cluster.subset,
        "origin": origin(cluster.origin.as_ref(), files),
        "endpoints": cluster.endpoints.iter().zip(&priorities).map(endpoint).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_its_keys_and_nothing_else() {
        let mut secret = json!({
            "kind": "Secret",
            "metadata": { "name": "tls", "annotations": { "last-applied": "hunter2" } },
            "data": { "tls.key": "aHVudGVyMg==" },
            "stringData": { "password": "hunter2" },
        });
        redact(&mut secret);
        let text = secret.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
            "{text}"
        );
        assert!(text.contains("tls.key") && text.contains("password"));
    }

    #[test]
    fn private_keys_are_shown_nowhere() {
        const LINE: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
        let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{LINE}\n-----END EC PRIVATE KEY-----\n");
        let mut secret = json!({ "kind": "Secret", "data": { LINE: "", "tls.crt": "" } });
        redact(&mut secret);
        assert!(!secret.to_string().contains(LINE), "{secret}");
        let mut misspelt = json!({
            "kind": "Secrets",
            "data": { "tls.key": "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VB" },
            "spec": { "servers": [{ "tls": { "privateKey": pem, "mode": "SIMPLE" } }], &pem: 1 },
        });
        redact_keys(&mut misspelt);
        let text = misspelt.to_string();
        assert!(!text.contains(LINE) && !text.contains("LS0t"), "{text}");
        assert!(text.contains("SIMPLE") && text.contains("tls.key"));
    }

    #[test]
    fn private_keys_of_tokens_are_not_shown() {
        let keys = json!({ "keys": [
            { "kty": "oct", "k": "aHVudGVyMg", "kid": "one" },
            { "kty": "RSA", "n": "modulus", "e": "AQAB", "d": "hunter3", "dp": "hunter4" },
        ]});
        let single = json!({ "kty": "EC", "x": "public", "d": "hunter5" });
        let mut policy = json!({
            "kind": "RequestAuthentication",
            "metadata": { "name": "a", "annotations": { "last-applied": "hunter2" } },
            "spec": { "jwtRules": [
                { "issuer": "a", "jwks": keys.to_string() },
                { "issuer": "b", "jwks": single.to_string() },
                { "issuer": "c", "jwksUri": "https://keys.test/" },
            ]},
        });
        redact_token_keys(&mut policy);
        let text = policy.to_string();
        assert!(
            !text.contains("hunter") && !text.contains("aHVudGVyMg"),
            "{text}"
        );
        for shown in ["modulus", "AQAB", "public", "one", "keys.test"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
    }
}
