//! How a chain of a listener is chosen for a connection, and what a connection tells.

use ringroad_policy::snapshot::{
    ChainHandler, ChainMatch, ChainMismatch, ConnectionFacts, FilterChain, FilterChains,
    Inspection, IpPrefix, PeerIdentity, Random, TcpDestination, TcpRoute, TransportProtocol,
};
use std::sync::Arc;

fn route(weights: &[(&str, u32)]) -> TcpRoute {
    let destinations = weights.iter().map(|(name, weight)| TcpDestination {
        cluster: None,
        cluster_name: (*name).to_string(),
        weight: *weight,
        origin: None,
    });
    TcpRoute {
        name: "test".to_string(),
        destinations: destinations.collect(),
        idle_timeout_ms: None,
        max_connection_duration_ms: None,
        origin: None,
    }
}

fn chain(name: &str, matches: ChainMatch) -> FilterChain {
    FilterChain {
        name: name.to_string(),
        matches,
        tls: None,
        handler: ChainHandler::Tcp(Arc::new(route(&[("only", 1)]))),
        origin: None,
    }
}

fn names(names: &[&str]) -> ChainMatch {
    ChainMatch {
        server_names: names.iter().map(ToString::to_string).collect(),
        ..ChainMatch::default()
    }
}

fn chains(chains: Vec<FilterChain>) -> FilterChains {
    FilterChains {
        chains,
        default: None,
        tls_inspection: Inspection::Everywhere,
        http_inspection: Inspection::Everywhere,
    }
}

fn to(destination: &str) -> ConnectionFacts {
    ConnectionFacts {
        destination: Some(destination.parse().unwrap()),
        ..ConnectionFacts::default()
    }
}

fn tls(destination: &str, server_name: &str, protocols: &[&str]) -> ConnectionFacts {
    ConnectionFacts {
        is_tls: true,
        server_name: Some(server_name.into()),
        application_protocols: protocols.iter().map(|name| (*name).into()).collect(),
        ..to(destination)
    }
}

fn chosen<'c>(chains: &'c FilterChains, facts: &ConnectionFacts) -> Result<&'c str, ChainMismatch> {
    chains.choose(facts).map(|chain| chain.name.as_str())
}

#[test]
fn an_exact_server_name_comes_before_the_longest_suffix_and_that_before_no_name() {
    let chains = chains(vec![
        chain("any", ChainMatch::default()),
        chain("com", names(&["*.com"])),
        chain("example", names(&["*.example.com", "other.org"])),
        chain("exact", names(&["shop.example.com"])),
    ]);
    let ask = |name| chosen(&chains, &tls("10.0.0.1:443", name, &[]));
    assert_eq!(ask("shop.example.com"), Ok("exact"));
    assert_eq!(ask("cart.example.com"), Ok("example"));
    assert_eq!(ask("other.org"), Ok("example"));
    assert_eq!(
        ask("example.com"),
        Ok("com"),
        "a wildcard stands for something"
    );
    assert_eq!(ask("example.net"), Ok("any"));
    assert_eq!(chosen(&chains, &to("10.0.0.1:443")), Ok("any"));
}

#[test]
fn the_port_decides_first_and_there_is_no_way_back() {
    let port = |port| ChainMatch {
        destination_port: Some(port),
        ..ChainMatch::default()
    };
    let chains = chains(vec![
        chain(
            "9000 tls",
            ChainMatch {
                transport: Some(TransportProtocol::Tls),
                ..port(9000)
            },
        ),
        chain("8000", port(8000)),
        chain("rest", ChainMatch::default()),
    ]);
    assert_eq!(chosen(&chains, &to("10.0.0.1:8000")), Ok("8000"));
    assert_eq!(chosen(&chains, &to("10.0.0.1:7000")), Ok("rest"));
    assert_eq!(
        chosen(&chains, &tls("10.0.0.1:9000", "a", &[])),
        Ok("9000 tls")
    );
    assert_eq!(
        chosen(&chains, &to("10.0.0.1:9000")),
        Err(ChainMismatch::None),
        "plain text does not fall back to the chain for other ports"
    );
}

#[test]
fn the_longest_prefix_of_the_destination_wins() {
    let prefix = |text: &str| ChainMatch {
        destination_prefixes: vec![IpPrefix::parse(text).unwrap()],
        ..ChainMatch::default()
    };
    let chains = chains(vec![
        chain("all", prefix("0.0.0.0/0")),
        chain("net", prefix("10.1.0.0/16")),
        chain("one", prefix("10.1.2.3")),
        chain("v6", prefix("2001:db8::/32")),
    ]);
    let ask = |address: &str| chosen(&chains, &to(address));
    assert_eq!(ask("10.1.2.3:80"), Ok("one"));
    assert_eq!(ask("10.1.2.4:80"), Ok("net"));
    assert_eq!(ask("10.2.0.1:80"), Ok("all"));
    assert_eq!(ask("[2001:db8::7]:80"), Ok("v6"));
    assert_eq!(ask("[2001:db9::7]:80"), Err(ChainMismatch::None));
    assert_eq!(IpPrefix::parse("10.0.0.0/33"), None);
    assert_eq!(IpPrefix::parse("example.com"), None);
    assert_eq!(IpPrefix::parse("10.1.2.3/8"), IpPrefix::parse("10.0.0.0/8"));
}

