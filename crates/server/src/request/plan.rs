//! The plan for a Graph notification on the webhook: which items go where, and how long that may take.
//!
//! Pure: a plan is computed from settings, the sender, the notification and what is known of instances and
//! regions. `handle` executes it and `explain` prints it, so the two cannot disagree.

use std::{borrow::Cow, time::Duration};

use http::HeaderValue;
use switchboard_notification::{Call, CallState, ChangeType, Data, Item, Notifications, ResourcePart};
use switchboard_routing::{Decision, Name, Policy, Traits};
use uuid::Uuid;

use crate::{
    config::{Placement, RedirectStatus},
    platform::{CALL_LIMIT, RECORDING_LIMIT},
};

/// The settings and the request that a plan is computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanContext<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) placement: &'a Placement,
    pub(crate) redirect_status: RedirectStatus,
    /// The token's tenant.
    pub(crate) tenant: Uuid,
    /// The app in the path of the request, which a redirect keeps.
    pub(crate) app_in_path: Option<Uuid>,
    /// The platform's header of this name.
    pub(crate) caller_region: Option<&'a str>,
    /// Another region redirected the request to this one, so it is not redirected again.
    pub(crate) is_redirected: bool,
}

/// The current knowledge of the regions and the fleet, which a plan asks for.
#[derive(Clone, Copy)]
pub(crate) struct Knowledge<'k> {
    /// True if the region can take a call.
    pub(crate) is_healthy: &'k dyn Fn(&Name) -> bool,
    /// The instance that probably owns the call with this id.
    pub(crate) probable_owner: &'k dyn Fn(&str) -> Option<Name>,
}

/// The parts of a notification, in the order of their first items.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) parts: Vec<PlannedPart<'a>>,
}

impl Plan<'_> {
    /// True if the items go to several owners.
    pub(crate) fn is_batch(&self) -> bool {
        self.parts.len() > 1
    }
}

/// The items of a notification that go to one owner.
#[derive(Debug)]
pub(crate) struct PlannedPart<'a> {
    /// The call: of the item that announces it, else of the first item.
    pub(crate) call_id: &'a str,
    /// The indices of the items, ascending.
    pub(crate) items: Vec<usize>,
    pub(crate) destination: Destination<'a>,
}

/// The owner of a part.
#[derive(Debug)]
pub(crate) enum Destination<'a> {
    /// A new call: its region, then an instance.
    NewCall(NewCallPlan<'a>),
    /// The instance that probably owns the call. `None` if no instance serves the app.
    ProbableOwner(Option<Name>),
}

/// The decisions about a new call that need no instance.
#[derive(Debug)]
pub(crate) struct NewCallPlan<'a> {
    /// The index of the item that announces the call.
    pub(crate) item: usize,
    pub(crate) call: &'a Call<'a>,
    /// The decision of the region policy.
    pub(crate) decision: Decision<'a>,
    /// The decisions of the rules in a dry run, which nothing follows. Always empty in a batch.
    pub(crate) shadows: Vec<Decision<'a>>,
    /// The region that the platform is redirected to. Always `None` in a batch: a redirect would take all
    /// parts along.
    pub(crate) redirect: Option<&'a Name>,
    /// The text by which the instances are ranked.
    pub(crate) affinity: Cow<'a, str>,
    /// The time in which an instance must accept the call, from its arrival.
    pub(crate) budget: Duration,
    /// The time in which the platform wants the call answered, from its arrival.
    pub(crate) limit: Duration,
}

impl<'a> PlanContext<'a> {
    /// Plans a notification.
    ///
    /// Each new call is a part with all items about it. Items about other calls form one part for each
    /// probable owner. Items about no call travel with the first part.
    pub(crate) fn plan(&self, notifications: &'a Notifications<'a>, knowledge: Knowledge<'_>) -> Plan<'a> {
        let items = &notifications.items;
        let groups = group(items, knowledge.probable_owner);
        let is_batch = groups.len() > 1;
        let parts = groups.into_iter().map(|group| PlannedPart {
            call_id: group.call_id,
            items: group.items,
            destination: match group.key {
                GroupKey::NewCall { item, call } => {
                    Destination::NewCall(self.new_call(group.call_id, item, call, is_batch, knowledge))
                }
                GroupKey::Owner(owner) => Destination::ProbableOwner(owner),
            },
        });
        Plan { parts: parts.collect() }
    }

    fn new_call(
        &self,
        call_id: &'a str,
        item: usize,
        call: &'a Call<'a>,
        is_batch: bool,
        knowledge: Knowledge<'_>,
    ) -> NewCallPlan<'a> {
        let traits = self.traits(call_id, call);
        let decision = self.policy.decide(&traits, self.is_redirected, knowledge.is_healthy);
        // No call of a batch is redirected, so no rule has a shadow there.
        let shadows = if is_batch {
            Vec::new()
        } else {
            self.policy.shadows(&decision, &traits, self.is_redirected, knowledge.is_healthy)
        };
        let (budget, limit) = if call.policy_recording {
            (self.placement.recording_budget, RECORDING_LIMIT)
        } else {
            (self.placement.budget, CALL_LIMIT)
        };
        NewCallPlan {
            item,
            call,
            redirect: decision.redirect.filter(|_| !is_batch),
            decision,
            shadows,
            affinity: self.placement.key.text(call_id, call, self.tenant),
            budget,
            limit,
        }
    }

