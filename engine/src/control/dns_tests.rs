use super::*;
use name_server::NameServer;
use std::net::{Ipv4Addr, Ipv6Addr};

#[path = "../../../tests/harness/name_server.rs"]
#[allow(dead_code)]
mod name_server;

fn settings_for(server: &NameServer) -> DnsSettings {
    DnsSettings {
        servers: vec![server.address],
        min_ttl_ms: 50,
        ..DnsSettings::default()
    }
}

async fn next(answers: &mut mpsc::UnboundedReceiver<Answer>) -> Answer {
    tokio::time::timeout(Duration::from_secs(60), answers.recv())
        .await
        .expect("an answer in time")
        .expect("the resolver lives")
}

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

#[tokio::test]
async fn both_families_are_found_and_changes_follow_the_time_to_live() {
    let server = NameServer::start();
    server.set("shop.example", &[ONE, SIX], 1);
    let (mut resolver, mut answers) = Resolver::new(Arc::default());
    let settings = DnsSettings {
        families: DnsFamilies::All,
        ..settings_for(&server)
    };
    resolver.follow(&HashSet::from(["shop.example"]), &settings);
    let first = next(&mut answers).await;
    let mut addresses = first.addresses.expect("resolved");
    addresses.sort();
    assert_eq!(addresses, [ONE, SIX]);
    server.set("shop.example", &[TWO], 1);
    while next(&mut answers).await.addresses != Some(vec![TWO]) {}
}

#[tokio::test]
async fn ipv6_is_used_only_where_a_name_has_no_ipv4() {
    let server = NameServer::start();
    server.set("both.example", &[ONE, SIX], 1);
    server.set("six.example", &[SIX], 1);
    for (name, expected) in [("both.example", ONE), ("six.example", SIX)] {
        let (mut resolver, mut answers) = Resolver::new(Arc::default());
        resolver.follow(&HashSet::from([name]), &settings_for(&server));
        assert_eq!(next(&mut answers).await.addresses, Some(vec![expected]));
    }
}

#[tokio::test]
async fn a_failure_is_counted_and_says_nothing_about_addresses() {
    let server = NameServer::start();
    server.set("shop.example", &[ONE], 1);
    let counters = Arc::new(DnsCounters::default());
    let (mut resolver, mut answers) = Resolver::new(Arc::clone(&counters));
    resolver.follow(&HashSet::from(["shop.example"]), &settings_for(&server));
    assert_eq!(next(&mut answers).await.addresses, Some(vec![ONE]));
    server.set_failing(true);
    while next(&mut answers).await.addresses.is_some() {}
    assert!(counters.failures.load(Ordering::Relaxed) >= 1);
    server.set_failing(false);
    while next(&mut answers).await.addresses.is_none() {}
}

#[tokio::test]
async fn a_name_that_is_withdrawn_loses_its_addresses() {
    let server = NameServer::start();
    server.set("shop.example", &[ONE], 1);
    server.set("old.example", &[TWO], 1);
    let (mut resolver, mut answers) = Resolver::new(Arc::default());
    let names = HashSet::from(["shop.example", "old.example"]);
    resolver.follow(&names, &settings_for(&server));
    let mut known: HashMap<String, Vec<IpAddr>> = HashMap::new();
    while known.len() < 2 {
        let answer = next(&mut answers).await;
        known.insert(answer.name, answer.addresses.expect("resolved"));
    }
    // One has no records any more, the other is no name any more.
    server.set("shop.example", &[], 1);
    server.remove("old.example");
    while known.values().any(|addresses| !addresses.is_empty()) {
        let answer = next(&mut answers).await;
        known.insert(answer.name, answer.addresses.expect("an answer"));
    }
}

#[tokio::test]
async fn names_of_the_hosts_file_need_no_server() {
    let (mut resolver, mut answers) = Resolver::new(Arc::default());
    resolver.follow(&HashSet::from(["localhost"]), &DnsSettings::default());
    let addresses = next(&mut answers).await.addresses.expect("resolved");
    assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
}

#[tokio::test]
async fn a_name_that_is_no_longer_needed_is_no_longer_asked_for() {
    let server = NameServer::start();
    server.set("a.example", &[ONE], 1);
    server.set("b.example", &[TWO], 1);
    let counters = Arc::new(DnsCounters::default());
    let (mut resolver, mut answers) = Resolver::new(Arc::clone(&counters));
    resolver.follow(&HashSet::from(["a.example"]), &settings_for(&server));
    assert_eq!(next(&mut answers).await.name, "a.example");
    resolver.follow(&HashSet::from(["b.example"]), &settings_for(&server));
    // Answers of the old name that were under way may still come, but end.
    let mut of_b = 0;
    while of_b < 2 {
        of_b += usize::from(next(&mut answers).await.name == "b.example");
    }
    assert_eq!(resolver.tasks.keys().collect::<Vec<_>>(), ["b.example"]);
}
