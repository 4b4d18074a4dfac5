//! Receiving and sending.

use super::*;
use std::io::{Read, Write};

#[test]
fn echoes_on_many_connections() {
    on_both(|| async {
        let (listener, address) = bind();
        spawn(async move {
            loop {
                let (fd, _) = listener.accept().await.unwrap();
                spawn(async move {
                    let stream = Stream::from_fd(fd).unwrap();
                    loop {
                        let chunk = stream.receive().await.unwrap();
                        if chunk.is_empty() {
                            break;
                        }
                        stream.send(Buffer::lease(), chunk).await.unwrap();
                    }
                });
            }
        });
        let mut clients = Vec::new();
        for number in 0..200u32 {
            let client = Stream::connect(&address.into()).await.unwrap();
            clients.push((number, client));
        }
        for round in 0..20u32 {
            for (number, client) in &clients {
                let text = format!("round {round} client {number}");
                client
                    .send(buffer(text.as_bytes()), Chunk::default())
                    .await
                    .unwrap();
            }
            for (number, client) in &clients {
                let text = format!("round {round} client {number}");
                let mut got = Vec::new();
                while got.len() < text.len() {
                    got.extend_from_slice(&client.receive().await.unwrap());
                }
                assert_eq!(got, text.as_bytes());
            }
        }
        drop(clients);
        until(|| counters().open_streams == 0).await;
        assert_eq!(counters().receive_buffers_in_use, 0);
    });
}
