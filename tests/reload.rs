//! Following the files while requests flow.

mod harness;

use harness::{
    Client, DRIVERS, Proxy, Upstream, answering, folder, free_address, gateway, get, splitting,
    try_send, until,
};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn an_empty_directory_waits_for_its_first_file() {
    let proxy = Proxy::start(folder(&[]), &[]);
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

#[test]
fn a_broken_file_leaves_what_runs_and_says_where() {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("answer.yaml", &answering("one")),
    ]);
    let proxy = Proxy::start(config, &[]);
    proxy.put("answer.yaml", "spec: [");
    until("the refusal", || proxy.stat("config.reload_rejected") == 1);
    assert_eq!(proxy.stat("config.last_reload_successful"), 0);
    assert_eq!(get(address, "a", "/").body, "one");
    until("the diagnostic", || proxy.log().contains("answer.yaml:1:"));
    proxy.put("answer.yaml", &answering("two"));
    until("the mended file", || get(address, "a", "/").body == "two");
    until("the good news", || {
        proxy.stat("config.last_reload_successful") == 1
    });
}

#[test]
fn listeners_come_and_go_with_their_documents() {
    let (first, second) = (free_address(), free_address());
    let config = folder(&[
        ("gate.yaml", &gateway(first)),
        ("answer.yaml", &answering("one")),
    ]);
    let proxy = Proxy::start(config, &[]);
    proxy.put("gate.yaml", &gateway(second));
    until("the new listener", || {
        try_send(second, "GET", "a", "/").is_ok_and(|answer| answer.status == 200)
    });
    until("the end of the old one", || Client::connect(first).is_err());
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
        assert_eq!(
            proxy.stat("config.generation"),
            6,
            "each swap is one change"
        );
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
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("answer.yaml", &answering("one")),
    ]);
    let proxy = Proxy::start(config, &[]);
    let aside = proxy.config.with_extension("aside");
    fs::rename(&proxy.config, &aside).expect("moved away");
    until("the notice", || {
        proxy.stat("config.last_reload_successful") == 0
    });
    assert!(
        proxy.log().contains(&proxy.config.display().to_string()),
        "{}",
        proxy.log()
    );
    assert_eq!(get(address, "a", "/").body, "one");
    assert_eq!(proxy.admin("/ready").status, 200);
    fs::rename(&aside, &proxy.config).expect("moved back");
    until("the good news", || {
        proxy.stat("config.last_reload_successful") == 1
    });
    proxy.put("answer.yaml", &answering("two"));
    until("the new file", || get(address, "a", "/").body == "two");
}

/// A writer that takes its time: the half is refused, the old rules stay, the whole is taken.
#[test]
fn a_file_that_appears_half_written_is_not_served() {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("answer.yaml", &answering("one")),
    ]);
    let proxy = Proxy::start(config, &[]);
    let whole = answering("two");
    let (half, rest) = whole.split_at(whole.find("two").expect("is there"));
    let mut file = fs::File::create(proxy.config.join("answer.yaml")).expect("created");
    file.write_all(half.as_bytes()).expect("written");
    until("the refusal", || proxy.stat("config.reload_rejected") >= 1);
    assert_eq!(get(address, "a", "/").body, "one");
    file.write_all(rest.as_bytes()).expect("written");
    drop(file);
    until("the whole file", || get(address, "a", "/").body == "two");
    assert_eq!(proxy.stat("config.last_reload_successful"), 1);
}

/// Weights and upstreams change thirty times while clients keep sending on kept connections: no
/// request fails, none is sent twice.
#[test]
fn no_request_is_lost_or_doubled_while_files_change() {
    for driver in DRIVERS {
        let address = free_address();
        let upstreams = [
            Upstream::start("a"),
            Upstream::start("b"),
            Upstream::start("c"),
        ];
        let split = |weights: [u32; 3]| {
            let to: Vec<_> = upstreams.iter().map(|up| up.address).zip(weights).collect();
            splitting(&to)
        };
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &split([1, 1, 1])),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let done = AtomicBool::new(false);
        let sent: usize = std::thread::scope(|scope| {
            let client = || {
                let mut client = Client::connect(address).expect("connects");
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = client.send("GET", "shop.example", "/").expect("an answer");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    sent += 1;
                }
                sent
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            for reload in 1..=30_u32 {
                let weights = [reload % 7 + 1, reload % 3, reload % 5];
                proxy.put("split.yaml", &split(weights));
                until("the reload", || {
                    proxy.stat("config.reload_accepted") == u64::from(reload) + 1
                });
            }
            done.store(true, Ordering::Relaxed);
            clients
                .into_iter()
                .map(|client| client.join().expect("no failure"))
                .sum()
        });
        assert!(sent > 50, "{sent} requests are no load");
        let carried: usize = upstreams.iter().map(Upstream::requests).sum();
        assert_eq!(carried, sent, "with {driver}");
    }
}
