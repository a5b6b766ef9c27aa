//! Holds `docs/limits.md` against the sources: every constant it names has the value it says, and every constant that is named like a
//! bound stands in it. The sources are read as text, so that a bound may stay private to the module it bounds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Constants that are named like a bound and are none: how much a spelling may be off, what `doctor` takes for a good clock, and how long
/// it tries.
const NOT_BOUNDS: [&str; 4] = [
    "market::query::MAX_EDITS",
    "node::commands::doctor::outside::MAX_AHEAD_SECONDS",
    "node::commands::doctor::outside::MAX_BEHIND_SECONDS",
    "node::commands::doctor::outside::REACH_LIMIT",
];

/// Numbers are counts, bytes or milliseconds.
type Constants = BTreeMap<String, String>;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every constant with a number in it, by its path, as the expression that the source gives.
fn constants() -> Constants {
    let mut found = Constants::new();
    for folder in fs::read_dir(crates()).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        read_folder(&folder.join("src"), &name, &mut found);
    }
    found
}

fn read_folder(folder: &Path, path: &str, found: &mut Constants) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        let stem = entry.file_stem().unwrap().to_str().unwrap();
        if entry.is_dir() {
            read_folder(&entry, &format!("{path}::{stem}"), found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let whole = matches!(stem, "lib" | "mod") || (stem == "main" && path == "node");
            let path = if whole { path.to_owned() } else { format!("{path}::{stem}") };
            read_file(&fs::read_to_string(&entry).unwrap(), &path, found);
        }
    }
}

fn read_file(source: &str, path: &str, found: &mut Constants) {
    for line in source.lines() {
        let line =
            ["pub(crate) ", "pub(super) ", "pub "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
        let Some((name, rest)) = line.strip_prefix("const ").and_then(|line| line.split_once(": ")) else { continue };
        let Some((kind, value)) = rest.split_once(" = ") else { continue };
        if matches!(kind, "usize" | "u8" | "u16" | "u32" | "u64" | "i32" | "u128" | "Duration")
            && let Some(value) = value.strip_suffix(';')
        {
            found.insert(format!("{path}::{name}"), value.to_owned());
        }
    }
}

/// The value of an expression as the sources write them: numbers, other constants, `+ * / <<`, casts, and durations.
struct Evaluator<'a> {
    constants: &'a Constants,
    words: Vec<String>,
}

impl<'a> Evaluator<'a> {
    fn evaluate(constants: &'a Constants, expression: &str) -> Option<u64> {
        let mut spaced = String::new();
        for c in expression.replace("<<", " SHIFT ").chars() {
            match c {
                '(' | ')' | '+' | '*' | '/' => spaced.extend([' ', c, ' ']),
                _ => spaced.push(c),
            }
        }
        let words = spaced.split_whitespace().rev().map(str::to_owned).collect();
        let mut evaluator = Self { constants, words };
        let value = evaluator.shifted()?;
        evaluator.words.is_empty().then_some(value)
    }

    fn next_is(&mut self, word: &str) -> bool {
        let is = self.words.last().is_some_and(|next| next == word);
        if is {
            self.words.pop();
        }
        is
    }

