"""The tests of what a provider tells the operator: part of the contract of providers."""

import pytest

from floway_core.administration import forms, sign_in, upstreams
from floway_core.errors import GatewayError
from floway_core.provider import Problem, Quota
from floway_core.testing.contract_base import ContractBase
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.in_process import OpenedGateway, row_counts
from floway_core.testing.upstream import FakeUpstream

KINDS = {forms.TEXT, forms.FLAG, forms.CHOICE, forms.LINES, forms.HEADERS}


class OperatorContract(ContractBase):
    """What pages and commands show of an upstream, and the forms for it."""

    def test_tells_problems_and_quotas_without_a_request(self, upstream: FakeUpstream, opened: OpenedGateway) -> None:
        """They come from what is stored, name no secret, and can be shown."""
        asked = len(upstream.requests)
        problem = opened.provider.find_problem(opened.upstream)
        assert problem is None or (isinstance(problem, Problem) and problem.reason)
        quotas = list(opened.provider.read_quotas(opened.upstream))
        assert all(isinstance(quota, Quota) and quota.name for quota in quotas)
        assert len({quota.name for quota in quotas}) == len(quotas), "the names of quotas are not unique"
        assert all(quota.used is None or quota.used >= 0 for quota in quotas)
        assert len(upstream.requests) == asked, "the upstream was asked"
        state = upstreams.find_state(opened.gateway, opened.upstream.name)
        shown = f"{problem}{quotas}{state}"
        assert not [secret for secret in self.secrets if secret in shown]

    def test_declares_a_form_that_can_be_filled_in(self, opened: OpenedGateway) -> None:
        """Each field has a name, a label, a known kind, and a default that it accepts."""
        declared = opened.provider.connection_options
        if declared is None:
            pytest.skip("connection_options is None: there is no form")
        form = forms.connection_form(declared)
        assert len({field.name for field in form}) == len(form), "two options have one name"
        for field in form:
            assert field.name and field.label and field.help and field.kind in KINDS
            assert (field.default in field.choices) if field.kind == forms.CHOICE else not field.choices

    def test_a_sign_in_begins_and_refuses_another_text(self, gateway: RunningGateway, opened: OpenedGateway) -> None:
        """The ticket keeps the state secret, and a text that is no answer of the sign-in page adds nothing."""
        if not opened.provider.signs_in:
            pytest.skip("signs_in is False: there is no sign-in")
        before = row_counts(gateway.database)
        begun, other = (sign_in.begin(opened.gateway, opened.provider.kind) for _ in range(2))
        assert begun.url.startswith(("https://", "http://")) and begun.ends_on and begun.url != other.url
        for pasted in ("", "nonsense", begun.ends_on, f"{begun.ends_on}?code=one&state=two"):
            with pytest.raises(GatewayError) as refused:
                sign_in.finish(opened.gateway, begun.ticket, pasted)
            assert (refused.value.status, refused.value.param) == (400, "pasted")
        with pytest.raises(GatewayError) as refused:
            sign_in.finish(opened.gateway, begun.ticket[:-4], begun.ends_on)
        assert (refused.value.status, refused.value.param) == (400, "ticket")
        assert row_counts(gateway.database) == before
