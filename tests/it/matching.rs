//! Identity resolution, through what its users call.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use catalog::Blame;
use fixtures::people::{Contact, PeopleShape, people};
use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use transforms::matching::{
    Attribute, Chunk, Columns, Decision, Index, Person, Population, Profile, Quality, Record, Resolved, Rule, Scorer,
    decide, find, resolve,
};

fn known(value: &str) -> Option<&str> {
    Some(value).filter(|v| !v.is_empty())
}

fn person(contact: &Contact) -> Person<'_> {
    Person {
        given_name: known(&contact.given_name),
        family_name: known(&contact.family_name),
        name: None,
        email: known(&contact.email),
        phone: known(&contact.phone),
        birth_date: known(&contact.birth_date),
        street: known(&contact.street),
        city: known(&contact.city),
        state: known(&contact.state),
        postcode: known(&contact.postcode),
    }
}

fn record(contact: &Contact) -> Record {
    Record::new(&person(contact), "US")
}

fn chunk<'a>(contacts: impl IntoIterator<Item = &'a Contact>) -> Chunk {
    let mut chunk = Chunk::default();
    for contact in contacts {
        chunk.push(&contact.id.to_string(), &person(contact), "US");
    }
    chunk
}

fn list(rows: usize, seed: u64) -> Vec<Contact> {
    people(PeopleShape { seed, rows, duplicates: 0.2 }).collect()
}

fn run(population: &Population, scorer: Option<Scorer>, truth: Option<&[u32]>) -> Resolved {
    resolve(population, &Profile::default(), scorer, truth, &mut |_| {})
}

/// Clusters as sets of ids, without those of one.
fn clusters<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeSet<BTreeSet<String>> {
    let mut sets: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (record, cluster) in pairs {
        sets.entry(cluster).or_default().insert(record.to_owned());
    }
    sets.into_values().filter(|s| s.len() > 1).collect()
}

fn of_run(population: &Population, resolved: &Resolved) -> BTreeSet<BTreeSet<String>> {
    clusters((0..).zip(&resolved.cluster_of).map(|(r, c)| (population.id(r), population.id(*c))))
}

/// What a list of some size teaches; tests that need a trained scorer share it.
static TRAINED: LazyLock<(Vec<Contact>, Scorer)> = LazyLock::new(|| {
    let list = list(1_200, 11);
    let population = Population::new(vec![chunk(&list)]).unwrap();
    let scorer = run(&population, None, None).scorer;
    (list, scorer)
});

fn scorers() -> [Scorer; 3] {
    [Scorer::shipped(Rule::FellegiSunter), Scorer::shipped(Rule::Seed), TRAINED.1.clone()]
}

const NASTY: [&str; 22] = [
    "",
    " ",
    "\0",
    "\u{202e}abc",
    "\u{200f}",
    "👩‍👩‍👧‍👦",
    "ß",
    "İstanbul",
    "מרים כהן",
    "محمد بن عبد الله",
    "山田 太郎",
    "O'Dell-Peña, Jr.",
    "@",
    "a@b@c",
    "@example",
    "+",
    "####",
    "0000-00-00",
    "99999999",
    "'; drop table people; --",
    "Apt",
    "unit unit unit 7 7 7",
];

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => prop::sample::select(NASTY.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,30}",
        1 => prop::sample::select(vec!["Ann", "Bob", "Robert", "Quill", "12 Main St", "1971-06-24", "303-555-0142"])
            .prop_map(str::to_owned),
    ]
}

