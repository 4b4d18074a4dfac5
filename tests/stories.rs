//! What the examples in `configs/` promise, told as somebody who runs them would see it. What a
//! killed endpoint comes to is in `resilience_ejection.rs`.

mod harness;

use harness::pool::Backend;
use harness::raw::ScriptedUpstream;
use harness::{
    Client, DRIVERS, Proxy, Upstream, example, folder, free_address, get, until, until_equal,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const HOST: &str = "shop.example.com";

/// The example at `path` behind `address`, with the services of its ports 9001, 9002, … elsewhere.
fn text(path: &str, address: SocketAddr, services: &[SocketAddr]) -> String {
    let mut changes = vec![("number: 8080", format!("number: {}", address.port()))];
    let written = ["9001", "9002", "9003"];
    let ports = services.iter().map(|service| service.port().to_string());
    changes.extend(written.into_iter().zip(ports));
    example(path, &changes)
}

fn start(driver: &str, files: &[(&str, &str)]) -> Proxy {
    let proxy = Proxy::start(folder(files), &["--driver", driver]);
    assert!(!proxy.log().contains("warning"), "{}", proxy.log());
    proxy
}

/// How many of `count` requests each of these answers.
fn share(address: SocketAddr, count: usize, body: &str) -> usize {
    let mut client = Client::connect(address).expect("connects");
    let mut answers = (0..count).map(|_| client.send("GET", HOST, "/").expect("an answer"));
    answers
        .by_ref()
        .filter(|answer| answer.body == body)
        .count()
}

/// Nine to one; everything; back, all by editing the file. From the moment that the proxy says that
/// the file is in use, no request goes by the old one.
#[test]
fn a_canary_is_shifted_by_editing_its_file_and_rolled_back_at_once() {
    for driver in DRIVERS {
        let address = free_address();
        let (stable, canary) = (Upstream::start("stable"), Upstream::start("canary"));
        let services = [stable.address, canary.address];
        let careful = text("canary/canary.yaml", address, &services);
        let shares = |stable: u32, canary: u32| {
            let rest = careful.split_once("weight: 90").expect("is there");
            let (between, end) = rest.1.split_once("weight: 10\n").expect("is there");
            let start = rest.0;
            format!("{start}weight: {stable}{between}weight: {canary}\n{end}")
        };
        assert_eq!(shares(90, 10), careful);
        let proxy = start(driver, &[("canary.yaml", &careful)]);
        // Each connection has one worker, and each worker deals hands of ten.
        assert_eq!(share(address, 100, "canary"), 10);
        let edit = |text: &str| {
            let before = proxy.stat("config.generation");
            proxy.put("canary.yaml", text);
            until("the edited file", || {
                proxy.stat("config.generation") > before
            });
        };
        edit(&shares(0, 100));
        assert_eq!(share(address, 100, "canary"), 100);
        edit(&shares(90, 10));
        assert_eq!(share(address, 100, "canary"), 10);
        edit(&shares(100, 0));
        assert_eq!(share(address, 100, "stable"), 100);

        // Testers see it all the while.
        let fields = format!("{HOST}\r\nx-canary: true");
        assert_eq!(get(address, &fields, "/").body, "canary");
    }
}

#[test]
fn an_experiment_goes_by_cookie_or_header() {
    for driver in DRIVERS {
        let address = free_address();
        let (old, new) = (Upstream::start("old"), Upstream::start("new"));
        let text = text("ab/ab.yaml", address, &[old.address, new.address]);
        let _proxy = start(driver, &[("ab.yaml", &text)]);
        for (headers, design) in [
            ("", "old"),
            ("cookie: group=b", "new"),
            ("cookie: session=1; group=b", "new"),
            ("cookie: session=1;group=b; theme=dark", "new"),
            ("cookie: group=a", "old"),
            ("cookie: group=beta", "old"),
            ("cookie: notgroup=b", "old"),
            ("x-group: b", "new"),
            ("x-group: a", "old"),
            ("cookie: group=a\r\nx-group: b", "new"),
        ] {
            let fields = format!("{HOST}\r\n{headers}");
            let fields = fields.trim_end();
            for _ in 0..3 {
                let answer = get(address, fields, "/");
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (200, design),
                    "{headers}"
                );
            }
        }
    }
}

