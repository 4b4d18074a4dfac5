//! The figures to reach: what the measured ratios are held against.

use std::fmt::Write as _;

use crate::payload::Payload;
use crate::peers::Peer;
use crate::report::{Memory, Report, Round, RowResult};
use crate::rows::{Front, Offer, Row};
use crate::statistics::Spread;

/// Fewer clean rounds than this prove nothing.
const ROUNDS_NEEDED: usize = 7;
/// Resident memory of an empty proxy, in MB.
const MAX_EMPTY_MEGABYTES: f64 = 12.0;
/// Resident memory for an idle connection, in bytes.
const MAX_IDLE_BYTES: f64 = 700.0;
/// The same for one over TLS.
const MAX_IDLE_TLS_BYTES: f64 = 9_000.0;

/// What Ringroad is compared with.
#[derive(Clone, Copy)]
enum Against {
    /// nginx and HAProxy: the one that Ringroad compares worse with.
    Best,
    One(Peer),
    /// nginx, HAProxy and Envoy: the one that Ringroad compares worst with.
    BestOfAll,
    /// What a rich policy costs beyond a plain one.
    PlainPolicy,
    /// What mutual TLS between two hops costs beyond plain text.
    PlainPair,
}

/// A figure of a round in which less is better.
#[derive(Clone, Copy)]
enum Figure {
    Cpu,
    P99,
    UserTime,
}

struct Bar {
    row: Row,
    figure: Figure,
    against: Against,
    limit: f64,
}

fn bars() -> Vec<Bar> {
    use Against::{Best, BestOfAll, One, PlainPair, PlainPolicy};
    use Figure::{Cpu, P99, UserTime};
    use Offer::{FixedRate, Http2, Policy, Saturated, Split, Tls, TlsFull, TlsResumed, TwoHops};
    use Payload::{Large, Medium, Small};
    let bar = |payload, connections, offer, figure, against, limit| Bar {
        row: Row {
            payload,
            connections,
            offer,
        },
        figure,
        against,
        limit,
    };
    vec![
        bar(Small, 64, Saturated, Cpu, Best, 0.85),
        bar(Small, 64, Saturated, Cpu, One(Peer::Envoy), 0.40),
        bar(Small, 64, Saturated, Cpu, One(Peer::Relay), 1.15),
        bar(Small, 8, Saturated, Cpu, Best, 0.95),
        bar(Small, 8, Saturated, P99, Best, 1.0),
        bar(Small, 64, FixedRate, Cpu, Best, 0.95),
        bar(Small, 64, FixedRate, P99, Best, 1.0),
        bar(Medium, 64, Saturated, Cpu, Best, 0.75),
        bar(Large, 64, Saturated, Cpu, Best, 0.80),
        bar(Large, 8, Saturated, Cpu, Best, 0.80),
        bar(Small, 64, Split, UserTime, One(Peer::Nginx), 0.60),
        bar(Small, 64, Policy, Cpu, PlainPolicy, 1.05),
        bar(Small, 64, Tls, Cpu, Best, 0.75),
        bar(Small, 64, Tls, Cpu, One(Peer::Envoy), 0.38),
        bar(Small, 64, TlsFull, Cpu, BestOfAll, 0.95),
        bar(Small, 64, TlsResumed, Cpu, BestOfAll, 0.95),
        bar(Small, 8, Http2, Cpu, One(Peer::Envoy), 0.45),
        bar(Small, 8, Http2, Cpu, One(Peer::Nginx), 0.90),
        bar(Small, 64, TwoHops, Cpu, PlainPair, 1.50),
    ]
}

/// How many times the rounds of other rows one needs: p99 of a few seconds moves several times as
/// much from run to run as the CPU of a request does.
pub fn rounds_factor(row: &Row) -> usize {
    let of_p99 = |bar: &Bar| bar.row == *row && matches!(bar.figure, Figure::P99);
    match bars().iter().any(of_p99) {
        true => 3,
        false => 1,
    }
}

impl Figure {
    fn of(self, round: &Round, peer: Peer) -> Option<f64> {
        let sample = round.sample(peer)?;
        match self {
            Self::Cpu => Some(sample.cpu_us),
            Self::P99 => Some(sample.p99_us),
            Self::UserTime => sample.user_us(),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::P99 => "p99",
            Self::UserTime => "user time",
        }
    }
}

impl Against {
    /// The pairs of which the first is divided by the second. The pair with the greatest median decides:
    /// to take the least of several peers in each round would hold Ringroad against their luck, which
    /// noisy figures such as p99 have plenty of.
    fn pairs(self) -> Vec<(Peer, Peer)> {
        let peers: &[Peer] = match self {
            Self::Best => &[Peer::Nginx, Peer::Haproxy],
            Self::BestOfAll => &[Peer::Nginx, Peer::Haproxy, Peer::Envoy],
            Self::One(peer) => return vec![(Peer::Ringroad, peer)],
            Self::PlainPolicy => return vec![(Peer::RingroadRich, Peer::Ringroad)],
            Self::PlainPair => return vec![(Peer::RingroadPairTls, Peer::RingroadPair)],
        };
        peers.iter().map(|peer| (Peer::Ringroad, *peer)).collect()
    }
}

impl Bar {
    /// The ratios of the rounds, and whom they were taken against.
    fn ratio(&self, result: &RowResult) -> Option<(Spread, Peer)> {
        let ratios = self.against.pairs().into_iter().filter_map(|(of, to)| {
            let spread = result
                .spread(|round| Some(self.figure.of(round, of)? / self.figure.of(round, to)?))?;
            Some((spread, to))
        });
        ratios.max_by(|(one, _), (other, _)| one.median.total_cmp(&other.median))
    }

