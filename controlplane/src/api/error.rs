//! What is answered when something is not done.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::api::messages::ErrorResponse;
use crate::language::diagnostic::Diagnostic;
use crate::serve::overrides::refusal::OrderRefusal;
use crate::serve::refusal::Refusal;
use crate::store::error::StoreError;

/// An answer with a status of 400 or more.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorResponse,
}

impl ApiError {
    /// With what is wrong, and no more.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let body = ErrorResponse { error: error.into(), help: None, diagnostics: Vec::new() };
        Self { status, body }
    }

    /// And what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.body.help = Some(help.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let body = ErrorResponse {
            error: refusal.to_string(),
            help: refusal.help(),
            diagnostics: refusal.diagnostics().iter().map(Diagnostic::report).collect(),
        };
        Self { status: status_of(&refusal), body }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Refusal::Store(error).into()
    }
}

const fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Declared(_) | Refusal::Snapshot { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::NoSuchKind(_) | Refusal::Nothing => StatusCode::BAD_REQUEST,
        Refusal::NoSuchObject { .. } | Refusal::Store(StoreError::NoSuchRevision { .. }) => {
            StatusCode::NOT_FOUND
        }
        Refusal::Stored { .. }
        | Refusal::FolderIsSource { .. }
        | Refusal::Ambiguous(_)
        | Refusal::Empty
        | Refusal::Held { .. }
        | Refusal::Store(StoreError::Conflict { .. }) => StatusCode::CONFLICT,
        Refusal::Store(StoreError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Store(_)
        | Refusal::NotPublished { .. }
        | Refusal::OrderNotPublished { .. }
        | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Order(OrderRefusal::MessageTooLong(..) | OrderRefusal::WrongTime(_)) => {
            StatusCode::BAD_REQUEST
        }
        Refusal::Order(
            OrderRefusal::LastEndpoint { .. }
            | OrderRefusal::StillHeld { .. }
            | OrderRefusal::NotForwarded { .. }
            | OrderRefusal::TooMany,
        ) => StatusCode::CONFLICT,
        Refusal::Order(_) => StatusCode::NOT_FOUND,
    }
}
