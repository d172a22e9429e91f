//! The reader of marketing feeds: XML in, batches of wire rows out.
//!
//! One pass, no tree. Rows grow in Arrow builders while their elements pass by; what is known only at the end of a
//! property or unit (its id may come after its rows) is filled in then. Memory holds one property and the rows that wait
//! to be handed out, whatever the length of the feed.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, Read};
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use catalog::{Blame, Fault, Note, Reject, RejectKind, Result, Retry};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::json;

use super::grammar::{Leaf, Owner, State, child, rank};
use super::input::{Input, TokenTooLong, bad};
use crate::rows::{Table, columns, id};

/// How a feed is read.
#[derive(Debug, Clone)]
pub struct Options {
    /// The property that the feed is of, when the one who asked for it knows. Without it the feed says.
    pub property_id: Option<String>,
    /// Properties at the start that were read before.
    pub skip: u64,
    /// Only these properties; empty means all.
    pub only: Vec<String>,
    /// The currency of amounts where the feed names none.
    pub currency: Option<String>,
    /// Rows that are handed out together, at the least, save at the end.
    pub batch_rows: usize,
    /// Nesting of elements that is still taken for a feed.
    pub max_depth: usize,
    /// Length of one element's markup or text, in bytes.
    pub max_token_bytes: usize,
    /// Rows of one property together, in bytes of text.
    pub max_property_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            property_id: None,
            skip: 0,
            only: Vec::new(),
            currency: None,
            batch_rows: 16 * 1024,
            max_depth: 64,
            max_token_bytes: 8 << 20,
            max_property_bytes: 128 << 20,
        }
    }
}

/// Rows that are ready.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Batches by dataset, none of them empty.
    pub rows: Vec<(&'static str, RecordBatch)>,
    /// Properties whose last row is in this chunk.
    pub complete: Vec<String>,
    /// Properties that could not be taken as rows.
    pub rejects: Vec<Reject>,
    /// Properties of the feed that are done with, skipped and rejected ones counted.
    pub done: u64,
}

/// What a feed held.
#[derive(Debug, Default)]
pub struct Summary {
    /// Properties, skipped and rejected ones counted.
    pub properties: u64,
    /// Elements and entities that were not understood.
    pub notes: Vec<Note>,
}

/// Reads a feed to its end and hands out its rows in order; `emit` may end the reading early.
///
/// A feed that breaks off or is not well-formed gives, behind the rows of the properties before that place, a fault that
/// names the place and the property. Nothing of the broken property is handed out.
pub fn parse(input: impl Read, options: &Options, emit: &mut dyn FnMut(Chunk) -> ControlFlow<()>) -> Result<Summary> {
    let input = Input::open(input, options.max_token_bytes)?;
    let mut parser = Parser::new(options, emit)?;
    let mut reader = Reader::from_reader(input);
    let read = parser.document(&mut reader);
    if parser.stopped {
        return Ok(parser.summary());
    }
    match read.and_then(|()| parser.finish()) {
        Ok(()) => Ok(parser.summary()),
        Err(fault) => {
            // What was whole before the fault is still good.
            parser.flush(parser.marks)?;
            Err(fault)
        }
    }
}

/// Where the reader stands; it differs between a feed and the escaped text inside one.
trait Place {
    fn token(&mut self) {}
    fn line(&mut self) -> Option<u64> {
        None
    }
}

impl<R: Read> Place for Input<R> {
    fn token(&mut self) {
        Input::token(self);
    }
    fn line(&mut self) -> Option<u64> {
        Some(Input::line(self))
    }
}

impl Place for &[u8] {}

const PROPERTIES: usize = 0;
const BUILDINGS: usize = 1;
const FLOORPLANS: usize = 2;
const UNITS: usize = 3;
const OFFERS: usize = 4;
const CONCESSIONS: usize = 5;
const CHARGES: usize = 6;
const AMENITIES: usize = 7;
const TABLES: usize = 8;
/// The tables that a feed brings.
pub const NAMES: [&str; TABLES] = [
    "mits_properties",
    "mits_buildings",
    "mits_floorplans",
    "mits_units",
    "mits_offer_terms",
    "mits_concessions",
    "mits_charges",
    "mits_amenities",
];
/// Every wire table begins with its scope.
const SCOPE: usize = 0;

columns! {
    PropertyColumns of "mits_properties":
    organization marketing_name legal_name website street city state postal_code country county phone fax email
    latitude longitude time_zone structure_type unit_count building_count year_built year_remodeled short_description
    long_description lease_length application_url availability_url office_hours currency last_update dialect
}
columns! { BuildingColumns of "mits_buildings": building_id name description unit_count }
columns! {
    PlanColumns of "mits_floorplans":
    floorplan_id name comment unit_count units_available bedrooms bathrooms square_feet_min square_feet_max
    market_rent_min market_rent_max effective_rent_min effective_rent_max availability_url image_url
}
columns! {
    UnitColumns of "mits_units":
    unit_number marketing_name floorplan_id floorplan_name building floor bedrooms bathrooms square_feet_min
    square_feet_max market_rent unit_rent effective_rent_min effective_rent_max economic_status occupancy_status
    leased_status vacancy_class vacate_date made_ready_date street city state postal_code availability_url comment
}
columns! {
    OfferColumns of "mits_offer_terms": unit_number floorplan_id lease_term effective_rent start_date end_date
}
columns! {
    ConcessionColumns of "mits_concessions":
    unit_number floorplan_id position active value term start_date end_date header body footer
}
columns! {
    ChargeColumns of "mits_charges":
    unit_number floorplan_id position element kind label amount amount_min amount_max currency percent_refundable
    portion_refundable condition
}
columns! {
    AmenityColumns of "mits_amenities":
    unit_number floorplan_id position amenity_type amenity_subtype description
}

/// The surest of the values that came for one fact.
#[derive(Debug, Default)]
struct Best {
    rank: Option<u8>,
    text: String,
}

impl Best {
    fn offer(&mut self, rank: u8, text: &str) {
        let text = text.trim();
        if !text.is_empty() && self.rank.is_none_or(|r| rank < r) {
            self.rank = Some(rank);
            self.text.clear();
            self.text.push_str(text);
        }
    }

    fn get(&self) -> Option<&str> {
        self.rank.map(|_| self.text.as_str())
    }

    fn clear(&mut self) {
        self.rank = None;
    }
}

/// What ties a unit to the rest.
#[derive(Debug, Default)]
struct Ties {
    id: Best,
    plan: Best,
    building: Best,
}

