//! The entry: files in, typed objects and everything that is wrong with the files out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::Error as TypeError;

use crate::language::diagnostic::{Diagnostic, Severity};
use crate::language::document::{self, Document, Node, Value};
use crate::language::object::{Declared, Metadata, Object, ObjectKey, ObjectKind};
use crate::language::place::{SourceFile, Span};
use crate::language::rules::check::check as check_rules;
use crate::language::schema::catalog::shape_of;
use crate::language::schema::check::{check, list_of, nearest, shorten};
use crate::limits::DIAGNOSTICS_MAX;

/// What was found in one file, or in a set of them.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The objects that are right on their own, in the order of the files. References between them
    /// were not looked at.
    pub declared: Vec<Arc<Declared>>,
    /// What is wrong, in the order of the files. With an error among them the set is refused.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether the set is refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads a set of files. Never fails and never panics: what can't be read is among the diagnostics,
/// of which all are found, not the first. Cost: linear in the bytes.
pub fn parse(files: &[Arc<SourceFile>]) -> Parsed {
    let parts: Vec<Parsed> = files.iter().map(parse_file).collect();
    combine(&parts)
}

/// Reads one file of a set. What comes out can be kept for as long as the file stays as it is, and
/// is put together with the others by [`combine`].
pub fn parse_file(file: &Arc<SourceFile>) -> Parsed {
    let mut parsed = Parsed::default();
    for document in document::read(file, &mut parsed.diagnostics) {
        for object in objects_of(document) {
            take(object, &mut parsed);
        }
    }
    sort(&mut parsed.diagnostics);
    parsed
}

/// Puts the files of a set together: of objects with one key the first is kept, the others are
/// errors. Cost: linear in the objects; none is copied.
pub fn combine<'a>(parts: impl IntoIterator<Item = &'a Parsed>) -> Parsed {
    let mut combined = Parsed::default();
    let mut firsts: HashMap<&ObjectKey, &Declared> = HashMap::new();
    for part in parts {
        let mut diagnostics = part.diagnostics.clone();
        for declared in &part.declared {
            match firsts.get(&declared.key) {
                Some(first) => diagnostics.push(declared_twice(declared, first)),
                None => {
                    firsts.insert(&declared.key, declared);
                    combined.declared.push(declared.clone());
                }
            }
        }
        sort(&mut diagnostics);
        combined.diagnostics.append(&mut diagnostics);
    }
    limit(&mut combined.diagnostics);
    combined
}

/// A document, or the items of a `List` as `kubectl` writes it.
fn objects_of(document: Document) -> Vec<Document> {
    let is = |name: &str, value: &str| {
        document.root.field(name).and_then(|field| field.node.text()) == Some(value)
    };
    if !(is("apiVersion", "v1") && is("kind", "List")) {
        return vec![document];
    }
    let file = document.file.clone();
    let items = match document.root.value {
        Value::Fields(fields) => fields.into_iter().find(|field| field.name == "items"),
        _ => None,
    };
    match items.map(|field| field.node.value) {
        Some(Value::List(nodes)) => nodes
            .into_iter()
            .map(|root| Document { file: file.clone(), root, is_item: true })
            .collect(),
        _ => Vec::new(),
    }
}

fn take(document: Document, parsed: &mut Parsed) {
    let diagnostics = &mut parsed.diagnostics;
    let Some(kind) = kind_of(&document, diagnostics) else { return };
    let errors_before = diagnostics.len();
    check(&document, shape_of(kind), diagnostics);
    if diagnostics.len() > errors_before {
        return;
    }
    match typed(kind, document) {
        Ok(declared) => {
            check_rules(&declared, diagnostics);
            if diagnostics.len() == errors_before {
                parsed.declared.push(Arc::new(declared));
            }
        }
        Err(diagnostic) => diagnostics.push(*diagnostic),
    }
}

/// Which kind a document says it is.
fn kind_of(document: &Document, diagnostics: &mut Vec<Diagnostic>) -> Option<ObjectKind> {
    let root = &document.root;
    if !matches!(root.value, Value::Fields(_)) {
        let message = "a document must be a mapping with `apiVersion`, `kind` and `metadata`";
        diagnostics.push(Diagnostic::error(message, document.place(root.span)));
        return None;
    }
    let (Some((api_version, version_span)), Some((name, name_span))) = (
        envelope_text(document, "apiVersion", diagnostics),
        envelope_text(document, "kind", diagnostics),
    ) else {
        return None;
    };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let kind =
        ObjectKind::ALL.into_iter().find(|kind| kind.group() == group && kind.name() == name);
    match kind {
        Some(kind) if kind.versions().contains(&version) => Some(kind),
        Some(kind) => {
            let message = format!("{kind} has no version `{}`", shorten(api_version));
            let help = format!("write `apiVersion: {}`", kind.api_version());
            let place = document.place(version_span);
            diagnostics.push(Diagnostic::error(message, place).with_help(help));
            None
        }
        None => {
            let api_version = (api_version, version_span);
            diagnostics.push(unknown_kind(document, api_version, (name, name_span)));
            None
        }
    }
}

fn envelope_text<'d>(
    document: &'d Document,
    name: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(&'d str, Span)> {
    let Some(field) = document.root.field(name) else {
        let message = format!("`{name}` is missing");
        let place = document.place(document.root.span);
        diagnostics.push(Diagnostic::error(message, place).with_label("in this document"));
        return None;
    };
    let text = field.node.text();
    if text.is_none() {
        let message = format!("`{name}` must be a text");
        diagnostics.push(Diagnostic::error(message, document.place(field.value_span())));
    }
    Some((text?, field.value_span()))
}

