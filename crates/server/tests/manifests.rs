//! Tests of the manifests in `deploy/kubernetes`. They are valid objects of the Kubernetes API, agree with
//! each other and with their configuration, and request no privilege that they do not need.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers do too")]
#![expect(clippy::panic, reason = "a test fails by panicking, and its helpers do too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::X509,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[test]
fn the_kustomization_names_every_file_of_its_folder() {
    let manifests = Manifests::read();
    let generated = array(at(&manifests.kustomization, "/configMapGenerator")).iter();
    let named: BTreeSet<_> = array(at(&manifests.kustomization, "/resources"))
        .iter()
        .chain(generated.flat_map(|generator| array(at(generator, "/files"))))
        .map(text)
        .chain(["kustomization.yaml"])
        .map(str::to_owned)
        .collect();
    let existing: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(Result::unwrap)
        // The manifests in `scaling` need other software in the cluster.
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, existing);
}

/// The types have every field of the API. An unknown field is lost when an object is parsed and written
/// again.
#[test]
fn every_object_has_known_fields_only() {
    for object in Manifests::read().objects.into_iter().chain(SCALING.into_iter().flat_map(documents)) {
        let again = match (text(at(&object, "/apiVersion")), text(at(&object, "/kind"))) {
            ("apps/v1", "Deployment") => again::<Deployment>(&object),
            ("autoscaling/v2", "HorizontalPodAutoscaler") => again::<HorizontalPodAutoscaler>(&object),
            ("keda.sh/v1alpha1", "ScaledObject") => continue, // see the next test
            ("apps/v1", "StatefulSet") => again::<StatefulSet>(&object),
            ("networking.k8s.io/v1", "NetworkPolicy") => again::<NetworkPolicy>(&object),
            ("policy/v1", "PodDisruptionBudget") => again::<PodDisruptionBudget>(&object),
            ("rbac.authorization.k8s.io/v1", "Role") => again::<Role>(&object),
            ("rbac.authorization.k8s.io/v1", "RoleBinding") => again::<RoleBinding>(&object),
            ("v1", "Service") => again::<Service>(&object),
            ("v1", "ServiceAccount") => again::<ServiceAccount>(&object),
            other => panic!("the test has no type for {other:?}"),
        };
        assert_eq!(again, object);
    }
}

/// Checks the configuration as in the pod: with the files of each volume under its mount path, and with the
/// path from the container's arguments.
#[test]
fn the_configuration_passes_its_check() {
    let manifests = Manifests::read();
    let pod = manifests.pod("Deployment", "switchboard");
    let container = at(pod, "/spec/containers/0");
    let root = tempfile::tempdir().unwrap();
    let under = |path: &str| root.path().join(path.trim_start_matches('/'));
    for mount in array(at(container, "/volumeMounts")) {
        let volume = named(at(pod, "/spec/volumes"), text(at(mount, "/name")));
        let mounted = under(text(at(mount, "/mountPath")));
        fs::create_dir_all(&mounted).unwrap();
        for (name, content) in manifests.files(volume) {
            fs::write(mounted.join(name), content).unwrap();
        }
    }
    let arguments: Vec<_> = array(at(container, "/args")).iter().map(text).collect();
    let ["serve", "--config", configuration] = arguments[..] else { panic!("{arguments:?}") };
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .args(["check", "--config"])
        .arg(under(configuration))
        .env_clear()
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    // The certificate of this test is for no host.
    let others: Vec<_> = stderr.lines().filter(|line| !line.contains(": listen.tls.certificate: ")).collect();
    assert!(others.is_empty(), "{stderr}");
}

#[test]
fn the_stores_can_be_written() {
    let manifests = Manifests::read();
    let pod = manifests.pod("Deployment", "switchboard");
    let mounts = array(at(pod, "/spec/containers/0/volumeMounts"));
    for setting in ["/keys/store", "/fleet/store"] {
        let store = text(manifests.setting(setting));
        let mount = mounts.iter().find(|mount| store.starts_with(text(at(mount, "/mountPath")))).unwrap();
        let volume = named(at(pod, "/spec/volumes"), text(at(mount, "/name")));
        assert!(volume.get("emptyDir").is_some() && mount.get("readOnly").is_none(), "{mount} {volume}");
    }
}

