//! A sequence needs no layout: participants stand side by side, messages below each other.

use std::fmt::Write as _;

use super::paper::{MARGIN, ROW, TOP, begin, cut, escape, width};
use crate::graph::sequence::{Kind, Message, Sequence};

/// How far the participants of a sequence are from each other.
const APART: f64 = 230.0;

/// How high a message is.
const MESSAGE: f64 = 34.0;

/// The picture of a sequence.
pub(in crate::graph) fn sequence(sequence: &Sequence) -> String {
    let participants = sequence.participants();
    let messages = sequence.messages();
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let x = |place: usize| MARGIN + APART * (count(place) + 0.5);
    let bottom = TOP + ROW + MESSAGE * (count(messages.len()) + 1.0);
    let longest = messages.iter().map(|message| width(&message.text));
    let wide = APART * count(participants.len()) + 2.0 * MARGIN;
    let wide = longest.fold(wide.max(width(&sequence.title) + 2.0 * MARGIN), f64::max);
    let mut svg = begin(&escape(&sequence.title), wide, bottom + MARGIN);
    for (name, colour) in [("call", "#495057"), ("refusal", "#c92a2a")] {
        let _ = writeln!(
            svg,
            "<marker id=\"{name}\" viewBox=\"0 0 10 10\" refX=\"10\" refY=\"5\" markerWidth=\"9\" \
             markerHeight=\"9\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L10 5L0 10z\" \
             fill=\"{colour}\"/></marker>"
        );
    }
    svg.push_str("</defs>\n");
    for (place, name) in participants.iter().enumerate() {
        let middle = x(place);
        let _ = writeln!(
            svg,
            "<path class=\"line\" d=\"M{middle} {:.1}V{bottom:.1}\" stroke=\"#ced4da\"/><rect x=\"{:.1}\" \
             y=\"{TOP}\" width=\"{:.1}\" height=\"{ROW}\" rx=\"4\" fill=\"#e9ecef\" stroke=\"#adb5bd\"/><text \
             class=\"frame\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            TOP + ROW,
            middle - APART / 2.0 + 10.0,
            APART - 20.0,
            TOP + ROW / 2.0 + 4.5,
            escape(&cut(name, APART - 30.0)),
        );
    }
    for (place, message) in messages.iter().enumerate() {
        let Message {
            from,
            to,
            text,
            kind,
        } = message;
        let (begin, end) = (x(*from), x(*to));
        let y = TOP + ROW + MESSAGE * (count(place) + 1.0);
        let (name, colour, dashes) = match kind {
            Kind::Call => ("call", "#495057", ""),
            Kind::Answer => ("call", "#495057", " stroke-dasharray=\"5 3\""),
            Kind::Refusal => ("refusal", "#c92a2a", " stroke-dasharray=\"5 3\""),
        };
        let middle = f64::midpoint(begin, end);
        // What is wider than its line begins at the margin or ends within the picture.
        let half = width(text) / 2.0;
        let middle = middle.min(wide - MARGIN - half).max(MARGIN + half);
        let _ = writeln!(
            svg,
            "<path class=\"line\" d=\"M{begin:.1} {y:.1}H{end:.1}\" stroke=\"{colour}\" \
             marker-end=\"url(#{name})\"{dashes}/><text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\" style=\"fill:{colour}\">{}</text>",
            y - 5.0,
            escape(text),
        );
    }
    svg.push_str("</svg>\n");
    svg
}
