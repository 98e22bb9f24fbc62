#!/usr/bin/env python3
"""Scales in an Azure virtual machine scale set of bots without ending a call.

One run drains the instances that are too many, the ones with the fewest calls first, and deletes the machines
of drained instances that are empty. It waits for no call: run it every few minutes. docs/scaling.md says
more. It needs Python 3.8, the `switchboard` binary, and nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

API_VERSION = "2024-07-01"
SECONDS = 30
# The longest wait for a deletion. Azure continues it after that.
DELETION_SECONDS = 900


def main():
    options = parse_options()
    gateways = [Gateway(url, options) for url in options.admin]
    scale_set = ScaleSet(options)
    listed = scale_set.machines()
    keep = options.keep if options.keep is not None else wanted(gateways)
    keep = max(keep, options.min)
    fleets = [gateway.fleet() for gateway in gateways]
    # The name of an instance is what its fleet calls it: the machine's own name, or its computer name.
    machines = {name_in(fleets, names): machine for machine, names in listed.items()}
    # An instance that a gateway does not know is not judged: that gateway may place calls there next.
    known = [name for name in machines if all(name in fleet for fleet in fleets)]
    draining = [name for name in known if all(fleet[name]["state"] == "draining" for fleet in fleets)]
    # An instance that is unreachable, or that starts, is no capacity: draining another one would lose some.
    serving = ("ready", "full")
    active = [name for name in known if all(fleet[name]["state"] in serving for fleet in fleets)]
    if listed and not known:
        fail("no machine has the name of an instance that every gateway lists")

    excess = max(len(active) - keep, 0)
    chosen = sorted(active, key=lambda name: (calls(name, fleets), name))[:excess]
    for name in chosen:
        count = calls(name, fleets)
        print(f"drain {name}: it has {'unknown' if count == sys.maxsize else count} calls")
        if not options.dry_run:
            for gateway in gateways:
                gateway.drain(name)

    # Those drained just now are judged by the next run, after a report of their calls.
    empty = set.intersection(*[gateway.empty() for gateway in gateways])
    removable = [name for name in draining if name in empty][:max(len(active) + len(draining) - keep, 0)]
    for name in removable:
        print(f"delete {name}: it is empty")
    if removable and not options.dry_run:
        scale_set.delete([machines[name] for name in removable])
    print(f"{len(machines)} machines, {keep} wanted: {len(chosen)} drained now, {len(removable)} deleted, "
          f"{len(draining) - len(removable)} still draining")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subscription", required=True, metavar="GUID")
    parser.add_argument("--resource-group", required=True, metavar="NAME")
    parser.add_argument("--scale-set", required=True, metavar="NAME")
    parser.add_argument("--admin", action="append", required=True, metavar="URL",
                        help="the admin listener of a gateway (https, or http on a loopback host); once for "
                             "each gateway of the region")
    parser.add_argument("--admin-token-env", metavar="NAME", help="the variable that holds admin.token")
    parser.add_argument("--keep", type=int, metavar="N",
                        help="the number of machines (default: the greatest `wanted` of /fleet/summary)")
    parser.add_argument("--min", type=int, default=1, metavar="N",
                        help="the least that are kept (default: 1)")
    parser.add_argument("--token-env", metavar="NAME",
                        help="the variable that holds a token for Azure (default: that of the managed "
                             "identity)")
    parser.add_argument("--management", default="https://management.azure.com", metavar="URL")
    parser.add_argument("--identity", default="http://169.254.169.254", metavar="URL",
                        help="the metadata service, for the token of the managed identity")
    parser.add_argument("--switchboard", default="switchboard", metavar="FILE", help="the binary")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    options = parser.parse_args()
    if options.keep is not None and options.keep < 0 or options.min < 1:
        parser.error("--keep is 0 or more, and --min is 1 or more")
    return options


def name_in(fleets, names):
    """Returns the name of a machine that all fleets know, or else its first one."""
    return next((name for name in names if all(name in fleet for fleet in fleets)), names[0])


def calls(name, fleets):
    """Returns the most calls that a gateway expects at an instance. Unknown calls are many."""
    known = [fleet[name]["calls_expected"] for fleet in fleets]
    return max(sys.maxsize if count is None else count for count in known)


def wanted(gateways):
    sizes = [gateway.summary()["wanted"] for gateway in gateways]
    if None in sizes:
        fail("a gateway does not know the wanted size yet: it has just started, or no instance reports its "
             "capacity; set --keep")
    return max(sizes)


class Gateway:
    """The admin listener of one gateway."""

    def __init__(self, url, options):
        self.url = url.rstrip("/")
        self.options = options

    def fleet(self):
        fleet = read_json(urllib.request.Request(self.url + "/fleet"))
        return {instance["name"]: instance for instance in fleet if instance["state"] != "gone"}

    def summary(self):
        return read_json(urllib.request.Request(self.url + "/fleet/summary"))

    def empty(self):
        """Returns the names of the instances that drain and are empty, as the gateway's own rule says."""
        found = self.run("list", "--json", "--state", "draining", "--empty")
        return {instance["name"] for instance in json.loads(found)}

    def drain(self, name):
        token = ["--token-env", self.options.admin_token_env] if self.options.admin_token_env else []
        self.run("drain", name, *token)

    def run(self, *arguments):
        command = [self.options.switchboard, "fleet", *arguments, "--admin", self.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            fail(f"switchboard fleet {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


class ScaleSet:
    """The scale set, through Azure Resource Manager."""

    def __init__(self, options):
        self.management = options.management.rstrip("/")
        parts = [urllib.parse.quote(part, safe="") for part in
                 (options.subscription, options.resource_group, options.scale_set)]
        path = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/virtualMachineScaleSets/{}"
        self.url = self.management + path.format(*parts)
        self.token = token(options)

    def machines(self):
        """Returns the names of each machine, by its id: its computer name, if it has one, and its own."""
        machines = {}
        url = f"{self.url}/virtualMachines?api-version={API_VERSION}"
        while url:
            page = read_json(self.request(url))
            for machine in page["value"]:
                computer = machine["properties"].get("osProfile", {}).get("computerName")
                machines[machine["instanceId"]] = [name for name in (computer, machine["name"]) if name]
            url = page.get("nextLink")
        return machines

    def delete(self, ids):
        body = json.dumps({"instanceIds": ids}).encode()
        request = self.request(f"{self.url}/delete?api-version={API_VERSION}", body)
        request.add_header("Content-Type", "application/json")
        with open_url(request) as response:
            operation = response.headers.get("Azure-AsyncOperation")
            if response.status == 202 and operation:
                self.wait(operation, pause(response))

    def wait(self, operation, seconds):
        end = time.monotonic() + DELETION_SECONDS
        while time.monotonic() < end:
            time.sleep(seconds)
            with open_url(self.request(operation)) as response:
                state, seconds = json.load(response), pause(response)
            if state["status"] == "Succeeded":
                return
            if state["status"] in ("Failed", "Canceled"):
                fail(f"Azure did not delete the machines: {state.get('error', state['status'])}")

    def request(self, url, body=None):
        # Links in responses are followed with the token, so they must lead to the same server.
        if not url.startswith(self.management + "/"):
            fail(f"a response of Azure leads to another server: {url}")
        return urllib.request.Request(url, data=body, headers={"Authorization": f"Bearer {self.token}"})


def pause(response):
    """Returns the seconds until the next look at an operation."""
    after = response.headers.get("Retry-After") or ""
    return min(int(after), 60) if after.isdigit() else 10


def token(options):
    if options.token_env:
        if not os.environ.get(options.token_env):
            fail(f"the environment has no variable {options.token_env}")
        return os.environ[options.token_env]
    resource = options.management.rstrip("/") + "/"
    query = urllib.parse.urlencode({"api-version": "2018-02-01", "resource": resource})
    url = f"{options.identity.rstrip('/')}/metadata/identity/oauth2/token?{query}"
    request = urllib.request.Request(url, headers={"Metadata": "true"})
    # The metadata service is never behind a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
    with opener.open(request, timeout=SECONDS) as response:
        return json.load(response)["access_token"]


def read_json(request):
    with open_url(request) as response:
        return json.load(response)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: a token must not go elsewhere."""

    def redirect_request(self, *_):
        return None


def open_url(request):
    opener = urllib.request.build_opener(NoRedirect)
    return opener.open(request, timeout=SECONDS)


def fail(problem):
    sys.exit(f"vmss-scale-in: {problem}")


if __name__ == "__main__":
    try:
        main()
    except urllib.error.HTTPError as error:
        fail(f"{error.url} responds {error.code}: {error.reason}")
    except urllib.error.URLError as error:
        fail(f"a server cannot be reached: {error.reason}")
    except (OSError, ValueError, KeyError) as error:
        fail(f"{type(error).__name__}: {error}")
