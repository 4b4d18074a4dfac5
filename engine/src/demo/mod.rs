//! `ringroad demo`: the bookinfo application and a proxy in front of it.

mod client;
mod services;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{TuningArgs, print_out, process_options};
use crate::control::config_dir::{self, ReadLimits};
use crate::control::descriptors;
use crate::control::process::{self, Started};
use ringroad_policy::snapshot::Snapshot;
use services::{ProxyAddress, ServiceSpec};

/// The configuration, for a start outside of a clone.
const EMBEDDED_CONFIG: [(&str, &str); 5] = [
    (
        "gateway.yaml",
        include_str!("../../../configs/bookinfo/gateway.yaml"),
    ),
    (
        "internal.yaml",
        include_str!("../../../configs/bookinfo/internal.yaml"),
    ),
    (
        "reviews.yaml",
        include_str!("../../../configs/bookinfo/reviews.yaml"),
    ),
    (
        "services.yaml",
        include_str!("../../../configs/bookinfo/services.yaml"),
    ),
    (
        "settings.yaml",
        include_str!("../../../configs/bookinfo/settings.yaml"),
    ),
];

/// Starts the services and the proxy, and runs until a signal ends both.
pub fn demo(tuning: &TuningArgs) -> ExitCode {
    match start_services() {
        Ok(services) => process::run(
            &process_options(vec![services.folder.clone()], tuning),
            |started| {
                if let Some(listener) = started.listeners.first() {
                    let _ = services.proxy.set(listener.address);
                    print_out(&guide(&services, listener.address, started));
                }
            },
        ),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The application, as it runs.
struct Services {
    /// The configuration of the proxy in front of it.
    folder: PathBuf,
    /// Where the application finds the proxy.
    proxy: ProxyAddress,
    /// Where v3 of reviews listens, for people to stop it.
    reviews_v3: Option<SocketAddr>,
}

fn start_services() -> Result<Services, String> {
    let folder = config_folder()
        .map_err(|error| format!("the demo's configuration cannot be written: {error}"))?;
    let proxy = ProxyAddress::default();
    let mut services = Services {
        folder,
        proxy,
        reviews_v3: None,
    };
    // A refused configuration ends the proxy, which says why; no service is needed for that.
    let Some(snapshot) = load(&services.folder)? else {
        return Ok(services);
    };
    let bound = services::bind(&snapshot)?;
    services::start(bound, Arc::clone(&services.proxy)).map_err(|error| {
        let help = match error.raw_os_error() {
            Some(libc::EMFILE) => format!("; {}", descriptors::RAISE_IT),
            _ => String::new(),
        };
        format!("the services cannot be started: {error}{help}")
    })?;
    services.reviews_v3 = ServiceSpec::new("reviews", "v3").address(&snapshot);
    Ok(services)
}

fn load(folder: &Path) -> Result<Option<Snapshot>, String> {
    let reading = config_dir::read(&[folder.to_path_buf()], &ReadLimits::default())
        .map_err(|error| error.to_string())?;
    let loaded = ringroad_policy::load(&reading.files, &Default::default(), &Default::default());
    Ok(loaded.snapshot)
}

/// `configs/bookinfo` of the clone that this was started from, or else a copy in a temporary
/// folder.
fn config_folder() -> io::Result<PathBuf> {
    let here = std::env::current_dir()?;
    // `cargo run` tells where the engine's manifest is, wherever it was called.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let starts = manifest
        .iter()
        .map(PathBuf::as_path)
        .chain([here.as_path()]);
    let found = starts
        .flat_map(Path::ancestors)
        .map(|folder| folder.join("configs/bookinfo"))
        .find(|folder| {
            EMBEDDED_CONFIG
                .iter()
                .all(|(name, _)| folder.join(name).is_file())
        });
    match found {
        Some(folder) => Ok(folder),
        None => write_embedded(&std::env::temp_dir()),
    }
}

fn write_embedded(parent: &Path) -> io::Result<PathBuf> {
    let folder = parent.join(format!("ringroad-demo-{}", std::process::id()));
    // A folder that somebody else has put there is not ours to use.
    std::fs::create_dir(&folder)?;
    for (name, text) in EMBEDDED_CONFIG {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(folder)
}

/// Five things to try.
/// A hint when the files are not those that the guide speaks of, as after an earlier demo.
fn changes(folder: &Path) -> String {
    let is_changed = |(name, text): &&(&str, &str)| {
        std::fs::read_to_string(folder.join(name)).is_ok_and(|present| present != *text)
    };
    let changed: Vec<&str> = EMBEDDED_CONFIG
        .iter()
        .filter(is_changed)
        .map(|(name, _)| *name)
        .collect();
    match changed.is_empty() {
        true => String::new(),
        false => format!(
            "\nChanged since it came: {}. What follows speaks of the original, which\n  \
             git checkout {}\nbrings back.\n",
            changed.join(", "),
            folder.display()
        ),
    }
}

fn guide(services: &Services, proxy: SocketAddr, started: &Started) -> String {
    let reviews = services.folder.join("reviews.yaml");
    let reviews = reviews.display();
    let folder = services.folder.display();
    let admin = started.admin;
    let v3 = services
        .reviews_v3
        .map_or_else(|| "unknown".to_string(), |address| address.to_string());
    let weights = |v1: u32, v3: u32| {
        format!(
            "sed -i -e '/subset: v1/,/weight/ s/weight: .*/weight: {v1}/' \\\n         \
             -e '/subset: v3/,/weight/ s/weight: .*/weight: {v3}/' {reviews}"
        )
    };
    let count = format!(
        "for i in $(seq 100); do curl -s http://{proxy}/productpage; done |\n       \
         grep -o 'reviews-v[0-9]' | sort | uniq -c"
    );
    format!(
        "
The bookinfo application runs behind http://{proxy}
The proxy follows the files in {folder}
Its admin interface is http://{admin}
{}
Five things to try, in another terminal:

1. A request. The page asks details and reviews through the proxy:
     curl -s http://{proxy}/productpage

2. A request with the header that picks v2 of reviews:
     curl -s -H 'end-user: jason' http://{proxy}/api/v1/products/0/reviews

3. Nine of ten requests go to v1, one to v3. Count, change it to half and half, count again:
     {count}
     {}

4. Break a file. The diagnostics appear here, and the old configuration stays:
     echo 'oops: [' >> {reviews}
     curl -s http://{admin}/stats?filter=config
   Mend it:
     sed -i '$d' {reviews}

5. Stop an endpoint, v3 of reviews. Its share of requests is answered 503 by the proxy:
     curl -s -X POST http://{v3}/quit
     for i in $(seq 20); do curl -s -o /dev/null -w '%{{http_code}}\\n' \\
       http://{proxy}/api/v1/products/0/reviews; done | sort | uniq -c
   Send everything to v1, and every answer is 200 again:
     {}

Ctrl-C ends it; the files keep your changes.

",
        changes(&services.folder),
        weights(50, 50),
        weights(100, 0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_copy_is_accepted_and_has_an_address_for_each_service() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = write_embedded(parent.path()).expect("written");
        let reading = config_dir::read(&[folder], &ReadLimits::default()).expect("read");
        assert_eq!(reading.files.len(), EMBEDDED_CONFIG.len());
        let loaded =
            ringroad_policy::load(&reading.files, &Default::default(), &Default::default());
        assert_eq!(loaded.diagnostics, []);
        let snapshot = loaded.snapshot.expect("accepted");
        for spec in services::SERVICES {
            assert!(spec.address(&snapshot).is_some(), "{spec:?}");
        }
    }

    #[test]
    fn the_copy_does_not_go_into_a_folder_that_is_there_already() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        write_embedded(parent.path()).expect("written");
        assert!(write_embedded(parent.path()).is_err());
    }
}
