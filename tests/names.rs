//! Endpoints that are names: their addresses follow the answers of a name server.

mod harness;

use harness::name_server::NameServer;
use harness::pool::Backend;
use harness::{Client, DRIVERS, Proxy, folder, free_address, gateway, get, settings, until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Backends at all of these addresses, on one port.
fn backends<const N: usize>(addresses: [IpAddr; N]) -> [Backend; N] {
    loop {
        let port = free_address().port();
        let listeners = addresses.map(|ip| TcpListener::bind(SocketAddr::new(ip, port)));
        if listeners.iter().all(Result::is_ok) {
            return listeners.map(|listener| Backend::listen(listener.expect("is bound")));
        }
    }
}

/// A service of that name, reached under `HOST.test`.
fn named(host: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}}}\n\
         spec:\n  hosts: [{host}.test]\n  resolution: DNS\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}}}\n\
         spec:\n  hosts: [{host}.test]\n  gateways: [gate]\n  http:\n  \
         - route: [{{destination: {{host: {host}.test, port: {{number: 80}}}}}}]\n---\n"
    )
}

fn start(driver: &str, server: &NameServer, families: &str, services: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let spec = format!(
        "{{role: gateway, dns: {{servers: [\"{}\"], families: {families}, minTtl: 50ms}}}}",
        server.address
    );
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(&spec)),
        ("services.yaml", services),
    ]);
    (Proxy::start(config, &["--driver", driver]), address)
}

/// On a slow machine the proxy does not wait for the first addresses.
fn until_known(address: SocketAddr, host: &str) {
    until("the first addresses", || {
        get(address, host, "/").status == 200
    });
}

/// Sends `count` requests to `host` and says how many each backend got; none may fail.
fn spread<const N: usize>(
    address: SocketAddr,
    host: &str,
    count: usize,
    backends: &[Backend; N],
) -> [usize; N] {
    let before = backends.each_ref().map(Backend::requests);
    let mut client = Client::connect(address).expect("connects");
    for _ in 0..count {
        let answer = client.send("GET", host, "/").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    std::array::from_fn(|at| backends[at].requests() - before[at])
}

/// An address that leaves the answer gets no further request once the answer before has expired,
/// one that joins it gets its share; while the server fails, the addresses known last hold.
#[test]
fn addresses_follow_their_time_to_live() {
    for driver in DRIVERS {
        let server = NameServer::start();
        let backends = backends([ONE, TWO]);
        server.set("quick.test", &[ONE], 1);
        server.set("slow.test", &[ONE], 3600);
        let port = backends[0].address.port();
        let services = named("quick", port) + &named("slow", port);
        let (proxy, address) = start(driver, &server, "V4_ONLY", &services);
        until_known(address, "quick.test");
        until_known(address, "slow.test");
        assert_eq!(spread(address, "quick.test", 20, &backends), [20, 0]);

        server.set("quick.test", &[TWO], 1);
        server.set("slow.test", &[TWO], 3600);
        until("the new address", || {
            spread(address, "quick.test", 1, &backends) == [0, 1]
        });
        assert_eq!(spread(address, "quick.test", 20, &backends), [0, 20]);

        server.set("quick.test", &[ONE, TWO], 1);
        until("both addresses", || {
            let [one, two] = spread(address, "quick.test", 40, &backends);
            one > 0 && two > 0
        });

        server.set_failing(true);
        server.set("quick.test", &[TWO], 1);
        let failures = proxy.stat("dns.lookup_failure");
        until("failed lookups", || {
            proxy.stat("dns.lookup_failure") > failures + 1
        });
        let [one, two] = spread(address, "quick.test", 40, &backends);
        assert!(one > 0 && two > 0, "the addresses known last: {one} {two}");
        server.set_failing(false);
        until("the answer after the failures", || {
            spread(address, "quick.test", 10, &backends) == [0, 10]
        });

        assert!(server.queries("quick.test") >= 4);
        assert_eq!(
            server.queries("slow.test"),
            1,
            "asked again before the answer has expired"
        );
        assert_eq!(spread(address, "slow.test", 10, &backends), [10, 0]);
    }
}

/// With `ALL` the addresses of both families share the requests; otherwise one family is used.
#[test]
fn both_families_are_reached() {
    if TcpListener::bind((SIX, 0)).is_err() {
        eprintln!("skipped: this machine has no IPv6 on loopback");
        return;
    }
    for driver in DRIVERS {
        for (families, expected) in [
            ("ALL", [true, true]),
            ("V4_ONLY", [true, false]),
            ("V6_ONLY", [false, true]),
            ("V4_PREFERRED", [true, false]),
        ] {
            let server = NameServer::start();
            let backends = backends([ONE, SIX]);
            server.set("both.test", &[ONE, SIX], 1);
            server.set("six.test", &[SIX], 1);
            let port = backends[0].address.port();
            let services = named("both", port) + &named("six", port);
            let (_proxy, address) = start(driver, &server, families, &services);
            until_known(address, "both.test");
            let got = spread(address, "both.test", 40, &backends).map(|count| count > 0);
            assert_eq!(got, expected, "{families}");
            if families == "V4_PREFERRED" {
                until_known(address, "six.test");
                assert_eq!(spread(address, "six.test", 10, &backends), [0, 10]);
            }

            server.set("both.test", &[SIX], 1);
            if families == "V4_PREFERRED" {
                until("the other family", || {
                    spread(address, "both.test", 10, &backends) == [0, 10]
                });
            }
        }
    }
}
