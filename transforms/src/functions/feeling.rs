//! What a text says of mood and topics.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};

use super::{Arity, Function, strings};
use crate::text;

pub(super) fn all() -> Vec<Function> {
    let topics = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    vec![
        // `sentiment(text)`: the mood, −1 to 1; see [`text::sentiment`].
        Function::text("sentiment", Arity::Between(1, 1), DataType::Float64, |a| {
            Ok(Arc::new(strings(&a[0]).iter().map(|v| v.map(text::sentiment)).collect::<Float64Array>()))
        }),
        // `key_topics(text)`: what it is about, the most frequent first; an empty list when it is about nothing known.
        Function::text("key_topics", Arity::Between(1, 1), topics, |a| {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for value in strings(&a[0]) {
                match value {
                    Some(value) => lists.append_value(text::key_topics(value).into_iter().map(Some)),
                    None => lists.append_null(),
                }
            }
            Ok(Arc::new(lists.finish()) as ArrayRef)
        }),
    ]
}
