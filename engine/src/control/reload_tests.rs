use super::*;
use crate::control::data_path::Worker;
use crate::tls::CertificateReport;
use ringroad_policy::diagnostic::Place;
use ringroad_policy::settings::ProxySettings;
use ringroad_policy::snapshot::{Cluster, Discovery, DnsTarget, Endpoint, EndpointAddress};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Each line of the text becomes a cluster; a line `dns NAME` one that is resolved; `bad` is an
/// error and `odd` a warning.
struct LineLoader;

impl Loader for LineLoader {
    fn load(&self, reading: &Reading, resolved: &DnsTable) -> Outcome {
        let mut clusters = Vec::new();
        let mut diagnostics = reading.problems.clone();
        for line in reading.files.iter().flat_map(|file| file.text.lines()) {
            let mut cluster = Cluster::new(line.to_string());
            if let Some(name) = line.strip_prefix("dns ") {
                let address = EndpointAddress::Unix(String::new());
                let template = Endpoint::at(address);
                let target = DnsTarget {
                    name: name.to_string(),
                    port: 80,
                    template,
                };
                cluster.discovery = Discovery::StrictDns(vec![target]);
            }
            match line {
                "bad" => diagnostics.push(Diagnostic::error("bad", Place::Nowhere, "bad")),
                "odd" => diagnostics.push(Diagnostic::warning("odd", Place::Nowhere, "odd")),
                _ => {}
            }
            clusters.push(Arc::new(cluster));
        }
        let good = diagnostics
            .iter()
            .all(|found| found.severity == Severity::Warning);
        let settings = Arc::new(ProxySettings::default());
        let snapshot = Snapshot::new(settings, Vec::new(), clusters, Vec::new(), resolved);
        Outcome {
            snapshot: good.then_some(snapshot),
            diagnostics,
        }
    }

    fn render(&self, _: &[SourceFile], diagnostics: &[Diagnostic]) -> String {
        diagnostics
            .iter()
            .map(|found| format!("{}\n", found.message))
            .collect()
    }
}

#[derive(Default)]
struct FakeDataPath {
    published: Mutex<Vec<Arc<Snapshot>>>,
    refuses: AtomicBool,
}

impl FakeDataPath {
    /// The names of the clusters of each published snapshot.
    fn published(&self) -> Vec<Vec<String>> {
        let names = |snapshot: &Arc<Snapshot>| {
            snapshot
                .clusters
                .iter()
                .map(|cluster| cluster.name.clone())
                .collect()
        };
        self.published
            .lock()
            .expect("not poisoned")
            .iter()
            .map(names)
            .collect()
    }
}

impl DataPath for FakeDataPath {
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<u64, String> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err("the address is taken".to_string());
        }
        let mut published = self.published.lock().expect("not poisoned");
        published.push(snapshot);
        Ok(1 + published.len() as u64)
    }

    fn workers(&self) -> Vec<Worker> {
        let generation = 1 + self.published.lock().expect("not poisoned").len() as u64;
        vec![
            Worker {
                id: 0,
                connections: 0,
                generation
            };
            2
        ]
    }

    fn certificates(&self) -> Vec<CertificateReport> {
        Vec::new()
    }

    fn certificate_problems(&self) -> usize {
        0
    }

    fn drain(&self) {}

    fn is_draining(&self) -> bool {
        false
    }
}

struct Setup {
    folder: tempfile::TempDir,
    data_path: Arc<FakeDataPath>,
    status: Arc<ConfigStatus>,
    task: tokio::task::JoinHandle<()>,
}

type TestedReloader = Reloader<LineLoader, FakeDataPath>;

