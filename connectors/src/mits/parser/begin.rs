//! What the start of an element means: new rows, and what its attributes say.

use catalog::Result;
use quick_xml::events::BytesStart;

use super::super::grammar::{Leaf, Owner, State, rank};
use super::super::input::bad;
use super::references::resolve;
use super::rows::Range;
use super::{AMENITIES, BUILDINGS, CHARGES, CONCESSIONS, FLOORPLANS, OFFERS, PROPERTIES, Parser, TABLES, Ties, UNITS};

impl Parser<'_> {
    pub(super) fn begin(&mut self, state: State, e: &BytesStart<'_>) -> Result<()> {
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
    pub(super) fn attributes(&mut self, e: &BytesStart<'_>, mut take: impl FnMut(&mut Self, &str, &str)) -> Result<()> {
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
    pub(super) fn speaks(&mut self, id_attribute: &str) {
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

    pub(super) fn ties(&mut self) -> &mut Ties {
        if self.in_unit { &mut self.units[self.unit_count - 1] } else { &mut self.ils }
    }

    pub(super) fn identify(&mut self, owner: Owner, rank: u8, text: &str) {
        match owner {
            Owner::Property => self.id.offer(rank, text),
            Owner::Building | Owner::Floorplan => self.plan_id.offer(rank, text),
            Owner::Unit => self.ties().id.offer(rank, text),
        }
    }
}
