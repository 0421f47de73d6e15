"""Find out whether a host is this machine, in a private network, or elsewhere."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether ``host``, an address or a name, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


PRIVATE_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"),
    )
)

PRIVATE_DOMAINS = (".internal", ".local", ".lan", ".localdomain", ".localhost", ".home.arpa", ".svc")
"""Suffixes of host names that exist only in private networks."""


def is_private(host: str) -> bool:
    """Return whether ``host``, an address or a name, belongs to a private network."""
    try:
        address = ipaddress.ip_address(host)
        return any(address in network for network in PRIVATE_NETWORKS)
    except ValueError:  # a name without a dot is one of the local network, or a container
        return "." not in host or host.lower().endswith(PRIVATE_DOMAINS)