/// A reloader that runs on this text, and the folder with it.
fn reloader(text: &str) -> (tempfile::TempDir, TestedReloader) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("config");
    fs::create_dir(&root).expect("created");
    fs::write(root.join("a.yaml"), text).expect("written");
    let (roots, limits) = (vec![root], ReadLimits::default());
    let watcher = Watcher::new(roots.clone(), limits);
    let reading = Arc::new(config_dir::read(&roots, &limits).expect("read"));
    let names = Names::new(Arc::default());
    let outcome = LineLoader.load(&reading, names.table());
    let status = Arc::new(ConfigStatus::new(RunningConfig {
        files: Arc::new(reading.files.clone()),
        snapshot: Arc::new(outcome.snapshot.expect("starts with a good one")),
        generation: 1,
        accepted_at: SystemTime::now(),
    }));
    let data_path = Arc::new(FakeDataPath::default());
    let reloader = Reloader::new(ReloaderParts {
        roots,
        limits,
        loader: Arc::new(LineLoader),
        data_path: Arc::clone(&data_path),
        status: Arc::clone(&status),
        watcher,
        names,
        keys: TokenKeys::new(),
        unknown_keys: Arc::default(),
        drain_began: Arc::default(),
        reading,
        told: outcome.diagnostics,
    });
    (folder, reloader)
}

impl Setup {
    async fn start(text: &str) -> Self {
        let (folder, reloader) = reloader(text);
        Self {
            folder,
            data_path: Arc::clone(&reloader.data_path),
            status: Arc::clone(&reloader.status),
            task: tokio::spawn(reloader.run()),
        }
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("config")
    }