#[test]
fn everything_is_in_one_namespace() {
    let manifests = Manifests::read();
    // Without this setting, the gateway discovers bots in its own namespace.
    assert_eq!(manifests.setting("/fleet/kubernetes").get("namespace"), None);
    let namespace = at(&manifests.kustomization, "/namespace");
    assert_eq!(at(manifests.object("RoleBinding", "switchboard"), "/subjects/0/namespace"), namespace);
    for object in &manifests.objects {
        assert_eq!(
            at(object, "/metadata").get("namespace"),
            None,
            "the kustomization sets the namespace: {object}"
        );
    }
}

#[test]
fn the_kustomization_sets_the_image_of_every_container() {
    let manifests = Manifests::read();
    let used: BTreeSet<_> =
        manifests.pods().iter().map(|(_, pod)| text(at(pod, "/spec/containers/0/image"))).collect();
    let chosen: BTreeSet<_> =
        array(at(&manifests.kustomization, "/images")).iter().map(|image| text(at(image, "/name"))).collect();
    assert_eq!(used, chosen);
}

#[test]
fn ports_agree_from_the_balancer_to_the_configuration() {
    let manifests = Manifests::read();
    let bound = |setting| {
        let (host, port) = text(manifests.setting(setting)).rsplit_once(':').unwrap();
        // The kubelet and the load balancer connect to the pod's address.
        assert_eq!(host, "0.0.0.0", "{setting}");
        port.parse::<u16>().unwrap()
    };
    let ports = |kind, name| {
        let pod = manifests.pod(kind, name);
        let ports = array(at(pod, "/spec/containers/0/ports")).iter();
        ports
            .map(|port| (text(at(port, "/name")), at(port, "/containerPort").clone()))
            .collect::<BTreeMap<_, _>>()
    };
    let gateway = ports("Deployment", "switchboard");
    let bot = ports("StatefulSet", "bot");
    assert_eq!(gateway["https"], bound("/listen/address"));
    assert_eq!(gateway["admin"], bound("/admin/address"));

    let public = manifests.object("Service", "switchboard");
    assert_eq!(*at(public, "/spec/ports"), json!([{ "name": "https", "port": 443, "targetPort": "https" }]));
    let bots = manifests.object("Service", text(manifests.setting("/fleet/kubernetes/service")));
    let followed = text(manifests.setting("/fleet/kubernetes/port"));
    assert_eq!(
        *at(bots, "/spec/ports"),
        json!([{ "name": followed, "port": bot[followed], "targetPort": followed }])
    );
    for (policy, allowed) in [("switchboard", &gateway), ("bot", &bot)] {
        for rule in array(at(manifests.object("NetworkPolicy", policy), "/spec/ingress")) {
            for port in array(at(rule, "/ports")) {
                assert!(allowed.contains_key(text(at(port, "/port"))), "{policy}: {port}");
            }
        }
    }
}

#[test]
fn each_selector_selects_the_intended_pods() {
    let spread = "/spec/template/spec/topologySpreadConstraints";
    for (kind, name, path, expected) in [
        ("Deployment", "switchboard", "/spec/selector/matchLabels", "switchboard"),
        ("Deployment", "switchboard", &format!("{spread}/0/labelSelector/matchLabels"), "switchboard"),
        ("Deployment", "switchboard", &format!("{spread}/1/labelSelector/matchLabels"), "switchboard"),
        ("StatefulSet", "bot", "/spec/selector/matchLabels", "bot"),
        ("StatefulSet", "bot", &format!("{spread}/0/labelSelector/matchLabels"), "bot"),
        ("Service", "switchboard", "/spec/selector", "switchboard"),
        ("Service", "bots", "/spec/selector", "bot"),
        ("PodDisruptionBudget", "switchboard", "/spec/selector/matchLabels", "switchboard"),
        ("PodDisruptionBudget", "bot", "/spec/selector/matchLabels", "bot"),
        ("NetworkPolicy", "switchboard", "/spec/podSelector/matchLabels", "switchboard"),
        ("NetworkPolicy", "bot", "/spec/podSelector/matchLabels", "bot"),
        ("NetworkPolicy", "bot", "/spec/ingress/0/from/0/podSelector/matchLabels", "switchboard"),
    ] {
        let manifests = Manifests::read();
        let wanted = at(manifests.object(kind, name), path).as_object().unwrap();
        assert!(!wanted.is_empty(), "{kind} {name}{path}");
        let selected: Vec<_> = manifests
            .pods()
            .into_iter()
            .filter(|(_, pod)| {
                wanted.iter().all(|(label, value)| at(pod, "/metadata/labels").get(label) == Some(value))
            })
            .map(|(name, _)| name)
            .collect();
        assert_eq!(selected, [expected], "{kind} {name}{path}");
    }
}

