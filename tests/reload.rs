//! Following the files while requests flow.

mod harness;

use harness::frames::{FrameClient, GOAWAY, HEADERS, get_frame};
use harness::raw::ScriptedUpstream;
use harness::{
    Client, DRIVERS, Proxy, Upstream, answering, folder, free_address, gateway, get, settings,
    splitting, try_send, until, until_equal,
};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn an_empty_directory_waits_for_its_first_file() {
    for driver in DRIVERS {
        let proxy = Proxy::start(folder(&[]), &["--driver", driver]);
        let ready = proxy.admin("/ready");
        assert_eq!(
            (ready.status, ready.body.as_str()),
            (503, "PRE_INITIALIZING\n")
        );
        let address = free_address();
        proxy.put("gate.yaml", &gateway(address));
        proxy.put("answer.yaml", &answering("hello"));
        until("readiness", || proxy.admin("/ready").status == 200);
        until("the answer", || {
            try_send(address, "GET", "a", "/").is_ok_and(|answer| answer.body == "hello")
        });
    }
}

#[test]
fn a_broken_first_file_is_not_said_to_leave_what_runs() {
    let proxy = Proxy::start(folder(&[]), &[]);
    proxy.put("gate.yaml", "spec: [");
    proxy.until_logged("refused, errors: 1; no configuration is running yet");
    proxy.put("gate.yaml", &gateway(free_address()));
    proxy.until_stat("config.last_reload_successful", 1);
    proxy.put("gate.yaml", "spec: [");
    proxy.until_logged("refused, errors: 1; the configuration that was running stays");
}

#[test]
fn a_broken_file_leaves_what_runs_and_says_where() {
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("answer.yaml", &answering("one")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        proxy.put("answer.yaml", "spec: [");
        until("the refusal", || proxy.stat("config.reload_rejected") == 1);
        assert_eq!(proxy.stat("config.last_reload_successful"), 0);
        assert_eq!(get(address, "a", "/").body, "one");
        proxy.until_logged("answer.yaml:1:");
        proxy.put("answer.yaml", &answering("two"));
        until("the mended file", || get(address, "a", "/").body == "two");
        until("the good news", || {
            proxy.stat("config.last_reload_successful") == 1
        });
        for worker in ["0", "1"] {
            let figure = format!("ringroad_worker_generation{{worker=\"{worker}\"}} 2\n");
            proxy.until_metrics(&figure);
        }
    }
}

/// A reload in the middle of a block deals the rest of that block, and no new one.
#[test]
fn a_split_goes_on_where_it_was() {
    for driver in DRIVERS {
        let upstreams = ["one", "two"].map(Upstream::start);
        let address = free_address();
        let split = splitting(&upstreams.each_ref().map(|upstream| (upstream.address, 1)));
        // What is drawn is the same in each run.
        let changed = |to: u64| settings(&format!("{{seed: 7, drainDeadline: {to}s}}"));
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &split),
            ("settings.yaml", &changed(1)),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let mut client = Client::connect(address).expect("connects");
        for block in 1..=10 {
            for half in 0..2 {
                for _ in 0..5 {
                    let answer = client.send("GET", "a", "/").expect("an answer");
                    assert_eq!(answer.status, 200);
                }
                let generation = 2 * block + half;
                proxy.put("settings.yaml", &changed(generation));
                proxy.until_stat("config.generation", generation);
            }
            let shares = upstreams.each_ref().map(Upstream::requests);
            assert_eq!(shares, [5 * block as usize; 2], "{driver}: block {block}");
        }
    }
}