    fn write(&self, text: &str) {
        fs::write(self.root().join("a.yaml"), text).expect("written");
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited for: {what}");
            assert!(!self.task.is_finished(), "the loop ended");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_change_is_published_once_and_timed() {
    let setup = Setup::start("one").await;
    setup.write("two");
    setup
        .until("the change", |setup| setup.status.accepted() == 2)
        .await;
    assert_eq!(setup.data_path.published(), [["two"]]);
    setup
        .until("the workers", |setup| {
            setup.status.last_reload() > Duration::ZERO
        })
        .await;
    assert_eq!(setup.status.running().generation, 2);
    // Touching a file changes nothing.
    setup.write("two");
    setup.write("three");
    setup
        .until("the next change", |setup| setup.status.accepted() == 3)
        .await;
    assert_eq!(setup.data_path.published(), [["two"], ["three"]]);
}

#[tokio::test]
async fn an_error_keeps_what_runs_and_is_told_until_it_is_mended() {
    let setup = Setup::start("one").await;
    setup.write("bad");
    setup
        .until("the refusal", |setup| setup.status.rejected() == 1)
        .await;
    assert!(!setup.status.last_load_good());
    assert_eq!(setup.status.last_rejection().as_deref(), Some("bad\n"));
    assert_eq!(setup.status.running().snapshot.clusters[0].name, "one");
    setup.write("one");
    setup
        .until("the old text", |setup| setup.status.last_load_good())
        .await;
    assert_eq!(setup.data_path.published(), Vec::<Vec<String>>::new());
    setup.write("two\nodd");
    setup
        .until("the change", |setup| setup.status.accepted() == 2)
        .await;
    assert_eq!(setup.data_path.published(), [["two", "odd"]]);
    assert_eq!(setup.status.last_rejection(), None);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused() {
    let setup = Setup::start("one").await;
    fs::write(setup.root().join("b.yaml"), b"\xff").expect("written");
    setup
        .until("the refusal", |setup| setup.status.rejected() == 1)
        .await;
    assert!(
        setup
            .status
            .last_rejection()
            .expect("is told")
            .contains("not UTF-8")
    );
}

#[tokio::test]
async fn a_directory_that_vanishes_leaves_the_configuration_and_may_come_back() {
    let setup = Setup::start("one").await;
    let away = setup.folder.path().join("away");
    fs::rename(setup.root(), &away).expect("renamed");
    setup
        .until("the loss", |setup| !setup.status.last_load_good())
        .await;
    assert!(
        setup
            .status
            .last_rejection()
            .expect("is told")
            .contains("does not exist")
    );
    assert_eq!(setup.status.running().snapshot.clusters[0].name, "one");
    fs::write(away.join("a.yaml"), "two").expect("written");
    fs::rename(&away, setup.root()).expect("renamed");
    setup
        .until("the return", |setup| setup.status.last_load_good())
        .await;
    assert_eq!(setup.data_path.published(), [["two"]]);
}

#[tokio::test]
async fn a_kubernetes_swap_is_one_change() {
    let setup = Setup::start("one").await;
    let at = |name: &str| setup.root().join(name);
    let link = |target: &str, path: &Path| {
        std::os::unix::fs::symlink(target, path).expect("linked");
    };
    fs::create_dir(at("..1")).expect("created");
    fs::write(at("..1/b.yaml"), "b1").expect("written");
    link("..1", &at("..data"));
    link("..data/b.yaml", &at("b.yaml"));
    setup
        .until("the volume", |setup| setup.status.accepted() == 2)
        .await;
    fs::create_dir(at("..2")).expect("created");
    fs::write(at("..2/b.yaml"), "b2").expect("written");
    link("..2", &at("..data_tmp"));
    fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
    setup
        .until("the swap", |setup| setup.status.accepted() == 3)
        .await;
    assert_eq!(setup.data_path.published(), [["one", "b1"], ["one", "b2"]]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_tried_again() {
    let setup = Setup::start("one").await;
    setup.data_path.refuses.store(true, Ordering::Relaxed);
    setup.write("two");
    setup
        .until("the refusal", |setup| setup.status.rejected() == 1)
        .await;
    assert_eq!(
        setup.status.last_rejection().as_deref(),
        Some("the address is taken")
    );
    setup.data_path.refuses.store(false, Ordering::Relaxed);
    setup
        .until("the second try", |setup| setup.status.accepted() == 2)
        .await;
    assert_eq!(setup.data_path.published(), [["two"]]);
}

#[tokio::test]
async fn names_in_use_stay_resolved_while_the_next_configuration_waits_for_its_address() {
    let (folder, mut reloader) = reloader("one");
    let write = |text| fs::write(folder.path().join("config/a.yaml"), text).expect("written");
    let is_resolved = |reloader: &TestedReloader| {
        let known = reloader.names.table().addresses("localhost");
        !known.is_empty()
    };
    write("dns localhost");
    reloader.reload(Instant::now()).await;
    assert!(is_resolved(&reloader));
    reloader.data_path.refuses.store(true, Ordering::Relaxed);
    write("two");
    reloader.reload(Instant::now()).await;
    assert!(is_resolved(&reloader), "what runs still needs it");
    reloader.data_path.refuses.store(false, Ordering::Relaxed);
    reloader.publish_late().await;
    assert_eq!(reloader.status.running().snapshot.clusters[0].name, "two");
    assert!(!is_resolved(&reloader), "nothing needs it any more");
}

/// Name servers tell the addresses of a name in turn.
#[tokio::test]
async fn the_same_addresses_in_another_order_are_no_change() {
    let (folder, mut reloader) = reloader("one");
    fs::write(folder.path().join("config/a.yaml"), "dns localhost").expect("written");
    reloader.reload(Instant::now()).await;
    for (last_octets, published) in [([1, 2], 2), ([2, 1], 2), ([2, 3], 3)] {
        let addresses = last_octets.map(|octet| std::net::IpAddr::from([10, 0, 0, octet]));
        let answer = Answer {
            name: "localhost".to_string(),
            addresses: Some(addresses.to_vec()),
        };
        reloader.take_answers(answer).await;
        let found = reloader.data_path.published().len();
        assert_eq!(found, published, "{last_octets:?}");
    }
}

#[tokio::test]
async fn a_snapshot_with_a_new_name_starts_with_its_addresses() {
    let setup = Setup::start("one").await;
    setup.write("dns localhost");
    setup
        .until("the change", |setup| setup.status.accepted() == 2)
        .await;
    let running = setup.status.running();
    let endpoints = &running.snapshot.clusters[0].endpoints;
    assert!(!endpoints.is_empty());
    assert!(endpoints.iter().all(|endpoint| match &endpoint.address {
        EndpointAddress::Socket(address) => address.ip().is_loopback() && address.port() == 80,
        EndpointAddress::Unix(_) => false,
    }));
}
