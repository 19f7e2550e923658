//! Bytes from end to end: echoes, several chunks, half-closes, huge sends and slow readers.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::thread;

use lateen_ring::{Chunk, Listener, Moved, Spliced, Stream, spawn, splice};

use crate::support::{loopback, on_all, pair, pattern, until};

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

#[test]
fn a_peer_that_reads_byte_by_byte_sees_progress_and_every_byte() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        // A small socket, so that not too many bytes read make room. (Much smaller ones make TCP
        // wait for its probes, 200 ms each.)
        socket2::SockRef::from(&peer).set_recv_buffer_size(64 * 1_024).expect("a TCP socket");
        let sent = pattern(6_000_000);
        stream.start_send([Some(sent.clone().into()), None, None]);
        until("the sockets are full", || stream.bytes_sent() > 0).await;
        crate::support::a_while().await;
        let full = stream.bytes_sent();
        assert!(stream.is_sending() && full < sent.len() as u64);
        // A byte a read: the kernel makes room in larger steps, but it does.
        let mut got = Vec::new();
        let mut byte = [0];
        while stream.bytes_sent() == full {
            for _ in 0..1_000 {
                peer.read_exact(&mut byte).expect("sent");
                got.push(byte[0]);
            }
            lateen_ring::yield_now().await;
        }
        assert!(got.len() < sent.len(), "progress is visible before the end");
        assert!(stream.is_sending());
        let reader = thread::spawn(move || {
            peer.read_to_end(&mut got).expect("a clean end");
            got
        });
        stream.flush().await.expect("read");
        assert_eq!(stream.bytes_sent(), sent.len() as u64);
        drop(stream);
        until("the reader is done", || reader.is_finished()).await;
        assert!(reader.join().expect("it only reads") == sent);
    });
}

#[test]
fn a_huge_send_of_several_chunks_arrives_whole() {
    on_all(async || {
        let (ours, theirs) = crate::support::streams().await;
        let (head, body) = (pattern(100_001), pattern(32_000_003));
        let chunks = [Some(head.clone().into()), Some(body.clone().into()), None];
        ours.start_send(chunks);
        spawn(async move {
            // Empty pieces before, between and after are nothing.
            let empty = || Some(Chunk::from(Vec::new()));
            ours.send_all([empty(), Some(Chunk::from(&b"!"[..])), empty()]).await.expect("read");
            ours.send(Vec::new()).await.expect("nothing to send");
        });
        let got = crate::support::receive_all(&theirs).await.expect("a clean end");
        assert_eq!(got.len(), head.len() + body.len() + 1);
        assert!(got[..head.len()] == head && got[head.len()..got.len() - 1] == body);
        assert_eq!(got.last(), Some(&b'!'));
    });
}

#[test]
fn news_and_ends_are_noticed_without_taking_anything() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        assert!(!stream.has_news() && stream.try_recv().is_none());
        let waits = std::future::poll_fn(|cx| stream.poll_news(cx));
        assert!(crate::support::give_up_after(1, waits).await.is_none());
        peer.write_all(b"news").expect("connected");
        std::future::poll_fn(|cx| stream.poll_news(cx)).await;
        assert!(stream.has_news() && !stream.has_ended());
        drop(peer);
        assert_eq!(&stream.try_recv().expect("news")[..], b"news");
        std::future::poll_fn(|cx| stream.poll_news(cx)).await;
        assert!(stream.has_ended() && stream.try_recv().is_none());
        assert!(stream.recv().await.expect("a clean end").is_none());
    });
}
