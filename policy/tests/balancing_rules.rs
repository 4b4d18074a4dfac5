//! DestinationRule `loadBalancer`: what is compiled, warned of and explained.

#[path = "support/picks.rs"]
mod picks;
mod support;

use picks::{counts, without};
use ringroad_policy::explain::{Request, explain};
use ringroad_policy::snapshot::{Balancer, Cluster, HashCookie, HashPolicy, PickRequest, WarmUp};
use std::sync::Arc;
use support::*;

/// Endpoints of `shop.test` in these places; settings of the proxy, and its rule.
fn text(places: &[&str], settings: &str, policy: &str) -> String {
    let mut text = format!(
        "{GATEWAY}---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\n\
         metadata: {{name: proxy}}\nspec: {settings}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: shop}}\n\
         spec:\n  hosts: [shop.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n"
    );
    for (at, place) in places.iter().enumerate() {
        text += &format!(
            "  - {{address: 10.0.0.{}, locality: {place}, labels: {{version: v{at}}}}}\n",
            at + 1
        );
    }
    text += &destination_rule(
        "shop",
        &format!("host: shop.test\ntrafficPolicy: {policy}\n"),
    );
    let route =
        "hosts: ['*']\ngateways: [edge]\nhttp:\n- route: [{destination: {host: shop.test}}]\n";
    text + &rule("shop", route)
}

fn compiled(places: &[&str], settings: &str, policy: &str) -> Arc<Cluster> {
    let snapshot = snapshot(&text(places, settings, policy));
    let cluster = snapshot.cluster_named("outbound|80||shop.test");
    cluster.expect("is there").clone()
}

fn balancer(block: &str) -> Arc<Cluster> {
    compiled(
        &["a/b"],
        "{role: gateway}",
        &format!("{{loadBalancer: {block}}}"),
    )
}

#[test]
fn each_key_and_each_table_is_taken() {
    let hashed = |by: &str| balancer(&format!("{{consistentHash: {by}}}"));
    let header = hashed("{httpHeaderName: X-User}");
    assert_eq!(header.balancer, Balancer::RingHash { minimum_size: 1024 });
    let name = "x-user".to_string();
    assert_eq!(header.hash_policy, Some(HashPolicy::Header(name)));
    let query = hashed("{httpQueryParameterName: user, ringHash: {minimumRingSize: 64}}");
    assert_eq!(query.balancer, Balancer::RingHash { minimum_size: 64 });
    let name = "user".to_string();
    assert_eq!(query.hash_policy, Some(HashPolicy::QueryParameter(name)));
    let legacy = hashed("{useSourceIp: true, minimumRingSize: 7}");
    assert_eq!(legacy.balancer, Balancer::RingHash { minimum_size: 7 });
    assert_eq!(legacy.hash_policy, Some(HashPolicy::SourceIp));
    assert_eq!(hashed("{useSourceIp: false}").hash_policy, None);
    let cookie = hashed(
        "{maglev: {tableSize: 251}, httpCookie: {name: c, path: /p, ttl: 0s, \
         attributes: [{name: SameSite, value: Lax}]}}",
    );
    assert_eq!(cookie.balancer, Balancer::Maglev { table_size: 251 });
    let expected = HashCookie {
        name: "c".to_string(),
        ttl_s: Some(0),
        path: "/p".to_string(),
        attributes: vec![("SameSite".to_string(), "Lax".to_string())],
    };
    assert_eq!(cookie.hash_policy, Some(HashPolicy::Cookie(expected)));
}

#[test]
fn warm_up_is_for_balancers_that_take_turns() {
    let warm_up = |block: &str| balancer(block).warm_up;
    let legacy = WarmUp {
        duration_ms: 30_000,
        least: 0.1,
        aggression: 1.0,
    };
    assert_eq!(warm_up("{warmupDurationSecs: 30s}"), Some(legacy));
    let written = WarmUp {
        duration_ms: 60_000,
        least: 0.2,
        aggression: 1.5,
    };
    assert_eq!(
        warm_up(
            "{simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 20, aggression: 1.5}}"
        ),
        Some(written)
    );
    assert_eq!(warm_up("{simple: RANDOM, warmup: {duration: 60s}}"), None);
}

const PLACES: [&str; 4] = ["west/a", "west/b", "east/a", "north/a"];

