//! Bytes from end to end: echoes, several chunks, half-closes, huge sends and slow readers.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::thread;

use lateen_ring::{Chunk, Listener, Moved, Spliced, Stream, spawn, splice};

use crate::support::{loopback, on_all};

async fn echo(stream: Stream) {
    stream.set_multishot(true);
    while let Some(lease) = stream.recv().await.expect("the client behaves") {
        stream.send(lease).await.expect("the client reads");
    }
}

#[test]
fn echoes_what_a_client_sends() {
    on_all(async || {
        let listener = Listener::bind(&loopback()).expect("a free port");
        let address = listener.local_address().expect("bound").inet().expect("TCP");
        let client = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).expect("listening");
            for round in 0..100_usize {
                let message = vec![round as u8; round * 100 + 1];
                stream.write_all(&message).expect("echoed");
                let mut answer = vec![0; message.len()];
                stream.read_exact(&mut answer).expect("echoed");
                assert_eq!(answer, message);
            }
        });
        let stream = listener.accept().await.expect("a client comes");
        echo(stream).await;
        client.join().expect("the client got its echoes");
    });
}

#[test]
fn connects_and_sends_several_chunks_in_order() {
    on_all(async || {
        let listener = Listener::bind(&loopback()).expect("a free port");
        let address = listener.local_address().expect("bound");
        let server = spawn(async move {
            let stream = listener.accept().await.expect("a client comes");
            let mut got = Vec::new();
            while let Some(lease) = stream.recv().await.expect("no reset") {
                got.extend_from_slice(&lease);
            }
            assert_eq!(got.len(), 200_009);
            assert_eq!(&got[200_000..], b"lastwords");
            stream.send(b"thanks".to_vec()).await.expect("half open");
        });
        let stream = Stream::connect(&address).await.expect("listening");
        let chunks = [
            Some(Chunk::from(vec![7; 200_000])),
            Some(Chunk::from(&b"last"[..])),
            Some(b"words"[..].to_vec().into()),
        ];
        stream.send_all(chunks).await.expect("read");
        stream.shutdown(Shutdown::Write).expect("open");
        let answer = stream.recv().await.expect("no reset").expect("an answer");
        assert_eq!(&answer[..], b"thanks");
        drop(server);
    });
}

#[test]
fn splices_between_sockets() {
    on_all(async || {
        const BYTES: usize = 5_000_000;
        let listener = Listener::bind(&loopback()).expect("a free port");
        let address = listener.local_address().expect("bound");
        let moved = Rc::new(Moved::default());
        let seen = moved.clone();
        spawn(async move {
            let source = listener.accept().await.expect("the sender comes");
            let sink = listener.accept().await.expect("the reader comes");
            let end = splice(&source, &sink, BYTES as u64 - 5, false, &seen).await;
            assert!(matches!(end, Spliced::Done), "{end:?}");
            assert_eq!(seen.given(), BYTES as u64 - 5);
            let end = splice(&source, &sink, u64::MAX, false, &seen).await;
            assert!(matches!(end, Spliced::Ended), "{end:?}");
        });
        let target = address.inet().expect("TCP");
        let pattern = |index: usize| (index * 31 % 251) as u8;
        let sender = Stream::connect(&address).await.expect("listening");
        let reader = thread::spawn(move || {
            let mut reader = std::net::TcpStream::connect(target).expect("listening");
            let mut got = Vec::new();
            reader.read_to_end(&mut got).expect("no reset");
            got
        });
        let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
        sender.send(bytes).await.expect("read");
        drop(sender);
        let done = lateen_ring::sleep(std::time::Duration::from_millis(1));
        done.await;
        while !reader.is_finished() {
            lateen_ring::sleep(std::time::Duration::from_millis(1)).await;
        }
        let got = reader.join().expect("read to the end");
        assert_eq!(got.len(), BYTES);
        assert!(got.iter().enumerate().all(|(index, byte)| *byte == pattern(index)));
        assert_eq!(moved.given(), BYTES as u64);
    });
}
