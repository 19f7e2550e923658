//! Operators' orders about what runs.
//!
//! Before: [`routes`](crate::api::routes) knows that this is asked. After: the order stands and holds on
//! every proxy, or the caller knows why not.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};

use crate::api::changes::settle;
use crate::api::listen::Caller;
use crate::api::messages::overrides::{
    BreakerTo, OrderText, OverrideRequest, OverrideResponse, OverridesResponse,
};
use crate::api::routes::{Answer, Api, wait, wrong_body};
use crate::serve::order::{Order, OverrideOrder, OverrideWhat};
use crate::serve::overrides::Held;

/// Those that stand.
pub(super) async fn overrides(State(api): State<Api>) -> Json<OverridesResponse> {
    Json(OverridesResponse { overrides: api.view.borrow().overrides.clone() })
}

/// Another one, or one less.
pub(super) async fn order(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Result<Json<OverrideRequest>, JsonRejection>,
) -> Answer<OverrideResponse> {
    let OverrideRequest { order, for_ms, message, wait_s } = body.map_err(wrong_body)?.0;
    let wait = wait(wait_s)?;
    let what = match order {
        OrderText::Eject { service, endpoint, force } => {
            OverrideWhat::Eject { service, endpoint, force }
        }
        OrderText::Readmit { service, endpoint } => OverrideWhat::Readmit { service, endpoint },
        OrderText::Breaker { route, to } => match to {
            BreakerTo::Open => OverrideWhat::Hold { route, held: Held::Open },
            BreakerTo::Closed => OverrideWhat::Hold { route, held: Held::Closed },
            BreakerTo::Auto => OverrideWhat::LetGo { route },
        },
    };
    let order = OverrideOrder { what, author: caller.author(), message, for_ms };
    let made = api.orders.ask(|answer| Order::Override(order, answer)).await?;
    let settled = settle(&api.publisher, made.done, wait).await;
    Ok(Json(OverrideResponse {
        verdict: settled.verdict,
        order: made.order,
        epoch: settled.epoch,
        proxies: settled.proxies,
    }))
}
