"""The provider keeps the contract of all providers."""

from floway_core.testing.contract import ProviderContract


class TestContract(ProviderContract):
    plugin = "echo"
    model = "echo"
    has_upstream = False
    has_tables = False

    def add_upstream(self, installation, upstream):
        assert installation.run("echo", "add").returncode == 0
