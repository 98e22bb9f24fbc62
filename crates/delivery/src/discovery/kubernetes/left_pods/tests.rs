//! Pods that leave the slices, with a fake API server over real sockets.

use super::{
    super::{
        Kubernetes,
        slices::{Pod, Slices},
        tests::{
            CALLS,
            api_server::{ApiServer, pod as endpoint, ready, slice, status},
            delivery, delivery_with, follow, pod_at, settings, shown, slices, until, until_shown,
        },
    },
    *,
};
use crate::{
    ProbeSettings,
    instance::{Report, ReportedState},
};

fn ready_pod(name: &str, incarnation: char) -> Pod {
    pod_at(name, incarnation, "10.0.0.1", SourceState::Ready)
}

/// Applies these slices, as after a list.
fn build(delivery: &Delivery, slices: Slices) {
    let settings = settings();
    let mut kubernetes = Kubernetes::new(&settings);
    kubernetes.slices = slices;
    kubernetes.build(delivery, "media");
}

fn api(server: &ApiServer) -> Api {
    let config = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    Api::new(config, &settings()).unwrap()
}

fn names(pods: &[(Name, Name)]) -> Vec<&str> {
    pods.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_pod_that_its_label_takes_out_keeps_its_callbacks_while_it_lives() {
    let server = ApiServer::start();
    let both = [endpoint("bot-0", 'a', "10.0.0.1", ready()), endpoint("bot-1", 'b', "10.0.0.2", ready())];
    server.put("bots-1", slice("IPv4", CALLS, &both));
    server.put_pod("bot-0", 'a');
    let delivery = follow(&server);
    until_shown(&delivery, &["bot-0 a ready", "bot-1 b ready"]).await;
    let tracker = |name| std::sync::Arc::as_ptr(&delivery.fleet.load().instance(name).unwrap().tracker);
    let before = tracker("bot-0");

    server.put("bots-1", slice("IPv4", CALLS, &both[1..]));
    until_shown(&delivery, &["bot-1 b ready", "bot-0 a draining"]).await;
    until("the server is asked", || server.requests().iter().any(|seen| seen.path.ends_with("/bot-0"))).await;
    assert_eq!(shown(&delivery), ["bot-1 b ready", "bot-0 a draining"]);
    assert_eq!(tracker("bot-0"), before);

    // The label is back: it is the same instance.
    server.put("bots-1", slice("IPv4", CALLS, &both));
    until_shown(&delivery, &["bot-0 a ready", "bot-1 b ready"]).await;
    assert_eq!(tracker("bot-0"), before);

    // A pod that is deleted leaves the slices, too.
    server.delete_pod("bot-0");
    server.put("bots-1", slice("IPv4", CALLS, &both[1..]));
    until_shown(&delivery, &["bot-1 b ready"]).await;
}

#[tokio::test]
async fn a_pod_that_left_has_ended_if_the_server_has_no_such_pod_that_runs() {
    type Setup = fn(&ApiServer);
    let cases: [(&str, bool, Setup); 10] = [
        ("running", true, |server| server.put_pod("bot-0", 'a')),
        ("pending", true, |server| server.put_pod_in_phase("bot-0", 'a', "Pending")),
        ("unknown", true, |server| server.put_pod_in_phase("bot-0", 'a', "Unknown")),
        ("succeeded", false, |server| server.put_pod_in_phase("bot-0", 'a', "Succeeded")),
        ("failed", false, |server| server.put_pod_in_phase("bot-0", 'a', "Failed")),
        ("another uid", false, |server| server.put_pod("bot-0", 'b')),
        ("not found", false, |_| ()),
        // As without that right.
        ("forbidden", false, ApiServer::forbid_pods),
        ("an error", true, |server| server.script(status(500, "InternalError", "etcd is away"))),
        ("nonsense", true, |server| server.script("HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nnull")),
    ];
    for (case, stays, setup) in cases {
        let server = ApiServer::start();
        setup(&server);
        let delivery = delivery(settings());
        build(&delivery, slices([vec![ready_pod("bot-0", 'a'), ready_pod("bot-1", 'b')]]));
        build(&delivery, slices([vec![ready_pod("bot-1", 'b')]]));
        let mut left = LeftPods::default();
        let due = left.due(&delivery, Instant::now());
        assert_eq!(names(&due), ["bot-0"], "{case}");
        left.remove_ended(&delivery, &api(&server), due).await;
        let expected: &[&str] =
            if stays { &["bot-1 b ready", "bot-0 a draining"] } else { &["bot-1 b ready"] };
        assert_eq!(shown(&delivery), expected, "{case}");
        assert_eq!(left.forbidden_logged, case == "forbidden");
        // It is asked for again later.
        assert_eq!(left.due(&delivery, Instant::now()), []);
        let later = left.due(&delivery, Instant::now() + ASK_AGAIN);
        assert_eq!(names(&later), if stays { vec!["bot-0"] } else { Vec::new() }, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_left_stays_while_the_server_is_away_until_keep_leaving_has_passed() {
    let delivery = delivery(settings());
    build(&delivery, slices([vec![ready_pod("bot-0", 'a'), ready_pod("bot-1", 'b')]]));
    build(&delivery, slices([vec![ready_pod("bot-1", 'b')]]));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let away = || {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Err(SourceError::NoResponse("connection refused".into())))
    };
    let follow = |time| tokio::time::timeout(time, LeftPods::default().follow(&delivery, away));
    // A call goes on, so that it does not leave early.
    let call = delivery.fleet.load().instance("bot-0").unwrap().tracker.request_started(Instant::now());
    assert!(follow(Duration::from_secs(3600)).await.is_err());
    assert_eq!(shown(&delivery), ["bot-1 b ready", "bot-0 a draining"]);
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!((115..=125).contains(&asked), "asked {asked} times");
    sleep(delivery.fleet_settings.keep_leaving).await;
    assert!(delivery.fleet.load().has_removable(delivery.fleet_settings.keep_leaving, Instant::now()));
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_reports_the_incarnation_shows_that_a_pod_lives() {
    let probe =
        ProbeSettings { path: "/healthz".into(), interval: Duration::from_secs(5), is_forwarded: false };
    let delivery = delivery_with(settings(), Some(probe));
    build(&delivery, slices([vec![ready_pod("bot-0", 'a'), ready_pod("bot-1", 'b')]]));
    build(&delivery, slices([Vec::new(), vec![ready_pod("bot-9", 'c')]]));
    let report = |name: &str, incarnation: char| {
        let fleet = delivery.fleet.load();
        let (instance, now) = (fleet.instance(name).unwrap(), Instant::now());
        let report = Report { state: ReportedState::Ready, calls: None, capacity: None };
        instance.tracker.reported(report, now, now);
        let incarnation = ready_pod(name, incarnation).incarnation;
        instance.probed_incarnation.reported(
            instance.name(),
            Some(&incarnation),
            now,
            Duration::from_secs(5),
        );
    };
    report("bot-0", 'a');
    report("bot-1", 'd');
    let mut left = LeftPods::default();
    assert_eq!(names(&left.due(&delivery, Instant::now())), ["bot-1"]);
    // Its probes are missed: then the server is asked.
    sleep(Duration::from_secs(15)).await;
    let mut due = left.due(&delivery, Instant::now());
    due.sort();
    assert_eq!(names(&due), ["bot-0", "bot-1"]);
}

#[tokio::test(start_paused = true)]
async fn many_pods_that_left_are_asked_for_a_few_at_a_time() {
    let delivery = delivery(settings());
    let all = |count| (0..count).map(|at| ready_pod(&format!("bot-{at}"), 'a')).collect::<Vec<_>>();
    build(&delivery, slices([all(50), vec![ready_pod("stays", 'b')]]));
    build(&delivery, slices([vec![ready_pod("stays", 'b')]]));
    let mut left = LeftPods::default();
    let mut asked = HashMap::new();
    for round in 0..6 {
        let due = left.due(&delivery, Instant::now());
        // Each of the fifty once, before any is due again.
        assert_eq!(due.len(), [20, 20, 10, 0, 0, 0][round], "{round}");
        for pod in due {
            *asked.entry(pod.clone()).or_insert(0) += 1;
            left.asked.insert(pod, Instant::now());
        }
        sleep(CHECK_INTERVAL).await;
    }
    assert!(asked.len() == 50 && asked.values().all(|times| *times == 1));
    // Pods that have just left come first.
    sleep(ASK_AGAIN).await;
    build(&delivery, slices([vec![ready_pod("other", 'c')]]));
    assert_eq!(left.due(&delivery, Instant::now())[0].0.as_str(), "stays");
}
