//! What connectors read, before anything is made of it.
//!
//! Values are text exactly as the vendor wrote them (numbers too: `1,234.50` is a fact to be judged later, with the row at
//! hand). Dates that come in parts are joined as `YYYY-M-D`. Every row starts with the property it belongs to, or for
//! lists of a whole account with the connection. Nested lists become tables of their own.

use crate::Dataset;
use crate::dataset::text;

/// A wire dataset: all columns are text and nullable, written as `name: column column …`.
fn wire(name: &str, about: &str, scope: &str, columns: &str) -> Dataset {
    let mut dataset = Dataset::new(name, about).scope(scope);
    let scope =
        text(scope, if scope == "connection" { "the connection that listed it" } else { "the property it belongs to" });
    dataset.columns.push(scope.required());
    dataset.columns.extend(columns.split_whitespace().map(|c| text(c, &format!("`{c}` as the vendor wrote it"))));
    dataset
}

/// Tables read from a MITS / ILS marketing feed, any dialect.
pub fn mits() -> Vec<Dataset> {
    let w = |name, about, columns| wire(name, about, "property_id", columns);
    vec![
        w(
            "mits_properties",
            "one property of a marketing feed",
            "organization marketing_name legal_name website street city state postal_code country county phone fax email \
             latitude longitude time_zone structure_type unit_count building_count year_built year_remodeled \
             short_description long_description lease_length application_url availability_url office_hours currency \
             last_update dialect",
        ),
        w("mits_buildings", "one building of a marketing feed", "building_id name description unit_count"),
        w(
            "mits_floorplans",
            "one floor plan of a marketing feed",
            "floorplan_id name comment unit_count units_available bedrooms bathrooms square_feet_min square_feet_max \
             market_rent_min market_rent_max effective_rent_min effective_rent_max availability_url image_url",
        ),
        w(
            "mits_units",
            "one unit of a marketing feed",
            "unit_number marketing_name floorplan_id floorplan_name building floor bedrooms bathrooms square_feet_min \
             square_feet_max market_rent unit_rent effective_rent_min effective_rent_max economic_status \
             occupancy_status leased_status vacancy_class vacate_date made_ready_date street city state postal_code \
             availability_url comment",
        ),
        w(
            "mits_offer_terms",
            "one price of a unit, or of a floor plan when `unit_number` is null, for a lease term and a move-in window",
            "unit_number floorplan_id lease_term effective_rent start_date end_date",
        ),
        w(
            "mits_concessions",
            "one concession of a property, floor plan or unit",
            "floorplan_id unit_number position active value term start_date end_date header body footer",
        ),
        w(
            "mits_charges",
            "one fee or deposit that the feed states, for a property, floor plan or unit. `element` is the element's \
             path below Property, Floorplan or ILS_Unit, such as `Fee/ApplicationFee`, `Deposit`, `Policy/Pet/Rent`, \
             `Information/Parking/SpaceFee`",
            "floorplan_id unit_number position element kind label amount amount_min amount_max currency \
             percent_refundable portion_refundable condition",
        ),
        w(
            "mits_amenities",
            "one amenity of a property, floor plan or unit",
            "floorplan_id unit_number position amenity_type amenity_subtype description",
        ),
    ]
}

/// The list of properties that a marketing feed, read whole, holds.
pub fn mits_list() -> Dataset {
    wire("mits_listed", "one property of a marketing feed that was read to its end", "connection", "property_id name")
}

