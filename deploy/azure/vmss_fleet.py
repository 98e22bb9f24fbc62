#!/usr/bin/env python3
"""Lists the machines of an Azure virtual machine scale set (uniform orchestration) for `[fleet.file]`.

It asks Azure Resource Manager with the managed identity of this machine, or reads what `az` has written. A
machine that is about to be deleted, restarted or moved drains. docs/azure-scale-sets.md has the details.
"""

import json
import sys
import time
import urllib.parse

from fleet_file import SourceError, get_json, parser, run

# The events after which the processes of a machine are gone. A `Freeze` ends no process.
DRAINING_EVENTS = {"Terminate", "Preempt", "Reboot", "Redeploy"}
# A machine in one of these states runs no bot.
STOPPED = {"deallocated", "deallocating", "stopped", "stopping"}

COMPUTE_VERSION = "2024-07-01"
NETWORK_VERSION = "2018-10-01"
EVENTS_VERSION = "2020-07-01"
TOKEN_VERSION = "2018-02-01"


def main():
    options = parser(__doc__.split("\n\n")[0])
    options.add_argument("--url", required=True, help="like http://{address}:3978/api/calls")
    options.add_argument("--subscription", help="the id of the subscription")
    options.add_argument("--resource-group", help="the resource group of the scale set")
    options.add_argument("--scale-set", help="the name of the scale set")
    options.add_argument("--client-id", help="of a user-assigned identity (default: the system-assigned one)")
    options.add_argument("--vms", help="in place of Azure: az vmss list-instances --expand instanceView")
    options.add_argument("--nics", help="with --vms: az vmss nic list")
    options.add_argument("--no-events", action="store_true", help="do not ask for scheduled events")
    options.add_argument("--arm", default="https://management.azure.com", help="Azure Resource Manager")
    options.add_argument("--imds", default="http://169.254.169.254", help="the instance metadata service")
    args = options.parse_args()
    if args.vms or args.nics:
        if not (args.vms and args.nics):
            options.error("--vms and --nics belong together")
        machines = Files(args)
    else:
        if not (args.subscription and args.resource_group and args.scale_set):
            options.error("give --subscription, --resource-group and --scale-set, or --vms and --nics")
        machines = ResourceManager(args)
    events = Events(args)
    return run(args, lambda: instances(args.url, machines.vms(), machines.nics(), events.draining()))


def instances(url, vms, nics, draining):
    """The instances of a fleet file."""
    addresses = {}
    for nic in nics:
        machine = (of(nic, "virtualMachine") or {}).get("id")
        address = primary_address(nic)
        if machine and address and (of(nic, "primary") is not False):
            addresses[machine.lower()] = address
    found = []
    for vm in vms:
        state = power_state(vm)
        is_deleting = of(vm, "provisioningState") == "Deleting"
        address = addresses.get(vm.get("id", "").lower())
        # A machine without an address was not created completely.
        if address is None or (state in STOPPED and not is_deleting):
            continue
        instance = {"name": vm["name"], "url": url.replace("{address}", host(address))}
        if is_deleting or vm["name"] in draining:
            instance["draining"] = True
        found.append(instance)
    return found


def of(resource, name):
    """A property of a resource. `az` writes the properties beside the name, the API below `properties`."""
    properties = resource.get("properties") or {}
    return properties.get(name, resource.get(name))


def primary_address(nic):
    configurations = of(nic, "ipConfigurations") or []
    configurations = sorted(configurations, key=lambda one: of(one, "primary") is False)
    for configuration in configurations:
        # The spelling depends on the version of `az`.
        address = of(configuration, "privateIPAddress") or of(configuration, "privateIpAddress")
        if address:
            return address
    return None


def power_state(vm):
    view = of(vm, "instanceView") or {}
    codes = [status.get("code", "") for status in view.get("statuses") or []]
    states = [code.split("/", 1)[1] for code in codes if code.startswith("PowerState/")]
    return states[0] if states else None


def host(address):
    return f"[{address}]" if ":" in address else address


class Files:
    """What `az` has written."""

    def __init__(self, args):
        self.args = args

    def vms(self):
        return read_list(self.args.vms)

    def nics(self):
        return read_list(self.args.nics)


def read_list(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from None
    if not isinstance(content, list):
        raise SourceError(f"{path}: not a list")
    return content


class ResourceManager:
    """Azure Resource Manager, with the managed identity of this machine."""

    def __init__(self, args):
        self.args = args
        self.token = None
        self.token_until = 0.0

    def vms(self):
        query = f"api-version={COMPUTE_VERSION}&$expand=instanceView"
        return self.pages(f"{self.scale_set()}/virtualMachines?{query}")

    def nics(self):
        return self.pages(f"{self.scale_set()}/networkInterfaces?api-version={NETWORK_VERSION}")

    def scale_set(self):
        args = self.args
        names = (args.subscription, args.resource_group, args.scale_set)
        subscription, group, scale_set = (urllib.parse.quote(name, safe="") for name in names)
        return (
            f"{args.arm}/subscriptions/{subscription}/resourceGroups/{group}"
            f"/providers/Microsoft.Compute/virtualMachineScaleSets/{scale_set}"
        )

    def pages(self, url):
        resources = []
        while url:
            # The next page is named by the response: the token must not go elsewhere.
            if not url.startswith(f"{self.args.arm}/"):
                raise SourceError("a response names a next page on another host")
            page = get_json(url, {"Authorization": f"Bearer {self.bearer()}"})
            resources.extend(page.get("value") or [])
            url = page.get("nextLink")
        return resources

    def bearer(self):
        if self.token is None or time.time() > self.token_until:
            query = {"api-version": TOKEN_VERSION, "resource": f"{self.args.arm}/"}
            if self.args.client_id:
                query["client_id"] = self.args.client_id
            url = f"{self.args.imds}/metadata/identity/oauth2/token?{urllib.parse.urlencode(query)}"
            response = get_json(url, {"Metadata": "true"})
            self.token = response["access_token"]
            # Five minutes early.
            self.token_until = float(response.get("expires_on", 0)) - 300
        return self.token


class Events:
    """The scheduled events of the scale set that this machine is in."""

    def __init__(self, args):
        self.args = args
        self.last = set()
        self.has_failed = False

    def draining(self):
        """The names of the machines that have an event. While none can be read, the last ones count."""
        if self.args.no_events:
            return self.last
        url = f"{self.args.imds}/metadata/scheduledevents?api-version={EVENTS_VERSION}"
        try:
            document = get_json(url, {"Metadata": "true"})
        except SourceError as error:
            # The first request of a machine may take two minutes.
            if not self.has_failed:
                print(f"scheduled events cannot be read: {error}", file=sys.stderr)
            self.has_failed = True
            return self.last
        self.has_failed = False
        events = [event for event in document["Events"] if event["EventType"] in DRAINING_EVENTS]
        self.last = {resource for event in events for resource in event["Resources"]}
        return self.last


if __name__ == "__main__":
    sys.exit(main())
