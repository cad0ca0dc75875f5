"""Reverse proxies in front of the page, whose forwarded headers are believed."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from foir.errors import BadPrompt


class Proxies:
    """The proxies of FOIR_PROXIES; on a Space every peer is its proxy.

    Attributes:
        networks: Addresses and networks of FOIR_PROXIES.
        is_space: Whether the page is a Space. Its proxy's address is not known, so forwarded addresses do not count.
    """

    def __init__(self) -> None:
        """Read the environment.

        Raises:
            BadPrompt: FOIR_PROXIES contains something else than addresses and networks.
        """
        names = [name.strip() for name in os.environ.get("FOIR_PROXIES", "").split(",") if name.strip()]
        self.is_space = bool(os.environ.get("SPACE_ID"))
        try:
            self._networks = [ipaddress.ip_network(name, strict=False) for name in names]
        except ValueError as error:
            raise BadPrompt(f"FOIR_PROXIES: {error}; give addresses or networks, separated by commas.") from error
        self.networks = list(map(str, self._networks))

    def __contains__(self, address: str) -> bool:
        try:
            peer = ipaddress.ip_address(address)
            peer = getattr(peer, "ipv4_mapped", None) or peer
        except ValueError:
            return self.is_space
        return self.is_space or any(peer in network for network in self._networks)


def came_through_proxy(headers: Mapping[str, str]) -> bool:
    """Whether a request says that a proxy passed it on, and so perhaps comes from elsewhere."""
    return any(name.lower() == "forwarded" or name.lower().startswith("x-forwarded-") for name in headers)
