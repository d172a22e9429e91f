//! The reader of marketing feeds: XML in, batches of wire rows out.
//!
//! One pass, no tree. Rows grow in Arrow builders while their elements pass by; what is known only at the end of a
//! property or unit (its id may come after its rows) is filled in then. Memory holds one property and the rows that wait
//! to be handed out, whatever the length of the feed.

mod begin;
mod end;
mod faults;
mod leaf;
mod references;
mod rows;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use catalog::{Fault, Note, Reject, Result};
use quick_xml::events::BytesStart;

pub(crate) use self::faults::{REFUSED, cut, refusal};
use self::faults::{doctype, html};
use self::references::{count, resolve};
use self::rows::Range;
use super::grammar::{State, child};
use super::input::{Input, bad, too_long};
use super::tokens::{Token, Tokens};
use crate::rows::{Table, columns};

/// How a feed is read.
#[derive(Debug, Clone)]
pub struct Options {
    /// The property that the feed is of, when the one who asked for it knows. Without it the feed says.
    pub property_id: Option<String>,
    /// Properties at the start that were read before.
    pub skip: u64,
    /// The [`Chunk::trail`] behind those: with another one the feed is not the one that was read.
    pub trail: u64,
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
            trail: 0,
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
    /// A digest of the ids of those, in their order.
    pub trail: u64,
}

/// What a feed held.
#[derive(Debug, Default)]
pub struct Summary {
    /// Properties, skipped and rejected ones counted.
    pub properties: u64,
    /// See [`Chunk::trail`].
    pub trail: u64,
    /// Whether it does not begin with the properties to be skipped; then it was read no further.
    pub changed: bool,
    /// Id and name of every property, skipped ones too.
    pub listed: Vec<(String, Option<String>)>,
    /// Elements and entities that were not understood.
    pub notes: Vec<Note>,
}

/// Reads a feed to its end and hands out its rows in order; `emit` may end the reading early.
///
/// A feed that breaks off or is not well-formed gives, behind the rows of the properties before that place, a fault that
/// names the place and the property. Nothing of the broken property is handed out.
pub fn parse(input: impl Read, options: &Options, emit: &mut dyn FnMut(Chunk) -> ControlFlow<()>) -> Result<Summary> {
    let mut tokens = Tokens::new(Input::open(input)?, options.max_token_bytes);
    let mut parser = Parser::new(options, emit)?;
    let read = parser.document(&mut tokens).map_err(|fault| parser.placed(fault, tokens.place()));
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
    trail: u64,
    changed: bool,
    seen: HashSet<String>,
    listed: Vec<(String, Option<String>)>,
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
            trail: 0,
            changed: false,
            seen: HashSet::new(),
            listed: Vec::new(),
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
    fn document<R: Read>(&mut self, tokens: &mut Tokens<R>) -> Result<()> {
        let base = self.stack.len();
        while !self.stopped {
            match tokens.next()? {
                Token::Open { tag, name, empty } => {
                    self.open(&BytesStart::from_content(tag, name))?;
                    if empty {
                        self.close()?;
                    } else if self.skipped == 0
                        && let Some(&State::Leaf(leaf)) = self.stack.last()
                        && let Some(text) = tokens.content()
                    {
                        self.stack.pop();
                        if !text.trim().is_empty() {
                            self.leaf(leaf, text.trim());
                        }
                    }
                }
                Token::Close => self.close()?,
                Token::Text(text) if text.contains('&') => self.refer(text)?,
                Token::Text(text) | Token::Literal(text) => self.write(text)?,
                Token::Doctype(text) => doctype(text)?,
                Token::Aside => {}
                Token::End if self.stack.len() > base || self.skipped > 0 => return Err(cut()),
                Token::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Adds to a fault where it happened.
    fn placed(&self, mut fault: Fault, (byte, line): (u64, u64)) -> Fault {
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
            return Err(too_long(self.options.max_token_bytes));
        }
        if self.text.len() > self.options.max_property_bytes {
            return Err(too_long(self.options.max_property_bytes));
        }
        Ok(())
    }

    /// Takes a text with references in it.
    fn refer(&mut self, raw: &str) -> Result<()> {
        if self.skipped > 0 {
            return Ok(());
        }
        let mut text = String::with_capacity(raw.len());
        resolve(raw, &mut text, &mut self.entities);
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
        (chunk.done, chunk.trail) = (self.done, self.trail);
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
        Summary {
            properties: self.done,
            trail: self.trail,
            changed: self.changed || self.done < self.options.skip,
            listed: std::mem::take(&mut self.listed),
            notes,
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