#[test]
fn a_listener_takes_the_place_of_one_on_the_same_port() {
    // A connection that the old listener takes in its last moment is not answered.
    let answers = |address| {
        until("an answer", || {
            try_send(address, "GET", "a", "/").is_ok_and(|answer| answer.body == "one")
        });
    };
    for driver in DRIVERS {
        let narrow = free_address();
        let wide = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), narrow.port());
        // Only the wide one is there for this address.
        let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), narrow.port());
        let config = folder(&[
            ("gate.yaml", &gateway(narrow)),
            ("answer.yaml", &answering("one")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert!(Client::connect(elsewhere).is_err());
        proxy.put("gate.yaml", &gateway(wide));
        until("the wide listener", || Client::connect(elsewhere).is_ok());
        answers(narrow);
        proxy.put("gate.yaml", &gateway(narrow));
        until("its end", || Client::connect(elsewhere).is_err());
        answers(narrow);
        let both = format!(
            "{}---\n{}",
            gateway(narrow),
            gateway(wide).replace("name: gate", "name: wide")
        );
        proxy.put("gate.yaml", &both);
        until("both", || Client::connect(elsewhere).is_ok());
        assert_eq!(proxy.stat("config.reload_rejected"), 0);
    }
}

#[test]
fn listeners_come_and_go_with_their_documents() {
    for driver in DRIVERS {
        let (first, second) = (free_address(), free_address());
        let config = folder(&[
            ("gate.yaml", &gateway(first)),
            ("answer.yaml", &answering("one")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        proxy.put("gate.yaml", &gateway(second));
        until("the new listener", || {
            try_send(second, "GET", "a", "/").is_ok_and(|answer| answer.status == 200)
        });
        until("the end of the old one", || Client::connect(first).is_err());
    }
}

#[test]
fn the_time_of_a_reload_is_told_in_no_figures() {
    let seconds = |proxy: &Proxy| {
        let page = proxy.admin("/stats/prometheus").body;
        let mut lines = page.lines();
        let name = "ringroad_config_last_reload_seconds ";
        let figure = lines.find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        figure.expect("a number")
    };
    for driver in DRIVERS {
        let config = folder(&[("gate.yaml", &gateway(free_address()))]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert_eq!(seconds(&proxy), 0.0);
        let began = Instant::now();
        proxy.put("answer.yaml", &answering("one"));
        until("a time", || proxy.stat("config.last_reload_ms") > 0);
        let most = began.elapsed().as_secs_f64();
        let told = seconds(&proxy);
        assert!(0.0 < told && told <= most, "{driver}: {told} of {most} s");
    }
}

/// They get the answer to a request that is on its way, by the rules that the listener had.
#[test]
fn connections_of_a_listener_that_is_gone_end_with_the_request_they_have_begun() {
    for driver in DRIVERS {
        let upstream = Upstream::start("one");
        for rules in [splitting(&[(upstream.address, 1)]), answering("one")] {
            let address = free_address();
            let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &rules)]);
            let proxy = Proxy::start(config, &["--driver", driver]);
            let mut client = Client::connect(address).expect("connects");
            let answer = client.send("GET", "a", "/").expect("an answer");
            assert_eq!(answer.header("connection"), None);
            client.write(b"GET / HTTP/1.1\r\nho");
            proxy.put("gate.yaml", &gateway(free_address()));
            until("the end of the listener", || {
                Client::connect(address).is_err()
            });
            client.write(b"st: a\r\n\r\n");
            let answer = client.answer().expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (200, "one"));
            assert_eq!(answer.header("connection"), Some("close"), "{rules}");
            assert!(client.send("GET", "a", "/").is_err());
        }
    }
}

/// A ConfigMap is mounted as links through `..data`; an update turns that link to a new folder.
#[test]
fn a_kubernetes_volume_is_followed_through_its_swap_without_a_lost_request() {
    for driver in DRIVERS {
        let address = free_address();
        let mount = folder(&[]);
        let publish = |version: u32, body: &str| {
            let dated = format!("..2026_11_21_{version:02}");
            let inner = mount.path().join(&dated);
            fs::create_dir(&inner).expect("created");
            fs::write(inner.join("gate.yaml"), gateway(address)).expect("written");
            fs::write(inner.join("answer.yaml"), answering(body)).expect("written");
            let beside = mount.path().join("..data_tmp");
            symlink(&dated, &beside).expect("linked");
            fs::rename(&beside, mount.path().join("..data")).expect("turned");
            if version > 0 {
                let old = format!("..2026_11_21_{:02}", version - 1);
                fs::remove_dir_all(mount.path().join(old)).expect("removed");
            }
        };
        publish(0, "v0");
        for name in ["gate.yaml", "answer.yaml"] {
            let through = std::path::Path::new("..data").join(name);
            symlink(through, mount.path().join(name)).expect("linked");
        }
        let proxy = Proxy::start(mount_of(&mount), &["--driver", driver]);
        let mut client = Client::connect(address).expect("connects");
        let mut ask = || client.send("GET", "a", "/").expect("an answer").body;
        assert_eq!(ask(), "v0");
        for version in 1..=5 {
            let body = format!("v{version}");
            publish(version, &body);
            until("the swapped files", || ask() == body);
        }
        assert_eq!(proxy.stat("config.reload_rejected"), 0, "{}", proxy.log());
        // Each swap is one change.
        proxy.until_stat("config.generation", 6);
    }
}

/// A folder whose one entry is a link to `mount`, for a proxy that owns its folder.
fn mount_of(mount: &tempfile::TempDir) -> tempfile::TempDir {
    let outer = folder(&[]);
    symlink(mount.path(), outer.path().join("mounted")).expect("linked");
    outer
}

#[test]
fn a_directory_that_vanishes_changes_nothing_and_may_come_back() {
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("answer.yaml", &answering("one")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let aside = proxy.config.with_extension("aside");
        fs::rename(&proxy.config, &aside).expect("moved away");
        until("the notice", || {
            proxy.stat("config.last_reload_successful") == 0
        });
        proxy.until_logged(&proxy.config.display().to_string());
        assert_eq!(get(address, "a", "/").body, "one");
        assert_eq!(proxy.admin("/ready").status, 200);
        fs::rename(&aside, &proxy.config).expect("moved back");
        until("the good news", || {
            proxy.stat("config.last_reload_successful") == 1
        });
        proxy.put("answer.yaml", &answering("two"));
        until("the new file", || get(address, "a", "/").body == "two");

        // Another one in its place: no event tells of that.
        fs::rename(&proxy.config, &aside).expect("moved away");
        proxy.until_stat("config.last_reload_successful", 0);
        let next = proxy.config.with_extension("next");
        fs::create_dir(&next).expect("created");
        fs::write(next.join("gate.yaml"), gateway(address)).expect("written");
        fs::write(next.join("answer.yaml"), answering("three")).expect("written");
        fs::rename(&next, &proxy.config).expect("moved into place");
        until("the new folder", || get(address, "a", "/").body == "three");
        fs::remove_dir_all(&aside).expect("removed");
    }
}

/// An editor that moves a file away and then writes it anew leaves the directory empty for a while.
#[test]
fn a_directory_that_loses_its_last_file_keeps_what_runs() {
    for driver in DRIVERS {
        let address = free_address();
        let whole = |body: &str| gateway(address) + "---\n" + &answering(body);
        let proxy = Proxy::start(
            folder(&[("all.yaml", &whole("one"))]),
            &["--driver", driver],
        );
        let file = proxy.config.join("all.yaml");
        fs::rename(&file, proxy.config.join("all.yaml~")).expect("moved away");
        until("the refusal", || proxy.stat("config.reload_rejected") == 1);
        assert_eq!(get(address, "a", "/").body, "one");
        assert_eq!(proxy.admin("/ready").status, 200);
        let info = proxy.admin("/server_info").body;
        assert!(info.contains("error[no-files]"), "{info}");
        until("the diagnostic", || {
            let log = proxy.log();
            log.contains("error[no-files]") && log.contains(&proxy.config.display().to_string())
        });
        proxy.put("all.yaml", &whole("two"));
        until("the new file", || get(address, "a", "/").body == "two");
        proxy.until_stat("config.last_reload_successful", 1);
        // No documents at all can be had, by a file that says so.
        proxy.put("all.yaml", "# nothing\n");
        until("the end of the listener", || {
            Client::connect(address).is_err()
        });
    }
}

/// A writer that takes its time: the half is refused, the old rules stay, the whole is taken.
#[test]
fn a_file_that_appears_half_written_is_not_served() {
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("answer.yaml", &answering("one")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let whole = answering("two");
        let (half, rest) = whole.split_at(whole.find("two").expect("is there"));
        let mut file = fs::File::create(proxy.config.join("answer.yaml")).expect("created");
        until("the empty file to be refused", || {
            proxy.stat("config.reload_rejected") >= 1
        });
        assert_eq!(get(address, "a", "/").body, "one");
        file.write_all(half.as_bytes()).expect("written");
        until("the half to be refused", || {
            proxy.stat("config.reload_rejected") >= 2
        });
        assert_eq!(get(address, "a", "/").body, "one");
        file.write_all(rest.as_bytes()).expect("written");
        drop(file);
        until("the whole file", || get(address, "a", "/").body == "two");
        proxy.until_stat("config.last_reload_successful", 1);
    }
}

/// Requests of a client that took longer than this were held up, even on a machine that is loaded.
const LATE: Duration = Duration::from_secs(15);

/// Weights, endpoints and pools change two hundred times while clients keep sending on kept
/// connections: no request fails, none is sent twice, none is held up.
#[test]
fn no_request_is_lost_doubled_or_held_up_while_files_change() {
    for driver in DRIVERS {
        let address = free_address();
        let upstreams = ["a", "b", "c"].map(Upstream::start);
        let split = |round: u32| {
            let weights = [round % 7 + 1, round % 3, round % 5];
            // One of them leaves every fourth time.
            let count = if round.is_multiple_of(4) { 2 } else { 3 };
            let to = upstreams.iter().map(|up| up.address).zip(weights);
            splitting(&to.take(count).collect::<Vec<_>>())
        };
        let pools = |round: u32| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: up0}}\nspec:\n  host: up0.test\n  trafficPolicy:\n    \
                 connectionPool:\n      tcp: {{connectTimeout: {}s, maxConnections: {}}}\n      \
                 http: {{maxRequestsPerConnection: {}, http2MaxRequests: {}}}\n",
                round % 5 + 1,
                round % 9 + 4,
                round % 50 + 1,
                100 + round
            )
        };
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &split(1)),
            ("pools.yaml", &pools(1)),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let done = AtomicBool::new(false);
        let sent: usize = std::thread::scope(|scope| {
            let client = || {
                let mut client = Client::connect(address).expect("connects");
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = client.send("GET", "shop.example", "/").expect("an answer");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert!(began.elapsed() < LATE, "late: {:?}", began.elapsed());
                    sent += 1;
                }
                sent
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            for round in 2..=201 {
                proxy.put("split.yaml", &split(round));
                proxy.put("pools.yaml", &pools(round));
                // In one reload, or in two.
                until("the reload", || {
                    proxy.stat("config.reload_accepted") >= u64::from(round)
                });
            }
            done.store(true, Ordering::Relaxed);
            clients
                .into_iter()
                .map(|client| client.join().expect("no failure"))
                .sum()
        });
        assert_eq!(proxy.stat("config.reload_rejected"), 0);
        assert!(sent > 200, "{sent} requests are no load");
        let carried: usize = upstreams.iter().map(Upstream::requests).sum();
        assert_eq!(carried, sent, "with {driver}");
    }
}