fn priorities(settings: &str, policy: &str) -> Vec<Option<usize>> {
    let cluster = compiled(&PLACES, settings, policy);
    (0..PLACES.len())
        .map(|at| cluster.priority_of(at))
        .collect()
}

#[test]
fn places_count_only_with_outlier_detection_and_only_if_nobody_says_no() {
    let near = "{role: gateway, workload: {locality: west/b}}";
    let flat = [0, 0, 0, 0].map(Some);
    assert_eq!(
        priorities(near, "{loadBalancer: {localityLbSetting: {}}}"),
        flat
    );
    let failing_over = [1, 0, 2, 2].map(Some);
    assert_eq!(priorities(near, "{outlierDetection: {}}"), failing_over);
    let by_label = "{role: gateway, workload: {labels: {topology.kubernetes.io/region: west, \
                    topology.kubernetes.io/zone: b}}}";
    assert_eq!(priorities(by_label, "{outlierDetection: {}}"), failing_over);
    let off = "{role: gateway, workload: {locality: west/b}, localityLbSetting: {enabled: false}}";
    assert_eq!(priorities(off, "{outlierDetection: {}}"), flat);
    assert_eq!(
        priorities(
            off,
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}}"
        ),
        failing_over
    );
    let disabled = "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}";
    assert_eq!(priorities(near, disabled), flat);
    let next = "{outlierDetection: {}, loadBalancer: {localityLbSetting: \
                {failover: [{from: west, to: north}]}}}";
    assert_eq!(priorities(near, next), [1, 0, 3, 2].map(Some));
    let labels = "{outlierDetection: {}, loadBalancer: {localityLbSetting: \
                  {failoverPriority: [topology.kubernetes.io/region, version=v1]}}}";
    assert_eq!(priorities(near, labels), [1, 0, 2, 2].map(Some));
}

#[test]
fn the_rule_of_the_own_place_says_who_gets_what() {
    let distribute = "{loadBalancer: {localityLbSetting: {distribute: \
                      [{from: west/*, to: {west/a: 60, east/*: 40}}]}}}";
    let west = "{role: gateway, workload: {locality: west/b}}";
    assert_eq!(priorities(west, distribute), [Some(0), None, Some(0), None]);
    let cluster = compiled(&PLACES, west, distribute);
    let weights: Vec<_> = cluster
        .priorities()
        .flatten()
        .map(|group| (group.locality.as_str(), group.weight))
        .collect();
    assert_eq!(weights, [("east/a", 40), ("west/a", 60)]);
    let north = "{role: gateway, workload: {locality: north/a}}";
    assert_eq!(priorities(north, distribute), [0, 0, 0, 0].map(Some));
}

#[test]
fn what_a_service_prefers_counts_without_outlier_detection() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart}\n\
                   spec: {ports: [{port: 80, name: http}], trafficDistribution: PreferSameZone}\n\
                   ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                   metadata: {name: cart-1, labels: {kubernetes.io/service-name: cart}}\n\
                   addressType: IPv4\nports: [{name: http, port: 80}]\nendpoints:\n\
                   - {addresses: [10.0.0.1], zone: a}\n- {addresses: [10.0.0.2], zone: b}\n";
    let settings = "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\n\
                    metadata: {name: proxy}\n\
                    spec: {role: sidecar, workload: {locality: west/b}}\n";
    let snapshot = snapshot(&format!("{settings}{service}"));
    let cluster = snapshot.cluster_named("outbound|80||cart.default.svc.cluster.local");
    let cluster = cluster.expect("is there");
    assert_eq!(cluster.endpoints[1].locality, "west/b");
    assert_eq!([0, 1].map(|at| cluster.priority_of(at)), [1, 0].map(Some));
}