#[test]
fn the_role_of_a_gateway_allows_reading_endpoint_slices_and_single_pods_only() {
    let manifests = Manifests::read();
    let role = manifests.object("Role", "switchboard");
    assert_eq!(
        *at(role, "/rules"),
        json!([
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "watch"],
            },
            { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
        ])
    );
    let binding = manifests.object("RoleBinding", "switchboard");
    assert_eq!(
        *at(binding, "/roleRef"),
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "switchboard" })
    );
    let subjects = array(at(binding, "/subjects"));
    assert_eq!(subjects.len(), 1);
    assert_eq!(text(at(&subjects[0], "/kind")), "ServiceAccount");
    assert_eq!(text(at(&subjects[0], "/name")), "switchboard");
    let account = manifests.object("ServiceAccount", "switchboard");
    assert_eq!(*at(account, "/automountServiceAccountToken"), false);
}

#[test]
fn only_gateways_have_a_service_account_token() {
    let manifests = Manifests::read();
    let account = |kind, name| {
        let spec = at(manifests.pod(kind, name), "/spec");
        (at(spec, "/automountServiceAccountToken").clone(), spec.get("serviceAccountName").cloned())
    };
    assert_eq!(account("Deployment", "switchboard"), (json!(true), Some(json!("switchboard"))));
    assert_eq!(account("StatefulSet", "bot"), (json!(false), None));
}

/// Fields that are not listed here, for example `hostNetwork` or a `hostPath` volume, need a review before
/// they are added to this list.
#[test]
fn no_pod_has_a_privilege() {
    for (name, pod) in Manifests::read().pods() {
        let spec = at(pod, "/spec");
        assert_known(
            spec,
            &[
                "automountServiceAccountToken",
                "containers",
                "enableServiceLinks",
                "securityContext",
                "serviceAccountName",
                "terminationGracePeriodSeconds",
                "topologySpreadConstraints",
                "volumes",
            ],
        );
        let context = at(spec, "/securityContext");
        assert_known(context, &["fsGroup", "runAsGroup", "runAsNonRoot", "runAsUser", "seccompProfile"]);
        assert_eq!(*at(context, "/runAsNonRoot"), true, "{name}");
        assert!(at(context, "/runAsUser").as_u64().unwrap() > 0, "{name}");
        assert_eq!(*at(context, "/seccompProfile"), json!({ "type": "RuntimeDefault" }), "{name}");
        for volume in spec.get("volumes").map(array).into_iter().flatten() {
            assert_known(volume, &["configMap", "emptyDir", "name", "secret"]);
        }
        let containers = array(at(spec, "/containers"));
        assert_eq!(containers.len(), 1, "{name}: the tests check the first container only");
        for container in containers {
            assert_eq!(
                *at(container, "/securityContext"),
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                }),
                "{name}"
            );
            for port in array(at(container, "/ports")) {
                assert_known(port, &["containerPort", "name"]);
            }
            assert!(at(container, "/resources/limits").get("memory").is_some(), "{name}");
        }
    }
}

#[test]
fn files_with_secrets_are_not_world_readable() {
    let manifests = Manifests::read();
    let volumes = array(at(manifests.pod("Deployment", "switchboard"), "/spec/volumes"));
    let modes: Vec<_> = volumes
        .iter()
        .filter_map(|volume| volume.get("secret"))
        .map(|secret| at(secret, "/defaultMode").as_u64().unwrap())
        .collect();
    assert_eq!(modes, [0o440, 0o440]);
}

#[test]
fn probes_use_existing_paths_and_ports() {
    let manifests = Manifests::read();
    let target = |kind, name, probe: &str| {
        let probe = at(manifests.pod(kind, name), &format!("/spec/containers/0/{probe}/httpGet"));
        (text(at(probe, "/path")).to_owned(), text(at(probe, "/port")).to_owned())
    };
    let admin = |path: &str| (path.to_owned(), "admin".to_owned());
    assert_eq!(target("Deployment", "switchboard", "readinessProbe"), admin("/readyz"));
    assert_eq!(target("Deployment", "switchboard", "livenessProbe"), admin("/healthz"));
    let (path, port) = target("StatefulSet", "bot", "readinessProbe");
    assert_eq!((path.as_str(), port.as_str()), (text(manifests.setting("/fleet/probe/path")), "calls"));
}