/// Connections of a listener that a reload takes away: those that wait, one within a request, one
/// within an answer and one that has begun to ask.
#[test]
fn connections_of_a_removed_listener_end_with_their_present_request() {
    for driver in DRIVERS {
        let finish = Arc::new(AtomicBool::new(false));
        let may_finish = finish.clone();
        let upstream = ScriptedUpstream::start(move |connection| {
            while let Some((path, _)) = connection.head() {
                let wait = || until("leave to finish", || may_finish.load(Ordering::Relaxed));
                if path == "/slow" {
                    wait();
                }
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no");
                if path == "/begun" {
                    wait();
                }
                connection.send("k");
            }
        });
        let (first, second) = (free_address(), free_address());
        let config = folder(&[
            ("gate.yaml", &gateway(first)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let args = ["--driver", driver, "--workers", "2"];
        let proxy = Proxy::start_with_workers(config, &args);
        let connect = || Client::connect(first).expect("connects");
        let mut silent = connect();
        let mut idle = connect();
        assert_eq!(idle.send("GET", "a", "/").expect("an answer").body, "ok");
        let mut asking = connect();
        asking.write(b"GET / HTTP/1.1\r\nho");
        let mut slow = connect();
        slow.start("GET", "a", "/slow").expect("is sent");
        let mut begun = std::net::TcpStream::connect(first).expect("connects");
        begun
            .write_all(b"GET /begun HTTP/1.1\r\nhost: a\r\n\r\n")
            .expect("is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\no") {
            let mut byte = [0];
            begun
                .read_exact(&mut byte)
                .expect("the beginning of an answer");
            answer.push(byte[0]);
        }
        let mut streams = FrameClient::connect(first, &[]);
        streams.send(&get_frame(1, "/"));
        streams.until("an answer", |frame| frame.kind == HEADERS);
        until("both at the upstream", || upstream.heads().len() == 4);

        proxy.put("gate.yaml", &gateway(second));
        until("the new listener", || {
            try_send(second, "GET", "a", "/").is_ok_and(|answer| answer.status == 200)
        });
        streams.until("a goodbye", |frame| frame.kind == GOAWAY);
        drop(streams);
        let is_over = |client: &mut Client| {
            let end = client.answer().expect_err("the end");
            end.kind() == ErrorKind::UnexpectedEof
        };
        assert!(is_over(&mut silent), "{driver}");
        assert!(is_over(&mut idle), "{driver}");
        asking.write(b"st: a\r\n\r\n");
        let answer = asking.answer().expect("an answer");
        assert_eq!(answer.header("connection"), Some("close"), "{driver}");
        finish.store(true, Ordering::Relaxed);
        let answer = slow.answer().expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert_eq!(answer.header("connection"), Some("close"), "{driver}");
        assert!(is_over(&mut slow), "{driver}");
        let mut rest = Vec::new();
        begun.set_read_timeout(Some(LATE)).expect("is set");
        begun.read_to_end(&mut rest).expect("the end");
        assert_eq!(rest, b"k", "{driver}");
        until_equal("connections of the old listener", 0, || {
            let name = format!("http.{first}.downstream_cx_active").replace(':', "_");
            proxy.stat(&name)
        });
    }
}
