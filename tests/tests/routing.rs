//! What a route does to a request, with real clients and servers. The choice among rules has tables and
//! a reference of its own in the proxy's crate; here each kind of condition and filter acts once.

use lateen_snapshot::model::{
    Action, Cors, FieldMatch, HeaderEdits, HostPattern, Mirror, PathMatch, PathRewrite, Redirect,
    Rewrite, RouteMatch, ValueMatch,
};
use lateen_tests::control::{Control, Mesh, Session, epoch, forward, host, prefix};
use lateen_tests::http::{Response, exchange, read_response};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::tools::curl;
use lateen_tests::upstream::{Upstream, free_address, ok};
use std::net::SocketAddr;

lateen_tests::on_both_engines!(
    each_condition_leads_its_own_way,
    what_nobody_takes_is_answered_by_the_proxy,
    shares_are_as_the_weights_say,
    heads_are_edited_on_both_ways,
    a_redirect_sends_the_client_elsewhere,
    every_answer_says_by_which_config_it_was_given,
    a_copy_has_nothing_of_the_backend_that_was_chosen,
    a_body_that_comes_in_pieces_is_copied,
    a_mirror_gets_a_copy_and_is_not_waited_for,
    pages_of_other_origins_are_told_what_they_may,
    a_route_has_a_time_of_its_own,
);

struct Scene {
    control: Control,
    session: Session,
    proxy: Proxy,
    listen: SocketAddr,
}

impl Scene {
    fn begin(engine: Engine) -> Self {
        let control = Control::new();
        let proxy = Launch::under(engine, &control).start();
        let session = control.welcome();
        Self { control, session, proxy, listen: free_address() }
    }

    /// Every rule is for any host.
    fn apply(&mut self, mut mesh: Mesh, rules: Vec<(RouteMatch, lateen_snapshot::model::RouteId)>) {
        let table = mesh.table(vec![host(HostPattern::Any, rules)]);
        mesh.http(self.listen, table);
        self.session.apply(1, &mesh.0);
        assert!(self.control.socket().exists());
    }

    fn ask(&self, request: &str) -> Response {
        exchange(&mut Peer::connect(self.listen), request)
    }

    fn get(&self, target: &str) -> Response {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
    }
}

fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

fn each_condition_leads_its_own_way(engine: Engine) {
    let names = ["prefix", "exact", "regex", "method", "header", "query", "host", "rest"];
    let upstreams = names.map(Upstream::fixed);
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let to = |mesh: &mut Mesh, name: &str| {
        let index = names.iter().position(|of| *of == name).expect("a name");
        let cluster = mesh.cluster(name, &[upstreams[index].address()]);
        mesh.route(forward(&[(Some(cluster), 1)]))
    };
    let all = || prefix("/");
    let exact = |value: &str| ValueMatch::Exact(value.to_owned());
    let field = |name: &str, value| vec![FieldMatch { name: name.to_owned(), value }];
    let rules = vec![
        (RouteMatch { path: PathMatch::Exact("/a/b".to_owned()), ..all() }, to(&mut mesh, "exact")),
        (
            RouteMatch { path: PathMatch::Regex("/[0-9]+".to_owned()), ..all() },
            to(&mut mesh, "regex"),
        ),
        (prefix("/a"), to(&mut mesh, "prefix")),
        (RouteMatch { method: Some("DELETE".to_owned()), ..all() }, to(&mut mesh, "method")),
        (
            RouteMatch {
                headers: field("x-team", ValueMatch::Regex("(red|blue)".to_owned())),
                ..all()
            },
            to(&mut mesh, "header"),
        ),
        (RouteMatch { queries: field("v", exact("2")), ..all() }, to(&mut mesh, "query")),
        (all(), to(&mut mesh, "rest")),
    ];
    let host_route = to(&mut mesh, "host");
    let table = mesh.table(vec![
        host(HostPattern::Any, rules),
        host(HostPattern::Suffix(".b.example".to_owned()), vec![(prefix("/only"), host_route)]),
    ]);
    mesh.http(scene.listen, table);
    scene.session.apply(1, &mesh.0);

    for (request, expected) in [
        ("GET /a/b HTTP/1.1\r\nHost: x", "exact"),
        ("GET /a/b/ HTTP/1.1\r\nHost: x", "prefix"),
        ("GET /a?v=2 HTTP/1.1\r\nHost: x", "prefix"),
        ("GET /ab HTTP/1.1\r\nHost: x", "rest"),
        ("GET /17 HTTP/1.1\r\nHost: x", "regex"),
        ("GET /17x HTTP/1.1\r\nHost: x", "rest"),
        ("DELETE / HTTP/1.1\r\nHost: x", "method"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-Team: blue", "header"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-Team: bluer", "rest"),
        ("GET /?u=1&v=2 HTTP/1.1\r\nHost: x", "query"),
        ("GET /only HTTP/1.1\r\nHost: C.B.Example:99", "host"),
        // The rules of the suffix don't take it: those for any host do.
        ("GET /other HTTP/1.1\r\nHost: c.b.example", "rest"),
        ("GET /only HTTP/1.1\r\nHost: b.example", "rest"),
    ] {
        let response = scene.ask(&format!("{request}\r\n\r\n"));
        assert_eq!((response.status, text(&response).as_str()), (200, expected), "{request}");
    }
}

