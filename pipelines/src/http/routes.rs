//! Every address of the service, by who calls it.

use axum::Router;
use serde_json::Value;

use super::api::Api;
use super::{
    Service, contacts, deliveries, health, insight, leads, live, merges, metrics, page, preferences, relay, webhooks,
};

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
        .group("people", "For the chatbot and the team: contacts and leads, in agreement with ResMan")
        .add(contacts::create_about(), contacts::create)
        .add(contacts::search_about(), contacts::search)
        .add(contacts::show_about(), contacts::show)
        .add(contacts::update_about(), contacts::update)
        .add(preferences::preferences_about(), preferences::preferences)
        .add(preferences::opt_out_about(), preferences::opt_out)
        .add(preferences::opt_in_about(), preferences::opt_in)
        .add(leads::create_about(), leads::create)
        .add(leads::show_about(), leads::show)
        .add(leads::update_about(), leads::update)
        .add(leads::interact_about(), leads::interact)
        .add(leads::roommate_about(), leads::roommate)
        .add(live::live_about(), live::live)
        .group("decisions", "For the team: what a machine must not decide alone")
        .add(merges::pending_about(), merges::pending)
        .add(merges::merge_about(), merges::merge)
        .add(merges::approve_about(), merges::approve)
        .add(merges::reject_about(), merges::reject)
        .add(merges::undo_about(), merges::undo)
        .add(merges::conflicts_about(), merges::conflicts)
        .add(merges::resolve_about(), merges::resolve)
        .add(merges::all_rules_about(), merges::all_rules)
        .add(merges::rules_about(), merges::rules)
        .add(merges::set_rules_about(), merges::set_rules)
        .add(merges::drop_rules_about(), merges::drop_rules)
        .group("resman", "What is relayed from ResMan, and pulls on demand")
        .add(relay::contact_about(), relay::changed)
        .add(relay::lead_about(), relay::changed)
        .add(relay::pull_about(), relay::pull)
        .group("figures", "For those who ask how it goes")
        .add(insight::metrics_about(), insight::metrics)
        .add(insight::trends_about(), insight::trends)
        .add(insight::enrichment_about(), insight::enrichment)
        .build()
}
