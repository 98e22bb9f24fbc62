#!/usr/bin/env python3
"""Sets controller.kubernetes.io/pod-deletion-cost on each bot pod to the number of its calls.

A ReplicaSet (a Deployment) that scales in then removes the pods with the fewest calls first. Run it just
before you scale in: docs/scaling.md. It needs Python 3.8 and nothing else.
"""

import argparse
import json
import os
import pathlib
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
# The largest cost that the API accepts. For a pod whose calls are not known: it is removed last.
UNKNOWN_COST = 2147483647
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SECONDS = 10


def main():
    options = parse_options()
    api = Api(options)
    costs = costs_of(options.admin)
    changes = []
    for pod in api.pods(options.selector):
        metadata = pod["metadata"]
        cost = costs.get(metadata["name"])
        # A pod of the same name that has replaced the one that the gateways know has none of its calls.
        if cost is None or not is_same(metadata["uid"], cost["incarnation"]):
            continue
        if (metadata.get("annotations") or {}).get(ANNOTATION) != str(cost["cost"]):
            changes.append((metadata["name"], cost["cost"]))
    for name, cost in changes:
        print(f"{name}: {cost}")
        if not options.dry_run:
            api.annotate(name, str(cost))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--admin", action="append", required=True, metavar="URL",
                        help="the admin listener of a gateway; once for each gateway of the region")
    parser.add_argument("--namespace", metavar="NAME",
                        help="the namespace of the bots (default: that of the service account)")
    parser.add_argument("--selector", default="app.kubernetes.io/name=bot", metavar="LABELS",
                        help="the labels of the bots (default: %(default)s)")
    parser.add_argument("--api", metavar="URL",
                        help="the API server (default: that of the cluster); for example of `kubectl proxy`")
    parser.add_argument("--account", default=ACCOUNT, metavar="FOLDER",
                        help="the folder of the service account (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print the changes, and make none")
    return parser.parse_args()


def costs_of(gateways):
    """Returns the cost of each instance: the most calls that a gateway expects there."""
    costs = {}
    for gateway in gateways:
        for instance in read_json(urllib.request.Request(gateway.rstrip("/") + "/fleet"), None):
            if instance["state"] == "gone":
                continue
            calls = instance["calls_expected"]
            cost = UNKNOWN_COST if calls is None else min(calls, UNKNOWN_COST)
            known = costs.get(instance["name"])
            if known is not None:
                cost = max(cost, known["cost"])
            costs[instance["name"]] = {"cost": cost, "incarnation": instance["incarnation"]}
    return costs


def is_same(uid, incarnation):
    """Returns true if a pod has this incarnation: the first 13 characters of its uid, or 0 if not known."""
    return incarnation == "0" or uid.startswith(incarnation)


class Api:
    """The API server of Kubernetes."""

    def __init__(self, options):
        account = pathlib.Path(options.account)
        self.token = None
        self.tls = None
        if options.api is None:
            host = os.environ.get("KUBERNETES_SERVICE_HOST")
            if host is None:
                fail("not in a cluster; set --api, for example to http://127.0.0.1:8001 of `kubectl proxy`")
            port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            self.url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        else:
            self.url = options.api.rstrip("/")
        # A token never crosses a network unencrypted.
        if self.url.startswith("https://"):
            self.token = (account / "token").read_text().strip()
            self.tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        namespace = options.namespace or (account / "namespace").read_text().strip()
        self.path = f"/api/v1/namespaces/{urllib.parse.quote(namespace, safe='')}/pods"

    def pods(self, selector):
        """Returns the pods with these labels, page by page."""
        query = {"labelSelector": selector, "limit": "500"}
        while True:
            request = self.request(f"{self.path}?{urllib.parse.urlencode(query)}")
            page = read_json(request, self.tls)
            yield from page["items"]
            query["continue"] = page["metadata"].get("continue")
            if not query["continue"]:
                return

    def annotate(self, pod, cost):
        body = json.dumps({"metadata": {"annotations": {ANNOTATION: cost}}}).encode()
        request = self.request(f"{self.path}/{urllib.parse.quote(pod, safe='')}", body)
        request.add_header("Content-Type", "application/merge-patch+json")
        request.method = "PATCH"
        try:
            read_json(request, self.tls)
        except urllib.error.HTTPError as error:
            # A pod that has ended in the meantime needs no cost.
            if error.code != 404:
                raise

    def request(self, path, body=None):
        request = urllib.request.Request(self.url + path, data=body)
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        return request


def read_json(request, tls):
    with open_url(request, tls) as response:
        return json.load(response)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: a token must not go elsewhere."""

    def redirect_request(self, *_):
        return None


def open_url(request, tls=None):
    opener = urllib.request.build_opener(NoRedirect(), urllib.request.HTTPSHandler(context=tls))
    return opener.open(request, timeout=SECONDS)


def fail(problem):
    sys.exit(f"pod-deletion-cost: {problem}")


if __name__ == "__main__":
    try:
        main()
    except urllib.error.HTTPError as error:
        fail(f"{error.url} responds {error.code}: {error.reason}")
    except urllib.error.URLError as error:
        fail(f"a server cannot be reached: {error.reason}")
    except (OSError, ValueError, KeyError) as error:
        fail(f"{type(error).__name__}: {error}")