fn what_nobody_takes_is_answered_by_the_proxy(engine: Engine) {
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let nowhere = mesh.route(forward(&[(None, 1)]));
    let refused = mesh.route(Action::Respond(403));
    let empty = mesh.cluster("empty", &[]);
    let empty = mesh.route(forward(&[(Some(empty), 1)]));
    scene.apply(
        mesh,
        vec![
            (prefix("/nowhere"), nowhere),
            (prefix("/refused"), refused),
            (prefix("/empty"), empty),
        ],
    );
    // All on one connection: none of these is a reason to close it.
    let mut client = Peer::connect(scene.listen);
    for (target, status) in [("/", 404), ("/nowhere", 500), ("/refused", 403), ("/empty", 503)] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(exchange(&mut client, &request).status, status, "{target}");
    }
    let lines = scene.proxy.access_log(4);
    let flags: Vec<_> = lines.iter().map(|line| line["flags"].clone()).collect();
    assert_eq!(flags, ["NR", "NC", "", "UH"]);
}

fn shares_are_as_the_weights_say(engine: Engine) {
    let (many, few) = (Upstream::fixed("many"), Upstream::fixed("few"));
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let backends = [many, few].map(|upstream| {
        let cluster = mesh.cluster(&upstream.address().to_string(), &[upstream.address()]);
        (upstream, cluster)
    });
    let split = [(Some(backends[0].1), 90), (Some(backends[1].1), 10)];
    let route = mesh.route(forward(&split));
    scene.apply(mesh, vec![(prefix("/"), route)]);
    let mut client = Peer::connect(scene.listen);
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let few = (0..2_000).filter(|_| text(&exchange(&mut client, request)) == "few").count();
    // Six standard deviations of 200.
    assert!((120..=280).contains(&few), "{few} of 2,000 went to the tenth");
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
    let pairs = |fields: &[(&str, &str)]| {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let remove = remove.iter().map(|name| (*name).to_owned()).collect();
    HeaderEdits { set: pairs(set), add: pairs(add), remove }
}

fn heads_are_edited_on_both_ways(engine: Engine) {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nServer: s\r\nX-Old: 1\r\n\r\nx".to_vec()
    });
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let cluster = mesh.cluster("upstream", &[upstream.address()]);
    let route = mesh.route(forward(&[(Some(cluster), 1)]));
    let of_route = mesh.route_mut(route);
    of_route.request_headers = edits(&[("x-set", "1")], &[("x-add", "2")], &["x-gone"]);
    of_route.response_headers = edits(&[("server", "lateen")], &[("x-add", "3")], &["x-old"]);
    of_route.rewrite = Some(Box::new(Rewrite {
        host: Some("inside.example".to_owned()),
        path: Some(PathRewrite::Prefix("/v2".to_owned())),
    }));
    scene.apply(mesh, vec![(prefix("/api"), route)]);
    let response = scene.ask(
        "GET /api/users?id=1 HTTP/1.1\r\nHost: outside.example\r\nX-Set: 0\r\nX-Gone: 0\r\n\
         X-Add: 1\r\n\r\n",
    );
    assert_eq!(response.status, 200);
    let fields = ["server", "x-add", "x-old"].map(|name| response.head.value(name));
    assert_eq!(fields, [Some("lateen".to_owned()), Some("3".to_owned()), None]);
    let request = upstream.request();
    assert_eq!(request.target(), "/v2/users?id=1");
    for (name, value) in [
        ("host", Some("inside.example")),
        ("x-forwarded-host", Some("outside.example")),
        ("x-set", Some("1")),
        ("x-add", Some("1, 2")),
        ("x-gone", None),
    ] {
        assert_eq!(request.head.value(name).as_deref(), value, "{name}");
    }
}

