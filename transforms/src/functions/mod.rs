//! Scalar functions, callable from SQL on text of any width, on columns and on literals.
//!
//! All of them are pure. Unless it says otherwise, a function gives null for null, and null for what it cannot read:
//! it never fails on a value.

mod channels;
mod dates;
mod email;
mod feeling;
mod json;
mod money;
mod name;
mod phone;
mod text;

use std::any::type_name;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::scalar::ScalarValue;

pub use channels::{email_is_alias, platform};
pub use dates::{clock_time, date_lenient, instant_lenient, time_zone};
pub use email::email_canonical;
pub use money::money;
pub use name::{PersonName, person_name};
pub(crate) use phone::load as load_phones;
pub use phone::phone_e164;
pub use text::{flag, snake, stable_id};

/// Every function that propflow adds to SQL, beside those of `datafusion-functions-json`.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    [
        text::all(),
        money::all(),
        dates::all(),
        phone::all(),
        email::all(),
        name::all(),
        json::all(),
        channels::all(),
        feeling::all(),
    ]
    .into_iter()
    .flatten()
    .map(|f| Arc::new(ScalarUDF::new_from_impl(f)))
    .collect()
}

/// How many arguments a function takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arity {
    /// Between these two numbers, both included.
    Between(usize, usize),
    /// One or more.
    Any,
}

/// A function as a value. Its arguments arrive as arrays of one length, cast to `takes` where that is set.
struct Function {
    name: &'static str,
    arity: Arity,
    takes: &'static [DataType],
    gives: DataType,
    run: Run,
    signature: Signature,
}

/// How a function is computed.
#[derive(Clone, Copy)]
enum Run {
    /// From arrays of one length; a literal is repeated for every row.
    Arrays(fn(&[ArrayRef]) -> Result<ArrayRef>),
    /// From the arguments as they come: for functions that are called with literals on every row.
    Args(fn(&Args<'_>) -> Result<ArrayRef>),
}

/// The arguments of a call on one batch.
struct Args<'a> {
    values: &'a [ColumnarValue],
    rows: usize,
}

/// A text argument: a column, or one value for all rows.
enum Texts<'a> {
    Column(&'a StringArray),
    One(Option<&'a str>),
}

impl Args<'_> {
    /// A text argument. What is no text has no values; the types were settled when the call was planned.
    fn texts(&self, at: usize) -> Texts<'_> {
        match &self.values[at] {
            ColumnarValue::Array(array) => array.as_string_opt().map_or(Texts::One(None), Texts::Column),
            ColumnarValue::Scalar(value) => Texts::One(value.try_as_str().flatten()),
        }
    }

    /// An argument as a column.
    fn array(&self, at: usize) -> Result<ArrayRef> {
        self.values[at].to_array(self.rows)
    }
}

impl<'a> Texts<'a> {
    fn at(&self, row: usize) -> Option<&'a str> {
        match self {
            Texts::Column(array) => array.is_valid(row).then(|| array.value(row)),
            Texts::One(value) => *value,
        }
    }
}

impl Function {
    /// `takes` names the type of each argument; the last one stands for all that follow. No types: any, unchanged.
    fn new(
        name: &'static str,
        arity: Arity,
        takes: &'static [DataType],
        gives: DataType,
        run: fn(&[ArrayRef]) -> Result<ArrayRef>,
    ) -> Self {
        let signature = Signature::new(TypeSignature::UserDefined, Volatility::Immutable);
        Self { name, arity, takes, gives, run: Run::Arrays(run), signature }
    }

    /// A function that sees which of its arguments are literals.
    fn of_args(
        name: &'static str,
        arity: Arity,
        takes: &'static [DataType],
        gives: DataType,
        run: fn(&Args<'_>) -> Result<ArrayRef>,
    ) -> Self {
        let signature = Signature::new(TypeSignature::UserDefined, Volatility::Immutable);
        Self { name, arity, takes, gives, run: Run::Args(run), signature }
    }

    /// A function of text only.
    fn text(name: &'static str, arity: Arity, gives: DataType, run: fn(&[ArrayRef]) -> Result<ArrayRef>) -> Self {
        Self::new(name, arity, &[DataType::Utf8], gives, run)
    }

    /// A function from one text to one text.
    fn map(name: &'static str, run: fn(&[ArrayRef]) -> Result<ArrayRef>) -> Self {
        Self::text(name, Arity::Between(1, 1), DataType::Utf8, run)
    }
}

/// The values of a text argument.
fn strings(array: &ArrayRef) -> &StringArray {
    array.as_string::<i32>()
}

/// Applies a function to every value of the first argument.
fn map_text(args: &[ArrayRef], f: impl Fn(&str) -> Option<String>) -> Result<ArrayRef> {
    Ok(Arc::new(strings(&args[0]).iter().map(|v| v.and_then(&f)).collect::<StringArray>()))
}

/// Values of a function that a column asks for again and again: few words stand in most of them.
struct Remembered<'a, T> {
    known: Vec<(&'a str, T)>,
}

impl<'a, T: Clone> Remembered<'a, T> {
    /// More are not worth searching.
    const MOST: usize = 16;

    fn new() -> Self {
        Self { known: Vec::with_capacity(Self::MOST) }
    }

    fn of(&mut self, text: &'a str, f: impl FnOnce(&'a str) -> T) -> T {
        if let Some((_, value)) = self.known.iter().find(|(t, _)| *t == text) {
            return value.clone();
        }
        let value = f(text);
        if self.known.len() < Self::MOST {
            self.known.push((text, value.clone()));
        }
        value
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", type_name::<Self>(), self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let wrong = match self.arity {
            Arity::Between(least, most) => !(least..=most).contains(&types.len()),
            Arity::Any => types.is_empty(),
        };
        if wrong {
            let wanted = match self.arity {
                Arity::Between(a, b) if a == b => a.to_string(),
                Arity::Between(a, b) => format!("{a} to {b}"),
                Arity::Any => "one or more".to_owned(),
            };
            return Err(DataFusionError::Plan(format!(
                "`{}` takes {wanted} arguments, not {}",
                self.name,
                types.len()
            )));
        }
        Ok(types
            .iter()
            .enumerate()
            .map(|(i, given)| self.takes.get(i).or(self.takes.last()).unwrap_or(given).clone())
            .collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let result = match self.run {
            Run::Arrays(run) => run(&ColumnarValue::values_to_arrays(&args.args)?)?,
            Run::Args(run) => run(&Args { values: &args.args, rows: if constant { 1 } else { args.number_rows } })?,
        };
        if constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}
