//! What the connection of an explained request brings, as flags.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use ringroad_policy::explain::{Request, Security, WireProtocol};
use ringroad_policy::settings::WorkloadOverrides;
use ringroad_policy::snapshot::{Direction, PeerIdentity};

/// Flags of `ringroad explain`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What the connection brings")]
pub struct ConnectionArgs {
    /// It comes to the sidecar's own workload
    #[arg(long, conflicts_with = "outbound")]
    pub inbound: bool,
    /// It comes from the sidecar's own workload
    #[arg(long)]
    pub outbound: bool,
    /// Where the client had addressed it
    #[arg(
        long,
        value_name = "IP[:PORT]",
        alias = "destination-address",
        alias = "address"
    )]
    pub destination: Option<String>,
    /// The port that the client had addressed [default: that of the URL]
    #[arg(long, value_name = "PORT", alias = "destination-port")]
    pub port: Option<u16>,
    /// What its bytes are
    #[arg(long, value_enum, default_value_t)]
    pub protocol: ProtocolArg,
    /// How they are wrapped; `mtls` is as sidecars do it [default: by the scheme of the URL; `tls`
    /// with `--sni` or `--alpn`]
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "tls")]
    pub tls: Option<TlsArg>,
    /// The server name that a TLS client indicates [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// The protocols that a TLS client offers [default: those of such a client]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub alpn: Vec<String>,
    /// Who the client's certificate says that it is: `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`
    #[arg(long, value_name = "ID", alias = "peer")]
    pub peer_identity: Option<String>,
    /// The address that it comes from
    #[arg(long, value_name = "IP", alias = "source")]
    pub source_ip: Option<std::net::IpAddr>,
    /// Labels of the client's workload; of a sidecar's own, when it comes from there
    #[arg(
        long,
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        alias = "source-label"
    )]
    pub source_labels: Vec<String>,
    /// Namespace of the client's workload; of a sidecar's own, when it comes from there
    #[arg(long, value_name = "NAMESPACE")]
    pub source_namespace: Option<String>,
}

/// `--protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArg {
    #[default]
    Http,
    Http2,
    Tcp,
}

/// `--tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsArg {
    #[value(alias = "plaintext", alias = "plain", alias = "none")]
    Off,
    Tls,
    Mtls,
}

impl ConnectionArgs {
    /// Fills in what the connection brings.
    ///
    /// # Errors
    ///
    /// A flag whose value is none.
    pub fn connect(&self, request: &mut Request) -> Result<(), String> {
        let args = self;
        let connection = &mut request.connection;
        connection.direction = match (args.inbound, args.outbound) {
            (true, _) => Some(Direction::Inbound),
            (_, true) => Some(Direction::Outbound),
            _ => None,
        };
        if let Some(text) = &args.destination {
            let with_port = text.parse::<SocketAddr>();
            let (address, port) = match with_port {
                Ok(destination) => (Ok(destination.ip()), Some(destination.port())),
                Err(_) => (text.parse::<IpAddr>(), None),
            };
            let wrong = |_| format!("`{text}` is no address such as `10.0.0.7` or `10.0.0.7:5432`");
            connection.address = Some(address.map_err(wrong)?);
            request.port = port.or(request.port);
        }
        request.port = args.port.or(request.port);
        connection.source = args.source_ip;
        connection.protocol = match args.protocol {
            ProtocolArg::Http => WireProtocol::Http,
            ProtocolArg::Http2 => WireProtocol::Http2,
            ProtocolArg::Tcp => WireProtocol::Tcp,
        };
        match args.tls {
            // Without TLS there are neither server names nor offers.
            None if args.sni.is_some() || !args.alpn.is_empty() => {
                connection.security = Security::Tls;
            }
            None => {}
            Some(TlsArg::Off) => connection.security = Security::Plain,
            Some(TlsArg::Tls) => connection.security = Security::Tls,
            Some(TlsArg::Mtls) => connection.security = Security::MeshTls,
        }
        connection.server_name.clone_from(&args.sni);
        connection.application_protocols.clone_from(&args.alpn);
        if let Some(text) = &args.peer_identity {
            let uri = match text.starts_with("spiffe://") {
                true => text.clone(),
                false => format!("spiffe://{text}"),
            };
            let identity = PeerIdentity::from_spiffe(&uri);
            let wrong =
                || format!("`{text}` is no identity such as `spiffe://cluster.local/ns/a/sa/b`");
            connection.identity = Some(identity.ok_or_else(wrong)?);
        }
        for label in &args.source_labels {
            let wrong = || format!("`{label}` is no label such as `app=cart`");
            let (name, value) = label.split_once('=').ok_or_else(wrong)?;
            let labels = &mut connection.source_labels;
            labels.insert(name.to_string(), value.to_string());
        }
        Ok(())
    }

    /// Where requests leave a sidecar, its own workload is their source.
    pub fn workload(&self, request: &Request) -> WorkloadOverrides {
        if self.inbound {
            return WorkloadOverrides::default();
        }
        let labels = &request.connection.source_labels;
        WorkloadOverrides {
            namespace: self.source_namespace.clone(),
            labels: (!labels.is_empty()).then(|| labels.clone()),
        }
    }
}
