//! Patterns of paths, which mean what they mean to the reference, that is to the crate `globset` with
//! literal separators; the tests compare the two. That crate comes with a library of regular
//! expressions, a twentieth of the program.
//!
//! A pattern becomes steps of a machine that is in many places of it at once, so that the cost for
//! each byte of a path is bounded by the length of the pattern, whatever is in it. Paths are read in
//! pieces: what leads to a directory is read once for all names in it.
//!
//! Everything is about bytes: `?` and `[..]` take one of the bytes of a letter beyond ASCII.

use std::iter::Peekable;
use std::mem;
use std::str::Chars;

/// A pattern, ready to be compared.
#[derive(Debug)]
pub(super) struct Pattern {
    steps: Vec<Step>,
}

/// What has to come next, or where to go on.
#[derive(Debug)]
enum Step {
    /// One byte of these, then the next step.
    Take(Bytes),
    /// The next step, and that one.
    Fork(usize),
    /// That one.
    Jump(usize),
    /// The pattern is through.
    End,
}

/// A set of bytes.
#[derive(Debug)]
enum Bytes {
    One(u8),
    /// All but the separator.
    Name,
    All,
    Class(Box<[bool; 256]>),
}

impl Bytes {
    fn contains(&self, byte: u8) -> bool {
        match self {
            Self::One(one) => *one == byte,
            Self::Name => byte != b'/',
            Self::All => true,
            Self::Class(class) => class[usize::from(byte)],
        }
    }
}

/// How much of a pattern some path has been through: all the steps that wait for a byte.
#[derive(Debug)]
pub(super) struct Progress(Vec<usize>);

/// Reads paths.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    steps: &'a [Step],
    /// In which round each step was reached last.
    reached: Vec<u64>,
    round: u64,
    pending: Vec<usize>,
}

impl Pattern {
    /// Parses a pattern; `None` if it is none, or beyond a limit.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts = Parser::new(text).parse()?;
        let mut steps = Vec::new();
        match parts.as_slice() {
            [Part::AnyDirectories] => repeat(&mut steps, Bytes::All),
            _ => compile(parts, &mut steps),
        }
        steps.push(Step::End);
        (steps.len() <= MAX_STEPS).then_some(Self { steps })
    }

    /// Begins to read.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            steps: &self.steps,
            reached: vec![0; self.steps.len()],
            round: 0,
            pending: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// Before the first byte.
    pub(super) fn start(&mut self) -> Progress {
        let mut places = Vec::new();
        self.round += 1;
        self.reach(0, &mut places);
        Progress(places)
    }

    /// After more bytes of a path.
    pub(super) fn read(&mut self, from: &Progress, bytes: &[u8]) -> Progress {
        let (mut places, mut next) = (from.0.clone(), Vec::new());
        for byte in bytes {
            self.round += 1;
            for place in places.drain(..) {
                let step = self.steps.get(place);
                if matches!(step, Some(Step::Take(bytes)) if bytes.contains(*byte)) {
                    self.reach(place + 1, &mut next);
                }
            }
            mem::swap(&mut places, &mut next);
        }
        Progress(places)
    }

    /// Whether the path matches as far as it was read.
    pub(super) fn is_match(&self, progress: &Progress) -> bool {
        let is_end = |place: &usize| matches!(self.steps.get(*place), Some(Step::End));
        progress.0.iter().any(is_end)
    }

    /// Adds a step, or those that it leads to, unless that was done in this round.
    fn reach(&mut self, step: usize, places: &mut Vec<usize>) {
        self.pending.push(step);
        while let Some(step) = self.pending.pop() {
            let Some(reached) = self.reached.get_mut(step) else {
                continue;
            };
            if mem::replace(reached, self.round) == self.round {
                continue;
            }
            match self.steps.get(step) {
                Some(Step::Fork(other)) => self.pending.extend([step + 1, *other]),
                Some(Step::Jump(other)) => self.pending.push(*other),
                Some(Step::Take(_) | Step::End) => places.push(step),
                None => {}
            }
        }
    }
}

/// A piece of a pattern.
#[derive(Debug)]
enum Part {
    One(Bytes),
    /// `*`
    AnyName,
    /// `**/`, where nothing comes before it.
    AnyDirectories,
    /// `/**/`
    Between,
    /// `/**`, where nothing comes behind it.
    Below,
    /// `{..}`, without those that are empty.
    Either(Vec<Vec<Self>>),
}

