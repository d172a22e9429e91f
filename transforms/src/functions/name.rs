//! Names of persons, taken apart.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use super::{Arity, Function, strings};

/// The parts of a person's name, each as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonName {
    /// What stands before the name: Dr., Mrs., Sir.
    pub title: Option<String>,
    /// The given name.
    pub given: Option<String>,
    /// Everything between given and family name.
    pub middle: Option<String>,
    /// The family name with its particles.
    pub family: Option<String>,
    /// What stands behind the name: Jr., III, MD.
    pub suffix: Option<String>,
    /// The name that friends use, when it is written in quotes or brackets.
    pub nickname: Option<String>,
    /// The family name at birth.
    pub maiden: Option<String>,
}

fn fields() -> Fields {
    ["title", "given", "middle", "family", "suffix", "nickname", "maiden"]
        .into_iter()
        .map(|n| Field::new(n, DataType::Utf8, true))
        .collect()
}

pub(super) fn all() -> Vec<Function> {
    vec![Function::text("person_name", Arity::Between(1, 1), DataType::Struct(fields()), |args| {
        let names: Vec<_> = strings(&args[0]).iter().map(|n| n.and_then(person_name)).collect();
        let parts: [fn(&PersonName) -> &Option<String>; 7] =
            [|n| &n.title, |n| &n.given, |n| &n.middle, |n| &n.family, |n| &n.suffix, |n| &n.nickname, |n| &n.maiden];
        let columns = parts.into_iter().map(|part| {
            Arc::new(names.iter().map(|n| n.as_ref().and_then(|n| part(n).as_deref())).collect::<StringArray>())
                as ArrayRef
        });
        let nulls: NullBuffer = names.iter().map(Option::is_some).collect::<Vec<_>>().into();
        Ok(Arc::new(StructArray::try_new(fields(), columns.collect(), Some(nulls))?))
    })]
}

/// `person_name(text)`: the parts of the name of one person; `None` when the text holds no word.
pub fn person_name(text: &str) -> Option<PersonName> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (first, rest) = words.split_first()?;
    let (last, middle) = rest.split_last().map_or((None, rest), |(l, m)| (Some(*l), m));
    Some(PersonName {
        given: Some((*first).to_owned()),
        middle: Some(middle.join(" ")).filter(|m| !m.is_empty()),
        family: last.map(str::to_owned),
        ..PersonName::default()
    })
}
