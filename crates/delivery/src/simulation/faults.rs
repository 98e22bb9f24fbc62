//! The faults of a run: bots that misbehave, and sources that shrink, fail and lie.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Gateway,
    bot::{Behaviour, Bot},
};
use crate::{
    member::{Member, SourceState},
    upstream_url::UpstreamUrl,
};

/// Lets one bot after the other misbehave for a while, until `end`. Then all are well again.
pub(super) async fn misbehave(bots: Arc<Vec<Arc<Bot>>>, mut random: fastrand::Rng, end: Instant) {
    while Instant::now() < end {
        sleep(Duration::from_millis(random.u64(200..4000))).await;
        let bot = random.choice(&*bots).unwrap();
        let behaviour = match random.u32(0..16) {
            0 => Behaviour::Slow(Duration::from_millis(random.u64(200..2500))),
            1 => Behaviour::Slow(Duration::from_millis(random.u64(2500..9000))),
            2 | 3 => Behaviour::HangsOnCalls,
            4 => Behaviour::Hangs,
            5 => Behaviour::Busy,
            6 => Behaviour::StaleKeys,
            7 => Behaviour::Closes,
            8 => Behaviour::Dead,
            9 => Behaviour::Silent,
            _ => Behaviour::Well,
        };
        bot.behave(behaviour);
    }
    for bot in &*bots {
        bot.behave(Behaviour::Well);
    }
}

/// Reads the source of a gateway's fleet now and then, until `end`. A reading may fail, and may miss bots.
pub(super) async fn read_source(
    gateway: Arc<Gateway>,
    bots: Arc<Vec<Arc<Bot>>>,
    mut random: fastrand::Rng,
    end: Instant,
) {
    loop {
        let is_over = Instant::now() >= end;
        let fails = !is_over && random.u32(0..4) == 0;
        if !fails {
            // A lie: a bot that runs is not listed.
            let missing = (!is_over && random.u32(0..12) == 0).then(|| random.usize(0..bots.len()));
            let listed = bots.iter().enumerate().filter(|(at, _)| Some(*at) != missing);
            // What is dead is listed until its successor runs.
            gateway.delivery.apply_members(listed.map(|(_, bot)| member(bot)).collect());
        }
        if is_over {
            return;
        }
        sleep(Duration::from_millis(random.u64(300..3000))).await;
    }
}

pub(super) fn member(bot: &Bot) -> Member {
    let url = UpstreamUrl::parse(&format!("http://{}/api/calls", bot.address)).unwrap();
    Member {
        name: bot.name.clone(),
        incarnation: bot.owner().incarnation,
        new_calls: url.clone(),
        callbacks: url,
        apps: None,
        weight: 1,
        source_state: SourceState::Ready,
    }
}