    fn shifted(&mut self) -> Option<u64> {
        let mut value = self.sum()?;
        while self.next_is("SHIFT") {
            value <<= self.sum()?;
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<u64> {
        let mut value = self.product()?;
        while self.next_is("+") {
            value += self.product()?;
        }
        Some(value)
    }

    fn product(&mut self) -> Option<u64> {
        let mut value = self.atom()?;
        loop {
            if self.next_is("*") {
                value *= self.atom()?;
            } else if self.next_is("/") {
                value /= self.atom()?;
            } else {
                return Some(value);
            }
        }
    }

    fn atom(&mut self) -> Option<u64> {
        let word = self.words.pop()?;
        let value = match word.as_str() {
            "(" => self.closed()?,
            "Duration::from_secs" => self.argument()? * 1_000,
            "Duration::from_millis" => self.argument()?,
            number if number.starts_with(|c: char| c.is_ascii_digit()) => number.replace('_', "").parse().ok()?,
            name => self.constant(name)?,
        };
        if self.next_is("as") {
            self.words.pop()?;
        }
        Some(value)
    }

    fn argument(&mut self) -> Option<u64> {
        self.next_is("(").then_some(())?;
        self.closed()
    }

    fn closed(&mut self) -> Option<u64> {
        let value = self.shifted()?;
        self.next_is(")").then_some(value)
    }

    /// Another constant, which has one value wherever it stands.
    fn constant(&self, name: &str) -> Option<u64> {
        let last = name.rsplit("::").next()?;
        let ending = format!("::{last}");
        let mut values = self.constants.iter().filter(|(path, _)| path.ends_with(&ending)).filter(|(path, _)| {
            // what stands before the name narrows it down
            name.split("::").all(|part| path.split("::").any(|found| found == part))
        });
        let (_, expression) = values.next()?;
        values.next().is_none().then(|| Self::evaluate(self.constants, expression)).flatten()
    }
}

/// What the page writes: a number with thousands set off by commas, and a unit.
fn shown(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let scale = match unit {
        "" | "B" | "ms" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(number.replace(',', "").parse::<u64>().ok()? * scale)
}

/// The constants and values of the page.
fn page() -> Vec<(String, String)> {
    let text = fs::read_to_string(crates().join("../docs/limits.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let constant = cells.get(2)?.strip_prefix('`')?.strip_suffix('`')?;
        assert_eq!(cells.len(), 8, "six cells: {line}");
        Some((constant.to_owned(), cells[3].to_owned()))
    };
    text.lines().filter(|line| line.starts_with("| ")).filter_map(row).collect()
}

#[test]
fn every_limit_of_the_page_has_the_value_that_the_code_gives() {
    let constants = constants();
    let mut faults = Vec::new();
    for (constant, value) in page() {
        let found = constants.get(&constant).map(|expression| Evaluator::evaluate(&constants, expression));
        match (found, shown(&value)) {
            (None, _) => faults.push(format!("there is no {constant}")),
            (Some(found), said) if found.is_none() || found != said => {
                faults.push(format!("{constant} is {} ({found:?}), the page says {value}", constants[&constant]));
            }
            _ => {}
        }
    }
    assert!(faults.is_empty(), "docs/limits.md is wrong:\n{}", faults.join("\n"));
}

#[test]
fn every_constant_that_is_named_like_a_bound_stands_on_the_page() {
    let page: Vec<String> = page().into_iter().map(|(constant, _)| constant).collect();
    let bound = |name: &str| {
        name.starts_with("MAX_")
            || ["_LIMIT", "_WAIT"].iter().any(|ending| name.ends_with(ending))
            || ["QUEUE", "COMMANDS", "EVENTS", "ORDERS"].contains(&name)
    };
    let missing: Vec<_> = constants()
        .into_keys()
        .filter(|path| bound(path.rsplit("::").next().unwrap()))
        .filter(|path| !page.contains(path) && !NOT_BOUNDS.contains(&path.as_str()))
        .collect();
    assert!(missing.is_empty(), "bounds that docs/limits.md does not name:\n{}", missing.join("\n"));
}

#[test]
fn no_row_stands_twice_and_expressions_are_understood() {
    let mut names: Vec<_> = page().into_iter().map(|(constant, _)| constant).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);

    let mut constants = Constants::new();
    read_file(
        "/// One.\npub(crate) const MIB: usize = 1 << 20;\nconst B: Duration = Duration::from_secs(2 * 3);\n",
        "x",
        &mut constants,
    );
    assert_eq!(Evaluator::evaluate(&constants, "32 * x::MIB as u64 + 1"), Some((32 << 20) + 1));
    assert_eq!(Evaluator::evaluate(&constants, &constants["x::B"]), Some(6_000));
    assert_eq!(Evaluator::evaluate(&constants, "unknown"), None);
    assert_eq!(shown("1,088 KiB"), Some(1_088 << 10));
}
