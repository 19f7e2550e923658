//! `lateen-proxy try`: a first look, with nothing to set up.
//!
//! It starts the proxy in this process with an embedded upstream, sends real requests through it,
//! and says what happened. On a terminal it then stays up, so that one can go on with curl.

use std::io::{self, BufReader, IsTerminal as _, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lateen_snapshot::model::Epoch;
use lateen_snapshot::validate::patterns::Patterns;

use crate::bootstrap::{self, Command, Quick, host::Host};
use crate::supervise::{Proxy, Signals};

/// How long one of the requests may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests in the burst.
const BURST: usize = 1_000;

/// Runs the first look; true if all was well.
///
/// # Errors
/// The proxy or the upstream could not be started, or nobody reads `out`.
pub fn run(host: &Host, out: &mut impl Write) -> anyhow::Result<bool> {
    let upstream = start_upstream()?;
    let upstream_text = upstream.to_string();
    let arguments =
        ["lateen-proxy", "quick", "--listen", "127.0.0.1:0", "--upstream", &upstream_text];
    let Command::Quick(quick) = bootstrap::parse(arguments, host)? else {
        anyhow::bail!("the quick command did not parse as itself");
    };
    let Quick { config, snapshot } = *quick;
    let workers = config.workers;
    let signals = Signals::new()?;
    let proxy = Proxy::launch(config, Epoch::default(), snapshot, &mut Patterns::default())?;
    let address = proxy.listening()[0];
    writeln!(out, "proxy      {address}, {workers} worker(s)")?;
    writeln!(out, "upstream   {upstream}, embedded")?;
    writeln!(out, "admin      http://{}/metrics", proxy.admin())?;
    writeln!(out)?;
    let well =
        show_requests(address, out)? & show_refusal(address, out)? & show_burst(address, out)?;
    let well = well & show_metrics(proxy.admin(), out)?;
    writeln!(out)?;
    if io::stdin().is_terminal() {
        writeln!(out, "It stays up until ctrl-C. Go on with:")?;
        writeln!(out, "  curl -i http://{address}/hello")?;
        writeln!(out, "  curl -s http://{}/metrics | grep request_total", proxy.admin())?;
        out.flush()?;
        proxy.run_until_signal(&signals)?;
    } else {
        writeln!(out, "On a terminal it would stay up, and you would go on with:")?;
        writeln!(out, "  curl -i http://{address}/hello")?;
        proxy.drain(None)?;
    }
    writeln!(out, "{}", if well { "All was well." } else { "Something went wrong, see above." })?;
    Ok(well)
}

fn show_requests(proxy: SocketAddr, out: &mut impl Write) -> anyhow::Result<bool> {
    let response =
        exchange(proxy, b"GET /hello HTTP/1.1\r\nHost: try\r\nConnection: close\r\n\r\n")?;
    let well = response.starts_with("HTTP/1.1 200 ") && response.contains("X-Forwarded-For");
    writeln!(out, "{} GET /hello: {}", mark(well), first_line(&response))?;
    writeln!(out, "     what the upstream saw:")?;
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    for line in body.lines().filter(|line| !line.is_empty()) {
        writeln!(out, "       {line}")?;
    }
    Ok(well)
}

fn show_refusal(proxy: SocketAddr, out: &mut impl Write) -> anyhow::Result<bool> {
    let smuggled = b"POST / HTTP/1.1\r\nHost: try\r\nContent-Length: 4\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let response = exchange(proxy, smuggled)?;
    let well = response.starts_with("HTTP/1.1 400 ");
    let line = first_line(&response);
    writeln!(out, "{} a request with two lengths (smuggling): {line}", mark(well))?;
    Ok(well)
}

fn show_burst(proxy: SocketAddr, out: &mut impl Write) -> anyhow::Result<bool> {
    let stream = connect(proxy)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let began = Instant::now();
    let mut answered = 0;
    for _ in 0..BURST {
        stream.write_all(b"GET /burst HTTP/1.1\r\nHost: try\r\n\r\n")?;
        answered += usize::from(read_response(&mut reader)?);
    }
    let per_request = began.elapsed() / BURST as u32;
    let well = answered == BURST;
    writeln!(
        out,
        "{} {answered} of {BURST} requests answered on one connection, {per_request:?} each",
        mark(well)
    )?;
    Ok(well)
}

fn show_metrics(admin: SocketAddr, out: &mut impl Write) -> anyhow::Result<bool> {
    // A request is counted when its answer is out, which the client may know first.
    let expected = format!("request_total {}", BURST + 2);
    let began = Instant::now();
    let text = loop {
        let get = b"GET /metrics HTTP/1.1\r\nHost: try\r\nConnection: close\r\n\r\n";
        let text = exchange(admin, get)?;
        if text.lines().any(|line| line == expected) || began.elapsed() > PATIENCE {
            break text;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let shown =
        ["request_total", "engine_info", "pool_hit_total", "response_flags_total{flag=\"DPE\""];
    let lines = text.lines().filter(|line| shown.iter().any(|name| line.starts_with(name)));
    let lines: Vec<&str> = lines.collect();
    let well = lines.contains(&&*expected);
    writeln!(out, "{} the counters agree:", mark(well))?;
    for line in lines {
        writeln!(out, "       {line}")?;
    }
    Ok(well)
}

fn mark(well: bool) -> &'static str {
    if well { "ok  " } else { "FAIL" }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("no answer")
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `request` and reads until the connection closes.
fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(request)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Reads one response with a known length; true if it is a 200.
fn read_response(reader: &mut impl io::BufRead) -> io::Result<bool> {
    let head = read_head(reader)?;
    let mut body = vec![0; content_length(&head)];
    reader.read_exact(&mut body)?;
    Ok(head.starts_with("HTTP/1.1 200 "))
}

fn read_head(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

fn content_length(head: &str) -> usize {
    let field = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    field.unwrap_or(0)
}

/// An upstream that answers every request with the head that it got.
fn start_upstream() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("try-upstream".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A thread that can't be had closes the connection, which the proxy reports as a 502.
            let _ = thread::Builder::new().spawn(move || answer_all(&stream));
        }
    })?;
    Ok(address)
}

fn answer_all(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = read_head(&mut reader)?;
        let mut body = vec![0; content_length(&head)];
        reader.read_exact(&mut body)?;
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{head}",
            head.len()
        );
        let mut writer = stream;
        writer.write_all(response.as_bytes())?;
    }
}
