//! `resman`: inventory, leads and residents from both generations of ResMan's API.

mod attention;
mod datasets;
mod leads;
mod people;
mod residents;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use catalog::{Blame, Clock, Component, Cursor, Env, Fault, Note, Reject, Result, SecretRef};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use self::datasets::{Fields, Item, Mapping, object};
use crate::emit::{self, Emit};
use crate::http::{Cause, Client, Limits, Refusal, account, address};
use crate::mits::parser;
use crate::rows::{Object, Table, id};
use crate::source::{Event, Read, Request, Source, Stream};

/// Properties that fail one after another before the vendor itself is taken to be down.
const FAILURES_IN_A_ROW: usize = 5;

/// What the vendor's proxy says when an answer is too large for it.
const TOO_MUCH: &str = "buffer overflow";

/// The account and how to reach it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address of generation v1.
    #[serde(default = "v1_url")]
    pub v1_url: String,
    /// The address of generation v2.
    #[serde(default = "v2_url")]
    pub v2_url: String,
    /// The integration partner's id, by reference.
    pub partner_id: SecretRef,
    /// The integration partner's key, by reference.
    pub api_key: SecretRef,
    /// The management company's account. Without it `subdomain` is looked up.
    #[serde(default)]
    pub account_id: Option<String>,
    /// The `xyz` of `xyz.myresman.com`.
    #[serde(default)]
    pub subdomain: Option<String>,
    /// Only these properties, by id; empty means every one that the account lists.
    #[serde(default)]
    pub properties: Vec<String>,
    /// Has the vendor take concessions off the rents of lease terms.
    #[serde(default)]
    pub include_concessions_in_pricing: bool,
    /// Has the vendor list the rents of every lease term, dynamic prices worked in.
    #[serde(default)]
    pub full_pricing_matrix: bool,
    /// Seconds by which a reading of leads looks back behind the newest change that it has seen: for so long a change may take
    /// to show up in ResMan's answers.
    #[serde(default = "overlap_secs")]
    pub overlap_secs: u32,
    /// How the account may be called. The vendor publishes no limits and asks for one call at a time.
    #[serde(default)]
    pub limits: Limits,
}

fn overlap_secs() -> u32 {
    120
}

fn v1_url() -> String {
    "https://api.myresman.com".to_owned()
}

fn v2_url() -> String {
    "https://partners-api.myresman.com".to_owned()
}

/// The connector.
pub struct ResMan {
    client: Client,
    v1_url: Url,
    v2_url: Url,
    partner_id: SecretString,
    api_key: SecretString,
    account_id: OnceCell<String>,
    subdomain: Option<String>,
    properties: BTreeSet<String>,
    include_concessions_in_pricing: bool,
    full_pricing_matrix: bool,
    overlap_secs: u32,
    parallel: usize,
    connection: String,
    clock: Arc<dyn Clock>,
    beliefs: Mutex<people::Beliefs>,
}

impl fmt::Debug for ResMan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResMan({})", self.connection)
    }
}

/// Why a list did not come, and how far the trouble reaches.
#[derive(Debug)]
enum Trouble {
    /// The endpoint is not there for this partner, in the vendor's words.
    Off(Fault),
    /// More was found than the vendor can send at once.
    TooMuch(Fault),
    /// This property, or this list, cannot be read now.
    Scope(Fault),
    /// Nothing can be read.
    Stop(Fault),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        match refusal.cause {
            Cause::Unreachable => Trouble::Stop(refusal.fault),
            Cause::Status(status, _) if matches!(status.as_u16(), 401 | 403) => Trouble::Stop(refusal.fault),
            _ if refusal.fault.blame == Blame::Us => Trouble::Stop(refusal.fault),
            _ => Trouble::Scope(refusal.fault),
        }
    }
}

impl From<Fault> for Trouble {
    /// A fault without a call is one of settings or of ours: it is there for every property.
    fn from(fault: Fault) -> Self {
        Trouble::Stop(fault)
    }
}

