//! Which field of which list goes into which column.

use catalog::Result;
use serde_json::value::RawValue;

use crate::rows::{Object, Table, cell, field, id};

/// A list of the newer API whose items become one row each.
#[derive(Debug)]
pub(super) struct List {
    /// The path below the address.
    pub(super) path: &'static str,
    /// The query key that takes the property; most paths agree on one, `/PropertyCharges` does not.
    pub(super) property: &'static str,
    /// The key of the list in the answer.
    pub(super) key: &'static str,
    /// The dataset.
    pub(super) table: &'static str,
    /// Columns with the fields that they come from; a dot leads into an object.
    pub(super) fields: Fields,
}

/// Columns and fields.
pub(super) type Fields = &'static [(&'static str, &'static str)];

/// The lists of a property that are rows as they are.
pub(super) const LISTS: [List; 7] = [
    List {
        path: "Buildings",
        property: "propertyId",
        key: "buildings",
        table: "resman_buildings",
        fields: &[
            ("building_id", "buildingId"),
            ("name", "name"),
            ("description", "description"),
            ("floors", "floors"),
            ("total_units", "totalUnits"),
        ],
    },
    List {
        path: "Units",
        property: "propertyId",
        key: "units",
        table: "resman_units",
        fields: &[
            ("unit_id", "unitId"),
            ("unit_number", "unitNumber"),
            ("unit_type_id", "unitTypeId"),
            ("unit_type", "unitType"),
            ("building_id", "buildingId"),
            ("building", "building"),
            ("floor", "floor"),
            ("street", "streetAddress"),
            ("city", "city"),
            ("state", "state"),
            ("postal_code", "zip"),
            ("square_feet", "squareFeet"),
            ("market_rent", "marketRent"),
            ("excluded_from_occupancy", "excludedFromOccupancy"),
            ("available_for_online_marketing", "availableForOnlineMarketing"),
            ("is_affordable_unit", "isAffordableUnit"),
            ("is_holding_unit", "isHoldingUnit"),
        ],
    },
    List {
        path: "Units/Availability",
        property: "propertyId",
        key: "units",
        table: "resman_availability",
        fields: &[
            ("unit_id", "unitId"),
            // `unitNumber` everywhere else.
            ("unit_number", "number"),
            ("unit_type_id", "unitTypeId"),
            ("unit_type_name", "unitTypeName"),
            ("building_id", "buildingId"),
            ("building_name", "buildingName"),
            ("floor", "floor"),
            ("square_feet", "squareFeet"),
            ("market_rent", "marketRent"),
            ("available_for_online_marketing", "availableForOnlineMarketing"),
            ("excluded_from_occupancy", "excludedFromOccupancy"),
            ("street", "streetAddress"),
            ("city", "city"),
            ("state", "state"),
            ("postal_code", "zip"),
            ("status", "status"),
            ("status_date", "statusDate"),
            ("date_available", "dateAvailable"),
            ("vacancy_status", "vacancyStatus"),
            ("move_out_date", "occupyingLease.moveOutDate"),
            ("notice_date", "occupyingLease.noticeToVacateDate"),
        ],
    },
    List {
        path: "UnitTypes",
        property: "propertyId",
        key: "unitTypes",
        table: "resman_unit_types",
        fields: &[
            ("unit_type_id", "unitTypeId"),
            ("name", "name"),
            ("description", "description"),
            ("bedrooms", "bedrooms"),
            ("bathrooms", "bathrooms"),
            ("square_footage", "squareFootage"),
            ("maximum_occupancy", "maximumOccupancy"),
            ("market_rent", "marketRent"),
            ("required_deposit", "requiredDeposit"),
        ],
    },
    List {
        path: "PropertyCharges",
        property: "PropertyId",
        key: "propertyCharges",
        table: "resman_property_charges",
        fields: &[
            ("transaction_category_id", "transactionCategoryId"),
            ("charge_name", "chargeName"),
            ("charge_category", "chargeCategory"),
            ("amount", "amount"),
            ("currency", "currency"),
            ("frequency", "frequency"),
            ("is_required", "isRequired"),
            ("is_recurring", "isRecurring"),
            ("is_enabled", "isEnabled"),
            ("is_situational", "isSituational"),
            ("is_refundable", "isRefundable"),
            ("is_third_party", "isThirdParty"),
            ("is_taxable", "isTaxable"),
        ],
    },
    List {
        path: "UnitCharges",
        property: "propertyId",
        key: "unitCharges",
        table: "resman_unit_charges",
        fields: &[
            ("unit_id", "unitId"),
            ("unit_type_id", "unitTypeId"),
            ("transaction_category_id", "transactionCategoryId"),
            ("charge_name", "chargeName"),
            ("charge_category", "chargeCategory"),
            ("charge_class", "chargeClass"),
            ("amount", "amount"),
            ("frequency", "frequency"),
            ("is_required", "isRequired"),
            ("is_recurring", "isRecurring"),
            ("is_enabled", "isEnabled"),
            ("is_situational", "isSituational"),
            ("is_refundable", "isRefundable"),
            ("rentable_item_type_id", "rentableItemTypeId"),
            ("amenity_id", "amenityId"),
            ("start_date", "startDate"),
            ("end_date", "endDate"),
        ],
    },
    List {
        path: "RentableItemTypes",
        property: "propertyId",
        key: "rentableItemTypes",
        table: "resman_rentable_item_types",
        fields: &[
            ("rentable_item_type_id", "rentableItemTypeId"),
            ("name", "name"),
            ("description", "description"),
            ("marketing_description", "marketingDescription"),
            ("square_footage", "squareFootage"),
            ("include_in_online_application", "includeInOnlineApplication"),
            ("transaction_category_id", "category.transactionCategoryId"),
            ("amount", "amount"),
            ("rentable_item_count", "rentableItemCount"),
        ],
    },
];