#[test]
fn failover_that_nobody_wrote_and_weights_without_effect_are_warned_of() {
    let codes = |settings: &str, policy: &str| {
        let loaded = load_text(&text(&PLACES, settings, policy));
        let codes = loaded.diagnostics.iter().map(|found| found.code);
        codes.collect::<Vec<_>>()
    };
    let code = &"implicit-locality-failover";
    let near = "{role: gateway, workload: {locality: west/b}}";
    assert!(codes(near, "{outlierDetection: {}}").contains(code));
    assert!(!codes("{role: gateway}", "{outlierDetection: {}}").contains(code));
    let meant = "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}}";
    assert!(!codes(near, meant).contains(code));
    let random = |weight: u32| {
        let text = text(
            &PLACES,
            "{role: gateway}",
            "{loadBalancer: {simple: RANDOM}}",
        );
        let text = text.replace(
            "locality: west/a",
            &format!("locality: west/a, weight: {weight}"),
        );
        let loaded = load_text(&text);
        let warned = |found: &&ringroad_policy::diagnostic::Diagnostic| {
            found.code == "no-effect" && found.message.contains("weights")
        };
        loaded.diagnostics.iter().filter(warned).count()
    };
    assert_eq!((random(1), random(5)), (0, 1));
}

#[test]
fn retries_stay_with_the_endpoint_of_a_key_only_where_it_is_alone() {
    let hashed = "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}";
    let excludes = |routes: &str, policy: &str| {
        let text = text(&["a", "b"], "{role: gateway}", policy);
        let text = text.replace("- route: [{destination: {host: shop.test}}]", routes);
        let snapshot = snapshot(&text);
        let request = get("any", "/");
        let route = request.route(table(&snapshot, 8080)).expect("a route");
        route.retry.as_ref().expect("a policy").exclude_tried
    };
    let one = "- route: [{destination: {host: shop.test}}]";
    let two = "- route: [{destination: {host: shop.test}, weight: 50}, \
               {destination: {host: shop.test}, weight: 50}]";
    let told = "- retries: {attempts: 1, retryIgnorePreviousHosts: true}\n    \
                  route: [{destination: {host: shop.test}}]";
    assert!(excludes(one, "{loadBalancer: {simple: RANDOM}}"));
    assert!(!excludes(one, hashed));
    assert!(excludes(two, hashed));
    assert!(excludes(told, hashed));
}

/// What is written as `network` orders as the label of that name does.
#[test]
fn the_network_of_an_endpoint_is_one_of_its_labels() {
    let policy = "{outlierDetection: {}, loadBalancer: {localityLbSetting: \
                  {failoverPriority: [topology.istio.io/network]}}}";
    let settings = "{role: gateway, workload: {labels: {topology.istio.io/network: near}}}";
    let text = text(&["a", "a"], settings, policy);
    let text = text.replace("{address: 10.0.0.2,", "{address: 10.0.0.2, network: near,");
    let text = text.replace("selector: {istio: ingressgateway}", "");
    let snapshot = snapshot(&text);
    let cluster = snapshot.cluster_named("outbound|80||shop.test");
    assert_eq!(
        cluster.expect("is there").priority_of_each(),
        [Some(1), Some(0)]
    );
}

/// Eight endpoints, two of them here; of the four proxies two are here, too.
#[test]
fn zones_keep_what_their_endpoints_can_carry() {
    let places = [
        "west/a", "west/a", "west/b", "west/b", "west/b", "west/b", "west/c", "west/c", "east/a",
        "south/a",
    ];
    let own = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: own}\n\
               spec:\n  hosts: [own.test]\n  resolution: STATIC\n  \
               ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints:\n  \
               - {address: 10.1.0.1, locality: west/a}\n  - {address: 10.1.0.2, locality: west/a}\n  \
               - {address: 10.1.0.3, locality: west/b}\n  - {address: 10.1.0.4, locality: west/c}\n";
    let settings = "{role: gateway, workload: {locality: west/a, addresses: [10.1.0.1]}}";
    let load = |settings: &str, setting: &str| {
        let policy =
            format!("{{loadBalancer: {{simple: ROUND_ROBIN, zoneAwareLbSetting: {setting}}}}}");
        load_text(&(text(&places, settings, &policy) + own))
    };
    let drawn = |settings: &str, setting: &str, out: &[usize]| {
        let loaded = load(settings, setting);
        let snapshot = loaded.snapshot.expect("accepted");
        let cluster = snapshot.cluster_named("outbound|80||shop.test");
        let view = without(out.iter().copied());
        let counts = counts(cluster.expect("is there"), &view, PickRequest::default());
        // In hundreds.
        counts.iter().map(|n| (n + 50) / 100).collect::<Vec<_>>()
    };
    let on = "{enabled: true}";
    // A quarter of the endpoints for half of the proxies: half of the requests stay.
    let shares = drawn(settings, on, &[]);
    assert_eq!(shares, [25, 25, 13, 13, 13, 13, 0, 0, 0, 0]);
    // Two endpoints fewer: two of six for half of the proxies, or too few to tell zones apart.
    let shares = drawn(settings, on, &[2, 3]);
    assert_eq!(shares[..4], [33, 33, 0, 0]);
    let shares = drawn(settings, "{minClusterSize: 7}", &[2, 3]);
    assert_eq!(shares, [17, 17, 0, 0, 17, 17, 17, 17, 0, 0]);
    assert_eq!(drawn(settings, "{enabled: false}", &[]), [10; 10]);
    let elsewhere = settings.replace("west/a", "north/a");
    assert_eq!(drawn(&elsewhere, on, &[]), [10; 10], "all regions are far");
    // With the region out, the next one takes over.
    let next = "{failover: [{from: west, to: south}]}";
    let out: Vec<usize> = (0..8).collect();
    assert_eq!(drawn(settings, next, &out)[8..], [0, 100]);
    assert_eq!(drawn(settings, on, &out)[8..], [50, 50]);

    let warnings = |settings: &str| {
        let list = load(settings, on).diagnostics.into_iter();
        let zones = list.filter(|found| found.message.contains("in their zone"));
        zones.map(|found| found.message).collect::<Vec<_>>()
    };
    assert_eq!(warnings(settings), [""; 0]);
    for (settings, why) in [
        (
            "{role: gateway, workload: {locality: west/a}}",
            "it is not known where",
        ),
        (&elsewhere, "no endpoint of its own"),
    ] {
        let told = warnings(settings);
        assert!(told.len() == 1 && told[0].contains(why), "{told:?}");
    }
}

