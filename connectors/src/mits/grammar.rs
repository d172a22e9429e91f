//! Which element means what, and where: the marketing dialects 2.0 to 4.1 side by side.
//!
//! The same fact has moved between the versions (`@Id`, `Identification/@IDValue`, `Identification/IDValue`;
//! `Unit/Information/MarketRent`, `Unit/MarketRent`), so every place that holds it leads to the same state.

/// What an element is, given its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Anything around `PhysicalProperty`.
    Envelope,
    /// The wrapper that may hold the document as escaped text.
    Response,
    Physical,
    Property,
    PropertyId,
    Identification(Owner),
    Address(Owner),
    Phone,
    IlsIdentification,
    Information,
    OfficeHour,
    Parking,
    Fee,
    Policy,
    Pet,
    Pets,
    FeeRange,
    Concession,
    DateRange,
    Amenities,
    Amenity,
    Deposit,
    Amount,
    ValueRange,
    Range,
    Building,
    Floorplan,
    Room,
    SquareFeet,
    MarketRent,
    EffectiveRent(Owner),
    File,
    IlsUnit,
    Units,
    Unit,
    /// `Information` inside `Unit`, which held its facts before 3.0.
    UnitFacts,
    Pricing,
    OfferTerm,
    OfferDates,
    Availability,
    /// A date in attributes, or as text.
    Date(Leaf),
    /// Text.
    Leaf(Leaf),
    /// Part of the standard, and nothing that a table has a place for.
    Known,
    /// Nobody knows it.
    Unknown,
}

/// Whom a shared element describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Property,
    Building,
    Floorplan,
    Unit,
}

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Status,
    ErrorDescription,
    // property
    Id(Owner, u8),
    Organization,
    MarketingName,
    LegalName,
    Website,
    Email,
    PhoneNumber,
    Latitude,
    Longitude,
    TimeZone,
    LastUpdate,
    StructureType,
    UnitCount,
    BuildingCount,
    YearBuilt,
    YearRemodeled,
    ShortDescription,
    LongDescription,
    LeaseLength,
    AvailabilityUrl,
    ApplicationUrl,
    OpenTime,
    CloseTime,
    Day,
    // address
    Street(u8),
    City,
    Region,
    PostalCode,
    Country,
    County,
    // money
    SpaceFee,
    ParkingComment,
    Fee,
    PetDeposit,
    PetFee,
    PetRent,
    PetRestrictions,
    DepositAmount,
    DepositMin,
    DepositMax,
    DepositLabel,
    PercentRefundable,
    PortionRefundable,
    // building
    BuildingName,
    BuildingDescription,
    BuildingUnits,
    // floor plan
    PlanName,
    PlanComment,
    PlanUnits,
    PlanAvailable,
    PlanDisplayed,
    PlanUrl,
    RoomCount,
    FileType,
    FileSource,
    // concession, amenity
    Value,
    Term,
    StartDate,
    EndDate,
    Header,
    Body,
    Footer,
    AmenityText,
    // unit
    UnitName,
    UnitType,
    UnitPlan,
    UnitPlanName,
    UnitBuilding,
    UnitBuildingId,
    UnitBedrooms,
    UnitBathrooms,
    MinSquareFeet,
    MaxSquareFeet,
    UnitRent,
    UnitMarketRent,
    EconomicStatus,
    OccupancyStatus,
    LeasedStatus,
    UnitFloor,
    UnitComment,
    VacancyClass,
    VacateDate,
    MadeReadyDate,
    UnitUrl,
    // offer term
    OfferRent,
    OfferLength,
    OfferStart,
    OfferEnd,
}

/// How sure an identifier is; the lowest one that comes is taken.
pub(super) mod rank {
    /// An attribute of the element itself.
    pub(crate) const OWN: u8 = 0;
    /// `Identification` that says it is the primary one, or `PrimaryID`.
    pub(crate) const PRIMARY: u8 = 1;
    /// Any other `Identification`.
    pub(crate) const OTHER: u8 = 2;
    /// An id beside the facts of a unit, or bare text in `PropertyID`.
    pub(crate) const BESIDE: u8 = 3;
    /// A name, when there is nothing else.
    pub(crate) const NAME: u8 = 4;
}

