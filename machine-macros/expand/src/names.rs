//! Which line a name belongs to.
//!
//! The *shape* of a name has `#` for every number in it. In names where each loop variable stands
//! between letters, shape and numbers together are the name, so duplicates and references are
//! settled by comparing ranges, line by line. Only names without variables, and those that run
//! numbers together (`Seat{row}{place}`), are kept one by one.

use std::collections::BTreeMap;

use proc_macro2::Ident;

use crate::diagnostics::{self as say, Errors};
use crate::input::Piece;
use crate::template::Template;

/// A name's shape, and what stands for each `#`.
#[derive(Clone)]
pub(crate) struct Shape {
    text: String,
    slots: Vec<Slot>,
    /// Whether shape and numbers determine the name.
    clear: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Slot {
    Number(u32),
    Variable(String),
}

/// The shape of the name made of `pieces`.
pub(crate) fn shape(pieces: &[Piece]) -> Shape {
    let mut shape = Shape {
        text: String::new(),
        slots: Vec::new(),
        clear: true,
    };
    let mut variables: Vec<&Ident> = Vec::new();
    let mut after_variable = false;
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                shape.clear &= !(after_variable && text.starts_with(|c: char| c.is_ascii_digit()));
                shape.push_text(text);
                after_variable = false;
            }
            Piece::Variable(variable) => {
                let digit = shape
                    .text
                    .ends_with(|c: char| c == '#' || c.is_ascii_digit());
                shape.clear &= !digit && !variables.contains(&variable);
                variables.push(variable);
                shape.text.push('#');
                shape.slots.push(Slot::Variable(variable.to_string()));
                after_variable = true;
            }
        }
    }
    shape
}

impl Shape {
    /// Whether names of both shapes differ in their numbers only.
    pub(crate) fn resembles(&self, other: &Self) -> bool {
        self.text == other.text
    }

    fn push_text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, digits) = rest.split_at(start);
            let end = digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len());
            let (digits, after) = digits.split_at(end);
            self.text.push_str(before);
            // No loop writes a leading zero, or a number beyond `u32`: such digits are plain text.
            match digits.parse() {
                Ok(number) if digits.len() == 1 || !digits.starts_with('0') => {
                    self.text.push('#');
                    self.slots.push(Slot::Number(number));
                }
                _ => self.text.push_str(digits),
            }
            rest = after;
        }
        self.text.push_str(rest);
    }
}

/// Appends `number` in decimal.
pub(crate) fn write_number(number: u32, into: &mut String) {
    if number >= 10 {
        write_number(number / 10, into);
    }
    into.push(char::from(b"0123456789"[(number % 10) as usize]));
}

/// A line, and the values of the loop variables by axis.
type Copy = (usize, Vec<u32>);

/// All names of a template.
pub(crate) struct Names {
    single: BTreeMap<String, Copy>,
    shapes: BTreeMap<String, Vec<usize>>,
    patterns: Vec<String>,
}

impl Names {
    /// Collects the names of `template`; reports duplicates and drops their lines.
    pub(crate) fn collect(template: &mut Template<'_>, errors: &mut Errors) -> Self {
        let mut names = Self {
            single: BTreeMap::new(),
            shapes: BTreeMap::new(),
            patterns: Vec::new(),
        };
        let has_variables =
            |template: &Template<'_>, line: usize| !template.lines[line].path.is_empty();
        for line in 0..template.lines.len() {
            let text = template.lines[line].state.name.pattern();
            names.patterns.push(text);
            if template.lines[line].dropped {
                continue;
            }
            if line > 0 && names.patterns[line] == "Exception" {
                errors.at(template.lines[line].at, say::EXCEPTION);
                template.lines[line].dropped = true;
            } else if !is_identifier(&names.patterns[line]) {
                errors.at(template.lines[line].at, say::keyword(&names.patterns[line]));
                template.lines[line].dropped = true;
            } else if has_variables(template, line) && template.lines[line].shape.clear {
                names.add_shape(template, line, errors);
            }
        }
        for line in 0..template.lines.len() {
            let Some(written) = template.lines.get(line).filter(|line| !line.dropped) else {
                continue;
            };
            if !(has_variables(template, line) && written.shape.clear) {
                names.add_singles(template, line, errors);
            }
        }
        template.measure();
        names
    }