#[test]
fn an_explanation_names_the_key_its_endpoint_and_priorities() {
    let policy = "{outlierDetection: {}, loadBalancer: {consistentHash: {httpHeaderName: x-user}}}";
    let text = text(
        &PLACES,
        "{role: gateway, workload: {locality: west/b}}",
        policy,
    );
    let snapshot = snapshot(&text);
    let told = |headers: &[(&str, &str)]| {
        let mut request = Request::for_url("http://any:8080/").unwrap();
        for (name, value) in headers {
            request.headers.push((name.to_string(), value.to_string()));
        }
        explain(&snapshot, &[], &request, None).to_text()
    };
    let with_key = told(&[("x-user", "alice")]);
    let line = |name: &str, text: &str| {
        let found = text
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        found.unwrap_or_default().to_string()
    };
    assert!(
        line("hash key", &with_key).contains("header `x-user`"),
        "{with_key}"
    );
    assert!(
        line("endpoint of key", &with_key).contains("10.0.0.2:80"),
        "{with_key}"
    );
    assert!(
        line("locality", &with_key).contains("from west/b"),
        "{with_key}"
    );
    let near = line(
        "endpoint  ",
        &with_key.replace("10.0.0.1:80", "10.0.0.9:80"),
    );
    assert!(near.contains("priority 1 west/a"), "{with_key}");
    let without_key = told(&[]);
    assert!(
        line("endpoint of key", &without_key).contains("drawn"),
        "{without_key}"
    );
}

#[test]
fn a_table_is_built_again_when_names_resolve() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: shop}\nspec:\n  hosts: [shop.test]\n  resolution: DNS\n  \
                 ports: [{number: 80, name: http, protocol: HTTP}]\n";
    let policy = "host: shop.test\ntrafficPolicy: \
                  {loadBalancer: {consistentHash: {useSourceIp: true}}}\n";
    let before = snapshot(&format!(
        "{GATEWAY}{entry}{}",
        destination_rule("shop", policy)
    ));
    let endpoint = |snapshot: &ringroad_policy::snapshot::Snapshot| {
        let cluster = snapshot.cluster_named("outbound|80||shop.test");
        let cluster = cluster.expect("is there").clone();
        let at = cluster.endpoint_of_hash(7)?;
        Some(cluster.endpoints[at].address.to_string())
    };
    assert_eq!(endpoint(&before), None);
    let mut answers = ringroad_policy::snapshot::DnsTable::default();
    answers.set("shop.test", vec!["10.9.9.9".parse().unwrap()]);
    let after = before.with_resolved(&answers);
    assert_eq!(endpoint(&after).as_deref(), Some("10.9.9.9:80"));
}
