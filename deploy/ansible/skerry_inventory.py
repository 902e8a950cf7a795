#!/usr/bin/env python3
"""Ansible inventory of the virtual machines that run in containers of Skerry's images.

    ansible -i skerry_inventory.py skerry -m ping
    ./skerry_inventory.py --list

Containers are found by the label io.skerry.vm=true of their image, over Docker's socket (DOCKER_HOST: unix://PATH or
tcp://HOST:PORT). A host is called as its container. It is reached where the port that leads to the guest's 22/tcp is published
(22 itself, or as the container's variable PORTS maps it), else by that port at the container's own address, as the user that
the container's variable USER names.
"""

import argparse
import http.client
import json
import os
import re
import socket
import sys
import urllib.parse

LABEL = "io.skerry.vm=true"
PROJECT = "com.docker.compose.project"
PORT = 22
USER = "user"
TIMEOUT_S = 20


class Failure(Exception):
    pass


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Docker:
    def __init__(self, address):
        url = urllib.parse.urlsplit(address)
        self.address = address
        self.host = None  # another one than this
        if url.scheme == "unix":
            self.connect = lambda: UnixConnection(url.path)
        elif url.scheme == "tcp" and url.hostname:
            if url.hostname not in ("127.0.0.1", "::1", "localhost"):
                self.host = url.hostname
            self.connect = lambda: http.client.HTTPConnection(url.hostname, url.port or 2375, timeout=TIMEOUT_S)
        else:
            raise Failure(f"DOCKER_HOST: '{address}' is neither unix://PATH nor tcp://HOST:PORT")

    def get(self, path, gone_is_none=False):
        connection = self.connect()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.address}: {error}") from error
        finally:
            connection.close()
        if answer.status == 404 and gone_is_none:
            return None
        if answer.status != 200:
            raise Failure(f"{self.address}: {path.split('?')[0]}: {answer.status} {answer.reason}")
        return json.loads(body)

    def containers(self):
        filters = urllib.parse.quote(json.dumps({"label": [LABEL], "status": ["running"]}))
        for found in self.get(f"/containers/json?filters={filters}"):
            # It may have ended since.
            container = self.get(f"/containers/{found['Id']}/json", gone_is_none=True)
            if container is not None:
                yield container


def setting(container, name):
    for assignment in container["Config"].get("Env") or []:
        key, _, value = assignment.partition("=")
        if key == name and value:
            return value
    return None


SPEC = re.compile(r"(?:\[[0-9a-fA-F:.]+\]:|[0-9.]+:(?=[^:]*:))?(?:(\d+)?(?:-(\d+))?:)?(\d+)(?:-(\d+))?(?:/(\w+))?")


def ssh_ports(container):
    """The container's ports that lead to port 22 of the guest. PORTS as skerry-vm reads it; without it every port leads to itself."""
    text = setting(container, "PORTS")
    if text is None:
        return [PORT]
    ports = []
    for spec in re.split(r"[,\s]+", text):
        found = SPEC.fullmatch(spec)
        if not found or (found[5] or "tcp").lower() != "tcp":
            continue
        first, last = int(found[3]), int(found[4] or found[3])
        if first <= PORT <= last:
            ports.append((int(found[1]) if found[1] else first) + PORT - first)
    return ports


def published(container, ports, docker_host):
    """Host and port at which one of @ports is published, or None. Any address of this host is its loopback, and IPv4 goes first."""
    for port in ports:
        bindings = (container["NetworkSettings"].get("Ports") or {}).get(f"{port}/tcp") or []
        for binding in sorted(bindings, key=lambda b: ":" in b.get("HostIp", "")):
            host, host_port = binding.get("HostIp", ""), int(binding.get("HostPort") or 0)
            if host_port == 0:
                continue
            if host in ("", "0.0.0.0"):
                host = docker_host or "127.0.0.1"
            elif host == "::":
                host = docker_host or "::1"
            return host, host_port
    return None


def own(container):
    """The container's own address, or None: it has no network, or the host's."""
    networks = container["NetworkSettings"].get("Networks") or {}
    for family in ("IPAddress", "GlobalIPv6Address"):
        for name in sorted(networks):
            if networks[name].get(family):
                return networks[name][family]
    return None


def variables(container, docker_host):
    ports = ssh_ports(container)
    host, port = published(container, ports, docker_host) or (own(container), ports[0] if ports else None)
    result = {
        "ansible_user": setting(container, "USER") or USER,
        "skerry_container": container["Id"],
        "skerry_image": container["Config"].get("Image", ""),
        "skerry_health": (container["State"].get("Health") or {}).get("Status", "none"),
    }
    if host:
        result["ansible_host"] = host
    if host and port:
        result["ansible_port"] = port
    return result


def group_name(project):
    return "project_" + re.sub(r"\W", "_", project, flags=re.ASCII)


def inventory(docker):
    hosts, groups = {}, {"skerry": {"hosts": []}}
    for container in docker.containers():
        name = container["Name"].lstrip("/")
        hosts[name] = variables(container, docker.host)
        groups["skerry"]["hosts"].append(name)
        project = (container["Config"].get("Labels") or {}).get(PROJECT)
        if project:
            groups.setdefault(group_name(project), {"hosts": []})["hosts"].append(name)
    for group in groups.values():
        group["hosts"].sort()
    groups["_meta"] = {"hostvars": hosts}
    return groups


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="all hosts and groups (this is what happens without options)")
    which.add_argument("--host", metavar="NAME", help="the variables of one host")
    arguments = parser.parse_args()
    try:
        everything = inventory(Docker(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"))
    except (Failure, json.JSONDecodeError) as error:
        print(f"skerry_inventory: {error}", file=sys.stderr)
        return 1
    if arguments.host is not None:
        everything = everything["_meta"]["hostvars"].get(arguments.host, {})
    json.dump(everything, sys.stdout, indent=2, sort_keys=True)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
