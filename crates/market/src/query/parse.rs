//! The grammar of queries, in winnow's combinators:
//!
//! ```text
//! any       = all { "or" all }
//! all       = part { [ "and" ] part }            part after part is "and"
//! part      = "not" part | "(" any ")" | condition
//! condition = field comparison value | field [ "in" ] range | field "in" ( range | "[" value { "," value } "]" )
//! ```

use super::{
    Conjunct, QueryError,
    expr::{Condition, Expr},
    fields::{FIELDS, find},
    nearest_field,
    operand::{self, Comparison},
};
use winnow::{
    Parser,
    combinator::{alt, delimited, opt, peek, separated},
    error::{ErrMode, ParserError},
    stream::{LocatingSlice, Location, Stateful, Stream},
    token::{any, literal, take_till, take_while},
};

/// The longest query, in bytes: a page of conditions.
pub const MAX_QUERY_BYTES: usize = 4_096;
/// The most values that all conditions of a query name together: each costs every offer a comparison.
pub const MAX_TERMS: usize = 128;
/// How deep parentheses and negations may be nested: the reader and the evaluation call themselves as deep.
pub const MAX_NESTING: usize = 32;

/// What is left to be read, where it begins, and what has been used up of the bounds.
type Input<'a> = Stateful<LocatingSlice<&'a str>, Used<'a>>;
type Read<T> = Result<T, ErrMode<Fault>>;

#[derive(Clone, Debug)]
struct Used<'a> {
    text: &'a str,
    terms: usize,
    nesting: usize,
}

