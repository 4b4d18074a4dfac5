//! The command line: what can be asked, and the exit codes.
//!
//! 0 means done, 1 means that the configuration was refused, the start or a test failed, or two
//! configurations differ, 2 means that the question itself was wrong.

mod certs;
mod check;
mod connection;
mod diff;
mod explain;
mod explained_request;
mod page;
mod run;
mod test;

pub use connection::ConnectionArgs;
pub use run::process_options;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringroad_policy::diagnostic::{Diagnostic, render_json, render_text};
use ringroad_policy::source::SourceFile;

/// Exit code of a command line or an input that cannot be used.
pub const EXIT_USAGE: u8 = 2;

/// As narrow as a terminal commonly is.
const HELP_WIDTH_COLUMNS: usize = 80;

#[derive(Debug, Parser)]
#[command(
    name = "ringroad",
    version,
    about = "A proxy that reads a directory of Istio YAML",
    long_about = "A proxy that reads a directory of Istio YAML and carries HTTP by it, one worker \
                  a core on io_uring, without a control plane. Drop a file, and every core \
                  follows it.",
    after_help = "Examples:\n  \
        ringroad demo                          see it work, with services to try it on\n  \
        ringroad check ./config                is this configuration right?\n  \
        ringroad run --config ./config         carry traffic by it\n  \
        ringroad explain ./config --url http://shop.example/cart\n  \
        ringroad test routing-tests.yaml --config ./config\n  \
        ringroad diff ./config ./config.next --requests access.log\n  \
        ringroad certs shop/cart shop/payment  identities for mutual TLS, to try it\n\n\
        `ringroad help COMMAND` tells more about a command.",
    max_term_width = HELP_WIDTH_COLUMNS,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry traffic by the files of one or more directories, and follow their changes
    Run(RunArgs),
    /// Validate a configuration without running it
    Check(CheckArgs),
    /// Tell where a request would go, and why, without sending it
    Explain(Box<ExplainArgs>),
    /// Hold routing test cases against a configuration, in the format of istio-config-validator
    Test(TestArgs),
    /// Tell what another configuration would change, and for which recorded requests
    Diff(DiffArgs),
    /// Make a development root, and certificates of workloads for mutual TLS
    Certs(CertsArgs),
    /// Start the bookinfo application and a proxy in front of it, with five things to try
    Demo(DemoArgs),
}

/// `ringroad run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    ringroad run --config /etc/ringroad\n  \
    ringroad run --config ./base ./overlay --workers 2 --admin 127.0.0.1:15001\n\n\
    A change of a file is taken up by itself; one with an error is reported and the running \
    configuration stays. SIGTERM lets requests in flight finish; a second signal ends at once.")]
pub struct RunArgs {
    /// Directories of *.yaml, *.yml and *.json, read with their subfolders
    #[arg(long, value_name = "DIR", num_args = 1.., required_unless_present = "without_flag")]
    pub config: Vec<PathBuf>,
    /// Taken only to say where it belongs
    #[arg(value_name = "DIR", hide = true)]
    pub without_flag: Vec<PathBuf>,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Flags that overrule the files.
#[derive(Debug, Clone, Args)]
pub struct TuningArgs {
    /// Worker threads [default: the cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Where the admin interface listens [default: 127.0.0.1:15000]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub admin: Option<SocketAddr>,
    /// The I/O driver: `auto` takes io_uring and falls back to epoll where it is refused
    #[arg(long, value_enum, default_value_t)]
    pub driver: DriverArg,
    /// How much to log: off, error, warning, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = parse_level)]
    pub log_level: tracing_subscriber::filter::LevelFilter,
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port, such as 127.0.0.1:15010".to_string())
}

fn parse_level(text: &str) -> Result<tracing_subscriber::filter::LevelFilter, String> {
    crate::control::logging::parse_level(text)
        .ok_or_else(|| "one of off, error, warning, info, debug, trace".to_string())
}

/// `--driver`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DriverArg {
    #[default]
    Auto,
    IoUring,
    Epoll,
}