impl Part {
    /// Whether it says nothing at all.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Either(branches) if branches.is_empty())
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    /// The one before `current`.
    previous: Option<char>,
    current: Option<char>,
    /// What the innermost braces, and those around them, have so far; the whole pattern is the first.
    branches: Vec<Vec<Part>>,
    /// Where in `branches` those of each open brace begin.
    open: Vec<usize>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars().peekable(),
            previous: None,
            current: None,
            branches: vec![Vec::new()],
            open: Vec::new(),
        }
    }

    fn parse(mut self) -> Option<Vec<Part>> {
        while let Some(symbol) = self.advance() {
            match symbol {
                '?' => self.push(Part::One(Bytes::Name))?,
                '*' => self.star()?,
                '[' => self.class()?,
                '{' => {
                    self.open.push(self.branches.len());
                    self.branches.push(Vec::new());
                    if self.open.len() > MAX_DEPTH {
                        return None;
                    }
                }
                '}' => {
                    let mut branches = self.branches.split_off(self.open.pop()?);
                    branches.retain(|branch| !branch.iter().all(Part::is_empty));
                    self.push(Part::Either(branches))?;
                }
                ',' if !self.open.is_empty() => self.branches.push(Vec::new()),
                '\\' => {
                    let escaped = self.advance()?;
                    self.literal(escaped)?;
                }
                symbol => self.literal(symbol)?,
            }
        }
        let parts = self.branches.pop()?;
        self.branches.is_empty().then_some(parts)
    }

    fn advance(&mut self) -> Option<char> {
        self.previous = mem::replace(&mut self.current, self.rest.next());
        self.current
    }

    fn push(&mut self, part: Part) -> Option<()> {
        self.branches.last_mut()?.push(part);
        Some(())
    }

    fn literal(&mut self, symbol: char) -> Option<()> {
        let mut buffer = [0; 4];
        for byte in symbol.encode_utf8(&mut buffer).bytes() {
            self.push(Part::One(Bytes::One(byte)))?;
        }
        Some(())
    }

    fn star(&mut self) -> Option<()> {
        let previous = self.previous;
        if self.rest.next_if_eq(&'*').is_none() {
            return self.push(Part::AnyName);
        }
        self.previous = Some('*');
        let is_first = self.branches.last()?.is_empty();
        let is_nested = self.branches.len() > 1;
        let begins = previous == Some('/') || is_nested && matches!(previous, Some(',' | '{'));
        match self.rest.peek() {
            None | Some('/') if is_first => {
                self.advance();
                self.push(Part::AnyDirectories)
            }
            _ if is_first || !begins => self.push(Part::AnyName),
            Some('/') => {
                self.advance();
                self.behind_separator(Part::Between)
            }
            None => self.behind_separator(Part::Below),
            Some(',' | '}') if is_nested => self.behind_separator(Part::Below),
            Some(_) => self.push(Part::AnyName),
        }
    }

    /// Puts a part in the place of the separator before it.
    fn behind_separator(&mut self, part: Part) -> Option<()> {
        let parts = self.branches.last_mut()?;
        // What crosses directories already needs no other.
        if !matches!(parts.last(), Some(Part::AnyDirectories | Part::Below)) {
            parts.pop();
            parts.push(part);
        }
        Some(())
    }

    fn class(&mut self) -> Option<()> {
        let is_negated = self.rest.next_if(|it| matches!(it, '!' | '^')).is_some();
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut in_range = false;
        loop {
            let is_first = ranges.is_empty();
            match self.advance()? {
                ']' if !is_first => break,
                '-' if !is_first && !in_range => in_range = true,
                symbol if in_range => {
                    let (start, end) = ranges.last_mut()?;
                    *end = symbol;
                    if *end < *start {
                        return None;
                    }
                    in_range = false;
                }
                symbol => ranges.push((symbol, symbol)),
            }
        }
        if in_range {
            ranges.push(('-', '-'));
        }
        let mut class = Box::new([is_negated; 256]);
        for (start, end) in ranges {
            add(&mut class, start, end, !is_negated);
        }
        self.push(Part::One(Bytes::Class(class)))
    }
}

/// Puts the bytes of a range into a class: those between the last of its start and the first of its
/// end, and the other bytes of both.
fn add(class: &mut [bool; 256], start: char, end: char, is_in: bool) {
    let (mut first, mut second) = ([0; 4], [0; 4]);
    let first = start.encode_utf8(&mut first).as_bytes();
    let second = end.encode_utf8(&mut second).as_bytes();
    for byte in first.iter().chain(second) {
        class[usize::from(*byte)] = is_in;
    }
    if start != end
        && let (Some(from), Some(to)) = (first.last(), second.first())
    {
        for byte in *from..=*to {
            class[usize::from(byte)] = is_in;
        }
    }
}

fn compile(parts: Vec<Part>, steps: &mut Vec<Step>) {
    for part in parts {
        match part {
            Part::One(bytes) => steps.push(Step::Take(bytes)),
            Part::AnyName => repeat(steps, Bytes::Name),
            Part::AnyDirectories => optional_directories(steps),
            Part::Between => {
                steps.push(Step::Take(Bytes::One(b'/')));
                optional_directories(steps);
            }
            Part::Below => {
                steps.push(Step::Take(Bytes::One(b'/')));
                repeat(steps, Bytes::All);
            }
            Part::Either(branches) => either(branches, steps),
        }
    }
}

/// As many of these bytes as there are.
fn repeat(steps: &mut Vec<Step>, bytes: Bytes) {
    let start = steps.len();
    steps.push(Step::Fork(start + 3));
    steps.push(Step::Take(bytes));
    steps.push(Step::Jump(start));
}

/// Nothing, or anything up to a separator.
fn optional_directories(steps: &mut Vec<Step>) {
    steps.push(Step::Fork(steps.len() + 5));
    repeat(steps, Bytes::All);
    steps.push(Step::Take(Bytes::One(b'/')));
}

fn either(branches: Vec<Vec<Part>>, steps: &mut Vec<Step>) {
    let mut ends = Vec::new();
    let last = branches.len().saturating_sub(1);
    for (number, branch) in branches.into_iter().enumerate() {
        let fork = (number < last).then(|| {
            steps.push(Step::End);
            steps.len() - 1
        });
        compile(branch, steps);
        if let Some(fork) = fork {
            ends.push(steps.len());
            steps.push(Step::End);
            let next = steps.len();
            set(steps, fork, Step::Fork(next));
        }
    }
    let behind = steps.len();
    for end in ends {
        set(steps, end, Step::Jump(behind));
    }
}

/// Fills in a step, now that it is known where it leads.
fn set(steps: &mut [Step], at: usize, step: Step) {
    if let Some(place) = steps.get_mut(at) {
        *place = step;
    }
}

/// Steps of one pattern, each some ten bytes.
const MAX_STEPS: usize = 1 << 18;

/// Braces in braces.
const MAX_DEPTH: usize = 200;

#[cfg(test)]
mod tests;
