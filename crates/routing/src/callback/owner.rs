//! `Owner`: the region, the instance and the incarnation that a callback URI names.

use crate::name::{Name, NameRef};

/// The owner of a call: a region, an instance and its incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The region.
    pub region: Name,
    /// The instance.
    pub instance: Name,
    /// Its incarnation, `0` if the source reports none.
    pub incarnation: Name,
}

impl Owner {
    /// Returns the owner with borrowed names.
    pub fn as_ref(&self) -> OwnerRef<'_> {
        OwnerRef {
            region: self.region.as_name_ref(),
            instance: self.instance.as_name_ref(),
            incarnation: self.incarnation.as_name_ref(),
        }
    }
}

impl PartialEq<OwnerRef<'_>> for Owner {
    fn eq(&self, other: &OwnerRef<'_>) -> bool {
        self.as_ref() == *other
    }
}

/// An owner with names that are borrowed, from the path of a callback for example. Finding the instance of a
/// request needs no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerRef<'a> {
    /// The region.
    pub region: NameRef<'a>,
    /// The instance.
    pub instance: NameRef<'a>,
    /// Its incarnation, `0` if the source reports none.
    pub incarnation: NameRef<'a>,
}

impl<'a> OwnerRef<'a> {
    /// Returns a copy that owns its names.
    pub fn to_owner(self) -> Owner {
        Owner {
            region: self.region.to_name(),
            instance: self.instance.to_name(),
            incarnation: self.incarnation.to_name(),
        }
    }

    pub(super) fn names(self) -> [NameRef<'a>; 3] {
        [self.region, self.instance, self.incarnation]
    }
}