impl Ties {
    fn clear(&mut self) {
        self.id.clear();
        self.plan.clear();
        self.building.clear();
    }
}

/// Of two units in one element each has its own id; of one, the element's own id is as good and surer.
fn pick<'a>(own: &'a Best, around: &'a Best, single: bool) -> Option<&'a str> {
    let own_first = match (own.rank, around.rank) {
        (Some(a), Some(b)) => !single || a < b,
        (own, _) => own.is_some(),
    };
    if own_first { own.get() } else { around.get() }
}

type Marks = [usize; TABLES];

struct Parser<'a> {
    options: &'a Options,
    emit: &'a mut dyn FnMut(Chunk) -> ControlFlow<()>,
    tables: [Table; TABLES],
    property: PropertyColumns,
    building: BuildingColumns,
    plan: PlanColumns,
    unit: UnitColumns,
    offer: OfferColumns,
    concession: ConcessionColumns,
    charge: ChargeColumns,
    amenity: AmenityColumns,

    stack: Vec<State>,
    /// Depth inside an element that is not read; 0 outside of one.
    skipped: usize,
    /// Text of the element that is open.
    text: String,
    stopped: bool,
    closed: bool,

    /// Rows up to the end of the last whole property.
    marks: Marks,
    chunk: Chunk,
    done: u64,
    seen: HashSet<String>,
    found: bool,
    status: Option<String>,
    error: Option<String>,
    unknown: BTreeMap<String, u64>,
    entities: BTreeMap<String, u64>,

    // the property
    in_property: bool,
    id: Best,
    name: Best,
    hours: Vec<[String; 3]>,
    phone: (String, bool),
    dialect: u8,
    /// Rows of the property that were handed out before its end.
    counts: Marks,

    // whatever is open inside it
    ident_primary: bool,
    streets: [String; 3],
    starts: Marks,
    owned: bool,
    element_row: usize,
    fee: String,
    kinds: String,
    condition: String,
    label: String,
    amount_type: String,
    range: Range,
    date: [String; 4],
    ident: String,
    room: (String, String),
    file: (String, String),
    plan_id: Best,
    image: Best,
    displayed: String,
    in_unit: bool,
    ils: Ties,
    units: Vec<Ties>,
    unit_count: usize,
    held: Vec<(usize, String)>,
    held_count: usize,
}

impl<'a> Parser<'a> {
    fn new(options: &'a Options, emit: &'a mut dyn FnMut(Chunk) -> ControlFlow<()>) -> Result<Self> {
        let tables = NAMES.map(Table::of);
        let [a, b, c, d, e, f, g, h] = tables;
        let tables = [a?, b?, c?, d?, e?, f?, g?, h?];
        Ok(Self {
            options,
            emit,
            property: PropertyColumns::of(&tables[PROPERTIES])?,
            building: BuildingColumns::of(&tables[BUILDINGS])?,
            plan: PlanColumns::of(&tables[FLOORPLANS])?,
            unit: UnitColumns::of(&tables[UNITS])?,
            offer: OfferColumns::of(&tables[OFFERS])?,
            concession: ConcessionColumns::of(&tables[CONCESSIONS])?,
            charge: ChargeColumns::of(&tables[CHARGES])?,
            amenity: AmenityColumns::of(&tables[AMENITIES])?,
            tables,
            stack: Vec::with_capacity(options.max_depth),
            skipped: 0,
            text: String::new(),
            stopped: false,
            closed: false,
            marks: [0; TABLES],
            chunk: Chunk::default(),
            done: 0,
            seen: HashSet::new(),
            found: false,
            status: None,
            error: None,
            unknown: BTreeMap::new(),
            entities: BTreeMap::new(),
            in_property: false,
            id: Best::default(),
            name: Best::default(),
            hours: Vec::new(),
            phone: Default::default(),
            dialect: 0,
            counts: [0; TABLES],
            ident_primary: false,
            streets: Default::default(),
            starts: [0; TABLES],
            owned: false,
            element_row: 0,
            fee: String::new(),
            kinds: String::new(),
            condition: String::new(),
            label: String::new(),
            amount_type: String::new(),
            range: Range::default(),
            date: Default::default(),
            ident: String::new(),
            room: Default::default(),
            file: Default::default(),
            plan_id: Best::default(),
            image: Best::default(),
            displayed: String::new(),
            in_unit: false,
            ils: Ties::default(),
            units: Vec::new(),
            unit_count: 0,
            held: Vec::new(),
            held_count: 0,
        })
    }