fn anybody() -> impl Strategy<Value = Contact> {
    prop::collection::vec(nasty(), 9).prop_map(|v| {
        let [given_name, family_name, email, phone, birth_date, street, city, state, postcode] =
            <[String; 9]>::try_from(v).unwrap();
        Contact { id: 0, given_name, family_name, email, phone, birth_date, street, city, state, postcode, person: 0 }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_symmetric_probabilities_that_add_up(a in anybody(), b in anybody(), x in 0usize..1_200, y in 0usize..1_200) {
        let list = &TRAINED.0;
        for (a, b) in [(&a, &b), (&list[x], &list[y]), (&list[x], &b), (&a, &a), (&list[x], &list[(x + 1) % list.len()])] {
            let (a, b) = (record(a), record(b));
            for scorer in scorers() {
                let scored = scorer.score(&a, &b);
                prop_assert_eq!(scored.probability.to_bits(), scorer.score(&b, &a).probability.to_bits());
                prop_assert!((0.0..=1.0).contains(&scored.probability), "{}", scored.probability);
                let sum: f64 = scored.fields.iter().map(|f| f.weight).sum::<f64>() + scored.prior + scored.household;
                prop_assert!((sum - scored.weight).abs() < 1e-6, "{} {}", sum, scored.weight);
                prop_assert!(scored.household <= 1e-9);
                if scorer.rule == Rule::FellegiSunter {
                    let said = (scored.probability / (1.0 - scored.probability)).log2();
                    prop_assert!(scored.weight.abs() > 40.0 || (said - scored.weight).abs() < 1e-6);
                }
            }
        }
    }
}

/// Values of each field, each further from the first than the one before.
const WORSE: [(Attribute, &[&str]); 7] = [
    (Attribute::GivenName, &["katherine", "kathrine", "rupert"]),
    (Attribute::FamilyName, &["vantongeren", "vantongren", "hale"]),
    (Attribute::Email, &["k.vt77@quarry-hale.example", "k.vt77@quarry-hal.example", "somebody.else@far-away.example"]),
    (Attribute::Phone, &["303-555-0142", "303-555-0143", "907-555-0188"]),
    (Attribute::BirthDate, &["1971-06-24", "1971-06-25", "1971-08-30", "1990-12-03"]),
    (Attribute::Street, &["12 Quarry Lane", "14 Quarry Lane", "880 Sunset Boulevard"]),
    (Attribute::Postcode, &["80203", "80230", "36607"]),
];

fn set<'a>(person: &mut Person<'a>, attribute: Attribute, value: Option<&'a str>) {
    match attribute {
        Attribute::GivenName => person.given_name = value,
        Attribute::FamilyName => person.family_name = value,
        Attribute::Name => person.name = value,
        Attribute::Email => person.email = value,
        Attribute::Phone => person.phone = value,
        Attribute::BirthDate => person.birth_date = value,
        Attribute::Street => person.street = value,
        Attribute::City => person.city = value,
        Attribute::State => person.state = value,
        Attribute::Postcode => person.postcode = value,
    }
}

#[test]
fn a_bigger_disagreement_never_speaks_for_one_person() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for round in 0..400 {
        // Any fields known, the others agreeing more or less.
        let (mut a, mut b) = (Person::default(), Person::default());
        for (attribute, values) in WORSE {
            if round == 0 || rng.random_range(0..3) > 0 {
                set(&mut a, attribute, Some(values[0]));
                set(&mut b, attribute, Some(values[rng.random_range(0..values.len())]));
            }
        }
        for (attribute, values) in WORSE {
            let mut a = a;
            set(&mut a, attribute, Some(values[0]));
            for scorer in scorers() {
                let mut last = f64::INFINITY;
                for value in values {
                    let mut b = b;
                    set(&mut b, attribute, Some(value));
                    let weight = scorer.score(&Record::new(&a, "US"), &Record::new(&b, "US")).weight;
                    assert!(weight <= last + 1e-9, "{attribute:?} {value}: {weight} after {last}, round {round}");
                    last = weight;
                }
            }
        }
    }
}

#[test]
fn neither_the_order_of_rows_nor_of_files_shows() {
    let mut list = list(500, 5);
    let population = Population::new(vec![chunk(&list)]).unwrap();
    let first = run(&population, None, None);
    let wanted = of_run(&population, &first);
    assert!(wanted.len() > 40);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for parts in [1, 3] {
        list.shuffle(&mut rng);
        let population = Population::new(list.chunks(list.len() / parts + 1).map(chunk).collect()).unwrap();
        let again = run(&population, None, None);
        assert_eq!(of_run(&population, &again), wanted);
        assert_eq!(serde_json::to_string(&again.scorer).unwrap(), serde_json::to_string(&first.scorer).unwrap());
        // A cluster is named after its smallest id, numbers by their value.
        for (record, cluster) in (0..).zip(&again.cluster_of) {
            assert!(population.id(*cluster).parse::<u64>().unwrap() <= population.id(record).parse().unwrap());
        }
    }
}