    fn line(&self, result: &RowResult) -> Option<String> {
        let (ratio, peer) = self.ratio(result)?;
        let against = match self.against {
            Against::Best => format!("nginx, haproxy: {}", peer.label()),
            Against::One(peer) => peer.label().to_owned(),
            Against::BestOfAll => format!("all peers: {}", peer.label()),
            Against::PlainPolicy => "plain policy".to_owned(),
            Against::PlainPair => "plain text between".to_owned(),
        };
        let clean = result
            .rounds
            .iter()
            .filter(|round| !round.disturbed)
            .count();
        let verdict = match (ratio.median <= self.limit, clean >= ROUNDS_NEEDED) {
            (true, true) => "reached",
            (false, true) => "missed",
            (true, false) => "reached?",
            (false, false) => "missed?",
        };
        Some(format!(
            "  {:<22}{:<10}÷ {:<25}≤ {:<5.2}{:>6.2} ({:.2}–{:.2})  {verdict}",
            self.row.name(),
            self.figure.label(),
            against,
            self.limit,
            ratio.median,
            ratio.min,
            ratio.max,
        ))
    }
}

/// Appends what was measured of the figures to reach; nothing when Ringroad was not measured.
pub fn table(text: &mut String, report: &Report) {
    let mut lines: Vec<String> = Vec::new();
    for bar in bars() {
        let result = report.rows.iter().find(|result| result.row == bar.row);
        lines.extend(result.and_then(|result| bar.line(result)));
    }
    if let Some(memory) = report
        .memory
        .iter()
        .find(|memory| memory.peer == Peer::Ringroad && memory.front == Front::Plain)
    {
        let verdict = |reached| if reached { "reached" } else { "missed" };
        let empty = memory.empty_bytes as f64 / 1e6;
        let idle = memory.bytes_per_idle_connection;
        lines.push(format!(
            "  memory            empty ≤ {MAX_EMPTY_MEGABYTES} MB: {empty:.1} MB, {}; \
             per idle connection ≤ {MAX_IDLE_BYTES}: {idle:.0}, {}",
            verdict(empty <= MAX_EMPTY_MEGABYTES),
            verdict(idle <= MAX_IDLE_BYTES),
        ));
    }
    let is_ours = |it: &&Memory| it.peer == Peer::Ringroad && it.front == Front::Tls;
    if let Some(memory) = report.memory.iter().find(is_ours) {
        let idle = memory.bytes_per_idle_connection;
        lines.push(format!(
            "  memory-tls        per idle connection ≤ {MAX_IDLE_TLS_BYTES}: {idle:.0}, {}",
            if idle <= MAX_IDLE_TLS_BYTES {
                "reached"
            } else {
                "missed"
            },
        ));
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "figures to reach: median of the ratios of the rounds (min–max);\n  \
         a question mark stands where fewer than {ROUNDS_NEEDED} clean rounds were run"
    );
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::row_result;

    fn text_of(rounds: usize, ringroad: f64) -> String {
        let row = Row {
            payload: Payload::Small,
            connections: 64,
            offer: Offer::Saturated,
        };
        let round: &[(Peer, f64)] = &[
            (Peer::Ringroad, ringroad),
            (Peer::Nginx, 20.0),
            (Peer::Haproxy, 15.0),
        ];
        let rows = vec![row_result(row, &vec![round; rounds])];
        let report = Report {
            unix_time: 0,
            interrupted: false,
            missing: Vec::new(),
            rows,
            memory: Vec::new(),
        };
        let mut text = String::new();
        table(&mut text, &report);
        text
    }

    #[test]
    fn the_better_peer_decides_and_few_rounds_leave_a_question() {
        assert!(
            text_of(7, 12.0).contains("0.80 (0.80–0.80)  reached\n"),
            "{}",
            text_of(7, 12.0)
        );
        assert!(text_of(7, 14.0).contains("0.93 (0.93–0.93)  missed\n"));
        assert!(text_of(6, 12.0).contains("reached?\n"));
        assert!(!text_of(7, 12.0).contains("envoy"));
    }

    #[test]
    fn the_luck_of_a_peer_in_single_rounds_does_not_count() {
        let row = Row {
            payload: Payload::Small,
            connections: 64,
            offer: Offer::Saturated,
        };
        let round = |nginx, haproxy| {
            [
                (Peer::Ringroad, 10.0),
                (Peer::Nginx, nginx),
                (Peer::Haproxy, haproxy),
            ]
        };
        let (one, other) = (round(10.0, 20.0), round(20.0, 12.5));
        let rounds = [&one[..], &other, &other, &one, &other, &other, &one];
        let line = bars()[0].line(&row_result(row, &rounds)).expect("measured");
        assert!(line.contains("nginx, haproxy: haproxy"), "{line}");
        assert!(line.ends_with("0.80 (0.50–0.80)  reached"), "{line}");
    }

    #[test]
    fn a_rich_policy_is_held_against_the_plain_one() {
        let row = Row {
            payload: Payload::Small,
            connections: 64,
            offer: Offer::Policy,
        };
        let round: &[(Peer, f64)] = &[(Peer::Ringroad, 10.0), (Peer::RingroadRich, 10.8)];
        let report = Report {
            unix_time: 0,
            interrupted: false,
            missing: Vec::new(),
            rows: vec![row_result(row, &[round; 7])],
            memory: Vec::new(),
        };
        let mut text = String::new();
        table(&mut text, &report);
        assert!(text.contains("1.08 (1.08–1.08)  missed\n"), "{text}");
    }

    #[test]
    fn lines_fit_a_hundred_columns() {
        for line in text_of(6, 14.0).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
