"""Whether a name is known is not told by how long an answer takes: the same work is done (threat 15).

Asserted by what is computed, for times on a busy machine show nothing.
"""

import pytest

import access.accounts as accounts
from access.accounts import WrongCredentials, change_account, sign_in
from access.caller import Caller
from access.tokens import Access
from tests.access.conftest import PASSWORD, MakeAccount


def test_an_unknown_name_a_disabled_account_and_a_wrong_password_cost_the_same(
    access: Access, operator: Caller, make_account: MakeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_account("known", "radiologist")
    make_account("disabled", "radiologist")
    change_account(access, operator, "disabled", disabled=True)
    costs: list[str] = []
    compute = accounts._matches

    def note_cost(kept: str, password: str) -> bool:
        costs.append(kept.rsplit("$", 2)[0])  # scheme and its parameters, without salt and hash
        return compute(kept, password)

    monkeypatch.setattr(accounts, "_matches", note_cost)
    said = []
    for login, password in (("known", "wrong"), ("nobody", PASSWORD), ("disabled", PASSWORD), ("", "")):
        with pytest.raises(WrongCredentials) as refusal:
            sign_in(access, login, password, "192.0.2.1")
        said.append(str(refusal.value))

    assert len(costs) == 4
    assert len(set(costs)) == 1
    assert costs[0].startswith("$argon2id$")
    assert len(set(said)) == 1