#[test]
fn what_is_not_inspected_cannot_be_matched() {
    let protocols = |transport, names: &[&str]| ChainMatch {
        transport: Some(transport),
        application_protocols: names.iter().map(ToString::to_string).collect(),
        ..ChainMatch::default()
    };
    let raw = ChainMatch {
        transport: Some(TransportProtocol::Raw),
        ..ChainMatch::default()
    };
    let mut chains = chains(vec![
        chain(
            "mesh",
            protocols(TransportProtocol::Tls, &["istio", "istio-h2"]),
        ),
        chain(
            "http",
            protocols(TransportProtocol::Raw, &["http/1.1", "h2c"]),
        ),
        chain("bytes", raw),
    ]);
    let mesh = tls("10.0.0.1:80", "a", &["istio-h2"]);
    let http = ConnectionFacts {
        application_protocols: vec!["http/1.1".into()],
        ..to("10.0.0.1:80")
    };
    assert_eq!(chosen(&chains, &mesh), Ok("mesh"));
    assert_eq!(chosen(&chains, &http), Ok("http"));
    assert_eq!(chosen(&chains, &to("10.0.0.1:80")), Ok("bytes"));
    let other_tls = tls("10.0.0.1:80", "a", &["h2"]);
    assert_eq!(chosen(&chains, &other_tls), Err(ChainMismatch::None));

    chains.tls_inspection = Inspection::AllBut(vec![80]);
    chains.http_inspection = Inspection::Only(vec![81]);
    assert_eq!(chosen(&chains, &mesh), Ok("bytes"), "TLS is bytes like any");
    assert_eq!(chosen(&chains, &http), Ok("bytes"));
    assert!(chains.inspects_tls(81) && !chains.inspects_tls(80));
    assert!(chains.inspects_http(81) && !chains.inspects_http(80));
}

#[test]
fn of_several_protocols_the_clients_first_choice_counts() {
    let asking = |name: &str, protocols: &[&str]| {
        let application_protocols = protocols.iter().map(ToString::to_string).collect();
        let matches = ChainMatch {
            application_protocols,
            ..ChainMatch::default()
        };
        chain(name, matches)
    };
    let chains = chains(vec![
        asking("requests", &["istio-http/1.1", "istio-h2"]),
        asking("bytes", &["istio-peer-exchange", "istio"]),
        chain("any", ChainMatch::default()),
    ]);
    let ask = |offered: &[&str]| chosen(&chains, &tls("10.0.0.1:80", "a", offered));
    // As the sidecars of a mesh offer them.
    assert_eq!(
        ask(&["istio-http/1.1", "istio", "http/1.1"]),
        Ok("requests")
    );
    assert_eq!(ask(&["istio-h2", "istio", "h2"]), Ok("requests"));
    assert_eq!(ask(&["istio-peer-exchange", "istio"]), Ok("bytes"));
    assert_eq!(ask(&["istio", "istio-http/1.1"]), Ok("bytes"));
    assert_eq!(ask(&["h2", "http/1.1"]), Ok("any"));
}

#[test]
fn chains_that_ask_for_the_same_leave_no_choice_and_the_default_takes_what_none_wants() {
    let mut chains = chains(vec![
        chain("a", names(&["a.com"])),
        chain("b", names(&["b.com"])),
        chain("b again", names(&["b.com"])),
    ]);
    let ask = |chains: &FilterChains, name| {
        let facts = tls("10.0.0.1:443", name, &[]);
        chosen(chains, &facts).map(str::to_string)
    };
    assert_eq!(ask(&chains, "b.com"), Err(ChainMismatch::Several));
    assert_eq!(ask(&chains, "c.com"), Err(ChainMismatch::None));
    chains.default = Some(chain("default", ChainMatch::default()));
    assert_eq!(ask(&chains, "c.com"), Ok("default".to_string()));
    assert_eq!(ask(&chains, "a.com"), Ok("a".to_string()));
}

#[test]
fn connections_are_split_by_weight() {
    let route = route(&[("a", 1), ("b", 3)]);
    let mut random = Random::new(7);
    let picks = (0..4000).map(|_| route.pick_destination(&mut random).cluster_name.as_str());
    let b = picks.filter(|name| *name == "b").count();
    assert!((2850..3150).contains(&b), "{b} of 4000 with three quarters");
}

#[test]
fn a_spiffe_id_names_its_parts() {
    let id = PeerIdentity::from_spiffe("spiffe://cluster.local/ns/shop/sa/cart").unwrap();
    assert_eq!(id.principal, "cluster.local/ns/shop/sa/cart");
    assert_eq!(id.trust_domain, "cluster.local");
    assert_eq!(
        (id.namespace.as_str(), id.service_account.as_str()),
        ("shop", "cart")
    );
    let other = PeerIdentity::from_spiffe("spiffe://td/workload/7").unwrap();
    assert_eq!(
        (other.trust_domain.as_str(), other.namespace.as_str()),
        ("td", "")
    );
    let longer = PeerIdentity::from_spiffe("spiffe://td/ns/a/sa/b/c").unwrap();
    assert_eq!(
        (longer.namespace.as_str(), longer.service_account.as_str()),
        ("", "")
    );
    assert_eq!(PeerIdentity::from_spiffe("https://td/ns/a/sa/b"), None);
    assert_eq!(PeerIdentity::from_spiffe("spiffe:///ns/a/sa/b"), None);
}