/// What is wrong, and at which byte.
#[derive(Clone, Debug)]
struct Fault {
    at: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Field(String),
    Operator(usize),
    Value(String),
    Bound(&'static str),
    Syntax(&'static str),
}

impl<'a> ParserError<Input<'a>> for Fault {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self { at: input.current_token_start(), what: What::Syntax("cannot be read from here on") }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

fn fail<T>(at: usize, what: What) -> Read<T> {
    Err(ErrMode::Cut(Fault { at, what }))
}

/// Reads a query as the conditions that must all be met.
pub(super) fn query(text: &str) -> Result<Vec<Conjunct>, QueryError> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(QueryError::Bound { at: 1, problem: "the query is longer than 4,096 bytes" });
    }
    let used = Used { text, terms: 0, nesting: 0 };
    let mut input = Stateful { input: LocatingSlice::new(text), state: used };
    whole(&mut input).map_err(|error| told(text, error))
}

fn told(text: &str, error: ErrMode<Fault>) -> QueryError {
    let fault = match error {
        ErrMode::Backtrack(fault) | ErrMode::Cut(fault) => fault,
        ErrMode::Incomplete(_) => Fault { at: text.len(), what: What::Syntax("something is missing") },
    };
    let at = text.get(..fault.at).map_or(0, |before| before.chars().count()) + 1;
    match fault.what {
        What::Field(word) => QueryError::UnknownField { at, nearest: nearest_field(&word), word },
        What::Operator(field) => QueryError::Operator { at, field: FIELDS.get(field).map_or("", |field| field.name) },
        What::Value(problem) => QueryError::Value { at, problem },
        What::Bound(problem) => QueryError::Bound { at, problem },
        What::Syntax(problem) => QueryError::Syntax { at, problem },
    }
}

fn whole(input: &mut Input<'_>) -> Read<Vec<Conjunct>> {
    blanks(input)?;
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let conjuncts = disjunction(input)?;
    blanks(input)?;
    match input.peek_token() {
        None => Ok(conjuncts),
        Some(_) => fail(input.current_token_start(), What::Syntax("there is a parenthesis too many")),
    }
}

fn blanks(input: &mut Input<'_>) -> Read<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `word`, in any case, and not the beginning of a longer one.
fn keyword<'a>(word: &'static str) -> impl FnMut(&mut Input<'a>) -> Read<()> {
    move |input| {
        take_while(1.., is_of_a_word).verify(|found: &str| found.eq_ignore_ascii_case(word)).void().parse_next(input)
    }
}

fn disjunction(input: &mut Input<'_>) -> Read<Vec<Conjunct>> {
    blanks(input)?;
    let from = input.current_token_start();
    let mut branches = vec![conjunction(input)?];
    while opt(delimited(blanks, keyword("or"), blanks)).parse_next(input)?.is_some() {
        branches.push(conjunction(input)?);
    }
    if branches.len() == 1 {
        return Ok(branches.pop().unwrap_or_default());
    }
    let expr = Expr::Any(branches.into_iter().map(all_of).collect());
    Ok(vec![Conjunct { text: since(input, from), expr }])
}

fn conjunction(input: &mut Input<'_>) -> Read<Vec<Conjunct>> {
    let mut conjuncts = Vec::new();
    loop {
        let mut joined = false;
        blanks(input)?;
        while opt(keyword("and")).parse_next(input)?.is_some() {
            joined = true;
            blanks(input)?;
        }
        let ends = alt((peek(keyword("or")), peek(literal(")")).void())).parse_next(input).is_ok() || input.is_empty();
        match (ends, conjuncts.is_empty() || joined) {
            (false, _) => conjuncts.extend(part(input)?),
            (true, false) => return Ok(conjuncts),
            (true, true) => return fail(input.current_token_start(), What::Syntax("a condition is missing here")),
        }
    }
}

fn part(input: &mut Input<'_>) -> Read<Vec<Conjunct>> {
    let from = input.current_token_start();
    if opt(keyword("not")).parse_next(input)?.is_some() {
        blanks(input)?;
        let inner = nested(input, from, |input| {
            if input.is_empty() {
                fail(input.current_token_start(), What::Syntax("a condition is missing here"))
            } else {
                part(input)
            }
        })?;
        return Ok(vec![Conjunct { expr: all_of(inner).negate(), text: since(input, from) }]);
    }
    if opt(literal("(")).parse_next(input)?.is_some() {
        let inner = nested(input, from, disjunction)?;
        blanks(input)?;
        return match opt(literal(")")).parse_next(input)? {
            Some(_) => Ok(inner),
            None => fail(from, What::Syntax("this parenthesis is not closed")),
        };
    }
    let expr = Expr::Test(condition(input)?);
    Ok(vec![Conjunct { expr, text: since(input, from) }])
}

fn nested<'a, T>(input: &mut Input<'a>, at: usize, read: impl FnOnce(&mut Input<'a>) -> Read<T>) -> Read<T> {
    input.state.nesting += 1;
    if input.state.nesting > MAX_NESTING {
        return fail(at, What::Bound("conditions are nested more than 32 deep"));
    }
    let inner = read(input)?;
    input.state.nesting -= 1;
    Ok(inner)
}

fn all_of(mut conjuncts: Vec<Conjunct>) -> Expr {
    match conjuncts.len() {
        1 => conjuncts.pop().map_or(Expr::All(Vec::new()), |only| only.expr),
        _ => Expr::All(conjuncts.into_iter().map(|conjunct| conjunct.expr).collect()),
    }
}

/// What was read since a byte.
fn since(input: &Input<'_>, from: usize) -> String {
    input.state.text.get(from..input.current_token_start()).unwrap_or("").trim().to_owned()
}

fn condition(input: &mut Input<'_>) -> Read<Condition> {
    let at = input.current_token_start();
    let name: &str = take_while(0.., is_of_a_word).parse_next(input)?;
    let Some(field) = find(name) else {
        let shown = if name.is_empty() { any.parse_next(input).map(String::from)? } else { name.to_owned() };
        return fail(at, What::Field(shown));
    };
    blanks(input)?;
    let operator_at = input.current_token_start();
    let (comparison, operands) = match opt(comparison).parse_next(input)? {
        Some(comparison) => (comparison, vec![value(input)?]),
        None if opt(keyword("in")).parse_next(input)?.is_some() => (Comparison::Equal, list(input, field)?),
        None => match opt(word).parse_next(input)? {
            Some(range) if operand::is_range(field, range) => (Comparison::Equal, vec![(operator_at, range)]),
            _ => return fail(operator_at, What::Operator(field)),
        },
    };
    input.state.terms += operands.len();
    if input.state.terms > MAX_TERMS {
        return fail(at, What::Bound("the query names more than 128 values"));
    }
    let words: Vec<&str> = operands.iter().map(|(_, word)| *word).collect();
    match operand::test(field, comparison, &words) {
        Ok((field, test)) => Ok(Condition { field, test }),
        Err((which, problem)) => fail(operands.get(which).map_or(at, |(at, _)| *at), What::Value(problem)),
    }
}

fn comparison(input: &mut Input<'_>) -> Read<Comparison> {
    alt((
        // the longest first, so that `>=` is not read as `>`
        literal(">=").value(Comparison::GreaterOrEqual),
        literal("<=").value(Comparison::LessOrEqual),
        literal("!=").value(Comparison::NotEqual),
        literal("==").value(Comparison::Equal),
        literal("=").value(Comparison::Equal),
        literal(">").value(Comparison::Greater),
        literal("<").value(Comparison::Less),
    ))
    .parse_next(input)
}

/// A value without quotation marks, up to a blank or a bracket.
fn word<'a>(input: &mut Input<'a>) -> Read<&'a str> {
    take_till(1.., |c: char| c.is_whitespace() || "[](),".contains(c)).parse_next(input)
}

/// A value, and where it stands.
fn value<'a>(input: &mut Input<'a>) -> Read<(usize, &'a str)> {
    blanks(input)?;
    let at = input.current_token_start();
    if opt(literal("\"")).parse_next(input)?.is_some() {
        let text = take_till(0.., '"').parse_next(input)?;
        return match opt(literal("\"")).parse_next(input)? {
            Some(_) => Ok((at, text)),
            None => fail(at, What::Value("the quotation is not closed".to_owned())),
        };
    }
    match opt(word).parse_next(input)? {
        Some(word) => Ok((at, word)),
        None => fail(at, What::Value("a value is missing".to_owned())),
    }
}

/// What stands behind `in`: values in brackets, or a range.
fn list<'a>(input: &mut Input<'a>, field: usize) -> Read<Vec<(usize, &'a str)>> {
    blanks(input)?;
    let at = input.current_token_start();
    if opt(literal("[")).parse_next(input)?.is_none() {
        return match opt(word).parse_next(input)? {
            Some(range) if operand::is_range(field, range) => Ok(vec![(at, range)]),
            _ => fail(at, What::Value("expected a list such as [KR,JP], or a range such as 1..2.5".to_owned())),
        };
    }
    let values = separated(1.., value, (blanks, literal(","))).parse_next(input)?;
    blanks(input)?;
    match opt(literal("]")).parse_next(input)? {
        Some(_) => Ok(values),
        None => fail(at, What::Value("the list is not closed".to_owned())),
    }
}