/// With the delay of the file; the requests that wait do so beside each other.
#[test]
fn one_request_of_ten_waits_for_five_seconds_and_one_of_twenty_is_aborted() {
    const REQUESTS: usize = 400;
    for driver in DRIVERS {
        let address = free_address();
        let cart = Upstream::start("cart");
        let text = text("game-day/game-day.yaml", address, &[cart.address]);
        let proxy = start(driver, &[("game-day.yaml", &text)]);
        let ask = || {
            let began = Instant::now();
            let answer = get(address, HOST, "/");
            (answer.status, began.elapsed())
        };
        let answers: Vec<(u16, Duration)> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..REQUESTS).map(|_| scope.spawn(ask)).collect();
            let answers = askers.into_iter();
            answers
                .map(|asker| asker.join().expect("an answer"))
                .collect()
        });
        let waited = answers.iter().filter(|(_, took)| took.as_secs_f64() >= 5.0);
        let aborted = answers.iter().filter(|(status, _)| *status == 503);
        let (waited, aborted) = (waited.count(), aborted.count());
        // 40 and 20 expected; six standard deviations either way.
        assert!((1..=46).contains(&aborted), "{aborted}");
        let stat = |name: &str| {
            let listener = format!("http.127.0.0.1_{}", address.port());
            proxy.stat(&format!("{listener}.{name}")) as usize
        };
        let delayed = stat("fault.delays_injected");
        assert!((4..=76).contains(&delayed), "{delayed}");
        // Others may be slow, too.
        assert!(waited >= delayed, "{waited} of {delayed}");
        assert_eq!(aborted, stat("fault.aborts_injected"));
        assert_eq!(cart.requests(), REQUESTS - aborted);
        assert!(
            answers
                .iter()
                .all(|(status, _)| matches!(status, 200 | 503))
        );
    }
}

/// A third of the endpoints answers 503 to everything, and no client sees it.
#[test]
fn retries_hide_a_failing_third_of_the_endpoints() {
    for driver in DRIVERS {
        let address = free_address();
        let carts = [Backend::start(), Backend::start(), Backend::start()];
        carts[1].set_status(503);
        let services = carts.each_ref().map(|cart| cart.address);
        let text = text("resilience/resilience.yaml", address, &services);
        // Retries alone: nothing is left out for its failures.
        let text = text.replace("consecutive5xxErrors: 5", "consecutive5xxErrors: 1000");
        let proxy = start(driver, &[("resilience.yaml", &text)]);
        for _ in 0..150 {
            assert_eq!(get(address, HOST, "/").status, 200);
        }
        let failed = carts[1].requests();
        assert!(failed > 15, "{failed} of 150 met the one that fails");
        let stat =
            |name: &str| proxy.stat(&format!("cluster.outbound|80||cart.example.com.{name}"));
        assert_eq!(stat("upstream_rq_retry") as usize, failed);
        until_equal("retries that succeeded", failed as u64, || {
            stat("upstream_rq_retry_success")
        });
        assert_eq!(stat("outlier_detection.ejections_active"), 0);
        let good = carts[0].requests() + carts[2].requests();
        assert_eq!(good, 150, "each request was answered once");
    }
}

/// Endpoints that never answer: each try is cut by `perTryTimeout`, all of them by `timeout`.
#[test]
fn a_slow_upstream_is_cut_by_its_timeout() {
    for driver in DRIVERS {
        let address = free_address();
        let slow = [(); 3]
            .map(|()| ScriptedUpstream::start(|connection| while connection.head().is_some() {}));
        let services = slow.each_ref().map(|cart| cart.address);
        let written = text("resilience/resilience.yaml", address, &services);
        let proxy = start(driver, &[("resilience.yaml", &written)]);
        let began = Instant::now();
        let answer = get(address, HOST, "/");
        let took_s = began.elapsed().as_secs_f64();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (504, "upstream request timeout")
        );
        // Three tries of half a second and two short pauses.
        assert!(took_s >= 1.5, "{took_s}");
        until_equal("tries of each endpoint", [1, 1, 1], || {
            slow.each_ref().map(|cart| cart.heads().len())
        });

        let impatient = written.replace("timeout: 2s", "timeout: 950ms");
        proxy.put("resilience.yaml", &impatient);
        until("the shorter limit", || proxy.stat("config.generation") == 2);
        let began = Instant::now();
        assert_eq!(get(address, HOST, "/").status, 504);
        let took_s = began.elapsed().as_secs_f64();
        assert!(took_s >= 0.95, "{took_s}");
        // The second try is cut by the limit of all.
        until_equal("tries", 3 + 2, || {
            slow.iter().map(|cart| cart.heads().len()).sum::<usize>()
        });
        proxy.until_metrics("UT\"");
    }
}