/// Tables read from both generations of ResMan's API.
pub fn resman() -> Vec<Dataset> {
    let w = |name, about, columns| wire(name, about, "property_id", columns);
    vec![
        wire(
            "resman_account_properties",
            "one property that the account lists, from v1 `Account/GetProperties` and v2 `/Properties`, which `generation` \
             tells apart",
            "connection",
            "generation account_id property_id abbreviation name kind street city state postal_code phone email \
             time_zone manager application_url",
        ),
        w(
            "resman_v1_units",
            "v1 `Property/GetUnits`",
            "unit_id unit_number building floor street city state postal_code unit_type",
        ),
        w("resman_v1_employees", "v1 `Leasing/GetEmployees`", "employee_id name email security_group"),
        w("resman_v1_lead_sources", "v1 `Leasing/GetProspectSources`", "lead_source_id name"),
        wire("resman_v1_lost_reasons", "v1 `Leasing/GetLostProspectReasons`", "connection", "lost_reason_id name"),
        w("resman_buildings", "v2 `/Buildings`", "building_id name description floors total_units"),
        w(
            "resman_units",
            "v2 `/Units`",
            "unit_id unit_number unit_type_id unit_type building_id building floor street city state postal_code \
             square_feet market_rent excluded_from_occupancy available_for_online_marketing is_affordable_unit \
             is_holding_unit",
        ),
        w(
            "resman_availability",
            "v2 `/Units/Availability`",
            "unit_id unit_number unit_type_id unit_type_name building_id building_name floor square_feet market_rent \
             available_for_online_marketing excluded_from_occupancy street city state postal_code status status_date \
             date_available vacancy_status move_out_date notice_date",
        ),
        w(
            "resman_unit_types",
            "v2 `/UnitTypes`",
            "unit_type_id name description bedrooms bathrooms square_footage maximum_occupancy market_rent \
             required_deposit",
        ),
        w(
            "resman_amenities",
            "v2 `/Amenities`, once per unit that has it and once with a null `unit_number` for the property",
            "amenity_id name description amenity_type_id amenity_type_name ils_mapping available_for_online_marketing \
             unit_id unit_number",
        ),
        w(
            "resman_amenity_charges",
            "`charges[]` of v2 `/Amenities`, one row a dated charge",
            "amenity_id amenity_name charge_date impacts_market_rent amount",
        ),
        w(
            "resman_property_charges",
            "v2 `/PropertyCharges`",
            "transaction_category_id charge_name charge_category amount currency frequency is_required is_recurring \
             is_enabled is_situational is_refundable is_third_party is_taxable",
        ),
        w(
            "resman_unit_charges",
            "v2 `/UnitCharges`",
            "unit_id unit_type_id transaction_category_id charge_name charge_category charge_class amount frequency \
             is_required is_recurring is_enabled is_situational is_refundable rentable_item_type_id amenity_id \
             start_date end_date",
        ),
        w(
            "resman_rentable_items",
            "v2 `/RentableItems` joined to `/RentableItems/Availability`",
            "rentable_item_id name rentable_item_type_id rentable_item_type_name charge rentable attached_unit_number \
             is_occupied status date_available",
        ),
        w(
            "resman_rentable_item_types",
            "v2 `/RentableItemTypes`",
            "rentable_item_type_id name description marketing_description square_footage \
             include_in_online_application transaction_category_id amount rentable_item_count",
        ),
        wire(
            "resman_transaction_categories",
            "v2 `/TransactionCategories`, asked one type at a time",
            "connection",
            "transaction_category_id abbreviation name type is_rent is_recurring_monthly_rent_concession \
             is_one_time_concession",
        ),
        w(
            "resman_employees",
            "v2 `/Employees`, once per property that the person works at",
            "person_id user_id first_name last_name preferred_name phone email security_group is_leasing \
             is_maintenance is_corporate termination_date",
        ),
        wire("resman_pick_lists", "v2 `/PickLists?name=`, one list after another", "connection", "list item_id name"),
    ]
}

/// Tables of leads, read from both generations of ResMan's API.
pub fn resman_people() -> Vec<Dataset> {
    let w = |name, about, columns| wire(name, about, "property_id", columns);
    vec![
        w(
            "resman_prospects",
            "v2 `/Prospects`, without its lists",
            "prospect_id main_person_id status last_modified source_id source_name first_contact_method \
             first_contact_date lost_date lost_reason agent_id agent_first_name agent_last_name lease_id lease_status \
             unit_id unit_number application_date approval_date denial_date cancellation_date lease_signed_date \
             scheduled_move_in_date move_in_date",
        ),
        w(
            "resman_v1_prospects",
            "one `Prospect` of v1 `MITS/SearchProspects`, without its lists. `source_id`, `agent_id`, \
             `first_contact_method` and `first_contact_date` are those of its first contact, `lost_reason` is that of its \
             newest `Cancel`",
            "prospect_id main_person_id customer_type last_modified source_id agent_id first_contact_method \
             first_contact_date lost_reason target_move_in_date floorplan unit_number rent_min rent_max bedrooms_min \
             bedrooms_max bathrooms_min bathrooms_max lease_terms occupants pets comments additional",
        ),
        w(
            "resman_prospect_people",
            "one person of a lead, from `people[]` of v2 `/Prospects` or a `Customer` of v1 `MITS/SearchProspects`, which \
             `generation` tells apart. `position` counts from 0",
            "generation prospect_id person_id position first_name middle_name last_name email phone phone_type \
             household_status is_main_contact is_head_of_household is_lease_signer is_guarantor is_dependent last_modified",
        ),
        w(
            "resman_prospect_events",
            "one entry of a lead's `communicationLog` of v2, or `Event` of v1, which `generation` tells apart",
            "generation prospect_id event_id kind contact_type date timestamp subject text agent_id source_id \
             first_contact last_modified",
        ),
    ]
}

