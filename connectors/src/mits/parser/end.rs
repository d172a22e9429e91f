//! What the end of an element means: rows are whole, and what was only known late is filled in.

use catalog::{Reject, RejectKind, Result};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::grammar::{Owner, State, rank};
use super::super::tokens::Tokens;
use super::rows::Range;
use super::{
    AMENITIES, BUILDINGS, CHARGES, CONCESSIONS, ChargeColumns, FLOORPLANS, NAMES, OFFERS, PROPERTIES, Parser, SCOPE,
    TABLES, Ties, UNITS, pick,
};
use crate::rows::id;

impl Parser<'_> {
    pub(super) fn end(&mut self, state: State) -> Result<()> {
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
                    self.document(&mut Tokens::new(text.trim().as_bytes(), self.options.max_token_bytes))?;
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
        self.trail = xxh3_64_with_seed(own.as_deref().unwrap_or_default().as_bytes(), self.trail);
        let first = own.as_ref().is_some_and(|id| !self.seen.contains(id));
        if let Some(id) = own.as_ref().filter(|_| first) {
            self.listed.push((id.clone(), self.name.get().map(str::to_owned)));
        }
        if self.done <= self.options.skip {
            self.seen.extend(own);
            self.changed = self.done == self.options.skip && self.trail != self.options.trail;
            self.stopped |= self.changed;
            return self.flush(self.marks);
        }
        let refused = match &own {
            None => Some("the property has no id"),
            Some(_) if !first => Some("the feed has this property twice: the first one counts"),
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
}