#[test]
fn records_added_later_end_where_one_run_would_have_put_them() {
    let mut list = list(1_000, 8);
    // Word-for-word copies, on either side of the line.
    let copies: Vec<Contact> = (list.iter().step_by(40)).map(|c| Contact { id: c.id + 1, ..c.clone() }).collect();
    list.extend(copies);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    list.shuffle(&mut rng);
    let (old, new) = list.split_at(600);
    let population = Population::new(vec![chunk(old)]).unwrap();
    let resolved = run(&population, None, None);
    let scorer = resolved.scorer.clone();
    let mut index = Index::new(population, resolved, Profile::default());
    let mut rest = new;
    while !rest.is_empty() {
        let before: HashMap<String, String> = index.clusters().map(|(r, c)| (r.to_owned(), c.to_owned())).collect();
        let (portion, others) = rest.split_at(rng.random_range(1..=120).min(rest.len()));
        let added = index.add(&chunk(portion)).unwrap();
        assert_eq!(added.records.len(), portion.len());
        let moved: HashMap<&str, (&str, &str)> =
            added.moved.iter().map(|(r, was, is)| (r.as_str(), (was.as_str(), is.as_str()))).collect();
        for (record, cluster) in index.clusters() {
            let Some(was) = before.get(record) else { continue };
            match moved.get(record) {
                Some((from, to)) => assert_eq!((*from, *to), (was.as_str(), cluster)),
                None => assert_eq!(was, cluster, "the cluster of a known record changed unsaid"),
            }
        }
        rest = others;
        // What is kept and read again goes on as if nothing had been.
        let mut bytes = Vec::new();
        index.write(&mut bytes).unwrap();
        let read = Index::read(&bytes[..]).unwrap();
        let pairs = |i: &Index| i.clusters().map(|(r, c)| (r.to_owned(), c.to_owned())).collect::<BTreeMap<_, _>>();
        assert_eq!(pairs(&read), pairs(&index));
        index = read;
    }
    let whole = Population::new(vec![chunk(&list)]).unwrap();
    let full = run(&whole, Some(scorer), None);
    assert_eq!(clusters(index.clusters()), of_run(&whole, &full));
}

#[test]
fn a_copy_joins_and_an_id_is_taken_once() {
    let (list, scorer) = &*TRAINED;
    let mut index = Index::empty(scorer.clone(), Profile::default());
    index.add(&chunk(list)).unwrap();
    let mut copied = 0;
    for contact in list.iter().step_by(17) {
        let enough = scorer.score(&record(contact), &record(contact)).probability > 0.95;
        let copy = Contact { id: contact.id ^ 1 << 62, ..contact.clone() };
        let added = index.add(&chunk([&copy])).unwrap();
        let of = index.clusters().find(|(r, _)| **r == contact.id.to_string()).unwrap().1;
        assert!(!enough || added.records[0].1 == of, "a word-for-word copy is not in the cluster of its record");
        copied += usize::from(enough);
    }
    assert!(copied > 50);
    let before = index.len();
    for twice in
        [chunk([&list[0]]), chunk([&Contact { id: 1, ..list[1].clone() }, &Contact { id: 1, ..list[2].clone() }])]
    {
        let fault = index.add(&twice).unwrap_err();
        assert_eq!((fault.blame, index.len()), (Blame::User, before));
    }
    let fault = Population::new(vec![chunk(&list[..5]), chunk(&list[4..9])]).unwrap_err();
    assert_eq!(fault.to_string(), "1 ids occur more than once");
}

