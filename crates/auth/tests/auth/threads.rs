//! Requests on many runtimes and the refreshers on another, as in the server. Real threads, real time, no
//! sleeps.

use std::{sync::Arc, thread};

use switchboard_auth::Authenticator;
use tokio::{runtime::Builder, sync::Notify};

use crate::support::{
    BOTH_KEYS, Behaviour, FIRST, Issuer, NOW, SECOND, apps, at, bearer, keys, trusts, unknown, verdict,
};

#[test]
fn requests_on_many_runtimes_share_one_fetch() {
    let (skype, entra) = (Issuer::skype(Behaviour::publishes(BOTH_KEYS)), Issuer::entra());
    let authenticator = Arc::new(Authenticator::new(trusts(&skype, &entra), apps(), keys()).unwrap());

    // The requests start first and wait for the first fetch.
    let workers: Vec<_> = (0..8)
        .map(|nth| {
            let authenticator = Arc::clone(&authenticator);
            thread::spawn(move || {
                let key = if nth % 2 == 0 { FIRST } else { SECOND };
                let runtime = Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for (token, expected) in [
                        (key.token(NOW - 10, NOW + 100 + nth), "accepted"),
                        (key.token(NOW - 10, NOW + 100 + nth), "accepted"),
                        (unknown(&format!("unknown-{nth}")), "key_not_fetched"),
                    ] {
                        // On a loaded machine the first fetch may take longer than one wait.
                        let found = loop {
                            let found = authenticator.authenticate(&bearer(&token), at(NOW)).await;
                            if verdict(&found) != "keys_unavailable" {
                                break verdict(&found);
                            }
                        };
                        assert_eq!(found, expected);
                    }
                });
            })
        })
        .collect();

    let stop = Arc::new(Notify::new());
    let fetching = thread::spawn({
        let (authenticator, stop) = (Arc::clone(&authenticator), Arc::clone(&stop));
        move || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = authenticator.run(|| at(NOW)) => {}
                    () = stop.notified() => {}
                }
            });
        }
    });
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!((skype.fetches(), entra.fetches()), (1, 1));
    stop.notify_one();
    fetching.join().unwrap();
}
