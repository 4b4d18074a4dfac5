//! Route lookup by number of hosts and of routes, and compiling.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ringroad_policy::snapshot::{ConnectionFacts, Decision, RequestFacts, RouteTable, Snapshot};

mod compiled;

/// Requests that a lookup goes through in turn, so that it does not stay in the cache with one.
const REQUESTS: usize = 1024;

type Headers = Vec<(&'static str, &'static str)>;

fn headers() -> Headers {
    vec![("user-agent", "bench"), ("accept", "*/*")]
}

fn look_up(table: &RouteTable, host: &str, path: &str, headers: &Headers) {
    let request = RequestFacts {
        method: "GET",
        scheme: "http",
        authority: host,
        path,
        query: None,
        headers,
        connection: ConnectionFacts::UNKNOWN,
        claims: None,
    };
    match table.route(black_box(&request)) {
        Decision::Route { route, .. } => {
            black_box(route);
        }
        other => panic!("{host}{path}: {other:?}"),
    }
}

/// Hosts from all over a table of so many, in no order.
fn asked(hosts: usize) -> Vec<String> {
    (0..REQUESTS)
        .map(|n| format!("h{}.bench.local", n * 7919 % hosts))
        .collect()
}

fn hosts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route lookup by hosts");
    for hosts in [10, 1_000, 10_000] {
        let snapshot = compiled::compile(&compiled::files(hosts, 1));
        let table = snapshot.listeners[0].route_table().expect("routes");
        let asked = asked(hosts);
        let headers = headers();
        let mut next = asked.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(hosts), |bencher| {
            bencher.iter(|| look_up(table, next.next().expect("endless"), "/", &headers));
        });
    }
    group.finish();
}

/// The figure to reach. The sizes take turns, so that both meet the same machine.
fn hosts_compared(_: &mut Criterion) {
    const ROUNDS: usize = 21;
    const LOOKUPS: usize = 100 * REQUESTS;
    const BAR: f64 = 1.5;
    let snapshots =
        [10, 10_000].map(|hosts| (hosts, compiled::compile(&compiled::files(hosts, 1))));
    let headers = headers();
    let seconds = |(hosts, snapshot): &(usize, Snapshot)| {
        let table = snapshot.listeners[0].route_table().expect("routes");
        let asked = asked(*hosts);
        let start = Instant::now();
        for host in asked.iter().cycle().take(LOOKUPS) {
            look_up(table, host, "/", &headers);
        }
        start.elapsed().as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let [few, many] = &snapshots;
            let few = seconds(few);
            seconds(many) / few
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
    let verdict = if median <= BAR { "reached" } else { "missed" };
    println!(
        "route lookup, 10,000 hosts against 10: {median:.2} ({least:.2}-{most:.2}), median of \
         {ROUNDS} rounds; bar {BAR:.2}: {verdict}\n"
    );
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route lookup by routes of one host");
    for routes in [10, 1_000] {
        let snapshot = compiled::compile(&compiled::files(1, routes));
        let table = snapshot.listeners[0].route_table().expect("routes");
        let asked: Vec<String> = (0..REQUESTS)
            .map(|n| format!("/r{}/x", n * 7919 % routes))
            .collect();
        let headers = headers();
        let mut next = asked.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
            bencher.iter(|| {
                look_up(
                    table,
                    "h0.bench.local",
                    next.next().expect("endless"),
                    &headers,
                )
            });
        });
    }
    group.finish();
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile 10,000 routes");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for (hosts, routes_per_host) in [(10_000, 1), (1_000, 10), (10, 1_000)] {
        let files = compiled::files(hosts, routes_per_host);
        let name = BenchmarkId::from_parameter(format!("{hosts} hosts × {routes_per_host}"));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (),
                |()| compiled::compile(&files),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, hosts, hosts_compared, routes, compiling);
criterion_main!(benches);