#[test]
fn anything_may_stand_in_a_field() {
    let huge = "Ann ".repeat(2_500_000);
    let mut chunk = Chunk::default();
    for (n, text) in NASTY.iter().copied().chain([huge.as_str()]).enumerate() {
        for (m, other) in NASTY.iter().enumerate() {
            let person = Person {
                given_name: Some(text),
                family_name: Some(other),
                email: Some(text),
                phone: Some(other),
                birth_date: Some(text),
                street: Some(other),
                city: Some(text),
                state: Some(other),
                postcode: Some(text),
                ..Person::default()
            };
            chunk.push(&format!("{n}/{m}"), &person, "US");
            chunk.push(&format!("{n}/{m}/name"), &Person { name: Some(text), ..Person::default() }, "zz");
        }
    }
    for n in 0..300 {
        chunk.push(&format!("empty {n}"), &Person::default(), "");
    }
    let population = Population::new(vec![chunk]).unwrap();
    let resolved = run(&population, None, None);
    for (record, cluster) in (0..).zip(&resolved.cluster_of) {
        if population.id(record).starts_with("empty") {
            assert_eq!(record, *cluster, "nobody is known by saying nothing");
        }
    }
}

#[test]
fn no_value_that_everybody_has_is_compared_by_everybody() {
    // One phone, one mailbox, one house and one town for all; every name five times.
    let mut chunk = Chunk::default();
    let rows = 4_000;
    for n in 0..rows {
        let given = format!("{}{}", ["Al", "Bo", "Cy", "Di", "Ed"][n % 5], ["ta", "ro", "mi", "ne"][n / 5 % 4]);
        let family = format!("Hale{}", char::from(b'a' + (n / 20 % 25) as u8));
        let person = Person {
            given_name: Some(&given),
            family_name: Some(&family),
            email: Some("office@quarry.example"),
            phone: Some("303-555-0142"),
            street: Some("1 Main Street"),
            city: Some("Denver"),
            ..Person::default()
        };
        chunk.push(&n.to_string(), &Person { birth_date: Some(&format!("{}-01-01", 1930 + n % 70)), ..person }, "US");
    }
    let population = Population::new(vec![chunk]).unwrap();
    let resolved = run(&population, None, None);
    assert!(resolved.skipped.iter().any(|s| s.key == "phone" && s.records > 3_000), "{:?}", resolved.skipped);
    let all = (rows * (rows - 1) / 2) as u64;
    assert!(resolved.candidates < all / 10, "{} of {all} pairs", resolved.candidates);
}

#[test]
fn people_of_one_household_stay_apart() {
    let home = Person {
        family_name: Some("Whitlock"),
        phone: Some("303-555-0142"),
        street: Some("12 Quarry Lane"),
        city: Some("Denver"),
        state: Some("CO"),
        postcode: Some("80203"),
        ..Person::default()
    };
    let of = |given, birth, email| Person { given_name: Some(given), birth_date: Some(birth), email, ..home };
    let father = of("Hector", "1951-03-02", Some("hector.whitlock@mail.example"));
    let son = Person { family_name: Some("Whitlock Jr."), ..of("Hector", "1979-11-23", None) };
    let twins = (of("Nadia", "1990-05-17", None), of("Ines", "1990-05-17", None));
    let couple = (
        of("Rosa", "1984-01-30", Some("whitlocks@mail.example")),
        of("Milo", "1982-08-09", Some("whitlocks@mail.example")),
    );
    for scorer in [Scorer::shipped(Rule::FellegiSunter), TRAINED.1.clone()] {
        for (a, b) in [(father, son), twins, couple] {
            let scored = scorer.score(&Record::new(&a, "US"), &Record::new(&b, "US"));
            assert!(scored.probability < Profile::default().cluster, "{scored:?}");
            assert_ne!(decide(&Profile::default(), &scored), Decision::Merge);
        }
        // The father himself, by another name, with a slip and half of it left out.
        let again = Person { street: None, postcode: None, email: None, ..of("Hektor", "1951-02-03", None) };
        let scored = scorer.score(&Record::new(&father, "US"), &Record::new(&again, "US"));
        assert!(scored.probability > 0.7, "{scored:?}");
    }
    // A third record that leaves the birthday out is like both, and does not make them one.
    let mut index = Index::empty(Scorer::shipped(Rule::FellegiSunter), Profile::default());
    let mut three = Chunk::default();
    let neither = Person { birth_date: None, ..father };
    for (id, person) in [("father", father), ("neither", neither), ("son", son)] {
        three.push(id, &person, "US");
    }
    let added = index.add(&three).unwrap();
    let of = |at: usize| &added.records[at].1;
    assert_ne!(of(0), of(2));
    assert_eq!(of(0), of(1));
}