#[test]
fn grace_periods_are_long_enough_for_a_drain() {
    let manifests = Manifests::read();
    let grace =
        |kind, name| at(manifests.pod(kind, name), "/spec/terminationGracePeriodSeconds").as_u64().unwrap();
    let seconds =
        |setting: &str| text(manifests.setting(setting)).strip_suffix('s').unwrap().parse::<u64>().unwrap();
    assert!(grace("Deployment", "switchboard") > seconds("/listen/drain/deadline"));
    assert!(seconds("/listen/drain/deadline") > seconds("/listen/drain/delay"));
    assert_eq!(grace("StatefulSet", "bot"), 24 * 60 * 60);
    let bot = at(manifests.pod("StatefulSet", "bot"), "/spec/containers/0");
    // The container has no lifecycle hook and no liveness probe.
    assert_known(
        bot,
        &["env", "image", "name", "ports", "readinessProbe", "resources", "securityContext", "volumeMounts"],
    );
}

#[test]
fn a_disruption_leaves_one_replica_available() {
    let manifests = Manifests::read();
    let deployment = manifests.object("Deployment", "switchboard");
    let replicas = at(deployment, "/spec/replicas").as_u64().unwrap();
    assert!(replicas >= 2);
    assert_eq!(*at(deployment, "/spec/strategy/rollingUpdate/maxUnavailable"), 0);
    for (kind, name) in [("Deployment", "switchboard"), ("StatefulSet", "bot")] {
        let replicas = at(manifests.object(kind, name), "/spec/replicas").as_u64().unwrap();
        let evicted = at(manifests.object("PodDisruptionBudget", name), "/spec/maxUnavailable");
        assert!((1..replicas).contains(&evicted.as_u64().unwrap()), "{name}");
    }
}

#[test]
fn bots_are_discovered_by_readiness_and_started_in_parallel() {
    let manifests = Manifests::read();
    let bots = manifests.object("Service", "bots");
    assert_eq!(text(at(bots, "/spec/clusterIP")), "None");
    // With this field, the API would report a pod as ready before its readiness probe succeeds.
    assert_eq!(at(bots, "/spec").get("publishNotReadyAddresses"), None);
    let set = manifests.object("StatefulSet", "bot");
    assert_eq!(text(at(set, "/spec/serviceName")), "bots");
    assert_eq!(text(at(set, "/spec/podManagementPolicy")), "Parallel");
}

#[test]
fn network_policies_restrict_access_to_bots_and_to_the_admin_listener() {
    let manifests = Manifests::read();
    for policy in ["switchboard", "bot"] {
        assert_eq!(*at(manifests.object("NetworkPolicy", policy), "/spec/policyTypes"), json!(["Ingress"]));
    }
    let bots = array(at(manifests.object("NetworkPolicy", "bot"), "/spec/ingress"));
    assert_eq!(bots.len(), 1);
    let senders = array(at(&bots[0], "/from"));
    assert_eq!(senders.len(), 1);
    assert_known(&senders[0], &["podSelector"]);

    for rule in array(at(manifests.object("NetworkPolicy", "switchboard"), "/spec/ingress")) {
        let ports: Vec<_> = array(at(rule, "/ports")).iter().map(|port| text(at(port, "/port"))).collect();
        match rule.get("from") {
            None => assert_eq!(ports, ["https"]),
            Some(from) => {
                assert_eq!(ports, ["admin"]);
                let namespace = at(from, "/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name");
                assert_ne!(text(namespace), "");
            }
        }
    }
}