const RESIDENT_EVENT: &str = "person_id lease_id first_name last_name unit unit_number building email mobile_phone \
                              home_phone is_minor status lease_end_date move_out_date notice_date \
                              completed_date";

/// Tables of residents and applicants, read from v1 of ResMan's API.
pub fn resman_residents() -> Vec<Dataset> {
    let w = |name, about, columns| wire(name, about, "property_id", columns);
    vec![
        w(
            "resman_v1_people",
            "v1 `Leasing/GetApplicantsAndCurrentResidents`",
            "person_id lease_id lease_group_id first_name last_name birthdate unit building email mobile_phone home_phone \
             work_phone lease_start_date lease_end_date move_in_date move_out_date status approval_status main_contact",
        ),
        w(
            "resman_v1_residents",
            "v1 `Leasing/GetCurrentResidents`",
            "person_id lease_id lease_group_id billing_account_id first_name last_name unit building email mobile_phone \
             home_phone work_phone birthdate lease_start_date lease_end_date move_in_date move_out_date rent deposits_held \
             household_status main_contact is_minor",
        ),
        w("resman_v1_move_outs", "v1 `Events/GetMoveOuts`", RESIDENT_EVENT),
        w("resman_v1_notices", "v1 `Events/GetOnNotice`", RESIDENT_EVENT),
        w("resman_v1_lease_expirations", "v1 `Events/GetLeaseExpirations`", RESIDENT_EVENT),
        w("resman_v1_work_orders", "v1 `Events/GetCompletedWorkOrders`", RESIDENT_EVENT),
    ]
}

/// Tables read from booking channels, the same for every channel: a connector says which of the vendor's fields holds a
/// value, the models say what the value means.
pub fn channels() -> Vec<Dataset> {
    let w = |name, about, columns| wire(name, about, "connection", columns);
    vec![
        w(
            "channel_reservations",
            "one reservation, block or hold as a connection tells it, once per stretch in one listing. `identity` is \
             `strong` (the vendor's id), `feed` (a calendar's UID) or `synthetic` (made from listing and dates); \
             `presence` is null while the vendor lists it, else `gone` (deleted or vanished for good); `type` and \
             `status` are the vendor's words; `platform` is where the guest booked",
            "connector reservation_id segment identity external_code group_id platform listing_id parent_listing_id \
             guest_id guest_name guest_first_name guest_last_name guest_email guest_phone guest_locale check_in \
             check_out check_in_time check_out_time time_zone adults children infants pets guest_count type status \
             stay_status presence hold_until total_amount subtotal_amount tax_amount host_payout paid_amount \
             balance_amount currency special_requests notes title booked_at created_at updated_at cancelled_at \
             cancelled_by",
        ),
        w(
            "channel_listings",
            "one listing of a connection. `channel_ids` is a JSON object of platform to the listing's id there; \
             `property` is the property that the settings name for it; `presence` as for reservations",
            "connector listing_id parent_listing_id property name nickname time_zone currency check_in_time \
             check_out_time max_guests bedrooms bathrooms property_type street city state postal_code country latitude \
             longitude active listed owner_id channel_ids amenities house_rules presence updated_at",
        ),
        w(
            "channel_guests",
            "one guest of a connection. `emails` and `phones` are JSON lists, the default first; `presence` as for \
             reservations",
            "connector guest_id first_name last_name full_name emails phones street city state postal_code country \
             locale notes presence updated_at",
        ),
    ]
}

/// All wire datasets.
pub fn all() -> Vec<Dataset> {
    [mits(), vec![mits_list()], resman(), resman_people(), resman_residents(), channels()].concat()
}
