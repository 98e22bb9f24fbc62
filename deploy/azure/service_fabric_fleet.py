#!/usr/bin/env python3
"""Lists the instances of a stateless Service Fabric service for `[fleet.file]`.

It asks the HTTP gateway of the cluster for the partitions, the instances and the nodes. An instance on a node
that is being disabled drains. docs/service-fabric.md has the details.
"""

import json
import re
import ssl
import sys
import urllib.parse

from fleet_file import SourceError, get_json, parser, run

# An instance on such a node is moved or ended soon.
DRAINING_NODES = {"Disabling", "Disabled"}


def main():
    options = parser(__doc__.split("\n\n")[0])
    options.add_argument("--service", required=True, help="like fabric:/Bots/Calls")
    options.add_argument("--cluster", default="http://localhost:19080", help="the HTTP gateway")
    options.add_argument("--endpoint", help="the name of the listener, if the service has several")
    options.add_argument("--path", default="", help="added to the address of an instance, like /api/calls")
    options.add_argument("--certificate", help="a client certificate in PEM, with its key without --key")
    options.add_argument("--key", help="the key of the certificate, in PEM")
    options.add_argument("--ca", help="the authority of the cluster's certificate (default: the system's)")
    args = options.parse_args()
    cluster = Cluster(args)
    return run(args, lambda: instances(args, cluster))


def instances(args, cluster):
    """The instances of a fleet file."""
    draining = {node["Name"] for node in cluster.nodes() if node.get("NodeStatus") in DRAINING_NODES}
    partitions = cluster.partitions(args.service)
    found = []
    for partition in partitions:
        if partition.get("ServiceKind") != "Stateless":
            raise SourceError("the service is stateful: its primaries move, and calls do not move along")
        identity = partition["PartitionInformation"]["Id"]
        for replica in cluster.replicas(identity):
            status, node = replica.get("ReplicaStatus"), replica.get("NodeName", "")
            address = address_of(replica.get("Address") or "", args.endpoint)
            # An instance that is being built has no address yet.
            if status not in ("Ready", "ToBeRemoved") or not address:
                continue
            instance = {
                "name": name(node, identity if len(partitions) > 1 else ""),
                # Another process has another id.
                "incarnation": base36(int(replica["InstanceId"])),
                "url": address.rstrip("/") + args.path,
            }
            if status == "ToBeRemoved" or node in draining:
                instance["draining"] = True
            found.append(instance)
    return found


def address_of(text, endpoint):
    """The address of a listener. With several listeners it is a JSON object in a text."""
    if not text.startswith("{"):
        return text
    try:
        endpoints = json.loads(text)["Endpoints"]
    except (ValueError, KeyError):
        raise SourceError("an instance has an address that cannot be read") from None
    if endpoint is None and len(endpoints) == 1:
        return next(iter(endpoints.values()))
    if endpoint not in endpoints:
        names = ", ".join(sorted(endpoints)) or "none"
        raise SourceError(f"choose one of the listeners with --endpoint: {names}")
    return endpoints[endpoint]


def name(node, partition):
    """The name of an instance: there is one of each partition on a node."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", node)
    return f"{plain[:50]}-{partition[:8]}" if partition else plain[:63]


def base36(number):
    """An id of 64 bits in 13 characters, the longest incarnation."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    number, text = number % (1 << 64), ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text or "0"


class Cluster:
    """The HTTP gateway of a cluster."""

    def __init__(self, args):
        self.base = args.cluster.rstrip("/")
        self.context = ssl.create_default_context(cafile=args.ca)
        if args.certificate:
            self.context.load_cert_chain(args.certificate, args.key)

    def nodes(self):
        return self.pages("/Nodes?api-version=6.0")

    def partitions(self, service):
        # From version 6.0 on, `~` stands for the slashes in a name.
        identity = service.removeprefix("fabric:").strip("/").replace("/", "~")
        identity = urllib.parse.quote(identity, safe="~")
        return self.pages(f"/Services/{identity}/$/GetPartitions?api-version=6.4")

    def replicas(self, partition):
        partition = urllib.parse.quote(partition, safe="")
        return self.pages(f"/Partitions/{partition}/$/GetReplicas?api-version=6.0")

    def pages(self, path):
        items, token = [], None
        while True:
            # The documentation asks for the token as it is, not URL-encoded.
            more = f"&ContinuationToken={token}" if token else ""
            page = get_json(f"{self.base}{path}{more}", context=self.context)
            items.extend(page.get("Items") or [])
            token = page.get("ContinuationToken")
            if not token:
                return items


if __name__ == "__main__":
    sys.exit(main())
