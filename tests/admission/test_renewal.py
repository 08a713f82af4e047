"""Built-in certificates: whatever is found in the Secret, and however time passes, what is served is trusted."""

from __future__ import annotations

import base64
import dataclasses
import datetime
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayservice_operator.admission import pki, renewal
from rayservice_operator.admission.pki import Pair
from rayservice_operator.admission.renewal import Material, renewed, usable
from rayservice_operator.admission.settings import Lifetimes

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOSTS = ("op-admission.system.svc", "127.0.0.1")
TIMES = Lifetimes()
EMPTY = Material()


def step(material: Material, now: datetime.datetime, times: Lifetimes = TIMES) -> Material:
    """One look at the Secret; a second one at the same moment finds nothing to do."""
    after = renewed(material, HOSTS, now, times) or material
    assert renewed(after, HOSTS, now, times) is None
    return after


def fresh() -> Material:
    """What is made out of nothing."""
    return step(EMPTY, NOW)


def serial(pem: bytes) -> int:
    """Which certificate comes first."""
    return pki.certificates(pem)[0].serial_number


def test_out_of_nothing() -> None:
    made = fresh()
    assert usable(made, HOSTS, NOW)
    (authority,) = pki.certificates(made.bundle)
    (served,) = pki.certificates(made.serving.cert)
    assert pki.signed_by(served, authority)
    assert pki.hosts_of(served) == set(HOSTS)
    assert served.not_valid_after_utc == NOW + TIMES.serving
    assert served.not_valid_before_utc < NOW  # clocks of API servers differ


def test_through_the_secret_and_back() -> None:
    made = fresh()
    assert renewal.from_secret(renewal.to_secret(made)) == made
    assert renewal.from_secret(None) == renewal.from_secret({}) == EMPTY
    assert renewal.from_secret({"ca.crt": "§", "tls.crt": "x"}) == EMPTY


def test_a_serving_certificate_is_renewed_under_the_same_authority() -> None:
    made = fresh()
    assert step(made, NOW + timedelta(days=59)) == made
    later = step(made, NOW + timedelta(days=61))
    assert later.bundle == made.bundle
    assert serial(later.serving.cert) != serial(made.serving.cert)


def test_an_authority_is_trusted_before_it_signs() -> None:
    made = fresh()
    when = NOW + timedelta(days=3650 * 2 // 3 + 1)
    made = step(made, when - timedelta(days=40))  # the serving certificate of that time
    trusted = step(made, when)
    assert len(pki.certificates(trusted.bundle)) == 2
    assert trusted.serving == made.serving
    soon = step(trusted, when + timedelta(minutes=59))
    assert soon == trusted
    signed = step(trusted, when + timedelta(days=30))
    assert signed.bundle == trusted.bundle
    (served,) = pki.certificates(signed.serving.cert)
    new, old = pki.certificates(signed.bundle)
    assert pki.signed_by(served, new)
    assert not pki.signed_by(served, old)


def test_an_authority_that_has_ended_is_trusted_no_more() -> None:
    made = step(fresh(), NOW + timedelta(days=2500))
    assert len(pki.certificates(made.bundle)) == 2
    assert len(pki.certificates(step(made, NOW + timedelta(days=3651)).bundle)) == 1


def test_another_name_is_another_certificate_at_once() -> None:
    made = fresh()
    changed = renewed(made, ("another.system.svc",), NOW, TIMES)
    assert changed is not None
    assert changed.bundle == made.bundle
    assert usable(changed, ("another.system.svc",), NOW)


def test_a_serving_certificate_never_outlives_its_authority() -> None:
    times = Lifetimes(authority=timedelta(days=10), serving=timedelta(days=90))
    made = step(EMPTY, NOW, times)
    assert pki.certificates(made.serving.cert)[0].not_valid_after_utc == NOW + timedelta(days=10)


other = step(EMPTY, NOW)
ours = step(EMPTY, NOW)
DAMAGE = {
    "no authority": dataclasses.replace(ours, bundle=b""),
    "rubbish for an authority": dataclasses.replace(ours, bundle=b"rubbish"),
    "the key of another": dataclasses.replace(ours, authority_key=other.authority_key),
    "no key": dataclasses.replace(ours, authority_key=b""),
    "no certificate": dataclasses.replace(ours, serving=Pair(b"", ours.serving.key)),
    "another's certificate": dataclasses.replace(ours, serving=other.serving),
    "certificate and key of two": dataclasses.replace(ours, serving=Pair(ours.serving.cert, other.serving.key)),
    "a cut certificate": dataclasses.replace(ours, serving=Pair(ours.serving.cert[:200], ours.serving.key)),
    "two authorities": dataclasses.replace(ours, bundle=other.bundle + ours.bundle),
    "a serving certificate as authority": dataclasses.replace(ours, bundle=ours.serving.cert),
}


@pytest.mark.parametrize("damaged", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_mended(damaged: Material) -> None:
    mended = step(damaged, NOW + timedelta(hours=2))
    assert usable(mended, HOSTS, NOW + timedelta(hours=2))
    newest = pki.certificates(mended.bundle)[0]
    assert pki.belong(newest, mended.authority_key)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=0.001, max_value=1.0), min_size=1, max_size=60))
def test_however_time_passes_no_call_fails(pauses: list[float]) -> None:
    """A serving certificate is never signed by an authority that API servers may not know of yet.

    Looks come at any distance up to the overlap, with lifetimes that make both kinds of renewal frequent.
    """
    times = Lifetimes(authority=timedelta(hours=24), serving=timedelta(hours=7), overlap=timedelta(hours=1))
    now, material = NOW, step(EMPTY, NOW, times)
    known = {serial(pki.pem(c)): now - times.overlap for c in pki.certificates(material.bundle)}
    for pause in pauses:
        now += pause * timedelta(hours=1)
        # The moment before the look: what was served until now is still trusted.
        assert usable(material, HOSTS, now)
        material = step(material, now, times)
        assert usable(material, HOSTS, now)
        for authority in pki.certificates(material.bundle):
            known.setdefault(authority.serial_number, now)
        (served,) = pki.certificates(material.serving.cert)
        (by,) = [a for a in pki.certificates(material.bundle) if pki.signed_by(served, a)]
        # Certificates count whole seconds.
        assert now - known[by.serial_number] >= times.overlap - timedelta(seconds=1) or by.not_valid_before_utc <= NOW


def test_what_is_no_base64_is_nothing() -> None:
    assert renewal.from_secret({"ca.crt": base64.b64encode(b"x").decode() + "\n"}).bundle == b""
