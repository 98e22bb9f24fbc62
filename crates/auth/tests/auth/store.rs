//! Keys on disk: a process that starts while the issuer does not respond.

use std::{fs, path::Path, time::Duration};

use switchboard_auth::KeyPolicy;
use tokio::time::sleep;

use crate::support::{BOTH_KEYS, Behaviour, FIRST, HOUR, NOW, SECOND_KEY, World, keys};

fn stored_in(folder: &Path) -> KeyPolicy {
    KeyPolicy { store: Some(folder.join("keys")), ..keys() }
}

/// Runs the refreshers, including their disk access: the paused clock does not advance while blocking work
/// runs.
async fn settle() {
    for _ in 0..3 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Runs an authenticator that stores its keys.
async fn run_and_store(folder: &Path) {
    let world = World::with(Behaviour::publishes(BOTH_KEYS), stored_in(folder), NOW);
    settle().await;
    assert_eq!(world.keys(), (2, 1));
    let mut files: Vec<_> = fs::read_dir(folder.join("keys"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["entra.json", "skype.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_an_outage_uses_the_stored_keys() {
    let folder = tempfile::tempdir().unwrap();
    run_and_store(folder.path()).await;
    let world = World::with(Behaviour::Fails("connect"), stored_in(folder.path()), NOW + 23 * 3600);
    settle().await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    let age = world.authenticator.trusts()[0].age.unwrap();
    assert_eq!(age.as_secs(), 23 * 3600);
    // The age counts from the fetch, not from the start.
    sleep(HOUR - Duration::from_secs(60)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    sleep(Duration::from_secs(61)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "keys_unavailable");
}

#[tokio::test(start_paused = true)]
async fn old_future_and_malformed_stores_are_not_used() {
    for (clock, spoil) in [
        (NOW + 24 * 3600 + 1, None),
        (NOW - 301, None),
        (NOW, Some("")),
        (NOW, Some("{\"version\":1}")),
        (NOW, Some("\u{0}\u{1b}[31m")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        run_and_store(folder.path()).await;
        if let Some(text) = spoil {
            fs::write(folder.path().join("keys/skype.json"), text).unwrap();
        }
        let world = World::with(Behaviour::Fails("connect"), stored_in(folder.path()), clock);
        settle().await;
        assert_eq!(world.keys(), (0, 0), "{clock} {spoil:?}");
        // It continues without the file, and stores the keys again.
        world.skype.set(Behaviour::publishes(BOTH_KEYS));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(world.keys(), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_replaces_the_stored_keys() {
    let folder = tempfile::tempdir().unwrap();
    run_and_store(folder.path()).await;
    let world = World::with(Behaviour::publishes(SECOND_KEY), stored_in(folder.path()), NOW + 60);
    settle().await;
    assert_eq!(world.keys(), (1, 2));
    assert_eq!(world.verdict(&FIRST.fresh()).await, "key_not_fetched");
    let stored = fs::read_to_string(folder.path().join("keys/skype.json")).unwrap();
    assert!(stored.contains(&format!("\"fetched_at\":{}", NOW + 60)), "{stored}");
    assert!(!stored.contains(&FIRST.id()));
}

#[tokio::test(start_paused = true)]
async fn keys_are_used_even_if_the_store_fails() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys"), "a file where the folder should be").unwrap();
    let world = World::with(Behaviour::publishes(BOTH_KEYS), stored_in(folder.path()), NOW);
    settle().await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    sleep(3 * HOUR).await;
    assert!(world.skype.fetches() >= 3);
}