/// v2 `/Properties`.
pub(super) const PROPERTIES: Fields = &[
    ("property_id", "propertyId"),
    ("abbreviation", "abbreviation"),
    ("name", "name"),
    ("kind", "type"),
    ("street", "streetAddress"),
    ("city", "city"),
    ("state", "state"),
    ("postal_code", "zip"),
    ("phone", "phone"),
    ("email", "email"),
    ("time_zone", "timeZone"),
    ("manager", "manager"),
    ("application_url", "defaultUnitApplicationUrl"),
];

/// v1 `Account/GetProperties`.
pub(super) const V1_PROPERTIES: Fields = &[
    ("property_id", "PropertyID"),
    ("name", "Name"),
    ("street", "StreetAddress"),
    ("city", "City"),
    ("state", "State"),
    ("postal_code", "Zip"),
    ("phone", "Phone"),
    ("email", "Email"),
    ("manager", "Manager"),
];

/// v1 `Property/GetUnits`.
pub(super) const V1_UNITS: Fields = &[
    ("unit_id", "UnitId"),
    ("unit_number", "UnitNumber"),
    ("building", "Building"),
    ("floor", "Floor"),
    ("street", "StreetAddress"),
    ("city", "City"),
    ("state", "State"),
    ("postal_code", "Zip"),
    ("unit_type", "UnitType"),
];

/// v1 `Leasing/GetEmployees`.
pub(super) const V1_EMPLOYEES: Fields =
    &[("employee_id", "ID"), ("name", "Name"), ("email", "Email"), ("security_group", "SecurityGroup")];

/// v1 `Leasing/GetProspectSources`.
pub(super) const V1_LEAD_SOURCES: Fields = &[("lead_source_id", "ID"), ("name", "Name")];

/// v1 `Leasing/GetLostProspectReasons`.
pub(super) const V1_LOST_REASONS: Fields = &[("lost_reason_id", "ID"), ("name", "Name")];

/// v2 `/TransactionCategories`, of one of [`CATEGORY_TYPES`].
pub(super) const CATEGORIES: Fields = &[
    ("transaction_category_id", "transactionCategoryId"),
    ("abbreviation", "abbreviation"),
    ("name", "name"),
    ("type", "type"),
    ("is_rent", "isRent"),
    ("is_recurring_monthly_rent_concession", "isRecurringMonthlyRentConcession"),
    ("is_one_time_concession", "isOneTimeConcession"),
];

/// Asked one by one: several types in one call are accepted and answered with nothing.
pub(super) const CATEGORY_TYPES: [&str; 4] = ["Charge", "Credit", "Payment", "Deposit"];

/// v2 `/PickLists`.
pub(super) const PICK_LIST: Fields = &[("item_id", "picklistItemId"), ("name", "name")];

/// The pick lists that ResMan is known to have.
pub(super) const PICK_LISTS: [&str; 8] = [
    "Area",
    "IDNumberType",
    "Industry",
    "Language",
    "LostProspectReason",
    "OtherIncomeType",
    "ReasonForLeaving",
    "WorkOrderCancellationReasons",
];

