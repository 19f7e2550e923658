//! Which request is which.
//!
//! Before: [`listen`](crate::api::listen) accepted a connection. After: an order to the owner of the
//! control plane, or a look at what is stored and known. What changes something runs in a task of its
//! own: a caller that goes away does not leave half a change behind.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::api::changes::{change, settle};
use crate::api::error::ApiError;
use crate::api::limits::*;
use crate::api::listen::Caller;
use crate::api::messages::*;
use crate::api::overrides::{order, overrides};
use crate::api::policies::{policies, route_policies};
use crate::language::diagnostic::Diagnostic;
use crate::language::place::SourceFile;
use crate::publish::Publisher;
use crate::serve::names::kinds_named;
use crate::serve::order::{Change, ObjectName, Order, Orders, Proposal, What};
use crate::serve::refusal::Refusal;
use crate::serve::view::View;
use crate::store::diff::diff as diff_objects;
use crate::store::thread::StoreThread;

/// What requests are answered from.
#[derive(Clone)]
pub struct Api {
    /// To the owner of what changes.
    pub orders: Orders,
    /// The owner's state.
    pub view: watch::Receiver<View>,
    /// What was accepted.
    pub store: StoreThread,
    /// What proxies said.
    pub publisher: Arc<Publisher>,
}

/// A secret that every request must bring, as its SHA-256.
pub type TokenDigest = [u8; 32];

/// All requests there are. With `token`, those without it are refused.
pub fn routes(api: Api, token: Option<TokenDigest>) -> Router {
    let files = DefaultBodyLimit::max(FILES_BODY_BYTES_MAX);
    Router::new()
        .route("/v1/apply", post(apply).layer(files))
        .route("/v1/diff", post(diff).layer(files).get(diff_revisions))
        .route("/v1/delete", post(delete))
        .route("/v1/rollback", post(roll_back))
        .route("/v1/resume", post(resume))
        .route("/v1/overrides", post(order).get(overrides))
        .route("/v1/status", get(status))
        .route("/v1/objects", get(objects))
        .route("/v1/policies", get(policies))
        .route("/v1/policies/in-force", get(route_policies))
        .route("/v1/history", get(history))
        .route("/v1/history/{revision}", get(revision))
        .fallback(|| async {
            ApiError::new(StatusCode::NOT_FOUND, "there is nothing of that name")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "it is not asked for with that method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(move |request, next| check_token(token, request, next)))
        .with_state(api)
}

async fn check_token(token: Option<TokenDigest>, request: Request, next: Next) -> Response {
    let Some(token) = token else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Of digests, how far they agree tells nothing of the token.
    if given.is_some_and(|given| TokenDigest::from(Sha256::digest(given)) == token) {
        return next.run(request).await;
    }
    let wrong = "this API asks for the token that is in the control plane's --api-token-file";
    ApiError::new(StatusCode::UNAUTHORIZED, wrong).into_response()
}

/// A value, or why there is none.
pub(super) type Answer<T> = Result<Json<T>, ApiError>;

async fn apply(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Result<Json<ApplyRequest>, JsonRejection>,
) -> Answer<ChangeResponse> {
    let ApplyRequest { files, prune, how } = body.map_err(wrong_body)?.0;
    let what = What::Apply(Proposal { files: source_files(files)?, prune });
    make(api, caller, what, how).await
}

async fn delete(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Result<Json<DeleteRequest>, JsonRejection>,
) -> Answer<ChangeResponse> {
    let DeleteRequest { kind, namespace, name, how } = body.map_err(wrong_body)?.0;
    make(api, caller, What::Delete(ObjectName { kind, namespace, name }), how).await
}

async fn make(api: Api, caller: Caller, what: What, how: How) -> Answer<ChangeResponse> {
    let wait = wait(how.wait_s)?;
    if how.atomic && wait.is_zero() && !how.dry_run {
        let wrong = "`atomic` needs `wait_s`: who does not wait does not hear of a refusal";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, wrong));
    }
    let How { if_revision, dry_run, atomic, message, .. } = how;
    let asked = Change { what, if_revision, dry_run, author: caller.author(), message };
    let Api { orders, publisher, .. } = api;
    let done = tokio::spawn(change(orders, publisher, asked, wait, atomic)).await;
    Ok(Json(done.map_err(|_| Refusal::Stopping)??))
}

async fn roll_back(
    State(api): State<Api>,
    body: Result<Json<RollbackRequest>, JsonRejection>,
) -> Answer<ChangeResponse> {
    let RollbackRequest { revision, wait_s } = body.map_err(wrong_body)?.0;
    let wait = wait(wait_s)?;
    let done = api.orders.ask(|answer| Order::Rollback(revision, answer)).await?;
    Ok(Json(settle(&api.publisher, done, wait).await))
}

async fn resume(
    State(api): State<Api>,
    body: Result<Json<ResumeRequest>, JsonRejection>,
) -> Answer<ChangeResponse> {
    let wait = wait(body.map_err(wrong_body)?.0.wait_s)?;
    let done = api.orders.ask(Order::Resume).await?;
    Ok(Json(settle(&api.publisher, done, wait).await))
}

