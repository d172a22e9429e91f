//! Leads and contacts: the chatbot writes, ResMan is told, the office changes, everybody hears of it.

use std::io::Write;
use std::time::Instant;

use catalog::store::pg::fault;
use catalog::{Fault, Result};
use fixtures::chatbot::{self, Bot};
use fixtures::resman::Simulator;
use serde_json::{Value, json};

use super::channels::millis;
use super::house::{House, Listener, key, until};
use super::{Scene, ask};
use crate::cli::print;
use crate::http::caller::Role;

/// Conversations of the simulated chatbot.
const CHATS: usize = 6;
const SEED: u64 = 7;

/// Who uses the API in the demo.
struct Desk<'a> {
    house: &'a House,
    client: reqwest::Client,
    bot: String,
    staff: String,
}

/// The chatbot and the office work on the same people.
pub(super) async fn play(scene: &Scene<'_>, house: &House, resman: &Simulator, out: &mut dyn Write) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build();
    let desk = Desk {
        house,
        client: client.map_err(|e| Fault::us("the demo's HTTP client cannot be made").because(e))?,
        bot: key(scene, &[Role::Chatbot]).await?,
        staff: key(scene, &[Role::Staff, Role::Operator]).await?,
    };
    let mut live = Listener::connect(house, &desk.staff, "contacts,merges,conflicts").await?;
    let property = resman.with_world(|w| w.properties[0].id.clone());
    conversations(scene, &desk, resman, &property, out).await?;

    // Somebody new.
    let rosa = person(&property, "Rosa", "Quill", "rosa.quill@mail.example", "+1 251 555 0188");
    let asked = Instant::now();
    let made = desk.post(&desk.bot, "contacts", &rosa).await?;
    let answered = asked.elapsed();
    let id = text(&made, "contact_id")?;
    let find = |name: &str| resman.with_world(|w| w.leads.all.iter().find(|l| l.people[0].first_name == name).cloned());
    let (lead, pushed) = until("ResMan to have the lead", async || Ok(find("Rosa"))).await?;
    print(
        out,
        format_args!(
            "The chatbot wrote down Rosa Quill: answered in {}, in ResMan as a prospect {} later.",
            millis(answered),
            millis(pushed)
        ),
    )?;
    until("the lead's id to be known here", async || {
        let lead = desk.get(&format!("leads/{id}")).await?;
        Ok((lead["waiting_messages"] == 0 && lead["resman"]["resman_lead_id"].is_string()).then_some(()))
    })
    .await?;

    // The same person, spelled otherwise.
    let again = person(&property, "rosa", "QUILL", "Rosa.Quill@Mail.example", "(251) 555-0188");
    let again = desk.post(&desk.bot, "contacts", &again).await?;
    let (known, review) = (again["matched_contact_id"] == *id || again["contact_id"] == *id, again["review"] == true);
    print(
        out,
        format_args!(
            "She came again as `rosa QUILL`, with the same address and phone: {}.",
            match (known, review) {
                (true, false) => "the same contact",
                (true, true) => "put up for review, as a household could share both",
                _ => return Err(Fault::us(format!("Rosa Quill was not known again: {again}"))),
            }
        ),
    )?;
    if review {
        let pending = desk.get("merges/pending").await?;
        let merge = text(&pending["items"][0], "merge_id")?;
        desk.post(&desk.staff, &format!("merges/{merge}/approve"), &json!({})).await?;
        print(
            out,
            format_args!("The office approved the merge: one person, one record; the spare lead is closed in ResMan."),
        )?;
    }

    // The office changes something, and the poll finds it.
    let now = scene.app.clock.now();
    let changed = Instant::now();
    resman.with_world(|w| w.leads.edit(&lead.id, now, |l| l.people[0].phone = Some("251-555-0199".to_owned())));
    let told =
        |said: &Value| said["kind"] == "updated" && said["key"] == *id && said["data"].to_string().contains("phone");
    let (at, before) = live.next(told).await?;
    let mut events = before;
    print(
        out,
        format_args!(
            "The office corrected her phone in ResMan: found by the poll and told over the WebSocket {} later.",
            millis(at.duration_since(changed))
        ),
    )?;

    // Both sides change the same field.
    resman.with_world(|w| {
        w.leads.edit(&lead.id, scene.app.clock.now(), |l| l.people[0].email = Some("rosa@office.example".to_owned()))
    });
    desk.put(
        &format!("contacts/{id}"),
        &json!({
            "contact_data": { "email": "rosa@new.example" }, "update_source": "chatbot",
        }),
    )
    .await?;
    let (_, before) = live.next(|said| said["topic"] == "conflicts").await?;
    events.extend(before);
    let conflicts = desk.get("conflicts").await?;
    let conflict = text(&conflicts["items"][0], "conflict_id")?;
    desk.post(&desk.staff, &format!("conflicts/{conflict}/resolve"), &json!({ "side": "domiq" })).await?;
    let email = || find("Rosa").and_then(|l| l.people[0].email.clone());
    until("ResMan to have the value that was chosen", async || {
        Ok((email().as_deref() == Some("rosa@new.example")).then_some(()))
    })
    .await?;
    print(
        out,
        format_args!(
            "Both sides changed her e-mail address: kept as a conflict with both values, settled by the office, and ResMan has the value that was chosen."
        ),
    )?;

    // An opt-out stays one.
    desk.post(&desk.bot, &format!("contacts/{id}/opt-out"), &json!({ "type": "text" })).await?;
    let (_, before) = live.next(|said| said["key"] == *id && said["data"].to_string().contains("opt_out")).await?;
    events.extend(before);
    let numbers: Vec<i64> = events.iter().filter_map(|e| e["seq"].as_i64()).collect();
    if !numbers.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(Fault::us("the live socket told changes twice or in another order"));
    }
    print(out, format_args!("The WebSocket told {} changes, each once and in order.", numbers.len()))?;
    ask(scene, out, "What is on record about her?", None, HISTORY).await
}

