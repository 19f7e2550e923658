//! With a real proxy: what a command says is what a client sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use lateen_control::status::ProxyState;
use socket2::{Domain, Socket, Type};

use crate::support::{LONG, Place, Serve, proxy, service};

/// Answers every request with its name, one to a connection.
fn upstream(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
                let _ = write!(stream, "{head}content-length: {}\r\n\r\n{name}", name.len());
            });
        }
    });
    port
}

/// A port on which nobody listens: a declared listener has a number. Others don't get it as long as the
/// socket is bound; the proxy does, which sets SO_REUSEADDR too.
fn free_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
    socket.set_reuse_address(true).expect("a TCP socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("there are ports");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    (socket, address.expect("it is bound").port())
}

/// What a client of the proxy gets for the service `cart`.
fn ask(port: u16) -> String {
    let mut stream =
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("it is a socket");
    let request = "GET / HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

struct RealProxy(Child);

impl RealProxy {
    /// `lateen proxy run`, two workers, connected.
    fn start(place: &Place, serve: &Serve<'_>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
        command.args(["proxy", "run", "--name", "edge", "--workers", "2", "--control"]);
        command.arg(serve.socket()).arg("--state").arg(place.path("edge"));
        command.args(["--admin", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Self(command.spawn().expect("it is built"));
        serve.wait_for(|status| {
            status.proxies.proxies.iter().any(|proxy| proxy.connection.is_some())
        });
        started
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_apply_says_is_what_clients_see_and_a_killed_control_plane_changes_nothing() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let _edge = RealProxy::start(&place, &serve);
    let (one, two, (_bound, port)) = (upstream("one"), upstream("two"), free_port());
    serve.apply(&format!("{}---\n{}", service("cart", one), proxy("edge", port)));
    // Once the command returns, every core has it: no request is an old one.
    for _ in 0..5 {
        assert_eq!(ask(port), "one");
        serve.apply(&service("cart", two));
        assert_eq!(ask(port), "two");
        assert_eq!(serve.lateen(&["rollback", "1"]).code, 0);
        assert_eq!(ask(port), "one");
        assert_eq!(serve.lateen(&["resume"]).code, 0);
        assert_eq!(ask(port), "two");
        serve.apply(&service("cart", one));
    }
    serve.kill();
    assert_eq!(ask(port), "one");
    let serve = place.serve(&[]);
    assert_eq!(ask(port), "one");
    serve.wait_for(|status| {
        status.proxies.proxies.iter().any(|proxy| proxy.state == ProxyState::Current)
    });
    serve.apply(&service("cart", two));
    assert_eq!(ask(port), "two");
}

#[test]
fn what_a_proxy_cannot_do_is_told_and_it_keeps_what_it_had() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let _edge = RealProxy::start(&place, &serve);
    let (one, (_bound, port)) = (upstream("one"), free_port());
    serve.apply(&format!("{}---\n{}", service("cart", one), proxy("edge", port)));
    let taken = TcpListener::bind("127.0.0.1:0").expect("there are ports");
    let taken = taken.local_addr().map(|address| (address.port(), taken)).expect("it is bound");
    let more = proxy("edge", port)
        + &format!("  - {{name: second, type: Outbound, port: {}, protocol: HTTP}}\n", taken.0);
    let ran = serve.lateen_with(&["apply", "-f", "-", "--atomic"], &more);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("proxy edge refused epoch"), "{ran:?}");
    assert!(ran.stderr.contains("was taken back"), "{ran:?}");
    assert_eq!(ask(port), "one");
    let status = serve.status();
    assert_eq!(status.proxies.proxies[0].state, ProxyState::Current, "{status:#?}");
}
