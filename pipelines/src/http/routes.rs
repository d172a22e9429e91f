//! Every address of the service, by who calls it.

use axum::Router;
use serde_json::Value;

use super::api::Api;
use super::{Service, deliveries, health, metrics, page, webhooks};

/// All endpoints, and their description as `OpenAPI` 3.1.
pub fn all(service: &Service) -> (Router<Service>, Value) {
    Api::new(service.clone())
        .group("machines", "For load balancers, Prometheus and tools")
        .add(health::health_about(), health::health)
        .add(health::ready_about(), health::ready)
        .add(metrics::metrics_about(), metrics::metrics)
        .add(page::description_about(), page::description)
        .add(page::page_about(), page::page)
        .add(page::script_about(), page::script)
        .group("senders", "For vendors and other systems that send events by themselves")
        .add(webhooks::vendor_about(), webhooks::vendor)
        .add(webhooks::booking_created_about(), webhooks::booking_created)
        .add(webhooks::booking_updated_about(), webhooks::booking_updated)
        .add(webhooks::booking_cancelled_about(), webhooks::booking_cancelled)
        .add(webhooks::guest_checked_in_about(), webhooks::guest_checked_in)
        .add(webhooks::guest_checked_out_about(), webhooks::guest_checked_out)
        .group("everybody", "For every API key")
        .add(health::me_about(), health::me)
        .group("operators", "For those who run propflow")
        .add(deliveries::list_about(), deliveries::list)
        .add(deliveries::show_about(), deliveries::show)
        .add(deliveries::replay_about(), deliveries::replay)
        .build()
}