/// Renters talk to the chatbot; what they want is read out of their words and becomes a score.
async fn conversations(
    scene: &Scene<'_>,
    desk: &Desk<'_>,
    resman: &Simulator,
    property: &str,
    out: &mut dyn Write,
) -> Result<()> {
    let chats = chatbot::conversations(SEED, CHATS, scene.app.clock.now());
    let bot = Bot::new(&desk.house.url, &desk.bot)?;
    let mut said = 0;
    for chat in &chats {
        bot.talk(chat, property).await?;
        said += chat.lines.len();
    }
    let failed = |e| fault("cannot read the leads' scores", e);
    let (_, took) = until("the conversations to be read and scored", async || {
        let scored: i64 =
            sqlx::query_scalar("select count(*) from serving.lead_scores where conversation_summary is not null")
                .fetch_one(&scene.database.pool)
                .await
                .map_err(failed)?;
        Ok((scored >= CHATS as i64).then_some(()))
    })
    .await?;
    let known = |email: &str| {
        resman.with_world(|w| w.leads.all.iter().filter(|l| l.people[0].email.as_deref() == Some(email)).count())
    };
    until("ResMan to have every renter", async || Ok(chats.iter().all(|c| known(&c.renter.email) > 0).then_some(())))
        .await?;
    if chats.iter().any(|c| known(&c.renter.email) != 1) {
        return Err(Fault::us("a renter is in ResMan twice"));
    }
    print(
        out,
        format_args!(
            "{CHATS} renters said {said} things; all are in ResMan once, and read and scored {} behind the last word.",
            millis(took)
        ),
    )?;
    ask(scene, out, "Whom should the office call first, and why?", None, SCORES).await
}

fn person(property: &str, first: &str, last: &str, email: &str, phone: &str) -> Value {
    json!({ "contact_data": {
        "first_name": first, "last_name": last, "email": email, "phone": phone, "property_id": property, "source": "chatbot",
        "initial_interaction": { "type": "chat", "timestamp": "2026-01-05T12:00:00Z", "message": "Is there a pool?" },
    } })
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Fault::us(format!("the service's answer has no `{field}`: {value}")))
}

impl Desk<'_> {
    async fn post(&self, key: &str, path: &str, body: &Value) -> Result<Value> {
        self.send(self.client.post(self.at(path)).bearer_auth(key), Some(body)).await
    }

    async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(self.client.put(self.at(path)).bearer_auth(&self.bot), Some(body)).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.send(self.client.get(self.at(path)).bearer_auth(&self.staff), None).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}/api/resman/{path}", self.house.url)
    }

    async fn send(&self, request: reqwest::RequestBuilder, body: Option<&Value>) -> Result<Value> {
        let failed = |e| Fault::us("the demo's service did not answer").because(e);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await.map_err(failed)?).unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(Fault::us(format!("the service answered {status}: {body}"))) }
    }
}

const SCORES: &str = "\
select first_name, score, intent, engagement, recency, fit, completeness, fitting_units as units, left(conversation_summary, 90) as summary \
from serving.lead_scores where conversation_summary is not null order by score desc, first_name limit 6";

const HISTORY: &str = "\
select h.version, h.field, h.source, h.rule from sync.contact_history h join sync.contacts c on c.id = h.contact_id \
where c.first_name = 'Rosa' and c.last_name = 'Quill' and h.version > 1 order by h.id limit 12";