/// v2 `/Amenities`, without its units and charges.
pub(super) const AMENITIES: Fields = &[
    ("amenity_id", "amenityId"),
    ("name", "name"),
    ("description", "description"),
    ("amenity_type_id", "amenityTypeId"),
    ("amenity_type_name", "amenityTypeName"),
    ("ils_mapping", "ilsMapping"),
    ("available_for_online_marketing", "availableForOnlineMarketing"),
];

/// `units[]` of an amenity.
pub(super) const AMENITY_UNIT: Fields = &[("unit_id", "unitId"), ("unit_number", "unitNumber")];

/// What a charge of an amenity says of the amenity.
pub(super) const AMENITY_NAME: Fields = &[("amenity_id", "amenityId"), ("amenity_name", "name")];

/// `charges[]` of an amenity.
pub(super) const AMENITY_CHARGE: Fields =
    &[("charge_date", "date"), ("impacts_market_rent", "impactsMarketRent"), ("amount", "amount")];

/// v2 `/RentableItems`.
pub(super) const RENTABLE_ITEMS: Fields = &[
    ("rentable_item_id", "rentableItemId"),
    ("name", "name"),
    ("rentable_item_type_id", "rentableItemTypeId"),
    ("rentable_item_type_name", "rentableItemTypeName"),
    ("charge", "charge"),
    ("rentable", "rentable"),
    ("attached_unit_number", "attachedUnitNumber"),
    ("is_occupied", "isOccupied"),
];

/// What v2 `/RentableItems/Availability` adds.
pub(super) const RENTABLE_AVAILABILITY: Fields = &[("status", "status"), ("date_available", "dateAvailable")];

/// v2 `/Employees`.
pub(super) const EMPLOYEES: Fields = &[
    ("person_id", "personId"),
    ("user_id", "userId"),
    ("first_name", "firstName"),
    ("last_name", "lastName"),
    ("preferred_name", "preferredName"),
    ("phone", "phone"),
    ("email", "email"),
    ("security_group", "securityGroup"),
    ("is_leasing", "isLeasing"),
    ("is_maintenance", "isMaintenance"),
    ("is_corporate", "isCorporate"),
    ("termination_date", "terminationDate"),
];

/// v1 `Leasing/GetApplicantsAndCurrentResidents`.
pub(super) const V1_PEOPLE: Fields = &[
    ("person_id", "PersonID"),
    ("lease_id", "LeaseID"),
    ("lease_group_id", "ParentLeaseGroupID"),
    ("first_name", "FirstName"),
    ("last_name", "LastName"),
    ("birthdate", "Birthdate"),
    ("unit", "Unit"),
    ("building", "Building"),
    ("email", "Email"),
    ("mobile_phone", "MobilePhone"),
    ("home_phone", "HomePhone"),
    ("work_phone", "WorkPhone"),
    ("lease_start_date", "LeaseStartDate"),
    ("lease_end_date", "LeaseEndDate"),
    ("move_in_date", "MoveInDate"),
    ("move_out_date", "MoveOutDate"),
    ("status", "Status"),
    ("approval_status", "ApprovalStatus"),
    ("main_contact", "MainContact"),
];

/// v1 `Leasing/GetCurrentResidents`.
pub(super) const V1_RESIDENTS: Fields = &[
    ("person_id", "PersonID"),
    ("lease_id", "LeaseID"),
    ("lease_group_id", "ParentLeaseGroupID"),
    ("billing_account_id", "BillingAccountID"),
    ("first_name", "FirstName"),
    ("last_name", "LastName"),
    ("unit", "Unit"),
    ("building", "Building"),
    ("email", "Email"),
    ("mobile_phone", "MobilePhone"),
    ("home_phone", "HomePhone"),
    ("work_phone", "WorkPhone"),
    ("lease_start_date", "LeaseStartDate"),
    ("lease_end_date", "LeaseEndDate"),
    ("move_in_date", "MoveInDate"),
    ("move_out_date", "MoveOutDate"),
    ("rent", "Rent"),
    ("deposits_held", "DepositsHeld"),
    ("household_status", "HouseholdStatus"),
    ("main_contact", "MainContact"),
    ("is_minor", "IsMinor"),
];

/// v1 `Events/GetMoveOuts`, `GetOnNotice`, `GetLeaseExpirations` and `GetCompletedWorkOrders`. The lists name the unit differently.
pub(super) const V1_RESIDENT_EVENTS: Fields = &[
    ("person_id", "PersonID"),
    ("lease_id", "LeaseID"),
    ("first_name", "FirstName"),
    ("last_name", "LastName"),
    ("unit", "Unit"),
    ("unit_number", "UnitNumber"),
    ("building", "Building"),
    ("email", "Email"),
    ("mobile_phone", "MobilePhone"),
    ("home_phone", "HomePhone"),
    ("is_minor", "IsMinor"),
    ("status", "Status"),
    ("lease_end_date", "LeaseEndDate"),
    ("move_out_date", "MoveOutDate"),
    ("notice_date", "NoticeDate"),
    ("completed_date", "CompletedDate"),
];

