//! Secrets that are broken: what is said of them, and that no key is ever shown.

mod harness;

use harness::pki::{Authority, Identity, connect, secret};
use harness::{Proxy, answering, folder, free_address, https_gateway, ringroad, settings, until};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

/// A gateway with this `tls` block, and a secret beside it.
fn config(tls: &str, secret: &str) -> tempfile::TempDir {
    let address = free_address();
    let mut files = vec![
        ("gate.yaml", https_gateway(address, &[("*", tls)])),
        ("answer.yaml", answering("hello")),
        ("settings.yaml", settings("{role: gateway}")),
    ];
    if !secret.is_empty() {
        files.push(("secret.yaml", secret.to_string()));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    folder(&files)
}

fn check(config: &Path) -> String {
    let output = ringroad(&["check".as_ref(), config.as_os_str()]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    told
}

const SIMPLE: &str = "{mode: SIMPLE, credentialName: shop}";
const MUTUAL: &str = "{mode: MUTUAL, credentialName: shop}";

/// In one line, as if the page were wide.
fn joined(told: &str) -> String {
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn check_says_which_secrets_cannot_serve() {
    let authority = Authority::new();
    let good = authority.issue(&["shop.test"]);
    let swapped = Identity {
        certificate: good.key.clone(),
        key: good.certificate.clone(),
    };
    let of_another = Identity {
        key: authority.issue(&["other.test"]).key,
        ..good.clone()
    };
    let encrypted = Identity {
        key: good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        ..good.clone()
    };
    let garbage = Identity {
        key: "nonsense".to_string(),
        ..good.clone()
    };
    let misspelt = secret("shop", &good, None).replace("tls.key", "tls.keyy");
    let roots = secret("shop", &good, Some(&authority.pem));
    let no_roots = secret("shop", &good, Some("nonsense\n"));
    let of = |identity: &Identity| secret("shop", identity, None);
    let cases = [
        (SIMPLE, String::new(), "there is no secret `shop`"),
        (
            SIMPLE,
            of(&swapped),
            "holds a private key where its certificate should be",
        ),
        (
            SIMPLE,
            of(&of_another),
            "not that of the certificate in secret `shop`",
        ),
        (
            SIMPLE,
            of(&encrypted),
            "the key in `tls.key` of secret `shop` is encrypted",
        ),
        (
            SIMPLE,
            of(&garbage),
            "`tls.key` of secret `shop` holds no private key",
        ),
        (
            SIMPLE,
            misspelt,
            "has no `tls.key` (but `tls.keyy`, which means nothing)",
        ),
        (MUTUAL, of(&good), "secret `shop` has no `ca.crt`"),
        (
            MUTUAL,
            no_roots,
            "`ca.crt` of secret `shop` holds no certificate in PEM",
        ),
    ];
    for (tls, secret, said) in cases {
        let config = config(tls, &secret);
        let told = check(config.path());
        let told = joined(&told);
        assert!(told.contains("warning[unusable-secret]"), "{said}: {told}");
        assert!(told.contains(said), "{said}: {told}");
        assert!(told.contains("gate.yaml:"), "{said}: {told}");
    }
    for (tls, secret) in [(SIMPLE, of(&good)), (MUTUAL, roots)] {
        let told = check(config(tls, &secret).path());
        assert!(!told.contains("warning"), "{told}");
    }
}

/// It was said of a secret that nobody has what it lacks.
#[test]
fn a_missing_secret_of_roots_is_called_one_without_roots() {
    let config = config(SIMPLE, "");
    let rule = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: up}\nspec:\n  \
                hosts: [up.test]\n  resolution: STATIC\n  \
                ports: [{number: 443, name: http, protocol: HTTP}]\n  \
                endpoints: [{address: 127.0.0.1}]\n---\n\
                apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: up}\n\
                spec: {host: up.test, trafficPolicy: {tls: {mode: SIMPLE, credentialName: roots}}}\n";
    std::fs::write(config.path().join("rule.yaml"), rule).expect("written");
    let told = joined(&check(config.path()));
    assert!(told.contains("there is no secret `roots`"), "{told}");
    assert!(told.contains("put ca.crt into"), "{told}");
}

#[test]
fn a_key_line_that_lost_its_indentation_is_in_no_output() {
    let good = Authority::new().issue(&["shop.test"]);
    let line = good.key.lines().nth(1).expect("a line").to_string();
    let whole = secret("shop", &good, None);
    let broken = whole.replace(&format!("    {line}"), &line);
    assert_ne!(whole, broken);
    let config = config(SIMPLE, &whole);
    let proxy = Proxy::start(config, &[]);
    proxy.put("secret.yaml", &broken);
    until("the refusal", || proxy.stat("config.reload_rejected") == 1);
    let told = proxy.admin("/server_info").body;
    assert!(
        told.contains("secret.yaml:") && told.contains("[redacted]"),
        "{told}"
    );
    assert!(!told.contains(&line), "{told}");
    assert!(!proxy.log().contains(&line), "{}", proxy.log());
    for format in ["text", "json"] {
        let args = [
            OsStr::new("check"),
            proxy.config.as_os_str(),
            OsStr::new("--format"),
            OsStr::new(format),
        ];
        let output = ringroad(&args);
        assert_eq!(output.status.code(), Some(1));
        for out in [output.stdout, output.stderr] {
            assert!(!String::from_utf8_lossy(&out).contains(&line), "{format}");
        }
    }
}

/// Of a key that was pasted in the place of a name, the name was shown.
#[test]
fn a_key_in_the_place_of_a_name_is_shown() {
    let part = "aB3dE5fG7hI9jK1lM3nO5/Q7rS9tU1vW3xY5zA7bC9dE1fG3hI5jK7lM9nO1+Q3r";
    let good = Authority::new().issue(&["shop.test"]);
    let named = secret("shop", &good, None).replace("name: shop", &format!("name: {part}"));
    let tls = format!("{{mode: SIMPLE, credentialName: {part}x}}");
    let proxy = Proxy::start(config(&tls, &named), &[]);
    proxy.until_logged("there is no secret `[redacted]`");
    assert!(!proxy.log().contains(part), "{}", proxy.log());
    for page in ["/config_dump", "/certs", "/server_info", "/listeners"] {
        let told = proxy.admin(page).body;
        assert!(!told.contains(part), "{page}: {told}");
    }
}

#[test]
fn a_broken_key_file_is_named_and_its_renewal_is_logged() {
    let authority = Authority::new();
    let good = authority.issue(&["shop.test"]);
    let files = folder(&[("c.pem", &good.certificate), ("k.pem", "nonsense")]);
    let path = |name: &str| files.path().join(name);
    let tls = format!(
        "{{mode: SIMPLE, serverCertificate: {}, privateKey: {}}}",
        path("c.pem").display(),
        path("k.pem").display()
    );
    let proxy = Proxy::start(config(&tls, ""), &[]);
    let bad = format!("{} holds no private key", path("k.pem").display());
    proxy.until_logged(&bad);
    assert!(
        !proxy.log().contains("serves new handshakes"),
        "{}",
        proxy.log()
    );
    let told = |count: usize| {
        until("the news", || {
            proxy.log().matches("serves new handshakes").count() == count
        });
    };
    std::fs::write(path("k.pem"), &good.key).expect("written");
    told(1);
    let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    std::fs::write(path("k.pem"), encrypted).expect("written");
    proxy.until_logged("k.pem is encrypted");
    std::fs::write(path("k.pem"), &good.key).expect("written");
    told(2);
    let certificates = proxy.admin_json("/certs");
    let leaf = &certificates["certificates"][0]["cert_chain"][0];
    let serial = leaf["serial_number"].as_str().expect("a serial number");
    let until = leaf["expiration_time"].as_str().expect("a time");
    let line = format!(
        "the certificate {serial} of {}, good until {until}",
        path("c.pem").display()
    );
    harness::until("both lines", || proxy.log().matches(&line).count() == 2);
}

#[test]
fn roots_that_come_and_go_are_logged() {
    let (old, new) = (Authority::new(), Authority::new());
    let identity = old.issue(&["shop.test"]);
    let files = folder(&[
        ("c.pem", &identity.certificate),
        ("k.pem", &identity.key),
        ("roots.pem", &old.pem),
    ]);
    let path = |name: &str| files.path().join(name);
    let tls = format!(
        "{{mode: MUTUAL, serverCertificate: {}, privateKey: {}, caCertificates: {}}}",
        path("c.pem").display(),
        path("k.pem").display(),
        path("roots.pem").display()
    );
    let proxy = Proxy::start(config(&tls, ""), &[]);
    let count = |part: &str| {
        let log = proxy.log();
        let lines = log.lines().filter(|line| line.contains("INFO"));
        lines.filter(|line| line.contains(part)).count()
    };
    assert_eq!((count("verified by"), count("no longer")), (0, 0));
    let place = format!("of {}, good until", path("roots.pem").display());
    std::fs::write(path("roots.pem"), format!("{}{}", old.pem, new.pem)).expect("written");
    until("the new root", || {
        count("new handshakes are verified by the root") == 1
    });
    until("its line", || count(&place) == 1);
    assert_eq!(count("no longer"), 0);
    std::fs::write(path("roots.pem"), &new.pem).expect("written");
    until("the old root", || {
        count("are no longer verified by the root") == 1 && count(&place) == 2
    });
    // A broken file changes nothing, and neither does its mending.
    std::fs::write(path("roots.pem"), "nonsense").expect("written");
    proxy.until_logged("roots.pem holds no certificate in PEM");
    std::fs::write(path("roots.pem"), &new.pem).expect("written");
    std::fs::write(path("c.pem"), new.issue(&["shop.test"]).certificate).expect("written");
    proxy.until_logged("not that of the certificate");
    assert_eq!(count(&place), 2, "{}", proxy.log());
}

#[test]
fn a_path_that_leads_nowhere_leaves_its_server_what_it_had() {
    let authority = Authority::new();
    let identity = authority.issue(&["shop.test"]);
    let files = folder(&[("c.pem", &identity.certificate), ("k.pem", &identity.key)]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let address = free_address();
    let gate = |mode: &str, key: &str, more: &str| {
        let tls = format!(
            "{{mode: {mode}, serverCertificate: {}, privateKey: {}{more}}}",
            path("c.pem"),
            path(key)
        );
        https_gateway(address, &[("shop.test", &tls)])
    };
    let proxy = Proxy::start(folder(&[("gate.yaml", &gate("SIMPLE", "k.pem", ""))]), &[]);
    let client = Arc::new(authority.client(None));
    let is_served = || connect(address, "shop.test", &client).is_ok();
    assert!(is_served());
    let complaint = |name: &str| {
        until("the complaint", || {
            let log = proxy.log();
            let mut lines = log.lines().filter(|line| line.contains("WARN"));
            lines.any(|line| line.contains(&path(name)) && line.contains("what was in use stays"))
        });
    };
    proxy.put("gate.yaml", &gate("SIMPLE", "nowhere.pem", ""));
    complaint("nowhere.pem");
    assert!(is_served());
    // Whoever asks for certificates of clients from now on does not get on without.
    let more = format!(", caCertificates: {}", path("no-roots.pem"));
    proxy.put("gate.yaml", &gate("MUTUAL", "k.pem", &more));
    until("nobody is served", || !is_served());
    proxy.put("gate.yaml", &gate("SIMPLE", "k.pem", ""));
    until("all is well", is_served);
}

#[test]
fn files_that_cannot_serve_are_named_before_anything_runs() {
    let authority = Authority::new();
    let (good, other) = (authority.issue(&["a"]), authority.issue(&["b"]));
    let files = folder(&[
        ("c.pem", &good.certificate),
        ("k.pem", &good.key),
        ("other.pem", &other.key),
        ("r.pem", &authority.pem),
    ]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let piped = std::process::Command::new("mkfifo")
        .arg(path("pipe"))
        .status();
    assert!(piped.expect("mkfifo").success());
    let tls = |certificate: &str, key: &str, roots: &str| {
        format!(
            "{{mode: MUTUAL, serverCertificate: {}, privateKey: {}, caCertificates: {}}}",
            path(certificate),
            path(key),
            path(roots)
        )
    };
    for (tls, said) in [
        (
            tls("nowhere.pem", "k.pem", "r.pem"),
            "nowhere.pem: No such file",
        ),
        (
            tls("c.pem", "nowhere.pem", "r.pem"),
            "nowhere.pem: No such file",
        ),
        (
            tls("c.pem", "k.pem", "nowhere.pem"),
            "nowhere.pem: No such file",
        ),
        (
            tls("c.pem", "other.pem", "r.pem"),
            "is not that of the certificate",
        ),
        (tls("pipe", "k.pem", "r.pem"), "pipe is no regular file"),
    ] {
        let config = config(&tls, "");
        let told = joined(&check(config.path()));
        assert!(told.contains("warning[unusable-file]"), "{said}: {told}");
        assert!(told.contains(said), "{said}: {told}");
    }
    for tls in [
        tls("c.pem", "k.pem", "r.pem"),
        tls("gone/c.pem", "gone/k.pem", "r.pem"),
    ] {
        let config = config(&tls, "");
        let told = check(config.path());
        assert!(!told.contains("warning"), "{told}");
    }
}

#[test]
fn certs_refuses_names_that_are_none() {
    let out = tempfile::tempdir().expect("a folder");
    let made = out.path().join("made");
    for (flag, name, said) in [
        ("--trust-domain", "BAD DOM", "`BAD DOM` is no trust domain"),
        ("--trust-domain", "", "`` is no trust domain"),
        ("--dns", "", "`` is no host name"),
        ("--dns", "a b", "`a b` is no host name"),
        ("--dns", "a..b", "`a..b` is no host name"),
    ] {
        let args = [
            OsStr::new("certs"),
            OsStr::new("shop/cart"),
            OsStr::new("--out"),
            made.as_os_str(),
            OsStr::new(flag),
            OsStr::new(name),
        ];
        let output = ringroad(&args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(said), "{told}");
        assert!(!made.exists(), "{name}");
    }
}