/// What `name` is inside `parent`.
#[inline]
pub(super) fn child(parent: State, name: &str) -> State {
    use Leaf as L;
    use State as S;
    match parent {
        S::Envelope => match name {
            "PhysicalProperty" => S::Physical,
            "Response" => S::Response,
            "Status" => S::Leaf(L::Status),
            "ErrorDescription" => S::Leaf(L::ErrorDescription),
            "MethodName" | "AccountID" | "PropertyID" => S::Known,
            _ => S::Envelope,
        },
        S::Response => match name {
            "PhysicalProperty" => S::Physical,
            _ => S::Envelope,
        },
        S::Physical => match name {
            "Property" => S::Property,
            "Management" => S::Known,
            _ => S::Unknown,
        },
        S::Property => match name {
            "ILS_Unit" => S::IlsUnit,
            "Floorplan" | "FloorPlan" => S::Floorplan,
            "Building" => S::Building,
            "PropertyID" => S::PropertyId,
            "ILS_Identification" => S::IlsIdentification,
            "Identification" | "General_ID" => S::Identification(Owner::Property),
            "Information" => S::Information,
            "Fee" => S::Fee,
            "Concession" => S::Concession,
            "Amenity" => S::Amenity,
            "Amenities" => S::Amenities,
            "Deposit" => S::Deposit,
            "Policy" => S::Policy,
            "Accounting" | "Payment" | "Phase" | "Utility" | "ILS" | "File" | "Promotional" | "SeniorServices"
            | "LeadChannelList" => S::Known,
            _ => S::Unknown,
        },
        S::PropertyId => match name {
            "Identification" => S::Identification(Owner::Property),
            "Address" => S::Address(Owner::Property),
            "Phone" => S::Phone,
            _ => property_name(name),
        },
        S::Identification(owner) => match name {
            "IDValue" => S::Leaf(L::Id(owner, rank::OTHER)),
            "PrimaryID" => S::Leaf(L::Id(owner, rank::PRIMARY)),
            "SecondaryID" | "IDType" | "IDRank" | "IDScopeType" => S::Known,
            "OrganizationName" if owner != Owner::Property => S::Known,
            "OrganizationName" => S::Leaf(L::Organization),
            _ if owner == Owner::Property => property_name(name),
            _ => S::Unknown,
        },
        S::Address(owner) => match name {
            "AddressLine1" | "Address1" | "Address" => S::Leaf(L::Street(0)),
            "AddressLine2" | "Address2" => S::Leaf(L::Street(1)),
            "UnparsedAddress" => S::Leaf(L::Street(2)),
            "City" => S::Leaf(L::City),
            "State" | "Province" => S::Leaf(L::Region),
            "PostalCode" => S::Leaf(L::PostalCode),
            "Country" if owner == Owner::Property => S::Leaf(L::Country),
            "CountyName" if owner == Owner::Property => S::Leaf(L::County),
            "Email" if owner == Owner::Property => S::Leaf(L::Email),
            "Country" | "CountyName" | "Email" | "Description" => S::Known,
            _ => S::Unknown,
        },
        S::Phone => match name {
            "PhoneNumber" => S::Leaf(L::PhoneNumber),
            "PhoneDescription" | "Extension" => S::Known,
            _ => S::Unknown,
        },
        S::IlsIdentification => match name {
            "Latitude" => S::Leaf(L::Latitude),
            "Longitude" => S::Leaf(L::Longitude),
            "TimeZone" => S::Leaf(L::TimeZone),
            "LastUpdate" => S::Date(L::LastUpdate),
            "DaylightSaving" => S::Known,
            _ => S::Unknown,
        },
        S::Information => match name {
            "StructureType" => S::Leaf(L::StructureType),
            "UnitCount" => S::Leaf(L::UnitCount),
            "BuildingCount" => S::Leaf(L::BuildingCount),
            "YearBuilt" => S::Leaf(L::YearBuilt),
            "YearRemodeled" => S::Leaf(L::YearRemodeled),
            "ShortDescription" => S::Leaf(L::ShortDescription),
            "LongDescription" => S::Leaf(L::LongDescription),
            "LeaseLength" => S::Leaf(L::LeaseLength),
            "PropertyAvailabilityURL" => S::Leaf(L::AvailabilityUrl),
            "UnitApplicationBaseURL" => S::Leaf(L::ApplicationUrl),
            "OfficeHour" => S::OfficeHour,
            "Parking" => S::Parking,
            "NumberOfAcres" | "AcquisitionDate" | "Rents" | "IncomeRentQual" | "DrivingDirections" | "Services" => {
                S::Known
            }
            _ => S::Unknown,
        },
        S::OfficeHour => match name {
            "OpenTime" => S::Leaf(L::OpenTime),
            "CloseTime" => S::Leaf(L::CloseTime),
            "Day" => S::Leaf(L::Day),
            _ => S::Unknown,
        },
        S::Parking => match name {
            "SpaceFee" => S::Leaf(L::SpaceFee),
            "Comment" => S::Leaf(L::ParkingComment),
            "Assigned" | "AssignedFee" | "Spaces" => S::Known,
            _ => S::Unknown,
        },
        S::Fee => match name {
            "ProrateType" | "LateType" => S::Known,
            _ => S::Leaf(L::Fee),
        },
        S::Policy => match name {
            "Pet" => S::Pet,
            "General" => S::Known,
            _ => S::Unknown,
        },
        S::Pet => match name {
            "Pets" => S::Pets,
            "Deposit" => S::Leaf(L::PetDeposit),
            "Fee" => S::Leaf(L::PetFee),
            "Rent" => S::Leaf(L::PetRent),
            "FeeRange" => S::FeeRange,
            "Restrictions" => S::Leaf(L::PetRestrictions),
            "Comment" | "PetCare" | "MaxCount" | "Weight" | "Size" => S::Known,
            _ => S::Unknown,
        },
        S::Concession => match name {
            "Value" => S::Leaf(L::Value),
            "Term" => S::Leaf(L::Term),
            "DateRange" => S::DateRange,
            "StartDate" => S::Date(L::StartDate),
            "EndDate" => S::Date(L::EndDate),
            "DescriptionHeader" => S::Leaf(L::Header),
            "DescriptionBody" => S::Leaf(L::Body),
            "DescriptionFooter" => S::Leaf(L::Footer),
            _ => S::Unknown,
        },
        S::DateRange => match name {
            "StartDate" => S::Date(L::StartDate),
            "EndDate" => S::Date(L::EndDate),
            _ => S::Unknown,
        },
        S::Amenities => match name {
            "Amenity" => S::Amenity,
            "PropertyAmenities" | "UnitAmenities" | "FloorplanAmenities" => S::Amenities,
            _ => S::Unknown,
        },
        S::Amenity => match name {
            "Description" | "Name" => S::Leaf(L::AmenityText),
            "Rank" => S::Known,
            _ => S::Unknown,
        },
        S::Deposit => match name {
            "Amount" => S::Amount,
            "Description" => S::Leaf(L::DepositLabel),
            "PercentRefundable" => S::Leaf(L::PercentRefundable),
            "PortionRefundable" => S::Leaf(L::PortionRefundable),
            _ => S::Unknown,
        },
        S::Amount => match name {
            "ValueRange" => S::ValueRange,
            "Range" => S::Range,
            "Value" => S::Leaf(L::DepositAmount),
            _ => S::Unknown,
        },
        S::Range => match name {
            "min" | "Min" => S::Leaf(L::DepositMin),
            "max" | "Max" => S::Leaf(L::DepositMax),
            _ => S::Unknown,
        },
        S::Building => match name {
            "Name" => S::Leaf(L::BuildingName),
            "Description" => S::Leaf(L::BuildingDescription),
            "UnitCount" => S::Leaf(L::BuildingUnits),
            "Identification" => S::Identification(Owner::Building),
            "BuildingType" | "SquareFeet" | "Amenity" | "File" => S::Known,
            _ => S::Unknown,
        },
        S::Floorplan => match name {
            "Name" => S::Leaf(L::PlanName),
            "Comment" => S::Leaf(L::PlanComment),
            "UnitCount" => S::Leaf(L::PlanUnits),
            "UnitsAvailable" => S::Leaf(L::PlanAvailable),
            "DisplayedUnitsAvailable" => S::Leaf(L::PlanDisplayed),
            "FloorplanAvailabilityURL" => S::Leaf(L::PlanUrl),
            "Identification" => S::Identification(Owner::Floorplan),
            "Room" => S::Room,
            "SquareFeet" => S::SquareFeet,
            "MarketRent" => S::MarketRent,
            "EffectiveRent" => S::EffectiveRent(Owner::Floorplan),
            "File" => S::File,
            "Deposit" => S::Deposit,
            "Fee" => S::Fee,
            "Concession" => S::Concession,
            "Amenity" => S::Amenity,
            "Amenities" => S::Amenities,
            "Pricing" => S::Pricing,
            "FloorplanType" | "FloorCount" | "TotalRoomCount" | "LeaseTerm" | "Promotional" => S::Known,
            _ => S::Unknown,
        },
        S::Room => match name {
            "Count" => S::Leaf(L::RoomCount),
            "Comment" | "Description" | "Size" | "GeneralType" => S::Known,
            _ => S::Unknown,
        },
        S::File => match name {
            "FileType" | "Type" => S::Leaf(L::FileType),
            "Src" => S::Leaf(L::FileSource),
            _ => S::Known,
        },
        S::IlsUnit => match name {
            "Units" => S::Units,
            "Unit" => S::Unit,
            "Pricing" => S::Pricing,
            "EffectiveRent" => S::EffectiveRent(Owner::Unit),
            "Concession" => S::Concession,
            "Deposit" => S::Deposit,
            "Fee" => S::Fee,
            "Amenity" => S::Amenity,
            "Amenities" => S::Amenities,
            "Availability" => S::Availability,
            "FloorLevel" => S::Leaf(L::UnitFloor),
            "Comment" => S::Leaf(L::UnitComment),
            "Identification" => S::Identification(Owner::Unit),
            "SpecialAccess" | "EntryFloor" | "PriorMarket" | "ChangeDate" | "StandardRenewal" | "UserOption"
            | "ProfitCenter" | "NumberOfFloors" | "Affordable" | "File" | "Promotional" => S::Known,
            _ => S::Unknown,
        },
        S::Units => match name {
            "Unit" => S::Unit,
            _ => S::Unknown,
        },
        S::Unit | S::UnitFacts => match name {
            "MarketRent" => S::Leaf(L::UnitMarketRent),
            "UnitRent" => S::Leaf(L::UnitRent),
            "UnitType" => S::Leaf(L::UnitType),
            "UnitBedrooms" => S::Leaf(L::UnitBedrooms),
            "UnitBathrooms" => S::Leaf(L::UnitBathrooms),
            "MinSquareFeet" => S::Leaf(L::MinSquareFeet),
            "MaxSquareFeet" => S::Leaf(L::MaxSquareFeet),
            "UnitEconomicStatus" => S::Leaf(L::EconomicStatus),
            "UnitOccupancyStatus" => S::Leaf(L::OccupancyStatus),
            "UnitLeasedStatus" => S::Leaf(L::LeasedStatus),
            "MarketingName" => S::Leaf(L::UnitName),
            "FloorplanName" => S::Leaf(L::UnitPlanName),
            "FloorplanID" | "FloorPlanID" => S::Leaf(L::UnitPlan),
            "BuildingName" => S::Leaf(L::UnitBuilding),
            "BuildingID" => S::Leaf(L::UnitBuildingId),
            "FloorLevel" => S::Leaf(L::UnitFloor),
            "UnitID" => S::Leaf(L::Id(Owner::Unit, rank::BESIDE)),
            "Identification" => S::Identification(Owner::Unit),
            "Address" => S::Address(Owner::Unit),
            "Information" => S::UnitFacts,
            "EffectiveRent" => S::EffectiveRent(Owner::Unit),
            "SquareFootType"
            | "UnitEconomicStatusDescription"
            | "UnitLeasedStatusDescription"
            | "NumberOccupants"
            | "PhaseName"
            | "PropertyPrimaryID" => S::Known,
            _ => S::Unknown,
        },
        S::Pricing => match name {
            "MITS-OfferTerm" | "OfferTerm" => S::OfferTerm,
            _ => S::Unknown,
        },
        S::OfferTerm | S::OfferDates => match name {
            "EffectiveRent" => S::Leaf(L::OfferRent),
            "Term" => S::Leaf(L::OfferLength),
            "DateRange" => S::OfferDates,
            "StartDate" => S::Date(L::OfferStart),
            "EndDate" => S::Date(L::OfferEnd),
            _ => S::Unknown,
        },
        S::Availability => match name {
            "VacateDate" => S::Date(L::VacateDate),
            "MadeReadyDate" => S::Date(L::MadeReadyDate),
            "VacancyClass" => S::Leaf(L::VacancyClass),
            "UnitAvailabilityURL" => S::Leaf(L::UnitUrl),
            "MoveOutCode" | "MoveOutDescription" | "CancellationCode" | "CancellationDescription" => S::Known,
            _ => S::Unknown,
        },
        S::Pets
        | S::FeeRange
        | S::ValueRange
        | S::SquareFeet
        | S::MarketRent
        | S::EffectiveRent(_)
        | S::Date(_)
        | S::Leaf(_)
        | S::Unknown => S::Unknown,
        S::Known => S::Known,
    }
}

/// What `PropertyID` holds since 3.0, and `Identification` inside it held before.
fn property_name(name: &str) -> State {
    match name {
        "MarketingName" => State::Leaf(Leaf::MarketingName),
        "LegalName" => State::Leaf(Leaf::LegalName),
        "WebSite" => State::Leaf(Leaf::Website),
        "Email" => State::Leaf(Leaf::Email),
        "APN" | "MSA_Number" | "MSA_Name" | "StructureDescription" | "Type" | "IsDisabled" => State::Known,
        _ => State::Unknown,
    }
}
