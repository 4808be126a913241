//! A store against a plain list of frames with full ticks, and what it does with frames that are wrong.

use super::*;

mod hostile;
mod model;
mod offline;
mod told;
mod tree;