    /// The properties of a new call that the rules of the region policy look at.
    pub(crate) fn traits(&self, call_id: &'a str, call: &'a Call<'a>) -> Traits<'a> {
        Traits { call, call_id, caller_region: self.caller_region, tenant: self.tenant }
    }

    /// The redirect to a region; `None` if the region is not a peer.
    pub(crate) fn redirection(&self, region: &Name) -> Option<Redirection> {
        let location = self.policy.location(region, self.app_in_path)?;
        let location = HeaderValue::try_from(location).ok()?;
        Some(Redirection { location, status: self.redirect_status })
    }
}

/// A redirect of the platform to another region.
#[derive(Debug)]
pub(crate) struct Redirection {
    /// The webhook of the region, from configuration.
    pub(crate) location: HeaderValue,
    pub(crate) status: RedirectStatus,
}

/// The ids of the calls that these items end: terminated, or deleted.
pub(crate) fn ended_calls<'a>(items: impl IntoIterator<Item = &'a Item<'a>>) -> Vec<Box<str>> {
    let ended = items.into_iter().filter(|item| ends_call(item));
    ended.filter_map(|item| Some(item.call_id()?.as_str().into())).collect()
}

/// Returns true if the item ends its call: terminated, or deleted.
pub(crate) fn ends_call(item: &Item<'_>) -> bool {
    match &item.data {
        Data::Call(call) if call.state == Some(CallState::Terminated) => true,
        Data::Call(_) | Data::Absent => {
            let resource = item.resource.as_ref();
            let is_call = resource.is_some_and(|resource| resource.part == ResourcePart::Call);
            is_call && item.change_type == ChangeType::Deleted
        }
        Data::ParticipantJoining
        | Data::ParticipantLeft
        | Data::Operation(_)
        | Data::List(_)
        | Data::Other => false,
    }
}

/// The items of one part, before its destination is worked out.
struct Group<'a> {
    key: GroupKey<'a>,
    call_id: &'a str,
    items: Vec<usize>,
}

/// The common property of the items of a group.
enum GroupKey<'a> {
    /// They are about this new call.
    NewCall { item: usize, call: &'a Call<'a> },
    /// Their calls probably belong to this instance.
    Owner(Option<Name>),
}

impl GroupKey<'_> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NewCall { item, .. }, Self::NewCall { item: other, .. }) => item == other,
            (Self::Owner(owner), Self::Owner(other)) => owner == other,
            (Self::NewCall { .. } | Self::Owner(_), _) => false,
        }
    }
}

/// Groups the items by owner.
fn group<'a>(items: &'a [Item<'a>], probable_owner: &dyn Fn(&str) -> Option<Name>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut about_no_call = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(call_id) = item.call_id().map(|id| id.as_str()) else {
            about_no_call.push(index);
            continue;
        };
        let (key, call_id) = match announcement(items, call_id) {
            Some((item, announced_id, call)) => (GroupKey::NewCall { item, call }, announced_id),
            None => (GroupKey::Owner(probable_owner(call_id)), call_id),
        };
        match groups.iter_mut().find(|group| group.key.is(&key)) {
            Some(group) => group.items.push(index),
            None => groups.push(Group { key, call_id, items: vec![index] }),
        }
    }
    if let Some(first) = groups.first_mut() {
        first.items.extend(about_no_call);
        first.items.sort_unstable();
    }
    groups
}

/// The first item that announces the call as new, wherever it stands in the notification: its index, its
/// spelling of the call id, and the call.
fn announcement<'a>(items: &'a [Item<'a>], call_id: &str) -> Option<(usize, &'a str, &'a Call<'a>)> {
    items.iter().enumerate().find_map(|(index, item)| {
        let announced_id = item.call_id()?.as_str();
        let call = item.new_call().filter(|_| announced_id.eq_ignore_ascii_case(call_id))?;
        Some((index, announced_id, call))
    })
}

#[cfg(test)]
mod tests;
