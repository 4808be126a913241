//! Diagrams of any schema and of single transitions.
