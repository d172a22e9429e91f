//! What the text of an element means.

use super::super::grammar::{Leaf, rank};
use super::faults::short;
use super::{AMENITIES, BUILDINGS, CHARGES, CONCESSIONS, FLOORPLANS, OFFERS, PROPERTIES, Parser, UNITS};

impl Parser<'_> {
    /// Takes a text that is not empty.
    pub(super) fn leaf(&mut self, leaf: Leaf, text: &str) {
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
