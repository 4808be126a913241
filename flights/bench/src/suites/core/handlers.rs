//! Handlers that do nothing, to see what it costs that they are there.

use machine_runtime::{Binder, Handlers, Verdict};

use crate::states::Published148;

/// One final handler, of one state.
pub(super) struct One;

impl Handlers<Published148> for One {
    fn bind(&self, binder: &mut Binder<Self, Published148>) {
        binder.state(Published148::Flight1Departed, &[], |_, _, _| ().into());
    }
}

/// Exit, enter, end and state handlers of every state.
pub(super) struct All;

impl Handlers<Published148> for All {
    fn bind(&self, binder: &mut Binder<Self, Published148>) {
        let all: &[Published148] = <Published148 as machine_runtime::States>::ALL;
        binder.exit(all, &[], |_, _, _| Verdict::Accept);
        binder.enter(all, &[], |_, _, _| Verdict::Accept);
        binder.end(all, &[], |_, _, _| ().into());
        binder.state(all, &[], |_, _, _| ().into());
    }
}