/// The models of KEDA's API are published for Python only. An unknown field is lost here, too.
#[test]
fn the_scaled_object_has_known_fields_only() {
    let Some(python) = python_with_keda() else { return };
    let [keda, _] = SCALING.map(documents);
    let scaled = keda.iter().find(|object| text(at(object, "/kind")) == "ScaledObject").unwrap();
    let again = |object: &Value| {
        let mut command = Command::new(&python);
        let output = command.args(["-c", KEDA_MODELS, &object.to_string()]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).ok()
    };
    assert_eq!(again(scaled).as_ref(), Some(scaled));
    for (pointer, name, value) in [
        ("/spec", "pollInterval", json!(15)),
        ("/spec", "pollingInterval", json!("soon")),
        ("/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown", "selectPolicies", json!("Max")),
        ("/spec/triggers/0/metadata", "targetValue", json!(1)),
    ] {
        let mut wrong = scaled.clone();
        wrong.pointer_mut(pointer).unwrap()[name] = value;
        assert_ne!(again(&wrong).as_ref(), Some(&wrong), "{pointer}/{name}");
    }
}

/// Parses an object, and writes it again. Fails if a field has another type.
const KEDA_MODELS: &str = "\
import sys
from cloudcoil.models.keda.v1alpha1 import ScaledObject
scaled = ScaledObject.model_validate_json(sys.argv[1])
print(scaled.model_dump_json(by_alias=True, exclude_unset=True))
";

/// The Python that `./install-packages` gives these models. Without it, the test is skipped; with `CI=true`
/// that is a failure.
fn python_with_keda() -> Option<PathBuf> {
    let python = repository().join("target/tools/keda/bin/python");
    let found = python.exists();
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(found || !is_ci, "{} is missing; run ./install-packages", python.display());
    found.then_some(python)
}

#[test]
fn both_autoscalers_read_the_wanted_size_and_remove_one_pod_at_a_time() {
    let manifests = Manifests::read();
    let [keda, hpa] = SCALING.map(documents);
    let find = |objects: &[Value], kind: &str| {
        objects.iter().find(|object| text(at(object, "/kind")) == kind).unwrap().clone()
    };
    let (scaled, hpa) = (find(&keda, "ScaledObject"), find(&hpa, "HorizontalPodAutoscaler"));
    let bots = manifests.object("StatefulSet", "bot");
    for object in [&scaled, &hpa] {
        let target = at(object, "/spec/scaleTargetRef");
        assert_eq!(
            (at(target, "/kind"), at(target, "/name")),
            (at(bots, "/kind"), at(bots, "/metadata/name"))
        );
    }
    let behavior = at(&hpa, "/spec/behavior");
    assert_eq!(at(&scaled, "/spec/advanced/horizontalPodAutoscalerConfig/behavior"), behavior);
    assert_eq!(*at(behavior, "/scaleDown/policies/0/value"), 1);
    for bound in ["min", "max"] {
        let counts =
            (at(&scaled, &format!("/spec/{bound}ReplicaCount")), at(&hpa, &format!("/spec/{bound}Replicas")));
        assert_eq!(counts.0, counts.1, "{bound}");
    }
    assert!(at(&hpa, "/spec/minReplicas").as_u64().unwrap() >= 1);
    assert_eq!(text(at(&hpa, "/spec/metrics/0/external/metric/name")), "switchboard_fleet_wanted_instances");

    // KEDA asks through the Service, and the policy lets it.
    let service = find(&keda, "Service");
    let namespace = text(at(&manifests.kustomization, "/namespace"));
    let url = format!(
        "http://{}.{namespace}.svc:{}/fleet/summary",
        text(at(&service, "/metadata/name")),
        at(&service, "/spec/ports/0/port")
    );
    assert_eq!(text(at(&scaled, "/spec/triggers/0/metadata/url")), url);
    let gateway = manifests.pod("Deployment", "switchboard");
    let labels = at(gateway, "/metadata/labels/app.kubernetes.io~1name");
    for (object, pointer) in
        [(&service, "/spec/selector"), (&find(&keda, "NetworkPolicy"), "/spec/podSelector/matchLabels")]
    {
        assert_eq!(at(at(object, pointer), "/app.kubernetes.io~1name"), labels);
    }
    named(at(gateway, "/spec/containers/0/ports"), text(at(&service, "/spec/ports/0/targetPort")));
}

