//! Rows on their way into the tables.

use super::super::grammar::{Owner, State};
use super::{CHARGES, FLOORPLANS, Marks, Parser};

impl Parser<'_> {
    pub(super) fn lengths(&self) -> Marks {
        std::array::from_fn(|t| self.tables[t].rows())
    }

    pub(super) fn put(&mut self, table: usize, column: usize, text: Option<&str>) {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            self.tables[table].put(column, text);
        }
    }

    /// Starts a row that has a place among its owner's rows, counted from 1.
    pub(super) fn add(&mut self, table: usize, position: usize) {
        let row = self.tables[table].add();
        let place = if self.owned {
            row - self.starts[table] + 1
        } else {
            self.counts[table] += 1;
            self.counts[table]
        };
        let mut digits = [0; 20];
        self.tables[table].set(position, row, decimal(place, &mut digits));
    }

    pub(super) fn add_charge(&mut self, element: &str, amount: Option<&str>) {
        self.add(CHARGES, self.charge.position);
        self.put(CHARGES, self.charge.element, Some(element));
        self.put(CHARGES, self.charge.amount, amount);
    }

    pub(super) fn amount_column(&self) -> usize {
        match self.amount_type.as_str() {
            kind if kind.eq_ignore_ascii_case("Minimum") => self.charge.amount_min,
            kind if kind.eq_ignore_ascii_case("Maximum") => self.charge.amount_max,
            _ => self.charge.amount,
        }
    }

    pub(super) fn put_range(&mut self, state: State, range: &Range) {
        let min = if range.min.is_empty() { &range.average } else { &range.min };
        let max = if range.max.is_empty() { &range.average } else { &range.max };
        let (table, low, high) = match state {
            State::SquareFeet => (FLOORPLANS, self.plan.square_feet_min, self.plan.square_feet_max),
            State::MarketRent => (FLOORPLANS, self.plan.market_rent_min, self.plan.market_rent_max),
            State::EffectiveRent(Owner::Floorplan) => {
                (FLOORPLANS, self.plan.effective_rent_min, self.plan.effective_rent_max)
            }
            _ => {
                self.hold(self.unit.effective_rent_min, min);
                self.hold(self.unit.effective_rent_max, max);
                return;
            }
        };
        self.put(table, low, Some(min));
        self.put(table, high, Some(max));
    }

    /// Keeps a fact of an `ILS_Unit` for all units inside it.
    pub(super) fn hold(&mut self, column: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.held.len() == self.held_count {
            self.held.push(Default::default());
        }
        let (at, kept) = &mut self.held[self.held_count];
        *at = column;
        kept.clear();
        kept.push_str(text);
        self.held_count += 1;
    }
}

/// Attributes that say an amount or a range of them.
#[derive(Debug, Default)]
pub(super) struct Range {
    pub(super) exact: String,
    pub(super) min: String,
    pub(super) max: String,
    pub(super) average: String,
    pub(super) currency: String,
}

impl Range {
    pub(super) fn take(&mut self, name: &str, text: &str) {
        let slot = match name {
            "Exact" => &mut self.exact,
            "Min" => &mut self.min,
            "Max" => &mut self.max,
            "Avg" => &mut self.average,
            "Currency" | "CurrencyCode" => &mut self.currency,
            _ => return,
        };
        text.clone_into(slot);
    }

    pub(super) fn clear(&mut self) {
        for text in [&mut self.exact, &mut self.min, &mut self.max, &mut self.average, &mut self.currency] {
            text.clear();
        }
    }
}

fn decimal(mut n: usize, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 || at == 0 {
            return std::str::from_utf8(&digits[at..]).unwrap_or_default();
        }
    }
}