#[test]
fn common_mailboxes_and_names_are_weak_evidence() {
    let shipped = Scorer::shipped(Rule::FellegiSunter);
    let of = |family| {
        Record::new(&Person { given_name: Some("John"), family_name: Some(family), ..Person::default() }, "US")
    };
    let (common, rare) =
        (shipped.score(&of("Smith"), &of("Smith")), shipped.score(&of("Vantongeren"), &of("Vantongeren")));
    assert!(common.weight + 4.0 < rare.weight, "{common:?} {rare:?}");
    // Three hundred people write from one address.
    let mut chunk = Chunk::default();
    for (n, contact) in list(900, 21).iter().enumerate() {
        let email = if n % 3 == 0 { "office@quarry.example" } else { &contact.email };
        chunk.push(&n.to_string(), &Person { email: known(email), ..person(contact) }, "US");
    }
    let population = Population::new(vec![chunk]).unwrap();
    let trained = run(&population, None, None).scorer;
    let weight = |email| {
        let record = Record::new(&Person { email: Some(email), ..Person::default() }, "US");
        trained.score(&record, &record).fields[0].weight
    };
    assert!(weight("office@quarry.example") < 4.0 && weight("ann.lee71@juniper.example") > 10.0);
}

#[test]
fn the_fixed_rule_is_the_one_that_is_written_down() {
    let all = Person {
        given_name: Some("Rosa"),
        family_name: Some("Quill"),
        email: Some("rosa@quill.example"),
        phone: Some("303-555-0142"),
        ..Person::default()
    };
    let scorer = Scorer::shipped(Rule::Seed);
    let profile = Profile::seed();
    let one = Record::new(&all, "US");
    for (other, probability, decision) in [
        (all, 1.0, Decision::Merge),
        (Person { phone: None, ..all }, 0.7, Decision::New),
        (Person { family_name: Some("Hale"), ..all }, 0.7, Decision::New),
        (Person { email: Some("r@quill.example"), ..all }, 0.6, Decision::New),
        (Person { given_name: Some("ROSA"), phone: Some("+1 (303) 555-0142"), ..all }, 1.0, Decision::Merge),
    ] {
        let scored = scorer.score(&one, &Record::new(&other, "US"));
        assert_eq!((scored.probability, decide(&profile, &scored)), (probability, decision));
    }
    let read: Profile = serde_json::from_str(r#"{"rule":"seed","merge":0.95}"#).unwrap();
    assert_eq!((read.rule, read.merge), (Rule::Seed, 0.95));
    assert!(serde_json::from_str::<Profile>(r#"{"merg":0.95}"#).is_err());
}

#[tokio::test]
async fn one_record_finds_its_people_with_reasons() {
    let (list, scorer) = &*TRAINED;
    let mut index = Index::empty(scorer.clone(), Profile::default());
    index.add(&chunk(list)).unwrap();
    let (mut found, mut asked) = (0, 0);
    for contact in list.iter().filter(|c| list.iter().filter(|o| o.person == c.person).count() > 1).take(60) {
        let others = find(&index, scorer, &Profile::default(), &record(contact)).await.unwrap();
        assert!(others.windows(2).all(|w| w[0].scored.probability >= w[1].scored.probability));
        assert!(others.iter().all(|m| m.decision >= Decision::Review && !m.scored.fields.is_empty()));
        let person_of = |id: &str| list.iter().find(|c| c.id.to_string() == id).unwrap().person;
        asked += 1;
        found +=
            usize::from(others.iter().any(|m| m.id != contact.id.to_string() && person_of(&m.id) == contact.person));
    }
    assert!(found * 10 >= asked * 9, "{found} of {asked}");
    let nobody =
        Record::new(&Person { given_name: Some("Xanthe"), family_name: Some("Zyx"), ..Person::default() }, "US");
    assert!(find(&index, scorer, &Profile::default(), &nobody).await.unwrap().is_empty());
}

#[test]
fn most_people_are_found_and_few_are_confused() {
    let list = list(3_000, 31);
    let population = Population::new(vec![chunk(&list)]).unwrap();
    let person_of: HashMap<String, u32> = list.iter().map(|c| (c.id.to_string(), c.person as u32)).collect();
    let truth: Vec<u32> = (0..population.len() as u32).map(|r| person_of[population.id(r)]).collect();
    let resolved = run(&population, None, Some(&truth));
    let quality = Quality::of(&resolved.cluster_of, &truth);
    assert!(quality.precision > 0.97 && quality.recall > 0.95, "{quality:?}");
    let sure: Vec<_> = resolved.calibration.iter().filter(|b| b.from >= 0.9).collect();
    let (pairs, said, seen) = sure.iter().fold((0.0, 0.0, 0.0), |(n, said, seen), b| {
        let pairs = b.pairs as f64;
        (n + pairs, said + pairs * b.said, seen + pairs * b.seen)
    });
    assert!(pairs > 300.0 && ((said - seen) / pairs).abs() < 0.02, "{:?}", resolved.calibration);
    // What is merged without asking is right.
    let merged = resolved.calibration.iter().filter(|b| b.from >= 0.999);
    assert!(merged.map(|b| b.pairs as f64 * (1.0 - b.seen)).sum::<f64>() < 0.5, "{:?}", resolved.calibration);
}

#[test]
fn columns_of_any_type_are_read() {
    let batch = RecordBatch::try_from_iter([
        ("key", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef),
        ("number", Arc::new(Int64Array::from(vec![Some(12), None])) as ArrayRef),
        ("road", Arc::new(StringArray::from(vec![Some("Quarry Ln"), Some("12 Quarry Lane")])) as ArrayRef),
        ("born", Arc::new(Date32Array::from(vec![Some(530), None])) as ArrayRef),
        ("tel", Arc::new(Int64Array::from(vec![3_035_550_142, 3_035_550_142])) as ArrayRef),
    ])
    .unwrap();
    let columns = |id: &str| Columns {
        id: id.to_owned(),
        attributes: vec![
            (Attribute::Street, vec!["number".to_owned(), "road".to_owned()]),
            (Attribute::BirthDate, vec!["born".to_owned()]),
            (Attribute::Phone, vec!["tel".to_owned()]),
        ],
        region: "US".to_owned(),
    };
    let population = Population::new(vec![Chunk::read(&batch, &columns("key")).unwrap()]).unwrap();
    let wanted = Person { street: Some("12 Quarry Lane"), phone: Some("+1 303 555 0142"), ..Person::default() };
    assert_eq!(population.record(1), Record::new(&wanted, "US"));
    assert_eq!(population.record(0), Record::new(&Person { birth_date: Some("1971-06-15"), ..wanted }, "US"));
    assert_eq!(Chunk::read(&batch, &columns("number")).unwrap_err().to_string(), "a row has no `number`");
    assert!(Chunk::read(&batch, &columns("nummer")).unwrap_err().to_string().contains("nummer"));
}

#[test]
fn a_damaged_state_is_refused() {
    let (list, scorer) = &*TRAINED;
    let mut index = Index::empty(scorer.clone(), Profile::default());
    index.add(&chunk(&list[..20])).unwrap();
    let mut bytes = Vec::new();
    index.write(&mut bytes).unwrap();
    assert_eq!(Index::read(&bytes[..]).unwrap().len(), 20);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..200 {
        let mut broken = bytes.clone();
        if rng.random_range(0..2) == 0 {
            broken.truncate(rng.random_range(0..bytes.len()));
        } else {
            let at = rng.random_range(0..bytes.len());
            broken[at] ^= 1 << rng.random_range(0..8);
        }
        assert_eq!(Index::read(&broken[..]).unwrap_err().blame, Blame::User);
    }
}