#[test]
fn the_guide_creates_every_object_that_the_manifests_name() {
    let manifests = Manifests::read();
    let guide = fs::read_to_string(repository().join("docs/kubernetes.md")).unwrap();
    let commands: Vec<_> =
        guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let mut names = vec![text(at(&manifests.kustomization, "/namespace"))];
    for volume in array(at(manifests.pod("Deployment", "switchboard"), "/spec/volumes")) {
        if let Some(secret) = volume.get("secret") {
            names.push(text(at(secret, "/secretName")));
            names.extend(
                SECRETS.iter().filter(|(of, _)| *of == text(at(secret, "/secretName"))).map(|(_, key)| *key),
            );
        }
    }
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        assert!(
            commands.iter().any(|block| block.contains(name)),
            "no command of docs/kubernetes.md contains {name}"
        );
    }
}

/// The parsed files of `deploy/kubernetes`.
struct Manifests {
    kustomization: Value,
    configuration: Value,
    objects: Vec<Value>,
}

impl Manifests {
    fn read() -> Self {
        let kustomization: Value = serde_saphyr::from_str(&file("kustomization.yaml")).unwrap();
        let documents = array(at(&kustomization, "/resources")).iter().flat_map(|name| documents(text(name)));
        let objects = documents.collect();
        Self { configuration: toml::from_str(&file("switchboard.toml")).unwrap(), objects, kustomization }
    }

    #[track_caller]
    fn object(&self, kind: &str, name: &str) -> &Value {
        let is =
            |object: &&Value| text(at(object, "/kind")) == kind && text(at(object, "/metadata/name")) == name;
        self.objects.iter().find(is).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    #[track_caller]
    fn pod(&self, kind: &str, name: &str) -> &Value {
        at(self.object(kind, name), "/spec/template")
    }

    /// Returns the templates of all pods, each with the name of its Deployment or StatefulSet.
    fn pods(&self) -> Vec<(&str, &Value)> {
        let templates = self.objects.iter().filter_map(|object| {
            let template = object.pointer("/spec/template")?;
            Some((text(at(object, "/metadata/name")), template))
        });
        templates.collect()
    }

    #[track_caller]
    fn setting(&self, pointer: &str) -> &Value {
        at(&self.configuration, pointer)
    }

    /// Returns the files of a mounted volume: name and content.
    fn files(&self, volume: &Value) -> Vec<(String, String)> {
        if let Some(map) = volume.get("configMap") {
            let generator = named(at(&self.kustomization, "/configMapGenerator"), text(at(map, "/name")));
            let names = array(at(generator, "/files")).iter().map(text);
            names.map(|name| (name.to_owned(), file(name))).collect()
        } else if let Some(secret) = volume.get("secret") {
            let name = text(at(secret, "/secretName"));
            let (certificate, key) = certificate();
            let content = |name: &str| match name {
                "tls.crt" => certificate.clone(),
                "tls.key" => key.clone(),
                "seal-k1" => "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=\n".to_owned(),
                _ => "open-sesame-open-sesame\n".to_owned(),
            };
            let keys = SECRETS.iter().filter(|(of, _)| *of == name).map(|(_, key)| *key);
            keys.map(|key| (key.to_owned(), content(key))).collect()
        } else {
            Vec::new()
        }
    }
}

/// The Secrets that the guide creates, and their keys.
const SECRETS: [(&str, &str); 4] = [
    ("switchboard-secrets", "seal-k1"),
    ("switchboard-secrets", "admin-token"),
    ("switchboard-tls", "tls.crt"),
    ("switchboard-tls", "tls.key"),
];

/// The manifests for autoscalers.
const SCALING: [&str; 2] = ["scaling/keda.yaml", "scaling/hpa.yaml"];

fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&file(name)).unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    repository().join("deploy/kubernetes")
}

#[track_caller]
fn file(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn again<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    serde_json::to_value(typed).unwrap()
}

#[track_caller]
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

#[track_caller]
fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

#[track_caller]
fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    let found = array(list).iter().find(|item| text(at(item, "/name")) == name);
    found.unwrap_or_else(|| panic!("no item is named {name} in {list}"))
}

/// Checks that an object has no fields except `fields`.
#[track_caller]
fn assert_known(value: &Value, fields: &[&str]) {
    for field in value.as_object().unwrap().keys() {
        assert!(fields.contains(&field.as_str()), "{field} in {value}");
    }
}

/// Returns a certificate and its key, in PEM.
fn certificate() -> (String, String) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let text = |pem| String::from_utf8(pem).unwrap();
    (text(builder.build().to_pem().unwrap()), text(key.private_key_to_pem_pkcs8().unwrap()))
}
