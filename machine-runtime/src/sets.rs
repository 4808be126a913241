//! Sets of states that most machines want, ready to be inherited.

use crate::states;

states! {
    /// What a process goes through, whatever it does: `enum Mine: Basic { … }`.
    pub enum Basic {
        /// The network failed.
        #[multi]
        #[add(Exception)]
        #[require(Exception)]
        ErrNetwork,

        /// A handler took longer than it may.
        #[multi]
        #[add(Exception)]
        #[require(Exception)]
        ErrHandlerTimeout,

        /// Work may begin.
        Start,

        /// Everything that was started is there.
        #[require(Start)]
        Ready,

        /// Asked whether it still answers.
        #[multi]
        Healthcheck,

        /// It answers.
        Heartbeat,
    }
}

states! {
    /// What a node has that others copy their states from.
    pub enum StateSource {
        /// A node that copies states failed.
        #[require(Exception)]
        ErrOnClient,
    }
}