fn a_redirect_sends_the_client_elsewhere(engine: Engine) {
    let upstream = Upstream::fixed("found");
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let cluster = mesh.cluster("upstream", &[upstream.address()]);
    let there = mesh.route(forward(&[(Some(cluster), 1)]));
    let redirect = mesh.route(Action::Redirect(Box::new(Redirect {
        status: 302,
        scheme: None,
        host: None,
        port: None,
        path: Some(PathRewrite::Prefix("/new".to_owned())),
    })));
    scene.apply(mesh, vec![(prefix("/old"), redirect), (prefix("/new"), there)]);
    let response = scene.get("/old/page?x=1");
    let expected = format!("http://a.example:{}/new/page?x=1", scene.listen.port());
    assert_eq!((response.status, response.head.value("location")), (302, Some(expected)));
    // Who names no host is sent to the address that it has reached.
    let response = scene.ask("GET /old HTTP/1.0\r\n\r\n");
    let expected = format!("http://127.0.0.1:{}/new", scene.listen.port());
    assert_eq!(response.head.value("location"), Some(expected));
    // A real client follows it.
    let followed = curl(["-sS", "-L", &format!("http://{}/old/page", scene.listen)]);
    assert_eq!(followed.expect_success(), "found");
}

fn every_answer_says_by_which_config_it_was_given(engine: Engine) {
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let nowhere = mesh.route(forward(&[(None, 1)]));
    let refused = mesh.route(Action::Respond(403));
    let cluster = mesh.cluster("empty", &[]);
    let empty = mesh.route(forward(&[(Some(cluster), 1)]));
    let cors = Cors {
        allow_origins: vec!["*".to_owned()],
        allow_credentials: false,
        allow_methods: vec!["*".to_owned()],
        allow_headers: Vec::new(),
        expose_headers: Vec::new(),
        max_age_s: 5,
    };
    for route in [nowhere, refused, empty] {
        mesh.route_mut(route).cors = Some(Box::new(cors.clone()));
    }
    let rules = [("/nowhere", nowhere), ("/refused", refused), ("/empty", empty)];
    scene.apply(mesh, rules.map(|(path, route)| (prefix(path), route)).into());
    let preflight = "Access-Control-Request-Method: PUT\r\n";
    for (line, more, status, is_of_cors) in [
        ("GET /none", "", 404, false),
        ("GET /nowhere", "", 500, true),
        ("GET /refused", "", 403, true),
        ("GET /empty", "", 503, true),
        ("OPTIONS /empty", preflight, 204, true),
        ("OPTIONS /", "Max-Forwards: 0\r\n", 200, false),
    ] {
        let request = |debug: &str| {
            format!("{line} HTTP/1.1\r\nHost: a\r\nOrigin: https://o.example\r\n{more}{debug}\r\n")
        };
        let response = scene.ask(&request("X-Lateen-Debug: 1\r\n"));
        assert_eq!(response.status, status, "{line}");
        assert_eq!(response.head.value("x-lateen-epoch"), Some(epoch(1).to_string()), "{line}");
        let allowed = response.head.value("access-control-allow-origin");
        assert_eq!(allowed.is_some(), is_of_cors, "{line}");
        assert_eq!(scene.ask(&request("")).head.value("x-lateen-epoch"), None, "nobody asked");
    }
}

/// A route with a mirror to `copied`, whose backend has edits of its own.
fn mirrored(engine: Engine, upstream: &Upstream, copied: &Upstream) -> Scene {
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let main = mesh.cluster("main", &[upstream.address()]);
    let copy = mesh.cluster("copy", &[copied.address()]);
    let mut action = forward(&[(Some(main), 1)]);
    if let Action::Forward(backends) = &mut action {
        backends[0].request_headers = edits(&[("authorization", "Bearer main")], &[], &["x-own"]);
    }
    let route = mesh.route(action);
    let all = mesh.route_mut(route);
    all.request_headers = edits(&[("x-route", "1")], &[], &[]);
    all.mirrors = vec![Mirror { cluster: copy, numerator: 1, denominator: 1 }];
    scene.apply(mesh, vec![(prefix("/"), route)]);
    scene
}

fn a_copy_has_nothing_of_the_backend_that_was_chosen(engine: Engine) {
    let (upstream, copied) = (Upstream::fixed("x"), Upstream::fixed("y"));
    let scene = mirrored(engine, &upstream, &copied);
    let request = "POST /p HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(scene.ask(request).status, 200);
    for (at, authorization, own) in
        [(&upstream, Some("Bearer main"), None), (&copied, None, Some("1"))]
    {
        let got = at.request();
        assert_eq!(got.body, b"abc");
        assert_eq!(got.head.value("x-route").as_deref(), Some("1"), "the route's are for all");
        assert_eq!(got.head.value("authorization").as_deref(), authorization);
        assert_eq!(got.head.value("x-own").as_deref(), own);
    }
}

