//! The example of two sidecars with mutual TLS, as the README tells it, from a fresh folder; and
//! the certificates that `ringroad certs` makes for it.

mod harness;

use harness::pki::connect_as;
use harness::{Proxy, folder, free_address, ringroad, try_send, until};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const BINARY: &str = env!("CARGO_BIN_EXE_ringroad");

fn project(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(whole).expect("is there")
}

/// A sidecar that a command of the README has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_three_commands_of_the_readme_run_two_sidecars_with_strict_mutual_tls() {
    let readme = project("README.md");
    let block = readme
        .split("```sh\n")
        .find(|block| block.contains(" certs "))
        .and_then(|block| block.split("```").next())
        .expect("the commands");
    let commands: Vec<&str> = block.lines().collect();
    assert_eq!(commands.len(), 3, "three commands");

    // A fresh folder with the example as it is, but for ports that others may have.
    let ports: [(&str, SocketAddr); 5] =
        ["9080", "15443", "9100", "15100", "15000"].map(|port| (port, free_address()));
    let clone = folder(&[]);
    for name in ["payment", "order"] {
        let path = format!("configs/mtls/{name}");
        let mut text = project(&format!("{path}/{name}.yaml"));
        for (port, free) in &ports {
            text = text.replace(port, &free.port().to_string());
        }
        fs::create_dir_all(clone.path().join(&path)).expect("made");
        let file = clone.path().join(&path).join(format!("{name}.yaml"));
        fs::write(file, text).expect("written");
    }
    let mut running = Vec::new();
    for command in commands {
        let args = command
            .strip_prefix("cargo run --release -- ")
            .expect("cargo");
        let in_background = args.ends_with(" &");
        let args: Vec<&str> = args.trim_end_matches(" &").split(' ').collect();
        let mut process = Command::new(BINARY);
        process.args(&args).current_dir(clone.path());
        process.stdout(Stdio::null()).stderr(Stdio::null());
        if args.contains(&"configs/mtls/payment") {
            // Its admin interface has the address that each has by default.
            process.args(["--admin", &ports[4].1.to_string()]);
        }
        let mut child = process.spawn().expect("starts");
        match in_background {
            true => running.push(Running(child)),
            false => assert!(child.wait().expect("ends").success()),
        }
    }
    assert_eq!(running.len(), 2);

    let [order, payment, ..] = ports.map(|(_, address)| address);
    let host = "payment.shop.internal";
    let ask = |method: &str| try_send(order, method, host, "/charge");
    until("both sidecars", || {
        ask("POST").is_ok_and(|answer| answer.status == 200)
    });
    assert_eq!(ask("POST").expect("an answer").body, "paid\n");
    let refused = ask("GET").expect("an answer");
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (403, "RBAC: access denied")
    );
    assert!(
        try_send(payment, "POST", host, "/charge").is_err(),
        "without a certificate"
    );
}

#[test]
fn certificates_are_spiffe_identities_of_one_root_that_renewals_keep() {
    let place = folder(&[]);
    let out = place.path().join("made");
    let make = |workloads: &[&str]| {
        let out = out.to_str().expect("UTF-8");
        let fixed = [
            "certs",
            "--out",
            out,
            "--trust-domain",
            "td.test",
            "--dns",
            "a.test",
        ];
        ringroad(&[&fixed[..], workloads].concat())
    };
    let read = |name: &str| fs::read(out.join(name)).expect("is there");
    let told = make(&["shop/cart", "plain"]);
    assert!(told.status.success());
    let told = String::from_utf8(told.stdout).expect("UTF-8");
    assert!(told.contains("spiffe://td.test/ns/shop/sa/cart"), "{told}");
    assert!(
        told.contains("spiffe://td.test/ns/default/sa/plain"),
        "{told}"
    );
    let root = read("root-cert.pem");
    assert_eq!(read("shop/cart/root-cert.pem"), root);

    let names = |pem: &[u8]| {
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let der = CertificateDer::from_pem_slice(pem).expect("PEM");
        let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
        let names = parsed
            .subject_alternative_name()
            .expect("read")
            .expect("is there");
        let names = names.value.general_names.iter();
        names.map(ToString::to_string).collect::<Vec<_>>()
    };
    let chain = read("shop/cart/cert-chain.pem");
    assert_eq!(
        names(&chain),
        ["URI(spiffe://td.test/ns/shop/sa/cart)", "DNSName(a.test)"]
    );
    for key in ["root-key.pem", "shop/cart/key.pem"] {
        let mode = fs::metadata(out.join(key))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
        let text = String::from_utf8(read(key)).expect("UTF-8");
        let line = text.lines().nth(1).expect("a line");
        assert!(!told.contains(line), "keys are not printed");
    }

    // Again: the root stays, the certificate is another.
    assert!(make(&["shop/cart"]).status.success());
    assert_eq!(read("root-cert.pem"), root);
    assert_ne!(read("shop/cart/cert-chain.pem"), chain);

    for wrong in ["../../etc", "a/b/c", "Shop/cart", "shop/"] {
        let refused = make(&[wrong]);
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }
    fs::remove_file(out.join("root-key.pem")).expect("removed");
    let refused = make(&["shop/cart"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(told.contains("root-cert.pem and root-key.pem"), "{told}");
}

/// What the command makes, two proxies accept: shown here by a client of our own.
#[test]
fn what_the_command_makes_is_good_for_a_gateway() {
    let place = folder(&[]);
    let out = place.path().join("made");
    let args = [
        "certs",
        "--out",
        out.to_str().expect("UTF-8"),
        "--dns",
        "shop.test",
        "edge/gate",
    ];
    assert!(ringroad(&args).status.success());
    let own = out.join("edge/gate");
    let path = |name: &str| own.join(name).display().to_string();
    let address = free_address();
    let tls = format!(
        "{{mode: MUTUAL, serverCertificate: {}, privateKey: {}, caCertificates: {}}}",
        path("cert-chain.pem"),
        path("key.pem"),
        path("root-cert.pem")
    );
    let gate = harness::https_gateway(address, &[("shop.test", &tls)]);
    let config = folder(&[
        ("gate.yaml", &gate),
        ("answer.yaml", &harness::answering("hello")),
    ]);
    let _proxy = Proxy::start(config, &[]);
    let read = |name: &str| fs::read_to_string(own.join(name)).expect("is there");
    let identity = harness::pki::Identity {
        certificate: read("cert-chain.pem"),
        key: read("key.pem"),
    };
    let client = Arc::new(connect_as(&read("root-cert.pem"), Some(&identity)));
    let answer = harness::pki::get(address, "shop.test", "/", &client).expect("an answer");
    assert!(answer.ends_with("hello"), "{answer}");
}