/// `--format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// `ringroad check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 accepted (there may be warnings, as that there is no file at all), \
    1 refused, 2 a path that is not there.\n\nExamples:\n  ringroad check ./config\n  \
    ringroad check ./config --format json | jq"
)]
pub struct CheckArgs {
    /// Directories or single files
    #[arg(value_name = "DIR", required = true)]
    pub config: Vec<PathBuf>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `ringroad explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 there is a decision, a 404 too, 1 the configuration is refused or \
    no listener takes the request, 2 the request is none.\n\n\
    Examples:\n  \
    ringroad explain configs/bookinfo --url http://127.0.0.1:8080/productpage\n  \
    ringroad explain ./config --url http://shop.example:8080/cart\n  \
    ringroad explain ./config --url http://shop.example/cart --method POST \\\n      \
    --header 'end-user: jason' --gateway default/shop-gateway --format json\n  \
    ringroad explain ./config --outbound --protocol tcp --destination 10.0.0.7:53\n  \
    ringroad explain ./config --inbound --port 8080 --tls mtls --url http://cart/"
)]
pub struct ExplainArgs {
    /// Directories or single files
    #[arg(value_name = "DIR", required = true)]
    pub config: Vec<PathBuf>,
    /// The URL of the request; its host is the Host header, its port the listener; `https` is TLS
    #[arg(long, required_unless_present_any = ["destination", "port"])]
    pub url: Option<String>,
    /// The method
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// A header of the request; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// The gateway that receives it, when several listen on the port
    #[arg(long, value_name = "NS/NAME")]
    pub gateway: Option<String>,
    /// How to print the decision
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// `ringroad test`.
#[derive(Debug, Args)]
#[command(
    after_help = "A test file holds requests and the route that each of them should take:\n\n  \
    testCases:\n  \
    - description: testers reach the canary\n    \
      wantMatch: true\n    \
      request:\n      \
        authority: [shop.example.com]\n      \
        method: [GET, POST]\n      \
        uri: [/, /cart]\n      \
        headers: {x-canary: \"true\"}\n    \
      route:\n    \
      - destination: {host: cart.example.com, subset: canary}\n\n\
    Expected may be route, redirect, rewrite, fault, headers, delegate, directResponse, timeout, \
    retries, mirror, mirrors, mirrorPercentage and corsPolicy, as a VirtualService has them. With \
    wantMatch: false none of them may be so. Gateways, delegates and services that the \
    configuration lacks do not keep a VirtualService from being tested.\n\n\
    Exit code: 0 all passed, 1 a case failed or the configuration is refused, 2 no case could be \
    read.\n\n\
    Examples:\n  \
    ringroad test routing-tests.yaml --config ./config\n  \
    ringroad test ./tests --config ./base --config ./overlay --format json\n  \
    ringroad test -t ./tests ./config   as istio-config-validator does"
)]
pub struct TestArgs {
    /// Files with test cases, or directories of them; with `-t` the configuration under test
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The configuration under test, a directory or a file; may be given several times
    #[arg(short, long, value_name = "DIR", required_unless_present = "tests")]
    pub config: Vec<PathBuf>,
    /// Test cases, a file or a directory, before the configuration; may be given several times
    #[arg(short, value_name = "FILE", conflicts_with = "config")]
    pub tests: Vec<PathBuf>,
    /// List the requests that passed, too
    #[arg(short, long)]
    pub verbose: bool,
    /// How to print the outcome
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `ringroad diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --requests, tells what changed by listener, virtual host, route and \
    cluster. With it, counts the requests of an access log that would go elsewhere, and why; the \
    log does not have all headers, so it says where one might decide otherwise.\n\n\
    Exit code, as that of diff(1): 0 no difference, 1 some, 2 a configuration is refused or a \
    file cannot be read.\n\n\
    Examples:\n  \
    ringroad diff ./config ./config.next\n  \
    ringroad diff ./config ./config.next --requests access.log\n  \
    kubectl logs edge | ringroad diff ./config ./config.next --requests -"
)]
pub struct DiffArgs {
    /// The configuration in use, a directory or a file
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The one that is to replace it
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// An access log in the text or JSON format, recorded under OLD; `-` reads standard input
    #[arg(long, value_name = "LOG")]
    pub requests: Option<PathBuf>,
    /// How to print the difference
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `ringroad certs`.
#[derive(Debug, Args)]
#[command(
    after_help = "For each workload, OUT/NAMESPACE/ACCOUNT gets cert-chain.pem, key.pem and \
    root-cert.pem, good for both sides of mutual TLS: `spec.certificates` of ProxySettings names \
    them. A root that is in OUT already is kept and signs again, so the same command renews; a \
    running proxy takes up what is new by itself. The key of the root lies beside it: this is \
    for development, not for production.\n\n\
    Examples:\n  \
    ringroad certs shop/order-service shop/payment-service\n  \
    ringroad certs shop/cart --out /tmp/certs --trust-domain example.org --days 1\n  \
    ringroad certs edge/gateway --dns shop.example.com"
)]
pub struct CertsArgs {
    /// Service accounts; without a namespace that of `default`
    #[arg(value_name = "NAMESPACE/ACCOUNT", required = true)]
    pub workloads: Vec<String>,
    /// Where to put them
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub out: PathBuf,
    /// The trust domain of the identities
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
    /// A host name that the certificates are good for, too; may be given several times
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// How long the certificates of the workloads are good
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// `ringroad demo`.
#[derive(Debug, Args)]
#[command(
    after_help = "It reads configs/bookinfo, listens on 127.0.0.1:8080 and prints five things \
    to try. Ctrl-C ends it.\n\n\
    Examples:\n  \
    ringroad demo\n  \
    ringroad demo --workers 2 --admin 127.0.0.1:15010"
)]
pub struct DemoArgs {
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Parses the command line and does what it asks.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Test(args) => test::test(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Certs(args) => certs::certs(&args),
        Command::Demo(args) => crate::demo::demo(&args.tuning),
    }
}

