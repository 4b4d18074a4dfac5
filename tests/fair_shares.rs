//! Clients that send without a pause leave the other connections of their worker their turn.

mod harness;

use harness::{
    DRIVERS, PATIENCE, Proxy, answering, folder, free_address, gateway, settings, until,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const REQUESTS: usize = 20_000;
/// Answers of one connection in one turn, at most.
const ANSWERS_A_TURN: u64 = 64;

fn turns(proxy: &Proxy) -> u64 {
    let page = proxy.admin("/stats?filter=loop_turns").body;
    let values = page.lines().filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<u64>().ok()).sum()
}

#[test]
fn pipelined_requests_do_not_keep_the_worker_to_themselves() {
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("answer.yaml", &answering("ok")),
            ("settings.yaml", &settings("{role: gateway}")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        until("the first figures", || turns(&proxy) > 0);
        let before = turns(&proxy);
        let client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut writer = client.try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            writer.write_all(&REQUEST.repeat(REQUESTS)).expect("sent");
            writer.shutdown(std::net::Shutdown::Write).expect("the end");
        });
        let mut answers = String::new();
        (&client).read_to_string(&mut answers).expect("all answers");
        sender.join().expect("no panic");
        assert_eq!(
            answers.matches("HTTP/1.1 200 OK").count(),
            REQUESTS,
            "{driver}"
        );
        // Figures of workers are a little behind.
        let least = before + REQUESTS as u64 / ANSWERS_A_TURN;
        until(driver, || turns(&proxy) >= least);
    }
}