fn a_body_that_comes_in_pieces_is_copied(engine: Engine) {
    let (upstream, copied) = (Upstream::fixed("x"), Upstream::fixed("y"));
    let scene = mirrored(engine, &upstream, &copied);
    let mut client = Peer::connect(scene.listen);
    let body = vec![b'x'; 20_000];
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    for piece in body.chunks(7_000) {
        client.send(piece);
    }
    assert_eq!(read_response(&mut client, "POST").status, 200);
    assert_eq!(upstream.request().body, body);
    assert_eq!(copied.request().body, body);
    // The connection goes on, also for who waits for leave to send.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client.send("abc");
    assert_eq!(read_response(&mut client, "POST").status, 200);
}

fn a_mirror_gets_a_copy_and_is_not_waited_for(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let copied = Upstream::fixed("nobody reads this");
    let (_silent, _accepted, silent) = lateen_tests::upstream::hanging();
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let to = |mesh: &mut Mesh, name, address| mesh.cluster(name, &[address]);
    let main = to(&mut mesh, "main", upstream.address());
    let mirrors = [to(&mut mesh, "copy", copied.address()), to(&mut mesh, "silent", silent)];
    let route = mesh.route(forward(&[(Some(main), 1)]));
    mesh.route_mut(route).mirrors =
        mirrors.map(|cluster| Mirror { cluster, numerator: 1, denominator: 1 }).into();
    scene.apply(mesh, vec![(prefix("/"), route)]);
    let request = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let mut client = Peer::connect(scene.listen);
    for _ in 0..3 {
        assert_eq!(exchange(&mut client, request).status, 200);
    }
    for _ in 0..3 {
        let copy = copied.request();
        assert_eq!((copy.target(), copy.body.as_slice()), ("/p", &b"abc"[..]));
    }
    assert!(copied.connections() <= 3, "and their connections are pooled");
    scene.proxy.await_metric("mirror_total", &[], 6.0);
    assert_eq!(scene.proxy.access_log(3).len(), 3, "a copy has no line of its own");

    // What is not all in memory is left out, and counted.
    let body = "x".repeat(100_000);
    let large = format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}");
    assert_eq!(exchange(&mut client, &large).status, 200);
    scene.proxy.await_metric("mirror_skipped_total", &[], 2.0);
}

fn pages_of_other_origins_are_told_what_they_may(engine: Engine) {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nAccess-Control-Allow-Origin: evil\r\n\r\nx"
            .to_vec()
    });
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let cluster = mesh.cluster("upstream", &[upstream.address()]);
    let route = mesh.route(forward(&[(Some(cluster), 1)]));
    mesh.route_mut(route).cors = Some(Box::new(Cors {
        allow_origins: vec!["https://*.good.example".to_owned()],
        allow_credentials: true,
        allow_methods: vec!["PUT".to_owned()],
        allow_headers: vec!["x-token".to_owned()],
        expose_headers: Vec::new(),
        max_age_s: 60,
    }));
    scene.apply(mesh, vec![(prefix("/"), route)]);
    let asks = |method: &str, origin: &str, more: &str| {
        scene.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n{more}\r\n"))
    };
    let preflight = "Access-Control-Request-Method: PUT\r\n";
    let response = asks("OPTIONS", "https://a.good.example", preflight);
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://a.good.example"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(response.head.value(name).as_deref(), Some(value), "{name}");
    }
    assert!(upstream.requests_so_far().is_empty(), "the proxy answers a preflight itself");
    let allowed = |response: Response| response.head.value("access-control-allow-origin");
    assert_eq!(
        allowed(asks("GET", "https://a.good.example", "")).as_deref(),
        Some("https://a.good.example"),
        "not what the upstream says"
    );
    assert_eq!(allowed(asks("GET", "https://evil.example", "")), None);
}

fn a_route_has_a_time_of_its_own(engine: Engine) {
    let slow = Upstream::scripted(|mut peer, connection| {
        // Never answers.
        while lateen_tests::http::read_request(&mut peer, connection).is_some() {}
    });
    let quick = Upstream::answering(|_| ok("x", 1));
    let mut scene = Scene::begin(engine);
    let mut mesh = Mesh::default();
    let clusters = [&slow, &quick]
        .map(|upstream| mesh.cluster(&upstream.address().to_string(), &[upstream.address()]));
    let routes = clusters.map(|cluster| mesh.route(forward(&[(Some(cluster), 1)])));
    mesh.route_mut(routes[0]).policy.request_timeout_ms = Some(2_000);
    scene.apply(mesh, vec![(prefix("/slow"), routes[0]), (prefix("/"), routes[1])]);
    assert_eq!(scene.get("/slow").status, 504);
    assert_eq!(scene.get("/").status, 200);
    let line = &scene.proxy.access_log(2)[0];
    assert_eq!(line["flags"], "UT");
}
