//! Conditions and how they are joined. Negations are carried down to the conditions as a query is read, which three-valued logic allows
//! (an unknown value stays unknown either way), so that there is only "all", "any" and the test of one field.

use super::{
    Candidate,
    fields::{FIELDS, Field},
    operand::{runs_on, show},
    ranges::Ranges,
    read::{Cell, ITEM_END},
    unit::{Kind, Match},
};

/// What a field is tested for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// Its number is one of these.
    Within(Ranges),
    /// Its text matches one of these words, or none of them.
    Words { words: Vec<String>, negated: bool },
}

/// One field and its test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) field: usize,
    pub(crate) test: Test,
}

/// Conditions joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Test(Condition),
}

impl Expr {
    /// The contrary. What is unknown stays so.
    pub(crate) fn negate(self) -> Self {
        match self {
            Self::All(parts) => Self::Any(parts.into_iter().map(Self::negate).collect()),
            Self::Any(parts) => Self::All(parts.into_iter().map(Self::negate).collect()),
            Self::Test(Condition { field, test }) => {
                let test = match test {
                    Test::Within(ranges) => Test::Within(ranges.complement()),
                    Test::Words { words, negated } => Test::Words { words, negated: !negated },
                };
                Self::Test(Condition { field, test })
            }
        }
    }

    /// Whether it holds for a candidate: true, false, or unknown (Kleene's logic).
    pub(crate) fn holds(&self, candidate: &Candidate<'_>) -> Option<bool> {
        match self {
            Self::All(parts) => join(parts, candidate, true),
            Self::Any(parts) => join(parts, candidate, false),
            Self::Test(condition) => condition.holds(candidate),
        }
    }

    /// Every condition in it.
    pub(crate) fn conditions(&self) -> Vec<&Condition> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::conditions).collect(),
            Self::Test(condition) => vec![condition],
        }
    }
}

/// `all` when `neutral` is true, `any` when it is false: the contrary of the neutral value decides at once, and the unknown else.
fn join(parts: &[Expr], candidate: &Candidate<'_>, neutral: bool) -> Option<bool> {
    let mut joined = Some(neutral);
    for part in parts {
        match part.holds(candidate) {
            Some(value) if value != neutral => return Some(value),
            Some(_) => {}
            None => joined = None,
        }
    }
    joined
}

impl Condition {
    fn field(&self) -> Option<&'static Field> {
        FIELDS.get(self.field)
    }

    fn holds(&self, candidate: &Candidate<'_>) -> Option<bool> {
        let field = self.field()?;
        match ((field.read)(candidate), &self.test) {
            (Cell::Number(number), Test::Within(ranges)) => Some(ranges.contains(number)),
            (Cell::Text(text), Test::Words { words, negated }) => {
                Some(matches_any(field.kind, words, &text) != *negated)
            }
            _ => None,
        }
    }

    /// What a candidate's field has, beside its name.
    pub(crate) fn shown(&self, cell: &Cell<'_>) -> String {
        self.field().map_or_else(String::new, |field| format!("{} is {}", field.name, show(field, cell)))
    }
}

/// Whether a text is one of the words, as its kind of field has it.
pub(crate) fn matches_any(kind: Kind, words: &[String], text: &str) -> bool {
    match kind {
        Kind::Text(Match::Part) => {
            let text = text.to_lowercase();
            words.iter().any(|word| text.contains(word.as_str()))
        }
        Kind::Text(Match::Item) => text.split(ITEM_END).any(|item| words.iter().any(|word| is_word(word, item))),
        Kind::Text(Match::Target) => words.iter().any(|word| text.split(ITEM_END).all(|item| runs_on(word, item))),
        Kind::Provider => words.iter().any(|word| word == text),
        _ => words.iter().any(|word| is_word(word, text)),
    }
}

/// Whether a text is the word, which is in lower case.
fn is_word(word: &str, text: &str) -> bool {
    text.len() == word.len() && text.eq_ignore_ascii_case(word) || !text.is_ascii() && text.to_lowercase() == word
}
