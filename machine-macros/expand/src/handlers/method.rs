//! A method with phases: what its signature and its phases say together.

use quote::quote;
use syn::Attribute;
use syn::parse::Parser;

use crate::diagnostics::{self as say, Errors};

use super::block::Item;
use super::mark::{self, Argument, Mark, Phase, Target};
use super::signature::{ReceiverKind, Signature};

pub(crate) struct Method {
    pub(crate) signature: Signature,
    /// Whether it negotiates.
    pub(crate) asks: bool,
    /// On what the method itself depends.
    pub(crate) conditions: Vec<Attribute>,
    pub(crate) bindings: Vec<Mark>,
}

impl Method {
    /// Takes the phases out of `item`. `None` where it has none, or mistakes, which are reported.
    pub(crate) fn take(item: &mut Item, errors: &mut Errors) -> Option<Self> {
        let before = errors.len();
        let marks = mark::take(&mut item.attributes, errors);
        let first = marks.first()?.span;
        let signature = Signature::parse(item.tokens.clone(), first, errors)?;
        let conditions = item.attributes.iter();
        let conditions = conditions.filter(|attribute| attribute.path().is_ident("cfg"));
        let method = Self {
            asks: marks[0].phase.asks(),
            signature,
            conditions: conditions.cloned().collect(),
            bindings: joined(marks),
        };
        method.check(errors);
        // Its receiver is what makes it a handler, whether it looks at it or not.
        let lint = Parser::parse2(
            Attribute::parse_outer,
            quote!(#[allow(clippy::unused_self)]),
        );
        item.attributes.extend(lint.unwrap_or_default());
        (errors.len() == before).then_some(method)
    }

    fn check(&self, errors: &mut Errors) {
        let first = &self.bindings[0];
        if let Some(other) = self
            .bindings
            .iter()
            .find(|other| other.phase.asks() != self.asks)
        {
            let names = (first.phase.name(), other.phase.name());
            let (asked, told) = if self.asks { names } else { (names.1, names.0) };
            errors.at(other.span, say::phases_mixed(asked, told));
            return;
        }
        self.check_receiver(first.phase, errors);
        self.check_context(first.phase, errors);
        for binding in &self.bindings {
            self.check_binding(binding, errors);
        }
    }

    fn check_receiver(&self, phase: Phase, errors: &mut Errors) {
        let name = &self.signature.name;
        let Some(receiver) = self.signature.receiver else {
            let wanted = if self.asks { "&self" } else { "&mut self" };
            errors.at(name.span(), say::no_receiver(&name.to_string(), wanted));
            return;
        };
        match receiver.kind {
            ReceiverKind::Other => errors.at(receiver.at, say::receiver_by_value(self.asks)),
            ReceiverKind::Mutable if self.asks => {
                errors.at(receiver.at, say::receiver_mutable(phase.name()));
            }
            ReceiverKind::Mutable | ReceiverKind::Shared => {}
        }
    }

    fn check_context(&self, phase: Phase, errors: &mut Errors) {
        let wrong = if self.asks { "Final" } else { "Negotiation" };
        let right = if self.asks { "Negotiation" } else { "Final" };
        if let Some(context) = &self.signature.context
            && context.of.as_ref().is_some_and(|of| of == wrong)
        {
            errors.at(context.at, say::context_kind(phase.name(), wrong, right));
        }
    }

    fn check_binding(&self, binding: &Mark, errors: &mut Errors) {
        let variables = &self.signature.variables;
        let phase = binding.phase;
        if phase.is_any() {
            if let Some(variable) = variables.first() {
                errors.at(
                    variable.span,
                    say::any_variable(phase.name(), &variable.name),
                );
            }
            return;
        }
        let targets = || binding.targets.iter().chain(&binding.after);
        let before = errors.len();
        for argument in targets().flat_map(|target| target.arguments.iter().flatten()) {
            if let Argument::Variable(name) = argument
                && !variables.iter().any(|variable| name == &variable.name)
            {
                let known = variables.iter().map(|variable| variable.name.as_str());
                let name_text = name.to_string();
                let similar = say::similar(&name_text, known);
                errors.at(name.span(), say::argument_unknown(&name_text, similar));
            }
        }
        if errors.len() > before {
            return;
        }
        for variable in variables {
            if let Some(target) = idle(binding, &variable.name) {
                let name = target.name.to_string();
                errors.at(
                    target.name.span(),
                    say::variable_idle(&name, &variable.name, target.is_accessor()),
                );
                return;
            }
        }
    }
}

/// What is the same for every value of `variable`. Of a pair one side may be.
fn idle<'m>(binding: &'m Mark, variable: &str) -> Option<&'m Target> {
    let same = |target: &&Target| !target.depends_on(variable);
    let idle = binding.targets.iter().find(same)?;
    let makes_up = !binding.after.is_empty() && !binding.after.iter().any(|target| same(&target));
    (!makes_up).then_some(idle)
}

/// The phases, of several attributes of one phase one; pairs stay apart.
fn joined(marks: Vec<Mark>) -> Vec<Mark> {
    let mut joined: Vec<Mark> = Vec::new();
    for mark in marks {
        let same = joined
            .iter_mut()
            .find(|known| known.phase == mark.phase && mark.after.is_empty());
        match same {
            Some(known) => known.targets.extend(mark.targets),
            None => joined.push(mark),
        }
    }
    joined
}