/// Says why an input cannot be used, to programs too.
fn refuse_input(format: Format, why: &str) -> ExitCode {
    eprintln!("{}", page::fit(&format!("error: {why}"), page::width()));
    if format == Format::Json {
        print_json(&serde_json::json!({"error": why}));
    }
    ExitCode::from(EXIT_USAGE)
}

/// What is asked needs a configuration, and the one that is named is refused.
fn refuse_configuration(
    format: Format,
    files: &[SourceFile],
    found: &[Diagnostic],
    why: &str,
) -> ExitCode {
    eprint!("{}", render_text(files, found));
    eprintln!("error: {why}");
    if format == Format::Json {
        let found: serde_json::Value =
            serde_json::from_str(&render_json(files, found)).unwrap_or_default();
        print_json(&serde_json::json!({"error": why, "diagnostics": found}));
    }
    ExitCode::FAILURE
}

fn print_json(value: &impl serde::Serialize) {
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    print_out(&format!("{json}\n"));
}

/// Writes to standard output, or ends the process: a program that reads it must not take nothing for an
/// answer. A reader that has gone away is no error.
pub fn print_out(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error: the output cannot be written: {error}");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut command = Cli::command().term_width(HELP_WIDTH_COLUMNS);
        command.build();
        for sub in command.get_subcommands() {
            let examples = sub.get_after_help().map(ToString::to_string);
            let examples = examples.unwrap_or_default();
            // To be taken as they are, so that none may be broken.
            for line in examples.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= HELP_WIDTH_COLUMNS, "{line}");
            }
        }
        let own = command.render_long_help();
        let of_commands = command
            .get_subcommands_mut()
            .map(|sub| sub.render_long_help());
        for help in std::iter::once(own).chain(of_commands.collect::<Vec<_>>()) {
            for line in help.to_string().lines() {
                assert!(line.chars().count() <= HELP_WIDTH_COLUMNS, "{line}");
            }
        }
    }

    #[test]
    fn several_directories_follow_one_flag() {
        let cli = Cli::try_parse_from(["ringroad", "run", "--config", "a", "b", "--workers", "3"])
            .expect("accepted");
        let Command::Run(args) = cli.command else {
            panic!("run")
        };
        assert_eq!(args.config, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(args.tuning.workers, Some(3));
        assert_eq!(args.tuning.driver, DriverArg::Auto);
    }

    #[test]
    fn a_directory_without_its_flag_is_taken_to_say_where_it_belongs() {
        let cli = Cli::try_parse_from(["ringroad", "run", "a"]).expect("accepted");
        let Command::Run(args) = cli.command else {
            panic!("run")
        };
        assert_eq!((args.config.len(), args.without_flag.len()), (0, 1));
        assert!(Cli::try_parse_from(["ringroad", "run"]).is_err());
    }

    #[test]
    fn no_workers_at_all_is_refused() {
        let refused = Cli::try_parse_from(["ringroad", "run", "--config", "a", "--workers", "0"]);
        assert!(refused.is_err());
    }
}