impl Trouble {
    fn fault(self, what: &str) -> Fault {
        match self {
            Trouble::Off(why) => Fault::user(format!("`{what}` is not open to this partner"))
                .hint("Ask ResMan to entitle the integration partner to it, and check `v1_url` and `v2_url`.")
                .because(why),
            Trouble::TooMuch(fault) | Trouble::Scope(fault) | Trouble::Stop(fault) => fault,
        }
    }
}

/// The cursor: the lists of the account are done, and every property up to this one.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    after: Option<String>,
}

/// What one reading knows while it goes on.
#[derive(Debug, Default)]
struct Reading {
    /// Endpoints that turned out to be off, and are not asked again.
    off: BTreeSet<&'static str>,
    /// What to tell once.
    notes: Vec<Note>,
}

impl Reading {
    /// Takes a list that may be off: `None` then, and a note the first time.
    fn unless_off<T>(&mut self, path: &'static str, list: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
        match list {
            Ok(list) => Ok(Some(list)),
            Err(Trouble::Off(_)) => {
                if self.off.insert(path) {
                    self.note(
                        "endpoint_off",
                        path,
                        format!("`{path}` is off: the partner is not entitled to it, or it does not exist"),
                    );
                }
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Takes a list of the account that the others do not need: `None` if it failed, and a note.
    fn if_any<T>(&mut self, path: &'static str, list: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
        match self.unless_off(path, list) {
            Err(Trouble::Scope(fault)) => {
                self.note("list_failed", path, fault.to_string());
                Ok(None)
            }
            other => other,
        }
    }

    /// Takes over what another reading found out, each endpoint that is off once.
    fn merge(&mut self, other: Reading) {
        let known = |n: &Note| n.topic == "endpoint_off" && self.off.contains(n.subject.as_str());
        let notes: Vec<Note> = other.notes.into_iter().filter(|n| !known(n)).collect();
        self.notes.extend(notes);
        self.off.extend(other.off);
    }

    fn note(&mut self, topic: &str, subject: &str, text: String) {
        self.notes.push(Note { topic: topic.to_owned(), subject: subject.to_owned(), text, count: 1 });
    }
}

/// Everything of one property.
#[derive(Debug, Default)]
struct Inventory {
    rows: Vec<(&'static str, RecordBatch)>,
    rejects: Vec<Reject>,
    missing: Vec<&'static str>,
}

impl Inventory {
    fn take(&mut self, scope: &str, mut table: Table) -> Result<()> {
        if table.rows() > 0 {
            table.fill(0, 0, scope);
            self.rows.push((table.name(), table.finish()?));
        }
        Ok(())
    }
}

#[async_trait]
impl Component for ResMan {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "resman";
    const ABOUT: &'static str = "ResMan: properties, units, availability, prices, concessions, fees, amenities and staff, \
                                 leads and residents, from both generations of its API";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        if config.account_id.is_none() && config.subdomain.is_none() {
            return Err(Fault::user("`resman` needs `account_id` or `subdomain`"));
        }
        let (v1_url, v2_url) = (base("v1_url", &config.v1_url)?, base("v2_url", &config.v2_url)?);
        let partner_id = config.partner_id.resolve()?;
        let parallel = config.limits.parallel.max(1) as usize;
        Ok(Box::new(Self {
            client: Client::new(&account("resman", &partner_id), &env, config.limits)?.final_words(TOO_MUCH),
            v1_url,
            v2_url,
            partner_id,
            api_key: config.api_key.resolve()?,
            account_id: OnceCell::new_with(config.account_id),
            subdomain: config.subdomain,
            properties: config.properties.iter().map(|p| id(p).into_owned()).collect(),
            include_concessions_in_pricing: config.include_concessions_in_pricing,
            full_pricing_matrix: config.full_pricing_matrix,
            overlap_secs: config.overlap_secs,
            parallel,
            connection: env.connection,
            clock: env.clock,
            beliefs: Mutex::default(),
        }))
    }
}

/// An address under which paths can be joined.
fn base(setting: &str, text: &str) -> Result<Url> {
    let mut url = address(setting, text)?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

#[async_trait]
impl Source for ResMan {
    fn streams(&self) -> Vec<Stream> {
        let stream = |name: &'static str, about: &'static str, datasets| Stream {
            name: name.into(),
            about: about.into(),
            datasets,
            backfill: name == people::STREAM,
            changes: name == people::STREAM,
            objects: false,
        };
        vec![
            stream(
                "inventory",
                "the account's lists, then everything of one property after another",
                [catalog::datasets::wire::mits(), catalog::datasets::wire::resman()].concat(),
            ),
            stream(
                people::STREAM,
                "leads with their people, wishes and communications, one property after another",
                catalog::datasets::wire::resman_people(),
            ),
            stream(
                residents::STREAM,
                "residents, applicants, notices, move-outs and ends of leases, one property after another",
                catalog::datasets::wire::resman_residents(),
            ),
        ]
    }

    async fn check(&self) -> Result<()> {
        self.v1_list("Account/GetProperties", "Properties", None)
            .await
            .map_err(|t| t.fault("Account/GetProperties"))?;
        match self.v2_list("Properties", "properties", &[]).await {
            Ok(_) | Err(Trouble::Off(_)) => Ok(()),
            Err(trouble) => Err(trouble.fault("/Properties")),
        }
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |emit| match request.stream.as_str() {
            people::STREAM => Box::pin(self.people(request, emit)),
            residents::STREAM => Box::pin(self.residents(request, emit)),
            _ => Box::pin(self.inventory(request, emit)),
        })
    }
}

impl ResMan {
    /// The account's id, looked up once if only the subdomain is known.
    async fn account(&self) -> Result<&str, Trouble> {
        let look_up = || async {
            let subdomain = self.subdomain.as_deref().unwrap_or_default();
            Box::pin(self.v1_account_id(subdomain)).await
        };
        self.account_id.get_or_try_init(look_up).await.map(String::as_str)
    }

    async fn inventory(&self, request: Request, mut emit: Emit) -> Result<()> {
        if request.stream != "inventory" || !matches!(request.read, Read::Snapshot) {
            return Err(Fault::user(format!("`resman` cannot read `{}` that way", request.stream))
                .hint("Its stream `inventory` can only be read whole."));
        }
        let done = request.resume.map(|cursor| cursor.read::<Done>()).transpose()?;
        let mut reading = Reading::default();

        let (listed, account) =
            self.account_lists(&mut reading, done.is_none()).await.map_err(|t| t.fault("Properties"))?;
        if done.is_none() {
            let scope = self.connection.clone();
            self.hand_out(account, "connection", scope, &mut reading, &mut emit).await?;
            emit.event(Event::Checkpoint(Cursor::of(&Done { after: None })?)).await?;
        }

        let after = done.and_then(|done| done.after);
        let only: BTreeSet<String> = request.only.iter().map(|p| id(p).into_owned()).collect();
        let wanted = |p: &String| {
            (only.is_empty() || only.contains(p)) && (self.properties.is_empty() || self.properties.contains(p))
        };
        let named = only.iter().chain(&self.properties);
        let mut ahead: BTreeSet<&String> = listed.iter().chain(named).filter(|p| wanted(p)).collect();
        ahead.retain(|p| after.as_ref().is_none_or(|after| *p > after));
        emit.event(Event::Ahead(ahead.len() as u64)).await?;
        if ahead.is_empty() {
            return Ok(());
        }

        // One list for all properties: without a filter on the vendor's side, asking per property would be a waste.
        let staff = self.v2_list("Employees", "employees", &[]).await;
        let staff = reading.if_any("Employees", staff).map_err(|t| t.fault("Employees"))?;
        let staff = match &staff {
            Some(staff) => Some(staff.objects("Employees").map_err(|t| t.fault("Employees"))?),
            None => None,
        };

        let mut failures = 0;
        for property in ahead {
            let read = match listed.contains(property) {
                true => self.property(property, staff.as_deref(), &mut reading).await,
                false => Err(Trouble::Scope(
                    Fault::user("the account does not list this property")
                        .hint("Check the id, and whether the partner still has access to the property."),
                )),
            };
            match read {
                Ok(inventory) => {
                    failures = 0;
                    self.hand_out(inventory, "property_id", property.clone(), &mut reading, &mut emit).await?;
                }
                Err(Trouble::Stop(fault)) => return Err(fault),
                Err(trouble) => {
                    let fault = trouble.fault("the property").at(format!("property `{property}`"));
                    failures += usize::from(fault.is_retryable());
                    if failures >= FAILURES_IN_A_ROW {
                        return Err(fault
                            .hint(format!("{failures} properties failed one after another: the vendor may be down.")));
                    }
                    emit.event(Event::Failed { scope: property.clone(), fault }).await?;
                }
            }
            emit.event(Event::Checkpoint(Cursor::of(&Done { after: Some(property.clone()) })?)).await?;
        }
        Ok(())
    }

    async fn hand_out(
        &self,
        inventory: Inventory,
        column: &'static str,
        scope: String,
        reading: &mut Reading,
        emit: &mut Emit,
    ) -> Result<()> {
        for (dataset, batch) in inventory.rows {
            emit.event(Event::Rows { dataset: dataset.into(), batch }).await?;
        }
        for reject in inventory.rejects {
            emit.event(Event::Reject(reject)).await?;
        }
        for note in reading.notes.drain(..) {
            emit.event(Event::Note(note)).await?;
        }
        emit.event(Event::Complete { column, scope, missing: inventory.missing }).await
    }

    /// The ids of all properties, and the lists of the account.
    async fn account_lists(
        &self,
        reading: &mut Reading,
        whole: bool,
    ) -> Result<(BTreeSet<String>, Inventory), Trouble> {
        let mut account = Inventory::default();
        let mut listed = BTreeSet::new();

        let mut table = Table::of("resman_account_properties")?;
        let generation = table.column("generation")?;
        let account_id = table.column("account_id")?;
        let own_account = self.account().await?;
        let v1 = self.v1_list("Account/GetProperties", "Properties", None).await?;
        let mapping = Mapping::of(&table, datasets::V1_PROPERTIES)?;
        for item in &v1 {
            listed.extend(item.text("PropertyID").map(|p| id(&p).into_owned()));
            table.add();
            table.put(generation, "v1");
            table.put(account_id, own_account);
            mapping.put(&mut table, item);
        }
        let v2 = self.v2_list("Properties", "properties", &[]).await;
        match reading.unless_off("Properties", v2)? {
            Some(v2) => {
                let mapping = Mapping::of(&table, datasets::PROPERTIES)?;
                for item in v2.objects("Properties")? {
                    listed.extend(item.text("propertyId").map(|p| id(&p).into_owned()));
                    table.add();
                    table.put(generation, "v2");
                    table.put(account_id, own_account);
                    mapping.put(&mut table, &item);
                }
            }
            None => account.missing.push(table.name()),
        }
        if !whole {
            return Ok((listed, account));
        }
        account.take(&self.connection, table)?;

        let mut table = Table::of("resman_v1_lost_reasons")?;
        let reasons = self.v1_list("Leasing/GetLostProspectReasons", "LostProspectReasons", None).await;
        match reading.if_any("Leasing/GetLostProspectReasons", reasons)? {
            Some(reasons) => put_all(&mut table, datasets::V1_LOST_REASONS, &reasons)?,
            None => account.missing.push(table.name()),
        }
        account.take(&self.connection, table)?;

        let mut table = Table::of("resman_transaction_categories")?;
        for kind in datasets::CATEGORY_TYPES {
            let items = self.v2_list("TransactionCategories", "transactionCategories", &[("types", kind)]).await;
            let Some(items) = reading.if_any("TransactionCategories", items)? else {
                account.missing.push(table.name());
                break;
            };
            put_all(&mut table, datasets::CATEGORIES, &items.objects("TransactionCategories")?)?;
        }
        account.take(&self.connection, table)?;

        let mut table = Table::of("resman_pick_lists")?;
        let list = table.column("list")?;
        for name in datasets::PICK_LISTS {
            let items = self.v2_list("PickLists", "pickList", &[("name", name)]).await;
            let Some(items) = reading.if_any("PickLists", items)? else {
                account.missing.push(table.name());
                break;
            };
            let from = table.rows();
            put_all(&mut table, datasets::PICK_LIST, &items.objects("PickLists")?)?;
            table.fill(list, from, name);
        }
        account.take(&self.connection, table)?;
        Ok((listed, account))
    }

    /// Everything of one property.
    async fn property(
        &self,
        property: &str,
        staff: Option<&[Object<'_>]>,
        reading: &mut Reading,
    ) -> Result<Inventory, Trouble> {
        let mut all = Inventory::default();
        for (method, key, name, fields) in [
            ("Property/GetUnits", "Units", "resman_v1_units", datasets::V1_UNITS),
            ("Leasing/GetEmployees", "Employees", "resman_v1_employees", datasets::V1_EMPLOYEES),
            ("Leasing/GetProspectSources", "ProspectSources", "resman_v1_lead_sources", datasets::V1_LEAD_SOURCES),
        ] {
            let mut table = Table::of(name)?;
            let list = match reading.off.contains(method) {
                true => None,
                false => reading.unless_off(method, self.v1_list(method, key, Some(property)).await)?,
            };
            match list {
                Some(list) => put_all(&mut table, fields, &list)?,
                None => all.missing.push(table.name()),
            }
            all.take(property, table)?;
        }

        match self.marketing(property, reading).await? {
            Some(feed) => {
                if feed.properties == 0 {
                    reading.note("empty_feed", property, "the marketing feed holds no property".to_owned());
                }
                all.rows.extend(feed.rows);
                all.rejects.extend(feed.rejects);
                reading.notes.extend(feed.notes);
            }
            None => all.missing.extend(parser::NAMES),
        }

        for list in datasets::LISTS {
            let mut table = Table::of(list.table)?;
            match self.of_property(list.path, list.key, list.property, property, reading).await? {
                Some(items) => put_all(&mut table, list.fields, &items.objects(list.path)?)?,
                None => all.missing.push(list.table),
            }
            all.take(property, table)?;
        }
        self.amenities(property, reading, &mut all).await?;
        self.rentable_items(property, reading, &mut all).await?;

        let mut table = Table::of("resman_employees")?;
        match staff {
            Some(staff) => {
                let here = |person: &&Object<'_>| {
                    let places = crate::rows::field(person, "propertyIds").map_or("[]", |ids| ids.get());
                    let places: Vec<String> = serde_json::from_str(places).unwrap_or_default();
                    places.iter().any(|place| id(place) == property)
                };
                put_all(&mut table, datasets::EMPLOYEES, staff.iter().filter(here))?;
            }
            None => all.missing.push(table.name()),
        }
        all.take(property, table)?;
        Ok(all)
    }

    /// The property's marketing feed in the newest dialect that is open to the partner.
    async fn marketing(&self, property: &str, reading: &mut Reading) -> Result<Option<v1::Feed>, Trouble> {
        for method in v1::FEEDS {
            if reading.off.contains(method) {
                continue;
            }
            let feed = self.v1_feed(method, property).await;
            if let Some(feed) = reading.unless_off(method, feed)? {
                return Ok(Some(feed));
            }
        }
        Ok(None)
    }

    /// A list of one property, unless its endpoint is off.
    async fn of_property(
        &self,
        path: &'static str,
        key: &'static str,
        parameter: &str,
        property: &str,
        reading: &mut Reading,
    ) -> Result<Option<v2::Items>, Trouble> {
        if reading.off.contains(path) {
            return Ok(None);
        }
        let list = self.v2_list(path, key, &[(parameter, property)]).await;
        reading.unless_off(path, list)
    }

    async fn amenities(&self, property: &str, reading: &mut Reading, all: &mut Inventory) -> Result<(), Trouble> {
        let (mut amenities, mut charges) = (Table::of("resman_amenities")?, Table::of("resman_amenity_charges")?);
        let Some(items) = self.of_property("Amenities", "amenities", "propertyId", property, reading).await? else {
            all.missing.extend([amenities.name(), charges.name()]);
            return Ok(());
        };
        let amenity = Mapping::of(&amenities, datasets::AMENITIES)?;
        let unit = Mapping::of(&amenities, datasets::AMENITY_UNIT)?;
        let name = Mapping::of(&charges, datasets::AMENITY_NAME)?;
        let charge = Mapping::of(&charges, datasets::AMENITY_CHARGE)?;
        for item in items.objects("Amenities")? {
            amenities.add();
            amenity.put(&mut amenities, &item);
            for place in nested(&item, "units") {
                amenities.add();
                amenity.put(&mut amenities, &item);
                unit.put(&mut amenities, &place);
            }
            for price in nested(&item, "charges") {
                charges.add();
                name.put(&mut charges, &item);
                charge.put(&mut charges, &price);
            }
        }
        all.take(property, amenities)?;
        Ok(all.take(property, charges)?)
    }

    /// The items, and beside each what the list of free ones says of it.
    async fn rentable_items(&self, property: &str, reading: &mut Reading, all: &mut Inventory) -> Result<(), Trouble> {
        let mut table = Table::of("resman_rentable_items")?;
        let Some(items) = self.of_property("RentableItems", "rentableItems", "propertyId", property, reading).await?
        else {
            all.missing.push(table.name());
            return Ok(());
        };
        let free =
            self.of_property("RentableItems/Availability", "rentableItems", "propertyId", property, reading).await?;
        let free =
            free.as_ref().map(|free| free.objects("RentableItems/Availability")).transpose()?.unwrap_or_default();
        let key = |item: &Object<'_>| item.text("rentableItemId").map(|item| id(&item).into_owned());
        let mut free: BTreeMap<_, _> = free.into_iter().map(|item| (key(&item), item)).collect();

        let facts = Mapping::of(&table, datasets::RENTABLE_ITEMS)?;
        let status = Mapping::of(&table, datasets::RENTABLE_AVAILABILITY)?;
        for item in items.objects("RentableItems")? {
            table.add();
            facts.put(&mut table, &item);
            if let Some(item) = free.remove(&key(&item)) {
                status.put(&mut table, &item);
            }
        }
        for item in free.values() {
            table.add();
            facts.put(&mut table, item);
            status.put(&mut table, item);
        }
        Ok(all.take(property, table)?)
    }
}

/// The objects of a list inside an item; absent and null are an empty list.
fn nested<'a>(item: &Object<'a>, key: &str) -> Vec<Object<'a>> {
    let list = crate::rows::field(item, key).map_or("[]", |list| list.get());
    let items: Vec<&'a serde_json::value::RawValue> = serde_json::from_str(list).unwrap_or_default();
    items.into_iter().filter_map(object).collect()
}

/// One row for each item.
fn put_all<'a, I: Item + 'a>(table: &mut Table, fields: Fields, items: impl IntoIterator<Item = &'a I>) -> Result<()> {
    let mapping = Mapping::of(table, fields)?;
    for item in items {
        table.add();
        mapping.put(table, item);
    }
    Ok(())
}