/// One item of a list.
pub(super) trait Item {
    /// A field's text.
    fn text(&self, path: &str) -> Option<String>;
}

impl Item for Object<'_> {
    fn text(&self, path: &str) -> Option<String> {
        match path.split_once('.') {
            None => field(self, path).and_then(cell),
            Some((key, rest)) => field(self, key).and_then(object)?.text(rest),
        }
    }
}

/// A value as an object, if it is one.
pub(super) fn object(value: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// Columns of a table, resolved once for all rows of an answer.
#[derive(Debug)]
pub(super) struct Mapping {
    fields: Vec<(usize, bool, &'static str)>,
}

impl Mapping {
    pub(super) fn of(table: &Table, fields: Fields) -> Result<Self> {
        let resolve = |(column, field): &(&'static str, &'static str)| {
            // Vendors write GUIDs in either case, and different lists of one vendor do not agree.
            Ok((table.column(column)?, column.ends_with("_id"), *field))
        };
        Ok(Self { fields: fields.iter().map(resolve).collect::<Result<_>>()? })
    }

    /// Writes an item's fields into the last row.
    pub(super) fn put(&self, table: &mut Table, item: &impl Item) {
        for &(column, is_id, field) in &self.fields {
            if let Some(text) = item.text(field) {
                if is_id {
                    table.put(column, &id(&text));
                } else {
                    table.put(column, &text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_column() {
        for list in LISTS {
            Mapping::of(&Table::of(list.table).unwrap(), list.fields).unwrap();
        }
        for (table, fields) in [
            ("resman_account_properties", PROPERTIES),
            ("resman_account_properties", V1_PROPERTIES),
            ("resman_v1_units", V1_UNITS),
            ("resman_v1_employees", V1_EMPLOYEES),
            ("resman_v1_lead_sources", V1_LEAD_SOURCES),
            ("resman_v1_lost_reasons", V1_LOST_REASONS),
            ("resman_transaction_categories", CATEGORIES),
            ("resman_pick_lists", PICK_LIST),
            ("resman_amenities", AMENITIES),
            ("resman_amenities", AMENITY_UNIT),
            ("resman_amenity_charges", AMENITY_NAME),
            ("resman_amenity_charges", AMENITY_CHARGE),
            ("resman_rentable_items", RENTABLE_ITEMS),
            ("resman_rentable_items", RENTABLE_AVAILABILITY),
            ("resman_employees", EMPLOYEES),
            ("resman_v1_people", V1_PEOPLE),
            ("resman_v1_residents", V1_RESIDENTS),
            ("resman_v1_move_outs", V1_RESIDENT_EVENTS),
            ("resman_v1_notices", V1_RESIDENT_EVENTS),
            ("resman_v1_lease_expirations", V1_RESIDENT_EVENTS),
            ("resman_v1_work_orders", V1_RESIDENT_EVENTS),
        ] {
            Mapping::of(&Table::of(table).unwrap(), fields).unwrap();
        }
    }

    #[test]
    fn nested_fields_are_found_and_ids_are_lowered() {
        let mut table = Table::of("resman_availability").unwrap();
        let availability = &LISTS[2];
        let mapping = Mapping::of(&table, availability.fields).unwrap();
        let text = r#"{"unitId": "5B0C3F52-6A0E-4C5B-9A55-0F6D9F3C2A11", "number": "B-1",
            "occupyingLease": {"moveOutDate": "2026-07-31"}, "marketRent": 1540.50}"#;
        table.add();
        mapping.put(&mut table, &serde_json::from_str::<Object<'_>>(text).unwrap());
        let get = |name| {
            let batch = { &mut Table::of("resman_availability").unwrap() };
            batch.column(name).unwrap()
        };
        let scope = table.column("property_id").unwrap();
        table.fill(scope, 0, "p");
        let batch = table.finish().unwrap();
        let text = |name| arrow::array::AsArray::as_string::<i32>(batch.column(get(name))).value(0).to_owned();
        assert_eq!(text("unit_id"), "5b0c3f52-6a0e-4c5b-9a55-0f6d9f3c2a11");
        assert_eq!(text("unit_number"), "B-1");
        assert_eq!(text("move_out_date"), "2026-07-31");
        assert_eq!(text("market_rent"), "1540.50");
    }
}
