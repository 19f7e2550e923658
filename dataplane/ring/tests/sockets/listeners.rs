//! Listening sockets: whose port it is, who gets which connection, and closing without a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use lateen_ring::{Address, Binding, Listener, Stream, spawn};
use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{NoDescriptorsLeft, a_while, listener, loopback, on_all, until};

#[test]
fn a_port_in_use_is_an_error_even_if_its_user_would_share_it() {
    on_all(async || {
        let other = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        other.set_reuse_port(true).expect("a TCP socket");
        other.set_reuse_address(true).expect("a TCP socket");
        let any = loopback().inet().expect("TCP");
        other.bind(&any.into()).expect("a free port");
        other.listen(8).expect("bound");
        let taken = other.local_addr().expect("bound").as_socket().expect("TCP");
        for count in [1, 2] {
            let error = Binding::new(&taken.into(), count).expect_err("the port is taken");
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        }
        assert!(Listener::bind(&taken.into()).is_err());
        drop(other);

        // The same between two of ours, shared among workers or not.
        for count in [1, 3] {
            let ours = Binding::new(&loopback(), count).expect("a free port");
            for second in [1, 3] {
                let error = Binding::new(ours.address(), second).expect_err("the port is taken");
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
            }
        }
    });
}

#[test]
fn the_sockets_of_one_binding_share_its_connections() {
    const CLIENTS: usize = 200;
    on_all(async || {
        let binding = Binding::new(&loopback(), 3).expect("a free port");
        let address = binding.address().inet().expect("TCP");
        assert_ne!(address.port(), 0);
        let counts: Vec<_> = binding
            .into_sockets()
            .into_iter()
            .map(|socket| {
                let listener = Listener::from_fd(socket).expect("watched");
                let count = std::rc::Rc::new(std::cell::Cell::new(0));
                let counted = count.clone();
                let task = spawn(async move {
                    loop {
                        listener.accept().await.expect("clients come");
                        counted.set(counted.get() + 1);
                    }
                });
                (count, task)
            })
            .collect();
        let clients = thread::spawn(move || {
            (0..CLIENTS)
                .map(|_| TcpStream::connect(address).expect("listening"))
                .collect::<Vec<_>>()
        });
        until("all are accepted", || counts.iter().map(|(n, _)| n.get()).sum::<usize>() == CLIENTS)
            .await;
        for (count, task) in counts {
            assert!(count.get() > 0, "a socket got nothing of {CLIENTS} connections");
            task.abort();
        }
        drop(clients.join().expect("they only connect"));
    });
}

#[test]
fn an_emptied_listener_resets_no_queued_connection() {
    const CLIENTS: usize = 40;
    on_all(async || {
        // Two sockets of one port, as two workers have: one goes, one stays.
        let mut sockets = Binding::new(&loopback(), 2).expect("a free port").into_sockets();
        let leaving = Listener::from_fd(sockets.remove(0)).expect("watched");
        let staying = Listener::from_fd(sockets.remove(0)).expect("watched");
        let address = leaving.local_address().expect("bound").inet().expect("TCP");
        // Accepting has begun, so that some of them are with the engine and some in the kernel.
        let accepted = {
            let first = TcpStream::connect(address).expect("listening");
            a_while().await;
            first
        };
        let _ = crate::support::give_up_after(1, leaving.accept()).await;
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|_| TcpStream::connect(address).expect("listening")).collect();
        clients.push(accepted);
        a_while().await;
        let mut saved = leaving.empty().await;
        drop(leaving);
        a_while().await;
        // The one that `accept` may have taken above was dropped there; all the others are here or
        // with the socket that stays.
        saved.extend(staying.empty().await);
        drop(staying);
        let answered = saved.len();
        for stream in saved {
            spawn(async move { stream.send(&b"hello"[..]).await.expect("connected") });
        }
        a_while().await;
        let mut greeted = 0;
        for mut client in clients {
            let mut greeting = Vec::new();
            client.read_to_end(&mut greeting).expect("an end, never a reset");
            greeted += usize::from(greeting == b"hello");
        }
        assert_eq!(greeted, answered);
        assert!(answered >= CLIENTS, "{answered} of {CLIENTS}");
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    });
}

#[test]
fn between_the_last_look_and_the_close_nobody_gets_in_to_be_reset() {
    on_all(async || {
        let (listener, address) = listener();
        assert!(crate::support::give_up_after(1, listener.accept()).await.is_none());
        let waiting = TcpStream::connect(address).expect("listening");
        assert_eq!(listener.empty().await.len(), 1);
        // Less than the second after which a client's kernel asks again.
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(200));
        assert_eq!(late.expect_err("it was not heard").kind(), ErrorKind::TimedOut);
        assert!(listener.empty().await.is_empty());
        drop((listener, waiting));
        a_while().await;
        let refused = TcpStream::connect(address).expect_err("nobody listens any more");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_lack_of_descriptors_is_reported_and_the_connection_served_later() {
    on_all(async || {
        let (listener, address) = listener();
        let mut client = TcpStream::connect(address).expect("listening");
        client.write_all(b"patience").expect("queued");
        let none_left = NoDescriptorsLeft::take();
        for _ in 0..3 {
            let error = listener.accept().await.expect_err("no descriptor is left");
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        }
        let refused = Stream::connect(&address.into()).await.expect_err("no descriptor is left");
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        drop(none_left);
        let stream = listener.accept().await.expect("it waited in the queue");
        let lease = stream.recv().await.expect("no reset").expect("bytes");
        assert_eq!(&lease[..], b"patience");
    });
}

#[test]
fn a_crowd_that_nobody_accepts_waits_in_bounds() {
    on_all(async || {
        let (listener, address) = listener();
        assert!(crate::support::give_up_after(1, listener.accept()).await.is_none());
        // More than may wait in the engine; the kernel queues the rest.
        let clients: Vec<_> =
            (0..600).map(|_| TcpStream::connect(address).expect("queued")).collect();
        a_while().await;
        for _ in 0..600 {
            listener.accept().await.expect("queued");
        }
        assert!(crate::support::give_up_after(1, listener.accept()).await.is_none());
        drop(clients);
    });
}

#[test]
fn listens_on_ipv6_where_there_is_one() {
    on_all(async || {
        let address = Address::from(std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0)));
        let listener = match Listener::bind(&address) {
            Ok(listener) => listener,
            Err(error) => {
                // A host without IPv6 has nothing to bind: that itself is the answer to check.
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
                return;
            }
        };
        let bound = listener.local_address().expect("bound");
        let ours = Stream::connect(&bound).await.expect("listening");
        let theirs = listener.accept().await.expect("connected");
        assert_eq!(ours.peer_address().expect("connected"), bound);
        let near = theirs.peer_address().expect("connected");
        assert_eq!(near, ours.local_address().expect("connected"));
    });
}
