//! `ringroad demo`, as a newcomer meets it: what it prints is done word by word.

mod harness;

use harness::{Client, free_address, get, post, until};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const SERVICE_PORTS: std::ops::RangeInclusive<u16> = 19080..=19085;

/// A copy of `configs/bookinfo` in which every port is a free one.
fn clone_with_free_ports() -> (tempfile::TempDir, SocketAddr) {
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join("configs/bookinfo");
    fs::create_dir_all(&folder).expect("created");
    let origin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/bookinfo");
    let gateway = free_address();
    let services: Vec<_> = SERVICE_PORTS.map(|port| (port, free_address())).collect();
    for entry in fs::read_dir(origin).expect("is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        let mut text = fs::read_to_string(&path).expect("is read");
        if name == "gateway.yaml" {
            text = text.replace("number: 8080", &format!("number: {}", gateway.port()));
        }
        for (port, free) in &services {
            text = text.replace(
                &format!("http: {port}\n"),
                &format!("http: {}\n", free.port()),
            );
        }
        fs::write(folder.join(name), text).expect("written");
    }
    (root, gateway)
}

fn demo(root: &Path, admin: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringroad"));
    command
        .args(["demo", "--workers", "2", "--admin", &admin.to_string()])
        .current_dir(root)
        // Else the files of the clone that is being tested would be taken, and edited.
        .env_remove("CARGO_MANIFEST_DIR");
    command
}