/// Kinds of the Gateway API, of Kubernetes and of Lateen that are known and not there, with what to
/// do instead.
const UNSUPPORTED_KINDS: [(&str, &str, &str); 12] = [
    ("gateway.networking.k8s.io", "GRPCRoute", "listeners are HTTP/1 or TCP"),
    ("gateway.networking.k8s.io", "TLSRoute", "listeners are HTTP or TCP"),
    ("gateway.networking.k8s.io", "UDPRoute", "listeners are HTTP or TCP"),
    ("gateway.networking.k8s.io", "BackendTLSPolicy", "connections to endpoints are plain"),
    ("gateway.networking.k8s.io", "ListenerSet", "list all listeners in the Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass", "a Gateway needs none: a Proxy names it"),
    ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy", "use a lateen.dev TrafficPolicy"),
    ("gateway.networking.x-k8s.io", "XListenerSet", "list all listeners in the Gateway"),
    ("gateway.networking.x-k8s.io", "XMesh", "all proxies of one control plane are one mesh"),
    ("multicluster.x-k8s.io", "ServiceImport", "use a lateen.dev Service"),
    ("lateen.dev", "AuthorizationPolicy", "authorize requests in the service"),
    ("lateen.dev", "TLSPolicy", "connections to endpoints are plain"),
];

fn unknown_kind(
    document: &Document,
    (api_version, version_span): (&str, Span),
    (name, name_span): (&str, Span),
) -> Diagnostic {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let unsupported = UNSUPPORTED_KINDS.iter().find(|known| (known.0, known.1) == (group, name));
    if let Some((_, _, instead)) = unsupported {
        let message = format!("{name} is not supported yet");
        return Diagnostic::error(message, document.place(name_span)).with_help(*instead);
    }
    if let Some(kind) = ObjectKind::ALL.into_iter().find(|kind| kind.name() == name) {
        let message = format!("there is no {name} in `{}`", shorten(api_version));
        return Diagnostic::error(message, document.place(version_span))
            .with_help(format!("write `apiVersion: {}`", kind.api_version()));
    }
    let message = format!("unknown kind `{}`", shorten(name));
    let mut diagnostic = Diagnostic::error(message, document.place(name_span));
    let names = ObjectKind::ALL.iter().map(|kind| kind.name());
    if let Some(near) = nearest(name, names) {
        diagnostic = diagnostic.with_label(format!("did you mean `{near}`?"));
    }
    let mut all: Vec<String> = ObjectKind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    all.sort();
    all.dedup();
    diagnostic.with_help(format!("it can be {}", list_of(&all, "or")))
}

/// The typed object of a document whose shape is right.
fn typed(kind: ObjectKind, document: Document) -> Result<Declared, Box<Diagnostic>> {
    // The shapes are made from the types; where they say less than a type asks for, its own word
    // must do.
    let failed = |error: TypeError| {
        let message = format!("this is no {kind}: {error}");
        Box::new(Diagnostic::error(message, document.place(document.root.span)))
    };
    let nothing = Node { value: Value::Fields(Vec::new()), span: document.root.span };
    let spec = document.root.field("spec").map_or(&nothing, |field| &field.node);
    let object = object_of(kind, spec, &document.root).map_err(failed)?;
    let metadata = document.root.field("metadata").map_or(&nothing, |field| &field.node);
    let metadata = WrittenMetadata::deserialize(metadata).map_err(failed)?;
    let namespace = match kind.is_namespaced() {
        true => metadata.namespace.unwrap_or_else(|| "default".to_owned()),
        false => String::new(),
    };
    let key = ObjectKey { kind, namespace: namespace.into(), name: metadata.name.into() };
    let metadata = Metadata {
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
        created: metadata.creation_timestamp,
    };
    Ok(Declared { key, metadata, object, document })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    name: String,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<String>,
}

fn object_of(kind: ObjectKind, spec: &Node, root: &Node) -> Result<Object, TypeError> {
    fn boxed<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<Box<T>, TypeError> {
        T::deserialize(node).map(Box::new)
    }
    Ok(match kind {
        ObjectKind::HttpRoute => Object::HttpRoute(boxed(spec)?),
        ObjectKind::TcpRoute => Object::TcpRoute(boxed(spec)?),
        ObjectKind::Gateway => Object::Gateway(boxed(spec)?),
        ObjectKind::ReferenceGrant => Object::ReferenceGrant(boxed(spec)?),
        ObjectKind::Namespace => Object::Namespace,
        ObjectKind::CoreService => Object::CoreService(boxed(spec)?),
        ObjectKind::EndpointSlice => Object::EndpointSlice(boxed(root)?),
        ObjectKind::Service => Object::Service(boxed(spec)?),
        ObjectKind::Proxy => Object::Proxy(boxed(spec)?),
        ObjectKind::TrafficPolicy => Object::TrafficPolicy(boxed(spec)?),
    })
}

fn declared_twice(declared: &Declared, first: &Declared) -> Diagnostic {
    let message = format!("{} is declared twice", declared.key);
    Diagnostic::error(message, declared.place_of("metadata.name"))
        .with_label("again here")
        .with_related(first.place_of("metadata.name"), "first here")
}

/// Of one file, by place: in the order in which one would mend them.
fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|found| found.place.as_ref().map(|place| place.span.start));
}

fn limit(diagnostics: &mut Vec<Diagnostic>) {
    let more = diagnostics.len().saturating_sub(DIAGNOSTICS_MAX);
    if more > 0 {
        diagnostics.truncate(DIAGNOSTICS_MAX);
        let message = format!("{more} more are not shown");
        diagnostics.push(Diagnostic::without_place(Severity::Error, message));
    }
}
