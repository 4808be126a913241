//! What somebody may do.

use std::fmt;

/// One thing that somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// To read what a node shows.
    Observe,
    /// To follow a node.
    Follow,
    /// To change states.
    Mutate,
    /// Everything, and what shows addresses.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Follow, Self::Mutate, Self::Admin];

    /// Its name, in files, metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Follow => "follow",
            Self::Mutate => "mutate",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// All that somebody may do. [`Role::Admin`] implies the others; of these none implies another.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// Everything.
    pub const ALL: Self = Self(Role::Admin.bit());

    /// The same and `role`.
    #[must_use]
    pub const fn and(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    /// Whether `role` is among them.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & (role.bit() | Role::Admin.bit()) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = Role::ALL.into_iter().filter(|role| self.contains(*role));
        f.debug_set().entries(ours).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_implies_all_and_the_others_nothing() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(role));
            assert!(Roles::ALL.contains(role) && !Roles::default().contains(role));
            let one = Roles::default().and(role);
            for other in Role::ALL {
                let implied = role == Role::Admin || other == role;
                assert_eq!(one.contains(other), implied, "{role:?} {other:?}");
            }
        }
        assert!(Roles::default().is_empty() && !Roles::ALL.is_empty());
        assert_eq!(Role::named("Admin"), None);
    }
}
