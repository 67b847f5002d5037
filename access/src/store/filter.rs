//! Puts a listing's statement together from literal conditions.

use super::{
    MAX_ROWS,
    db::{Sql, Value},
};

/// A `SELECT` with conditions that are there only when asked for. All text is literal; values are bound.
pub(super) struct Select {
    sql: String,
    values: Vec<Value>,
    conditions: bool,
}

impl Select {
    /// Starts with `SELECT … FROM …`, without `WHERE`.
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), conditions: false }
    }

    /// Adds a condition; each `?` in it is the value.
    pub(super) fn and(mut self, condition: &'static str, value: impl Into<Value>) -> Self {
        self.begin();
        self.values.push(value.into());
        self.sql.push_str(&condition.replace('?', &format!("${}", self.values.len())));
        self.sql.push(')');
        self
    }

    /// Adds a comparison of a whole key; each `?` in it is the next of `values`.
    pub(super) fn and_key(mut self, condition: &'static str, values: Vec<Value>) -> Self {
        self.begin();
        let mut parts = condition.split('?');
        self.sql.push_str(parts.next().unwrap_or_default());
        for (value, part) in values.into_iter().zip(parts) {
            self.values.push(value);
            self.sql.push_str(&format!("${}{part}", self.values.len()));
        }
        self.sql.push(')');
        self
    }

    /// Adds a condition without a value.
    pub(super) fn and_literal(mut self, condition: &'static str) -> Self {
        self.begin();
        self.sql.push_str(condition);
        self.sql.push(')');
        self
    }

    fn begin(&mut self) {
        self.sql.push_str(if std::mem::replace(&mut self.conditions, true) { " AND (" } else { " WHERE (" });
    }

    /// Adds a condition if there is a value for it.
    pub(super) fn and_some(self, condition: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(v) => self.and(condition, v),
            None => self,
        }
    }

    /// Adds that a column is one of the values. There has to be one: of none, nothing needs to be asked.
    pub(super) fn and_in(
        mut self,
        column: &'static str,
        values: impl IntoIterator<Item = impl Into<Value>>,
    ) -> Self {
        self.begin();
        let first = self.values.len();
        self.values.extend(values.into_iter().map(Into::into));
        let places: Vec<String> = (first..self.values.len()).map(|n| format!("${}", n + 1)).collect();
        self.sql.push_str(&format!("{column} IN ({}))", places.join(", ")));
        self
    }

    /// Ends with the order and the most rows wanted (0: the most there can be).
    pub(super) fn finish(mut self, order: &'static str, limit: u32) -> (Sql, Vec<Value>) {
        let limit = if limit == 0 { MAX_ROWS } else { limit.min(MAX_ROWS) };
        self.sql.push_str(" ORDER BY ");
        self.sql.push_str(order);
        self.sql.push_str(&format!(" LIMIT {limit}"));
        (self.sql.into(), self.values)
    }
}