/// The running demo and what it has said.
struct Demo {
    child: Child,
    admin: SocketAddr,
    gateway: SocketAddr,
    reviews: PathBuf,
    guide: String,
    log: Arc<Mutex<String>>,
    _root: tempfile::TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- guide\n{}\n--- log\n{}", self.guide, self.log());
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let kept = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = kept.lock().expect("not poisoned");
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

impl Demo {
    fn start() -> Self {
        let (root, gateway) = clone_with_free_ports();
        let admin = free_address();
        let mut child = demo(root.path(), admin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let log = collect(child.stderr.take().expect("is piped"));
        let out = collect(child.stdout.take().expect("is piped"));
        let mut demo = Self {
            child,
            admin,
            gateway,
            reviews: root.path().join("configs/bookinfo/reviews.yaml"),
            guide: String::new(),
            log,
            _root: root,
        };
        until("the guide", || {
            demo.guide = out.lock().expect("not poisoned").clone();
            let ended = demo.child.try_wait().expect("can be asked").is_some();
            assert!(!ended, "it ended: {}", demo.log());
            demo.guide.contains("Ctrl-C ends it")
        });
        demo
    }

    fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Runs the command that the guide prints from `start` to the end of its last line, which is
    /// the first without a backslash.
    fn run_from_guide(&self, start: &str, nth: usize) {
        let (at, _) = self
            .guide
            .match_indices(start)
            .nth(nth)
            .unwrap_or_else(|| panic!("no {nth}. {start} in the guide"));
        let mut command = String::new();
        for line in self.guide[at..].lines() {
            command.push_str(line);
            command.push('\n');
            if !line.ends_with('\\') {
                break;
            }
        }
        let status = Command::new("sh").args(["-c", &command]).status();
        assert!(status.expect("runs").success(), "{command}");
    }

    fn stat(&self, name: &str) -> u64 {
        let body = get(self.admin, "localhost", &format!("/stats?filter={name}")).body;
        let value = body
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {body:?}"))
    }

    fn until_generation(&self, generation: u64) {
        until(&format!("generation {generation}"), || {
            self.stat("config.generation") == generation
        });
    }

    /// How many of 100 requests `is_counted`.
    fn count(&self, is_counted: impl Fn(&harness::Answer) -> bool) -> usize {
        let host = self.gateway.to_string();
        let ask = || get(self.gateway, &host, "/api/v1/products/0/reviews");
        (0..100).filter(|_| is_counted(&ask())).count()
    }
}

#[test]
fn the_five_things_to_try_happen_as_printed() {
    let mut demo = Demo::start();
    let host = demo.gateway.to_string();

    // 1. A request.
    let url = format!("http://{host}/productpage");
    assert!(demo.guide.contains(&format!("curl -s {url}\n")));
    let page = get(demo.gateway, &host, "/productpage");
    assert_eq!(page.status, 200);
    assert_eq!(page.body.matches("status 200").count(), 2, "{}", page.body);
    assert!(page.body.contains("reviews-v"), "{}", page.body);

    // 2. The header that picks v2.
    let header = "curl -s -H 'end-user: jason' ";
    assert!(demo.guide.contains(header), "{}", demo.guide);
    for _ in 0..10 {
        let mut client = Client::connect(demo.gateway).expect("connects");
        let fields = format!("{host}\r\nend-user: jason");
        let answer = client.send("GET", &fields, "/api/v1/products/0/reviews");
        let answer = answer.expect("an answer");
        assert!(
            answer.body.contains("\"version\":\"v2\""),
            "{}",
            answer.body
        );
        assert!(answer.body.contains("black"), "{}", answer.body);
    }

    // 3. Nine to one, then half and half.
    let is_v3 = |answer: &harness::Answer| answer.body.contains("\"version\":\"v3\"");
    let share = demo.count(is_v3);
    assert!(share.abs_diff(10) <= 2, "{share} of 100");
    demo.run_from_guide("sed -i -e", 0);
    demo.until_generation(2);
    let share = demo.count(is_v3);
    assert!(share.abs_diff(50) <= 2, "{share} of 100");

    // 4. A broken file.
    let echo = format!("echo 'oops: [' >> {}", demo.reviews.display());
    demo.run_from_guide(&echo, 0);
    until("the refusal", || demo.stat("last_reload_successful") == 0);
    until("the diagnostic", || demo.log().contains("reviews.yaml:"));
    let share = demo.count(is_v3);
    // Two workers, each within one of its share where the hundred begins and where it ends.
    assert!(share.abs_diff(50) <= 4, "{share} of 100");
    demo.run_from_guide("sed -i '$d'", 0);
    until("the mended file", || {
        demo.stat("last_reload_successful") == 1
    });

    // 5. An endpoint that stops.
    let quit = demo
        .guide
        .split("curl -s -X POST http://")
        .nth(1)
        .expect("is told");
    let v3: SocketAddr = quit
        .split('/')
        .next()
        .and_then(|address| address.parse().ok())
        .expect("an address");
    assert_eq!(post(v3, "/quit").status, 200);
    // Connections that were open to it may answer a little longer than its port does.
    until("the last answer of v3", || demo.count(is_v3) == 0);
    // On a busy machine a few more than the split alone explains.
    let failed = demo.count(|answer| answer.status == 503);
    assert!(failed.abs_diff(50) <= 6, "{failed} of 100");
    let generation = demo.stat("config.generation");
    demo.run_from_guide("sed -i -e", 1);
    demo.until_generation(generation + 1);
    assert_eq!(demo.count(|answer| answer.status == 200), 100);

    let pid = i32::try_from(demo.child.id()).expect("a process id");
    // SAFETY: the child has not been waited for, so its id is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let mut code = None;
    until("the end", || {
        code = demo.child.try_wait().expect("can be asked");
        code.is_some()
    });
    assert_eq!(code.and_then(|status| status.code()), Some(0));
}

#[test]
fn each_taken_port_is_named_with_what_to_do() {
    let (root, gateway) = clone_with_free_ports();
    let services = root.path().join("configs/bookinfo/services.yaml");
    let services = fs::read_to_string(services).expect("is read");
    let port = services.split("http: ").nth(1).expect("a port");
    let port: u16 = port
        .lines()
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a number");
    let admin = free_address();
    let service = SocketAddr::from(([127, 0, 0, 1], port));
    for (taken, advice) in [
        (service, "services.yaml"),
        (gateway, "choose another port"),
        (admin, "--admin"),
    ] {
        let mut held = None;
        // The kernel may still be closing what the last one listened on.
        until("the port to be free", || {
            held = TcpListener::bind(taken).ok();
            held.is_some()
        });
        let output = demo(root.path(), admin).output().expect("runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains(&taken.to_string()) && told.contains(advice),
            "{told}"
        );
        assert!(output.stdout.is_empty(), "a guide to what does not run");
    }
}