    fn add_shape(&mut self, template: &mut Template<'_>, line: usize, errors: &mut Errors) {
        let others = self
            .shapes
            .entry(template.lines[line].shape.text.clone())
            .or_default();
        let twin = others.iter().find(|other| {
            let (a, b) = (
                &template.lines[line].shape.slots,
                &template.lines[**other].shape.slots,
            );
            a.iter().zip(b).all(|(a, b)| {
                let (a, b) = (range(template, a), range(template, b));
                a.0 <= b.1 && b.0 <= a.1
            })
        });
        if let Some(twin) = twin {
            report(template, line, *twin, &self.patterns[line], errors);
        } else {
            others.push(line);
        }
    }

    fn add_singles(&mut self, template: &mut Template<'_>, line: usize, errors: &mut Errors) {
        let mut duplicate = None;
        let written = &template.lines[line];
        if template.group(&self.patterns[line]).is_some() {
            errors.at(
                written.at,
                say::duplicate("name", &self.patterns[line], "a group"),
            );
        }
        template.rounds(&written.path, |values| {
            let mut name = String::new();
            template.write_name(&written.state.name.pieces, values, &mut name);
            if duplicate.is_none() {
                match self.find(template, &name) {
                    Some((other, _)) => duplicate = Some((other, name)),
                    None => {
                        self.single.insert(name, (line, values.to_vec()));
                    }
                }
            }
        });
        if let Some((other, name)) = duplicate {
            if !template.lines[line].path.is_empty() {
                self.single.retain(|_, (owner, _)| *owner != line);
            }
            report(template, line, other, &name, errors);
        }
    }

    /// The line and round that `name` comes from.
    pub(crate) fn find(&self, template: &Template<'_>, name: &str) -> Option<Copy> {
        if let Some(copy) = self.single.get(name) {
            return Some(copy.clone());
        }
        let numbers = shape(&[Piece::Text(name.to_owned())]);
        let lines = self.shapes.get(&numbers.text)?;
        lines.iter().find_map(|line| {
            let mut values = vec![u32::MAX; template.axes.len()];
            let slots = template.lines[*line].shape.slots.iter().zip(&numbers.slots);
            for (slot, number) in slots {
                let Slot::Number(number) = *number else {
                    return None;
                };
                let (first, last) = range(template, slot);
                if !(first..=last).contains(&number) {
                    return None;
                }
                if let Slot::Variable(variable) = slot {
                    let axis = template
                        .axes
                        .iter()
                        .position(|axis| axis.name == *variable)?;
                    values[axis] = number;
                }
            }
            Some((*line, values))
        })
    }

    /// The line that is written exactly like `pattern`, whose shape is `shape`.
    pub(crate) fn line(
        &self,
        template: &Template<'_>,
        pattern: &str,
        shape: &Shape,
    ) -> Option<usize> {
        let lines = self.shapes.get(&shape.text)?;
        lines.iter().copied().find(|line| {
            self.patterns[*line] == pattern && !template.lines[*line].dropped && shape.clear
        })
    }

    /// The line whose names have this shape, if any line's do.
    pub(crate) fn shaped(&self, shape: &Shape) -> Option<usize> {
        self.shapes
            .get(&shape.text)
            .and_then(|lines| lines.first().copied())
    }

    /// How every line writes its name.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(String::as_str)
    }
}

fn range(template: &Template<'_>, slot: &Slot) -> (u32, u32) {
    match slot {
        Slot::Number(number) => (*number, *number),
        Slot::Variable(variable) => {
            let axis = template.axes.iter().find(|axis| axis.name == *variable);
            axis.map_or((0, u32::MAX), |axis| (axis.first, axis.last))
        }
    }
}

/// Reports that `line` declares the name of `first` again, and drops it.
fn report(template: &mut Template<'_>, line: usize, first: usize, name: &str, errors: &mut Errors) {
    template.lines[line].dropped = true;
    // Of an inherited state and one of the template, the latter is the one to change.
    let swapped =
        template.lines[line].inherited.is_some() && template.lines[first].inherited.is_none();
    let (told, other) = if swapped {
        (first, line)
    } else {
        (line, first)
    };
    let other = &template.lines[other];
    let pattern = other.state.name.pattern();
    let place = match other.inherited {
        Some(set) => format!("inherited from `{set}`"),
        None if pattern == name || line == first => "declared above".to_owned(),
        None => format!("declared by `{pattern}`"),
    };
    errors.at(
        template.lines[told].at,
        say::duplicate("state", name, &place),
    );
}

/// Whether a variant can have the name written as `pattern`.
fn is_identifier(pattern: &str) -> bool {
    let name = pattern.split('{').next().unwrap_or_default();
    if name.len() < pattern.len() {
        // With a number behind it no word is a keyword.
        return true;
    }
    syn::parse_str::<Ident>(name).is_ok()
}