    /// Reads one document: the feed, or the escaped text in its `Response`.
    fn document<R: BufRead + Place>(&mut self, reader: &mut Reader<R>) -> Result<()> {
        let config = reader.config_mut();
        config.allow_dangling_amp = true;
        let base = self.stack.len();
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            reader.get_mut().token();
            let step = match reader.read_event_into(&mut buffer) {
                Ok(Event::Start(e)) => self.open(&e),
                Ok(Event::Empty(e)) => self.open(&e).and_then(|()| self.close()),
                Ok(Event::End(_)) => self.close(),
                Ok(Event::Text(e)) => self.write(&e),
                Ok(Event::CData(e)) => self.write(&e),
                Ok(Event::GeneralRef(e)) => self.refer(&e),
                Ok(Event::DocType(e)) => doctype(&e),
                Ok(Event::Eof) if self.stack.len() > base || self.skipped > 0 => Err(cut()),
                Ok(Event::Eof) => return Ok(()),
                Ok(Event::Comment(_) | Event::PI(_) | Event::Decl(_)) => Ok(()),
                Err(e) => Err(malformed(e)),
            };
            if let Err(fault) = step {
                let at = reader.error_position().max(reader.buffer_position());
                return Err(match reader.get_mut().line() {
                    Some(line) => self.placed(fault, at, line),
                    None => fault,
                });
            }
            if self.stopped {
                return Ok(());
            }
        }
    }

    /// Adds to a fault where it happened.
    fn placed(&self, mut fault: Fault, byte: u64, line: u64) -> Fault {
        let property = match self.options.property_id.as_deref().or(self.id.get()) {
            _ if !self.in_property => String::new(),
            Some(id) => format!(", in property `{}`", id.chars().take(64).collect::<String>()),
            None => format!(", in property number {}", self.done + 1),
        };
        fault.message = format!("{}, at byte {byte} (line {line}){property}", fault.message).into();
        fault
    }

    fn open(&mut self, e: &BytesStart<'_>) -> Result<()> {
        if self.skipped > 0 {
            self.skipped += 1;
            return self.deep(self.skipped);
        }
        let name = e.local_name().into_inner();
        let state = match self.stack.last() {
            Some(&parent) => child(parent, name),
            None if self.closed => return Err(bad("there is something behind the end of the feed")),
            None => match name {
                "PhysicalProperty" => State::Physical,
                _ if name.eq_ignore_ascii_case("html") => return Err(html()),
                _ => State::Envelope,
            },
        };
        match state {
            State::Unknown => {
                let path = self.path(name);
                count(&mut self.unknown, path);
                self.skipped = 1;
                return Ok(());
            }
            State::Known => {
                self.skipped = 1;
                return Ok(());
            }
            State::Property if self.done < self.options.skip => {
                self.done += 1;
                self.skipped = 1;
                return Ok(());
            }
            _ => {}
        }
        self.stack.push(state);
        self.deep(self.stack.len())?;
        self.text.clear();
        self.begin(state, e)
    }

    fn deep(&self, depth: usize) -> Result<()> {
        if depth <= self.options.max_depth {
            return Ok(());
        }
        Err(bad(format!("elements are nested more than {} deep", self.options.max_depth)))
    }

    fn close(&mut self) -> Result<()> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return Ok(());
        }
        let Some(state) = self.stack.pop() else { return Ok(()) };
        self.end(state)?;
        self.text.clear();
        self.closed |= self.stack.is_empty();
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.skipped > 0 || !self.stack.last().is_some_and(|&state| wants_text(state)) {
            return Ok(());
        }
        self.text.push_str(text);
        if self.text.len() > self.options.max_token_bytes && self.stack.last() != Some(&State::Response) {
            return Err(bad(TokenTooLong(self.options.max_token_bytes).to_string()));
        }
        if self.text.len() > self.options.max_property_bytes {
            return Err(bad(TokenTooLong(self.options.max_property_bytes).to_string()));
        }
        Ok(())
    }

    fn refer(&mut self, e: &BytesRef<'_>) -> Result<()> {
        if self.skipped > 0 {
            return Ok(());
        }
        let mut text = String::new();
        let whole = format!("&{};", &**e);
        resolve(&whole, &mut text, &mut self.entities);
        self.write(&text)
    }

    /// The path of a child of the open element, for a person.
    fn path(&self, name: &str) -> String {
        let mut path = String::new();
        for state in self.stack.iter().rev() {
            let part = match state {
                State::Property | State::Physical | State::Envelope | State::Response => break,
                State::IlsUnit => "ILS_Unit".to_owned(),
                State::Leaf(leaf) | State::Date(leaf) => format!("{leaf:?}"),
                State::Identification(_) => "Identification".to_owned(),
                State::Address(_) => "Address".to_owned(),
                State::EffectiveRent(_) => "EffectiveRent".to_owned(),
                State::UnitFacts => "Information".to_owned(),
                other => format!("{other:?}"),
            };
            path = format!("{part}/{path}");
        }
        path.extend(name.chars().take(64));
        path
    }

    // ---- what begins -------------------------------------------------------------------------------------------

    fn begin(&mut self, state: State, e: &BytesStart<'_>) -> Result<()> {
        match state {
            State::Physical => self.found = true,
            State::Property => self.begin_property(e)?,
            State::Identification(owner) => {
                self.ident_primary = false;
                let mut value = std::mem::take(&mut self.ident);
                value.clear();
                let mut sure = false;
                self.attributes(e, |p, name, text| match name {
                    "IDRank" => p.ident_primary = text.eq_ignore_ascii_case("primary"),
                    "IDValue" | "Id" | "ID" => value.push_str(text),
                    "PrimaryID" => {
                        value.push_str(text);
                        sure = true;
                    }
                    "OrganizationName" if owner == Owner::Property && !text.is_empty() => {
                        p.tables[PROPERTIES].put(p.property.organization, text);
                    }
                    _ => {}
                })?;
                let rank = if sure || self.ident_primary { rank::PRIMARY } else { rank::OTHER };
                self.identify(owner, rank, &value);
                self.ident = value;
            }
            State::Address(_) => {
                self.streets.iter_mut().for_each(String::clear);
                let mut elsewhere = false;
                self.attributes(e, |_, name, text| {
                    if matches!(name, "AddressType" | "Type") {
                        elsewhere = ["mailing", "billing", "previous", "forwarding"]
                            .iter()
                            .any(|kind| text.eq_ignore_ascii_case(kind));
                    }
                })?;
                if elsewhere {
                    self.stack.pop();
                    self.skipped = 1;
                }
            }
            State::Phone => {
                self.phone = Default::default();
                self.attributes(e, |p, name, text| {
                    if matches!(name, "PhoneType" | "Type") {
                        p.phone.1 = text.eq_ignore_ascii_case("fax");
                    }
                })?;
            }
            State::OfficeHour => self.hours.push(Default::default()),
            State::Parking | State::Pet => {
                self.element_row = self.tables[CHARGES].rows();
                self.kinds.clear();
                self.label.clear();
                self.condition.clear();
                self.attributes(e, |p, name, text| {
                    if matches!(name, "ParkingType" | "PetType" | "Type") {
                        p.kinds.push_str(text);
                    }
                })?;
            }
            State::Pets => self.attributes(e, |p, name, text| {
                if name == "PetType" && !text.is_empty() {
                    if !p.kinds.is_empty() {
                        p.kinds.push_str(", ");
                    }
                    p.kinds.push_str(text);
                }
            })?,
            State::FeeRange => {
                let mut range = Range::default();
                self.attributes(e, |_, name, text| range.take(name, text))?;
                if !(range.min.is_empty() && range.max.is_empty()) {
                    self.add_charge("Policy/Pet/FeeRange", None);
                    self.put(CHARGES, self.charge.amount_min, Some(&range.min));
                    self.put(CHARGES, self.charge.amount_max, Some(&range.max));
                }
            }
            State::Leaf(Leaf::Fee) => {
                self.fee.clear();
                self.fee.push_str("Fee/");
                self.fee.extend(e.local_name().into_inner().chars().take(64));
            }
            State::Concession => {
                self.add(CONCESSIONS, self.concession.position);
                self.attributes(e, |p, name, text| {
                    if name == "Active" {
                        p.tables[CONCESSIONS].put(p.concession.active, text);
                    }
                })?;
            }
            State::Amenity => {
                self.add(AMENITIES, self.amenity.position);
                self.attributes(e, |p, name, text| match name {
                    "AmenityType" | "Type" => p.put(AMENITIES, p.amenity.amenity_type, Some(text)),
                    "AmenitySubType" | "SubType" => p.put(AMENITIES, p.amenity.amenity_subtype, Some(text)),
                    _ => {}
                })?;
            }
            State::Deposit => {
                self.add_charge("Deposit", None);
                self.attributes(e, |p, name, text| match name {
                    "DepositType" | "type" | "Type" => p.put(CHARGES, p.charge.kind, Some(text)),
                    "Value" => p.put(CHARGES, p.charge.amount, Some(text)),
                    _ => {}
                })?;
            }
            State::Amount => {
                self.amount_type.clear();
                let mut value = None;
                self.attributes(e, |p, name, text| match name {
                    "AmountType" | "Type" => p.amount_type.push_str(text),
                    "Value" => value = Some(text.to_owned()),
                    _ => {}
                })?;
                if !self.amount_type.is_empty() && !self.amount_type.eq_ignore_ascii_case("Actual") {
                    let kind = std::mem::take(&mut self.amount_type);
                    self.put(CHARGES, self.charge.condition, Some(&kind));
                    self.amount_type = kind;
                }
                self.put(CHARGES, self.amount_column(), value.as_deref());
            }
            State::ValueRange => {
                let mut range = std::mem::take(&mut self.range);
                range.clear();
                self.attributes(e, |_, name, text| range.take(name, text))?;
                self.put(CHARGES, self.amount_column(), Some(&range.exact));
                self.put(CHARGES, self.charge.amount_min, Some(&range.min));
                self.put(CHARGES, self.charge.amount_max, Some(&range.max));
                self.put(CHARGES, self.charge.currency, Some(&range.currency));
                self.put(PROPERTIES, self.property.currency, Some(&range.currency));
                self.range = range;
            }
            State::Building => {
                self.tables[BUILDINGS].add();
                self.plan_id.clear();
                self.attributes(e, |p, name, text| {
                    if matches!(name, "IDValue" | "Id" | "ID") {
                        p.plan_id.offer(rank::OWN, text);
                    }
                })?;
            }
            State::Floorplan => {
                self.tables[FLOORPLANS].add();
                self.starts = self.lengths();
                self.owned = true;
                self.plan_id.clear();
                self.image.clear();
                self.displayed.clear();
                self.attributes(e, |p, name, text| {
                    p.speaks(name);
                    if matches!(name, "IDValue" | "Id" | "ID" | "FloorplanID" | "FloorPlanID") {
                        p.plan_id.offer(rank::OWN, text);
                    }
                })?;
            }
            State::Room => {
                self.room = Default::default();
                self.attributes(e, |p, name, text| {
                    if matches!(name, "RoomType" | "Type") {
                        p.room.0.push_str(text);
                    }
                })?;
            }
            State::SquareFeet | State::MarketRent | State::EffectiveRent(_) => {
                let mut range = std::mem::take(&mut self.range);
                range.clear();
                self.attributes(e, |_, name, text| range.take(name, text))?;
                self.put_range(state, &range);
                self.range = range;
            }
            State::File => self.file = Default::default(),
            State::IlsUnit => {
                self.small_enough()?;
                self.tables[UNITS].add();
                self.starts = self.lengths();
                self.starts[UNITS] -= 1;
                self.owned = true;
                self.ils.clear();
                self.unit_count = 0;
                self.held_count = 0;
                self.attributes(e, |p, name, text| {
                    p.speaks(name);
                    p.tie(name, text);
                })?;
            }
            State::Unit => {
                self.in_unit = true;
                if self.unit_count > 0 {
                    self.tables[UNITS].add();
                }
                if self.units.len() == self.unit_count {
                    self.units.push(Ties::default());
                }
                self.units[self.unit_count].clear();
                self.unit_count += 1;
                self.attributes(e, |p, name, text| p.tie(name, text))?;
            }
            State::OfferTerm => _ = self.tables[OFFERS].add(),
            State::Date(leaf) => {
                let mut parts = std::mem::take(&mut self.date);
                parts.iter_mut().for_each(String::clear);
                let [year, month, day, whole] = &mut parts;
                self.attributes(e, |_, name, text| match name {
                    "Year" => year.push_str(text),
                    "Month" => month.push_str(text),
                    "Day" => day.push_str(text),
                    _ => {}
                })?;
                if !(year.is_empty() && month.is_empty() && day.is_empty()) {
                    for part in [year, "-", month, "-", day] {
                        whole.push_str(part);
                    }
                    self.leaf(leaf, whole);
                }
                self.date = parts;
            }
            _ => {}
        }
        Ok(())
    }

    /// Hands every attribute, by local name and unescaped, to `take`.
    fn attributes(&mut self, e: &BytesStart<'_>, mut take: impl FnMut(&mut Self, &str, &str)) -> Result<()> {
        for attribute in e.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| bad("an attribute is malformed"))?;
            let name = attribute.key.local_name().into_inner();
            if attribute.value.contains('&') {
                let mut text = String::with_capacity(attribute.value.len());
                resolve(&attribute.value, &mut text, &mut self.entities);
                take(self, name, text.trim());
            } else {
                take(self, name, attribute.value.trim());
            }
        }
        Ok(())
    }

    fn begin_property(&mut self, e: &BytesStart<'_>) -> Result<()> {
        self.in_property = true;
        self.id.clear();
        self.name.clear();
        self.hours.clear();
        self.dialect = 0;
        self.counts = [0; TABLES];
        self.owned = false;
        self.tables[PROPERTIES].add();
        self.attributes(e, |p, name, text| match name {
            "IDValue" | "Id" | "ID" | "PropertyID" | "PropertyId" | "PrimaryID" => {
                p.speaks(name);
                p.id.offer(rank::OWN, text);
            }
            "OrganizationName" => p.put(PROPERTIES, p.property.organization, Some(text)),
            _ => {}
        })
    }

    /// The version is written nowhere; how ids are written gives it away.
    fn speaks(&mut self, id_attribute: &str) {
        let dialect = match id_attribute {
            "Id" => 1,
            "IDValue" => 3,
            _ => 0,
        };
        self.dialect = self.dialect.max(dialect);
    }

    /// An attribute of `ILS_Unit` or `Unit` that ties it to something.
    fn tie(&mut self, name: &str, text: &str) {
        let ties = self.ties();
        match name {
            "IDValue" | "Id" | "ID" | "UnitID" | "UnitId" => ties.id.offer(rank::OWN, text),
            "FloorplanID" | "FloorPlanID" | "FloorplanId" | "FloorPlanId" => ties.plan.offer(rank::OWN, text),
            // Some write 0 for `no building`.
            "BuildingID" | "BuildingId" if text != "0" => ties.building.offer(rank::BESIDE, text),
            _ => {}
        }
    }

    fn ties(&mut self) -> &mut Ties {
        if self.in_unit { &mut self.units[self.unit_count - 1] } else { &mut self.ils }
    }

    fn identify(&mut self, owner: Owner, rank: u8, text: &str) {
        match owner {
            Owner::Property => self.id.offer(rank, text),
            Owner::Building | Owner::Floorplan => self.plan_id.offer(rank, text),
            Owner::Unit => self.ties().id.offer(rank, text),
        }
    }

    fn lengths(&self) -> Marks {
        std::array::from_fn(|t| self.tables[t].rows())
    }

    fn put(&mut self, table: usize, column: usize, text: Option<&str>) {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            self.tables[table].put(column, text);
        }
    }

    /// Starts a row that has a place among its owner's rows, counted from 1.
    fn add(&mut self, table: usize, position: usize) {
        let row = self.tables[table].add();
        let place = if self.owned {
            row - self.starts[table] + 1
        } else {
            self.counts[table] += 1;
            self.counts[table]
        };
        let mut digits = [0; 20];
        self.tables[table].set(position, row, decimal(place, &mut digits));
    }

    fn add_charge(&mut self, element: &str, amount: Option<&str>) {
        self.add(CHARGES, self.charge.position);
        self.put(CHARGES, self.charge.element, Some(element));
        self.put(CHARGES, self.charge.amount, amount);
    }

    fn amount_column(&self) -> usize {
        match self.amount_type.as_str() {
            kind if kind.eq_ignore_ascii_case("Minimum") => self.charge.amount_min,
            kind if kind.eq_ignore_ascii_case("Maximum") => self.charge.amount_max,
            _ => self.charge.amount,
        }
    }

    fn put_range(&mut self, state: State, range: &Range) {
        let min = if range.min.is_empty() { &range.average } else { &range.min };
        let max = if range.max.is_empty() { &range.average } else { &range.max };
        let (table, low, high) = match state {
            State::SquareFeet => (FLOORPLANS, self.plan.square_feet_min, self.plan.square_feet_max),
            State::MarketRent => (FLOORPLANS, self.plan.market_rent_min, self.plan.market_rent_max),
            State::EffectiveRent(Owner::Floorplan) => {
                (FLOORPLANS, self.plan.effective_rent_min, self.plan.effective_rent_max)
            }
            _ => {
                self.hold(self.unit.effective_rent_min, min);
                self.hold(self.unit.effective_rent_max, max);
                return;
            }
        };
        self.put(table, low, Some(min));
        self.put(table, high, Some(max));
    }

    /// Keeps a fact of an `ILS_Unit` for all units inside it.
    fn hold(&mut self, column: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.held.len() == self.held_count {
            self.held.push(Default::default());
        }
        let (at, kept) = &mut self.held[self.held_count];
        *at = column;
        kept.clear();
        kept.push_str(text);
        self.held_count += 1;
    }

    // ---- what ends ---------------------------------------------------------------------------------------------

    fn end(&mut self, state: State) -> Result<()> {
        match state {
            State::Leaf(leaf) => {
                let text = std::mem::take(&mut self.text);
                if !text.trim().is_empty() {
                    self.leaf(leaf, text.trim());
                }
                self.text = text;
            }
            State::Date(leaf) => {
                let text = std::mem::take(&mut self.text);
                if !text.trim().is_empty() {
                    self.leaf(leaf, text.trim());
                }
                self.text = text;
            }
            State::SquareFeet | State::MarketRent | State::EffectiveRent(_) => {
                let text = self.text.trim();
                if !text.is_empty() {
                    let range = Range { average: text.to_owned(), ..Range::default() };
                    self.put_range(state, &range);
                }
            }
            State::Amenity => {
                let text = std::mem::take(&mut self.text);
                self.put(AMENITIES, self.amenity.description, Some(text.trim()));
                self.text = text;
            }
            State::Amount => {
                let text = std::mem::take(&mut self.text);
                self.put(CHARGES, self.amount_column(), Some(text.trim()));
                self.text = text;
            }
            State::PropertyId => {
                let text = std::mem::take(&mut self.text);
                self.id.offer(rank::BESIDE, &text);
                self.text = text;
            }
            State::Address(owner) => self.end_address(owner),
            State::Phone => {
                let (number, fax) = std::mem::take(&mut self.phone);
                let column = if fax { self.property.fax } else { self.property.phone };
                self.put(PROPERTIES, column, Some(&number));
            }
            State::Parking | State::Pet => {
                let ChargeColumns { kind, label, condition, .. } = self.charge;
                for (column, text) in [(kind, &self.kinds), (label, &self.label), (condition, &self.condition)] {
                    if !text.is_empty() {
                        self.tables[CHARGES].fill(column, self.element_row, text);
                    }
                }
            }
            State::Room => {
                let (kind, count) = std::mem::take(&mut self.room);
                let column = if kind.eq_ignore_ascii_case("Bedroom") {
                    self.plan.bedrooms
                } else if kind.eq_ignore_ascii_case("Bathroom") {
                    self.plan.bathrooms
                } else {
                    return Ok(());
                };
                self.put(FLOORPLANS, column, Some(&count));
            }
            State::File => {
                let (kind, source) = std::mem::take(&mut self.file);
                let rank = match kind.to_ascii_lowercase().as_str() {
                    "floorplan" | "blueprint" => 0,
                    "photo" | "" => 1,
                    _ => return Ok(()),
                };
                if !source.starts_with('<') {
                    self.image.offer(rank, &source);
                }
            }
            State::Building => {
                let text = self.plan_id.get().map(|text| id(text).into_owned());
                self.put(BUILDINGS, self.building.building_id, text.as_deref());
            }
            State::Floorplan => self.end_floorplan(),
            State::Unit => self.in_unit = false,
            State::IlsUnit => self.end_unit(),
            State::Property => self.end_property()?,
            State::Response => {
                let text = std::mem::take(&mut self.text);
                if !self.found && text.trim_start().starts_with('<') {
                    self.document(&mut Reader::from_reader(text.trim().as_bytes()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end_address(&mut self, owner: Owner) {
        let mut streets = std::mem::take(&mut self.streets);
        let [first, second, whole] = &mut streets;
        let street = match (first.is_empty(), second.is_empty()) {
            (false, false) => {
                first.push_str(", ");
                first.push_str(second);
                first
            }
            (false, true) => first,
            (true, false) => second,
            (true, true) => whole,
        };
        match owner {
            Owner::Unit => self.put(UNITS, self.unit.street, Some(street)),
            _ => self.put(PROPERTIES, self.property.street, Some(street)),
        }
        self.streets = streets;
    }

    fn end_floorplan(&mut self) {
        let text = self.plan_id.get().map(|text| id(text).into_owned());
        self.put(FLOORPLANS, self.plan.floorplan_id, text.as_deref());
        let image = self.image.get().map(str::to_owned);
        self.put(FLOORPLANS, self.plan.image_url, image.as_deref());
        let displayed = std::mem::take(&mut self.displayed);
        self.put(FLOORPLANS, self.plan.units_available, Some(&displayed));
        if let Some(text) = text {
            let columns = [
                (OFFERS, self.offer.floorplan_id),
                (CONCESSIONS, self.concession.floorplan_id),
                (CHARGES, self.charge.floorplan_id),
                (AMENITIES, self.amenity.floorplan_id),
            ];
            for (table, column) in columns {
                self.tables[table].fill(column, self.starts[table], &text);
            }
        }
        self.owned = false;
    }

    fn end_unit(&mut self) {
        let units = &mut self.tables[UNITS];
        let single = self.unit_count <= 1;
        let mut first = None;
        let none = Ties::default();
        for (at, row) in (self.starts[UNITS]..units.rows()).enumerate() {
            let own = if at < self.unit_count { &self.units[at] } else { &none };
            let number = pick(&own.id, &self.ils.id, single);
            for (column, text) in [
                (self.unit.unit_number, number),
                (self.unit.floorplan_id, pick(&own.plan, &self.ils.plan, single)),
                (self.unit.building, pick(&own.building, &self.ils.building, single)),
            ] {
                if let Some(text) = text {
                    units.set(column, row, &id(text));
                }
            }
            for (column, text) in &self.held[..self.held_count] {
                units.set(*column, row, text);
            }
            first = first.or(number);
        }
        if let Some(number) = first.map(id) {
            let columns = [
                (OFFERS, self.offer.unit_number),
                (CONCESSIONS, self.concession.unit_number),
                (CHARGES, self.charge.unit_number),
                (AMENITIES, self.amenity.unit_number),
            ];
            for (table, column) in columns {
                self.tables[table].fill(column, self.starts[table], &number);
            }
        }
        self.owned = false;
    }

    fn end_property(&mut self) -> Result<()> {
        self.in_property = false;
        self.done += 1;
        let own = self.options.property_id.clone().or_else(|| self.id.get().map(|text| id(text).into_owned()));
        let refused = match &own {
            None => Some("the property has no id"),
            Some(id) if self.seen.contains(id) => Some("the feed has this property twice: the first one counts"),
            Some(_) => None,
        };
        if let Some(reason) = refused {
            return self.refuse(own, reason);
        }
        if !self.options.only.is_empty() && !own.as_ref().is_some_and(|id| self.options.only.contains(id)) {
            return self.flush(self.marks);
        }
        let id = own.unwrap_or_default();
        if !self.hours.is_empty() {
            let hours: Vec<_> =
                self.hours.iter().map(|[day, open, close]| json!({"day": day, "open": open, "close": close})).collect();
            let text = serde_json::Value::Array(hours).to_string();
            self.put(PROPERTIES, self.property.office_hours, Some(&text));
        }
        let dialect = [None, Some("2.x"), Some("3.x"), Some("4.x")][usize::from(self.dialect)];
        self.put(PROPERTIES, self.property.dialect, dialect);
        if let Some(currency) = &self.options.currency {
            self.tables[PROPERTIES].put(self.property.currency, currency);
        }
        for (table, mark) in self.tables.iter_mut().zip(self.marks) {
            table.fill(SCOPE, mark, &id);
        }
        self.marks = self.lengths();
        self.chunk.complete.push(id.clone());
        self.chunk.done = self.done;
        self.seen.insert(id);
        if self.marks.iter().sum::<usize>() >= self.options.batch_rows {
            self.flush(self.marks)?;
        }
        Ok(())
    }

    /// Takes a property's rows back and says so.
    fn refuse(&mut self, own: Option<String>, reason: &str) -> Result<()> {
        let lost = std::array::from_fn::<_, TABLES, _>(|t| self.tables[t].rows() - self.marks[t]);
        let rows: serde_json::Map<_, _> =
            NAMES.iter().zip(lost).map(|(name, rows)| ((*name).to_owned(), rows.into())).collect();
        self.chunk.rejects.push(Reject {
            dataset: NAMES[PROPERTIES].to_owned(),
            scope: own.clone(),
            key: own.unwrap_or_else(|| format!("property number {}", self.done)),
            kind: RejectKind::Row,
            reason: reason.to_owned(),
            payload: json!({"marketing_name": self.name.get(), "rows": rows}),
        });
        self.flush(self.marks)
    }

    /// A property is held until its end; one that never ends must not fill the memory.
    fn small_enough(&self) -> Result<()> {
        let limit = self.options.max_property_bytes;
        if self.tables.iter().map(Table::bytes).sum::<usize>() <= limit {
            return Ok(());
        }
        Err(bad(format!("one property holds more than {} MiB of text", limit >> 20)))
    }

    fn flush(&mut self, keep: Marks) -> Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        for (table, keep) in self.tables.iter_mut().zip(keep) {
            let batch = table.take(keep)?;
            if batch.num_rows() > 0 {
                chunk.rows.push((table.name(), batch));
            }
        }
        self.marks = [0; TABLES];
        chunk.done = self.done;
        let empty = chunk.rows.is_empty() && chunk.complete.is_empty() && chunk.rejects.is_empty();
        if !empty && (self.emit)(chunk).is_break() {
            self.stopped = true;
        }
        Ok(())
    }

    /// Judges the document as a whole, at its end.
    fn finish(&mut self) -> Result<()> {
        if !self.closed {
            return Err(bad("the feed ends before its first element"));
        }
        if let Some(status) = self.status.as_deref().filter(|s| !s.eq_ignore_ascii_case("Success")) {
            let why = self.error.as_deref().unwrap_or("without a reason");
            return Err(refusal(status, why));
        }
        if !self.found {
            return Err(bad("the XML holds no `PhysicalProperty`")
                .hint("Only MITS marketing feeds can be read; this is some other document."));
        }
        self.flush(self.marks)
    }

    fn summary(&mut self) -> Summary {
        let note = |topic: &str, what: &str, (subject, count): (String, u64)| Note {
            topic: topic.to_owned(),
            text: format!("the feed has {count} of {what} `{subject}`, which nothing reads"),
            subject,
            count,
        };
        let elements = std::mem::take(&mut self.unknown).into_iter();
        let entities = std::mem::take(&mut self.entities).into_iter();
        let notes = elements
            .map(|found| note("unknown_element", "the element", found))
            .chain(entities.map(|found| note("unknown_entity", "the entity", found)))
            .collect();
        Summary { properties: self.done, notes }
    }

    // ---- what a text means -------------------------------------------------------------------------------------

    /// Takes a text that is not empty.
    fn leaf(&mut self, leaf: Leaf, text: &str) {
        let (p, u, f) = (self.property, self.unit, self.plan);
        let (table, column) = match leaf {
            Leaf::Status => return self.status = Some(short(text)),
            Leaf::ErrorDescription => return self.error = Some(short(text)),
            Leaf::Id(owner, rank) => {
                self.dialect = self.dialect.max(if rank == rank::OTHER { 2 } else { 1 });
                let rank = if self.ident_primary && rank == rank::OTHER { rank::PRIMARY } else { rank };
                return self.identify(owner, rank, text);
            }
            Leaf::Organization => (PROPERTIES, p.organization),
            Leaf::MarketingName => {
                self.name.offer(rank::NAME, text);
                (PROPERTIES, p.marketing_name)
            }
            Leaf::LegalName => (PROPERTIES, p.legal_name),
            Leaf::Website => (PROPERTIES, p.website),
            Leaf::Email => (PROPERTIES, p.email),
            Leaf::PhoneNumber => return self.phone.0 = text.to_owned(),
            Leaf::Latitude => (PROPERTIES, p.latitude),
            Leaf::Longitude => (PROPERTIES, p.longitude),
            Leaf::TimeZone => (PROPERTIES, p.time_zone),
            Leaf::LastUpdate => (PROPERTIES, p.last_update),
            Leaf::StructureType => (PROPERTIES, p.structure_type),
            Leaf::UnitCount => (PROPERTIES, p.unit_count),
            Leaf::BuildingCount => (PROPERTIES, p.building_count),
            Leaf::YearBuilt => (PROPERTIES, p.year_built),
            Leaf::YearRemodeled => (PROPERTIES, p.year_remodeled),
            Leaf::ShortDescription => (PROPERTIES, p.short_description),
            Leaf::LongDescription => (PROPERTIES, p.long_description),
            Leaf::LeaseLength => (PROPERTIES, p.lease_length),
            Leaf::AvailabilityUrl => (PROPERTIES, p.availability_url),
            Leaf::ApplicationUrl => (PROPERTIES, p.application_url),
            Leaf::Day | Leaf::OpenTime | Leaf::CloseTime => {
                let at = match leaf {
                    Leaf::Day => 0,
                    Leaf::OpenTime => 1,
                    _ => 2,
                };
                if let Some(hours) = self.hours.last_mut() {
                    text.clone_into(&mut hours[at]);
                }
                return;
            }
            Leaf::Street(line) => return text.clone_into(&mut self.streets[usize::from(line)]),
            Leaf::City if self.in_unit => (UNITS, u.city),
            Leaf::City => (PROPERTIES, p.city),
            Leaf::Region if self.in_unit => (UNITS, u.state),
            Leaf::Region => (PROPERTIES, p.state),
            Leaf::PostalCode if self.in_unit => (UNITS, u.postal_code),
            Leaf::PostalCode => (PROPERTIES, p.postal_code),
            Leaf::Country => (PROPERTIES, p.country),
            Leaf::County => (PROPERTIES, p.county),

            Leaf::SpaceFee => return self.add_charge("Information/Parking/SpaceFee", Some(text)),
            Leaf::ParkingComment => return text.clone_into(&mut self.label),
            Leaf::Fee => {
                let fee = std::mem::take(&mut self.fee);
                self.add_charge(&fee, Some(text));
                return self.fee = fee;
            }
            Leaf::PetDeposit => return self.add_charge("Policy/Pet/Deposit", Some(text)),
            Leaf::PetFee => return self.add_charge("Policy/Pet/Fee", Some(text)),
            Leaf::PetRent => return self.add_charge("Policy/Pet/Rent", Some(text)),
            Leaf::PetRestrictions => return text.clone_into(&mut self.condition),
            Leaf::DepositAmount => (CHARGES, self.amount_column()),
            Leaf::DepositMin => (CHARGES, self.charge.amount_min),
            Leaf::DepositMax => (CHARGES, self.charge.amount_max),
            Leaf::DepositLabel => (CHARGES, self.charge.label),
            Leaf::PercentRefundable => (CHARGES, self.charge.percent_refundable),
            Leaf::PortionRefundable => (CHARGES, self.charge.portion_refundable),

            Leaf::BuildingName => (BUILDINGS, self.building.name),
            Leaf::BuildingDescription => (BUILDINGS, self.building.description),
            Leaf::BuildingUnits => (BUILDINGS, self.building.unit_count),

            Leaf::PlanName => (FLOORPLANS, f.name),
            Leaf::PlanComment => (FLOORPLANS, f.comment),
            Leaf::PlanUnits => (FLOORPLANS, f.unit_count),
            Leaf::PlanAvailable => (FLOORPLANS, f.units_available),
            Leaf::PlanDisplayed => return text.clone_into(&mut self.displayed),
            Leaf::PlanUrl => (FLOORPLANS, f.availability_url),
            Leaf::RoomCount => return text.clone_into(&mut self.room.1),
            Leaf::FileType => return text.clone_into(&mut self.file.0),
            Leaf::FileSource => return text.clone_into(&mut self.file.1),

            Leaf::Value => (CONCESSIONS, self.concession.value),
            Leaf::Term => (CONCESSIONS, self.concession.term),
            Leaf::StartDate => (CONCESSIONS, self.concession.start_date),
            Leaf::EndDate => (CONCESSIONS, self.concession.end_date),
            Leaf::Header => (CONCESSIONS, self.concession.header),
            Leaf::Body => (CONCESSIONS, self.concession.body),
            Leaf::Footer => (CONCESSIONS, self.concession.footer),
            Leaf::AmenityText => (AMENITIES, self.amenity.description),

            Leaf::UnitName => {
                self.ties().id.offer(rank::NAME, text);
                (UNITS, u.marketing_name)
            }
            Leaf::UnitType => return self.ties().plan.offer(rank::BESIDE, text),
            Leaf::UnitPlan => return self.ties().plan.offer(rank::PRIMARY, text),
            Leaf::UnitBuilding => return self.ties().building.offer(rank::OWN, text),
            Leaf::UnitBuildingId => return self.ties().building.offer(rank::BESIDE, text),
            Leaf::UnitPlanName => (UNITS, u.floorplan_name),
            Leaf::UnitBedrooms => (UNITS, u.bedrooms),
            Leaf::UnitBathrooms => (UNITS, u.bathrooms),
            Leaf::MinSquareFeet => (UNITS, u.square_feet_min),
            Leaf::MaxSquareFeet => (UNITS, u.square_feet_max),
            Leaf::UnitRent => (UNITS, u.unit_rent),
            Leaf::UnitMarketRent => (UNITS, u.market_rent),
            Leaf::EconomicStatus => (UNITS, u.economic_status),
            Leaf::OccupancyStatus => (UNITS, u.occupancy_status),
            Leaf::LeasedStatus => (UNITS, u.leased_status),
            Leaf::UnitFloor => return self.hold(u.floor, text),
            Leaf::UnitComment => return self.hold(u.comment, text),
            Leaf::VacancyClass => return self.hold(u.vacancy_class, text),
            Leaf::VacateDate => return self.hold(u.vacate_date, text),
            Leaf::MadeReadyDate => return self.hold(u.made_ready_date, text),
            Leaf::UnitUrl => return self.hold(u.availability_url, text),

            Leaf::OfferRent => (OFFERS, self.offer.effective_rent),
            Leaf::OfferLength => (OFFERS, self.offer.lease_term),
            Leaf::OfferStart => (OFFERS, self.offer.start_date),
            Leaf::OfferEnd => (OFFERS, self.offer.end_date),
        };
        self.tables[table].put(column, text);
    }
}

/// Attributes that say an amount or a range of them.
#[derive(Debug, Default)]
struct Range {
    exact: String,
    min: String,
    max: String,
    average: String,
    currency: String,
}

impl Range {
    fn take(&mut self, name: &str, text: &str) {
        let slot = match name {
            "Exact" => &mut self.exact,
            "Min" => &mut self.min,
            "Max" => &mut self.max,
            "Avg" => &mut self.average,
            "Currency" | "CurrencyCode" => &mut self.currency,
            _ => return,
        };
        text.clone_into(slot);
    }

    fn clear(&mut self) {
        for text in [&mut self.exact, &mut self.min, &mut self.max, &mut self.average, &mut self.currency] {
            text.clear();
        }
    }
}

/// Whether the text of an element is of use.
fn wants_text(state: State) -> bool {
    matches!(
        state,
        State::Leaf(_)
            | State::Date(_)
            | State::Response
            | State::PropertyId
            | State::Amenity
            | State::Amount
            | State::SquareFeet
            | State::MarketRent
            | State::EffectiveRent(_)
    )
}

/// The most paths or names that are counted one by one.
const MAX_NOTES: usize = 200;

fn count(counts: &mut BTreeMap<String, u64>, name: String) {
    let name = if counts.len() < MAX_NOTES || counts.contains_key(&name) { name } else { "any other".to_owned() };
    *counts.entry(name).or_default() += 1;
}

/// Appends a text with its references resolved. Only the five entities of XML itself and characters by number are known;
/// any other reference stays as it is written and is counted.
fn resolve(raw: &str, out: &mut String, unknown: &mut BTreeMap<String, u64>) {
    let mut rest = raw;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let name = rest[1..].split(';').next().filter(|n| n.len() < rest.len() - 1 && n.len() <= 32);
        let Some(name) = name else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        let known = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => name
                .strip_prefix('#')
                .and_then(|n| match n.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => n.parse().ok(),
                })
                .and_then(char::from_u32)
                // XML has no other control characters, not even by number.
                .filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{80}'..='\u{9F}')),
        };
        match known {
            Some(c) => {
                out.push(c);
                rest = &rest[name.len() + 2..];
            }
            None => {
                if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'#') {
                    count(unknown, name.to_owned());
                }
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}

fn decimal(mut n: usize, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 || at == 0 {
            return std::str::from_utf8(&digits[at..]).unwrap_or_default();
        }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn html() -> Fault {
    bad("the feed is an HTML page, where XML was expected")
        .hint("The address may lead to a login or an error page: open it in a browser.")
}

fn doctype(text: &str) -> Result<()> {
    if text.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html")) {
        return Err(html());
    }
    if text.contains('[') {
        return Err(bad("the feed carries declarations in its DOCTYPE, which are refused")
            .hint("No marketing feed needs them, and entities can be made to fill the memory."));
    }
    Ok(())
}

fn cut() -> Fault {
    bad("the feed ends before it is complete")
        .hint("It was cut off on its way: fetch it again, or ask its sender for the whole.")
}

/// How the message of a [`refusal`] begins.
pub(crate) const REFUSED: &str = "the vendor answered ";

/// The vendor said that it did not work.
pub(crate) fn refusal(status: &str, why: &str) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, format!("{REFUSED}`{}`: {}", short(status), short(why)))
}

fn malformed(error: quick_xml::Error) -> Fault {
    use quick_xml::Error as E;
    use quick_xml::errors::{IllFormedError as I, SyntaxError as S};
    match error {
        E::Syntax(S::InvalidBangMarkup) => bad("the feed is not well-formed: unknown markup behind `<!`"),
        E::Syntax(_) => cut(),
        E::IllFormed(I::MismatchedEndTag { .. } | I::UnmatchedEndTag(_)) => {
            bad("the feed is not well-formed: an end tag does not match its start tag")
        }
        E::IllFormed(_) => bad("the feed is not well-formed"),
        E::Encoding(_) => bad("the feed's text is not in the encoding that it declares"),
        E::Io(e) => match e.get_ref() {
            Some(inner) if inner.is::<TokenTooLong>() => bad(inner.to_string()),
            Some(inner) => match inner.downcast_ref::<Fault>() {
                Some(f) => Fault::new(f.blame, f.retry, f.message.clone()).hint(f.hint.clone().unwrap_or_default()),
                None => bad("the feed cannot be read").retry(Retry::Backoff).because(e),
            },
            None => bad("the feed cannot be read").retry(Retry::Backoff).because(e),
        },
        _ => bad("the feed is not well-formed"),
    }
}