async fn diff(
    State(api): State<Api>,
    body: Result<Json<DiffRequest>, JsonRejection>,
) -> Answer<DiffResponse> {
    let DiffRequest { files, prune } = body.map_err(wrong_body)?.0;
    let proposal = Proposal { files: source_files(files)?, prune };
    let preview = api.orders.ask(|answer| Order::Preview(proposal, answer)).await?;
    Ok(Json(DiffResponse {
        objects: preview.objects,
        proxies: preview.proxies,
        warnings: preview.warnings.iter().map(Diagnostic::report).collect(),
        pinned: preview.pinned,
    }))
}

async fn status(State(api): State<Api>) -> Json<StatusResponse> {
    let control = api.view.borrow().clone();
    Json(StatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        control,
        proxies: api.publisher.status(),
    })
}

/// Which objects are asked for; what is `None` may be anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectsQuery {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

async fn objects(
    State(api): State<Api>,
    query: Result<Query<ObjectsQuery>, QueryRejection>,
) -> Answer<ObjectsResponse> {
    let ObjectsQuery { kind, namespace, name } = query.map_err(wrong_query)?.0;
    let kinds = match kind {
        None => None,
        Some(kind) => match kinds_named(&kind)[..] {
            [] => return Err(Refusal::NoSuchKind(kind).into()),
            ref kinds => Some(kinds.iter().map(ToString::to_string).collect::<Vec<_>>()),
        },
    };
    let latest = api.store.run(|store| {
        Ok(store.latest().map(|(revision, objects)| (revision.number, objects.clone())))
    });
    let Some((revision, objects)) = latest.await? else {
        return Ok(Json(ObjectsResponse { revision: 0, objects: Vec::new() }));
    };
    let is_asked_for = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
    let matching = objects.iter().filter(|(key, _)| {
        kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| **kind == *key.kind))
            && is_asked_for(&namespace, &key.namespace)
            && is_asked_for(&name, &key.name)
    });
    let objects = matching
        .map(|(key, text)| ObjectText { key: key.clone(), text: text.to_string() })
        .collect();
    Ok(Json(ObjectsResponse { revision, objects }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    limit: Option<usize>,
    before: Option<u64>,
}

async fn history(
    State(api): State<Api>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Answer<HistoryResponse> {
    let HistoryQuery { limit, before } = query.map_err(wrong_query)?.0;
    let limit = limit.unwrap_or(HISTORY_PAGE);
    let revisions = api.store.run(move |store| store.history(limit, before)).await?;
    let view = api.view.borrow();
    Ok(Json(HistoryResponse { revisions, live: view.live_revision, pinned: view.store.pinned }))
}

async fn revision(
    State(api): State<Api>,
    number: Result<Path<u64>, PathRejection>,
) -> Answer<RevisionResponse> {
    let wrong = |_| ApiError::new(StatusCode::BAD_REQUEST, "a revision is a number");
    let Path(number) = number.map_err(wrong)?;
    let (revision, objects) = api.store.run(move |store| store.show(number)).await?;
    let objects = objects
        .iter()
        .map(|(key, text)| ObjectText { key: key.clone(), text: text.to_string() })
        .collect();
    Ok(Json(RevisionResponse { revision, objects }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevisionsQuery {
    old: u64,
    new: u64,
}

async fn diff_revisions(
    State(api): State<Api>,
    query: Result<Query<RevisionsQuery>, QueryRejection>,
) -> Answer<RevisionsDiffResponse> {
    let RevisionsQuery { old, new } = query.map_err(wrong_query)?.0;
    let shown = api.store.run(move |store| Ok((store.show(old)?.1, store.show(new)?.1)));
    let (before, after) = shown.await?;
    // Not on the store's thread: changes would wait for it.
    let comparing = spawn_blocking(move || diff_objects(&before, &after));
    let objects = comparing.await.expect("comparing does not panic");
    Ok(Json(RevisionsDiffResponse { old, new, objects }))
}

fn source_files(files: Vec<FileText>) -> Result<Vec<Arc<SourceFile>>, ApiError> {
    if files.len() > FILES_MAX {
        let wrong = format!("{} files; at most {FILES_MAX} are taken at a time", files.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, wrong));
    }
    Ok(files.into_iter().map(|file| Arc::new(SourceFile::new(file.name, file.text))).collect())
}

pub(super) fn wait(wait_s: u64) -> Result<Duration, ApiError> {
    if wait_s > WAIT_S_MAX {
        let wrong = format!("`wait_s` is {wait_s}; at most {WAIT_S_MAX} seconds are waited");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, wrong));
    }
    Ok(Duration::from_secs(wait_s))
}

pub(super) fn wrong_body(rejection: JsonRejection) -> ApiError {
    ApiError::new(rejection.status(), rejection.body_text())
}

pub(super) fn wrong_query(rejection: QueryRejection) -> ApiError {
    ApiError::new(rejection.status(), rejection.body_text())
}
