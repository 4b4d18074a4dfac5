//! The workers behind the seam that the control thread sees.

use std::io;
use std::sync::Arc;

use ringroad_policy::snapshot::Snapshot;

use super::data_path::{DataPath, Worker};
use crate::tls::CertificateReport;
use crate::worker::{Fleet, ListenError, StartError};

impl DataPath for Fleet {
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<u64, String> {
        Self::publish(self, snapshot).map_err(|error| explain_listen(&error))
    }

    fn workers(&self) -> Vec<Worker> {
        self.figures()
            .into_iter()
            .map(|figures| Worker {
                id: figures.worker,
                connections: figures.connections,
                generation: figures.generation,
            })
            .collect()
    }

    fn certificates(&self) -> Vec<CertificateReport> {
        self.tls_contexts().certificates()
    }

    fn certificate_problems(&self) -> usize {
        self.tls_contexts().problems
    }

    fn drain(&self) {
        Self::drain(self);
    }

    fn is_draining(&self) -> bool {
        Self::is_draining(self)
    }
}

/// What is wrong and what to do about it.
pub fn explain_start(error: &StartError) -> String {
    match error {
        StartError::Listen(error) => explain_listen(error),
        StartError::Driver(cause) if cause.raw_os_error() == Some(libc::EMFILE) => {
            format!("{error}; raise the limit of open files, as with `ulimit -Hn 65536`")
        }
        StartError::Driver(_) => {
            format!("{error}; `--driver auto` falls back to epoll where io_uring is refused")
        }
        StartError::Thread(_) => error.to_string(),
    }
}

fn explain_listen(error: &ListenError) -> String {
    let hint = match error.cause.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process has it: stop that one (`ss -ltnp` names it) or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "; a port below 1024 needs CAP_NET_BIND_SERVICE, or \
             `sysctl net.ipv4.ip_unprivileged_port_start=80`"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    };
    format!("{error}{hint}")
}
