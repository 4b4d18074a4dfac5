use super::*;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use tokio::net::UdpSocket;

/// A name server on loopback that answers A and AAAA queries from a table, with a time to live
/// of one second.
struct Server {
    address: SocketAddr,
    answers: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
    fails: Arc<AtomicBool>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let answers: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>> = Arc::default();
        let fails = Arc::new(AtomicBool::new(false));
        let (table, failing) = (Arc::clone(&answers), Arc::clone(&fails));
        tokio::spawn(async move {
            let mut query = [0_u8; 1_500];
            while let Ok((len, from)) = socket.recv_from(&mut query).await {
                let table = table.lock().expect("not poisoned").clone();
                let reply = reply(&query[..len], &table, failing.load(Ordering::Relaxed));
                let _ = socket.send_to(&reply, from).await;
            }
        });
        Self {
            address,
            answers,
            fails,
        }
    }

    fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut answers = self.answers.lock().expect("not poisoned");
        answers.insert(name.to_string(), addresses.to_vec());
    }

    fn settings(&self) -> DnsSettings {
        DnsSettings {
            servers: vec![self.address],
            min_ttl_ms: 50,
            ..DnsSettings::default()
        }
    }
}

/// RFC 1035 section 4, for one question.
fn reply(query: &[u8], table: &BTreeMap<String, Vec<IpAddr>>, fails: bool) -> Vec<u8> {
    let mut at = 12;
    let mut labels = Vec::new();
    while query[at] != 0 {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + len]).to_lowercase());
        at += len + 1;
    }
    let question_end = at + 5;
    let wanted = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let known = table.get(&labels.join("."));
    let matching: Vec<IpAddr> = known
        .into_iter()
        .flatten()
        .filter(|ip| wanted == if ip.is_ipv4() { 1 } else { 28 })
        .copied()
        .collect();
    let code = match (fails, known) {
        (true, _) => 2,
        (_, None) => 3,
        _ => 0,
    };
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, matching.len() as u8, 0, 0, 0, 0]);
    out.extend(&query[12..question_end]);
    for ip in matching {
        out.extend([0xc0, 12]);
        out.extend(wanted.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 1]);
        match ip {
            IpAddr::V4(ip) => out.extend([&[0, 4][..], &ip.octets()].concat()),
            IpAddr::V6(ip) => out.extend([&[0, 16][..], &ip.octets()].concat()),
        }
    }
    out
}

async fn next(answers: &mut mpsc::UnboundedReceiver<Answer>) -> Answer {
    tokio::time::timeout(Duration::from_secs(20), answers.recv())
        .await
        .expect("an answer in time")
        .expect("the resolver lives")
}

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

#[tokio::test]
async fn both_families_are_found_and_changes_follow_the_time_to_live() {
    let server = Server::start().await;
    server.set("shop.example", &[ONE, SIX]);
    let (mut resolver, mut answers) = Resolver::new(Arc::default());
    let settings = DnsSettings {
        families: DnsFamilies::All,
        ..server.settings()
    };
    resolver.follow(&HashSet::from(["shop.example"]), &settings);
    let first = next(&mut answers).await;
    let mut addresses = first.addresses.expect("resolved");
    addresses.sort();
    assert_eq!(addresses, [ONE, SIX]);
    server.set("shop.example", &[TWO]);
    while next(&mut answers).await.addresses != Some(vec![TWO]) {}
}

#[tokio::test]
async fn ipv6_is_used_only_where_a_name_has_no_ipv4() {
    let server = Server::start().await;
    server.set("both.example", &[ONE, SIX]);
    server.set("six.example", &[SIX]);
    for (name, expected) in [("both.example", ONE), ("six.example", SIX)] {
        let (mut resolver, mut answers) = Resolver::new(Arc::default());
        resolver.follow(&HashSet::from([name]), &server.settings());
        assert_eq!(next(&mut answers).await.addresses, Some(vec![expected]));
    }
}

#[tokio::test]
async fn a_failure_is_counted_and_says_nothing_about_addresses() {
    let server = Server::start().await;
    server.set("shop.example", &[ONE]);
    let counters = Arc::new(DnsCounters::default());
    let (mut resolver, mut answers) = Resolver::new(Arc::clone(&counters));
    resolver.follow(&HashSet::from(["shop.example"]), &server.settings());
    assert_eq!(next(&mut answers).await.addresses, Some(vec![ONE]));
    server.fails.store(true, Ordering::Relaxed);
    while next(&mut answers).await.addresses.is_some() {}
    assert!(counters.failures.load(Ordering::Relaxed) >= 1);
    server.fails.store(false, Ordering::Relaxed);
    while next(&mut answers).await.addresses.is_none() {}
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
    let server = Server::start().await;
    server.set("a.example", &[ONE]);
    server.set("b.example", &[TWO]);
    let counters = Arc::new(DnsCounters::default());
    let (mut resolver, mut answers) = Resolver::new(Arc::clone(&counters));
    resolver.follow(&HashSet::from(["a.example"]), &server.settings());
    assert_eq!(next(&mut answers).await.name, "a.example");
    resolver.follow(&HashSet::from(["b.example"]), &server.settings());
    // Answers of the old name that were under way may still come, but end.
    let mut of_b = 0;
    while of_b < 2 {
        of_b += usize::from(next(&mut answers).await.name == "b.example");
    }
    assert_eq!(resolver.tasks.keys().collect::<Vec<_>>(), ["b.example"]);
}
