//! The admin interface of a running proxy.

mod harness;

use harness::{
    DRIVERS, Proxy, Upstream, folder, free_address, gateway, get, post, splitting, until,
};

#[test]
fn pages_tell_what_runs_and_what_was_carried() {
    for driver in DRIVERS {
        let (address, upstream) = (free_address(), Upstream::start("one"));
        let split = splitting(&[(upstream.address, 1)]);
        let config = folder(&[("gate.yaml", &gateway(address)), ("split.yaml", &split)]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert_eq!(proxy.admin("/ready").body, "LIVE\n");
        let answer = get(address, "shop.example", "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "one"));

        let info = proxy.admin_json("/server_info");
        let name = info["driver"]["name"].as_str().expect("a name");
        if driver == "epoll" {
            assert_eq!(name, "epoll");
        }
        assert_ne!(info["driver"]["reason"], "");
        assert_eq!(info["workers"].as_array().map(Vec::len), Some(2));
        assert!(
            proxy
                .admin("/listeners")
                .body
                .ends_with(&format!("::{address}\n"))
        );
        let clusters = proxy.admin("/clusters").body;
        let endpoint = format!("outbound|80||up0.test::{}::weight::1\n", upstream.address);
        assert!(clusters.contains(&endpoint), "{clusters}");
        let dump = proxy.admin_json("/config_dump");
        assert_eq!(dump["documents"].as_array().map(Vec::len), Some(3));
        assert_eq!(dump["clusters"][0]["name"], "outbound|80||up0.test");

        until("the request in the metrics", || {
            let text = proxy.admin("/stats/prometheus").body;
            text.lines().any(|line| {
                line.starts_with("istio_requests_total{")
                    && line.contains("response_code=\"200\"")
                    && line.ends_with(" 1")
            })
        });
        assert_eq!(proxy.stat("config.generation"), 1);
    }
}

#[test]
fn other_hosts_are_refused() {
    let proxy = Proxy::start(folder(&[]), &[]);
    assert_eq!(get(proxy.admin, "evil.example", "/config_dump").status, 403);
    assert_eq!(proxy.admin("/config_dump").status, 200);
}

#[test]
fn quitting_needs_post_and_ends_the_process() {
    let mut proxy = Proxy::start(folder(&[]), &[]);
    assert_eq!(proxy.admin("/quitquitquit").status, 405);
    assert!(proxy.is_running());
    assert_eq!(post(proxy.admin, "/quitquitquit").status, 200);
    assert_eq!(proxy.wait().code(), Some(0));
}
